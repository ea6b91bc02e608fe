"""The interface of a training task, and its loss as a module."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


class Task(Protocol[Model]):
    """One thing to train: which parameters, on what batches, by which losses."""

    step: int
    """Steps done, set by the trainer before each step."""

    @property
    def model(self) -> Model:
        """Everything that takes part in the loss; a stage ends in its EMA weights."""

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters to train, by name; all others are frozen."""

    def batch(self, rng: np.random.Generator, shared_rng: np.random.Generator, held_out: bool = False) -> Any:
        """Draw a batch on the CPU; called in another thread than the training steps.

        Args:
            rng: For the content of the batch.
            shared_rng: For its kind, which decides what parts of the model it needs: with FSDP it is the same in all
                processes.
            held_out: Take the clips that are held out of training.

        Returns:
            What `loss` takes as its batch.
        """

    def loss(
        self, model: Model, batch: Any, rng: np.random.Generator, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The losses of a batch by name, each with its weight; their sum is minimised."""

    def sample(self, model: Model, folder: Path, step: int) -> dict[str, float]:
        """Write what the model generates as `sample_STEP.png`, and maybe more; return figures for the log."""


class Loss(nn.Module):
    """A task's loss as a module, which Accelerate can wrap.

    Args:
        task: The task; its model is a submodule.
    """

    def __init__(self, task: Task[Any]) -> None:
        super().__init__()
        self.model, self.task = task.model, task

    def forward(self, batch: Any, rng: np.random.Generator, generator: torch.Generator) -> dict[str, Tensor]:
        """The task's losses."""
        return self.task.loss(self.model, batch, rng, generator)
