"""What a `VideoWriter` writes to: one growing file, encoded by FFmpeg or Pillow, or a folder of PNG files."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vidrd_core.io.os_errors import cannot_write
from vidrd_core.io.partial import REPLACING, Part, exchange, sweep
from vidrd_core.video.animations import ANIMATIONS, Animation
from vidrd_core.video.pictures import YUV_TAGS, YuvConverter, palette_picture
from vidrd_core.video.remux import append_comment, join_files, open_container

_FRAME_FILE = re.compile(r"frame_\d{6,}\.png|\.replacing|\.DS_Store|Thumbs\.db|desktop\.ini")

GIF_END = b";"
_FRAGMENTS = "frag_every_frame+empty_moov+default_base_moof+use_metadata_tags"


@dataclass(frozen=True)
class _Kind:
    """How one kind of file is encoded. No encoder looks ahead: frames are in the file soon after `write`.

    Args:
        codec: FFmpeg's encoder.
        pix_fmt: Its pixel format.
        encoder: Its options.
        muxer: The container's options.
        crf: The constant rate factor, for frames up to 256 x 256 pixels and for larger ones; "" for none.
        largest: The largest width and height in pixels.
    """

    codec: str
    pix_fmt: str
    encoder: dict[str, str]
    muxer: dict[str, str]
    crf: tuple[str, str]
    largest: int


# x264 divides frames by its threads: with one for each core, as by default, pictures would depend on the machine.
_THREADS = {"threads": "4"}
_H264 = {"tune": "zerolatency", "g": "32", **_THREADS, **YUV_TAGS}
_VP9 = {"lag-in-frames": "0", "cpu-used": "4", "b": "0", "g": "32", **_THREADS, **YUV_TAGS}
KINDS = {
    ".mp4": _Kind("libx264", "yuv420p", _H264, {"movflags": _FRAGMENTS}, ("12", "14"), 16384),
    ".webm": _Kind("libvpx-vp9", "yuv420p", _VP9, {"cluster_time_limit": "0"}, ("12", "20"), 65535),
    ".gif": _Kind("gif", "pal8", {"global_palette": "0"}, {}, ("", ""), 65535),
}


SUFFIXES = (*KINDS, *ANIMATIONS)
# Frames a second. Browsers show a frame that should stand for 10 ms or less for 100 ms; a GIF counts in 10 ms.
FASTEST = {".gif": 50, ".webp": 90, ".apng": 90}


def check_size(suffix: str, width: int, height: int) -> None:
    """Raise ValueError for frames, in pixels, that are too large for the kind of file with this suffix."""
    largest = KINDS[suffix].largest if suffix in KINDS else ANIMATIONS[suffix].largest
    if max(width, height) > largest:
        raise ValueError(
            f"{suffix[1:]} frames are at most {largest} pixels wide and high, these are {width} x {height}: "
            f"write smaller ones, or PNG frames (a folder)"
        )


class FileSink:
    """One growing file, encoded by FFmpeg.

    Args:
        target: The final name of the file.
        suffix: Its kind: ".mp4", ".webm" or ".gif".
        fps: Frames per second.
        metadata: Container tags.
    """

    def __init__(self, target: Path, suffix: str, fps: float, metadata: dict[str, str]) -> None:
        self.target, self.part, self.kind, self.format = target, Part(target), KINDS[suffix], suffix[1:]
        self.rate, self.metadata = frame_rate(fps), metadata
        self.container: Any = None
        self.stream: Any = None
        self.convert: Callable[[np.ndarray], av.VideoFrame] | None = None
        self.count = self.whole = 0  # frames; bytes up to the end of the last of them that is whole
        self.is_cut = False

    def reserve(self) -> None:
        """Create the partial file. Raises OSError if the target cannot be written."""
        _reserve_file(self.target, self.part)

    def add(self, frame: np.ndarray) -> None:
        """Encode a frame, uint8 [H, W, 3]."""
        if self.convert is None:
            self.convert = palette_picture if self.format == "gif" else YuvConverter(*frame.shape[:2])
        picture = self.convert(frame)
        if self.container is None:
            self.start(picture.height, picture.width)
        picture.pts, picture.time_base = self.count, 1 / self.rate
        self.container.mux(self.stream.encode(picture))
        self.whole = self.part.path.stat().st_size
        self.count += 1

    def start(self, height: int, width: int) -> None:
        """Open the container and the encoder for frames of this size in pixels."""
        check_size("." + self.format, width, height)
        self.container = open_container(self.part.path, self.format, self.kind.muxer, self.metadata)
        self.stream = self.container.add_stream(self.kind.codec, rate=self.rate)
        self.stream.height, self.stream.width, self.stream.pix_fmt = height, width, self.kind.pix_fmt
        crf = self.kind.crf[height * width > 256 * 256]
        self.stream.options = self.kind.encoder | ({"crf": crf} if crf else {})

    def cut(self) -> int:
        """After a failed `add`: take away what it left, so that the file is whole; return how many frames it has."""
        self.is_cut = True
        with contextlib.suppress(OSError, av.error.FFmpegError):
            self.container.close()  # what it still writes is taken away, too
        os.truncate(self.part.path, self.whole)
        if self.format == "gif":
            with self.part.path.open("ab") as file:
                file.write(GIF_END)
        with av.open(str(self.part.path)) as read:
            return sum(packet.size > 0 for packet in read.demux(video=0))

    def finish(self) -> None:
        """Finish encoding and rename the partial file to the target."""
        if not self.is_cut:
            self.container.mux(self.stream.encode(None))
            self.container.close()
            if self.format == "gif":
                append_comment(self.part.path, self.metadata)
            if self.format == "mp4":
                self.join_fragments()
        os.replace(self.part.path, self.target)
        self.part.release()

    def join_fragments(self) -> None:
        """Remux a fragmented MP4 into one with a single index."""
        joined = Part(self.target)
        try:
            joined.create()
            join_files([(self.part.path, None)], joined.path, self.rate, self.metadata)
            self.part.take(joined)
        except (OSError, av.error.FFmpegError):  # no space for a copy: the fragmented file is complete, too
            joined.remove()

    def discard(self) -> None:
        """Remove the partial file."""
        if self.container is not None:
            with contextlib.suppress(av.error.FFmpegError):
                self.container.close()
        self.part.remove()


class AnimationSink:
    """One growing file, encoded by Pillow.

    Args:
        target: The final name of the file.
        suffix: Its kind: ".webp" or ".apng".
        fps: Frames per second.
        metadata: Texts by name.
    """

    def __init__(self, target: Path, suffix: str, fps: float, metadata: dict[str, str]) -> None:
        self.target, self.part, self.suffix = target, Part(target), suffix
        self.rate, self.metadata, self.count = frame_rate(fps), metadata, 0
        self.animation: Animation | None = None
        self.whole, self.ends = 0, (b"", b"")  # bytes of the whole file, its first ones and its last ones

    def reserve(self) -> None:
        """Create the partial file. Raises OSError if the target cannot be written."""
        _reserve_file(self.target, self.part)

    def add(self, frame: np.ndarray) -> None:
        """Encode a frame, uint8 [H, W, 3]."""
        image = Image.fromarray(frame)
        if self.animation is None:
            check_size(self.suffix, *image.size)
            self.animation = ANIMATIONS[self.suffix](self.part.path, image.size, self.rate, self.metadata)
        self.animation.add(self.animation.encode(image))
        self.count += 1
        self.whole = self.part.path.stat().st_size
        with self.part.path.open("rb") as file:
            self.ends = file.read(self.animation.head), _last_bytes(file, self.animation.END)

    def cut(self) -> int:
        """After a failed `add`: give the file back the end and the head that it had before; return its frames."""
        if self.animation:
            with contextlib.suppress(OSError):
                self.animation.file.close()
            self.animation = None
        os.truncate(self.part.path, self.whole)
        if self.count:
            with self.part.path.open("r+b") as file:
                file.write(self.ends[0])
                file.seek(-len(self.ends[1]), os.SEEK_END)
                file.write(self.ends[1])
        return self.count

    def finish(self) -> None:
        """Finish the file and rename it to the target."""
        if self.animation:
            self.animation.close()
        os.replace(self.part.path, self.target)
        self.part.release()

    def discard(self) -> None:
        """Remove the partial file."""
        if self.animation:
            with contextlib.suppress(OSError):
                self.animation.file.close()
        self.part.remove()


class FolderSink:
    """A folder of PNG files; the first one holds the frame rate and the metadata.

    Args:
        target: The folder's final name.
        fps: Frames per second.
        metadata: Text chunks of the first file.
    """

    def __init__(self, target: Path, fps: float, metadata: dict[str, str]) -> None:
        self.target, self.part, self.count = target, Part(target), 0
        self.text = {"fps": repr(float(fps)), **metadata}

    def reserve(self) -> None:
        """Create the partial folder. Raises OSError if the target holds other files or cannot be written."""
        if self.target.exists() and not self.target.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "is a file")
        if self.target.is_dir():
            sweep(self.target)
        self.refuse_other_content()
        self.part.create(folder=True)

    def refuse_other_content(self) -> None:
        """Raise FileExistsError if the target holds files that are not frames."""
        for name in os.listdir(self.target) if self.target.is_dir() else ():
            if not _FRAME_FILE.fullmatch(name):
                reason = f"the folder holds other files ({name}); choose a new one or one of only frame_*.png"
                raise FileExistsError(errno.EEXIST, reason)

    def add(self, frame: np.ndarray) -> None:
        """Write a frame, uint8 [H, W, 3]."""
        info = PngInfo()
        for key, value in self.text.items() if self.count == 0 else ():
            info.add_text(key, value)
        Image.fromarray(frame).save(self.part.path / f"frame_{self.count:06d}.png", pnginfo=info)
        self.count += 1

    def cut(self) -> int:
        """After a failed `add`: remove what it left; return how many frames there are."""
        (self.part.path / f"frame_{self.count:06d}.png").unlink(missing_ok=True)
        return self.count

    def finish(self) -> None:
        """Move the frames to the target, in place of an older video's."""
        self.refuse_other_content()
        if not self.target.exists():
            os.replace(self.part.path, self.target)
            self.part.release()
            return
        if not self._exchanged():
            with replacing(self.target):
                new = sorted(os.listdir(self.part.path))
                for name in new:
                    shutil.move(self.part.path / name, self.target / name)
                for name in set(os.listdir(self.target)) - {*new, REPLACING}:
                    (self.target / name).unlink()
        self.part.remove()

    def _exchanged(self) -> bool:
        """Exchange the folders in one step, but for a mount and for the working directory, which have to stay."""
        if os.path.ismount(self.target) or self.target in (here := Path(os.path.realpath("."))).parents:
            return False
        shutil.copystat(self.target, self.part.path)
        return self.target != here and exchange(self.part.path, self.target)

    def discard(self) -> None:
        """Remove the partial folder."""
        self.part.remove()


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[None]:
    """A context in which the frames of a folder are replaced one by one; readers refuse it until that is done."""
    mark = folder / REPLACING
    mark.touch()
    yield
    mark.unlink()


def _last_bytes(file: BinaryIO, count: int) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - count))
    return file.read()


def _reserve_file(target: Path, part: Part) -> None:
    """Create an empty partial file. Raises OSError if the target is a folder or cannot be written."""
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder")
    part.create()


def frame_rate(fps: float) -> Fraction:
    """Frames per second as the fraction that containers record; 23.976 and the like are 24000/1001 and the like."""
    whole = round(fps * 1.001)
    is_ntsc = whole > 0 and abs(fps * 1.001 / whole - 1) < 2e-6  # of 24 * 0.999 it is 1e-6
    return Fraction(1000 * whole, 1001) if is_ntsc else Fraction(fps).limit_denominator(1001)


@contextlib.contextmanager
def write_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Replace an OSError or an encoder's error in the block by an OSError with the path, the cause and a remedy."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error
    except av.error.FFmpegError as error:  # those that are no OSErrors: the encoder's
        raise OSError(None, f"cannot write {os.fspath(path)}: its encoder failed ({error.strerror})") from error
