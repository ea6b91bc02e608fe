"""When the frames of a film are shown, and from where each can be decoded."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from vidrd_core.io.decoded import VideoError
from vidrd_core.video.starts import Starts, checksum

DEFAULT_FPS = 8.0
# Codecs of which a packet is a frame, as a rule.
PLAIN = ("h264", "hevc", "vp9", "libvpx-vp9", "av1", "libdav1d", "libaom-av1")
LIBVPX = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
PLAIN_FORMATS = ("mov", "matroska")
DISCONTINUOUS = 0x0200  # flag of a format whose clock may jump, in FFmpeg
FAR = 10.0  # seconds: a longer step is another clock where a format allows that, as in FFmpeg's own programs
SETTLED = 5  # frames in a row of which none follows the clock so far: they follow another
REORDERED = 16  # frames that a decoder may hold back
LONGEST, FASTEST = 1e8, 1e5  # seconds and frames a second of a film, beyond which its times are damaged
MACHINE = (errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE)  # errors that no file causes by what it holds


@dataclass(frozen=True, eq=False)
class Timeline:
    """When the frames of a film are shown.

    Args:
        times: float64 [F], seconds from the first frame, ascending.
        seconds: Until the last frame's end.
        fps: Frames a second: between the first frame and the last one.
        stamps: int64 [F], presentation times in units of the stream's time base; None if the film can only be read
            from its start.
        keys: int64 [K], presentation times of key frames that decoding can begin with, ascending.
        damage: What of the file cannot be decoded, as "is cut off at 3.20 s"; "" if decoding met no error.
        checksums: uint32 [F], of the frames as decoding from the start gives them; None if that was not done.

    Raises:
        VideoError: The film is longer, or its frames are shorter, than of any film.
    """

    times: NDArray[np.float64]
    seconds: float
    fps: float
    stamps: NDArray[np.int64] | None
    keys: NDArray[np.int64]
    damage: str = ""
    checksums: NDArray[np.uint32] | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.seconds <= LONGEST and 0 < self.fps <= FASTEST):
            raise VideoError(f"is damaged: it says that it lasts {self.seconds:.4g} s at {self.fps:.4g} fps")

    def numbers(self, times: Sequence[float]) -> list[int]:
        """The numbers of the frames that are shown at given times.

        Args:
            times: Seconds from the first frame.

        Returns:
            A number for each. A time within half a frame before the next one is that one's.

        Raises:
            VideoError: The film ends before one of the times.
        """
        for time in times:
            if time > self.seconds + 0.5 / self.fps:
                raise VideoError(f"ends or is damaged before {time:.2f} s")
        early = 0.5 * np.minimum(np.diff(self.times, prepend=-np.inf), 1 / self.fps)
        found = np.searchsorted(self.times - early, np.asarray(times, np.float64) + 1e-9, side="right") - 1
        return np.clip(found, 0, len(self.times) - 1).tolist()

    def number_of(self, stamp: int | None) -> int | None:
        """The number of the frame with a presentation time; None if there is none."""
        assert self.stamps is not None
        if stamp is None:
            return None
        number = int(np.searchsorted(self.stamps, stamp))
        return number if number < len(self.stamps) and self.stamps[number] == stamp else None

    def starts(self, number: int) -> Iterator[int | None]:
        """Key frames to decode a frame from: the nearest before it, then ever farther ones, then None, the start."""
        if self.stamps is not None:
            at, step = int(np.searchsorted(self.keys, self.stamps[number], side="right")) - 1, 1
            while at > 0:
                yield int(self.keys[at])
                at, step = at - step, 2 * step
        yield None

    def key_before(self, number: int) -> int:
        """The number of the last key frame that is not after a frame; 0 if reading begins at the start."""
        if self.stamps is None:
            return 0
        at = int(np.searchsorted(self.keys, self.stamps[number], side="right")) - 1
        return int(np.searchsorted(self.stamps, self.keys[at])) if at > 0 else 0


def declared_size(path: str, kind: str) -> int:
    """How many bytes a Matroska or AVI file has at least, after its header; 0 where that is not known.

    Args:
        path: The file.
        kind: Its format, as FFmpeg calls it.

    Returns:
        Bytes.

    Source:
        RFC 8794 (EBML) and RFC 9559 (Matroska): a segment's size; 0 or unknown in recordings without an end.
    """
    with open(path, "rb") as file:
        if kind == "avi":
            head = file.read(8)
            size = int.from_bytes(head[4:8], "little")
            return size if head[:4] == b"RIFF" else 0  # not the 8 bytes of the head itself: writers count loosely
        if kind != "matroska":
            return 0
        for wanted in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):  # the header, then the segment
            if file.read(4) != wanted:
                return 0
            length = 9 - int.from_bytes(file.peek(1)[:1], "big").bit_length()  # bytes: 1 more than its leading zeros
            if length > 8:
                return 0
            size = int.from_bytes(file.read(length), "big") & ~(1 << 7 * length)
            if size == (1 << 7 * length) - 1:  # unknown
                return 0
            if wanted[0] == 0x1A:
                file.seek(size, os.SEEK_CUR)
        return file.tell() + size


def is_plain(stream: Any) -> bool:
    """Whether packets of a stream are frames, as a rule."""
    formats = stream.container.format.name.split(",")
    return stream.codec_context.name in PLAIN and formats[0] in PLAIN_FORMATS and not has_alpha_track(stream)


def timeline_of_packets(container: Any, stream: Any) -> Timeline | None:
    """The timeline that the packets of a stream promise; None if they do not tell."""
    seen = _Seen(stream)
    try:
        for packet in container.demux(stream):
            if not seen.add_packet(packet):
                return None
    except av.error.FFmpegError as error:
        _damage(error)
        return None
    stamps = np.sort(np.asarray(seen.presented, np.int64))
    if not len(stamps) or not (np.diff(stamps) > 0).all():
        return None
    return seen.timeline(stamps, stamps)


def has_alpha_track(stream: Any) -> bool:
    """Whether a stream of VP8 or VP9 has its transparency beside it, which FFmpeg's own decoders leave out.

    Args:
        stream: The stream, of PyAV.

    Returns:
        True if the file says so and libvpx is there to decode it.
    """
    says = {key.lower(): value for key, value in stream.metadata.items()}.get("alpha_mode") == "1"
    return says and LIBVPX.get(stream.codec_context.name) in av.codecs_available


def decoder_of(stream: Any) -> Any:
    """What decodes a stream from where its container is read next.

    Args:
        stream: The stream, of PyAV.

    Returns:
        The codec context of the stream; a new one of libvpx for transparent VP8 and VP9.
    """
    if not has_alpha_track(stream):
        return stream.codec_context
    decoder = av.CodecContext.create(LIBVPX[stream.codec_context.name], "r")
    decoder.thread_count = stream.codec_context.thread_count
    return decoder


def decoded_packets(
    container: Any, stream: Any, from_key: bool = False
) -> Iterator[tuple[Any | None, list[Any], bool]]:
    """The packets of a stream and what they are decoded to, errors included: those after a damaged one count, too.

    Args:
        container: The open container of PyAV.
        stream: The stream.
        from_key: Whether to begin with the first packet from which frames are those of decoding from the start.

    Yields:
        A packet, or None where the file cannot be read on; the frames that came with it, which may be those of
        packets before it; and whether it was decoded without an error.

    Raises:
        av.error.FFmpegError: The file cannot be read, or nothing in it can be decoded.
    """
    begun, useful, starts, decoder = not from_key, False, Starts(stream), decoder_of(stream)
    packets = container.demux(stream)
    failure: av.error.FFmpegError | None = None
    packet: Any | None
    frames: list[Any]
    while True:
        try:
            packet = next(packets)
            if not begun and not starts.has(packet):
                continue
            begun, frames, sound = True, [], True
        except StopIteration:
            break
        except av.error.FFmpegError as error:
            failure, packet, frames, sound = _damage(error), None, [], False
        try:
            frames = decoder.decode(packet)
        except av.error.FFmpegError as error:
            failure, sound = _damage(error), False
        useful = useful or bool(frames)
        yield packet, frames, sound
        if packet is None:
            break
    if failure and not useful:
        raise failure


def _damage(error: av.error.FFmpegError) -> av.error.FFmpegError:
    """An error of damaged data; raises one of the machine. FFmpeg has others of the system's for damage, as EPERM."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in MACHINE):
        raise error
    return error


