"""`vidrd generate` and `vidrd extend`: the videos and states that they write, and resuming."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vidrd_core import sample
from vidrd_core.models import kernels
from vidrd_core.presets import preset
from vidrd_core.reuse import ReuseSettings
from vidrd_core.state import ClipState
from vidrd_core.video import read_video

from .helpers import PROMPTS, same_state, same_video


def test_a_video_has_one_clip_per_prompt(vidrd):
    code, out, err = vidrd("generate", *PROMPTS, "--steps", 2, "--fps", 4, "--scale", 3, "-o", "long.mp4")
    assert code == 0
    assert out.startswith("long.mp4: 2 clips, 16 frames, 4.0 s at 4 fps; took ")
    assert [line.split(" took ")[0] for line in err.splitlines()] == ["vidrd: clip 1 of 2", "vidrd: clip 2 of 2"]
    frames, fps = read_video("long.mp4")
    assert (frames.shape, fps) == ((16, 96, 96, 3), 4)
    assert os.listdir() == ["long.mp4"]


def test_the_video_equals_that_of_the_python_api(vidrd, model):
    settings = {"steps": 3, "seed": 7, "cfg": 2.0, "solver": "heun", "negative": "blue", "width": 16, "frames": 6}
    reuse = ReuseSettings(prompt_frames=2, alpha=1.0, beta=0.5, order="forward")
    torch.set_num_threads(1)
    clips = list(model.stream(PROMPTS, 3, reuse, **settings))
    options = [text for name, value in settings.items() for text in (f"--{name}", value)]
    options += ["--prompt-frames", 2, "--alpha", 1, "--beta", 0.5, "--order", "forward"]
    assert vidrd("generate", *PROMPTS, "--clips", 3, "-o", "all/", *options)[0] == 0
    assert np.array_equal(read_video("all")[0], model.frames(clips))

    clips[1].state.save("clip.safetensors")
    taken = ["clip.safetensors", PROMPTS[1]]
    assert vidrd("extend", *taken, "-o", "more/", "--save-state", "next.safetensors")[0] == 0
    assert np.array_equal(read_video("more")[0], model.frames(clips[2]))
    clips[2].state.save("expected.safetensors")
    assert same_state(Path("next.safetensors"), Path("expected.safetensors"))


def test_extend_takes_other_settings_and_saves_states_beside_the_old_ones(vidrd, whole, model, tmp_path):
    last, more = whole / "states" / "clip_0002.safetensors", tmp_path / "more"
    code, out, _ = vidrd(
        "extend", last, *PROMPTS, "--clips", 3, "--seed", 9, "--alpha", 0, "--state-dir", more, "-o", "more.webm"
    )
    assert (code, out.split(";")[0]) == (0, "more.webm: 3 clips, 24 frames, 3.0 s at 8 fps")
    states = [ClipState.load(path) for path in sorted(more.iterdir())]
    assert [state.index for state in states] == [3, 4, 5]
    assert [state.made_with["prompt"] for state in states] == [PROMPTS[0], PROMPTS[1], PROMPTS[1]]
    expected = model.extend(ClipState.load(last), PROMPTS[0], ReuseSettings(alpha=0.0), seed=9).state
    assert torch.equal(states[0].latents, expected.latents)


def test_resuming_with_fewer_and_more_clips_gives_the_same_frames(vidrd, whole, tmp_path):
    states = tmp_path / "states"
    for clips, message in ((1, "found 0 of 1 clips in states"), (3, "found 1 of 3 clips in states")):
        run = ["--clips", clips, "--steps", 4, "--state-dir", "states", "--resume", "-o", "frames/"]
        code, _, err = vidrd("generate", *PROMPTS, *run)
        assert code == 0
        assert message in err
    assert same_video(tmp_path / "frames", whole / "frames")
    assert all(same_state(states / path.name, path) for path in (whole / "states").iterdir())
    code, out, _ = vidrd("generate", *PROMPTS, "--steps", 4, "--state-dir", states, "--resume", "-o", "two/")
    assert (code, out) == (0, "two/: 2 clips, 16 frames, 2.0 s at 8 fps, 2 sampled before\n")
    # The last frames, as many as the decoder looks ahead, differ a little beside the end of a video.
    assert np.array_equal(read_video("two")[0][:12], read_video(whole / "frames")[0][:12])


def test_extending_with_other_steps_needs_approximate(vidrd, whole):
    run = ("extend", whole / "states" / "clip_0000.safetensors", PROMPTS[1], "--steps", 3, "-o", "more.mp4")
    assert vidrd(*run)[0] == 2
    code, out, _ = vidrd(*run, "--approximate", "--clips", 2)
    assert (code, out.split(";")[0]) == (0, "more.mp4: 2 clips, 16 frames, 2.0 s at 8 fps")


@pytest.mark.parametrize("fate", ["missing", "cut off", "a pickle"])
def test_clips_are_sampled_again_from_a_damaged_or_missing_state_on(vidrd, whole, tmp_path, fate):
    states = tmp_path / "states"
    states.mkdir()
    for path in (whole / "states").iterdir():
        (states / path.name).write_bytes(path.read_bytes())
    broken = states / "clip_0001.safetensors"
    data = {"cut off": broken.read_bytes()[:-100], "a pickle": pickle.dumps([1])}.get(fate)
    broken.unlink() if data is None else broken.write_bytes(data)
    run = ["--clips", 3, "--steps", 4, "--state-dir", states, "--resume", "-o", "frames/"]
    code, _, err = vidrd("generate", *PROMPTS, *run)
    assert code == 0
    assert f"resuming: found 1 of 3 clips in {states}; " in err
    assert "clip_0001.safetensors is" in err.splitlines()[0]
    assert same_video(tmp_path / "frames", whole / "frames")
    assert all(same_state(states / path.name, path) for path in (whole / "states").iterdir())


def test_a_preset_equals_that_of_the_python_api_and_options_override_it(vidrd, model):
    torch.set_num_threads(1)
    for options, reuse in (
        (["--preset", "keep moving"], preset("keep moving", 8)),
        (
            ["--preset", "anchored", "--alpha", 1, "--noise", "fresh"],
            replace(preset("anchored", 8), alpha=1.0, noise="fresh"),
        ),
        (["--release", "soft", "--drift", 0.5], ReuseSettings(release="soft", anchor=0.5)),
    ):
        name = f"{len(os.listdir())}/"
        assert vidrd("generate", PROMPTS[0], "--clips", 2, "--steps", 2, *options, "-o", name)[0] == 0
        assert np.array_equal(read_video(name)[0], model.frames(model.stream(PROMPTS[0], 2, reuse, steps=2)))


def test_a_loop_is_closed_stopped_and_resumed(vidrd):
    run = ["generate", PROMPTS[0], "--steps", 2, "--preset", "loop on purpose", "--state-dir", "states"]
    assert vidrd(*run, "--clips", 3, "-o", "whole/")[0] == 0
    states = [ClipState.load(path) for path in sorted(Path("states").iterdir())]
    assert [state.made_with["reuse"]["loop"] for state in states] == ["keep", "keep", "close"]
    assert len(read_video("whole")[0]) == 8 + 6 + 4
    os.remove(sorted(Path("states").iterdir())[-1])
    code, _, err = vidrd(*run, "--clips", 3, "--resume", "-o", "again/")
    assert code == 0
    assert "found 2 of 3 clips" in err
    assert same_video(Path("again"), Path("whole"))
    code, _, err = vidrd("extend", sorted(Path("states").iterdir())[-1], PROMPTS[0], "-o", "more/")
    assert code == 2
    assert "nothing can follow it" in err


@pytest.mark.parametrize("loop", ["keep", "close"])
def test_a_loop_of_any_preset_is_closed_and_resumed(vidrd, loop):
    run = ["generate", PROMPTS[0], "--steps", 2, "--preset", "keep moving", "--loop", loop, "--state-dir", "states"]
    assert vidrd(*run, "--clips", 3, "-o", "whole/")[0] == 0
    states = [ClipState.load(path) for path in sorted(Path("states").iterdir())]
    assert [state.made_with["reuse"]["loop"] for state in states] == ["keep", "keep", "close"]
    assert torch.allclose(states[-1].latents[:, :, -2:], states[0].latents[:, :, :2], atol=1e-5)
    os.remove(sorted(Path("states").iterdir())[-1])
    code, _, err = vidrd(*run, "--clips", 3, "--resume", "-o", "again/")
    assert (code, "found 2 of 3 clips" in err) == (0, True)
    assert same_video(Path("again"), Path("whole"))
    second = sorted(Path("states").iterdir())[1]
    assert vidrd("extend", second, PROMPTS[0], "--loop", loop, "-o", "last/")[0] == 0
    assert np.array_equal(read_video("last")[0], read_video("whole")[0][8 + 6 :])


def test_an_unknown_preset_is_refused(vidrd):
    code, _, err = vidrd("generate", PROMPTS[0], "--preset", "papre", "-o", "a.mp4")
    assert code == 2
    assert "preset is 'papre', expected one of paper, keep moving" in err


def test_a_cpu_with_amx_computes_in_bfloat16_and_resumes_in_it_anywhere(vidrd, model, monkeypatch):
    run = ["generate", *PROMPTS, "--steps", 4, "-o", "frames/", "--state-dir", "states"]
    monkeypatch.setattr(kernels, "has_amx", lambda: True)
    assert vidrd(*run)[0] == 0
    whole = read_video("frames")[0]
    monkeypatch.setattr(kernels, "has_amx", lambda: False)
    exact = model.frames(model.stream(PROMPTS, steps=4))
    error = np.square(whole.astype(float) - exact).mean()
    assert 0 < error < 255**2 / 10**3.5  # 35 dB
    assert ClipState.load(Path("states/clip_0000.safetensors")).made_with["dtype"] == "bfloat16"

    Path("states/clip_0001.safetensors").unlink()
    code, _, err = vidrd(*run, "--resume", "--dtype", "float32")
    assert (code, "made with dtype 'bfloat16', this run has 'float32'" in err) == (2, True), err
    assert vidrd(*run, "--resume")[0] == 0
    assert np.array_equal(read_video("frames")[0], whole)
    extend = ["extend", "states/clip_0000.safetensors", PROMPTS[1], "--save-state", "next.safetensors", "-o", "more/"]
    assert vidrd(*extend)[0] == 0
    assert same_state(Path("next.safetensors"), Path("states/clip_0001.safetensors"))


def test_a_run_of_an_older_version_is_resumed(vidrd, monkeypatch):
    later, made_with = ("prompt_interval", "deep_interval", "dtype"), sample._made_with
    with monkeypatch.context() as older:

        def recorded(*given):
            return {name: value for name, value in made_with(*given).items() if name not in later}

        older.setattr(sample, "_made_with", recorded)
        run = ["generate", *PROMPTS, "--steps", 2, "--state-dir", "states", "-o", "frames/"]
        assert vidrd(*run)[0] == 0
    Path("states/clip_0001.safetensors").unlink()
    code, _, err = vidrd(*run, "--resume")
    assert (code, "found 1 of 2 clips" in err) == (0, True), err
