"""Contact sheets: videos as rows of frames."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from vidrd_core.video.frames import checked, enlarged, reasons_given

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
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
    """Draw videos, each uint8 [F, H, W, 3], as rows of frames from left to right; `path` saves the picture.

    labels: one a video, written above its row. every: show only frames 0, every, 2 * every and so on. scale:
    enlarge by a whole number. gap: pixels between frames. seam_every: a bar between clips of so many frames.
    seams: bars before these frames, where clips differ in length.
    Raises ValueError for frames that do not fit this, or another number of labels than of videos.
    """
    if not len(videos) or (labels is not None and len(labels) != len(videos)):
        raise ValueError(f"need a label a video: got {len(videos)} videos and {len(labels or ())} labels")
    if path is not None and Path(path).suffix.lower() not in PICTURES:
        raise ValueError(f"{path} is no name of a picture: expected one that ends in {', '.join(PICTURES)}")
    if every < 1 or scale < 1 or gap < 0 or (seam_every is not None and seam_every < 1):
        raise ValueError(f"need {every=}, {scale=} and {seam_every=} from 1 on, {gap=} from 0 on")
    rows = [_strip(checked(video), every, scale, gap, seam_every, seams) for video in videos]
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
        with reasons_given(path):
            sheet.save(path)
    return sheet


def _strip(
    video: np.ndarray, every: int, scale: int, gap: int, seam_every: int | None, seams: Sequence[int]
) -> Image.Image:
    """One row of a contact sheet; between clips there is a bar, with a gap on either side."""
    height = video.shape[1] * scale
    space = np.full((height, gap, 3), _BACKGROUND, np.uint8)
    bar = np.full((height, max(gap, 2), 3), _SEAM, np.uint8)
    pieces: list[np.ndarray] = []
    clip = 0
    for index in range(0, len(video), every):
        now = index // (seam_every or len(video)) + sum(seam <= index for seam in seams)
        pieces += [bar, space] if now != clip else []
        pieces += [enlarged(video[index], scale), space]
        clip = now
    return Image.fromarray(np.concatenate(pieces[:-1], 1))


def _label(text: str, width: int) -> Image.Image:
    """Text on as many lines as the width, in pixels, asks for."""
    font = ImageFont.load_default()
    lines = "\n".join(textwrap.wrap(text, max(1, int(width / font.getlength("n")))))
    box = ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox((0, 0), lines, font=font)
    picture = Image.new("RGB", (width, int(box[3]) + 2), _BACKGROUND)
    ImageDraw.Draw(picture).multiline_text((0, 0), lines, fill=_INK, font=font)
    return picture
