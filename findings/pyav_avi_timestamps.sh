#!/usr/bin/env bash
# Frames of an AVI with H.264 B-frames carry the timestamps of other frames (PyAV 17.1.0; observed 2026-11-29).
#
# AVI stores no times of display. Decoding gives the frames in the right order, but their pts (and time) count the
# order in which they are stored: 1, 3, 4, 2, 6, 7, ... Whoever sorts by pts, looks a frame up by it, or keeps the
# frames between two times, as readers of captioned clips do, gets a video whose motion jumps back and forth. The same
# stream in MP4 is right, and so is MPEG-4 part 2 in AVI but for starting at 1.
# Expected: times that rise from frame to frame, as in MP4, or none.
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
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "1"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.max_b_frames = 2
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 + 3 * index, np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def read(path):
    """The pts and the number, as its grey value tells, of each frame in the order of decoding."""
    with av.open(path) as container:
        frames = [(f.pts, f.to_ndarray(format="rgb24").mean()) for f in container.decode(video=0)]
    return [pts for pts, _ in frames], [round((grey - 20) / 3) for _, grey in frames]


seen = {}
for suffix in ("mp4", "avi"):
    write(f"video.{suffix}")
    times, numbers = read(f"video.{suffix}")
    assert numbers == list(range(FRAMES))
    by_time = [number for _, number in sorted(zip(times, numbers))]
    seen[suffix] = sum(a != b for a, b in zip(numbers, by_time))
    print(f"{suffix}: frames {numbers[:9]} ... have pts {times[:9]} ...;")
    print(f"  sorted by pts they are {by_time[:9]} ..., {seen[suffix]} of {FRAMES} out of place")

assert seen["mp4"] == 0
assert seen["avi"] > FRAMES / 2
PYTHON
echo "As described."
