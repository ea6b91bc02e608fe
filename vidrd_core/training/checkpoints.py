"""Checkpoints of a stage: each complete or absent, the newest one named in `latest.json`; and what is in them.

The checkpoint before the newest is kept until a step from the newest has succeeded: only then is it known that the
newest one's weights are valid (a loss that is NaN shows it one step late).
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
from vidrd_core.training.fsdp import copy_full, full_tensor

POINTER = "latest.json"
LITTLE_SPACE = 2**20  # bytes: PyTorch gives no errno where a disk is full


class CheckpointError(OSError):
    """A checkpoint could not be written or read; the message names the one that is intact."""


class Checkpoints:
    """The checkpoints in a stage's folder.

    Args:
        folder: The folder; each checkpoint is a folder `checkpoint_STEP` in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.pointer = folder, folder / POINTER
        self.confirmed = False  # as far as is known without reading `latest.json`

    def latest(self) -> dict[str, Any] | None:
        """The entry of the newest checkpoint (`folder`, `step`, `stage`, maybe `before`); None without one."""
        return json.loads(self.pointer.read_text(encoding="utf-8")) if self.pointer.exists() else None

    def write(
        self,
        step: int,
        stage: dict[str, Any],
        save: Callable[[Path], None],
        main: bool = True,
        wait: Callable[[], None] = lambda: None,
    ) -> None:
        """Write a checkpoint beside the one before it.

        Args:
            step: Steps done.
            stage: The settings that a resumed run is compared with.
            save: Writes a checkpoint into the folder that it gets; called by every process.
            main: Whether this is the main process, which does everything else.
            wait: Waits for all processes.

        Raises:
            CheckpointError: It could not be written; the message says why and which checkpoint is intact.
        """
        target = self.folder / f"checkpoint_{step:06d}"
        before, kept = self.latest(), self.before(step)
        self.confirmed = False
        try:
            if main and target.exists() and (before or {}).get("folder") != target.name:
                shutil.rmtree(target)  # of a run that was killed while it wrote
            wait()  # or the main process would remove what another has begun
            save(target)
            wait()
            if main:
                self._write_pointer({"folder": target.name, "step": step, "stage": stage, "before": kept})
        except (OSError, RuntimeError) as error:  # PyTorch raises RuntimeError where a disk is full
            if main and (before or {}).get("folder") != target.name:
                shutil.rmtree(target, ignore_errors=True)
            left = f"that of step {before['step']} is intact" if before else "there is none before it"
            number = error.errno if isinstance(error, OSError) else None
            if number is None and shutil.disk_usage(self.folder).free < LITTLE_SPACE:
                number = errno.ENOSPC
            what = f"{type(error).__name__}: {error}"
            if "inline_container" in what:  # of PyTorch's writer, whose text is about its insides
                what = "the file could not be written whole; is there a limit to the size of files, or a quota?"
            reason = why(number, what)
            raise CheckpointError(
                number, f"the checkpoint of step {step} could not be written to {self.folder}: {reason}; {left}"
            ) from error
        if main:
            self._remove_others(target.name, *([kept["folder"]] if kept else []))

    def confirm(self, main: bool = True) -> None:
        """A step from the newest checkpoint succeeded: remove the one before it."""
        latest = self.latest() if main and not self.confirmed else None
        self.confirmed = True
        if latest and "before" in latest:
            del latest["before"]
            self._write_pointer(latest)
            self._remove_others(latest["folder"])

    def before(self, step: int) -> dict[str, Any] | None:
        """The entry of the newest checkpoint; of the one before it, where it is that of `step` and not confirmed."""
        latest = self.latest()
        if latest and "before" in latest and latest["step"] == step:
            before: dict[str, Any] | None = latest["before"]
            return before
        return latest

    def fall_back(self, step: int, main: bool, wait: Callable[[], None]) -> str:
        """Make the checkpoint before `step` the newest, because training cannot continue from `step`.

        Args:
            step: The step whose checkpoint is discarded, if it has one.
            main: Whether this is the main process.
            wait: Waits for all processes.

        Returns:
            Which checkpoint is intact, as text; "" for none.
        """
        kept = self.before(step)
        wait()  # until every process has read the entry
        if main and kept:
            self._write_pointer(kept)
            self._remove_others(kept["folder"])
        elif main:
            self.pointer.unlink(missing_ok=True)
            self._remove_others()
        return f"the checkpoint of step {kept['step']} is intact" if kept else ""

    def _remove_others(self, *kept: str) -> None:
        for other in self.folder.glob("checkpoint_*"):
            if other.name not in kept:
                shutil.rmtree(other, ignore_errors=True)

    def _write_pointer(self, entry: dict[str, Any]) -> None:
        write_json(self.pointer, entry, indent=None)


class TrainedParameters:
    """The trained parameters as a checkpoint has them; frozen ones are left out.

    Args:
        parameters: The parameters by name.
    """

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        self.parameters = parameters

    def state_dict(self) -> dict[str, Tensor]:
        """Values by name; every process has to call it."""
        return {name: full_tensor(parameter.detach()) for name, parameter in self.parameters.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` gave. Raises KeyError for a parameter that it lacks."""
        for name, parameter in self.parameters.items():
            copy_full(parameter, state[name])


class RecentLosses:
    """The losses of the steps since the last line of the log, so that a resumed run logs the same means."""

    def __init__(self) -> None:
        self.losses: list[dict[str, float]] = []

    def means(self) -> dict[str, float]:
        """Mean of each loss over the steps that have it."""
        names = dict.fromkeys(name for losses in self.losses for name in losses)
        return {name: fmean(losses[name] for losses in self.losses if name in losses) for name in names}

    def state_dict(self) -> dict[str, Any]:
        """The losses, for checkpoints."""
        return {"losses": self.losses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.losses[:] = state["losses"]


def save_no_models(models: list[Any], weights: list[Any], folder: str) -> None:
    """A save hook of Accelerate's that leaves models out: `TrainedParameters` has what is needed of them."""
    weights.clear()


def load_no_models(models: list[Any], folder: str) -> None:
    """A load hook of Accelerate's that leaves models out."""
    models.clear()
