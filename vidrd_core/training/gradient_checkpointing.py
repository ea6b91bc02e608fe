"""Gradient checkpointing (Chen et al., 2016): blocks keep their input alone, and are computed anew going back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from vidrd_core.models.blocks import Transformer2D
from vidrd_core.models.layers import ResnetBlock2D
from vidrd_core.models.temporal import TemporalConv, TemporalTransformer

BLOCKS = (ResnetBlock2D, Transformer2D, TemporalConv, TemporalTransformer)


def recompute(model: nn.Module) -> None:
    """Have a model's blocks computed anew for their gradients: the same bits, in less memory and more time."""
    for module in model.modules():
        if isinstance(module, BLOCKS):
            module.forward = _anew(module.forward)  # type: ignore[method-assign]


def keep(model: nn.Module) -> None:
    """Undo `recompute`."""
    for module in model.modules():
        module.__dict__.pop("forward", None)


def _anew(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*given: Any) -> Any:
        return checkpoint(forward, *given, use_reentrant=False) if torch.is_grad_enabled() else forward(*given)

    return run
