"""Gradient checkpointing (Chen et al., arXiv 1604.06174): recompute activations in the backward pass."""

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


def checkpoint_blocks(model: nn.Module) -> None:
    """Have each block of a model keep only its input and recompute the rest for its gradients.

    The gradients are the same bit for bit, in less memory and more time. `restore_forward` undoes it.
    """
    for module in model.modules():
        if isinstance(module, BLOCKS):
            module.forward = _checkpointed(module.forward)  # type: ignore[method-assign]


def restore_forward(model: nn.Module) -> None:
    """Undo `checkpoint_blocks` and `cuda_graphs.capture`."""
    for module in model.modules():
        module.__dict__.pop("forward", None)


def _checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*given: Any) -> Any:
        return checkpoint(forward, *given, use_reentrant=False) if torch.is_grad_enabled() else forward(*given)

    return run
