"""A figure of how the clips of a video meet: the change at every step, the frames at the seams, and the figures."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vidrd_core.metrics.seams import Video
from vidrd_core.reports.seam_report import SeamReport

MAX_SEAMS, CONTEXT = 6, 4  # the most visible seams are shown, with so many frames on either side
HEIGHT, MARGIN, LINE, CHART, GAP = 72, 10, 16, 110, 2  # pixels
MIN_WIDTH, MAX_WIDTH = 640, 2048
BACKGROUND, INK, FAINT = (24, 24, 28), (225, 225, 225), (90, 90, 98)
SEAM, STEP = (240, 140, 40), (86, 140, 220)


def draw_seam_figure(video: Video, report: SeamReport) -> Image.Image:
    """Draw the seam report of a video.

    Args:
        video: uint8 [F, H, W, 3].
        report: Its report.

    Returns:
        The text of the report, a bar chart of all steps, and the frames around the most visible seams.
    """
    font = ImageFont.load_default()
    shown = sorted(sorted(range(len(report.ratios)), key=lambda number: -_visibility(report, number))[:MAX_SEAMS])
    rows = [(report.seam_line(number), _strip(video, report.boundaries.seams[number])) for number in shown]
    others = [line for line in report.lines() if not line.startswith("seam at")]
    texts = [*others, *(text for text, _ in rows)]
    wide = max(
        [2 * CONTEXT * (HEIGHT + GAP), *(int(font.getlength(text)) for text in texts), *(s.width for _, s in rows)]
    )
    width = min(MAX_WIDTH, max(MIN_WIDTH, wide + 2 * MARGIN))
    chart = CHART if len(report.steps) else 0
    height = 3 * MARGIN + LINE * len(others) + chart + sum(LINE + strip.height + MARGIN for _, strip in rows)
    picture = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    top = MARGIN
    for line in others:
        draw.text((MARGIN, top), line, INK, font)
        top += LINE
    if chart:
        _chart(draw, report, top + MARGIN // 2, width)
        top += chart + MARGIN
    for text, strip in rows:
        draw.text((MARGIN, top), text, SEAM, font)
        picture.paste(strip, (MARGIN, top + LINE))
        top += LINE + strip.height + MARGIN
    return picture


def _visibility(report: SeamReport, number: int) -> float:
    """How visible a seam is: by how many octaves its step is too large or too small."""
    return float(max(abs(np.log2(max(report.ratios[number], 1e-6))), np.log2(max(report.worst[number], 1.0))))


def _chart(draw: ImageDraw.ImageDraw, report: SeamReport, top: int, width: int) -> None:
    """Draw a bar for each step, those across seams in another color, and a line at the median step."""
    steps, seams = report.steps, {seam - 1 for seam in report.boundaries.seams}
    scale = (CHART - LINE - MARGIN) / max(float(steps.max()), 1e-9)
    pitch = (width - 2 * MARGIN) / len(steps)
    foot = top + CHART - LINE
    for number, step in enumerate(steps):
        left = MARGIN + round(number * pitch)
        right = max(left, MARGIN + round((number + 1) * pitch) - 2)
        draw.rectangle((left, foot - round(float(step) * scale), right, foot), SEAM if number in seams else STEP)
    inside = np.delete(steps, sorted(seams))
    if len(inside):
        usual = foot - round(float(np.median(inside)) * scale)
        draw.line((MARGIN, usual, width - MARGIN, usual), INK)
    draw.text(
        (MARGIN, foot + 2),
        "change at each step; orange: across a seam; line: the median step",
        FAINT,
        ImageFont.load_default(),
    )


def _strip(video: Video, seam: int) -> Image.Image:
    """The frames around a seam, with a bar at the seam."""
    size = max(1, round(HEIGHT * video.shape[2] / video.shape[1])), HEIGHT
    first, last = max(0, seam - CONTEXT), min(len(video), seam + CONTEXT)
    strip = Image.new("RGB", ((last - first) * (size[0] + GAP) + 3 * GAP, HEIGHT), BACKGROUND)
    left = 0
    for number in range(first, last):
        if number == seam:
            strip.paste(SEAM, (left, 0, left + 2 * GAP, HEIGHT))
            left += 3 * GAP
        enlarged = size[1] >= video.shape[1]
        frame = Image.fromarray(video[number])
        strip.paste(
            frame.resize(size, Image.Resampling.NEAREST if enlarged else Image.Resampling.BILINEAR), (left, 0)
        )
        left += size[0] + GAP
    return strip
