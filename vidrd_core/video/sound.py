"""The sound of a video that grows clip by clip: samples in a file for each clip, encoded when clips are joined."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

ENCODERS = {".mp4": "aac", ".webm": "libopus"}  # by the suffix of files that hold sound
FADE = 0.02  # seconds over which the sound of one clip replaces that of another
_BIT_RATE = 192_000
_OPUS_RATE = 48_000  # the one of its rates that keeps all that can be heard


@dataclass(frozen=True)
class Sound:
    """The sound of one piece of a video.

    Args:
        path: A .npy file, float32 [channels, samples], -1 to 1, with one or two channels.
        rate: Samples a second.
        lead: How many of its first samples sound before the piece's first frame: it fades in where the sound of the
            piece before ends, and fills what that lacks. Without any, what the piece before has beyond its last
            frame fades out.
    """

    path: Path
    rate: int
    lead: int = 0

    def samples(self) -> np.ndarray:
        """The samples, float32 [channels, samples], read as they are needed."""
        return np.load(self.path, mmap_mode="r")


def save_sound(path: str | os.PathLike[str], samples: np.ndarray, rate: int, lead: int = 0) -> Sound:
    """Write samples to a .npy file.

    Args:
        path: The file.
        samples: -1 to 1, [channels, samples], with one or two channels.
        rate: Samples a second.
        lead: As of `Sound`.

    Returns:
        The sound in that file.

    Raises:
        ValueError: There are not one or two channels.
        OSError: The file cannot be written.
    """
    if samples.ndim != 2 or len(samples) not in (1, 2):
        raise ValueError(
            f"the sound has shape {list(samples.shape)}, expected one or two channels [channels, samples]"
        )
    np.save(path, samples.astype(np.float32, copy=False))
    return Sound(Path(path), rate, lead)


def read_sound(video: Path, path: Path) -> Sound | None:
    """Decode the sound of a video file to a .npy file at `path`; None if it has none. Raises OSError."""
    with av.open(str(video)) as container:
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        resampler = av.AudioResampler("fltp", stream.layout.name, stream.rate)
        blocks = [part.to_ndarray() for frame in container.decode(stream) for part in resampler.resample(frame)]
        blocks += [part.to_ndarray() for part in resampler.resample(None)]
        return save_sound(path, np.concatenate(blocks, 1).clip(-1, 1), stream.rate)  # codecs overshoot


class SoundTrack:
    """The sound of all pieces of a video, one after the other, each from its first frame on.

    Args:
        pieces: The sound of each piece, None for silence, and its number of frames. One of them has sound.
        fps: Frames per second.

    Raises:
        ValueError: The pieces differ in rate or channels.
    """

    def __init__(self, pieces: Sequence[tuple[Sound | None, int]], fps: Fraction) -> None:
        self.pieces, self.fps = pieces, fps
        forms = {(sound.rate, len(sound.samples())) for sound, _ in pieces if sound is not None}
        if len(forms) > 1:
            (rate, channels), (other, more) = sorted(forms)[:2]
            raise ValueError(
                f"the sound of the clips differs: {rate} Hz with {channels} channels, and {other} Hz with {more}: "
                "give all clips the same audio VAE"
            )
        ((self.rate, self.channels),) = forms

    def blocks(self) -> Iterator[np.ndarray]:
        """The samples in order, float32 [channels, samples], as long as all frames."""
        fade = round(FADE * self.rate)
        held: np.ndarray = np.zeros((self.channels, 0), np.float32)
        beyond, missing, frames, begin = held, 0, 0, 0
        for sound, count in self.pieces:
            frames += count
            end = round(frames * self.rate / self.fps)
            new = np.zeros((self.channels, end - begin), np.float32)
            lead, after, lacks = 0, beyond[:, :0], 0
            if sound is not None:
                samples, lead = sound.samples(), min(sound.lead, held.shape[1], missing + fade)
                body = samples[:, sound.lead :]
                fitting = body[:, : end - begin]
                new[:, : fitting.shape[1]] = fitting
                lacks = new.shape[1] - fitting.shape[1]
                cut, length = held.shape[1] - lead, min(lead, fade)
                before = np.array(samples[:, sound.lead - lead : sound.lead])
                before[:, :length] = _fade(held[:, cut : cut + length], before[:, :length])
                held[:, cut:] = before
                after = body[:, end - begin :][:, :fade]
            if not lead:
                length = min(beyond.shape[1], new.shape[1])
                new[:, :length] = _fade(beyond[:, :length], new[:, :length])
            yield held
            held, beyond, missing, begin = new, after, lacks, end
        yield held


def _fade(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Fade from one sound to another over all of their samples [channels, samples]."""
    share = (np.arange(old.shape[1], dtype=np.float32) + 0.5) / max(1, old.shape[1])
    return old + share * (new - old)


class SoundEncoder:
    """Encodes a sound track into a container, in step with its pictures.

    Args:
        container: The open file, with its picture stream.
        suffix: Of the file, one of `ENCODERS`.
        track: The sound.
    """

    def __init__(self, container: av.container.OutputContainer, suffix: str, track: SoundTrack) -> None:
        codec = ENCODERS[suffix]
        rate = _OPUS_RATE if codec == "libopus" else track.rate
        self._container, self._track, self._blocks, self._sent = container, track, track.blocks(), 0
        self._layout = "mono" if track.channels == 1 else "stereo"
        self._stream: Any = container.add_stream(codec, rate=rate, layout=self._layout, bit_rate=_BIT_RATE)

    def until(self, seconds: float) -> None:
        """Encode what sounds up to a time, and some more."""
        while self._sent < seconds * self._track.rate and (block := next(self._blocks, None)) is not None:
            if not block.shape[1]:
                continue
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), "fltp", self._layout)
            frame.sample_rate, frame.pts = self._track.rate, self._sent
            frame.time_base = Fraction(1, self._track.rate)
            self._container.mux(self._stream.encode(frame))
            self._sent += block.shape[1]

    def finish(self) -> None:
        """Encode the rest."""
        self.until(float("inf"))
        self._container.mux(self._stream.encode(None))
