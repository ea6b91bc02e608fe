"""CUDA graphs for training: a network's kernels are captured once and launched together, forward and backward.

Small networks spend most of their time launching kernels one by one; a captured one is launched in a single call. A
graph fits one kind of input (shapes, dtypes, which of them need gradients), so each kind has its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import Decoder, Encoder
from vidrd_core.models.word_text_encoder import TextEncoder

NETWORKS = (UNet3D, TextEncoder, Encoder, Decoder)
MAX_GRAPHS = 8  # for each network; other kinds of input run kernel by kernel


def capture(model: nn.Module) -> None:
    """Have the trained networks in a model run as CUDA graphs, until `gradient_checkpointing.restore_forward`.

    The results are the same up to rounding. The parameters must stay the same tensors, and gradients must not be
    accumulated over several batches.
    """
    for module in model.modules():
        if isinstance(module, NETWORKS) and any(parameter.requires_grad for parameter in module.parameters()):
            module.forward = _with_graphs(module)  # type: ignore[method-assign]


def _with_graphs(module: nn.Module) -> Callable[..., Any]:
    """The module's forward, by a graph for each kind of input."""
    graphs: dict[Any, Callable[..., Any]] = {}
    plain = module.forward

    def forward(*given: Any) -> Any:
        tensors = [each for each in given if isinstance(each, Tensor)]
        if not torch.is_grad_enabled() or not all(tensor.is_cuda for tensor in tensors):
            return plain(*given)
        kind = tuple((g.shape, g.dtype, g.requires_grad) if isinstance(g, Tensor) else g for g in given)
        if kind not in graphs:
            if len(graphs) >= MAX_GRAPHS:
                return plain(*given)
            graphs[kind] = _captured(module, plain, given)
        return graphs[kind](*tensors)

    return forward


class _TensorsOnly(nn.Module):
    """A module as a function of the tensors among its arguments; the other arguments are constant."""

    def __init__(self, module: nn.Module, plain: Callable[..., Any], given: tuple[Any, ...]) -> None:
        super().__init__()
        self.module, self.plain, self.given = module, plain, [None if isinstance(g, Tensor) else g for g in given]
        self.places = [i for i, each in enumerate(given) if isinstance(each, Tensor)]

    def forward(self, *tensors: Tensor) -> Any:
        given = list(self.given)
        for place, tensor in zip(self.places, tensors, strict=True):
            given[place] = tensor
        return self.plain(*given)


def _captured(module: nn.Module, plain: Callable[..., Any], given: tuple[Any, ...]) -> Callable[..., Any]:
    tensors = [each for each in given if isinstance(each, Tensor)]
    samples = tuple(tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in tensors)
    mixed = torch.is_autocast_enabled("cuda")
    # Weights that autocast had cast and cached before would be captured with their values of now.
    with torch.autocast("cuda", torch.get_autocast_dtype("cuda"), enabled=mixed, cache_enabled=False):
        return torch.cuda.make_graphed_callables(_TensorsOnly(module, plain, given), samples, allow_unused_input=True)
