"""CUDA graphs: a module's kernels are recorded once and started together, forwards and backwards.

Small networks spend their time on starting kernels one by one; a recorded network starts in one call. A recording is
good for one kind of input (shapes, types, which of them want gradients), so each kind has its own.
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
KINDS = 8  # of inputs that are recorded; others run kernel by kernel


def record(model: nn.Module) -> None:
    """Have the networks in a model that are trained on a GPU run by recordings, until `recompute.keep` undoes it.

    The numbers are the same to rounding. Parameters must stay the tensors that they are, and gradients must not be
    added up over several batches.
    """
    for module in model.modules():
        if isinstance(module, NETWORKS) and any(parameter.requires_grad for parameter in module.parameters()):
            module.forward = _by_recordings(module)  # type: ignore[method-assign]


def _by_recordings(module: nn.Module) -> Callable[..., Any]:
    recordings: dict[Any, Callable[..., Any]] = {}
    plain = module.forward

    def forward(*given: Any) -> Any:
        tensors = [each for each in given if isinstance(each, Tensor)]
        if not torch.is_grad_enabled() or not all(tensor.is_cuda for tensor in tensors):
            return plain(*given)
        kind = tuple((g.shape, g.dtype, g.requires_grad) if isinstance(g, Tensor) else g for g in given)
        if kind not in recordings:
            if len(recordings) >= KINDS:
                return plain(*given)
            recordings[kind] = _recorded(module, plain, given)
        return recordings[kind](*tensors)

    return forward


class _OfTensors(nn.Module):
    """A module as a function of its input's tensors alone."""

    def __init__(self, module: nn.Module, plain: Callable[..., Any], given: tuple[Any, ...]) -> None:
        super().__init__()
        self.module, self.plain, self.given = module, plain, [None if isinstance(g, Tensor) else g for g in given]
        self.places = [i for i, each in enumerate(given) if isinstance(each, Tensor)]

    def forward(self, *tensors: Tensor) -> Any:
        given = list(self.given)
        for place, tensor in zip(self.places, tensors, strict=True):
            given[place] = tensor
        return self.plain(*given)


def _recorded(module: nn.Module, plain: Callable[..., Any], given: tuple[Any, ...]) -> Callable[..., Any]:
    tensors = [each for each in given if isinstance(each, Tensor)]
    samples = tuple(tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in tensors)
    mixed = torch.is_autocast_enabled("cuda")
    # Weights that autocast had made before would be recorded as they are now.
    with torch.autocast("cuda", torch.get_autocast_dtype("cuda"), enabled=mixed, cache_enabled=False):
        return torch.cuda.make_graphed_callables(_OfTensors(module, plain, given), samples, allow_unused_input=True)
