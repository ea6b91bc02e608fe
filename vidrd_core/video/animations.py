"""Animated WebP and APNG: frames that Pillow encodes as stills, in a file that grows by one and plays after each.

Formats: RFC 9649 (WebP), and the PNG specification, third edition, which has APNG.
"""

from __future__ import annotations

import abc
import errno
import io
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import BinaryIO, ClassVar

from PIL import Image
from PIL.PngImagePlugin import PngInfo

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LOSSLESS_PIXELS = 256 * 256  # up to which WebP is lossless: its half-size chroma would show in frames that small
_ANIMATED, _WITH_EXIF = 0x02, 0x08  # flags of a WebP
# Where ComfyUI keeps the prompt and, from the second on, other texts, as "name:text"; then TIFF's range for anyone.
_PROMPT_TAG, _TEXT_TAGS = 0x0110, (0x010F, 0x010E, 0x010D, *range(65000, 65536))


class Animation(abc.ABC):
    """An animated picture file that is being written.

    Args:
        path: The file; an older one is replaced.
        size: Width and height of the frames in pixels.
        rate: Frames per second.
        metadata: Texts by name.

    Attributes:
        count: How many frames there are so far.
        head: How many of the file's first bytes change with each frame; of its last ones `END` do.
    """

    END = 12  # the chunk that ends a PNG
    largest: ClassVar[int]  # the largest width and height in pixels

    def __init__(self, path: Path, size: tuple[int, int], rate: Fraction, metadata: dict[str, str]) -> None:
        self.size, self.rate, self.metadata, self.count = size, rate, metadata, 0
        self.head = 12  # those of a WebP
        self.file = open(path, "w+b")  # noqa: SIM115 - `close` closes it
        self.begin()

    @abc.abstractmethod
    def begin(self) -> None:
        """Write what precedes the frames."""

    @abc.abstractmethod
    def append(self, data: bytes) -> None:
        """Append a frame that is encoded, and leave a complete file."""

    @staticmethod
    @abc.abstractmethod
    def encode(image: Image.Image) -> bytes:
        """Encode a frame for `append`."""

    @staticmethod
    @abc.abstractmethod
    def frames(file: BinaryIO) -> Iterator[tuple[tuple[int, int], bytes]]:
        """The size and data of each frame, which a file of this class holds whole. Raises ValueError for another."""

    def add(self, data: bytes) -> None:
        """Append a frame.

        Args:
            data: The frame as `encode` or `frames` gives it.

        Raises:
            OSError: The disk is full, or the format's size exceeded.
        """
        self.file.seek(0, os.SEEK_END)
        self.append(data)
        self.file.flush()
        self.count += 1

    def close(self) -> None:
        """Finish the file. Raises OSError."""
        self.file.close()


