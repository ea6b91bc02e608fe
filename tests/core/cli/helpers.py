"""Shared helpers of the command's tests."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from vidrd_core.state import ClipState
from vidrd_core.video import read_video

PROMPTS = ["a red circle", "a blue circle moving right"]
TENSORS = ("noise", "record", "latents", "past", "sigmas")
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals, limits and devices")


def same_state(a: Path, b: Path) -> bool:
    """Whether two states are equal bit for bit."""
    one, two = ClipState.load(a), ClipState.load(b)
    return one.made_with == two.made_with and all(torch.equal(getattr(one, n), getattr(two, n)) for n in TENSORS)


def same_video(a: Path, b: Path) -> bool:
    """Whether two videos have equal frames."""
    return np.array_equal(read_video(a)[0], read_video(b)[0])


def error_line(code: int, out: str, err: str, expected: int = 2) -> str:
    """The one line of a failed command's stderr."""
    assert code == expected, err
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("vidrd: error: ")
    return err
