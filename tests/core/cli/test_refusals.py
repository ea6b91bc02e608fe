"""Invalid input: one line on stderr, and no files."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vidrd_core.cli.errors import InputError
from vidrd_core.cli.states import StateFolder
from vidrd_core.models.load_parts import save_unet
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.sampling import DiffusionConfig
from vidrd_core.state import ClipState

from ...conftest import UNET, randomise
from ...permissions import unwritable_folder
from .helpers import PROMPTS, error_line

GENERATE = {
    "M >= N": (["--prompt-frames", "8"], "prompt_frames (M) is 8, expected less than the 8 frames"),
    "M < 0": (["--prompt-frames", "-1"], "prompt_frames (M) is -1, expected a whole number, 0 or more"),
    "alpha < 0": (["--alpha", "-0.5"], "alpha is -0.5, expected a number from 0 to 1e+06"),
    "alpha is huge": (["--alpha", "1e160"], "alpha is 1e+160, expected a number from 0 to 1e+06"),
    "beta > 1": (["--beta", "1.5"], "beta is 1.5, expected a number from 0 to 1"),
    "beta is nan": (["--beta", "nan"], "beta is nan, expected a number from 0 to 1"),
    "cfg is infinite": (["--cfg", "inf"], "cfg is inf, expected a number from -1000 to 1000"),
    "order": (["--order", "back"], "order is 'back', expected one of mirror, forward"),
    "solver": (["--solver", "euler"], "solver is 'euler', expected one of ddim, heun, dpmpp_2m"),
    "no steps": (["--steps", "0"], "steps is 0, expected a whole number, 1 or more"),
    "too many steps": (["--steps", "1001"], "steps is 1001, expected 1 to 1000"),
    "no number": (["--steps", "many"], "Invalid value for '--steps'"),
    "no clips": (["--clips", "0"], "clips is 0, expected 1 to 1000000"),
    "no frames": (["--frames", "0"], "frames is 0, expected a whole number from 1 to 4096"),
    "odd width": (["--width", "33"], "width is 33, expected a multiple of 4 pixels"),
    "odd height": (["--height", "-4"], "height is -4, expected a whole number from 1 to 65536"),
    "huge height": (["--height", "4" + 20 * "0"], "expected a whole number from 1 to 65536"),
    "seed": (["--seed", "-3"], "seed is -3, expected a whole number, 0 or more"),
    "fps": (["--fps", "0"], "fps must be from 0.01 to 1000, got 0.0"),
    "scale": (["--scale", "0"], "scale must be a whole number, 1 or more, got 0"),
    "threads": (["--threads", "0"], "threads is 0, expected 1 to 1024"),
    "too many threads": (["--threads", 11 * "9"], "threads is 99999999999, expected 1 to 1024"),
    "device": (["--device", "toaster"], "device is 'toaster', which cannot be used here: give cpu"),
    "no real device": (["--device", "meta"], "device is 'meta', which cannot be used here"),
    "too large for mp4": (
        ["--width", "68", "--scale", "250"],
        "mp4 frames are at most 16384 pixels wide and high, these are 17000 x 8000: write smaller ones, or PNG",
    ),
    "no output name": (["-o", ""], "cannot write '': give a name, like long.mp4"),
    "output is a dash": (["-o", "-"], "cannot write '-': give a name, like long.mp4"),
    "output is a suffix": (["-o", ".mp4"], "cannot write '.mp4': give a name, like long.mp4"),
    "huge number of clips": (["--clips", "1" + 22 * "0"], "expected 1 to 1000000"),
    "output is the root": (["-o", "/"], "cannot write '/': give a name, like long.mp4"),
    "states among frames": (
        ["-o", "a/", "--state-dir", "a"],
        "--state-dir is in the output folder a/, which can hold only frames",
    ),
    "states inside frames": (
        ["-o", "a", "--state-dir", "a/b"],
        "--state-dir is in the output folder a, which can hold only frames",
    ),
    "negative": (["--negative", "green"], "does not know 'green'; it knows: a, blue, circle, moving, red, right"),
    "unknown option": (["--loops", "3"], "No such option: --loops"),
    "suffix": (["-o", "long.avi"], "cannot write long.avi: '.avi' is not .mp4, .webm, .gif, .webp, .apng or"),
    "missing folder": (["-o", "none/long.mp4"], "cannot write none/long.mp4: the folder does not exist"),
    "output is a folder": (["-o", "folder.mp4"], "cannot write folder.mp4: a folder of that name is there"),
    "resume": (["--resume"], "--resume needs --state-dir"),
    "state-dir is a file": (["--state-dir", "file"], "--state-dir: cannot use file: Not a directory"),
    "no state folder": (["--state-dir", ""], "Invalid value for '--state-dir': it is empty: give a name"),
    "no name of a model": (["--model", ""], "the model has no name: give a built-in one (tiny), or a folder"),
    "no model": (["--model", "huge"], "there is no model 'huge': give a folder with unet.safetensors"),
}


PROMPT = {
    "none": ([], "Missing argument 'PROMPT"),
    "empty": ([""], "prompt 1 has no words (''): say what the clip shows"),
    "one is empty": (["a red circle", "  "], "prompt 2 has no words"),
    "only dots": (["..."], "prompt 1 has no words"),
    "unknown word": (["a green circle"], "does not know 'green'; it knows: a, blue, circle, moving, red, right"),
    "too long": (["a a a a a a a a"], "a prompt has 8 words, this model reads at most 6"),
}


@pytest.fixture
def no_sampling(monkeypatch):
    """Fail the test if a clip gets sampled."""
    from vidrd_core import pipeline

    def sample(*given, **settings):
        raise AssertionError("sampling was started")

    monkeypatch.setattr(pipeline, "sample_clips", sample)


@pytest.mark.usefixtures("no_sampling")
@pytest.mark.parametrize("case", GENERATE)
def test_invalid_settings_are_refused_before_any_file_is_written(vidrd, case):
    os.mkdir("folder.mp4")
    Path("file").touch()
    options, message = GENERATE[case]
    assert message in error_line(*vidrd("generate", PROMPTS[0], "-o", "long.mp4", "--steps", 2, *options))
    assert sorted(os.listdir()) == ["file", "folder.mp4"]


@pytest.mark.usefixtures("no_sampling")
@pytest.mark.parametrize("case", PROMPT)
def test_invalid_prompts_are_refused_before_any_file_is_written(vidrd, case):
    prompts, message = PROMPT[case]
    assert message in error_line(*vidrd("generate", *prompts, "--state-dir", "states", "-o", "long.mp4"))
    assert os.listdir() == []


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_an_unwritable_state_folder_is_refused():
    with unwritable_folder() as folder:
        for path in (folder, folder / "states"):
            with pytest.raises(InputError, match=f"--state-dir: .*{folder.name}.*no permission"):
                StateFolder(path).prepare()


@pytest.mark.usefixtures("no_sampling")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", 5], "made with steps 4, this run has 5; give the settings it was made with, or another"),
        (["--seed", 1], "made with seed 0, this run has 1"),
        (["--width", 16], "made with width 32, this run has 16"),
        (["--alpha", 1], "clip_0000.safetensors: made with alpha 4.0, this run has 1.0"),
        (["--prompt-frames", 3], "made with prompt-frames 4, this run has 3"),
        (["--anchor", 0.5], "made with anchor 0.0, this run has 0.5"),
        (["--solver", "heun"], "made with solver 'ddim', this run has 'heun'"),
        (["a red circle"], "made with prompt 'a blue circle moving right', this run has 'a red circle'"),
    ],
)
def test_resume_with_other_settings_is_refused(vidrd, whole, options, message):
    prompts = [PROMPTS[0], *options] if options == ["a red circle"] else [*PROMPTS, *options]
    run = ["--steps", 4, "--clips", 5, "--state-dir", whole / "states", "--resume", "-o", "long.mp4"]
    assert message in error_line(*vidrd("generate", *run, *prompts))
    assert os.listdir() == []


@pytest.mark.usefixtures("no_sampling")
def test_existing_states_are_not_overwritten(vidrd, whole):
    states = whole / "states"
    line = error_line(*vidrd("generate", *PROMPTS, "--state-dir", states, "-o", "long.mp4"))
    assert "already holds clip_0000.safetensors: add --resume to continue, or name another --state-dir" in line
    first = states / "clip_0000.safetensors"
    line = error_line(*vidrd("extend", first, PROMPTS[0], "--state-dir", states, "-o", "long.mp4"))
    assert "already holds clip_0001.safetensors: name another --state-dir" in line


@pytest.mark.usefixtures("no_sampling")
def test_files_that_cannot_be_extended_are_refused(vidrd, whole, folder, tmp_path):
    state = whole / "states" / "clip_0001.safetensors"
    files = {"cut.safetensors": state.read_bytes()[:-9], "torch.pt": pickle.dumps([1]), "text.txt": b"hello"}
    for name, data in files.items():
        Path(name).write_bytes(data)
    save_file({"a": torch.zeros(2)}, "foreign.safetensors")
    before = sorted(os.listdir())
    for first, options, message in [
        ("cut.safetensors", [], "cut.safetensors is not a whole safetensors file"),
        ("torch.pt", [], "torch.pt is a pickle"),
        ("text.txt", [], "text.txt is not a whole safetensors file"),
        ("foreign.safetensors", [], "holds tensors that vidrd did not write, expected a clip state"),
        (folder / "vae.safetensors", [], "holds a temporal VAE, expected a clip state"),
        ("none.safetensors", [], "there is no file none.safetensors"),
        (state, ["--steps", 5], "was made with number of steps 4, this clip has 5"),
        (
            state,
            ["--solver", "heun"],
            "give the one it was made with; to go on nearly, not exactly, give --approximate",
        ),
        (state, ["--frames", 4], "this clip has (1, 4, 4, 8, 8); the clips of a video all have the same width"),
        (state, ["--width", 16], "was made with latent shape (1, 4, 8, 8, 8), this clip has (1, 4, 8, 8, 4)"),
        (
            state,
            ["--prompt-frames", 5],
            "prompt_frames (M) is 5, but the last clip recorded only its last 4 frames: give 4",
        ),
        (state, ["--clips", 0], "clips is 0, expected 1 to 1000000"),
        (state, ["--save-state", "a", "--state-dir", "b"], "--state-dir and --save-state are both given: choose one"),
        (state, ["--save-state", "a.pt"], "--save-state is 'a.pt', expected a name that ends in .safetensors"),
        (
            state,
            ["--save-state", "foreign.safetensors"],
            "holds tensors that vidrd did not write, which is not overwritten",
        ),
        (state, ["--save-state", "none/a.safetensors"], "--save-state: cannot use none"),
        (state, ["-o", "a/", "--save-state", "a/next.safetensors"], "--save-state is in the output folder a/"),
        (state, ["--save-state", state], "is one of a folder of states, which resuming needs"),
        (state, ["--state-dir", "more.mp4"], "--state-dir and the output are both more.mp4: name another folder"),
    ]:
        assert message in error_line(*vidrd("extend", first, PROMPTS[0], "-o", "more.mp4", *options)), options
    assert sorted(os.listdir()) == before


@pytest.mark.usefixtures("no_sampling")
@pytest.mark.parametrize("what", ["weights", "schedule"])
def test_a_state_of_another_model_is_refused(vidrd, whole, folder, tmp_path, what):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("vae.safetensors", "text_encoder.safetensors"):
        (other / name).write_bytes((folder / name).read_bytes())
    diffusion = DiffusionConfig(
        prediction="v", frames=8, size=32, cfg=3.0, beta_end=0.012 if what == "weights" else 0.02
    )
    save_unet(randomise(UNet3D(UNET), 5 if what == "weights" else 0), diffusion, other / "unet.safetensors")
    state = whole / "states" / "clip_0001.safetensors"
    theirs, mine = ("extend", state, PROMPTS[0]), ("generate", *PROMPTS, "--steps", 4, "--state-dir", state.parent)
    for run in (theirs, (*mine, "--resume")):
        line = error_line(*vidrd(*run, "-o", "more.mp4", "--model", other))
        assert "clip_000" in line
        assert f"the state was made with model {ClipState.load(state).model_signature}, this clip has " in line
    assert os.listdir() == ["other"]


def test_resuming_clips_of_different_videos_is_refused(vidrd, whole, model, tmp_path):
    states = tmp_path / "states"
    states.mkdir()
    first = model.generate(PROMPTS[0], steps=4)
    other = model.generate(PROMPTS[1], steps=4)
    first.state.save(states / "clip_0000.safetensors")
    model.extend(other.state, PROMPTS[1]).state.save(states / "clip_0001.safetensors")
    run = ["--steps", 4, "--clips", 3, "--state-dir", states, "--resume", "-o", "long.mp4"]
    line = error_line(*vidrd("generate", *PROMPTS, *run))
    assert "clip_0001.safetensors does not follow clip_0000.safetensors: they are of different videos" in line


def test_resuming_does_not_overwrite_a_branch(vidrd, whole, tmp_path):
    run = ["--steps", 4, "--clips", 2, "--state-dir", "branch"]
    assert vidrd("extend", whole / "states" / "clip_0000.safetensors", PROMPTS[1], *run[2:], "-o", "b.mp4")[0] == 0
    before = {path.name: path.read_bytes() for path in Path("branch").iterdir()}
    for prompt, message in (
        (PROMPTS[1], "branch holds clip_0001.safetensors without clip_0000.safetensors: a branch, which this run"),
        (PROMPTS[0], f"clip_0001.safetensors: made with prompt {PROMPTS[1]!r}, this run has {PROMPTS[0]!r}"),
    ):
        line = error_line(*vidrd("generate", prompt, *run, "--resume", "-o", "long.mp4"))
        assert message in line
    assert {path.name: path.read_bytes() for path in Path("branch").iterdir()} == before
    assert not Path("long.mp4").exists()


def test_likely_mistakes_are_pointed_out(vidrd):
    _, _, err = vidrd("generate", "a", "red", "circle", "--steps", 1, "-o", "long.mp4")
    assert "3 prompts of one word each; for one prompt of several words put quotes around it: 'a red circle'" in err
    _, _, err = vidrd("generate", *PROMPTS, "--clips", 1, "--steps", 1, "-o", "long.mp4")
    assert "2 prompts for 1 clips: the last ones are not used" in err
