"""Faults from outside: a killed process, a full disk, a diverging loss."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from vidrd_core import cli
from vidrd_core.training.checkpoints import CheckpointError, Checkpoints
from vidrd_core.training.config import load_config
from vidrd_core.training.recipe import Recipe
from vidrd_core.training.trainer import Trainer
from vidrd_core.training.unet import ImageTask

from .helpers import RECIPE, write_recipe
from .test_distributed import ROOT
from .test_stops import curve

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


def slow_recipe(folder, name):
    """The stages up to single frames, the last one long, with a checkpoint every third step."""
    image = {**RECIPE["stages"][2], "steps": 30, "checkpoint_every": 3, "log_every": 4, "accumulation": 2}
    stages = [*RECIPE["stages"][:2], image]
    return write_recipe(folder / f"{name}.yaml", out=str(folder / name), stages=stages)


@posix
@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_bits(tmp_path):
    straight = Recipe(load_config(slow_recipe(tmp_path, "straight"))).run()
    recipe = slow_recipe(tmp_path, "killed")
    log = tmp_path / "killed" / "image" / "log.jsonl"
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": ROOT}
    kills = 0
    for wanted in (1, 3, 99):
        process = subprocess.Popen(
            [sys.executable, "-m", "vidrd_core.cli", "train", str(recipe)], env=env,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        while process.poll() is None:
            if log.exists() and len(log.read_text().splitlines()) >= wanted:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.002)
        assert process.wait() in (0, -signal.SIGKILL), process.stderr.read().decode()[-2000:]
    assert kills == 2
    for part in ("vae", "unet", "text_encoder"):
        file = f"{part}.safetensors"
        assert (straight / file).read_bytes() == (tmp_path / "killed" / "model" / file).read_bytes(), part
    assert curve(tmp_path / "straight" / "image" / "log.jsonl") == curve(log)


def test_a_full_disk_stops_it_and_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    stages = [{**RECIPE["stages"][0], "steps": 6, "checkpoint_every": 2}]
    recipe = write_recipe(tmp_path / "recipe.yaml", stages=stages)
    save = torch.save
    written = []

    def filling(value, file, *given, **named):
        written.append(file)
        if len(written) > 7:
            with open(file, "wb") as half:
                half.write(b"half of it")
            raise RuntimeError("[enforce fail at inline_container.cc:659] . unexpected pos 64 vs 0")
        return save(value, file, *given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", filling)
        with pytest.raises(CheckpointError, match=r"of step 4 could not be written .* step 2 is intact"):
            Recipe(load_config(recipe)).run()
    folder = tmp_path / "run" / "vae"
    assert json.loads((folder / "latest.json").read_text())["folder"] == "checkpoint_000002"
    assert [path.name for path in folder.glob("checkpoint_*")] == ["checkpoint_000002"]
    Recipe(load_config(recipe)).run()
    straight = write_recipe(tmp_path / "straight.yaml", out=str(tmp_path / "straight"), stages=stages)
    Recipe(load_config(straight)).run()
    files = [tmp_path / name / "model" / "vae.safetensors" for name in ("run", "straight")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_checkpoint_is_complete_or_absent(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)

    def save(target):
        target.mkdir()
        (target / "weights").write_text("weights")

    def full(target):
        save(target)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(CheckpointError, match=r"the disk is full; free some space .*; there is none before it"):
        checkpoints.write(1, {}, full)
    assert not list(tmp_path.iterdir())
    checkpoints.write(1, {}, save)
    (tmp_path / "checkpoint_000002").mkdir()  # of a run that was killed while it wrote
    seen = []
    checkpoints.write(2, {}, save, wait=lambda: seen.append((tmp_path / "checkpoint_000002").exists()))
    assert seen == [False, True], "all wait until what was left is gone, and until all is written"
    assert sorted(path.name for path in tmp_path.glob("checkpoint_*")) == ["checkpoint_000001", "checkpoint_000002"]
    assert checkpoints.latest()["step"] == 2

    def full_for_pytorch(target):
        raise RuntimeError("unexpected pos 64 vs 0")

    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(CheckpointError, match=r"step 3 could not be written .*the disk is full; .* step 2 is intact"):
        checkpoints.write(3, {}, full_for_pytorch)


def test_a_checkpoint_is_kept_until_a_step_from_the_next_succeeded(tmp_path):
    def names():
        return sorted(path.name for path in tmp_path.glob("checkpoint_*"))

    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.write(step, {}, Path.mkdir)
    assert names() == ["checkpoint_000001", "checkpoint_000002"]
    assert checkpoints.before(2)["step"] == 1
    assert checkpoints.before(3)["step"] == 2
    checkpoints.confirm()
    assert names() == ["checkpoint_000002"]
    assert checkpoints.before(2)["step"] == 2  # a loss came of it before
    checkpoints.write(3, {}, Path.mkdir)
    assert checkpoints.fall_back(3, True, lambda: None) == "the checkpoint of step 2 is intact"
    assert (names(), checkpoints.latest()["step"]) == (["checkpoint_000002"], 2)


def test_a_step_that_spoils_the_weights_leaves_a_checkpoint_to_resume_from(tmp_path, monkeypatch):
    def recipe(rate, steps):
        stages = [{**RECIPE["stages"][0], "steps": steps, "checkpoint_every": 1, "learning_rate": rate, "warmup": 0}]
        return load_config(write_recipe(tmp_path / "recipe.yaml", stages=stages))

    with pytest.raises(FloatingPointError, match="at step 2; there is no good checkpoint yet"):
        Recipe(recipe(1e30, 4)).run()
    folder = tmp_path / "run" / "vae"
    assert not list(folder.glob("checkpoint_*"))
    step = Trainer.train_step

    def two_steps(self):
        if self.step == 2:
            raise KeyboardInterrupt
        return step(self)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train_step", two_steps)
        with pytest.raises(KeyboardInterrupt):
            Recipe(recipe(1e-4, 4)).run()
    with pytest.raises(FloatingPointError, match="at step 4; the checkpoint of step 2 is intact"):
        Recipe(recipe(1e30, 4)).run()
    assert [path.name for path in folder.glob("checkpoint_*")] == ["checkpoint_000002"]
    Recipe(recipe(1e-4, 4)).run()
    assert (tmp_path / "run" / "model" / "vae.safetensors").exists()


def test_the_command_reports_why_it_stops(tmp_path, monkeypatch, capsys):
    stages = [{**RECIPE["stages"][0], "checkpoint_every": 1}, RECIPE["stages"][1], RECIPE["stages"][2]]
    recipe = str(write_recipe(tmp_path / "recipe.yaml", stages=stages))
    loss = ImageTask.loss

    def diverging(self, model, batch, rng, generator):
        return {"mse": loss(self, model, batch, rng, generator)["mse"] * float("inf")}

    with monkeypatch.context() as patched:
        patched.setattr(ImageTask, "loss", diverging)
        assert cli.main(["train", recipe, "--stage", "vae"]) == 0
        assert cli.main(["train", recipe, "--stage", "captions"]) == 0
        assert cli.main(["train", recipe, "--stage", "image"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("vidrd: error: the loss became inf at step 1; there is no good checkpoint yet: lower the")
    with monkeypatch.context() as patched:
        full = OSError(errno.ENOSPC, "No space left on device")
        patched.setattr("accelerate.Accelerator.save_state", lambda *_: (_ for _ in ()).throw(full))
        assert cli.main(["train", recipe, "--stage", "image"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "the disk is full; free some space" in last
    assert cli.main(["train", recipe]) == 0
    assert capsys.readouterr().err.splitlines()[-1].startswith("vidrd: finished: the model is in")
