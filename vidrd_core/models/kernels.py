"""Linear layers and convolutions on x86 CPUs, by oneDNN directly, with what follows them in the same pass.

torch's own functions choose oneDNN only under conditions that do not fit here: never for float32 products, and for
float32 convolutions of few frames not on a single thread. They also write each result to memory before the next
operation reads it. These functions have no gradients.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from vidrd_core.models.fastest import fastest

MIN_ROWS = 32  # below this a matrix product takes less time than oneDNN's preparation
HEAVY = 4  # weights for each input of a convolution, from which on another order of the input is tried
Place = tuple[Sequence[int], Sequence[int], tuple[int, int], int]
"""Padding, stride, dilation and groups of a convolution."""
_ways: dict[tuple[Hashable, ...], str] = {}


@cache
def dtypes() -> frozenset[torch.dtype]:
    """The dtypes for which oneDNN has kernels on this processor."""
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    if not is_x86 or not torch.backends.mkldnn.is_available() or not _is_known():
        return frozenset()
    found = {torch.float32}
    for dtype, name in ((torch.bfloat16, "bf16"), (torch.float16, "fp16")):
        is_supported = getattr(torch.ops.mkldnn, f"_is_mkldnn_{name}_supported", None)  # not in all versions of torch
        if is_supported is not None and is_supported():
            found.add(dtype)
    return frozenset(found)


@cache
def has_amx() -> bool:
    """Whether this processor multiplies tiles of bfloat16 matrices (AMX)."""
    is_supported = getattr(torch.cpu, "_is_amx_tile_supported", None)  # not in all versions of torch
    return is_supported is not None and is_supported() and torch.bfloat16 in dtypes()


def _is_known() -> bool:
    """Whether this version of torch has these functions, which it does not document, and they are what they were."""
    x, weight = torch.ones(1, 1, MIN_ROWS, 2), torch.ones(2, 2)
    try:
        with torch.inference_mode():
            added = _product(x, weight, None, plus=_product(x, weight, None))
            convolved = _convolved(x.transpose(1, 3), weight[:, :, None, None], None, ((0, 0), (1, 1), (1, 1), 1))
            gated = _gated_product(x, weight[:1], None, weight[1:], None)
            turned = _product(x[0, 0].t(), x[0, 0].t(), None)
    except (AttributeError, RuntimeError, TypeError):
        return False
    expected = F.gelu(torch.tensor(2.0)) * 2
    products = (added == 4).all() and (convolved == 2).all() and (turned == MIN_ROWS).all()
    return bool(products and torch.allclose(gated, expected))


def apply_to(x: Tensor) -> bool:
    """Whether these functions take x: on an x86 CPU, without gradients, of a dtype that oneDNN knows."""
    if x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    return x.dtype in dtypes() and not torch.is_autocast_enabled("cpu")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, plus: Tensor | None = None) -> Tensor:
    """x [..., in] times weight [out, in], plus bias [out] and `plus` [..., out] -> [..., out]."""
    if x.numel() < MIN_ROWS * x.shape[-1] or _way_of_product(x, weight) == "BLAS":
        out = F.linear(x, weight, bias)
        return out if plus is None else out.add_(plus)
    return _product(x, weight, bias, plus)


def gated_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer of weight [2 * out, in] whose second half gates the first by GELU -> [..., out]."""
    value, gate = weight.chunk(2)
    plus, plus_gate = (None, None) if bias is None else bias.chunk(2)
    if x.numel() < MIN_ROWS * x.shape[-1] or _way_of_product(x, gate) == "BLAS":
        return F.gelu(F.linear(x, gate, plus_gate)).mul_(F.linear(x, value, plus))
    return _gated_product(x, value, plus, gate, plus_gate)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    plus: Tensor | None = None,
) -> Tensor:
    """Convolve x [B, C, H, W] with weight [C', C, k, l], and add bias [C'] and `plus` -> [B, C', H', W']."""
    given = (weight, bias, (padding, stride, (1, 1), 1), plus)
    if weight.numel() > HEAVY * x.numel() and way_for_heavy(x, given) == "contiguous":
        return _contiguous(x, *given)
    return _convolved(x, *given)


def product_with_transpose(x: Tensor, weight: Tensor) -> Tensor:
    """x [rows, out] times weight [out, in] -> [rows, in]: from a linear layer's gradient that of its input."""
    ways = {"oneDNN": lambda: _product(x, weight.t(), None), "BLAS": lambda: x @ weight}
    return ways[_way("product with transpose", (_at_least(len(x)), *weight.shape), x.dtype, ways)]()


