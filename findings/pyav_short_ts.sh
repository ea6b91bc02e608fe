#!/usr/bin/env bash
# A short MPEG-TS file that FFmpeg has just written is not recognised as one (PyAV 17.1.0; observed 2026-11-30).
#
# Cameras and recorders cut MPEG-TS into segments, and clips for training are short. A file of up to about ten packets
# of 188 bytes, which one to five frames of a small or still picture are, opens with "End of file", as if it were
# damaged, though it holds every frame: opened with format="mpegts" it gives them all. A single frame of MPEG-2 is
# taken for a bare video stream, whose frames have no rate. What skips files that cannot be opened loses them silently.
# Expected: the format that the name says, when the bytes do not contradict it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==17.1.0 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" -I - <<'PYTHON'
import os

import av
import numpy as np


def write(path, frames, codec):
    with av.open(path, "w", format="mpegts") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            picture = np.full((64, 64, 3), 20 + index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def opened(path, **how):
    """The format and the number of frames, or the error's name."""
    try:
        with av.open(path, **how) as container:
            return container.format.name, sum(1 for _ in container.decode(video=0))
    except av.FFmpegError as error:
        return type(error).__name__


seen = {}
for frames, codec in [(1, "mpeg2video"), (2, "mpeg2video"), (3, "libx264"), (5, "mpeg2video"), (12, "mpeg2video")]:
    path = f"{frames}_{codec}.ts"
    write(path, frames, codec)
    seen[path] = opened(path)
    packets = os.path.getsize(path) // 188
    print(f"{path}, {packets} packets: {seen[path]}; as mpegts: {opened(path, format='mpegts')}")
    assert opened(path, format="mpegts") == ("mpegts", frames)

assert list(seen.values()) == [("mpegvideo", 1), "EOFError", "EOFError", "EOFError", ("mpegts", 12)]
PYTHON
echo "As described."
