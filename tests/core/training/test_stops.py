"""A run that was stopped resumes as if it had not been."""

import dataclasses
import json
import signal

import numpy as np
import pytest

from vidrd_core.training.config import load_config
from vidrd_core.training.recipe import Recipe
from vidrd_core.training.trainer import Trainer

from .helpers import write_recipe


class Killed(Exception):
    pass


def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path):
    """Weights and their average, for stages of each kind but the last."""
    results, curves = [], []
    for name, stop_at in (("straight", None), ("stopped", 5)):
        path = write_recipe(tmp_path / f"{name}.yaml", out=str(tmp_path / name))
        config = load_config(path)
        stages = tuple(
            dataclasses.replace(stage, steps=7, checkpoint_every=2, log_every=3) for stage in config.stages[:4]
        )
        config = dataclasses.replace(config, stages=stages)
        if stop_at:
            for stage in stages:
                run_and_kill(config, stage, stop_at)
        results.append(Recipe(config).run())
        curves.append([curve(tmp_path / name / stage.name / "log.jsonl") for stage in stages])
    assert curves[0] == curves[1]
    for part in ("vae.safetensors", "unet.safetensors", "text_encoder.safetensors"):
        assert (results[0] / part).read_bytes() == (results[1] / part).read_bytes(), part


def curve(log):
    """A stage's log without how long it took."""
    lines = map(json.loads, log.read_text().splitlines())
    return [{name: value for name, value in line.items() if name != "steps_per_s"} for line in lines]


def run_and_kill(config, stage, step):
    """Run a stage, have it die in the middle of a step, and run it to its end."""
    original = Trainer.train_step

    def dying(self):
        if self.step == step:
            raise Killed
        return original(self)

    Trainer.train_step = dying
    try:
        with pytest.raises(Killed):
            Recipe(config).run(stage.name)
    finally:
        Trainer.train_step = original
    Recipe(config).run(stage.name)


def test_an_interrupt_saves_a_checkpoint(tmp_path, monkeypatch):
    config = load_config(write_recipe(tmp_path / "recipe.yaml"))
    original = Trainer.train_step

    def interrupted(self):
        if self.step == 1:
            signal.raise_signal(signal.SIGINT)
        return original(self)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Recipe(config).run("vae")
    assert json.loads((tmp_path / "run" / "vae" / "latest.json").read_text())["step"] == 2
    assert not (tmp_path / "run" / "vae" / "done").exists()
    Recipe(config).run("vae")
    assert (tmp_path / "run" / "vae" / "done").exists()


def test_the_log_has_the_mean_loss_since_its_last_line(tmp_path, monkeypatch):
    config = load_config(write_recipe(tmp_path / "recipe.yaml"))
    stage = dataclasses.replace(config.stages[0], steps=6, log_every=3)
    config = dataclasses.replace(config, stages=(stage,))
    losses = []
    original = Trainer.train_step

    def noted(self):
        if self.step == 4 and len(losses) == 4:
            signal.raise_signal(signal.SIGINT)
        losses.append(original(self)["mse"])
        return {"mse": losses[-1]}

    monkeypatch.setattr(Trainer, "train_step", noted)
    with pytest.raises(KeyboardInterrupt):
        Recipe(config).run()
    Recipe(config).run()
    lines = [json.loads(line) for line in (tmp_path / "run" / "vae" / "log.jsonl").read_text().splitlines()]
    assert [line["mse"] for line in lines if "mse" in line] == [np.mean(losses[:3]), np.mean(losses[3:])]
