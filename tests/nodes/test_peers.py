"""The benchmark of peers: all methods get the same model, and calls and memory are counted correctly."""

import importlib
import os
import sys

import peers
import pytest
import torch
from peer_graphs import PEERS, BatchToClip, ClipToBatch, CountPasses, FramesAsBatch
from processes import in_a_process


def part(name, **more):
    words = [word for key, value in more.items() for word in (f"--{key}", value)]
    return in_a_process(peers.__file__, "--comfyui", os.environ["COMFYUI_PATH"], "--part", name, *words)


def test_a_batch_of_frames_gives_the_same_clip(host, tiny):
    sample = importlib.import_module("comfy.sample").sample
    noise = torch.randn(1, 4, 8, 16, 16, generator=torch.manual_seed(0))
    given = (3, 2.5, "euler", "ddim_uniform", tiny.positive[0], tiny.negative)
    clip = sample(tiny.model, noise, *given, torch.zeros_like(noise))
    (batch,) = ClipToBatch().execute({"samples": noise})
    (model,) = FramesAsBatch().execute(tiny.model)
    assert batch["samples"].shape == (8, 4, 16, 16)
    made = sample(model, batch["samples"], *given, torch.zeros_like(batch["samples"]))
    (back,) = BatchToClip().execute({"samples": made})
    torch.testing.assert_close(back["samples"], clip, rtol=1e-4, atol=1e-3)


def test_forward_passes_are_counted(tiny, sample):
    (counted,) = CountPasses().execute(tiny.model)
    CountPasses.frames = 0
    sample(counted, steps=3)
    assert CountPasses.frames == 3 * 2 * 8


@pytest.fixture(scope="module")
def found(host):
    pytest.importorskip("cv2", reason="optical flow needs opencv-python-headless")
    pytest.importorskip("scenedetect", reason="scene cuts need scenedetect-headless")
    compared = part("compare", prompts=1, frames=24, steps=1)
    lengths = [{"name": name, "frames": 16, **part(name, frames=16, steps=1)} for name in compared["peers"]]
    return {"clip": 8, **compared, "lengths": lengths}


def test_methods_give_the_requested_frames_and_count_their_calls(found):
    by = {record["name"]: record for record in found["records"]}
    assert [peer.name for peer in PEERS] == [*found["peers"], *found["absent"]]
    paper, moving, static = (by[name] for name in found["peers"][:3])
    assert (paper["shown"], moving["shown"], static["shown"]) == (24, 26, 24)
    assert (paper["passed"], moving["passed"], static["passed"]) == (3 * 16, 4 * 16, 4 * 16)
    assert all(record["change"] > 0 and record["seconds"] > 0 for record in by.values())
    assert "no node ADE_UseEvolvedSampling" in found["absent"].values()


def test_memory_growth_is_measured_over_lengths(found):
    assert {each["shown"] for each in found["lengths"]} == {16, 20}
    if sys.platform == "linux":
        assert all(each["grown"] > 0 for each in found["lengths"])
    text = peers.report(found)
    assert "| context windows, static | 0.17 |" in text  # 4 windows of one step to 24 frames
    assert "AnimateDiff-Evolved, static: left out, no node ADE_UseEvolvedSampling" in text
