"""Encoded frames copied from file to file as they are."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av

from vidrd_core.video.gif import header_of, image_of

PLAYS_AT_ONCE = {"movflags": "faststart+use_metadata_tags"}  # one index, in front: what players seek in best


def open_container(path: Path, kind: str, options: dict[str, str], metadata: dict[str, str]) -> Any:
    """A new file of this kind ("mp4", "webm", "gif") to write packets to."""
    container = av.open(str(path), "w", format=kind, options={"flush_packets": "1", **options})
    container.metadata.update(metadata)
    return container


def join_files(
    pieces: Sequence[tuple[Path, int | None]], target: Path, rate: Fraction, metadata: dict[str, str]
) -> None:
    """Copy the first frames of each file, or all, into one of the target's kind, at `rate` frames a second.

    No frame may stand on one that is shown after it. Raises ValueError for files that do not go together.
    """
    kind, count = target.suffix[1:], 0
    with open_container(target, kind, PLAYS_AT_ONCE if kind == "mp4" else {}, metadata) as joined:
        stream: Any = None
        for path, frames in pieces:
            with av.open(str(path)) as source:
                template = source.streams.video[0]
                looks = _looks(template)
                if stream is None:
                    stream, first = _stream_like(joined, template), looks
                if looks != first:
                    raise ValueError(f"{path} does not go with the files before it: {looks} after {first}")
                whole = (packet for packet in source.demux(template) if packet.dts is not None)  # the last is empty
                for packet in islice(whole, frames):
                    if kind == "gif":
                        packet = _gif_frame(packet, is_first=not count)
                    packet.stream, packet.time_base = stream, 1 / rate
                    packet.pts = packet.dts = count
                    packet.duration = 1
                    joined.mux(packet)
                    count += 1


def _gif_frame(packet: Any, is_first: bool) -> Any:
    """A packet without what belongs to the file that it comes from, where readers would stop."""
    data = bytes(packet)
    return av.Packet((header_of(data) if is_first else b"") + image_of(data))


def _looks(stream: Any) -> tuple[str, int, int]:
    codec = stream.codec_context
    return codec.name, codec.width, codec.height


def _stream_like(container: Any, template: Any) -> Any:
    """A stream that takes the packets of another as they are."""
    if hasattr(container, "add_stream_from_template"):  # opaque: PyAV 14.2 would make a new header otherwise
        return container.add_stream_from_template(template, opaque=True)
    return container.add_stream(template=template)  # before PyAV 14
