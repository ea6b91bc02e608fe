"""What the trainer asks of a task, and its loss as a module."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


class Task(Protocol[Model]):
    """One thing to train."""

    step: int  # set before each one

    @property
    def model(self) -> Model:
        """All that the stage holds; its average is what comes out."""

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters to train, by name; all others stay as they are."""

    def batch(self, rng: np.random.Generator, alike: np.random.Generator, held_out: bool = False) -> Any:
        """What one batch is, in main memory; made in a thread of its own.

        `alike` decides of what kind it is: which parts of the model it needs.
        """

    def loss(
        self, model: Model, batch: Any, rng: np.random.Generator, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The losses of one batch; their sum is minimised."""

    def sample(self, model: Model, folder: Path, step: int) -> dict[str, float]:
        """Write what the model makes as `sample_STEP.png` and more; return figures for the log."""


class Loss(nn.Module):
    """A task's loss as a module, so that Accelerate can wrap what is trained."""

    def __init__(self, task: Task[Any]) -> None:
        super().__init__()
        self.model, self.task = task.model, task

    def forward(self, batch: Any, rng: np.random.Generator, generator: torch.Generator) -> dict[str, Tensor]:
        return self.task.loss(self.model, batch, rng, generator)
