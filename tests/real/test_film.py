"""A whole film that a package carries (Big Buck Bunny, 10 minutes, in moviepy's source archive; CC BY 3.0)."""

import json
import shutil
import subprocess
import sys
import time
import zipfile

import av
import numpy as np
import pytest
import scenedetect

from vidrd_core.cli import main
from vidrd_core.data.clip_sampling import with_video_facts
from vidrd_core.data.decoding import frames_at
from vidrd_core.data.records import Record
from vidrd_core.data.scene_detection import SceneDetection, SceneSettings
from vidrd_core.data.shards import Shards
from vidrd_core.video.film import film_of

pytestmark = pytest.mark.real
ARCHIVE = "moviepy-2.2.1/docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip"
SIZE = (64, 36)
CAPTION = "an animated film of a rabbit in a meadow"
STAGE = {"learning_rate": 7e-4, "warmup": 20, "log_every": 30, "checkpoint_every": 40, "sample_every": 120}
NETWORKS = {
    "vae": {"block_out_channels": [16, 32], "layers_per_block": 1, "norm_groups": 8, "patch_size": 2},
    "unet": {
        "block_out_channels": [32, 64], "attention_levels": [False, True], "heads": [4, 4], "layers_per_block": 1,
        "cross_attention_dim": 64, "norm_groups": 16, "temp_conv_depth": 2,
    },
    "text": {"words": sorted(set(CAPTION.split())), "hidden_size": 64, "layers": 1},
    "diffusion": {"prediction": "v", "frames": 8, "size": 64},
}  # fmt: skip


@pytest.fixture(scope="session")
def film(carried):
    """The film's file."""
    folder = carried("moviepy==2.2.1", source=True)
    path = folder / "moviepy_10_minutes" / "resources" / "bbb.mp4"
    if not path.exists():
        with zipfile.ZipFile(folder / ARCHIVE) as archive:
            archive.extract(path.relative_to(folder).as_posix(), folder)
    return path


def test_no_frame_is_lost_or_moved(film):
    """Frames that were sought equal those of a plain decode from the start, by PyAV alone."""
    reader = film_of(film)
    count = len(reader.timeline.times)
    assert (count, reader.timeline.fps) == (14315, 24)
    chosen = np.sort(np.random.default_rng(0).choice(count, 40, replace=False))
    expected = {}
    with av.open(str(film)) as container:
        container.streams.video[0].thread_type = "AUTO"
        number = -1
        for number, frame in enumerate(container.decode(video=0)):
            if number in chosen:
                expected[number] = frame.reformat(*SIZE, "gray").to_ndarray()[:, : SIZE[0]].astype(int)
    assert number + 1 == count
    for number in chosen:
        (found,) = frames_at(str(film), [number / 24], SIZE)
        grey = found @ [0.299, 0.587, 0.114]
        assert np.abs(grey - expected[number]).mean() < 8, number
        others = [np.abs(grey - each).mean() for other, each in expected.items() if other != number]
        assert np.abs(grey - expected[number]).mean() < min(others), number


def test_ffmpeg_shows_the_same_pictures(film, tmp_path):
    if shutil.which("ffmpeg") is None:
        pytest.skip("there is no ffmpeg")
    numbers = [0, 1000, 7001, 14314]
    picked = "+".join(f"eq(n,{number})" for number in numbers)
    command = ["ffmpeg", "-v", "error", "-i", film, "-vf", f"select='{picked}'", "-vsync", "0", "-pix_fmt", "rgb24"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-"], capture_output=True, check=True).stdout
    theirs = np.frombuffer(raw, np.uint8).reshape(4, 720, 1280, 3).astype(int)
    ours = [frames_at(str(film), [number / 24], None)[0] for number in numbers]
    for mine, expected in zip(ours, theirs, strict=True):
        assert np.abs(mine - expected).max() <= 3


@pytest.fixture(scope="session")
def shards(film, tmp_path_factory):
    """Clips of the whole film, 8 frames of 64 x 64."""
    folder = tmp_path_factory.mktemp("film")
    (folder / "films").mkdir()
    shutil.copy(film, folder / "films" / "bbb.mp4")
    (folder / "films" / "bbb.txt").write_text(CAPTION)
    command = ["data", "videos", folder / "films", "-o", folder / "shards", "--size", "64", "--height", "64"]
    assert main([*map(str, command), "--choice", "all", "--clips", "4"]) == 0
    return folder / "shards"


@pytest.mark.parametrize("detector", ["adaptive", "content"])
def test_its_cuts_are_those_of_pyscenedetects_own_reader(film, detector):
    kind = {"adaptive": scenedetect.AdaptiveDetector, "content": scenedetect.ContentDetector}[detector]
    theirs = [start.frame_num for start, _ in scenedetect.detect(str(film), kind(min_scene_len=5))]
    ours = SceneDetection(SceneSettings(detector)).cuts(with_video_facts(Record(str(film))))
    assert [round(24 * cut) for cut in ours] == theirs[1:]
    assert len(theirs) > 100


def test_the_film_becomes_clips(shards):
    clips = Shards(shards).samples
    assert len(clips) > 100
    assert {clip.caption for clip in clips} == {CAPTION}
    ends = max(clip.facts["stop"] for clip in clips)
    assert ends > 590, "the last scenes are there"


def test_training_on_it_goes_on_after_a_kill_to_the_same_bits(shards, tmp_path):
    data = {"frames": 8, "size": 64, "sources": [{"name": "film", "shards": str(shards)}]}
    stages = [
        {"name": "vae", "task": "vae", "steps": 120, "batch_size": 8, **STAGE},
        {"name": "image", "task": "image", "train": "all", "steps": 120, "batch_size": 8, **STAGE},
        {"name": "clip", "task": "clip", "train": "paper", "steps": 120, "batch_size": 4, **STAGE},
    ]
    recipe = {**NETWORKS, "data": data, "stages": stages, "samples": {"prompts": [CAPTION]}}
    models = []
    for name in ("straight", "killed"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(json.dumps({**recipe, "out": str(tmp_path / name)}))
        command = [sys.executable, "-m", "vidrd_core.cli", "train", str(path), "--quiet"]
        if name == "killed":
            for stage in stages:
                process = subprocess.Popen(command)
                while not (tmp_path / name / stage["name"] / "latest.json").exists():
                    assert process.poll() is None
                    time.sleep(0.1)
                process.kill()
                process.wait()
        subprocess.run(command, check=True)
        models.append(tmp_path / name / "model")
    for part in ("vae.safetensors", "unet.safetensors", "text_encoder.safetensors"):
        assert (models[0] / part).read_bytes() == (models[1] / part).read_bytes(), part
    for stage, loss in (("vae", "l1"), ("image", "mse"), ("clip", "mse")):
        lines = map(json.loads, (tmp_path / "killed" / stage / "log.jsonl").read_text().splitlines())
        losses = [line[loss] for line in lines if loss in line]
        assert losses[-1] < 0.9 * losses[0], stage
