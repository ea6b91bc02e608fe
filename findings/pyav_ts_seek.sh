#!/usr/bin/env bash
# Seeking backward in MPEG-TS lands after the wanted frame (PyAV 17.1.0; observed 2026-11-29).
#
# Clips are cut from videos by container.seek(pts, backward=True) and decoding until the pts is met. In MP4 this gives
# a keyframe at or before the target. In MPEG-TS (recordings, streams, .mts of cameras), which has no index, the first
# frame after the seek is often a later one, by up to a group of pictures or a frame more: code that takes the first
# frame with pts >= the target gets other content than its caption or label speaks of, and near the end it gets
# nothing.
# Expected: as the argument says, a frame at or before the target, whatever the container.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==17.1.0 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" -I - <<'PYTHON'
from fractions import Fraction

import av
import numpy as np

FRAMES, RATE = 60, 25


def write(path):
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 12
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 + 3 * index, np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def landings(path):
    """How many frames after the target each seek lands; None where no frame follows."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        times = [frame.pts for frame in container.decode(stream)]
        assert len(times) == FRAMES
        assert times == sorted(times)
        late = []
        for index, pts in enumerate(times):
            container.seek(pts, stream=stream, backward=True)
            frame = next(container.decode(stream), None)
            late.append(None if frame is None else times.index(frame.pts) - index)
        return late


seen = {}
for suffix in ("mp4", "mkv", "ts"):
    write(f"video.{suffix}")
    late = landings(f"video.{suffix}")
    found = [each for each in late if each is not None]
    seen[suffix] = sum(each > 0 for each in found), len(late) - len(found)
    print(f"{suffix}: {seen[suffix][0]} of {FRAMES} seeks land after the target, by up to {max(max(found), 0)} frames;")
    print(f"  {seen[suffix][1]} find no frame at all")

assert seen["mp4"] == seen["mkv"] == (0, 0)
assert seen["ts"][0] > FRAMES / 4
assert seen["ts"][1] > 0
PYTHON
echo "As described."
