"""Frames to files and back: a writer that streams, a reader, and a contact sheet.

The path tells the kind: `.mp4` (H.264), `.webm` (VP9), `.gif`, or a folder of `frame_000000.png` files.
Frames are RGB, uint8 [F, H, W, 3]. A video grows beside its target, as `name.part-xxxxxx.mp4`, and takes the
final name on `close()`, so whatever bears the final name is complete.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import signal
import textwrap
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

DEFAULT_FPS = 8.0
_PLAYABLE = "mov,mp4,matroska,webm,gif,avi"  # no playlists, which could have us open other files
_FRAME_FILE = re.compile(r"frame_\d{6,}\.png|\.DS_Store|Thumbs\.db|desktop\.ini")
_BACKGROUND, _INK, _SEAM = (24, 24, 28), (225, 225, 225), (240, 140, 40)  # of a contact sheet

# Decoders that ignore the tags assume BT.601: with a BT.601 matrix the tags and that guess agree.
_COLOUR = {"colorspace": "smpte170m", "color_primaries": "bt709", "color_trc": "bt709", "color_range": "tv"}
_FRAGMENTS = "frag_every_frame+empty_moov+default_base_moof+use_metadata_tags"
_REASONS = {
    errno.ENOENT: "the folder does not exist; create it first",
    errno.EACCES: "no permission to write there; choose another folder",
    errno.EPERM: "no permission to write there; choose another folder",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.ENOTDIR: "a file is where a folder should be; choose another path",
    errno.EISDIR: "a folder of that name is there; choose another name",
}


@dataclass(frozen=True)
class _Kind:
    """How PyAV writes one kind of file. No encoder looks ahead: frames are in the file soon after `write`."""

    codec: str
    pix_fmt: str
    encoder: dict[str, str]
    muxer: dict[str, str]
    crf: tuple[str, str]  # quality, for frames up to 256 x 256 and for larger ones


_H264 = {"tune": "zerolatency", "g": "32", **_COLOUR}
_VP9 = {"lag-in-frames": "0", "cpu-used": "4", "b": "0", "g": "32", **_COLOUR}
_KINDS = {
    ".mp4": _Kind("libx264", "yuv420p", _H264, {"movflags": _FRAGMENTS}, ("12", "16")),
    ".webm": _Kind("libvpx-vp9", "yuv420p", _VP9, {"cluster_time_limit": "0"}, ("12", "20")),
    ".gif": _Kind("gif", "pal8", {}, {}, ("", "")),
}


def open_video(
    path: str | os.PathLike[str],
    fps: float = DEFAULT_FPS,
    *,
    scale: int = 1,
    metadata: dict[str, str] | None = None,
    keep_on: tuple[type[BaseException], ...] = (KeyboardInterrupt,),
) -> VideoWriter:
    """Open `path` to write a video of `fps` frames a second. The path is checked now; the frames come later.

    path: ends in .mp4, .webm or .gif, or names a folder (no suffix, or a final "/") for PNG frames. A folder
    may be new, empty, or hold an older video's frames, which the new ones replace; other content is refused.
    scale: enlarge by a whole number, nearest neighbour. At 1 the half-resolution colour of mp4 and webm blurs
    coloured edges, visibly so at 64 x 64; from 2 on it does not.
    metadata: container tags; a GIF keeps them as one JSON comment, a PNG folder as text in its first frame.
    keep_on: exceptions that, ending a `with` block, keep the frames so far; any other throws them away.
    mp4 and webm need even sizes: an odd one gets its last row or column twice. GIF and PNG keep the size.
    Raises ValueError for settings that cannot be, OSError where the path cannot be written.
    """
    suffix = _suffix_of(path)
    _check_settings(suffix, fps, scale)
    # Resolved, so that a link goes on pointing where it did and a later chdir does not matter.
    target = Path(os.path.realpath(path))
    tags = metadata or {}
    sink = _FileSink(target, suffix, fps, tags) if suffix else _FolderSink(target, fps, tags)
    with _reasons_given(path):
        sink.reserve()
    return VideoWriter(os.fspath(path), sink, scale, keep_on)


class VideoWriter:
    """A video being written, in memory that does not grow with its length; made by `open_video`.

    `close()` puts the video in place; without a frame it leaves no file, and an older one as it was. In a
    `with` block Ctrl-C keeps the frames so far, another exception throws them away. Of a killed process the
    `.part-` file remains, which plays up to its last frame but one.
    """

    def __init__(
        self, path: str, sink: _FileSink | _FolderSink, scale: int, keep_on: tuple[type[BaseException], ...]
    ) -> None:
        self.path, self.frames_written, self.closed = path, 0, False
        self._sink, self._scale, self._keep_on = sink, scale, keep_on
        self._shape: tuple[int, ...] = ()

    def write(self, frames: np.ndarray | torch.Tensor) -> None:
        """Append uint8 frames [F, H, W, 3], F at least 1, H and W as in the first call.

        Raises ValueError for other frames or after `close()`, OSError if the disk does not take them.
        """
        if self.closed:
            raise ValueError(f"{self.path} is closed; open it again to write a new video")
        array = _checked(frames)
        self._shape = self._shape or array.shape[1:]
        if array.shape[1:] != self._shape:
            first, now = (f"{shape[1]} x {shape[0]}" for shape in (self._shape, array.shape[1:]))
            raise ValueError(f"a video has frames of one size: the first were {first} pixels, these are {now}")
        for frame in array:
            enlarged = _enlarged(frame, self._scale)
            with _interrupts_held(), _reasons_given(self.path):
                self._sink.add(enlarged)
                self.frames_written += 1

    def close(self) -> None:
        """Finish the video and put it in place; a second call does nothing. Ctrl-C waits until it is done.

        Raises OSError if that fails; what was written is then kept, and the message says where.
        """
        if self.closed or not self.frames_written:
            return self.discard()
        self.closed = True
        with _interrupts_held():
            try:
                self._sink.finish()
            except OSError as error:
                reason = _REASONS.get(error.errno or 0, error.strerror)
                message = f"could not finish {self.path}: {reason}. What was written is in {self._sink.part}"
                raise OSError(error.errno, message) from error

    def discard(self) -> None:
        """Stop and throw away what was written; an older video of that name stays as it was."""
        if not self.closed:
            self.closed = True
            with _interrupts_held():
                self._sink.discard()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, self._keep_on):
            self.close()
        else:
            self.discard()


class _FileSink:
    """One growing file, through PyAV."""

    def __init__(self, target: Path, suffix: str, fps: float, metadata: dict[str, str]) -> None:
        self.target, self.part, self.kind, self.format = target, _part_of(target), _KINDS[suffix], suffix[1:]
        self.rate, self.metadata = Fraction(fps).limit_denominator(1001), metadata
        self.container: Any = None
        self.stream: Any = None
        self.count = 0

    def reserve(self) -> None:
        if self.target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        self.part.touch(exist_ok=False)

    def add(self, frame: np.ndarray) -> None:
        picture = _palette_picture(frame) if self.kind.pix_fmt == "pal8" else _yuv_picture(frame)
        if self.container is None:
            self.start(picture.height, picture.width)
        picture.pts, picture.time_base = self.count, 1 / self.rate
        self.container.mux(self.stream.encode(picture))
        self.count += 1

    def start(self, height: int, width: int) -> None:
        self.container = self.open(self.part, self.kind.muxer)
        self.stream = self.container.add_stream(self.kind.codec, rate=self.rate)
        self.stream.height, self.stream.width, self.stream.pix_fmt = height, width, self.kind.pix_fmt
        crf = self.kind.crf[height * width > 256 * 256]
        self.stream.options = self.kind.encoder | ({"crf": crf} if crf else {})

    def open(self, path: Path, options: dict[str, str]) -> Any:
        container = av.open(str(path), "w", format=self.format, options={"flush_packets": "1", **options})
        container.metadata.update(self.metadata)
        return container

    def finish(self) -> None:
        self.container.mux(self.stream.encode(None))
        self.container.close()
        if self.format == "gif" and self.metadata:
            _append_gif_comment(self.part, json.dumps(self.metadata))
        if self.format == "mp4":
            self.join_fragments()
        os.replace(self.part, self.target)

    def join_fragments(self) -> None:
        """Copy the packets into an MP4 with one index, in front: what players and browsers seek in best."""
        joined = _part_of(self.target)
        try:
            options = {"movflags": "faststart+use_metadata_tags"}
            with av.open(str(self.part)) as source, self.open(joined, options) as copy:
                stream = _stream_like(copy, source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.dts is not None:  # the demuxer ends with an empty packet
                        packet.stream = stream
                        copy.mux(packet)
            os.replace(joined, self.part)
        except (OSError, av.error.FFmpegError, AttributeError):
            # No room for a copy, or a PyAV that cannot (14.0, 14.1): the fragmented file is whole as well.
            joined.unlink(missing_ok=True)

    def discard(self) -> None:
        if self.container is not None:
            with contextlib.suppress(av.error.FFmpegError):
                self.container.close()
        self.part.unlink(missing_ok=True)


class _FolderSink:
    """A folder of PNG files; the first carries the frame rate and the metadata."""

    def __init__(self, target: Path, fps: float, metadata: dict[str, str]) -> None:
        self.target, self.part, self.count = target, _part_of(target), 0
        self.text = {"fps": repr(float(fps)), **metadata}

    def reserve(self) -> None:
        if self.target.exists() and not self.target.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "is a file")
        self.refuse_other_content()
        self.part.mkdir()

    def refuse_other_content(self) -> None:
        for name in os.listdir(self.target) if self.target.is_dir() else ():
            if not _FRAME_FILE.fullmatch(name):
                reason = f"the folder holds other files ({name}); choose a new one or one of only frame_*.png"
                raise FileExistsError(errno.EEXIST, reason)

    def add(self, frame: np.ndarray) -> None:
        info = PngInfo()
        for key, value in self.text.items() if self.count == 0 else ():
            info.add_text(key, value)
        Image.fromarray(frame).save(self.part / f"frame_{self.count:06d}.png", pnginfo=info)
        self.count += 1

    def finish(self) -> None:
        self.refuse_other_content()  # the old folder goes as a whole
        old = _part_of(self.target)
        if self.target.exists():
            os.replace(self.target, old)
        try:
            os.replace(self.part, self.target)
        except OSError:
            if old.exists():
                os.replace(old, self.target)
            raise
        shutil.rmtree(old, ignore_errors=True)

    def discard(self) -> None:
        shutil.rmtree(self.part, ignore_errors=True)


def read_video(path: str | os.PathLike[str]) -> tuple[np.ndarray, float]:
    """Read a video file, or a folder of PNG files by number: (uint8 [F, H, W, 3], frames a second).

    A PNG folder that does not say its rate, as `open_video`'s do, has DEFAULT_FPS.
    Raises FileNotFoundError, and ValueError for a file that is damaged or no video.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(errno.ENOENT, "no such video", os.fspath(path))
    frames, fps = _read_folder(Path(path)) if os.path.isdir(path) else _read_file(path)
    if not frames:
        raise ValueError(f"{path} is damaged or still empty: it has no frames")
    if others := {frame.shape for frame in frames} - {frames[0].shape}:
        raise ValueError(f"{path} mixes frames of {frames[0].shape} and {min(others)}")
    return np.stack(frames), fps


