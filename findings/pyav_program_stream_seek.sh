#!/usr/bin/env bash
# After a seek in an MPEG program stream, frames carry the times of others (PyAV 17.1.0; observed 2026-11-29).
#
# In .mpg and .vob (DVDs, old cameras) not every picture has a time of its own; the demuxer fills them in. Read from the
# start, the frames have even times. After container.seek() many have another pts than then, by up to a frame's
# duration, and none is marked: clips that are cut by pts begin with another frame than their label says, and a frame
# at a scene's edge belongs to the next scene.
# Expected: a frame has the same pts, however it was reached.
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

FRAMES, RATE = 90, 24


def write(path, codec):
    """Frames that differ from each other."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 160, 64, "yuv420p"
        stream.options = {"g": "12"}
        for index in range(FRAMES):
            picture = np.full((64, 160, 3), 40, np.uint8)
            for bit in range(10):
                picture[:, 16 * bit : 16 * bit + 16] += np.uint8(180 * (index >> bit & 1))
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def decoded(container):
    return [
        (frame.pts, frame.to_ndarray(format="rgb24").tobytes(), frame.is_corrupt) for frame in container.decode(video=0)
    ]


for codec in ("mpeg1video", "mpeg2video"):
    write("video.mpg", codec)
    with av.open("video.mpg") as container:
        whole = decoded(container)
    times = {picture: pts for pts, picture, _ in whole}
    assert len(times) == len({pts for pts, _, _ in whole}) == FRAMES
    off, least, most = [], 0.0, 0.0
    for target in list(times.values())[::6]:
        with av.open("video.mpg") as container:
            container.seek(target, stream=container.streams.video[0], backward=True)
            frames = [each for each in decoded(container) if each[1] in times]
        wrong = [each for each in frames if each[0] != times[each[1]]]
        assert not any(corrupt for _, _, corrupt in wrong)
        steps = [(pts - times[picture]) * RATE / 90000 for pts, picture, _ in wrong if pts is not None]
        off.append(len(wrong))
        least, most = min([least, *steps]), max([most, *steps])
    print(f"{codec}: after {sum(map(bool, off))} of {len(off)} seeks frames have other times, up to {max(off)} of them,")
    print(f"  by {least:+.2f} to {most:+.2f} times a frame's duration")
    assert sum(map(bool, off)) > 3
PYTHON
echo "As described."
