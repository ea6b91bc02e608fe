"""The command line: what it writes, how it refuses, and that a stopped run goes on as if it had not been."""

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from tests.conftest import TEXT, UNET, randomise
from vidrd_core import cli
from vidrd_core.models.config import DiffusionConfig
from vidrd_core.models.parts import save_text_encoder, save_unet, save_vae
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.reuse import ReuseSettings
from vidrd_core.state import ClipState
from vidrd_core.video import read_video

PROMPTS = ["a red circle", "a blue circle moving right"]
TENSORS = ("noise", "record", "latents", "past", "sigmas")
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals, limits and devices")


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    """A model folder."""
    path = tmp_path_factory.mktemp("model")
    save_unet(model.unet, model.diffusion, path / "unet.safetensors")
    save_vae(model.vae, path / "vae.safetensors")
    save_text_encoder(model.text_encoder, path / "text_encoder.safetensors")
    return path


@pytest.fixture
def vidrd(folder, tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder; its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()

    def run(*arguments, model=folder) -> tuple[int, str, str]:
        own = (
            ["--model", str(model), "--threads", "1", "--scale", "1"]
            if arguments[0] in ("generate", "extend")
            else []
        )
        capsys.readouterr()
        code = cli.main([arguments[0], *own, *map(str, arguments[1:])])
        out, err = capsys.readouterr()
        return code, out, err

    yield run
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory) -> Path:
    """What an uninterrupted run of three clips leaves: `states/`, `frames/`, `long.mp4`."""
    path = tmp_path_factory.mktemp("whole")
    for output, states in (("long.mp4", ["--state-dir", str(path / "states")]), ("frames/", [])):
        where = ["-o", f"{path}/{output}", "--model", str(folder), "--threads", "1", "--scale", "1"]
        assert cli.main(["generate", *PROMPTS, "--clips", "3", "--steps", "4", *states, *where]) == 0
    return path


def same_state(a: Path, b: Path) -> bool:
    """Bit for bit."""
    one, two = ClipState.load(a), ClipState.load(b)
    return one.made_with == two.made_with and all(torch.equal(getattr(one, n), getattr(two, n)) for n in TENSORS)


def same_video(a: Path, b: Path) -> bool:
    return np.array_equal(read_video(a)[0], read_video(b)[0])


def error_line(code: int, out: str, err: str, expected: int = 2) -> str:
    """The only line of a failed command."""
    assert code == expected, err
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("vidrd: error: ")
    return err


# what is written


def test_a_video_of_one_clip_for_each_prompt(vidrd):
    code, out, err = vidrd("generate", *PROMPTS, "--steps", 2, "--fps", 4, "--scale", 3, "-o", "long.mp4")
    assert code == 0
    assert out.startswith("long.mp4: 2 clips, 16 frames, 4.0 s at 4 fps; took ")
    assert [line.split(" took ")[0] for line in err.splitlines()] == ["vidrd: clip 1 of 2", "vidrd: clip 2 of 2"]
    frames, fps = read_video("long.mp4")
    assert (frames.shape, fps) == ((16, 96, 96, 3), 4)
    assert os.listdir() == ["long.mp4"]


def test_the_video_is_what_the_library_makes(vidrd, model):
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


def test_extend_takes_other_settings_and_keeps_states_beside_the_old_ones(vidrd, whole, model, tmp_path):
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


def test_the_same_video_from_fewer_and_more_clips(vidrd, whole, tmp_path):
    states = tmp_path / "states"
    for clips, said in ((1, "found 0 of 1 clips in states"), (3, "found 1 of 3 clips in states")):
        run = ["--clips", clips, "--steps", 4, "--state-dir", "states", "--resume", "-o", "frames/"]
        code, _, err = vidrd("generate", *PROMPTS, *run)
        assert code == 0
        assert said in err
    assert same_video(tmp_path / "frames", whole / "frames")
    assert all(same_state(states / path.name, path) for path in (whole / "states").iterdir())
    code, out, _ = vidrd("generate", *PROMPTS, "--steps", 4, "--state-dir", states, "--resume", "-o", "two/")
    assert (code, out) == (0, "two/: 2 clips, 16 frames, 2.0 s at 8 fps, 2 made before\n")
    # The last frames, as many as the decoder looks ahead, differ a little beside the end of a video.
    assert np.array_equal(read_video("two")[0][:12], read_video(whole / "frames")[0][:12])