def timeline_of_frames(container: Any, stream: Any) -> Timeline:
    """The timeline of a stream's frames that can be decoded, without those that are corrupt.

    Args:
        container: The open container of PyAV.
        stream: The stream.

    Returns:
        The timeline.

    Raises:
        av.error.FFmpegError: The file cannot be read, or nothing in it can be decoded.
        VideoError: No frame can be decoded.
    """
    seen = _Seen(stream)
    every: list[int | None] = []  # presentation times of all frames
    good: list[bool] = []
    checksums: list[int] = []  # of the good ones
    for packet, frames, sound in decoded_packets(container, stream):
        if not sound:
            seen.lose(sum(good))
        elif packet is not None:
            seen.add_packet(packet)
        for frame in frames:
            if frame.is_corrupt:
                seen.lose(sum(good))
            every.append(frame.pts)
            good.append(not frame.is_corrupt)
            if good[-1]:
                checksums.append(checksum(frame))
    shown = [stamp for stamp, kept in zip(every, good, strict=True) if kept]
    if not shown:
        raise VideoError("has no frame that can be decoded")
    if None not in shown:
        stamps = np.asarray(shown, np.int64)
        if (np.diff(stamps) > 0).all():
            return seen.timeline(_repaired(stamps, seen.far), stamps, np.asarray(checksums, np.uint32))
    decoded = seen.decoded if np.isinf(seen.far) else []  # formats whose clock may jump have presentation times
    if len(decoded) == len(every) and None not in decoded and (np.diff(np.asarray(decoded, np.int64)) > 0).all():
        # AVI has none: packets have the times of the frames, in another order.
        return seen.timeline(np.asarray(decoded, np.int64)[good], None)
    if None in shown:  # a raw stream
        rate = stream.guessed_rate or stream.average_rate or DEFAULT_FPS
        return seen.timeline(np.round(np.arange(len(shown)) / float(rate * stream.time_base)).astype(np.int64), None)
    return seen.timeline(_repaired(np.asarray(shown, np.int64), seen.far), None)


