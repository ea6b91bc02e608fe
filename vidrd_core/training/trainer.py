"""The training loop: Accelerate, EMA, checkpoints, exact resume, logs, samples.

A task says what is trained and what the loss is. Everything that chance decides comes from generators of (seed, step,
number of the batch in the step), so that a run that was stopped goes on as if it had not been, and n processes train
on what one does with n times the gradient accumulation.
"""

from __future__ import annotations

import math
import time
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
from vidrd_core.training.checkpoints import CheckpointError, Checkpoints, Named, Recent, no_models, no_weights
from vidrd_core.training.cuda_graphs import record
from vidrd_core.training.data import RecipeError
from vidrd_core.training.distributed import settings
from vidrd_core.training.ema import Average
from vidrd_core.training.fsdp import Pieces, whole
from vidrd_core.training.gradient_checkpointing import BLOCKS, keep, recompute
from vidrd_core.training.log import Log
from vidrd_core.training.optimizer import make_optimizer, rate
from vidrd_core.training.stage_config import StageConfig
from vidrd_core.training.task import Loss, Task

EVALUATED = 8  # batches of the loss on what is held out


class Trainer:
    """Runs one stage in a folder of its own; `run` goes on from the last checkpoint there."""

    def __init__(
        self,
        task: Task[Any],
        stage: StageConfig,
        folder: Path,
        mixed_precision: str = "no",
        trackers: tuple[str, ...] = (),
        made_with: dict[str, Any] | None = None,
    ) -> None:
        """`made_with` are the settings that a run which goes on is compared with: the stage's unless told."""
        self.stage, self.folder, self.task = stage, Path(folder), task
        self.made_with = made_with or stage.shaping()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.accelerator = Accelerator(
            **settings(),
            mixed_precision=mixed_precision,
            gradient_accumulation_steps=stage.accumulation,
            log_with=list(trackers) or None,
            project_dir=str(self.folder),
            # Batches of single frames leave the layers over time without gradients.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.trainable = task.trainable()
        if not self.trainable:
            raise RecipeError(f"stage {stage.name} would train nothing: preset {stage.train!r} fits no parameter")
        for parameter in task.model.parameters():
            parameter.requires_grad_(False)
        for parameter in self.trainable.values():
            parameter.requires_grad_(True)
        self.parameters = list(self.trainable.values())
        optimizer = make_optimizer(self.trainable, stage, self.accelerator.device)
        loss = Loss(task)
        self.pieces = Pieces(loss, self.trainable, self.accelerator, BLOCKS)
        if stage.gradient_checkpointing:
            recompute(task.model)
        self.loss, self.optimizer = self.accelerator.prepare(loss, optimizer)
        self.trainable = self.pieces.trainable(self.loss)
        self.parameters = list(self.trainable.values())
        if stage.cuda_graphs and self.accelerator.device.type == "cuda" and self.accelerator.num_processes == 1:
            record(task.model)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.average = Average(self.parameters, stage.ema)
        self.checkpoints = Checkpoints(self.folder)
        self.log = Log(self.accelerator, self.folder, stage.name)
        self.accelerator.register_save_state_pre_hook(no_weights)
        self.accelerator.register_load_state_pre_hook(no_models)
        self.recent = Recent()
        self.accelerator.register_for_checkpointing(Named(self.trainable), self.average, self.recent)
        self.step = 0
        self.ahead: dict[tuple[int, int], Future[Any]] = {}
        if self.pieces.model is not None and stage.task in ("captions", "image"):
            raise RecipeError(f"stage {stage.name} cannot be spread over processes by FSDP: run it without")
        if trackers:
            self.accelerator.init_trackers("vidrd")

    def run(self) -> nn.Module:
        """Train to the last step; the model with its averaged parameters, on the CPU.

        Ctrl-C (or SIGTERM) ends the step, saves a checkpoint and raises KeyboardInterrupt. Raises FloatingPointError,
        CheckpointError, DataError; the last checkpoint is intact then.
        """
        self.resume()
        self.loss.train()
        with Interrupt() as stop, self.reading():
            self.train(stop)
        self.checkpoints.prove(self.accelerator.is_main_process)
        self.average.take()
        model = self.pieces.whole(self.loss).model
        for tracker in self.accelerator.trackers:  # `end_training` would end the processes' connection, too
            tracker.finish()
        keep(model)
        return model.cpu().eval()

    def train(self, stop: Interrupt) -> None:
        started, first = time.perf_counter(), self.step
        while self.step < self.stage.steps:
            self.recent.losses.append(self.train_step())
            self.checkpoints.prove(self.accelerator.is_main_process)
            self.step += 1
            if self.step % self.stage.log_every == 0:
                pace = (self.step - first) / (time.perf_counter() - started)
                self.log.write(self.step, {**self.recent.means(), "steps_per_s": round(pace, 3)})
                self.recent.losses.clear()
            last = self.step == self.stage.steps
            asked = self.anyone(stop.requested)
            if self.step % self.stage.checkpoint_every == 0 or last or asked:
                self.checkpoint()
            if asked:
                raise KeyboardInterrupt
            self.look()

    def look(self, again: bool = False) -> None:
        """Evaluate and draw samples, if it is time; `again` only what is not there yet."""
        last, main = self.step == self.stage.steps, self.accelerator.is_main_process  # which has the files
        lacks_loss = not again or self.anyone(main and not self.log.holds(self.step, "held_out_"))
        if lacks_loss and (self.step % self.stage.evaluate_every == 0 or last):
            self.evaluate()
        drawn = self.folder / f"sample_{self.step:06d}.png"
        lacks_sample = not again or self.anyone(main and not drawn.exists())
        if lacks_sample and (self.step % self.stage.sample_every == 0 or last):
            self.sample()

    def train_step(self) -> dict[str, float]:
        """One optimiser step over `accumulation` batches of each process; the mean losses of all."""
        sums: dict[str, float] = {}
        self.task.step = self.step
        for group, base in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = base * rate(self.step, self.stage)
        for part in range(self.stage.accumulation):
            batch = self.next_batch(part)
            rng, generator = self.chance(self.step, part)
            with self.accelerator.accumulate(self.loss):
                losses = self.loss(batch, rng, generator)
                total = torch.stack(list(losses.values())).sum()
                self.accelerator.backward(total)
                made = {"loss": total.detach()}
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self.parameters, self.stage.clip_norm)
                    if self.accelerator.scaler is None and norm is not None:  # a scaler leaves out such steps itself
                        made["gradient"] = whole(norm)
                self.check(made)
                self.optimizer.step()
                self.optimizer.zero_grad()
            for name, value in self.mean(losses).items():
                sums[name] = sums.get(name, 0.0) + value / self.stage.accumulation
        self.average.update()
        return sums

    def chance(self, step: int, part: int, kind: int = 1) -> tuple[np.random.Generator, torch.Generator]:
        """Generators for a batch, NumPy's and one for tensors; PyTorch's own, for dropout, is set as well."""
        number = part * self.accelerator.num_processes + self.accelerator.process_index
        rng = np.random.default_rng((self.stage.seed, step, number, kind))
        generator = torch.Generator(self.accelerator.device).manual_seed(int(rng.integers(2**62)))
        torch.manual_seed(int(rng.integers(2**62)))
        return rng, generator

    def next_batch(self, part: int) -> Any:
        """This batch, while the one after it is made."""
        now = (self.step, part)
        after = (self.step, part + 1) if part + 1 < self.stage.accumulation else (self.step + 1, 0)
        for wanted in (now, after):
            if wanted not in self.ahead and wanted[0] < self.stage.steps:
                self.ahead[wanted] = self.reader.submit(self.make_batch, *wanted)
        return self.ahead.pop(now).result()

    def make_batch(self, step: int, part: int) -> Any:
        number = part * self.accelerator.num_processes + self.accelerator.process_index
        # Processes that share the pieces of a model all need the same ones.
        kind = number if self.pieces.model is None else part
        rng, alike = (np.random.default_rng((self.stage.seed, step, *more)) for more in ((number, 0), (kind, 3)))
        return self.task.batch(rng, alike)

    @contextmanager
    def reading(self) -> Iterator[None]:
        self.reader = ThreadPoolExecutor(1)
        try:
            yield
        finally:
            self.reader.shutdown(wait=True, cancel_futures=True)
            self.ahead.clear()

    def check(self, made: dict[str, Tensor]) -> None:
        """Raise FloatingPointError, in all processes, if a number is not finite in any.

        All are looked at together: a GPU is waited for once.
        """
        values = dict(zip(made, torch.stack(list(made.values())).tolist(), strict=True))
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if self.anyone(bool(wrong)):
            what = wrong[0] if wrong else "loss of another process"
            main, wait = self.accelerator.is_main_process, self.accelerator.wait_for_everyone
            left = self.checkpoints.fall_back(self.step, main, wait)
            mend = f"{left}: lower the learning rate and go on from it"
            if not left:
                mend = "there is no good checkpoint yet: lower the learning rate and start again"
            number = values.get(what, math.nan)
            raise FloatingPointError(f"the {what} became {number} at step {self.step + 1}; {mend}")

    def anyone(self, asked: bool) -> bool:
        """Whether it is so in any process."""
        if self.accelerator.num_processes == 1:
            return asked
        flag = torch.tensor(float(asked), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum") > 0)

    def mean(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """Each loss, averaged over the processes."""
        values = torch.stack([loss.detach().float() for loss in losses.values()])
        if self.accelerator.num_processes > 1:
            values = self.accelerator.reduce(values, "mean")
        return dict(zip(losses, values.tolist(), strict=True))

    @torch.no_grad()
    def evaluate(self) -> None:
        """The averaged model's loss on the same batches of what is held out, every time."""
        if getattr(self.task, "held_out", None) is None:
            return
        sums: dict[str, list[float]] = {}
        with self.average.in_place(self.loss):
            for number in range(EVALUATED):
                rng, generator = self.chance(0, number, kind=2)
                own = np.random.default_rng(rng.integers(2**62))
                batch = self.task.batch(own, own, held_out=True)
                for name, value in self.mean(self.loss(batch, rng, generator)).items():
                    sums.setdefault(f"held_out_{name}", []).append(value)
        self.log.write(self.step, {name: fmean(values) for name, values in sums.items()})

    def sample(self) -> None:
        with self.average.in_place(self.loss), torch.no_grad():
            model = self.pieces.whole(self.loss).model
            if self.accelerator.is_main_process:
                figures = self.task.sample(model.eval().to(self.accelerator.device), self.folder, self.step)
                self.pieces.rest()
                self.log.write(self.step, figures)
                for name in ("sample", "long"):
                    self.log.show(self.step, name, self.folder / f"{name}_{self.step:06d}.png")
        self.accelerator.wait_for_everyone()

    def checkpoint(self) -> None:
        """Save all that a resume needs."""
        save, wait = self.accelerator.save_state, self.accelerator.wait_for_everyone
        main = self.accelerator.is_main_process
        self.checkpoints.write(self.step, self.made_with, lambda target: save(str(target)), main, wait)

    def resume(self) -> None:
        """Take up the newest checkpoint, if there is one.

        Raises RecipeError if it is of other parameters, CheckpointError if it is damaged.
        """
        latest = self.checkpoints.latest()
        if latest is None:
            self.log.cut(0)
            return
        anew = f"delete {self.folder} to train this stage anew"
        if (before := latest.get("stage", {}).get("train", self.stage.train)) != self.stage.train:
            raise RecipeError(
                f"stage {self.stage.name} was stopped at step {latest['step']} of train: {before}, and now has "
                f"{self.stage.train}: undo that, or {anew}"
            )
        place = self.folder / latest["folder"]
        try:
            self.accelerator.load_state(str(place))
        except (OSError, RuntimeError, ValueError, KeyError, EOFError, UnpicklingError) as error:
            what = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(None, f"the checkpoint {place} is damaged: {what}; {anew}") from error
        self.step = latest["step"]
        self.log.cut(self.step)
        changed = changes(self.made_with, latest.get("stage", {}))
        now = f", now with {changed}" if changed else ""
        self.accelerator.print(f"{self.stage.name}: resumed at step {self.step}{now}", flush=True)
        if self.step:  # it may have been killed between the checkpoint and these
            self.look(again=True)
