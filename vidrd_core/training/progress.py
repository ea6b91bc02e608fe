"""What a training run reports while it runs: messages, steps, log lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class LogLine:
    """One line of a stage's log, with how far the stage is.

    Args:
        stage: Name of the stage.
        step: Steps done, of `steps`.
        steps: Steps of the stage.
        losses: Mean losses since the last line, or on held-out clips, by name.
        metrics: Other figures by name: `steps_per_s`, PSNR, ...
        seconds: Time since this process began or resumed the stage.
        eta: Seconds left of the stage at the pace of this process; None before its first step.
    """

    stage: str
    step: int
    steps: int
    losses: dict[str, float]
    metrics: dict[str, float]
    seconds: float
    eta: float | None


class Progress(Protocol):
    """Where reports go. All methods are called by the main process alone."""

    def message(self, text: str) -> None:
        """A message, such as what was resumed or left out."""

    def begin(self, stage: str, step: int, steps: int) -> None:
        """A stage begins or is resumed, after `step` of `steps` steps."""

    def step(self, step: int, losses: dict[str, float]) -> None:
        """Step number `step`, counted from 1, is done."""

    def log(self, line: LogLine) -> None:
        """A line was added to the stage's log."""

    def end(self) -> None:
        """The stage's training is over, or failed."""


class PlainProgress:
    """Prints messages and log lines to stdout, a line each."""

    def message(self, text: str) -> None:
        """Print a message."""
        print(text, flush=True)

    def begin(self, stage: str, step: int, steps: int) -> None:
        """Print nothing."""

    def step(self, step: int, losses: dict[str, float]) -> None:
        """Print nothing."""

    def log(self, line: LogLine) -> None:
        """Print the stage's name, then step and figures as JSON, with five digits."""
        figures = {name: _rounded(value) for name, value in {**line.losses, **line.metrics}.items()}
        print(f"{line.stage}: {json.dumps({'step': line.step, **figures})}", flush=True)

    def end(self) -> None:
        """Print nothing."""


def _rounded(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value