@pytest.mark.parametrize("fate", ["missing", "cut off", "a pickle"])
def test_a_damaged_or_missing_state_ends_the_chain_there(vidrd, whole, tmp_path, fate):
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


# stopping


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@posix
def test_a_stopped_and_a_killed_run_go_on_as_if_they_had_not_been(vidrd, folder, whole, tmp_path):
    """Two runs in one process, to start only one: Ctrl-C ends the first, SIGKILL the second."""
    runs = []
    for name in ("stopped", "killed"):
        run = ["generate", *PROMPTS, "--steps", 4, "--state-dir", tmp_path / name, "-o", tmp_path / f"{name}.mp4"]
        runs.append([*map(str, run), "--scale", "1"])
    own = ["--clips", "400", "--model", str(folder), "--threads", "1"]
    program = f"from vidrd_core import cli\nfor run in {runs}: print(cli.main([*run, *{own}]), flush=True)"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=PIPE, stderr=PIPE, text=True)
    try:
        for name, number in (("stopped", signal.SIGINT), ("killed", signal.SIGKILL)):
            wait_for(tmp_path / name / "clip_0001.safetensors", process)
            process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert out == "130\n"
    assert "Traceback" not in err

    finished = len(list((tmp_path / "stopped").iterdir()))
    output = tmp_path / "stopped.mp4"
    assert 2 <= finished < 400
    said = f"stopped; {output} has {8 * finished} frames, from {finished} of 400 clips"
    assert f"vidrd: {said}; to go on, give the same command with --resume" in err.splitlines()
    assert len(read_video(output)[0]) == 8 * finished
    assert not (tmp_path / "killed.mp4").exists()

    for run, name in zip(runs, ("stopped", "killed"), strict=True):
        for path in (tmp_path / name).iterdir():
            if path.name > "clip_0002":  # so that it also goes on sampling
                path.unlink()
        assert vidrd(*run, "--clips", 3, "--resume")[0] == 0
        assert same_video(tmp_path / f"{name}.mp4", whole / "long.mp4")
        assert all(same_state(tmp_path / name / path.name, path) for path in (whole / "states").iterdir())


def interrupt_at(monkeypatch, clip: int, step: int, times: int = 1) -> None:
    """Press Ctrl-C in a step of sampling."""
    from vidrd_core.cli.progress import Display

    original = Display.step

    def pressed(self, number):
        original(self, number)
        if (self.clip, number) == (clip, step):
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Display, "step", pressed)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_in_a_step_keeps_the_finished_clips(vidrd, whole, monkeypatch, times):
    interrupt_at(monkeypatch, 1, 0, times)
    handler = signal.getsignal(signal.SIGINT)
    code, out, err = vidrd("generate", *PROMPTS, "--clips", 3, "--steps", 4, "-o", "frames/")
    assert (code, out) == (130, "")
    said = "stopped; frames/ has 8 frames, from 1 of 3 clips; with --state-dir a later run can go on where one ended"
    assert err.splitlines()[-1] == f"vidrd: {said}"
    assert np.array_equal(read_video("frames")[0][:4], read_video(whole / "frames")[0][:4])
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_after_the_last_step_keeps_that_clip_too(vidrd, monkeypatch):
    interrupt_at(monkeypatch, 1, 3)
    code, _, err = vidrd("generate", *PROMPTS, "--clips", 3, "--steps", 4, "-o", "long.mp4")
    assert code == 130
    assert "has 16 frames, from 2 of 3 clips" in err


def test_ctrl_c_in_the_first_clip_leaves_nothing(vidrd, monkeypatch, tmp_path):
    interrupt_at(monkeypatch, 0, 1)
    code, _, err = vidrd("generate", *PROMPTS, "--steps", 4, "-o", "long.mp4", "--state-dir", "states")
    assert code == 130
    assert err.splitlines()[-1] == "vidrd: stopped; no clip was finished, nothing was written"
    assert os.listdir() == ["states"]


