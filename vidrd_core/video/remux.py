"""Remuxing: encoded frames are copied from file to file, without encoding them again."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av

from vidrd_core.video.pictures import YUV_TAGS
from vidrd_core.video.sound import SoundEncoder, SoundTrack

FAST_START = {"movflags": "faststart+use_metadata_tags"}  # one index, in front: what players seek in best
GIF_EXTENSION, GIF_CONTROL = 0x21, 0xF9  # the bytes that begin an extension block, and its kind with the timing


def open_container(path: Path, kind: str, options: dict[str, str], metadata: dict[str, str]) -> Any:
    """Open a new file to write packets to.

    Args:
        path: The file.
        kind: Its format: "mp4", "webm" or "gif".
        options: Options of FFmpeg's muxer.
        metadata: Container tags.

    Returns:
        An `av.container.OutputContainer`.
    """
    container = av.open(str(path), "w", format=kind, options={"flush_packets": "1", **options})
    container.metadata.update(metadata)
    return container


def join_files(
    pieces: Sequence[tuple[Path, int | None]],
    target: Path,
    rate: Fraction,
    metadata: dict[str, str],
    track: SoundTrack | None = None,
) -> None:
    """Concatenate video files by copying their packets.

    Args:
        pieces: Each file and how many of its first frames to copy, or None for all. None of the copied frames may
            depend on a frame that is shown after it.
        target: The file to write; its suffix is that of the pieces.
        rate: Frames per second.
        metadata: Container tags.
        track: The sound to encode; None for none.

    Raises:
        ValueError: The files differ in codec or size.
    """
    kind, count = target.suffix[1:].lower(), 0
    with open_container(target, kind, FAST_START if kind == "mp4" else {}, metadata) as joined:
        stream: Any = None
        sound: SoundEncoder | None = None
        for path, frames in pieces:
            with av.open(str(path)) as source:
                template = source.streams.video[0]
                codec = template.codec_context
                coding = codec.name, codec.width, codec.height
                if stream is None:
                    stream, first = _stream_at_rate(joined, template, rate, kind), coding
                    stream.time_base = 1 / rate  # before PyAV 14 an MP4 would count in 1/90000 s
                    sound = SoundEncoder(joined, target.suffix.lower(), track) if track else None
                if coding != first:
                    raise ValueError(f"{path} does not match the files before it: {coding} after {first}")
                packets = (packet for packet in source.demux(template) if packet.dts is not None)  # the last is empty
                for packet in islice(packets, frames):
                    if kind == "gif":
                        packet = _gif_packet(packet, is_first=not count)
                    packet.stream, packet.time_base = stream, 1 / rate
                    packet.pts = packet.dts = count
                    packet.duration = 1
                    joined.mux(packet)
                    count += 1
                    if sound:
                        sound.until(float(count / rate))
        if sound:
            sound.finish()


def stream_like(container: Any, template: Any) -> Any:
    """A stream that takes the packets of another one unchanged.

    Args:
        container: The container of PyAV that gets the stream.
        template: A stream of an open container.

    Returns:
        The new stream.
    """
    if hasattr(container, "add_stream_from_template"):  # opaque: PyAV 14.2 would make a new header otherwise
        return container.add_stream_from_template(template, opaque=True)
    return container.add_stream(template=template)  # before PyAV 14


def _stream_at_rate(container: Any, template: Any, rate: Fraction, kind: str) -> Any:
    """As `stream_like`; in WebM the stream tells how long each frame lasts, the last one, too."""
    if kind != "webm":
        return stream_like(container, template)
    stream = container.add_stream("libvpx-vp9", rate=rate)  # from a template PyAV would not take the rate
    codec = template.codec_context
    stream.width, stream.height, stream.pix_fmt = codec.width, codec.height, codec.pix_fmt
    stream.options = dict(YUV_TAGS)
    return stream


# --- GIF blocks (GIF89a specification, sections 17 to 27) ---


def _gif_packet(packet: Any, is_first: bool) -> Any:
    """A GIF packet without the header, comments and trailer of its file, at which readers would stop."""
    data = bytes(packet)
    start = _header_end(data)
    return av.Packet((data[:start] if is_first else b"") + _image_blocks(data, start))


def _image_blocks(data: bytes, at: int) -> bytes:
    """The blocks of the one image in a packet and of its timing; `at` is where the packet's header ends."""
    control = b""
    while data[at] == GIF_EXTENSION:
        after = _after_sub_blocks(data, at + 2)
        if data[at + 1] == GIF_CONTROL:
            control = data[at:after]
        at = after
    begin = at
    at += 10 + _colour_table_size(data[at + 9])  # the image's position, size and own colours
    return control + data[begin : _after_sub_blocks(data, at + 1)]  # the byte that is skipped is the code size


def append_comment(path: Path, metadata: dict[str, str]) -> None:
    """Append metadata to a GIF file as a JSON comment; without metadata the file is left as it is."""
    if not metadata:
        return
    data = json.dumps(metadata).encode()
    blocks = [data[i : i + 255] for i in range(0, len(data), 255)]
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)  # onto the trailer byte, which is written again
        file.write(b"!\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0;")


def _header_end(data: bytes) -> int:
    """Where the file header and the global colour table end; 0 without them."""
    return 13 + _colour_table_size(data[10]) if data.startswith(b"GIF8") else 0


def _colour_table_size(flags: int) -> int:
    """Bytes of the colour table that a block's flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_sub_blocks(data: bytes, at: int) -> int:
    """Where a sequence of sub-blocks ends, which an empty one closes."""
    while data[at]:
        at += 1 + data[at]
    return at + 1
