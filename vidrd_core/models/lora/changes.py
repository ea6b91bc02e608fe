"""What adapters add to a weight: LoRA, DoRA, LoHa, LoKr, full differences and whole weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Magnitude:
    """The trained lengths of a weight's rows or columns in weight decomposition (DoRA).

    Args:
        lengths: One length for each row (or column) of the weight, in any shape.
        rule: How a strength other than 1 counts: "peft" scales the low-rank change before the lengths are set,
            "lycoris" interpolates between the weight and the decomposed one, as ComfyUI does.
        columns: Whether these are lengths of columns; None for telling it from the shape, as LyCORIS does.

    Source:
        Liu et al., DoRA (arXiv 2402.09353), section 4.1.
    """

    lengths: Tensor
    rule: Literal["peft", "lycoris"]
    columns: bool | None

    def change(self, weight: Tensor, change: Tensor, strength: float) -> Tensor:
        """What is added to a weight (float32) by a change whose result is brought to these lengths."""
        along = (0, *range(2, weight.ndim)) if self._of_columns(weight) else tuple(range(1, weight.ndim))
        inner = strength if self.rule == "peft" else 1.0
        target = weight + inner * change
        norm = torch.linalg.vector_norm(target, dim=along, keepdim=True)
        if self.rule == "lycoris":
            norm = norm + torch.finfo(torch.float32).eps
        lengths = self.lengths.to(weight.device, torch.float32).reshape(norm.shape)
        outer = 1.0 if self.rule == "peft" else strength
        return outer * (target * (lengths / norm) - weight)

    def fits(self, weight: Tensor) -> bool:
        """Whether there is a length for each row, or column, of a weight."""
        return weight.ndim > 1 and self.lengths.numel() == weight.shape[int(self._of_columns(weight))]

    def _of_columns(self, weight: Tensor) -> bool:
        return self.lengths.shape[:1] != weight.shape[:1] if self.columns is None else self.columns


@dataclass(frozen=True)
class Change(ABC):
    """What an adapter adds to a weight: scale times a product of its tensors.

    Args:
        scale: Factor of the product, as alpha / r.
        magnitude: The lengths that the changed weight is brought to, with weight decomposition.
    """

    scale: float
    magnitude: Magnitude | None
    name: ClassVar[str]

    @property
    def kind(self) -> str:
        """The kind of adapter, with its article."""
        if self.magnitude is None:
            return self.name
        return "a DoRA" if self.name == "a LoRA" else f"{self.name} with DoRA"

    @property
    @abstractmethod
    def rank(self) -> int | None:
        """The rank r; None if the tensors are whole matrices."""

    @abstractmethod
    def product(self, device: torch.device | str) -> Tensor:
        """The product of the tensors on a device, in float32: [out, in, ...], kernels flattened or not."""

    @cached_property
    def size(self) -> tuple[int, int]:
        """The numbers of outputs and of inputs, with the kernel's. Raises RuntimeError if no product is defined."""
        shape = self.product("meta").shape
        return shape[0], shape[1:].numel()

    def misfit(self, weight: Tensor) -> str | None:
        """Why this cannot be added to a weight, for a message; None if it can."""
        inputs = weight.shape[1:].numel()
        if self.size != (weight.shape[0], inputs):
            return (
                f"it has {self.size[0]} outputs of {self.size[1]} inputs, the layer has {weight.shape[0]} of {inputs}"
            )
        if self.magnitude is not None and not self.magnitude.fits(weight):
            return f"it has {self.magnitude.lengths.numel()} lengths, the layer {weight.shape[0]} outputs"
        return None

    def added(self, weight: Tensor, strength: float) -> Tensor:
        """What this adds to a weight.

        Args:
            weight: The weight without any adapter, float32, of the change's size.
            strength: Factor of the change; 1 for what was trained.

        Returns:
            The difference, float32, on the weight's device and of its shape.
        """
        change = self.scale * self.product(weight.device).reshape(weight.shape)
        return strength * change if self.magnitude is None else self.magnitude.change(weight, change, strength)


@dataclass(frozen=True)
class LowRank(Change):
    """LoRA: up @ down.

    Args:
        scale: alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA.
        magnitude: The trained lengths of a DoRA.
        down: [r, in, ...].
        up: [out, r, ...].
        mid: [r, r, ...], a conv kernel between the two (CP decomposition), if there is one.

    Source:
        Hu et al., LoRA (arXiv 2106.09685), section 4.1; Kalajdzievski, rsLoRA (arXiv 2312.03732).
    """

    down: Tensor
    up: Tensor
    mid: Tensor | None
    name = "a LoRA"

    @property
    def rank(self) -> int:
        """The rank r."""
        return self.down.shape[0]

    def product(self, device: torch.device | str) -> Tensor:
        """Up @ down, or the CP decomposition with the kernel."""
        down, up = (_matrix(t, device) for t in (self.down, self.up))
        if self.mid is None:
            return up @ down
        return torch.einsum("or,rs...,si->oi...", up, self.mid.to(device, torch.float32), down)


