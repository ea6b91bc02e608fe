"""Contact sheets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vidrd_core.video import contact_sheet
from vidrd_core.video.sheet import _SEAM

from .helpers import clip


def test_contact_sheet_lays_frames_in_rows(tmp_path: Path) -> None:
    first, second = clip(6), clip(4, 32, 48)
    sheet = contact_sheet([first, torch.from_numpy(second)], tmp_path / "sheet.png", every=2, scale=2, gap=3)
    pixels = np.asarray(sheet)
    assert sheet.size == (3 * 128 + 2 * 3 + 2 * 3, 128 + 64 + 3 * 3)
    assert np.array_equal(pixels[3:131:2, 134:262:2], first[2])
    assert np.array_equal(pixels[134:198:2, 102:198:2], second[2])
    with Image.open(tmp_path / "sheet.png") as saved:
        assert np.array_equal(np.asarray(saved), pixels)


def test_contact_sheet_marks_seams_and_writes_labels() -> None:
    plain = contact_sheet([clip(6, 16, 16)])
    seams = contact_sheet([clip(6, 16, 16)], seam_every=2)
    assert np.array_equal(seams, contact_sheet([clip(6, 16, 16)], seams=[2, 4]))
    labelled = contact_sheet([clip(6, 16, 16)], labels=["a long label " * 6])
    assert seams.width == plain.width + 2 * (2 + 2)
    assert (np.asarray(seams) == _SEAM).all(-1).any(0).sum() == 2 * 2
    assert labelled.width == plain.width
    assert labelled.height > plain.height + 20
    assert (np.asarray(labelled)[: -plain.height] > 200).any()


def test_contact_sheet_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 1 videos and 2 labels"):
        contact_sheet([clip(2)], labels=["a", "b"])
    with pytest.raises(ValueError, match="got 0 videos"):
        contact_sheet([])
    with pytest.raises(ValueError, match="every=0"):
        contact_sheet([clip(2)], every=0)
    with pytest.raises(FileNotFoundError, match="the folder does not exist"):
        contact_sheet([clip(2)], tmp_path / "missing" / "sheet.png")