def test_ctrl_c_while_resuming_still_writes_all_finished_clips(vidrd, whole, monkeypatch, tmp_path):
    original = ClipState.load
    loads: list[Path] = []

    def load(path):
        loads.append(path)
        if len(loads) == 4:  # the three were checked first
            signal.raise_signal(signal.SIGINT)
        return original(path)

    monkeypatch.setattr(ClipState, "load", load)
    run = ["--clips", 4, "--steps", 4, "--state-dir", whole / "states", "--resume", "-o", "long.mp4"]
    code, _, err = vidrd("generate", *PROMPTS, *run)
    assert code == 130
    assert "has 24 frames, from 3 of 4 clips; to go on, give the same command with --resume" in err
    assert not (whole / "states" / "clip_0003.safetensors").exists()


def test_ctrl_c_in_extend_says_which_state_to_go_on_from(vidrd, whole, monkeypatch):
    interrupt_at(monkeypatch, 1, 0)
    run = ["--clips", 3, "--save-state", "new.safetensors", "-o", "more.mp4"]
    code, _, err = vidrd("extend", whole / "states" / "clip_0000.safetensors", PROMPTS[0], *run)
    assert code == 130
    assert err.strip().endswith("has 8 frames, from 1 of 3 clips; to go on: vidrd extend new.safetensors PROMPT ...")
    assert ClipState.load("new.safetensors").index == 1