def _read_file(path: str | os.PathLike[str]) -> tuple[list[np.ndarray], float]:
    frames: list[np.ndarray] = []
    try:
        with av.open(os.path.abspath(path), options={"format_whitelist": _PLAYABLE}) as container:
            if not container.streams.video:
                raise ValueError(f"{path} has no video in it")
            stream = container.streams.video[0]
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    raise ValueError(f"{path} is damaged after {len(frames)} frames")
                frames.append(frame.to_ndarray(format="rgb24"))
                begun = frame.time or 0.0  # when the last frame so far begins, in seconds
            length = (container.duration or 0) / av.time_base
            if frames and len(container.streams) == 1 and length - begun > 1 + 2 * begun / len(frames):
                raise ValueError(f"{path} is cut off at {begun:.2f} s of its {length:.2f} s")
            rate = float(stream.average_rate or DEFAULT_FPS)
            if frames and container.format.name == "gif":
                rate = _gif_rate(len(frames), begun, rate)
            return frames, rate
    except av.error.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        state = f"damaged after {len(frames)} frames" if frames else "damaged, or no mp4, webm or gif video"
        raise ValueError(f"{path} is {state} ({error.strerror})") from error


def _gif_rate(count: int, begun: float, rate: float) -> float:
    """Frames a second of a GIF: a whole number where rounding its times to 1/100 s explains it."""
    steps, seconds = (count - 1, begun) if begun else (1, 1 / rate)
    whole = max(1, round(steps / seconds))
    return float(whole) if abs(steps / whole - seconds) <= 0.01 else steps / seconds


