"""The training loop: Accelerate, EMA, checkpoints, exact resume, logs, sample sheets.

A task says what is trained and what the loss is; everything it draws comes from generators of (seed, step), so a run
that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from vidrd_core.interrupt import Interrupt
from vidrd_core.training.config import RecipeError, StageConfig, changes

Model = TypeVar("Model", bound=nn.Module)


class Task(Protocol[Model]):
    """One thing to train."""

    @property
    def model(self) -> Model:
        """All that the stage holds; its average is what comes out."""

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters to train, by name; all others stay as they are."""

    def loss(self, model: Model, rng: np.random.Generator, generator: torch.Generator) -> dict[str, Tensor]:
        """The losses of one batch; their sum is minimised."""

    def sample(self, model: Model, path: Path) -> dict[str, float]:
        """Write a picture of what the model makes; return figures for the log."""


class Loss(nn.Module):
    """A task's loss as a module, so that Accelerate can wrap what is trained."""

    def __init__(self, task: Task[Any]) -> None:
        super().__init__()
        self.model, self.task = task.model, task

    def forward(self, rng: np.random.Generator, generator: torch.Generator) -> dict[str, Tensor]:
        return self.task.loss(self.model, rng, generator)


class Trainer:
    """Runs one stage in a folder of its own; `run` goes on from the last checkpoint there."""

    def __init__(self, task: Task[Any], stage: StageConfig, folder: Path, mixed_precision: str = "no") -> None:
        self.stage, self.folder, self.task = stage, Path(folder), task
        self.folder.mkdir(parents=True, exist_ok=True)
        self.accelerator = Accelerator(
            mixed_precision=mixed_precision, gradient_accumulation_steps=stage.accumulation
        )
        if self.accelerator.num_processes > 1:
            raise RecipeError("training runs in one process, and this is one of several: start it without a launcher")
        trainable = task.trainable()
        if not trainable:
            raise RecipeError(f"stage {stage.name} would train nothing: preset {stage.train!r} fits no parameter")
        for parameter in task.model.parameters():
            parameter.requires_grad_(False)
        for parameter in trainable.values():
            parameter.requires_grad_(True)
        self.parameters = list(trainable.values())
        self.ema = AveragedModel(task.model, multi_avg_fn=_ema(stage.ema))
        optimizer = torch.optim.AdamW(
            parameter_groups(trainable, stage), lr=stage.learning_rate, weight_decay=stage.weight_decay
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, stage))
        self.loss, self.optimizer, self.scheduler = self.accelerator.prepare(Loss(task), optimizer, scheduler)
        self.ema.to(self.accelerator.device)
        self.accelerator.register_for_checkpointing(self.ema)
        self.step = 0

    def run(self) -> nn.Module:
        """Train to the last step; the averaged model.

        Ctrl-C (or SIGTERM) ends the step, saves a checkpoint and raises KeyboardInterrupt.
        """
        self.resume()
        self.loss.train()
        with Interrupt() as stop:
            self.train(stop)
        return self.ema.module.cpu().eval()

    def train(self, stop: Interrupt) -> None:
        started, first = time.perf_counter(), self.step
        recent: list[dict[str, float]] = []  # losses since the last line of the log, or since a resume
        while self.step < self.stage.steps:
            recent.append(self.train_step())
            self.step += 1
            if self.step % self.stage.log_every == 0:
                pace = (self.step - first) / (time.perf_counter() - started)
                means = {name: round(fmean(losses[name] for losses in recent), 5) for name in recent[0]}
                self.log({**means, "steps_per_s": round(pace, 3)})
                recent.clear()
            last = self.step == self.stage.steps
            if self.step % self.stage.checkpoint_every == 0 or last or stop.asked:
                self.checkpoint()
            stop.check()
            if self.step % self.stage.sample_every == 0 or last:
                self.sample()

    def train_step(self) -> dict[str, float]:
        """One optimiser step over `accumulation` batches."""
        sums: dict[str, float] = {}
        for part in range(self.stage.accumulation):
            rng = np.random.default_rng((self.stage.seed, self.step, part))
            generator = torch.Generator(self.accelerator.device).manual_seed(int(rng.integers(2**62)))
            torch.manual_seed(int(rng.integers(2**62)))  # for dropout
            with self.accelerator.accumulate(self.loss):
                losses = self.loss(rng, generator)
                total = torch.stack(list(losses.values())).sum()
                if not torch.isfinite(total):
                    raise FloatingPointError(
                        f"the loss became {total.item()} at step {self.step}; the last checkpoint is intact: "
                        f"lower the learning rate and go on from it"
                    )
                self.accelerator.backward(total)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.parameters, self.stage.clip_norm)
                self.optimizer.step()
                self.scheduler.step()
                self.optimizer.zero_grad()
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + loss.item() / self.stage.accumulation
        self.ema.update_parameters(self.task.model)
        return sums

    def log(self, values: dict[str, Any]) -> None:
        record = {"step": self.step, **values}
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self.accelerator.print(f"{self.stage.name}: {json.dumps(record)}", flush=True)

    def sample(self) -> None:
        self.ema.eval()
        with torch.no_grad():
            self.log(self.task.sample(self.ema.module, self.folder / f"sample_{self.step:06d}.png"))

    def checkpoint(self) -> None:
        """Save all that a resume needs; the newest whole checkpoint is named in `latest.json`."""
        target = self.folder / f"checkpoint_{self.step:06d}"
        self.accelerator.save_state(str(target))
        pointer = self.folder / "latest.json"
        old = json.loads(pointer.read_text())["folder"] if pointer.exists() else None
        partial = pointer.with_suffix(".partial")
        partial.write_text(json.dumps({"folder": target.name, "step": self.step, "stage": asdict(self.stage)}))
        partial.replace(pointer)
        if old and old != target.name:
            _remove(self.folder / old)

    def resume(self) -> None:
        """Take up the newest checkpoint, if there is one."""
        pointer = self.folder / "latest.json"
        if pointer.exists():
            latest = json.loads(pointer.read_text())
            self.accelerator.load_state(str(self.folder / latest["folder"]))
            self.step = latest["step"]
            changed = changes(self.stage.shaping(), latest.get("stage", {}))
            now = f", now with {changed}" if changed else ""
            self.accelerator.print(f"{self.stage.name}: resumed at step {self.step}{now}", flush=True)


