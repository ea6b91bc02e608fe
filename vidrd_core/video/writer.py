"""Write a video while its frames are being made, in constant memory."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
import torch

from vidrd_core.io.os_errors import why
from vidrd_core.video.animations import ANIMATIONS
from vidrd_core.video.reader import DEFAULT_FPS
from vidrd_core.video.sinks import FASTEST, SUFFIXES, AnimationSink, FileSink, FolderSink, check_size, write_errors
from vidrd_core.video.tensors import check_frames, enlarge

Sink = FileSink | AnimationSink | FolderSink


def open_video(
    path: str | os.PathLike[str],
    fps: float = DEFAULT_FPS,
    *,
    scale: int = 1,
    size: tuple[int, int] | None = None,
    metadata: dict[str, str] | None = None,
    keep_on: tuple[type[BaseException], ...] = (KeyboardInterrupt,),
) -> VideoWriter:
    """Open a video file or a folder of PNG frames for writing.

    mp4 and webm need even sizes: of an odd one the last row or column is repeated. The others keep the size. APNG is
    lossless, and so is WebP up to 256 x 256 pixels. An animated PNG ends in .apng, for .png is the name of a still.

    Args:
        path: A name that ends in .mp4, .webm, .gif, .webp or .apng, or a folder for PNG frames (no suffix, or a final
            "/"). A folder may be new, empty, or hold an older video's frames, which are replaced.
        fps: Frames per second, 0.01 to 1000; at most 50 for a GIF, 90 for a WebP or APNG, for browsers' sake.
        scale: Enlarge by this whole number, nearest neighbour. At 1 the half-resolution colour of mp4 and webm blurs
            coloured edges, visibly so at 64 x 64 pixels; from 2 on it does not.
        size: Width and height of the frames in pixels, if they are known: too large ones are refused at once.
        metadata: Container tags; a GIF keeps them as a JSON comment, a WebP as EXIF in ComfyUI's form, an APNG and
            a PNG folder as text, the latter in its first frame.
        keep_on: Exceptions that keep the frames so far when they end a `with` block; others discard them.

    Returns:
        A writer: `write` frames to it and `close` it, or use it in a `with` block.

    Raises:
        ValueError: The name, the rate, the scale or the size is not valid.
        OSError: The path cannot be written.

    Example:
        >>> with open_video("long.mp4", fps=8, scale=2) as video:
        ...     video.write(np.zeros((5, 64, 64, 3), np.uint8))
        >>> video.frames_written
        5
    """
    suffix = check_video(path, fps, scale, size)
    # Resolved, so that a link stays a link and a later chdir does not matter.
    target = Path(os.path.realpath(path))
    tags = metadata or {}
    sink: Sink = FolderSink(target, fps, tags)
    if suffix:
        sink = (AnimationSink if suffix in ANIMATIONS else FileSink)(target, suffix, fps, tags)
    with write_errors(path):
        sink.reserve()
    return VideoWriter(os.fspath(path), sink, scale, keep_on)


def check_video(
    path: str | os.PathLike[str], fps: float = DEFAULT_FPS, scale: int = 1, size: tuple[int, int] | None = None
) -> str:
    """Check what `open_video` is given, without writing.

    Args:
        path: As for `open_video`.
        fps: Frames per second.
        scale: How many times frames are enlarged.
        size: Width and height of the frames in pixels, if they are known.

    Returns:
        The kind of the video; see `suffix_of`.

    Raises:
        ValueError: The name, the rate, the scale or the size is not valid.
    """
    suffix = suffix_of(path)
    _check_settings(suffix, fps, scale)
    if size and suffix:
        check_size(suffix, scale * size[0], scale * size[1])
    return suffix


class VideoWriter:
    """A video that is being written, in constant memory; `open_video` makes it.

    `close()` gives the video its final name; without a frame it leaves no file, and an older one as it was. In a
    `with` block Ctrl-C keeps the frames so far, another exception discards them. A killed process leaves the
    `.part-` file, which plays up to its last frame but one; the next video in that folder removes it.

    Args:
        path: The path that the caller gave, for messages.
        sink: What the frames are written to, already reserved.
        scale: How many times frames are enlarged.
        keep_on: Exceptions that keep the frames so far when they end a `with` block.

    Attributes:
        frames_written: How many frames there are so far.
        closed: Whether the video is finished or discarded.
        close_failed: Whether closing failed; what was written is then in an `.unfinished-` file.
    """

    def __init__(self, path: str, sink: Sink, scale: int, keep_on: tuple[type[BaseException], ...]) -> None:
        self.path, self.frames_written, self.closed = path, 0, False
        self.close_failed = False
        self._sink, self._scale, self._keep_on = sink, scale, keep_on
        self._shape: tuple[int, ...] = ()
        self._is_cut = False

    def write(self, frames: np.ndarray | torch.Tensor) -> None:
        """Append frames.

        Args:
            frames: uint8 [F, H, W, 3], F at least 1, H and W as in the first call.

        Raises:
            ValueError: The frames have another shape, size or dtype, or the video is closed.
            OSError: The frames cannot be written.
        """
        if self.closed:
            raise ValueError(f"{self.path} is closed; open it again to write a new video")
        array = check_frames(frames)
        self._shape = self._shape or array.shape[1:]
        if array.shape[1:] != self._shape:
            first, now = (f"{shape[1]} x {shape[0]}" for shape in (self._shape, array.shape[1:]))
            raise ValueError(f"a video has frames of one size: the first were {first} pixels, these are {now}")
        if self._is_cut:
            raise OSError(f"cannot write {self.path}: a frame before could not be written")
        for frame in array:
            shown = enlarge(frame, self._scale)
            with _interrupts_delayed():
                try:
                    with write_errors(self.path):
                        self._sink.add(shown)
                except OSError:
                    self._cut()
                    raise
                self.frames_written += 1

    @property
    def is_whole(self) -> bool:
        """Whether all frames that it was given could be written."""
        return not self._is_cut

    def _cut(self) -> None:
        """Make what was written before a frame that could not be written whole."""
        self._is_cut = True
        try:
            self.frames_written = self._sink.cut()
        except (OSError, av.error.FFmpegError):
            self.frames_written = 0

    def close(self) -> None:
        """Finish the video and give it its final name; a second call does nothing. Ctrl-C waits until it is done.

        Raises:
            OSError: The video could not be finished; what was written is kept, and the message names the file.
        """
        if self.closed or not self.frames_written:
            return self.discard()
        self.closed = True
        with _interrupts_delayed():
            try:
                self._sink.finish()
            except OSError as error:
                self.close_failed = True
                reason = why(error.errno, str(error))
                message = f"could not finish {self.path}: {reason}. What was written is in {self._sink.part.keep()}"
                raise OSError(error.errno, message) from error

    def discard(self) -> None:
        """Stop and remove what was written; an older video of that name stays as it was."""
        if not self.closed:
            self.closed = True
            with _interrupts_delayed():
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


def suffix_of(path: str | os.PathLike[str]) -> str:
    """Tell the kind of a video from its path.

    Args:
        path: A file name, or a folder's.

    Returns:
        ".mp4", ".webm", ".gif", ".webp", ".apng", or "" for a folder of PNG files.

    Raises:
        ValueError: The path has no name or an unknown suffix.
    """
    text = os.fspath(path)
    if not text.strip() or text == "-" or text.lower() in SUFFIXES or not Path(os.path.realpath(text)).name:
        raise ValueError(f"cannot write {text!r}: give a name, like long.mp4")
    suffix = Path(text).suffix.lower()
    if text.endswith(("/", os.sep)) or not suffix or (suffix not in SUFFIXES and os.path.isdir(text)):
        return ""
    if suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        hint = "; an animated PNG ends in .apng" if suffix == ".png" else ""
        raise ValueError(
            f"cannot write {text}: '{suffix}' is not {known} or, for PNG frames, a folder ('name/'){hint}"
        )
    return suffix


def _check_settings(suffix: str, fps: float, scale: int) -> None:
    """Raise ValueError for a frame rate or a scale that is out of range."""
    if not 0.01 <= fps <= 1000:
        raise ValueError(f"fps must be from 0.01 to 1000, got {fps}")
    if fps > FASTEST.get(suffix, fps):
        most = f"at most {FASTEST[suffix]} frames per second, got {fps:g}"
        raise ValueError(f"browsers show {most}, of a file in {suffix}; write .mp4 or .webm")
    if scale < 1 or scale != int(scale):
        raise ValueError(f"scale must be a whole number, 1 or more, got {scale}")


@contextlib.contextmanager
def _interrupts_delayed() -> Iterator[None]:
    """Delay Ctrl-C until the block is done, so that it never falls between encoding a frame and storing it."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    received: list[Any] = []
    signal.signal(signal.SIGINT, lambda *arguments: received.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if received:
            handler(*received[0])