def _read_folder(folder: Path) -> tuple[list[np.ndarray], float]:
    files = sorted(folder.glob("*.png"), key=lambda file: [int(n) for n in re.findall(r"\d+", file.stem)])
    frames, fps = [], DEFAULT_FPS
    for file in files:
        try:
            with Image.open(file) as image:
                frames.append(np.asarray(image.convert("RGB")))
                fps = float(image.info["fps"]) if file == files[0] and "fps" in image.info else fps
        except (OSError, SyntaxError, ValueError) as error:  # Pillow's three ways to say so
            raise ValueError(f"{file} is damaged or no PNG image ({error})") from error
    return frames, fps


def contact_sheet(
    videos: Sequence[np.ndarray | torch.Tensor],
    path: str | os.PathLike[str] | None = None,
    labels: Sequence[str] | None = None,
    every: int = 1,
    scale: int = 1,
    gap: int = 2,
    seam_every: int | None = None,
) -> Image.Image:
    """Draw videos, each uint8 [F, H, W, 3], as rows of frames from left to right; `path` saves the picture.

    labels: one a video, written above its row. every: show only frames 0, every, 2 * every and so on. scale:
    enlarge by a whole number. gap: pixels between frames. seam_every: a bar between clips of so many frames.
    Raises ValueError for frames that do not fit this, or another number of labels than of videos.
    """
    if not len(videos) or (labels is not None and len(labels) != len(videos)):
        raise ValueError(f"need a label a video: got {len(videos)} videos and {len(labels or ())} labels")
    if every < 1 or scale < 1 or gap < 0 or (seam_every is not None and seam_every < 1):
        raise ValueError(f"need {every=}, {scale=} and {seam_every=} from 1 on, {gap=} from 0 on")
    rows = [_strip(_checked(video), every, scale, gap, seam_every) for video in videos]
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
        with _reasons_given(path):
            sheet.save(path)
    return sheet


