"""Stopped and killed runs, which are resumed exactly."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest

from vidrd_core.state import ClipState
from vidrd_core.video import read_video

from .helpers import PROMPTS, posix, same_state, same_video


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@posix
def test_a_stopped_and_a_killed_run_are_resumed_exactly(vidrd, folder, whole, tmp_path):
    """Ctrl-C ends the first run, SIGKILL the second; both are in one process, to start only one."""
    runs = []
    for name in ("stopped", "killed"):
        run = ["generate", *PROMPTS, "--steps", 4, "--state-dir", tmp_path / name, "-o", tmp_path / f"{name}.mp4"]
        runs.append([*map(str, run), "--scale", "1"])
    own = ["--clips", "400", "--model", str(folder), "--threads", "1", "--dtype", "float32"]
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
    expected = f"stopped; {output} has {8 * finished} frames, from {finished} of 400 clips"
    assert f"vidrd: {expected}; to continue, repeat the command with --resume" in err.splitlines()
    assert len(read_video(output)[0]) == 8 * finished
    assert not (tmp_path / "killed.mp4").exists()

    for run, name in zip(runs, ("stopped", "killed"), strict=True):
        for path in (tmp_path / name).iterdir():
            if path.name > "clip_0002":  # so that it also has clips to sample
                path.unlink()
        assert vidrd(*run, "--clips", 3, "--resume")[0] == 0
        assert same_video(tmp_path / f"{name}.mp4", whole / "long.mp4")
        assert all(same_state(tmp_path / name / path.name, path) for path in (whole / "states").iterdir())


def interrupt_at(monkeypatch, clip: int, step: int, times: int = 1, number: int = signal.SIGINT) -> None:
    """Press Ctrl-C in a step of sampling, or send another signal."""
    from vidrd_core.cli.progress import Display

    original = Display.step

    def pressed(self, here):
        original(self, here)
        if (self.clip, here) == (clip, step):
            for _ in range(times):
                signal.raise_signal(number)

    monkeypatch.setattr(Display, "step", pressed)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_in_a_step_keeps_the_finished_clips(vidrd, whole, monkeypatch, times):
    interrupt_at(monkeypatch, 1, 0, times)
    handler = signal.getsignal(signal.SIGINT)
    code, out, err = vidrd("generate", *PROMPTS, "--clips", 3, "--steps", 4, "-o", "frames/")
    assert (code, out) == (130, "")
    expected = "stopped; frames/ has 8 frames, from 1 of 3 clips; with --state-dir a run can be resumed"
    assert err.splitlines()[-1] == f"vidrd: {expected}"
    assert np.array_equal(read_video("frames")[0][:4], read_video(whole / "frames")[0][:4])
    assert signal.getsignal(signal.SIGINT) is handler


@posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_closed_terminal_keeps_the_finished_clips(vidrd, monkeypatch, name):
    number = getattr(signal, name)
    interrupt_at(monkeypatch, 1, 0, number=number)
    code, _, err = vidrd("generate", *PROMPTS, "--clips", 3, "--steps", 4, "-o", "long.mp4")
    assert code == 128 + number
    assert "stopped; long.mp4 has 8 frames, from 1 of 3 clips" in err
    assert len(read_video("long.mp4")[0]) == 8


def test_ctrl_c_after_the_last_step_keeps_that_clip_too(vidrd, monkeypatch):
    interrupt_at(monkeypatch, 1, 3)
    code, _, err = vidrd("generate", *PROMPTS, "--clips", 3, "--steps", 4, "-o", "long.mp4")
    assert code == 130
    assert "has 16 frames, from 2 of 3 clips" in err


def test_ctrl_c_in_the_first_clip_leaves_no_files(vidrd, monkeypatch, tmp_path):
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
    assert "has 24 frames, from 3 of 4 clips; to continue, repeat the command with --resume" in err
    assert not (whole / "states" / "clip_0003.safetensors").exists()


def test_ctrl_c_in_extend_names_the_state_to_continue_from(vidrd, whole, monkeypatch):
    interrupt_at(monkeypatch, 1, 0)
    run = ["--clips", 3, "--save-state", "new.safetensors", "-o", "more.mp4"]
    code, _, err = vidrd("extend", whole / "states" / "clip_0000.safetensors", PROMPTS[0], *run)
    assert code == 130
    assert err.strip().endswith(
        "has 8 frames, from 1 of 3 clips; to continue: vidrd extend new.safetensors PROMPT ..."
    )
    assert ClipState.load("new.safetensors").index == 1
