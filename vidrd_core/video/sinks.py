"""Where frames go: one growing file through PyAV, or a folder of PNG files."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vidrd_core.video.gif import append_comment
from vidrd_core.video.packets import join_files, open_container

_FRAME_FILE = re.compile(r"frame_\d{6,}\.png|\.DS_Store|Thumbs\.db|desktop\.ini")

# Decoders that ignore the tags assume BT.601: with a BT.601 matrix the tags and that guess agree.
_COLOUR = {"colorspace": "smpte170m", "color_primaries": "bt709", "color_trc": "bt709", "color_range": "tv"}
_FRAGMENTS = "frag_every_frame+empty_moov+default_base_moof+use_metadata_tags"


@dataclass(frozen=True)
class _Kind:
    """How PyAV writes one kind of file. No encoder looks ahead: frames are in the file soon after `write`."""

    codec: str
    pix_fmt: str
    encoder: dict[str, str]
    muxer: dict[str, str]
    crf: tuple[str, str]  # quality, for frames up to 256 x 256 and for larger ones
    largest: int  # width and height, in pixels


_H264 = {"tune": "zerolatency", "g": "32", **_COLOUR}
_VP9 = {"lag-in-frames": "0", "cpu-used": "4", "b": "0", "g": "32", **_COLOUR}
KINDS = {
    ".mp4": _Kind("libx264", "yuv420p", _H264, {"movflags": _FRAGMENTS}, ("12", "16"), 16384),
    ".webm": _Kind("libvpx-vp9", "yuv420p", _VP9, {"cluster_time_limit": "0"}, ("12", "20"), 65535),
    ".gif": _Kind("gif", "pal8", {"global_palette": "0"}, {}, ("", ""), 65535),
}


def check_size(suffix: str, width: int, height: int) -> None:
    """Raise ValueError for frames that this kind of file cannot hold."""
    largest = KINDS[suffix].largest
    if max(width, height) > largest:
        raise ValueError(
            f"{suffix[1:]} frames are at most {largest} pixels wide and high, these are {width} x {height}: "
            f"write smaller ones, or PNG frames (a folder)"
        )


class FileSink:
    """One growing file, through PyAV."""

    def __init__(self, target: Path, suffix: str, fps: float, metadata: dict[str, str]) -> None:
        self.target, self.part, self.kind, self.format = target, part_of(target), KINDS[suffix], suffix[1:]
        self.rate, self.metadata = rate_of(fps), metadata
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
        check_size("." + self.format, width, height)
        self.container = open_container(self.part, self.format, self.kind.muxer, self.metadata)
        self.stream = self.container.add_stream(self.kind.codec, rate=self.rate)
        self.stream.height, self.stream.width, self.stream.pix_fmt = height, width, self.kind.pix_fmt
        crf = self.kind.crf[height * width > 256 * 256]
        self.stream.options = self.kind.encoder | ({"crf": crf} if crf else {})

    def finish(self) -> None:
        self.container.mux(self.stream.encode(None))
        self.container.close()
        if self.format == "gif":
            append_comment(self.part, self.metadata)
        if self.format == "mp4":
            self.join_fragments()
        os.replace(self.part, self.target)

    def join_fragments(self) -> None:
        """Copy the packets into an MP4 with one index."""
        joined = part_of(self.target)
        try:
            join_files([(self.part, None)], joined, self.rate, self.metadata)
            os.replace(joined, self.part)
        except (OSError, av.error.FFmpegError):  # no room for a copy: the fragmented file is whole as well
            joined.unlink(missing_ok=True)

    def discard(self) -> None:
        if self.container is not None:
            with contextlib.suppress(av.error.FFmpegError):
                self.container.close()
        self.part.unlink(missing_ok=True)


class FolderSink:
    """A folder of PNG files; the first carries the frame rate and the metadata."""

    def __init__(self, target: Path, fps: float, metadata: dict[str, str]) -> None:
        self.target, self.part, self.count = target, part_of(target), 0
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
        self.refuse_other_content()
        if not self.target.exists():
            os.replace(self.part, self.target)
            return
        # The folder itself stays: it may be a mount, somebody's working directory, or have modes of its own.
        new = sorted(os.listdir(self.part))
        for name in new:
            shutil.move(self.part / name, self.target / name)
        for name in set(os.listdir(self.target)) - set(new):
            (self.target / name).unlink()
        self.part.rmdir()

    def discard(self) -> None:
        shutil.rmtree(self.part, ignore_errors=True)


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


def rate_of(fps: float) -> Fraction:
    """Frames a second, as containers have it."""
    return Fraction(fps).limit_denominator(1001)


def part_of(target: Path) -> Path:
    """A name of our own beside the target, on the same disk, with the suffix that players go by."""
    return target.with_name(f"{target.stem}.part-{secrets.token_hex(3)}{target.suffix}")