def _strip(video: np.ndarray, every: int, scale: int, gap: int, seam_every: int | None) -> Image.Image:
    """One row of a contact sheet; between clips there is a bar, with a gap on either side."""
    height = video.shape[1] * scale
    space = np.full((height, gap, 3), _BACKGROUND, np.uint8)
    bar = np.full((height, max(gap, 2), 3), _SEAM, np.uint8)
    pieces: list[np.ndarray] = []
    clip = 0
    for index in range(0, len(video), every):
        now = index // (seam_every or len(video))
        pieces += [bar, space] if now != clip else []
        pieces += [_enlarged(video[index], scale), space]
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


def _suffix_of(path: str | os.PathLike[str]) -> str:
    """ ".mp4", ".webm", ".gif", or "" for a folder of PNG files."""
    text = os.fspath(path)
    suffix = Path(text).suffix.lower()
    if text.endswith(("/", os.sep)) or not suffix or (suffix not in _KINDS and os.path.isdir(text)):
        return ""
    if suffix not in _KINDS:
        known = ", ".join(_KINDS)
        raise ValueError(f"cannot write {text}: '{suffix}' is not {known} or, for PNG frames, a folder ('name/')")
    return suffix


def _check_settings(suffix: str, fps: float, scale: int) -> None:
    if not 0.01 <= fps <= 1000:
        raise ValueError(f"fps must be from 0.01 to 1000, got {fps}")
    if suffix == ".gif" and fps > 50:
        raise ValueError(f"a GIF shows at most 50 frames a second, got {fps:g}; write .mp4 or .webm")
    if scale < 1 or scale != int(scale):
        raise ValueError(f"scale must be a whole number from 1 on, got {scale}")


