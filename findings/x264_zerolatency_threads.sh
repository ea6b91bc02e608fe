#!/usr/bin/env bash
# The pictures of x264's tune zerolatency depend on the number of cores (av 17.1.0, with libx264; observed 2026-11-30).
#
# Without a tune x264 gives each thread a frame: the same bytes for any number of threads but 1 is what its encoder is
# known for. "zerolatency" has it cut each frame into as many slices as there are threads, and FFmpeg asks for as many
# threads as there are cores. Prediction ends at slices, so that the pictures themselves differ from machine to machine,
# not only the bytes: of a noisy clip at a usual quality some pixels by more than ten levels. Nothing in the file or in
# the options says so; a fixed number of threads gives the same bytes everywhere.
# Expected: the same encoder, options and frames give the same pictures on each machine, as without the tune.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==17.1.0 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" -I - <<'PYTHON'
import io

import av
import numpy as np

FRAMES, SIDE = 8, 256
noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
CLIP = [np.roll(noise // 2 + 64, 5 * i, axis=i % 2) for i in range(FRAMES)]


def decoded(tune, threads):
    """The pictures of a clip that was encoded by so many threads, uint8 [F, H, W, 3]."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "23", "threads": str(threads), **({"tune": tune} if tune else {})}
        for frame in CLIP:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(io.BytesIO(file.getvalue())) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def apart(tune, one, other):
    """The largest difference of a pixel between the pictures of two numbers of threads, in levels."""
    return int(np.abs(decoded(tune, one).astype(int) - decoded(tune, other)).max())


for tune in ("", "zerolatency"):
    for one, other in ((2, 4), (2, 8), (4, 4)):
        print(f"tune {tune or 'none'}, {one} and {other} threads: {apart(tune, one, other)} levels apart")

assert apart("", 2, 4) == apart("", 2, 8) == 0
assert apart("zerolatency", 4, 4) == 0
assert apart("zerolatency", 2, 4) > 10
assert apart("zerolatency", 2, 8) > 10
PYTHON
echo "As described."
