"""A figure of what a clip reuses of the previous one: its initial noise and its denoising steps."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from vidrd_core.reuse import ReuseSettings

CELL, GAP, NOISE_HEIGHT, STEPS_HEIGHT, MARGIN = 46, 4, 30, 120, 10  # pixels
BACKGROUND, INK, FAINT = (24, 24, 28), (225, 225, 225), (70, 70, 78)
OLD, NEW, REPLAYED = (86, 140, 220), (240, 140, 40), (150, 110, 210)


def reuse_map(settings: ReuseSettings, frames: int = 8, steps: int = 50) -> Image.Image:
    """Draw what each frame of a clip reuses of the previous clip.

    Above, for each frame: which old frame's noise it takes, and how much of it; below: for how many steps it replays
    that frame's predictions. Frames that the previous clip has shown already are outlined.

    Args:
        settings: M, alpha, beta, the order and the policies.
        frames: N, the frames of a clip.
        steps: T, the denoising steps.

    Returns:
        The image, RGB.

    Raises:
        ValueError: M is not less than N, or `steps` is less than 1.
    """
    settings.check_frames(frames)
    if steps < 1:
        raise ValueError(f"steps is {steps}, expected 1 or more")
    font = ImageFont.load_default()
    line = 16
    width = max(2 * MARGIN + frames * (CELL + GAP), 380)
    top = MARGIN + 2 * line
    height = top + NOISE_HEIGHT + GAP + STEPS_HEIGHT + 3 * line + MARGIN
    picture = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    beta = f", beta {settings.beta:g}" if settings.order == "mirror" else ""
    title = f"{settings.order}: M {settings.prompt_frames}, alpha {settings.alpha:g}{beta}"
    draw.text((MARGIN, MARGIN), title, INK, font)
    counts = settings.replay_counts(steps) + [0] * (frames - settings.prompt_frames)
    kept = settings.alpha**2 / (1 + settings.alpha**2)  # rho^2: the share of the variance that is old
    if settings.noise != "pns":
        draw.text((MARGIN, MARGIN + line - 2), f"noise: {settings.noise}", INK, font)
    if settings.noise == "fresh":
        kept = 0.0
    first = settings.first_prompt_frame
    counts = [0] * first + counts[: frames - first]
    for j, (source, count) in enumerate(zip(settings.source_frames(frames), counts, strict=True)):
        left, right = MARGIN + j * (CELL + GAP), MARGIN + j * (CELL + GAP) + CELL
        prompt = first <= j < first + settings.prompt_frames
        share = 1.0 if prompt else kept
        named = share and (prompt or settings.noise != "shuffle")
        draw.text((left, top - line), f"{source}" if named else "-", INK, font)
        split = top + round(NOISE_HEIGHT * (1 - share))
        draw.rectangle((left, top, right, top + NOISE_HEIGHT), OLD)
        if split > top:
            draw.rectangle((left, top, right, split), NEW)
        below = top + NOISE_HEIGHT + GAP
        draw.rectangle((left, below, right, below + STEPS_HEIGHT), FAINT)
        if count:
            until = min(steps, 2 * count) if settings.release == "soft" else count
            draw.rectangle((left, below, right, below + round(STEPS_HEIGHT * count / steps)), REPLAYED)
            for step in range(count, until):  # with decreasing weight
                line_at = below + round(STEPS_HEIGHT * (step + 0.5) / steps)
                draw.line(
                    (left, line_at, left + round(CELL * (until - step) / (until - count + 1)), line_at), REPLAYED
                )
            draw.text((left + 3, below + 1), f"{count}", INK, font)
        if j < settings.repeated_frames:
            draw.rectangle((left, top, right, below + STEPS_HEIGHT), outline=INK)
        draw.text((left, below + STEPS_HEIGHT + 1), f"{j}", INK, font)
    texts = [
        (OLD, "reused noise"),
        (NEW, "new noise"),
        (REPLAYED, f"replayed, of {steps} steps"),
        (FAINT, "sampled"),
    ]
    x, y = MARGIN, height - MARGIN - line
    for colour, text in texts:
        draw.rectangle((x, y + 2, x + 9, y + 11), colour)
        draw.text((x + 13, y), text, INK, font)
        x += 21 + round(font.getlength(text))
    return picture
