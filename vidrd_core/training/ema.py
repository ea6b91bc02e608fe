"""Exponential moving average (EMA) of the trained parameters: the weights that a stage ends in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vidrd_core.training.fsdp import copy_full, full_tensor


class EMA:
    """The average of parameters over the steps; it follows fast at first.

    Its decay after n updates is (1 + n) / (10 + n), at most `decay`.

    Args:
        parameters: The parameters, in an order that stays the same.
        decay: The largest decay, 0 to 1.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.parameters = nn.ParameterList(parameters)
        self.averaged = AveragedModel(self.parameters, multi_avg_fn=_warmed_up(decay))

    def update(self) -> None:
        """Update the averages with the current parameters."""
        self.averaged.update_parameters(self.parameters)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """A context in which the model has the averaged parameters and is in evaluation mode."""
        own = [parameter.detach().clone() for parameter in self.parameters]
        was_training = model.training
        self.copy_to_parameters()
        model.eval()
        try:
            yield
        finally:
            self._assign(own)
            model.train(was_training)

    def copy_to_parameters(self) -> None:
        """Set the parameters to their average."""
        self._assign(list(self.averaged.module.parameters()))

    @torch.no_grad()
    def _assign(self, values: Sequence[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages and how many updates there were, for checkpoints; every process has to call it."""
        return {name: full_tensor(value) for name, value in self.averaged.state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` gave."""
        for name, value in self.averaged.state_dict().items():
            copy_full(value, state[name])


def _warmed_up(decay: float) -> Any:
    """The update rule of `AveragedModel`, with a decay that grows to `decay`."""

    @torch.no_grad()
    def update(averaged: Any, current: Any, count: Tensor | int) -> None:
        n = float(count)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averaged, current, count)

    return update