@dataclass(frozen=True)
class Hadamard(Change):
    """LoHa: (w1_a @ w1_b) * (w2_a @ w2_b), elementwise.

    Args:
        scale: alpha / r.
        magnitude: The trained lengths, with weight decomposition.
        first: w1_a [out, r] and w1_b [r, in, ...]; with a kernel w1_a [r, out] and w1_b [r, in].
        second: w2_a and w2_b, of the same shapes.
        kernels: t1 and t2 [r, r, ...] of the Tucker decomposition of a conv, if there are any.

    Source:
        Hyeon-Woo et al., FedPara (arXiv 2108.06098), sections 2.1 and 2.2.
    """

    first: tuple[Tensor, Tensor]
    second: tuple[Tensor, Tensor]
    kernels: tuple[Tensor, Tensor] | None
    name = "a LoHa"

    @property
    def rank(self) -> int:
        """The rank r."""
        return self.first[1].shape[0]

    def product(self, device: torch.device | str) -> Tensor:
        """The Hadamard product of both halves."""
        kernels = self.kernels or (None, None)
        return _half(*self.first, kernels[0], device) * _half(*self.second, kernels[1], device)


@dataclass(frozen=True)
class Kronecker(Change):
    """LoKr: the Kronecker product of w1 and w2, each whole or of low rank.

    Args:
        scale: alpha / r; LyCORIS has 1 where both are whole.
        magnitude: The trained lengths, with weight decomposition.
        first: w1 [a, b] alone, or w1_a [a, r] and w1_b [r, b].
        second: w2 [c, d, ...] alone, or w2_a [c, r] and w2_b [r, d, ...]; with a kernel w2_a [r, c] and w2_b [r, d].
        kernel: t2 [r, r, ...] of the Tucker decomposition of a conv, if there is one.

    Source:
        Yeh et al., LyCORIS (arXiv 2309.14859), section 3.2 and appendix B.
    """

    first: tuple[Tensor, ...]
    second: tuple[Tensor, ...]
    kernel: Tensor | None
    name = "a LoKr"

    @property
    def rank(self) -> int | None:
        """The rank r; None if both factors are whole."""
        return next((pair[1].shape[0] for pair in (self.first, self.second) if len(pair) == 2), None)

    def product(self, device: torch.device | str) -> Tensor:
        """The Kronecker product, [a * c, b * d, ...]."""
        first = _half(*self.first, None, device) if len(self.first) == 2 else _matrix(self.first[0], device)
        if len(self.second) == 2:
            second = _half(self.second[0], self.second[1], self.kernel, device)
        else:
            second = self.second[0].to(device, torch.float32)
        # A flattened kernel comes last in the products of both layouts, so neither has to be told apart.
        return torch.kron(first, second.flatten(1))


@dataclass(frozen=True)
class Difference(Change):
    """A whole difference of a weight or bias, as LyCORIS's full and norm modules and PEFT's lora_bias have it.

    Args:
        scale: Its factor.
        magnitude: None.
        values: Of the weight's shape.
    """

    values: Tensor
    name = "full differences"
    rank = None

    def product(self, device: torch.device | str) -> Tensor:
        """The difference itself."""
        return self.values.to(device, torch.float32)


@dataclass(frozen=True)
class Replacement(Difference):
    """A weight or bias that was trained as a whole and replaces the model's, as PEFT's modules_to_save and bias.

    Args:
        scale: 1.
        magnitude: None.
        values: The trained weight; a strength between 0 and 1 interpolates between the model's and this one.
    """

    name = "whole weights"

    def added(self, weight: Tensor, strength: float) -> Tensor:
        """The difference to a weight, times the strength."""
        return strength * (self.product(weight.device).reshape(weight.shape) - weight)


def _matrix(tensor: Tensor, device: torch.device | str) -> Tensor:
    return tensor.to(device, torch.float32).flatten(1)


def _half(a: Tensor, b: Tensor, kernel: Tensor | None, device: torch.device | str) -> Tensor:
    """A @ b, or the Tucker decomposition with a kernel."""
    a, b = _matrix(a, device), _matrix(b, device)
    return a @ b if kernel is None else torch.einsum("rs...,ro,si->oi...", kernel.to(device, torch.float32), a, b)
