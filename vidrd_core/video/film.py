"""Video files as their own pictures say: which stream is the film, its frames by number, and when each is shown.

A frame is always the one that decoding from the start gives. Where a seek lands too late, or gives other frames, as
in MPEG-TS and after key frames that are none, reading begins further back, at last at the start.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

from vidrd_core.io.decoded import FrameConverter, VideoError, decodable
from vidrd_core.video.animation_reader import PNG, WEBP, animation_format
from vidrd_core.video.gif_delays import with_usual_delays
from vidrd_core.video.starts import checksum
from vidrd_core.video.timeline import (
    MACHINE,
    Timeline,
    declared_size,
    decoded_packets,
    decoder_of,
    is_plain,
    timeline_of_frames,
    timeline_of_packets,
)

# No playlists, which could make FFmpeg open other files.
FORMATS = "mov,mp4,matroska,webm,gif,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,dv,h264,hevc,m4v"
DEFAULT, ATTACHED_PICTURE, TIMED_THUMBNAILS = 0x1, 0x400, 0x800  # dispositions of a stream, in FFmpeg
STILL_CODECS = ("mjpeg", "png", "bmp", "webp", "tiff")  # beside a stream of another codec, one picture
TS_PACKET, TS_SYNC = 188, 0x47  # bytes of a packet of MPEG-TS, and its first one
SHORT = 16 * 1024  # bytes of a transport stream that is short
CHECKED = 48  # leading frames whose times are compared with those of the packets
FAR = 48  # frames from which on a seek is cheaper than decoding


View = Callable[[tuple[int, int] | None], NDArray[np.uint8]]
"""Converts a decoded frame to uint8 [H, W, 3] of a width and height; None: the film's own."""


class _LostError(Exception):
    """Decoded frames are not those that the timeline expects."""


@contextmanager
def open_film(path: str | os.PathLike[str], threads: int = 0) -> Iterator[tuple[Any, Any]]:
    """A context with a file's container and the stream of its film, which as many threads decode; 0: FFmpeg's choice.

    Raises OSError; VideoError if it is damaged.
    """
    try:
        with _container(path) as container:
            stream = decodable(film_stream(container))
            stream.thread_type, stream.codec_context.thread_count = "AUTO", threads
            yield container, stream
    except av.error.FFmpegError as error:
        if isinstance(error, OSError) and _is_of_machine(path, error):
            raise
        if (kind := animation_format(path)) in (PNG, WEBP):
            raise VideoError(f"is a {kind} picture, whatever its name: expected a film, write it as one") from error
        raise VideoError(f"is damaged or no video: {error.strerror or error}") from error


def _is_of_machine(path: str | os.PathLike[str], error: OSError) -> bool:
    """Whether the machine kept a file from being read; FFmpeg has the errors of systems for damaged data, too."""
    if error.errno in MACHINE:
        return True
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError:
        return True
    return False


@contextmanager
def _container(path: str | os.PathLike[str]) -> Iterator[Any]:
    """A context with a file's container. Raises FFmpegError."""
    options, errors = {"format_whitelist": FORMATS}, "replace"  # titles of old films are often no UTF-8
    with ExitStack() as stack:
        container: Any
        gif = with_usual_delays(path)
        name = "mpegts" if _is_short_transport_stream(path) else None
        try:
            container = av.open(
                BytesIO(gif) if gif else os.path.abspath(path),
                format=name,
                container_options=options,
                metadata_errors=errors,
            )
        except (EOFError, av.error.InvalidDataError):
            # The index of the last fragment of an MP4 may be cut off. FFmpeg 8.1 wants that of each, or none if it
            # cannot seek.
            file = stack.enter_context(open(path, "rb"))
            container = av.open(_Unseekable(file), container_options=options, metadata_errors=errors)
        yield stack.enter_context(container)


def _is_short_transport_stream(path: str | os.PathLike[str]) -> bool:
    """Whether a file is MPEG-TS of so few packets that FFmpeg may take it for something else."""
    with open(path, "rb") as file:
        data = file.read(SHORT + 1)
    starts = data[::TS_PACKET]
    return len(starts) >= 3 and len(data) <= SHORT and set(starts) == {TS_SYNC} and data[:3] != b"GIF"


