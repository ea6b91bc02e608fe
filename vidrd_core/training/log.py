"""A stage's log: a JSON line for each entry, and the same figures for TensorBoard or Weights & Biases."""

from __future__ import annotations

import time
from math import isfinite
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from vidrd_core.io.atomic import write_text
from vidrd_core.io.configs import parse_json
from vidrd_core.io.jsonl import JsonLines
from vidrd_core.io.pictures import read_picture
from vidrd_core.training.progress import LogLine, Progress

LOG = "log.jsonl"


class Log:
    """A stage's log, written by the main process alone.

    Args:
        accelerator: Whose trackers get the figures, too.
        folder: The stage's folder, in which `log.jsonl` is.
        name: The stage's name.
        steps: Steps of the stage.
        progress: What else gets each line.
    """

    def __init__(self, accelerator: Accelerator, folder: Path, name: str, steps: int, progress: Progress) -> None:
        self.accelerator, self.path, self.name, self.steps = accelerator, folder / LOG, name, steps
        self.progress = progress
        self._started, self._first_step = time.perf_counter(), 0

    def begin(self, step: int) -> None:
        """Start the clock, after `step` steps of earlier processes."""
        self._started, self._first_step = time.perf_counter(), step

    def pace(self, step: int) -> float:
        """Steps a second of this process."""
        return (step - self._first_step) / max(time.perf_counter() - self._started, 1e-9)

    def write(self, step: int, losses: dict[str, float], metrics: dict[str, float] | None = None) -> None:
        """Add a line, unless it would be empty.

        Args:
            step: Steps done.
            losses: Losses by name.
            metrics: Other figures by name.
        """
        metrics = metrics or {}
        if not (self.accelerator.is_main_process and (losses or metrics)):
            return
        values = {**losses, **metrics}
        with JsonLines(self.path) as file:
            file.append({"step": step, **{name: _json_number(value) for name, value in values.items()}})
        pace = self.pace(step)
        eta = (self.steps - step) / pace if pace else None
        seconds = time.perf_counter() - self._started
        self.progress.log(LogLine(self.name, step, self.steps, losses, metrics, seconds, eta))
        self.accelerator.log({f"{self.name}/{name}": value for name, value in values.items()}, step=step)

    def show(self, step: int, name: str, picture: Path) -> None:
        """Give an image file, if it exists, to the trackers that take images."""
        if not (self.accelerator.is_main_process and picture.exists()):
            return
        pixels = read_picture(picture)
        for tracker in self.accelerator.trackers:
            if hasattr(tracker, "log_images"):
                layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({f"{self.name}/{name}": pixels[None]}, step=step, **layout)

    def holds(self, step: int, prefix: str) -> bool:
        """Whether the log has a value of a step whose name begins with `prefix`."""
        return any(
            line["step"] == step and any(name.startswith(prefix) for name in line)
            for line in map(parse_json, self._lines())
        )

    def truncate(self, step: int) -> None:
        """Remove the lines after a step, which will be done again, and a last line that was cut short."""
        if self.accelerator.is_main_process and self.path.exists():
            write_text(self.path, "".join(f"{line}\n" for line in self._lines() if _step_of(line) <= step))

    def _lines(self) -> list[str]:
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        return text.rstrip("\n").split("\n") if text else []


def _step_of(line: str) -> float:
    """The step of a line; infinity for one that was cut short."""
    try:
        return float(parse_json(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _json_number(value: Any) -> Any:
    """A value as JSON has it: null for NaN and infinity."""
    return None if isinstance(value, float) and not isfinite(value) else value