def _checked(frames: np.ndarray | torch.Tensor) -> np.ndarray:
    """The frames as an array, if they are uint8 [F, H, W, 3] and there are any."""
    shape = list(np.shape(frames))
    if len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise ValueError(f"frames must be [F, H, W, 3] with at least one frame, got {shape}")
    dtype = getattr(frames, "dtype", type(frames).__name__)
    if str(dtype) not in ("uint8", "torch.uint8"):
        raise ValueError(f"frames must be uint8 from 0 to 255, got {dtype}")
    return frames.detach().cpu().numpy() if isinstance(frames, torch.Tensor) else frames


def _enlarged(frame: np.ndarray, scale: int) -> np.ndarray:
    return np.ascontiguousarray(frame.repeat(scale, 0).repeat(scale, 1))


def _yuv_picture(frame: np.ndarray) -> av.VideoFrame:
    """Half-resolution colour, each colour sample the mean of its four pixels."""
    even = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
    return av.VideoFrame.from_ndarray(even, format="rgb24").reformat(format="yuv420p", interpolation="AREA")


def _palette_picture(frame: np.ndarray) -> av.VideoFrame:
    """256 colours of this frame's own, so that no other need be known; without dither, which would crawl."""
    image = Image.fromarray(frame).quantize(256, method=Image.Quantize.MEDIANCUT)
    colours = np.asarray(image.getpalette(), np.uint8).reshape(-1, 3)
    palette = np.full((256, 4), 255, np.uint8)  # alpha, red, green, blue
    palette[: len(colours), 1:] = colours
    pixels: Any = (np.asarray(image), palette)
    return av.VideoFrame.from_ndarray(pixels, format="pal8")


def _append_gif_comment(path: Path, text: str) -> None:
    data = text.encode()
    blocks = [data[i : i + 255] for i in range(0, len(data), 255)]
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)  # over the trailer byte, which is written anew
        file.write(b"!\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0;")


def _stream_like(container: Any, template: Any) -> Any:
    """A stream that takes the packets of another as they are."""
    if hasattr(container, "add_stream_from_template"):  # opaque: PyAV 14.2 would make a new header otherwise
        return container.add_stream_from_template(template, opaque=True)
    return container.add_stream(template=template)  # before PyAV 14


def _part_of(target: Path) -> Path:
    """A name of our own beside the target, on the same disk, with the suffix that players go by."""
    return target.with_name(f"{target.stem}.part-{secrets.token_hex(3)}{target.suffix}")


@contextlib.contextmanager
def _reasons_given(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an OSError of the block into one of the same kind that says what, where and how to mend it."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise OSError(error.errno, f"cannot write {os.fspath(path)}: {reason}") from error


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait until the block is done, so that it never parts encoding a frame from storing it."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    held: list[Any] = []
    signal.signal(signal.SIGINT, lambda *received: held.append(received))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if held:
            handler(*held[0])
