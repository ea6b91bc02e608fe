#!/usr/bin/env bash
# PyAV encodes H.264 in slices, one for each thread (av 17.1.0, with FFmpeg 8; observed 2026-11-30).
#
# FFmpeg's own program encodes with libx264 by frame threads: the number of threads changes neither the pictures nor
# the size of the file. PyAV sets each codec context's thread_type to SLICE, also an encoder's, and FFmpeg hands that
# on to x264 as sliced threads. So each frame is cut into slices, with the default thread_count as many as the machine
# has threads for: the file is larger, and its pictures differ from those of a machine with another number of cores
# (here by up to 32 levels of 255, at the default quality). PyAV's documentation speaks of slices for decoding alone.
# With thread_type = "FRAME" or "AUTO" the number of threads changes nothing, as in FFmpeg's program.
# Expected: pictures and size do not depend on the number of threads.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==17.1.0 numpy==2.2.6 imageio-ffmpeg==0.6.0
cd "$folder"
"$folder/venv/bin/python" -I - <<'PYTHON'
import os
import subprocess

import av
import imageio_ffmpeg
import numpy as np

FRAMES, SIDE = 16, 256
y, x = np.mgrid[:SIDE, :SIDE]
PICTURES = [
    np.stack([128 + 100 * np.sin((x + 3 * i) / 9 + c) * np.cos((y - 2 * i) / 7) for c in range(3)], -1).astype(np.uint8)
    for i in range(FRAMES)
]


def by_pyav(path, threads, kind=None):
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = SIDE
        stream.pix_fmt, stream.thread_count = "yuv420p", threads
        if kind:
            stream.thread_type = kind
        for picture in PICTURES:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def by_ffmpeg(path, threads):
    program = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    program += ["-s", f"{SIDE}x{SIDE}", "-r", "8", "-i", "-", "-c:v", "libx264", "-pix_fmt", "yuv420p"]
    program += ["-threads", str(threads), path]
    subprocess.run(program, input=b"".join(map(bytes, PICTURES)), check=True)


def read(path):
    """The frames, and how many slices each has."""
    with av.open(path) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)
    slices = []
    with av.open(path) as container:
        for packet in container.demux(video=0):
            data, count = bytes(packet), 0
            while data:
                size = int.from_bytes(data[:4], "big")
                count += data[4] & 31 in (1, 5)
                data = data[4 + size :]
            if packet.size:
                slices.append(count)
    return frames, set(slices)


found = {}
for name, make in (
    ("ffmpeg's program", by_ffmpeg),
    ("PyAV", by_pyav),
    ("PyAV, FRAME", lambda path, threads: by_pyav(path, threads, "FRAME")),
):
    for threads in (1, 4):
        make("made.mp4", threads)
        found[name, threads] = *read("made.mp4"), os.path.getsize("made.mp4")
    (one, _, size), (four, slices, larger) = found[name, 1], found[name, 4]
    print(f"{name}: with 4 threads for 1, slices in a frame: {slices}, size {larger / size:.2f} times, "
          f"pictures differ by up to {abs(one - four).max()} levels")

for name in ("ffmpeg's program", "PyAV, FRAME"):
    (one, _, size), (four, slices, larger) = found[name, 1], found[name, 4]
    assert slices == {1} and size == larger and (one == four).all(), name
(one, _, size), (four, slices, larger) = found["PyAV", 1], found["PyAV", 4]
assert slices == {4}
assert larger > 1.05 * size
assert abs(one - four).max() > 10
PYTHON
echo "As described."