# faults of the machine


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes, as on a full disk."""
    resource = pytest.importorskip("resource")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@posix
def test_a_full_disk_under_the_states_keeps_the_video(vidrd, whole):
    size = (whole / "states" / "clip_0000.safetensors").stat().st_size
    with file_size_limit(size + 1000):  # the next state has more in it
        code, out, err = vidrd(
            "generate", *PROMPTS, "--clips", 3, "--steps", 4, "--state-dir", "own", "-o", "long.mp4"
        )
    line = error_line(code, out, err.splitlines()[-1], expected=1)
    assert "cannot write own/clip_0001.safetensors" in line
    assert "long.mp4 has 16 frames, from 2 of 3 clips; to go on, give the same command with --resume" in line
    assert len(read_video("long.mp4")[0]) == 16
    assert os.listdir("own") == ["clip_0000.safetensors"]


@posix
@pytest.mark.parametrize("states", [True, False])
def test_a_full_disk_under_the_video(vidrd, tmp_path, states):
    run = ["--clips", 6, "--steps", 2, "--scale", 4, "-o", "long.mp4", *(["--state-dir", "states"] if states else [])]
    with file_size_limit(50_000):  # a state has 40,000 bytes
        code, out, err = vidrd("generate", *PROMPTS, *run)
    line = error_line(code, out, err.splitlines()[-1], expected=1)
    assert "long.mp4" in line
    if states:
        assert os.listdir() == ["states"]
        assert "to go on, give the same command with --resume" in line
        assert vidrd("generate", *PROMPTS, *run, "--resume")[0] == 0
        assert len(read_video("long.mp4")[0]) == 48
    else:
        assert os.listdir() == []
        assert "no video was kept; with --state-dir a later run can go on where one ended" in line


def test_too_little_memory(vidrd, monkeypatch, tmp_path):
    from vidrd_core.pipeline import VidRD

    def extend(*given, **settings):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 12 bytes")

    monkeypatch.setattr(VidRD, "extend", extend)
    code, out, err = vidrd("generate", *PROMPTS, "--steps", 2, "-o", "long.mp4")
    line = error_line(code, out, err.splitlines()[-1], expected=1)
    assert "out of memory: make smaller or fewer frames a clip" in line
    assert "long.mp4 has 8 frames, from 1 of 2 clips" in line
    assert len(read_video("long.mp4")[0]) == 8


def test_a_bug_shows_its_traceback_and_leaves_nothing(vidrd, monkeypatch):
    from vidrd_core.pipeline import VidRD

    monkeypatch.setattr(VidRD, "extend", lambda *given, **settings: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        vidrd("generate", *PROMPTS, "--steps", 2, "-o", "long.mp4")
    assert os.listdir() == []


# bad input

GENERATE = {
    "M >= N": (["--prompt-frames", "8"], "prompt_frames (M) is 8, expected less than the 8 frames"),
    "M < 0": (["--prompt-frames", "-1"], "prompt_frames (M) is -1, expected 0 or more"),
    "alpha < 0": (["--alpha", "-0.5"], "alpha is -0.5, expected a finite number, 0 or more"),
    "beta > 1": (["--beta", "1.5"], "beta is 1.5, expected 0 to 1"),
    "beta is nan": (["--beta", "nan"], "beta is nan, expected 0 to 1"),
    "cfg is infinite": (["--cfg", "inf"], "cfg is inf, expected a finite number"),
    "order": (["--order", "back"], "order is 'back', expected 'mirror' or 'forward'"),
    "solver": (["--solver", "euler"], "solver is 'euler', expected one of ddim, heun, dpmpp_2m"),
    "no steps": (["--steps", "0"], "steps is 0, expected 1 or more"),
    "too many steps": (["--steps", "1001"], "steps is 1001, expected 1 to 1000"),
    "no number": (["--steps", "many"], "Invalid value for '--steps'"),
    "no clips": (["--clips", "0"], "clips is 0, expected 1 or more"),
    "no frames": (["--frames", "0"], "frames is 0, expected 1 or more"),
    "odd width": (["--width", "33"], "width is 33, expected a multiple of 4 pixels"),
    "odd height": (["--height", "-4"], "height is -4, expected a multiple of 4 pixels"),
    "seed": (["--seed", "-3"], "seed is -3, expected 0 or more"),
    "fps": (["--fps", "0"], "fps must be from 0.01 to 1000, got 0.0"),
    "scale": (["--scale", "0"], "scale must be a whole number from 1 on, got 0"),
    "threads": (["--threads", "0"], "threads is 0, expected 1 or more"),
    "device": (["--device", "toaster"], "device is 'toaster', which cannot be used here"),
    "negative": (["--negative", "green"], "does not know 'green'; it knows: a, blue, circle, moving, red, right"),
    "unknown option": (["--loops", "3"], "No such option: --loops"),
    "suffix": (["-o", "long.avi"], "cannot write long.avi: '.avi' is not .mp4, .webm, .gif or"),
    "missing folder": (["-o", "none/long.mp4"], "cannot write none/long.mp4: the folder does not exist"),
    "output is a folder": (["-o", "folder.mp4"], "cannot write folder.mp4: a folder of that name is there"),
    "resume": (["--resume"], "--resume needs --state-dir"),
    "state-dir is a file": (["--state-dir", "file"], "--state-dir: cannot use file: Not a directory"),
    "no model": (["--model", "huge"], "there is no model 'huge': give a folder with unet.safetensors"),
}


PROMPT = {
    "none": ([], "Missing argument 'PROMPT"),
    "empty": ([""], "prompt 1 is empty: say what the clip shows"),
    "one is empty": (["a red circle", "  "], "prompt 2 is empty"),
    "unknown word": (["a green circle"], "does not know 'green'; it knows: a, blue, circle, moving, red, right"),
    "too long": (["a a a a a a a a"], "a prompt has 8 words, this model reads at most 6"),
}


@pytest.fixture
def no_sampling(monkeypatch):
    """Fail the test if a clip gets sampled."""
    from vidrd_core.pipeline import VidRD

    def sample(*given, **settings):
        raise AssertionError("it went on to sample")

    monkeypatch.setattr(VidRD, "_sample", sample)


@pytest.mark.usefixtures("no_sampling")
@pytest.mark.parametrize("case", GENERATE)
def test_bad_settings_are_refused_before_anything_is_made(vidrd, case):
    os.mkdir("folder.mp4")
    Path("file").touch()
    options, message = GENERATE[case]
    assert message in error_line(*vidrd("generate", PROMPTS[0], "-o", "long.mp4", "--steps", 2, *options))
    assert sorted(os.listdir()) == ["file", "folder.mp4"]


@pytest.mark.usefixtures("no_sampling")
@pytest.mark.parametrize("case", PROMPT)
def test_bad_prompts_are_refused_before_anything_is_made(vidrd, case):
    prompts, message = PROMPT[case]
    assert message in error_line(*vidrd("generate", *prompts, "--state-dir", "states", "-o", "long.mp4"))
    assert os.listdir() == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_refused(vidrd, tmp_path):
    os.mkdir("locked", 0o500)
    assert "no permission" in error_line(*vidrd("generate", *PROMPTS, "-o", "locked/long.mp4"))
    assert "no permission" in error_line(*vidrd("generate", *PROMPTS, "-o", "a.mp4", "--state-dir", "locked/states"))
    assert os.listdir() == ["locked"]


@pytest.mark.usefixtures("no_sampling")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", 5], "made with steps 4, this run has 5; give the settings it was made with, or another"),
        (["--seed", 1], "made with seed 0, this run has 1"),
        (["--width", 16], "made with width 32, this run has 16"),
        (["--alpha", 1], "clip_0000.safetensors: made with alpha 4.0, this run has 1.0"),
        (["--prompt-frames", 3], "made with prompt-frames 4, this run has 3"),
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
def test_states_that_are_there_are_not_overwritten(vidrd, whole):
    states = whole / "states"
    line = error_line(*vidrd("generate", *PROMPTS, "--state-dir", states, "-o", "long.mp4"))
    assert "already holds clip_0000.safetensors: add --resume to go on with it, or name another --state-dir" in line
    first = states / "clip_0000.safetensors"
    line = error_line(*vidrd("extend", first, PROMPTS[0], "--state-dir", states, "-o", "long.mp4"))
    assert "already holds clip_0001.safetensors: name another --state-dir" in line


@pytest.mark.usefixtures("no_sampling")
def test_what_cannot_be_extended_is_refused(vidrd, whole, folder, tmp_path):
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
        ("foreign.safetensors", [], "holds a foreign model, expected a clip state"),
        (folder / "vae.safetensors", [], "holds a temporal VAE, expected a clip state"),
        ("none.safetensors", [], "there is no file none.safetensors"),
        (state, ["--steps", 5], "was made with number of steps 4, this clip has 5"),
        (state, ["--solver", "heun"], "was made with solver ddim, this clip has heun"),
        (state, ["--width", 16], "was made with latent shape (1, 4, 8, 8, 8), this clip has (1, 4, 8, 8, 4)"),
        (state, ["--prompt-frames", 5], "prompt_frames (M) is 5, but the last clip recorded only its last 4 frames"),
        (state, ["--clips", 0], "clips is 0, expected 1 or more"),
        (state, ["--save-state", "a", "--state-dir", "b"], "--state-dir and --save-state are both given: choose one"),
        (state, ["--save-state", "a.pt"], "--save-state is 'a.pt', expected a name that ends in .safetensors"),
        (state, ["--save-state", "foreign.safetensors"], "holds a foreign model, which is not overwritten"),
        (state, ["--save-state", "none/a.safetensors"], "--save-state: cannot use none"),
    ]:
        assert message in error_line(*vidrd("extend", first, PROMPTS[0], "-o", "more.mp4", *options))
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


def test_slips_are_pointed_out(vidrd):
    _, _, err = vidrd("generate", "a", "red", "circle", "--steps", 1, "-o", "long.mp4")
    assert "3 prompts of one word each; for one prompt of several words put quotes around it: 'a red circle'" in err
    _, _, err = vidrd("generate", *PROMPTS, "--clips", 1, "--steps", 1, "-o", "long.mp4")
    assert "2 prompts for 1 clips: the last ones are not used" in err


# the other commands


def test_info_says_what_a_file_is(vidrd, whole, folder, tmp_path):
    parameters = sum(p.numel() for p in UNet3D(UNET).parameters())
    Path("torch.ckpt").write_bytes(pickle.dumps([1]))
    save_file({name: torch.zeros(2) for name in "abcde"}, "foreign.safetensors")
    assert vidrd("generate", PROMPTS[0], "--steps", 1, "-o", "one.gif")[0] == 0
    for path, facts in {
        "one.gif": ["video (gif, gif)", "frames 8", "fps 8", "prompt 1 a red circle"],
        whole / "long.mp4": ["video (mp4, h264)", "frames 24", "size 32 x 32 pixels", "seed 0, steps 4, cfg 3.0"],
        whole / "frames": ["24 PNG frames", "prompt 2 a blue circle moving right"],
        whole / "states": ["3 clip states, clip_0000.safetensors to clip_0002.safetensors"],
        whole / "states" / "clip_0001.safetensors": ["clip state of clip 1", "alpha 4.0", "up to 4 prompt frames"],
        folder: ["model folder", f"unet.safetensors UNet3D, {parameters:,} parameters"],
        folder / "unet.safetensors": ["UNet3D", "heads 2 2", "prediction v", f"parameters {parameters:,}"],
        "foreign.safetensors": ["not made by vidrd", "5: a, b, c, ..."],
    }.items():
        code, out, err = vidrd("info", path)
        assert (code, err) == (0, "")
        told = " ".join(out.split())
        assert [fact for fact in facts if fact not in told] == []
    Path("empty").mkdir()
    Path("text.txt").write_text("hello")
    for name, message in {
        "torch.ckpt": "is a pickle (a torch .pt, .ckpt or .bin file): reading one can run any program, so it was not",
        "text.txt": "is no safetensors file, and no video that can be read",
        "empty": "is a folder with no model parts, clip states or PNG frames in it",
        "none": "there is no file none",
    }.items():
        assert message in error_line(*vidrd("info", name))


def test_models_lists_what_is_built_in(vidrd, folder, monkeypatch):
    from vidrd_core import loading

    monkeypatch.setattr(loading, "built_in_models", lambda: {"random": folder})
    code, out, _ = vidrd("models")
    assert code == 0
    told = " ".join(out.split())
    assert "random" in told
    for fact in ("0.10 M", "8 frames of 32 x 32", "v", *TEXT.words):
        assert fact in told
    monkeypatch.setattr(loading, "built_in_models", dict)
    assert "no model is built in; --model takes a folder" in vidrd("models")[1]


def test_train_runs_a_recipe(vidrd, monkeypatch, tmp_path):
    stages = pytest.importorskip("vidrd_core.training.stages")
    ran = []

    def run(self, only):
        ran.append((len(self.config.stages), only))
        return self.model

    monkeypatch.setattr(stages.Recipe, "run", run)
    recipe = {
        "out": "out",
        "stages": [{"name": "vae", "task": "vae", "steps": 1, "batch_size": 1, "learning_rate": 1}],
    }
    Path("own.yaml").write_text(json.dumps(recipe))
    assert vidrd("train", "own.yaml", "--stage", "vae")[0] == 0
    assert vidrd("train", "tiny")[0] == 0
    assert (ran[0], ran[1][1]) == ((1, "vae"), None)


def test_bad_recipes_are_refused(vidrd, monkeypatch):
    pytest.importorskip("vidrd_core.training.stages")
    texts = {"word": "word", "unknown": "{out: a, stages: [1], size: 3}", "short": "{out: a, stages: [{name: x}]}"}
    texts |= {
        "broken": "{",
        "good": "{out: a, stages: [{name: x, task: vae, steps: 1, batch_size: 1, learning_rate: 1}]}",
    }
    for name, text in texts.items():
        Path(name).write_text(text)
    before = sorted(os.listdir())
    for run, message in [
        (["nothing"], "there is no recipe 'nothing': give a YAML file, or one of "),
        (["word"], "word holds no settings"),
        (["unknown"], "unknown settings size"),
        (["broken"], "broken is not YAML"),
        (["short"], "task"),
        (["good", "--stage", "y"], "there is no stage 'y'; the recipe has x"),
    ]:
        assert message in error_line(*vidrd("train", *run))
    assert sorted(os.listdir()) == before
    for name in ("vidrd_core.training.config", "vidrd_core.training.stages"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert 'training needs yaml, which is missing: pip install "vidrd[train]"' in error_line(*vidrd("train", "good"))


def test_help_and_version():
    runner = CliRunner()
    alone, asked = runner.invoke(cli.app, []), runner.invoke(cli.app, ["--help"])
    assert (alone.exit_code, asked.exit_code) == (0, 0)
    assert alone.output.split() == asked.output.split()
    assert "Examples" in alone.output
    for name in ("generate", "extend", "models", "info", "train"):
        help_text = runner.invoke(cli.app, [name, "-h"], terminal_width=200).output
        assert name in alone.output
        assert "Usage:" in help_text
    assert runner.invoke(cli.app, ["--version"]).output.startswith("vidrd ")


def test_help_does_not_wait_for_pytorch():
    program = (
        "import sys; from vidrd_core import cli; cli.main(['generate', '--help']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    assert "--prompt-frames" in done.stdout