class _Unseekable:
    """A file that can only be read on."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read


def film_stream(container: Any) -> Any:
    """The stream that players show: no cover picture or thumbnails; the default one, else the largest.

    Args:
        container: An open container of PyAV.

    Returns:
        The stream; one that has no decoder where no other has.

    Raises:
        VideoError: There is none.
    """
    moving = [
        stream
        for stream in container.streams.video
        if not _disposition(stream) & (ATTACHED_PICTURE | TIMED_THUMBNAILS)
    ]
    moving = [stream for stream in moving if stream.codec_context is not None] or moving[:1]
    if not moving:
        raise VideoError(f"has no video in it{', only a cover picture' if container.streams.video else ''}")

    if moving[0].codec_context is None:
        return moving[0]

    def rank(stream: Any) -> tuple[Any, ...]:
        codec = stream.codec_context
        moves, default = codec.name not in STILL_CODECS, bool(_disposition(stream) & DEFAULT)
        # The first stream of an AVIF sequence is its still, of one frame.
        return stream.frames != 1, default, moves, codec.width * codec.height, codec.bit_rate or 0, -stream.index

    return max(moving, key=rank)


def _disposition(stream: Any) -> int:
    """What a stream is for, as flags; 0 where PyAV does not tell."""
    flags = getattr(stream, "disposition", 0)
    return int(getattr(flags, "value", flags))


@dataclass(frozen=True)
class FilmFacts:
    """What a film is.

    Args:
        kind: The container's format, as FFmpeg calls it: "mov" for mp4, "matroska" for webm, "gif".
        codec: The codec, as "h264".
        width: Width in square pixels, upright.
        height: Height in square pixels, upright.
        tags: The container's metadata; the keys are in lower case.
        hdr: Whether it is PQ or HLG, and tone-mapped when it is read.
    """

    kind: str
    codec: str
    width: int
    height: int
    tags: dict[str, str]
    hdr: bool = False


class Film:
    """A video file. Its frames are numbered from 0 in the order in which they are shown; times begin with the first.

    Args:
        path: The file.

    Raises:
        OSError: There is no such file, or it cannot be read.
        VideoError: It is damaged or no video.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(path)
        self._timeline: Timeline | None = None
        self._threads = 0
        with self._opened() as (container, stream):
            first = next((frame for _, frames, _ in decoded_packets(container, stream) for frame in frames), None)
            if first is None:
                raise VideoError("has no frame that can be decoded")
            converter = FrameConverter(stream)
            width, height = converter.size(first)
            tags = {key.lower(): value for key, value in container.metadata.items()}
            kind = container.format.name.split(",")[0]
            codec = stream.codec_context.codec
            name = getattr(codec, "canonical_name", codec.name)  # "av1", not the decoder's "libdav1d"
            self.facts = FilmFacts(kind, name, width, height, tags, converter.is_hdr(first))

    @property
    def timeline(self) -> Timeline:
        """When its frames are shown. Raises VideoError."""
        if self._timeline is None:
            self._timeline = self._of_packets() or self._of_frames()
        return self._timeline

    @property
    def damage(self) -> str:
        """What of the file is missing, as "is cut off at 3.20 s"; "" if nothing is known to be. Raises VideoError."""
        expected, size = declared_size(self.path, self.facts.kind), os.path.getsize(self.path)
        if size < expected:
            return f"is cut off at {self.timeline.seconds:.2f} s, {size} of {expected} bytes"
        return self.timeline.damage

    def frames(self, size: tuple[int, int] | None = None) -> Iterator[NDArray[np.uint8]]:
        """All frames, one by one.

        Args:
            size: Width and height to scale to; None: the film's own.

        Yields:
            uint8 [H, W, 3].

        Raises:
            VideoError: One is damaged, or the file is cut off.
        """
        with self._opened() as (container, stream):
            converter, decoder = FrameConverter(stream), decoder_of(stream)
            for packet in container.demux(stream):
                for frame in decoder.decode(packet):
                    if frame.is_corrupt:
                        raise VideoError(f"is damaged at {frame.time or 0.0:.2f} s")
                    yield converter.rgb(frame, size or self._size)
        self._reject_damage()

    def timed_frames(self, size: tuple[int, int] | None = None) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """All frames of what there is of the file, one by one; damaged ones are left out.

        Args:
            size: Width and height to scale to; None: the film's own.

        Yields:
            When it is shown, in seconds from the first one, and the frame, uint8 [H, W, 3].

        Raises:
            VideoError: None can be decoded.
        """
        for number, view in self.views():
            yield float(self.timeline.times[number]), view(size)

    def views(self) -> Iterator[tuple[int, View]]:
        """All frames of what there is of the file, one by one, each to be converted to as many sizes as are wanted.

        Damaged ones are left out.

        Yields:
            The frame's number, and what converts it, also in another thread and after the film has ended.

        Raises:
            VideoError: None can be decoded.
        """
        times, number = self.timeline, 0
        with self._opened() as (container, stream):
            converter = FrameConverter(stream)
            for _, frames, _ in decoded_packets(container, stream):
                for frame in frames:
                    if frame.is_corrupt:
                        continue
                    known = number if times.stamps is None else times.number_of(frame.pts)
                    number += 1
                    if known is not None and known < len(times.times):
                        yield known, lambda size, frame=frame: converter.rgb(frame, size or self._size)  # type: ignore[misc]

    def last_frames(self, count: int) -> Iterator[NDArray[np.uint8]]:
        """The last frames, or all if there are fewer.

        Args:
            count: How many, 1 or more.

        Yields:
            uint8 [H, W, 3].

        Raises:
            VideoError: One is damaged, or the file is cut off.
        """
        self._reject_damage()
        length = len(self.timeline.times)
        try:
            found = list(self._numbered(range(max(0, length - count), length), None))
        except _LostError:  # the packets promise other frames than are decoded
            found = list(deque(self.frames(), count))
        yield from found

    def at(self, times: Sequence[float], size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """The frames that are shown at given times; no more of the file is read than they need.

        Args:
            times: Seconds from the first frame, in ascending order.
            size: Width and height to scale to; None: the film's own.

        Returns:
            uint8 [F, H, W, 3].

        Raises:
            VideoError: The film is damaged or ends before the last time.
        """
        (found,) = self.at_each([times], size)
        return found

    def at_each(
        self, groups: Sequence[Sequence[float]], size: tuple[int, int] | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """As `at`, of several groups of times, for which the file is read once where they are near each other.

        Args:
            groups: Seconds from the first frame, in ascending order in each group, the groups by their first.
            size: Width and height to scale to; None: the film's own.

        Yields:
            uint8 [F, H, W, 3] for each group.

        Raises:
            VideoError: The film is damaged or ends before the last time of the next group.
        """
        done = 0
        try:
            for found in self._grouped(groups, size):
                yield found
                done += 1
            return
        except _LostError:
            self._timeline = self._of_frames()  # the packets promise other frames than are decoded
        try:
            yield from self._grouped(groups[done:], size)
        except _LostError as error:
            raise VideoError("is damaged: decoding it twice gives different frames") from error

    def _reject_damage(self) -> None:
        """Raise VideoError if part of the file is missing."""
        if damage := self.damage:
            raise VideoError(damage)

    def _opened(self) -> AbstractContextManager[tuple[Any, Any]]:
        """A context with the container and the stream."""
        return open_film(self.path, self._threads)

    @property
    def _size(self) -> tuple[int, int]:
        """Width and height of all frames; a stream may change its own."""
        return self.facts.width, self.facts.height

    def _of_packets(self) -> Timeline | None:
        """The timeline that the packets promise, which is quick; None if decoded frames do not keep it."""
        with self._opened() as (container, stream):
            promised = timeline_of_packets(container, stream) if is_plain(stream) else None
        if promised is None:
            return None
        count, last = len(promised.times), len(promised.times) - 1
        self._timeline = promised
        try:
            head = (number for number, _ in self._run(None))
            if [number for number, _ in zip(head, range(CHECKED), strict=False)] != list(range(min(count, CHECKED))):
                return None
            *_, tail = self._from(last, count)
            return promised if tail[0] == last else None
        except (_LostError, VideoError, ValueError):
            return None
        finally:
            self._timeline = None

    def _of_frames(self) -> Timeline:
        """The timeline of the decoded frames."""
        with self._opened() as (container, stream):
            found = timeline_of_frames(container, stream)
        if not found.damage or self._threads == 1:
            return found
        self._threads = 1  # of a damaged frame, threads lose those that they decode beside it
        return self._of_frames()

    def _grouped(
        self, groups: Sequence[Sequence[float]], size: tuple[int, int] | None
    ) -> Iterator[NDArray[np.uint8]]:
        """The frames of `at_each`. Raises _LostError, VideoError."""
        error: VideoError | None = None
        wanted: list[list[int]] = []
        for times in groups:
            try:
                wanted.append(self.timeline.numbers(times))
            except VideoError as beyond:  # the groups before it are there
                error = beyond
                break
        numbers = sorted({number for group in wanted for number in group})
        frames = zip(numbers, self._numbered(numbers, size), strict=True)
        kept: dict[int, NDArray[np.uint8]] = {}
        for i, group in enumerate(wanted):
            while group[-1] not in kept:
                kept.update([next(frames)])
            yield np.stack([kept[number] for number in group])
            later = wanted[i + 1][0] if i + 1 < len(wanted) else len(self.timeline.times)
            kept = {number: frame for number, frame in kept.items() if number >= later}
        if error:
            raise error

    def _numbered(self, numbers: Sequence[int], size: tuple[int, int] | None) -> Iterator[NDArray[np.uint8]]:
        """Frames by number, ascending. Raises _LostError, VideoError."""
        groups: list[list[int]] = []
        for number in numbers:
            far = groups and number - groups[-1][-1] > FAR and self.timeline.key_before(number) > groups[-1][-1]
            if not groups or far:
                groups.append([])
            groups[-1].append(number)
        for group in groups:
            with closing(self._from(group[0], group[-1] + 1)) as frames:
                pixels: NDArray[np.uint8] | None = None
                at = group[0] - 1
                for number in group:
                    while at < number:
                        at, frame, converter = next(frames)
                        pixels = None
                    pixels = converter.rgb(frame, size or self._size) if pixels is None else pixels
                    yield pixels

    def _from(self, first: int, stop: int) -> Generator[tuple[int, Any, FrameConverter], None, None]:
        """The frames of a range one by one, with their numbers. Raises _LostError, VideoError."""
        wanted = first
        for key in self.timeline.starts(first):
            with closing(self._run(key)) as run:
                try:
                    for number, (frame, converter) in run:
                        if number > wanted:  # the seek landed too late
                            break
                        if number == wanted:
                            yield number, frame, converter
                            wanted += 1
                            if wanted == stop:
                                return
                except (_LostError, VideoError):
                    if key is None:
                        raise
        raise _LostError

    def _run(self, key: int | None) -> Generator[tuple[int, tuple[Any, FrameConverter]], None, None]:
        """The frames from a key frame, or from the start, with their numbers. Raises _LostError, VideoError."""
        stamps, checksums = self.timeline.stamps, self.timeline.checksums
        with self._opened() as (container, stream):
            converter = FrameConverter(stream)
            if key is not None:
                try:
                    container.seek(key, stream=stream)
                except av.error.FFmpegError as error:
                    raise _LostError from error
            expected, begun = (0, None) if key is None else (None, None)
            for packet, frames, _ in decoded_packets(container, stream, from_key=key is not None):
                if key is not None and begun is None and packet is not None:
                    begun = packet.pts
                for frame in frames:
                    if frame.is_corrupt or (begun is not None and (frame.pts is None or frame.pts < begun)):
                        continue  # it is damaged, or depends on frames before the key frame
                    if stamps is None:
                        number = expected
                    elif (number := self.timeline.number_of(frame.pts)) is None or expected not in (None, number):
                        raise _LostError
                    assert number is not None
                    if key is None:
                        is_same = True
                    elif checksums is not None:
                        is_same = checksum(frame) == checksums[number]
                    else:  # the first one must be that of the packet, and one that depends on no other
                        is_same = expected is not None or (frame.pts == begun and bool(frame.key_frame))
                    if not is_same:
                        raise _LostError
                    yield number, (frame, converter)
                    expected = number + 1


def film_of(path: str | os.PathLike[str]) -> Film:
    """The film of a file; it is known for the next call unless the file has changed. Raises OSError, VideoError."""
    status = os.stat(path)
    return _film(os.path.abspath(path), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4)
def _film(path: str, size: int, changed: int) -> Film:
    return Film(path)
