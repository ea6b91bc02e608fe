"""A video that is written as its frames come, in memory that does not grow with its length."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from vidrd_core.io.os_errors import why
from vidrd_core.video.frames import checked, enlarged, reasons_given
from vidrd_core.video.reader import DEFAULT_FPS
from vidrd_core.video.sinks import KINDS, FileSink, FolderSink, check_size


def open_video(
    path: str | os.PathLike[str],
    fps: float = DEFAULT_FPS,
    *,
    scale: int = 1,
    size: tuple[int, int] | None = None,
    metadata: dict[str, str] | None = None,
    keep_on: tuple[type[BaseException], ...] = (KeyboardInterrupt,),
) -> VideoWriter:
    """Open `path` to write a video of `fps` frames a second. The path is checked now; the frames come later.

    path: ends in .mp4, .webm or .gif, or names a folder (no suffix, or a final "/") for PNG frames. A folder
    may be new, empty, or hold an older video's frames, which the new ones replace; other content is refused.
    scale: enlarge by a whole number, nearest neighbour. At 1 the half-resolution colour of mp4 and webm blurs
    coloured edges, visibly so at 64 x 64; from 2 on it does not.
    size: width and height of the frames to come, if they are known: too large ones are refused at once.
    metadata: container tags; a GIF keeps them as one JSON comment, a PNG folder as text in its first frame.
    keep_on: exceptions that, ending a `with` block, keep the frames so far; any other throws them away.
    mp4 and webm need even sizes: an odd one gets its last row or column twice. GIF and PNG keep the size.
    Raises ValueError for settings that cannot be, OSError where the path cannot be written.
    """
    suffix = suffix_of(path)
    _check_settings(suffix, fps, scale)
    if size and suffix:
        check_size(suffix, scale * size[0], scale * size[1])
    # Resolved, so that a link goes on pointing where it did and a later chdir does not matter.
    target = Path(os.path.realpath(path))
    tags = metadata or {}
    sink = FileSink(target, suffix, fps, tags) if suffix else FolderSink(target, fps, tags)
    with reasons_given(path):
        sink.reserve()
    return VideoWriter(os.fspath(path), sink, scale, keep_on)


class VideoWriter:
    """A video being written, in memory that does not grow with its length; made by `open_video`.

    `close()` puts the video in place; without a frame it leaves no file, and an older one as it was. In a
    `with` block Ctrl-C keeps the frames so far, another exception throws them away. Of a killed process the
    `.part-` file remains, which plays up to its last frame but one.
    """

    def __init__(
        self, path: str, sink: FileSink | FolderSink, scale: int, keep_on: tuple[type[BaseException], ...]
    ) -> None:
        self.path, self.frames_written, self.closed = path, 0, False
        self.stranded = False  # closing failed: what was written bears another name
        self._sink, self._scale, self._keep_on = sink, scale, keep_on
        self._shape: tuple[int, ...] = ()

    def write(self, frames: np.ndarray | torch.Tensor) -> None:
        """Append uint8 frames [F, H, W, 3], F at least 1, H and W as in the first call.

        Raises ValueError for other frames or after `close()`, OSError if the disk does not take them.
        """
        if self.closed:
            raise ValueError(f"{self.path} is closed; open it again to write a new video")
        array = checked(frames)
        self._shape = self._shape or array.shape[1:]
        if array.shape[1:] != self._shape:
            first, now = (f"{shape[1]} x {shape[0]}" for shape in (self._shape, array.shape[1:]))
            raise ValueError(f"a video has frames of one size: the first were {first} pixels, these are {now}")
        for frame in array:
            shown = enlarged(frame, self._scale)
            with _interrupts_held(), reasons_given(self.path):
                self._sink.add(shown)
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
                self.stranded = True
                reason = why(error.errno, str(error))
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


def suffix_of(path: str | os.PathLike[str]) -> str:
    """ ".mp4", ".webm", ".gif", or "" for a folder of PNG files."""
    text = os.fspath(path)
    if not text.strip() or text == "-" or text.lower() in KINDS or not Path(os.path.realpath(text)).name:
        raise ValueError(f"cannot write {text!r}: give a name, like long.mp4")
    suffix = Path(text).suffix.lower()
    if text.endswith(("/", os.sep)) or not suffix or (suffix not in KINDS and os.path.isdir(text)):
        return ""
    if suffix not in KINDS:
        known = ", ".join(KINDS)
        raise ValueError(f"cannot write {text}: '{suffix}' is not {known} or, for PNG frames, a folder ('name/')")
    return suffix


def _check_settings(suffix: str, fps: float, scale: int) -> None:
    if not 0.01 <= fps <= 1000:
        raise ValueError(f"fps must be from 0.01 to 1000, got {fps}")
    if suffix == ".gif" and fps > 50:
        raise ValueError(f"a GIF shows at most 50 frames a second, got {fps:g}; write .mp4 or .webm")
    if scale < 1 or scale != int(scale):
        raise ValueError(f"scale must be a whole number from 1 on, got {scale}")


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
