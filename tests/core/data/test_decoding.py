"""Frames at chosen times, upright and with square pixels, and videos that cannot be decoded."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from vidrd_core.data.decoding import all_frames, facts_of, frames_at, frames_at_each
from vidrd_core.data.records import UnfitError
from vidrd_core.video import open_video
from vidrd_core.video.film import film_of

from .media import moving, numbered, turned, write_still, write_video


def number_of(frames):
    """What `numbered` drew, read back."""
    return ((frames.mean(axis=(1, 2, 3)) - 20) / 4).round().astype(int).tolist()


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4")])
def test_the_frame_nearest_to_each_time_is_read(tmp_path, name, codec):
    path = write_video(tmp_path / name, numbered(48), codec=codec)
    facts = facts_of(path)
    assert (facts.width, facts.height) == (64, 64)
    assert facts.fps == pytest.approx(24, rel=1e-2)
    assert facts.seconds == pytest.approx(2, abs=0.06)
    for wanted in ([0, 3, 6], [30, 33, 47], [13, 13, 14]):
        assert number_of(frames_at(path, [i / 24 for i in wanted])) == wanted, "whole frames, before and after a seek"
    assert number_of(frames_at(path, [0.3 / 24, 0.7 / 24])) == [0, 1], "times between frames"
    assert number_of(np.stack([frame for _, frame in all_frames(path, (64, 64))])) == list(range(48))


def test_groups_of_frames_are_those_of_each_and_decoded_once(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", numbered(48))
    groups = [[i / 24 for i in wanted] for wanted in ([0, 3, 6], [5, 8, 11], [6, 6, 7], [6, 30], [40, 47])]
    expected = [frames_at(path, times) for times in groups]
    film, opened = film_of(path), []
    begin = film._opened
    monkeypatch.setattr(film, "_opened", lambda: opened.append(1) or begin())
    found = list(frames_at_each(path, groups))
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    assert len(opened) == 1


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.gif", "gif"), ("a.avi", "rawvideo")])
def test_frames_may_be_converted_after_the_film_has_ended(tmp_path, name, codec):
    path = write_video(tmp_path / name, numbered(12), codec=codec) if codec != "gif" else tmp_path / name
    if codec == "gif":
        with open_video(path, 24.0) as writer:
            writer.write(numbered(12))
    film = film_of(path)
    later = list(film.views())
    assert [number for number, _ in later] == list(range(12))
    expected = list(film.frames((32, 32)))
    with ThreadPoolExecutor(1) as thread:
        found = list(thread.map(lambda each: each[1]((32, 32)), later))
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def test_groups_go_on_where_the_packets_promised_other_frames(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(48))
    film = film_of(path)
    stamps = film.timeline.stamps.copy()
    stamps[20:] += 1
    film._timeline = replace(film.timeline, stamps=stamps)
    found = frames_at_each(path, [[0.0, 0.5], [1.0, 1.5], [47 / 24]])
    assert [number_of(frames) for frames in found] == [[0, 12], [24, 36], [47]]


def test_groups_before_the_end_of_a_video_are_read(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(24))
    groups = frames_at_each(path, [[0.0, 0.5], [0.25], [0.5, 2.0]])
    assert [number_of(next(groups)), number_of(next(groups))] == [[0, 12], [6]]
    with pytest.raises(UnfitError, match=r"ends or is damaged before 2\.00 s"):
        next(groups)


def test_a_video_is_decoded_as_it_is_displayed(tmp_path):
    frames = moving(0.5, width=96, height=64)
    frames[:, :8, :8] = (255, 0, 0)  # a corner
    for quarters in range(4):
        path = turned(write_video(tmp_path / f"{quarters}.mp4", frames), quarters)
        facts = facts_of(path)
        assert (facts.width, facts.height) == ((96, 64), (64, 96))[quarters % 2]
        seen = frames_at(path, [0.0])[0]
        upright = np.rot90(frames[0], -quarters)
        assert np.abs(seen.astype(int) - upright).mean() < 8
        small = frames_at(path, [0.0], (facts.width // 2, facts.height // 2))[0]
        assert small.shape == (facts.height // 2, facts.width // 2, 3)
    wide = write_video(tmp_path / "wide.mp4", frames, aspect="2/1")
    assert (facts_of(wide).width, facts_of(wide).height) == (192, 64)
    assert frames_at(wide, [0.0]).shape == (1, 64, 192, 3)


def test_a_damaged_file_is_unfit(tmp_path):
    sound = write_video(tmp_path / "sound.mp4", moving(2))
    cut = tmp_path / "cut.avi"
    whole = write_video(tmp_path / "whole.avi", moving(2), codec="mpeg4").read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    picture = write_still(tmp_path / "picture.mp4", format="PNG")
    for path, words in ((text, "is damaged or no video"), (picture, "is a PNG picture, whatever its name")):
        with pytest.raises(UnfitError, match=words):
            facts_of(path)
    for path, times in ((sound, [0, 2.5]), (cut, [0, 1.9])):
        with pytest.raises(UnfitError, match=r"(ends or is damaged before|is damaged)"):
            frames_at(path, times)