class WebP(Animation):
    """An animated WebP: lossless up to 256 x 256 pixels, of quality 95 above; it loops without end."""

    largest = 16383

    def begin(self) -> None:
        """Write what precedes the frames."""
        extended = bytes([_ANIMATED, 0, 0, 0]) + b"".join(_u24(side - 1) for side in self.size)
        self._write(_riff_chunk(b"VP8X", extended) + _riff_chunk(b"ANIM", bytes(6)), at=12)

    def append(self, data: bytes) -> None:
        """Append a frame that is encoded, and leave a complete file."""
        begin, end = (round(1000 * k / self.rate) for k in (self.count, self.count + 1))  # ms
        replace = b"\x02"  # what was there before, without blending
        about = bytes(6) + b"".join(_u24(side - 1) for side in self.size) + _u24(end - begin) + replace
        self._write(_riff_chunk(b"ANMF", about + data), at=self.file.tell())

    def _write(self, chunks: bytes, at: int) -> None:
        """Write chunks at a position, the last of the file, and set the file's length in its header."""
        end = at + len(chunks)
        if end >= 2**32:
            raise OSError(errno.EFBIG, "a WebP file is smaller than 4 GiB")
        self.file.seek(at)
        self.file.write(chunks)
        self.file.seek(0)
        self.file.write(b"RIFF" + struct.pack("<I", end - 8) + b"WEBP")

    def close(self) -> None:
        """Finish the file: append the metadata. Raises OSError."""
        if self.metadata and not self.file.closed:
            self._write(_riff_chunk(b"EXIF", _exif(self.metadata)), at=self.file.seek(0, os.SEEK_END))
            self.file.seek(20)
            self.file.write(bytes([_ANIMATED | _WITH_EXIF]))
        super().close()

    @staticmethod
    def encode(image: Image.Image) -> bytes:
        """Encode a frame for `append`."""
        still = io.BytesIO()
        is_small = image.width * image.height <= _LOSSLESS_PIXELS
        image.save(still, "WEBP", lossless=is_small, quality=80 if is_small else 95)  # of lossless: the effort
        chunks = _riff_chunks(still, 12)
        return b"".join(_riff_chunk(kind, data) for kind, data in chunks if kind in (b"VP8 ", b"VP8L"))

    @staticmethod
    def frames(file: BinaryIO) -> Iterator[tuple[tuple[int, int], bytes]]:
        """The size and data of each frame, which a file of this class holds whole. Raises ValueError for another."""
        if _take(file, 12)[8:] != b"WEBP":
            raise ValueError("it is no WebP")
        for kind, data in _riff_chunks(file, 12):
            if kind == b"ANMF":
                if any(data[:6]):
                    raise ValueError("its frames hold only what changes")
                yield (1 + int.from_bytes(data[6:9], "little"), 1 + int.from_bytes(data[9:12], "little")), data[16:]


class Apng(Animation):
    """An animated PNG: lossless; it loops without end."""

    largest = 65535

    def begin(self) -> None:
        """Write what precedes the frames."""
        texts = PngInfo()
        for name, text in self.metadata.items():
            texts.add_text(name, text)
        header = struct.pack(">IIBBBBB", *self.size, 8, 2, 0, 0, 0)  # 8 bits of red, green and blue
        chunks = [(b"IHDR", header), *(each[:2] for each in texts.chunks)]
        self.file.write(_PNG_SIGNATURE + b"".join(_png_chunk(*each) for each in chunks))
        self._count_at, self._sequence = self.file.tell(), 0
        self.head = self._count_at + 20
        self.file.write(_png_chunk(b"acTL", bytes(8)) + _png_chunk(b"IEND", b""))

    def append(self, data: bytes) -> None:
        """Append a frame that is encoded, and leave a complete file."""
        delay = (1 / self.rate).limit_denominator(65535)
        timing = struct.pack(">IIIIHHBB", *self.size, 0, 0, delay.numerator, delay.denominator, 0, 0)
        chunks = self._numbered(b"fcTL", timing)
        chunks += self._numbered(b"fdAT", data) if self.count else _png_chunk(b"IDAT", data)
        self.file.seek(-len(_png_chunk(b"IEND", b"")), os.SEEK_END)
        self.file.write(chunks + _png_chunk(b"IEND", b""))
        self.file.seek(self._count_at)
        self.file.write(_png_chunk(b"acTL", struct.pack(">II", self.count + 1, 0)))  # 0: it loops without end

    def _numbered(self, kind: bytes, data: bytes) -> bytes:
        """A chunk with the next number of its sequence."""
        self._sequence += 1
        return _png_chunk(kind, struct.pack(">I", self._sequence - 1) + data)

    @staticmethod
    def encode(image: Image.Image) -> bytes:
        """Encode a frame for `append`."""
        still = io.BytesIO()
        image.save(still, "PNG")
        still.seek(0)
        return b"".join(data for kind, data in _png_chunks(still) if kind == b"IDAT")

    @staticmethod
    def frames(file: BinaryIO) -> Iterator[tuple[tuple[int, int], bytes]]:
        """The size and data of each frame, which a file of this class holds whole. Raises ValueError for another."""
        size, data = (0, 0), b""
        for kind, content in _png_chunks(file):
            if kind == b"IHDR" and content[8:] != bytes([8, 2, 0, 0, 0]):
                raise ValueError("its colours are not red, green and blue of 8 bits")
            if kind in (b"fcTL", b"IEND") and data:
                yield size, data
                data = b""
            if kind == b"fcTL":
                size = struct.unpack(">II", content[4:12])
                if any(content[12:20]) or any(content[24:26]):
                    raise ValueError("its frames hold only what changes")
            data += content if kind == b"IDAT" else content[4:] if kind == b"fdAT" else b""


