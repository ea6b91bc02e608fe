"""Contact sheets: videos as rows of frames."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from vidrd_core.io.pictures import save_picture
from vidrd_core.video.tensors import check_frames, enlarge

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_BACKGROUND, _INK, _SEAM = (24, 24, 28), (225, 225, 225), (240, 140, 40)


def contact_sheet(
    videos: Sequence[np.ndarray | torch.Tensor],
    path: str | os.PathLike[str] | None = None,
    labels: Sequence[str] | None = None,
    every: int = 1,
    scale: int = 1,
    gap: int = 2,
    seam_every: int | None = None,
    seams: Sequence[int] = (),
) -> Image.Image:
    """Draw videos as rows of frames, from left to right.

    Args:
        videos: The videos, each uint8 [F, H, W, 3]; they can differ in size and length.
        path: Where to save the image; its suffix is that of an image format.
        labels: A text for each video, written above its row.
        every: Show only frames 0, `every`, 2 * `every` and so on.
        scale: Enlarge by this whole number, nearest neighbour.
        gap: Pixels between frames.
        seam_every: The number of frames of a clip; a bar marks each seam between clips.
        seams: The frames before which bars are drawn, for clips that differ in length.

    Returns:
        The image, RGB.

    Raises:
        ValueError: The frames have another shape or dtype, there are not as many labels as videos, the suffix is
            not that of an image, or a number is out of range.
        OSError: The image cannot be saved.

    Example:
        >>> video = np.zeros((4, 16, 16, 3), np.uint8)
        >>> contact_sheet([video, video], "sheet.png", labels=["first", "second"], scale=2).width
        138
    """
    if not len(videos) or (labels is not None and len(labels) != len(videos)):
        raise ValueError(f"expected a label for each video: got {len(videos)} videos and {len(labels or ())} labels")
    if path is not None and Path(path).suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(f"{path} is no name of an image: expected one that ends in {', '.join(IMAGE_SUFFIXES)}")
    if every < 1 or scale < 1 or gap < 0 or (seam_every is not None and seam_every < 1):
        raise ValueError(f"{every=}, {scale=}, {seam_every=}, {gap=}: expected 1 or more, and 0 or more for gap")
    rows = [_row(check_frames(video), every, scale, gap, seam_every, seams) for video in videos]
    width = max(row.width for row in rows)
    parts: list[Image.Image] = []
    for row, label in zip(rows, labels or [""] * len(rows), strict=True):
        parts += [_label(label, width), row] if label else [row]
    sheet = Image.new("RGB", (width + 2 * gap, sum(part.height + gap for part in parts) + gap), _BACKGROUND)
    top = gap
    for part in parts:
        sheet.paste(part, (gap, top))
        top += part.height + gap
    if path is not None:
        save_picture(sheet, path)
    return sheet


def _row(
    video: np.ndarray, every: int, scale: int, gap: int, seam_every: int | None, seams: Sequence[int]
) -> Image.Image:
    """One video as a row of frames; between clips there is a bar, with a gap on either side."""
    height = video.shape[1] * scale
    space = np.full((height, gap, 3), _BACKGROUND, np.uint8)
    bar = np.full((height, max(gap, 2), 3), _SEAM, np.uint8)
    pieces: list[np.ndarray] = []
    clip = 0
    for index in range(0, len(video), every):
        now = index // (seam_every or len(video)) + sum(seam <= index for seam in seams)
        pieces += [bar, space] if now != clip else []
        pieces += [enlarge(video[index], scale), space]
        clip = now
    return Image.fromarray(np.concatenate(pieces[:-1], 1))


def _label(text: str, width: int) -> Image.Image:
    """An image of a text, wrapped to a width in pixels."""
    font = ImageFont.load_default()
    lines = "\n".join(textwrap.wrap(text, max(1, int(width / font.getlength("n")))))
    box = ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox((0, 0), lines, font=font)
    picture = Image.new("RGB", (width, int(box[3]) + 2), _BACKGROUND)
    ImageDraw.Draw(picture).multiline_text((0, 0), lines, fill=_INK, font=font)
    return picture
