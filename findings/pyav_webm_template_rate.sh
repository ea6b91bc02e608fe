#!/usr/bin/env bash
# A WebM file that PyAV copies loses how long its frames last (av 17.1.0, with FFmpeg 8; observed 2026-11-30).
#
# PyAV's documented way to remux is add_stream_from_template, and one packet after the other into the new container. The
# new stream has no frame rate of the template's. Matroska and WebM store a frame's duration as the track's default one,
# which their muxer takes from that rate. So in the copy no frame has a duration, though the packets that were muxed had
# one. Copied on into MP4, the last frame lasts no time: players show one frame less, and the stream says 96/11 frames a
# second for 8. A stream that is added by codec name and rate keeps them, with the same packets.
# Expected: the copy's packets last as long as those of the file that was copied, as with `ffmpeg -c copy`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==17.1.0 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" -I - <<'PYTHON'
import av
import numpy as np

FRAMES, RATE = 12, 8


def by_template(container, stream):
    return container.add_stream_from_template(stream)


def by_name(container, stream):
    new = container.add_stream("libvpx-vp9", rate=RATE)
    new.width, new.height, new.pix_fmt = stream.width, stream.height, "yuv420p"
    return new


def copied(source, target, add):
    """A copy of a file's packets."""
    with av.open(source) as old, av.open(target, "w") as new:
        (stream,) = old.streams.video
        to = add(new, stream)
        for packet in old.demux(stream):
            if packet.dts is not None:
                packet.stream = to
                new.mux(packet)
    return target


def durations(path):
    """How long each packet lasts, in milliseconds."""
    with av.open(path) as container:
        (stream,) = container.streams.video
        found = [packet for packet in container.demux(stream) if packet.size]
        return [round(float((packet.duration or 0) * packet.time_base * 1000)) for packet in found]


with av.open("made.webm", "w") as container:
    stream = container.add_stream("libvpx-vp9", rate=RATE)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuv420p"
    for i in range(FRAMES):
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * i, np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))

files = {"made": "made.webm"}
files["copied by template"] = copied("made.webm", "template.webm", by_template)
files["copied by name and rate"] = copied("made.webm", "name.webm", by_name)
for name, path in files.items():
    print(f"{name}: {durations(path)}")
with av.open(copied("template.webm", "template.mp4", by_template)) as container:
    (stream,) = container.streams.video
    rate, seconds = stream.average_rate, float(stream.duration * stream.time_base)
print(f"the copy, copied into MP4: {rate} frames a second, {seconds:.3f} s for {FRAMES} frames")

assert durations("made.webm") == [125] * FRAMES
assert durations("template.webm") == [0] * FRAMES
assert durations("name.webm") == [125] * FRAMES
assert rate != RATE
assert seconds < FRAMES / RATE - 0.1
PYTHON
echo "As described."