def _repaired(stamps: NDArray[np.int64], far: float) -> NDArray[np.int64] | NDArray[np.float64]:
    """Ascending times for times that jump, as where MPEG streams were badly multiplexed, damaged, or joined.

    Frames that lie back, or far ahead, stand no longer than usual until one follows the clock again. Where several
    in a row do not, the clock is another one from there on.
    """
    steps = np.diff(stamps)
    if ((steps > 0) & (steps <= far)).all():
        return stamps
    usual = int(np.median(steps[steps > 0])) if (steps > 0).any() else 1
    if abs(stamps[-1] - stamps[0] - usual * len(steps)) <= usual:
        return np.arange(len(stamps), dtype=np.int64) * usual
    far = max(far, 8.0 * usual)
    offset, times = -int(stamps[0]), [0.0]
    while len(times) < len(stamps):
        last = times[-1]
        ahead = stamps[len(times) : len(times) + SETTLED] + offset - last
        (following,) = np.nonzero((ahead > 0) & (ahead <= far))
        if not len(following):
            offset = last + usual - stamps[len(times)]
            times.append(last + usual)
            continue
        astray = int(following[0])
        step = min(usual, ahead[astray] / (astray + 1))
        times += [last + step * (i + 1) for i in range(astray)] + [last + float(ahead[astray])]
    return np.asarray(times)