def parameter_groups(trainable: dict[str, nn.Parameter], stage: StageConfig) -> list[dict[str, Any]]:
    """One optimiser group for each rate; of the marks in `stage.rates` that a name contains, the last decides."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in trainable.items():
        fitting = [factor for mark, factor in stage.rates.items() if mark in name]
        factor = fitting[-1] if fitting else 1.0
        groups.setdefault(factor, []).append(parameter)
    return [{"params": params, "lr": stage.learning_rate * factor} for factor, params in groups.items()]


def rate(step: int, stage: StageConfig) -> float:
    """Linear warm-up, then a cosine from 1 to `final_rate`."""
    if step < stage.warmup:
        return (step + 1) / stage.warmup
    share = min(1.0, (step - stage.warmup) / max(1, stage.steps - stage.warmup))
    return stage.final_rate + (1 - stage.final_rate) * 0.5 * (1 + math.cos(math.pi * share))


def _ema(decay: float) -> Any:
    """An exponential moving average that follows fast at first: decay (1 + n) / (10 + n), at most `decay`."""

    @torch.no_grad()
    def update(averaged: Any, current: Any, count: Tensor | int) -> None:
        n = float(count)
        weight = 1 - min(decay, (1 + n) / (10 + n))
        torch._foreach_lerp_(averaged, current, weight)

    return update


def _remove(folder: Path) -> None:
    for file in sorted(folder.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    folder.rmdir()
