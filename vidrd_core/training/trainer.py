"""The training loop of a stage: accumulation, precision, EMA, checkpoints that resume exactly, logs, samples.

A task defines what is trained and its loss. Everything random comes from generators seeded by (seed, step, number of
the batch in the step), so a resumed run gives the same result, and n processes train on the same batches as one
process with n times the gradient accumulation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from statistics import fmean
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from vidrd_core.io.configs import changes
from vidrd_core.io.interrupt import Interrupt
from vidrd_core.io.os_errors import first_line
from vidrd_core.training.checkpoints import (
    CheckpointError,
    Checkpoints,
    RecentLosses,
    TrainedParameters,
    load_no_models,
    save_no_models,
)
from vidrd_core.training.cuda_graphs import capture
from vidrd_core.training.data import RecipeError
from vidrd_core.training.distributed import accelerate_settings
from vidrd_core.training.ema import EMA
from vidrd_core.training.fsdp import ShardedModel, full_tensor
from vidrd_core.training.gradient_checkpointing import BLOCKS, checkpoint_blocks, restore_forward
from vidrd_core.training.log import Log
from vidrd_core.training.optimizer import learning_rate_factor, make_optimizer
from vidrd_core.training.progress import PlainProgress, Progress
from vidrd_core.training.stage_config import StageConfig
from vidrd_core.training.task import Loss, Task

EVALUATED = 8  # batches of held-out clips


class Trainer:
    """Trains one stage in a folder of its own; `run` resumes from the newest checkpoint there.

    Args:
        task: What is trained.
        stage: Steps, optimiser, intervals.
        folder: Where checkpoints, log and samples are written.
        mixed_precision: "no", "fp16" or "bf16".
        trackers: "tensorboard", "wandb".
        settings: What a resumed run's settings are compared with, by name; by default the stage's.
        progress: Gets reports; by default they are printed as lines.

    Raises:
        RecipeError: The stage would train no parameter, or cannot be trained this way.
    """

    def __init__(
        self,
        task: Task[Any],
        stage: StageConfig,
        folder: Path,
        mixed_precision: str = "no",
        trackers: tuple[str, ...] = (),
        settings: dict[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.stage, self.folder, self.task = stage, Path(folder), task
        self.settings, self.progress = settings or stage.shaping(), progress or PlainProgress()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.accelerator = Accelerator(
            **accelerate_settings(),
            mixed_precision=mixed_precision,
            gradient_accumulation_steps=stage.accumulation,
            log_with=list(trackers) or None,
            project_dir=str(self.folder),
            # In batches of single frames the temporal layers have no gradients.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.trainable = task.trainable()
        if not self.trainable:
            raise RecipeError(f"stage {stage.name} would train nothing: preset {stage.train!r} fits no parameter")
        for parameter in task.model.parameters():
            parameter.requires_grad_(False)
        for parameter in self.trainable.values():
            parameter.requires_grad_(True)
        loss = Loss(task)
        self.sharded = ShardedModel(loss, self.trainable, self.accelerator, BLOCKS)
        optimizer = make_optimizer(self.trainable, stage, self.accelerator.device, self.sharded.is_sharded)
        if stage.gradient_checkpointing:
            checkpoint_blocks(task.model)
        self.loss, self.optimizer = self.accelerator.prepare(loss, optimizer)
        self.trainable = self.sharded.trainable(self.loss)
        self.parameters = list(self.trainable.values())
        if stage.cuda_graphs and self.accelerator.device.type == "cuda" and self.accelerator.num_processes == 1:
            capture(task.model)
        self.learning_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.ema = EMA(self.parameters, stage.ema)
        self.checkpoints = Checkpoints(self.folder)
        self.log = Log(self.accelerator, self.folder, stage.name, stage.steps, self.progress)
        self.accelerator.register_save_state_pre_hook(save_no_models)
        self.accelerator.register_load_state_pre_hook(load_no_models)
        self.recent = RecentLosses()
        self.accelerator.register_for_checkpointing(TrainedParameters(self.trainable), self.ema, self.recent)
        self.step = 0
        self.prefetched: dict[tuple[int, int], Future[Any]] = {}
        if self.sharded.is_sharded and stage.task in ("captions", "image"):
            raise RecipeError(f"stage {stage.name} cannot be sharded over processes by FSDP: run it without")
        if trackers:
            self.accelerator.init_trackers("vidrd")

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, which writes files and reports."""
        return bool(self.accelerator.is_main_process)

    def run(self) -> nn.Module:
        """Train to the last step.

        Ctrl-C (or SIGTERM) finishes the step, saves a checkpoint and raises KeyboardInterrupt.

        Returns:
            The model with its EMA weights, on the CPU.

        Raises:
            FloatingPointError: A loss or gradient is not finite; the last good checkpoint is intact.
            CheckpointError: A checkpoint cannot be written or read.
            DataError: A clip can no longer be read.
        """
        self.resume()
        self.loss.train()
        if self.is_main:
            self.progress.begin(self.stage.name, self.step, self.stage.steps)
        try:
            with Interrupt() as stop, self.prefetching():
                self.train(stop)
        finally:
            if self.is_main:
                self.progress.end()
        self.checkpoints.confirm(self.is_main)
        self.ema.copy_to_parameters()
        model = self.sharded.gathered(self.loss).model
        for tracker in self.accelerator.trackers:  # `end_training` would end the processes' connection as well
            tracker.finish()
        restore_forward(model)
        return model.cpu().eval()

    def train(self, stop: Interrupt) -> None:
        """Train from the current step to the last one, or until `stop` is asked for."""
        self.log.begin(self.step)
        while self.step < self.stage.steps:
            losses = self.train_step()
            self.recent.losses.append(losses)
            self.checkpoints.confirm(self.is_main)
            self.step += 1
            if self.is_main:
                self.progress.step(self.step, losses)
            if self.step % self.stage.log_every == 0:
                self.log.write(self.step, self.recent.means(), {"steps_per_s": round(self.log.pace(self.step), 3)})
                self.recent.losses.clear()
            last = self.step == self.stage.steps
            asked = self.any_process(stop.requested)
            if self.step % self.stage.checkpoint_every == 0 or last or asked:
                self.checkpoint()
            if asked:
                raise KeyboardInterrupt
            self.evaluate_and_sample()

    def evaluate_and_sample(self, only_missing: bool = False) -> None:
        """Evaluate and generate samples, if this step is due; `only_missing`: only what is not on disk yet."""
        last = self.step == self.stage.steps
        # The main process alone has the files.
        lacks_loss = not only_missing or self.any_process(self.is_main and not self.log.holds(self.step, "held_out_"))
        if lacks_loss and (self.step % self.stage.evaluate_every == 0 or last):
            self.evaluate()
        sheet = self.folder / f"sample_{self.step:06d}.png"
        lacks_sample = not only_missing or self.any_process(self.is_main and not sheet.exists())
        if lacks_sample and (self.step % self.stage.sample_every == 0 or last):
            self.sample()

    def train_step(self) -> dict[str, float]:
        """One optimiser step over `accumulation` batches of each process; the mean of each loss over all of them."""
        sums: dict[str, float] = {}
        self.task.step = self.step
        for group, base in zip(self.optimizer.param_groups, self.learning_rates, strict=True):
            group["lr"] = base * learning_rate_factor(self.step, self.stage)
        for part in range(self.stage.accumulation):
            batch = self.next_batch(part)
            rng, generator = self.generators(self.step, part)
            with self.accelerator.accumulate(self.loss):
                losses = self.loss(batch, rng, generator)
                total = torch.stack(list(losses.values())).sum()
                self.accelerator.backward(total)
                values = {"loss": total.detach()}
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self.parameters, self.stage.clip_norm)
                    if self.accelerator.scaler is None and norm is not None:  # a scaler skips such steps itself
                        values["gradient"] = full_tensor(norm)
                self.check_finite(values)
                self.optimizer.step()
                self.optimizer.zero_grad()
            for name, value in self.mean_over_processes(losses).items():
                sums[name] = sums.get(name, 0.0) + value / self.stage.accumulation
        self.ema.update()
        return sums

    def generators(self, step: int, part: int, kind: int = 1) -> tuple[np.random.Generator, torch.Generator]:
        """Random generators for a batch, NumPy's and PyTorch's; PyTorch's global one, for dropout, is seeded too."""
        number = part * self.accelerator.num_processes + self.accelerator.process_index
        rng = np.random.default_rng((self.stage.seed, step, number, kind))
        generator = torch.Generator(self.accelerator.device).manual_seed(int(rng.integers(2**62)))
        torch.manual_seed(int(rng.integers(2**62)))
        return rng, generator

    def next_batch(self, part: int) -> Any:
        """The batch of the current step, while the one after it is being made."""
        now = (self.step, part)
        after = (self.step, part + 1) if part + 1 < self.stage.accumulation else (self.step + 1, 0)
        for wanted in (now, after):
            if wanted not in self.prefetched and wanted[0] < self.stage.steps:
                self.prefetched[wanted] = self.reader.submit(self.make_batch, *wanted)
        return self.prefetched.pop(now).result()

    def make_batch(self, step: int, part: int) -> Any:
        """The batch of this process for a step and a part of it."""
        number = part * self.accelerator.num_processes + self.accelerator.process_index
        # Processes that share a sharded model all need the same parts of it.
        shared = part if self.sharded.is_sharded else number
        rng, shared_rng = (np.random.default_rng((self.stage.seed, step, *m)) for m in ((number, 0), (shared, 3)))
        return self.task.batch(rng, shared_rng)

    @contextmanager
    def prefetching(self) -> Iterator[None]:
        """A context in which a thread makes the batches."""
        self.reader = ThreadPoolExecutor(1)
        try:
            yield
        finally:
            self.reader.shutdown(wait=True, cancel_futures=True)
            self.prefetched.clear()

    def check_finite(self, values: dict[str, Tensor]) -> None:
        """Raise FloatingPointError, in all processes, if a value is not finite in any of them.

        The values are read together, so that a GPU is waited for only once.
        """
        numbers = dict(zip(values, torch.stack(list(values.values())).tolist(), strict=True))
        wrong = [name for name, value in numbers.items() if not math.isfinite(value)]
        if self.any_process(bool(wrong)):
            what = wrong[0] if wrong else "loss of another process"
            left = self.checkpoints.fall_back(self.step, self.is_main, self.accelerator.wait_for_everyone)
            remedy = f"{left}: lower the learning rate and resume from it"
            if not left:
                remedy = "there is no good checkpoint yet: lower the learning rate and start again"
            number = numbers.get(what, math.nan)
            raise FloatingPointError(f"the {what} became {number} at step {self.step + 1}; {remedy}")

    def any_process(self, condition: bool) -> bool:
        """Whether a condition holds in any process."""
        if self.accelerator.num_processes == 1:
            return condition
        flag = torch.tensor(float(condition), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum") > 0)

    def mean_over_processes(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """Each loss, averaged over the processes."""
        values = torch.stack([loss.detach().float() for loss in losses.values()])
        if self.accelerator.num_processes > 1:
            values = self.accelerator.reduce(values, "mean")
        return dict(zip(losses, values.tolist(), strict=True))

    @torch.no_grad()
    def evaluate(self) -> None:
        """Log the EMA model's loss on held-out clips: the same batches every time."""
        if getattr(self.task, "held_out", None) is None:
            return
        sums: dict[str, list[float]] = {}
        with self.ema.applied(self.loss):
            for number in range(EVALUATED):
                rng, generator = self.generators(0, number, kind=2)
                own = np.random.default_rng(rng.integers(2**62))
                batch = self.task.batch(own, own, held_out=True)
                for name, value in self.mean_over_processes(self.loss(batch, rng, generator)).items():
                    sums.setdefault(f"held_out_{name}", []).append(value)
        self.log.write(self.step, {name: fmean(values) for name, values in sums.items()})

    def sample(self) -> None:
        """Generate samples with the EMA model and log the figures."""
        with self.ema.applied(self.loss), torch.no_grad():
            model = self.sharded.gathered(self.loss).model
            if self.is_main:
                figures = self.task.sample(model.eval().to(self.accelerator.device), self.folder, self.step)
                self.sharded.offload_copy()
                self.log.write(self.step, {}, figures)
                for name in ("sample", "long"):
                    self.log.show(self.step, name, self.folder / f"{name}_{self.step:06d}.png")
        self.accelerator.wait_for_everyone()

    def checkpoint(self) -> None:
        """Save everything that resuming needs. Raises CheckpointError."""
        save, wait = self.accelerator.save_state, self.accelerator.wait_for_everyone
        self.checkpoints.write(self.step, self.settings, lambda target: save(str(target)), self.is_main, wait)

    def resume(self) -> None:
        """Load the newest checkpoint, if there is one.

        Raises:
            RecipeError: It is of other trained parameters.
            CheckpointError: It is damaged.
        """
        latest = self.checkpoints.latest()
        if latest is None:
            self.log.truncate(0)
            return
        restart = f"delete {self.folder} to train this stage again"
        if (before := latest.get("stage", {}).get("train", self.stage.train)) != self.stage.train:
            raise RecipeError(
                f"stage {self.stage.name} was stopped at step {latest['step']} of train: {before}, and now has "
                f"{self.stage.train}: undo that, or {restart}"
            )
        place = self.folder / latest["folder"]
        try:
            self.accelerator.load_state(str(place))
        except (OSError, RuntimeError, ValueError, KeyError, EOFError, UnpicklingError) as error:
            what = first_line(error)
            raise CheckpointError(None, f"the checkpoint {place} is damaged: {what}; {restart}") from error
        self.step = latest["step"]
        self.log.truncate(self.step)
        self.log.begin(self.step)
        changed = changes(self.settings, latest.get("stage", {}))
        if self.is_main:
            now = f", now with {changed}" if changed else ""
            self.progress.message(f"{self.stage.name}: resumed at step {self.step}{now}")
        if self.step:  # the process may have been killed between the checkpoint and these
            self.evaluate_and_sample(only_missing=True)
