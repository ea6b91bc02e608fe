"""GIFs of other programs have the frames that Pillow counts, at the delays of browsers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from vidrd_core.data.decoding import all_frames, frames_at
from vidrd_core.video import read_video
from vidrd_core.video.reader import probe_video

from .films import numbered, numbers_of

COUNT = 12


def grainy() -> list[Image.Image]:
    """Frames that change everywhere, of which Pillow writes no graphic control extension without a reason."""
    rng = np.random.default_rng(0)
    return [Image.fromarray((frame + rng.integers(0, 30, frame.shape)).astype(np.uint8)) for frame in numbered(COUNT)]


@pytest.mark.parametrize(
    ("delays", "shown"),
    [
        (None, [100] * COUNT),
        (0, [100] * COUNT),
        (10, [100] * COUNT),
        (20, [20] * COUNT),
        ([0, 70] * 6, [100, 70] * 6),
        ([50] * 11 + [0], [50] * 11 + [100]),
    ],
)
def test_frames_without_a_delay_stand_as_in_browsers(
    tmp_path: Path, delays: int | list[int] | None, shown: list[int]
) -> None:
    first, *others = grainy()
    path = tmp_path / "film.gif"
    first.save(path, save_all=True, append_images=others, **({} if delays is None else {"duration": delays}))
    with Image.open(path) as image:
        expected = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
    assert len(expected) == COUNT, "the reference"
    times, frames = zip(*all_frames(path, (160, 64)), strict=True)
    begins = np.cumsum([0, *shown]) / 1000
    assert times == pytest.approx(begins[:-1], abs=1e-6)
    for decoded in (frames, read_video(path)[0]):
        assert np.array_equal(decoded, expected)
    assert numbers_of(frames_at(path, begins[[0, 5, 11]])) == [0, 5, 11]
    info = probe_video(path)
    assert (info.kind, info.frames, info.seconds) == ("gif", COUNT, pytest.approx(begins[-1]))


def test_a_still_and_a_gif_that_is_cut_off(tmp_path: Path) -> None:
    first, *others = grainy()
    first.save(tmp_path / "still.gif")
    assert (len(read_video(tmp_path / "still.gif")[0]), probe_video(tmp_path / "still.gif").frames) == (1, 1)
    first.save(tmp_path / "film.gif", save_all=True, append_images=others)
    data = (tmp_path / "film.gif").read_bytes()
    (tmp_path / "cut.gif").write_bytes(data[: len(data) // 2])
    numbers = numbers_of([frame for _, frame in all_frames(tmp_path / "cut.gif", (160, 64))])
    assert len(numbers) in (5, 6)
    assert numbers[:5] == list(range(5))
