"""`vidrd state`, which makes a state of real footage, prompt travel, and per-clip settings."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vidrd_core.cli.footage import read_footage
from vidrd_core.presets import preset
from vidrd_core.state import ClipState
from vidrd_core.video import open_video, read_video

from .helpers import PROMPTS

STEPS = ("--steps", 2)


@pytest.fixture
def video(tmp_path):
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(0, 255, (12, 8, 10, 3), np.uint8), 8, 1).repeat(8, 2)  # 64 high, 80 wide
    with open_video(f"{tmp_path / 'footage'}/", fps=8) as file:
        file.write(frames)
    return tmp_path / "footage", frames


def test_real_footage_can_be_extended(vidrd, video, model):
    torch.set_num_threads(1)
    path, _ = video
    size = ("--width", 32, "--height", 32)
    code, out, err = vidrd("state", path, PROMPTS[0], *size, *STEPS, "-o", "s.safetensors")
    assert (code, err) == (0, "")
    assert out == f"s.safetensors: 8 frames of {path}; to continue: vidrd extend s.safetensors PROMPT ...\n"
    made = ClipState.load("s.safetensors")
    expected = model.state_from_video(read_footage(path, 8, 32, 32), PROMPTS[0], steps=2)
    assert torch.equal(made.noise, expected.noise)
    assert made.made_with == expected.made_with
    code, out, _ = vidrd(
        "extend", "s.safetensors", PROMPTS[0], "--preset", "keep moving", "--scale", 1, "-o", "more/"
    )
    assert (code, out.split(";")[0]) == (0, "more/: 1 clip, 6 frames, 0.8 s at 8 fps")
    clip = model.extend(expected, PROMPTS[0], preset("keep moving", 8))
    assert np.array_equal(read_video("more")[0], model.frames(clip))


def test_the_last_frames_are_taken_and_cropped_in_the_middle(video):
    path, frames = video
    assert np.array_equal(read_footage(path, 5, None, None), frames[-5:])
    assert np.array_equal(read_footage(path, 5, 64, 64), frames[-5:, :, 8:72])
    assert read_footage(path, 5, 32, None).shape == (5, 64, 32, 3)


def test_an_image_is_repeated_to_a_clip(vidrd, tmp_path):
    Image.new("RGBA", (32, 32), (200, 40, 10, 255)).save(tmp_path / "still.png")
    code, _, err = vidrd(
        "state", tmp_path / "still.png", PROMPTS[0], *STEPS, "--method", "noise", "-o", "s.safetensors"
    )
    assert code == 0
    assert "still.png has 1 of 8 frames: the first one is repeated before the others, not shown" in err
    state = ClipState.load("s.safetensors")
    assert (state.frames, state.repeated) == (8, 7)
    assert torch.equal(state.latents, state.latents[:, :, :1].expand_as(state.latents))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.mp4",), "no such video"),
        (("text.png",), "text.png is damaged or no image"),
        (("cut.png",), "cut.png is damaged or no image that can be read: image file is truncated"),
        (("text.mp4",), "text.mp4 is damaged, or no mp4"),
        (("still.png", "--width", 30), "width is 30, expected a multiple of"),
        (("still.png", "--method", "magic"), "method is 'magic', expected 'inversion' or 'noise'"),
        (("still.png", "-o", "state.mp4"), "--output is 'state.mp4', expected a name that ends in .safetensors"),
        (("still.png", "-o", "other.safetensors"), "--output: other.safetensors"),
    ],
)
def test_invalid_input_is_reported_and_nothing_is_written(vidrd, tmp_path, arguments, message):
    for name in ("text.png", "text.mp4", "other.safetensors"):
        (tmp_path / name).write_text("no such thing")
    Image.new("RGB", (32, 32)).save(tmp_path / "still.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "still.png").read_bytes()[:60])
    path, *others = arguments
    where = () if "-o" in others else ("-o", "s.safetensors")
    before = sorted(each.name for each in tmp_path.iterdir())
    code, out, err = vidrd("state", tmp_path / path, PROMPTS[0], *STEPS, *others, *where)
    assert (code, out) == (2, "")
    assert message in err
    assert sorted(each.name for each in tmp_path.iterdir()) == before


def test_prompt_travel_is_resumed_exactly(vidrd, model):
    torch.set_num_threads(1)
    run = (
        "generate", PROMPTS[0], PROMPTS[1], "--clips", 3, "--travel", 2, *STEPS, "--scale", 1, "--state-dir", "kept"
    )  # fmt: skip
    assert vidrd(*run, "-o", "whole/")[0] == 0
    clips = list(model.stream(PROMPTS[:2], 3, travel=2, steps=2))
    assert np.array_equal(read_video("whole")[0], model.frames(clips))
    (last := Path("kept/clip_0002.safetensors")).unlink()
    assert vidrd(*run, "-o", "again/", "--resume")[0] == 0
    assert last.exists()
    assert np.array_equal(read_video("again")[0], read_video("whole")[0])
    code, _, err = vidrd(*run, "--travel", 1, "-o", "other/", "--resume")
    assert code == 2
    assert "made with fade" in err


def test_per_clip_settings_are_resumed_exactly(vidrd, model):
    torch.set_num_threads(1)
    own = ("--seed-per-clip", ",,7", "--cfg-per-clip", ",4", "--alpha-per-clip", ",,1")
    run = ("generate", PROMPTS[0], "--clips", 3, *own, *STEPS, "--scale", 1, "--state-dir", "kept")
    assert vidrd(*run, "-o", "whole/")[0] == 0
    per_clip = {"seed": [None, None, 7], "cfg": [None, 4.0], "alpha": [None, None, 1.0]}
    clips = list(model.stream(PROMPTS[0], 3, per_clip=per_clip, steps=2))
    assert np.array_equal(read_video("whole")[0], model.frames(clips))
    Path("kept/clip_0002.safetensors").unlink()
    assert vidrd(*run, "-o", "again/", "--resume")[0] == 0
    assert np.array_equal(read_video("again")[0], read_video("whole")[0])
    code, _, err = vidrd(*run, "--cfg-per-clip", ",5", "-o", "other/", "--resume")
    assert (code, "made with cfg 4.0, this run has 5.0" in err) == (2, True)
    branch = ("extend", "kept/clip_0001.safetensors", PROMPTS[0], "--seed-per-clip", "7", "--alpha-per-clip", "1")
    assert vidrd(*branch, "--cfg", model.diffusion.cfg, "--scale", 1, "-o", "branch/")[0] == 0
    assert np.array_equal(read_video("branch")[0], model.frames(clips[2]))
    for name, text, message in (
        ("seed", "1,2,3,4", "seed_per_clip has 4 entries, but clips are 3"),
        ("cfg", "a", "cfg_per_clip has 'a' for clip 1"),
        ("alpha", "-1", "alpha_per_clip has '-1' for clip 1, expected a number from 0 to 1000000"),
        ("seed", "-1", "expected a whole number of 0 or more"),
    ):
        code, _, err = vidrd("generate", PROMPTS[0], "--clips", 3, f"--{name}-per-clip", text, "-o", "none/")
        assert (code, message in err) == (2, True), err
    assert not Path("none").exists()


def test_a_finished_loop_can_be_resumed(vidrd):
    torch.set_num_threads(1)
    run = ("generate", PROMPTS[0], "--clips", 3, "--preset", "loop on purpose", *STEPS, "--state-dir", "kept")
    assert vidrd(*run, "-o", "whole/")[0] == 0
    code, _, err = vidrd(*run, "-o", "again/", "--resume")
    assert (code, "found 3 of 3 clips" in err) == (0, True)
    assert np.array_equal(read_video("again")[0], read_video("whole")[0])


def test_extend_fades_from_the_prompt_of_the_state(vidrd, model):
    torch.set_num_threads(1)
    first = model.generate(PROMPTS[0], steps=2).state
    first.save("first.safetensors")
    assert vidrd("extend", "first.safetensors", PROMPTS[1], "--travel", 1, "--scale", 1, "-o", "more/")[0] == 0
    expected = model.extend(first, PROMPTS[1], fade=(PROMPTS[0], 0.5))
    assert np.array_equal(read_video("more")[0], model.frames(expected))
