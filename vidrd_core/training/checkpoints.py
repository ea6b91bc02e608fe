"""Checkpoints of a stage: each whole or not there, the newest one named in `latest.json`; and what is in them.

Beside the newest stays the one before, until training has gone on from the newest: only then a loss that is no number
shows that the step before had spoilt the weights.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import Tensor, nn

from vidrd_core.io.atomic import write_json
from vidrd_core.io.os_errors import why
from vidrd_core.training.fsdp import put, whole

POINTER = "latest.json"
LITTLE = 2**20  # bytes: PyTorch has no number of the error where a disk is full


class CheckpointError(OSError):
    """A checkpoint could not be written; the one before is intact."""


class Checkpoints:
    """Those in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pointer = folder, folder / POINTER
        self.proven = False  # as far as is known without looking

    def latest(self) -> dict[str, Any] | None:
        """What is said of the newest one: its folder, step and stage."""
        return json.loads(self.pointer.read_text(encoding="utf-8")) if self.pointer.exists() else None

    def write(
        self,
        step: int,
        stage: dict[str, Any],
        save: Callable[[Path], None],
        main: bool = True,
        wait: Callable[[], None] = lambda: None,
    ) -> None:
        """Have one written by `save`, beside the one before. Raises CheckpointError, telling what is left.

        Of several processes all save, and the main one does the rest; `wait` waits for all of them.
        """
        target = self.folder / f"checkpoint_{step:06d}"
        before, kept = self.latest(), self.before(step)
        self.proven = False
        try:
            if main and target.exists() and (before or {}).get("folder") != target.name:
                shutil.rmtree(target)  # of a run that was killed while it wrote
            wait()  # or the main one took away what another has begun
            save(target)
            wait()
            if main:
                self._point({"folder": target.name, "step": step, "stage": stage, "before": kept})
        except (OSError, RuntimeError) as error:  # PyTorch says RuntimeError where a disk is full
            if main and (before or {}).get("folder") != target.name:
                shutil.rmtree(target, ignore_errors=True)
            left = f"that of step {before['step']} is intact" if before else "there is none before it"
            number = error.errno if isinstance(error, OSError) else None
            if number is None and shutil.disk_usage(self.folder).free < LITTLE:
                number = errno.ENOSPC
            reason = why(number, f"{type(error).__name__}: {error}")
            raise CheckpointError(
                number, f"the checkpoint of step {step} could not be written to {self.folder}: {reason}; {left}"
            ) from error
        if main:
            self._clear(target.name, *([kept["folder"]] if kept else []))

    def prove(self, main: bool = True) -> None:
        """Training went on from the newest one: the one before is taken away."""
        latest = self.latest() if main and not self.proven else None
        self.proven = True
        if latest and "before" in latest:
            del latest["before"]
            self._point(latest)
            self._clear(latest["folder"])

    def before(self, step: int) -> dict[str, Any] | None:
        """What is said of the newest one, or of the one before it if it is of `step` and nothing came of it yet."""
        latest = self.latest()
        if latest and "before" in latest and latest["step"] == step:
            before: dict[str, Any] | None = latest["before"]
            return before
        return latest

    def fall_back(self, step: int, main: bool, wait: Callable[[], None]) -> str:
        """Make the one before `step` the newest, as nothing can come of `step`; what is left, in words."""
        kept = self.before(step)
        wait()  # for all to have looked
        if main and kept:
            self._point(kept)
            self._clear(kept["folder"])
        elif main:
            self.pointer.unlink(missing_ok=True)
            self._clear()
        return f"the checkpoint of step {kept['step']} is intact" if kept else ""

    def _clear(self, *kept: str) -> None:
        for other in self.folder.glob("checkpoint_*"):
            if other.name not in kept:
                shutil.rmtree(other, ignore_errors=True)

    def _point(self, said: dict[str, Any]) -> None:
        write_json(self.pointer, said, indent=None)


class Named:
    """The trained parameters, for checkpoints; what stays as it was is not in them."""

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        self.parameters = parameters

    def state_dict(self) -> dict[str, Tensor]:
        return {name: whole(parameter.detach()) for name, parameter in self.parameters.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            put(parameter, state[name])


class Recent:
    """The losses since the last line of the log."""

    def __init__(self) -> None:
        self.losses: list[dict[str, float]] = []

    def means(self) -> dict[str, float]:
        names = dict.fromkeys(name for losses in self.losses for name in losses)
        return {name: fmean(losses[name] for losses in self.losses if name in losses) for name in names}

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.losses[:] = state["losses"]


def no_weights(models: list[Any], weights: list[Any], folder: str) -> None:
    """A hook of Accelerate's: it saves no models, for `Named` does."""
    weights.clear()


def no_models(models: list[Any], folder: str) -> None:
    """Nor does it load any."""
    models.clear()