class _Seen:
    """What the packets of a stream tell."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.starts = stream, Starts(stream)
        self.kind = stream.container.format.name.split(",")[0]
        self.presented: list[int] = []
        self.decoded: list[int | None] = []
        self.keys: list[int] = []
        self.last = (-(2**63), 0)  # when the packet that is shown last so far is shown, and how long
        self.lost_after: int | None = None  # frames before the first that cannot be decoded
        flags = stream.container.format.flags
        discontinuous = bool(int(getattr(flags, "value", flags)) & DISCONTINUOUS)
        self.far = FAR / float(stream.time_base) if discontinuous else np.inf

    def lose(self, frames: int) -> None:
        """Note that something cannot be decoded, after so many frames."""
        self.lost_after = frames if self.lost_after is None else self.lost_after

    def add_packet(self, packet: Any) -> bool:
        """Whether its times can be relied on."""
        if not packet.size or packet.is_discard:
            return True
        self.decoded.append(packet.dts)
        if packet.pts is None:
            return False
        self.presented.append(packet.pts)
        if self.starts.has(packet):
            self.keys.append(packet.pts)
        self.last = max(self.last, (packet.pts, packet.duration or 0))
        return not packet.is_corrupt

    def timeline(
        self,
        shown: NDArray[np.int64] | NDArray[np.float64],
        stamps: NDArray[np.int64] | None,
        checksums: NDArray[np.uint32] | None = None,
    ) -> Timeline:
        """A timeline of the times at which frames are shown, in units of the time base."""
        tick = float(self.stream.time_base)
        times = (shown - shown[0]) * tick
        last = self.last[1] * tick
        if len(times) == 1 and not self.stream.average_rate:
            last = 0.0  # FFmpeg makes up the delay of a still GIF that has none
        fps = self._rate(times, last, tick)
        keys = np.sort(np.asarray(self.keys, np.int64))
        seconds = float(times[-1]) + self._last_interval(times, last, fps, tick)
        damage, lost = "", self.lost_after
        if lost is not None:
            cut_off = lost >= len(times) - REORDERED
            damage = f"is cut off at {seconds:.2f} s" if cut_off else f"is damaged at {times[lost]:.2f} s"
        return Timeline(times, seconds, fps, stamps, keys, damage, checksums)

    def _rate(self, times: NDArray[np.float64], last: float, tick: float) -> float:
        """Frames a second: a usual rate where rounding the times to the time base explains the difference."""
        claimed = [rate for rate in (self.stream.average_rate, self.stream.guessed_rate) if rate]
        steps, span = (len(times) - 1, float(times[-1])) if len(times) > 1 else (1, last)
        if not span:
            return float(self.stream.average_rate or DEFAULT_FPS)
        mean = steps / span
        # A GIF claims no rate: FFmpeg makes one up.
        hints = (
            [round(mean), *claimed] if self.kind == "gif" else [*claimed, round(mean), round(mean * 1.001) / 1.001]
        )
        close = (float(rate) for rate in hints if rate > 0 and abs(steps / rate - span) <= 1.001 * tick)
        return next(close, mean)

    def _last_interval(self, times: NDArray[np.float64], last: float, fps: float, tick: float) -> float:
        """How long the last frame stands, in seconds."""
        usual = float(np.median(np.diff(times))) if len(times) > 1 else 1 / fps
        if self.kind == "matroska":  # a duration of its own, or one after a rate that the file claims
            last = last if last > 1.5 * usual else usual
        elif self.kind not in ("mov", "gif"):  # FFmpeg makes the duration up from a rate that the file claims
            last = usual
        last = last or usual
        return 1 / fps if abs(last - 1 / fps) <= tick else last