ANIMATIONS: dict[str, type[Animation]] = {".webp": WebP, ".apng": Apng}


def join_animations(
    pieces: Sequence[tuple[Path, int]], target: Path, rate: Fraction, metadata: dict[str, str]
) -> None:
    """Concatenate files that `Animation` wrote, without encoding them again.

    Args:
        pieces: Each file and how many of its first frames to copy.
        target: The file to write; its suffix is that of the pieces.
        rate: Frames per second.
        metadata: Texts by name.

    Raises:
        ValueError: The files differ in size, or their frames hold only what changes, as another program wrote them.
        OSError: The target cannot be written.
    """
    kind, joined = ANIMATIONS[target.suffix.lower()], None
    try:
        for path, count in pieces:
            with open(path, "rb") as file:
                try:
                    for size, data in islice(kind.frames(file), count):
                        joined = joined or kind(target, size, rate, metadata)
                        if size != joined.size:
                            raise ValueError(f"its frames are {size}, those of the files before it {joined.size}")
                        joined.add(data)
                except ValueError as error:
                    raise ValueError(f"{path} does not match the files before it: {error}") from error
    finally:
        if joined:
            joined.close()


# --- WebP's chunks, and the EXIF in one of them ---


def _riff_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a RIFF file, of even length."""
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def _riff_chunks(file: BinaryIO, at: int) -> Iterator[tuple[bytes, bytes]]:
    """The chunks from a position on to the end of the file."""
    file.seek(at)
    while header := file.read(8):
        length = int.from_bytes(header[4:], "little")
        yield header[:4], _take(file, length)
        file.seek(length % 2, os.SEEK_CUR)


def _u24(number: int) -> bytes:
    """A number in three bytes."""
    return number.to_bytes(3, "little")


def _exif(texts: dict[str, str]) -> bytes:
    """EXIF with texts as "name:text", in UTF-8, where ComfyUI's page looks for them."""
    others = iter(_TEXT_TAGS)
    found = {_PROMPT_TAG if name == "prompt" else next(others): f"{name}:{text}" for name, text in texts.items()}
    entries, values, begin = b"", b"", 8 + 2 + 12 * len(found) + 4
    for tag, text in sorted(found.items()):
        value = text.encode().ljust(4, b"\0") + b"\0"  # five bytes or more: fewer would stand in the entry itself
        entries += struct.pack("<HHII", tag, 2, len(value), begin + len(values))  # 2: ASCII
        values += value
    return b"II*\0" + struct.pack("<IH", 8, len(found)) + entries + bytes(4) + values


def exif_texts(exif: Image.Exif) -> dict[str, str]:
    """Read the texts that a WebP holds as "name:text".

    Args:
        exif: The picture's EXIF.

    Returns:
        The texts by name.
    """
    found = {}
    for value in exif.values():
        name, separator, text = value.partition(":") if isinstance(value, str) else ("", "", "")
        if separator and name:
            text = text.rstrip("\0")
            found[name] = text.encode("latin-1", "replace").decode("utf-8", "replace")  # Pillow reads Latin-1
    return found


# --- PNG's chunks ---


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a PNG file, from its beginning on. Raises ValueError if it is none or is cut off."""
    if file.read(8) != _PNG_SIGNATURE:
        raise ValueError("it is no PNG")
    kind = b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", _take(file, 8))
        yield kind, _take(file, length + 4)[:-4]


def _take(file: BinaryIO, count: int) -> bytes:
    """Read this many bytes. Raises ValueError at the end of the file."""
    data = file.read(count)
    if len(data) < count:
        raise ValueError("it is cut off")
    return data
