"""Draw the icon and the banner of the node pack: `python docs/brand.py`.

The banner shows frames of a video by the built-in model.
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vidrd_core import ReuseSettings, load
from vidrd_core.video.reuse_map import BACKGROUND, INK, NEW, OLD, REPLAYED

HERE = Path(__file__).parent
PROMPTS = ["a large yellow star orbiting on a navy background", "a large cyan star orbiting on a navy background"]


def icon(side: int = 400) -> Image.Image:
    """Draw two clips of four frames: the second replays the first, all steps in its first frame, ever fewer later.

    Args:
        side: Width and height in pixels.
    """
    picture = Image.new("RGB", (side, side), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    gap, width = side // 25, (side - 5 * (side // 25)) // 4
    middle = side // 2
    for j in range(4):
        left = gap + j * (width + gap)
        draw.rounded_rectangle((left, gap, left + width, middle - gap), gap, OLD)
        bottom = side - gap
        draw.rounded_rectangle((left, middle, left + width, bottom), gap, NEW)
        replayed = middle + (bottom - middle) * (4 - j) // 4
        draw.rounded_rectangle((left, middle, left + width, replayed - (gap if j else 0)), gap, REPLAYED)
    return picture


def banner(width: int = 1260, height: int = 540) -> Image.Image:
    """Draw the name above frames of a long video; `width` and `height` are in pixels."""
    picture = Image.new("RGB", (width, height), BACKGROUND)
    picture.paste(icon(200), (40, 40))
    draw = ImageDraw.Draw(picture)
    draw.text((280, 60), "Reuse & Diffuse", INK, ImageFont.load_default(84))
    draw.text((284, 170), "VidRD: long videos from short-clip models", INK, ImageFont.load_default(36))
    model = load("tiny")
    clips = model.stream(PROMPTS, 3, ReuseSettings(order="forward"), steps=50, seed=0)
    side = 208
    for k, frame in enumerate(model.frames(clips)[:12:2]):
        shown = Image.fromarray(frame).resize((side - 8, side - 8), Image.Resampling.LANCZOS)
        picture.paste(shown, (10 + k * side, height - side - 30))
    return picture


if __name__ == "__main__":
    icon().save(HERE / "icon.png")
    banner().save(HERE / "banner.png")