def product_of_rows(x: Tensor, other: Tensor) -> Tensor:
    """Transposed x [rows, out] times other [rows, in] -> [out, in]: a linear layer's gradient of its weight."""
    ways = {"oneDNN": lambda: _product(x.t(), other.t(), None), "BLAS": lambda: x.t() @ other}
    if torch.get_num_threads() > 1:  # on a single thread torch computes it without oneDNN
        ways["convolution"] = lambda: _gradient_of_convolution(x, other)
    return ways[_way("product of rows", (_at_least(len(x)), x.shape[1], other.shape[1]), x.dtype, ways)]()


def _gradient_of_convolution(x: Tensor, other: Tensor) -> Tensor:
    """The same as the gradient of the weights of a 1 x 1 convolution over [1, C, rows, 1], channels last."""
    grad, pixels = (rows[None, :, None].permute(0, 3, 1, 2) for rows in (x, other))
    weight = x.new_empty(x.shape[1], other.shape[1], 1, 1)
    place = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1, [False, True, False])
    return torch.ops.aten.convolution_backward(grad, pixels, weight, None, *place)[1][:, :, 0, 0]


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, plus: Tensor | None = None) -> Tensor:
    if plus is None:
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return torch.ops.mkldnn._linear_pointwise.binary(x, plus, weight, bias, "add")


def _gated_product(x: Tensor, value: Tensor, plus: Tensor | None, gate: Tensor, plus_gate: Tensor | None) -> Tensor:
    opened = torch.ops.mkldnn._linear_pointwise(x, gate, plus_gate, "gelu", [], "none")
    return torch.ops.mkldnn._linear_pointwise.binary(x, opened, value, plus, "mul")


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, place: Place, plus: Tensor | None = None) -> Tensor:
    if plus is None:
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *place, "none", [], "")
    return torch.ops.mkldnn._convolution_pointwise.binary(x, plus, weight, bias, *place, "add", None, None, [], None)


def _contiguous(x: Tensor, weight: Tensor, bias: Tensor | None, place: Place, plus: Tensor | None) -> Tensor:
    """The same on x in the weight's order: torch would copy the weight to that of x."""
    plus = None if plus is None else plus.contiguous()
    return _convolved(x.contiguous(), weight, bias, place, plus).contiguous(memory_format=torch.channels_last)


def way_for_heavy(
    x: Tensor, given: tuple[Tensor, Tensor | None, Place, Tensor | None], dtype: torch.dtype | None = None
) -> str:
    """Which order of x is the fastest here: "channels last", as x is, or "contiguous"; in a dtype, as autocast's."""
    weight, bias, place, plus = given
    dtype = dtype or x.dtype

    @cache
    def operands() -> tuple[Tensor, Tensor]:  # cast only where it is measured, and before it is
        return x.to(dtype), weight.to(dtype)

    def run(convolve: Callable[..., Tensor]) -> Tensor:
        own, weights = operands()
        return convolve(own, weights, bias, place, plus)

    ways = {"channels last": lambda: run(_convolved), "contiguous": lambda: run(_contiguous)}
    return _way("convolution", (_at_least(len(x)), *x.shape[1:], *weight.shape, *place[1]), dtype, ways)


def _way_of_product(x: Tensor, weight: Tensor) -> str:
    """Which library is the fastest here: "oneDNN", or "BLAS", which torch uses for float32 alone."""
    if x.dtype != torch.float32:
        return "oneDNN"
    ways = {"oneDNN": lambda: _product(x, weight, None), "BLAS": lambda: F.linear(x, weight)}
    return _way("product", (_at_least(x.numel() // x.shape[-1]), *weight.shape), x.dtype, ways)


def _at_least(size: int) -> int:
    """The power of two from a size on, so that similar sizes share an answer."""
    return 1 << (size - 1).bit_length()


def _way(what: str, sizes: tuple[int, ...], dtype: torch.dtype, ways: Mapping[str, Callable[[], Tensor]]) -> str:
    """The fastest way, kept here as well as in its file: layers ask in every call."""
    key = (what, *sizes, dtype, torch.get_num_threads())
    if key not in _ways:
        numbers = " ".join(map(str, sizes))
        _ways[key] = fastest(f"{what} of {numbers}, {str(dtype).removeprefix('torch.')}", ways)
    return _ways[key]
