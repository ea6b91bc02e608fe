"""An exponential moving average of the trained parameters: what comes out of a stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vidrd_core.training.fsdp import put, whole


class Average:
    """Follows fast at first: decay (1 + n) / (10 + n) after n steps, at most `decay`."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.parameters = nn.ParameterList(parameters)
        self.averaged = AveragedModel(self.parameters, multi_avg_fn=_towards(decay))

    def update(self) -> None:
        """Take in what the parameters are now."""
        self.averaged.update_parameters(self.parameters)

    @contextmanager
    def in_place(self, model: nn.Module) -> Iterator[None]:
        """In a `with` block the model has the averaged parameters, and is not in training."""
        own = [parameter.detach().clone() for parameter in self.parameters]
        was_training = model.training
        self.take()
        model.eval()
        try:
            yield
        finally:
            self._put(own)
            model.train(was_training)

    def take(self) -> None:
        """Give the parameters their average."""
        self._put(list(self.averaged.module.parameters()))

    @torch.no_grad()
    def _put(self, values: Sequence[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    def state_dict(self) -> dict[str, Tensor]:
        return {name: whole(value) for name, value in self.averaged.state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, value in self.averaged.state_dict().items():
            put(value, state[name])


def _towards(decay: float) -> Any:
    @torch.no_grad()
    def update(averaged: Any, current: Any, count: Tensor | int) -> None:
        n = float(count)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averaged, current, count)

    return update
