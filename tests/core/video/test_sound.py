"""Sound of joined videos: what FFmpeg decodes is each piece's sound at the moment of its frames."""

from fractions import Fraction
from itertools import accumulate

import av
import numpy as np
import pytest

from vidrd_core.video import Piece, join_videos, open_video
from vidrd_core.video.sound import FADE, SoundTrack, read_sound, save_sound

FPS = 23.976
LENGTHS = (25, 20, 20)


def tone(times, channels=2):
    """A rising tone, of another pitch and level in the second channel."""
    both = [0.5 * np.sin(2 * np.pi * 440 * times * (1 + times / 10)), 0.3 * np.sin(2 * np.pi * 300 * times)]
    return np.stack(both[:channels]).astype(np.float32)


def decoded(path):
    """All samples of a file by FFmpeg, its rate, and the number of its frames."""
    with av.open(str(path)) as container:
        sound = container.streams.audio[0]
        blocks = [frame.to_ndarray() for frame in container.decode(sound)]
        rate, start = sound.rate, float((sound.start_time or 0) * sound.time_base)
    with av.open(str(path)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert abs(start) < 0.01
    return np.concatenate(blocks, 1), rate, times


@pytest.fixture
def pieces(tmp_path):
    """A function that makes pieces whose sound is one tone, cut where their frames are."""

    def make(suffix, rate, lead, channels=2, lengths=LENGTHS):
        made = []
        for k, (first, count) in enumerate(zip((0, *accumulate(lengths)), lengths, strict=False)):
            path, begin = tmp_path / f"{k}{suffix}", round(first * rate / FPS)
            with open_video(path, FPS) as video:
                video.write(np.full((count, 32, 32, 3), 60 * k, np.uint8))
            before = lead if k else 0
            times = np.arange(begin - before, round((first + count) * rate / FPS) + 500) / rate
            made.append(Piece(path, count, save_sound(tmp_path / f"{k}.npy", tone(times, channels), rate, before)))
        return made

    return make


@pytest.mark.parametrize("lead", [0, 480])
@pytest.mark.parametrize(
    ("suffix", "rate", "channels", "error"),
    [(".mp4", 24000, 2, 0.005), (".mp4", 32000, 1, 0.005), (".webm", 24000, 2, 0.03), (".webm", 48000, 1, 0.03)],
)
def test_pieces_of_one_sound_join_without_a_seam(pieces, tmp_path, suffix, rate, channels, error, lead):
    target = tmp_path / f"joined{suffix}"
    join_videos(pieces(suffix, rate, lead, channels), target, FPS, {"prompt": "of all"})
    samples, rate, times = decoded(target)
    assert times == pytest.approx([k * 1001 / 24000 for k in range(sum(LENGTHS))], abs=0.001)
    lasts = round(sum(LENGTHS) * 1001 / 24000 * rate)
    assert lasts - 2 <= samples.shape[1] < lasts + 1024
    heard = slice(rate // 10, lasts - rate // 10)  # codecs begin and end with some samples of their own
    expected = tone(np.arange(samples.shape[1]) / rate, channels)
    assert np.abs(samples - expected)[:, heard].max() < error
    again = read_sound(target, tmp_path / "again.npy")
    assert again.rate == rate
    assert np.array_equal(again.samples(), samples.clip(-1, 1))


def test_sound_fades_from_piece_to_piece(tmp_path):
    """Without a lead, what the piece before has beyond its frames fades out; a piece without sound is silent."""
    rate, levels, made = 8000, (0.5, -0.5, None, 0.25), []
    for k, level in enumerate(levels):
        path = tmp_path / f"{k}.mp4"
        with open_video(path, 8) as video:
            video.write(np.zeros((8, 32, 32, 3), np.uint8))
        sound = None
        if level is not None:
            sound = save_sound(tmp_path / f"{k}.npy", np.full((1, rate + (400 if k == 0 else 0)), level), rate)
        made.append(Piece(path, 8, sound))
    track = SoundTrack([(piece.sound, piece.frames) for piece in made], 8)
    samples = np.concatenate(list(track.blocks()), 1)[0]
    assert samples.shape == (4 * rate,)
    fade = round(FADE * rate)
    assert (samples[:rate] == 0.5).all()
    assert (np.diff(samples[rate : rate + fade]) < 0).all()
    assert samples[rate + fade // 2] == pytest.approx(0, abs=0.01)
    assert (samples[rate + fade : 2 * rate] == -0.5).all()
    assert (samples[2 * rate : 3 * rate] == 0).all()
    assert (samples[3 * rate :] == 0.25).all()
    join_videos(made, tmp_path / "joined.mp4", 8)
    heard = decoded(tmp_path / "joined.mp4")[0][0]
    assert np.abs(heard[2 * rate + 1024 : 3 * rate - 1024]).max() < 0.01


@pytest.mark.parametrize("missing", [0, 240, 1128, 5000])
def test_what_a_piece_lacks_at_its_end_comes_from_the_next_one(pieces, missing):
    """As with LTX-2, whose VAE decodes less than the frames last: no sample is silent, and none is moved."""
    rate, lead = 24000, 4000
    made = pieces(".mp4", rate, lead)
    ends = [round(count * rate / FPS) for count in accumulate(LENGTHS)]
    for piece, first, end in zip(made, (0, *ends), ends, strict=False):
        before = piece.sound.lead
        np.save(piece.sound.path, np.array(piece.sound.samples())[:, : before + end - first - missing])
    track = SoundTrack([(piece.sound, piece.frames) for piece in made], Fraction(24000, 1001))
    samples = np.concatenate(list(track.blocks()), 1)
    assert samples.shape[1] == ends[-1]
    error = np.abs(samples - tone(np.arange(ends[-1]) / rate)).max(0)
    assert (samples[:, ends[-1] - missing :] == 0).all()
    wrong = error[: ends[-1] - missing] > 1e-3
    assert wrong.sum() <= 2 * max(0, missing + round(FADE * rate) - lead)  # what no lead reaches, and its fade


def test_a_piece_fades_in_where_the_one_before_ends(tmp_path):
    rate, fade = 8000, round(FADE * 8000)
    first = save_sound(tmp_path / "0.npy", np.full((1, rate - 300), 0.5), rate)
    second = save_sound(tmp_path / "1.npy", np.full((1, 800 + rate), -0.5), rate, lead=800)
    samples = np.concatenate(list(SoundTrack([(first, 8), (second, 8)], 8).blocks()), 1)[0]
    ends = rate - 300
    assert samples.shape == (2 * rate,)
    assert (samples[: ends - fade] == 0.5).all()
    assert (np.diff(samples[ends - fade : ends]) < 0).all()
    assert (samples[ends:] == -0.5).all()


def test_a_piece_that_is_cut_keeps_its_moment(pieces, tmp_path):
    made = pieces(".mp4", 24000, 0)
    join_videos([made[0], Piece(made[1].path, 11, made[1].sound)], tmp_path / "cut.mp4", FPS)
    samples, rate, times = decoded(tmp_path / "cut.mp4")
    assert len(times) == 36
    assert samples.shape[1] < round(36 * rate / FPS) + 1024
    expected = tone(np.arange(samples.shape[1]) / rate)
    assert np.abs(samples - expected)[:, rate // 10 : round(36 * rate / FPS) - rate // 10].max() < 0.005


def test_what_has_no_place_for_sound_is_refused(pieces, tmp_path):
    made = pieces(".gif", 24000, 0)
    with pytest.raises(ValueError, match=r"joined\.gif holds no sound: write an MP4 or WebM"):
        join_videos(made, tmp_path / "joined.gif", FPS)
    one, two, _ = pieces(".mp4", 24000, 0)
    other = save_sound(tmp_path / "other.npy", np.zeros((2, 99)), 32000)
    with pytest.raises(ValueError, match=r"24000 Hz with 2 channels, and 32000 Hz with 2"):
        join_videos([one, Piece(two.path, 20, other)], tmp_path / "joined.mp4", FPS)
    with pytest.raises(ValueError, match=r"shape \[3, 99\], expected one or two channels"):
        save_sound(tmp_path / "other.npy", np.zeros((3, 99)), 24000)
    assert not (tmp_path / "joined.mp4").exists()
    with open_video(tmp_path / "silent.mp4", 8) as video:
        video.write(np.zeros((3, 32, 32, 3), np.uint8))
    assert read_sound(tmp_path / "silent.mp4", tmp_path / "none.npy") is None
