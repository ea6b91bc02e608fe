"""The optimiser of a stage, its parameter groups and its learning-rate schedule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from vidrd_core.training.data import RecipeError
from vidrd_core.training.stage_config import StageConfig


def make_optimizer(
    trainable: dict[str, nn.Parameter], stage: StageConfig, device: torch.device, sharded: bool = False
) -> torch.optim.Optimizer:
    """Make AdamW, bitsandbytes' AdamW with 8-bit states, or Muon.

    Args:
        trainable: The parameters by name.
        stage: Learning rates, weight decay and which optimiser.
        device: Where the parameters are.
        sharded: Whether processes have parts of the parameters (FSDP).

    Returns:
        The optimiser, with a parameter group for each learning rate.

    Raises:
        RecipeError: The 8-bit optimiser has no GPU or no bitsandbytes, Muon has parts of matrices, or a key of
            `rates` matches no name.
    """
    groups = parameter_groups(trainable, stage)
    settings: dict[str, Any] = {"lr": stage.learning_rate, "weight_decay": stage.weight_decay}
    if stage.optimizer == "adamw":
        return torch.optim.AdamW(groups, fused=True, **settings)
    if stage.optimizer == "muon":
        if sharded:
            raise RecipeError(f"stage {stage.name}: optimizer muon needs whole matrices: use no FSDP, or adamw")
        # Not fused: a scaler of gradients calls fused optimisers for gradients that overflowed, too.
        return Muon(matrix_groups(groups, trainable), **settings)
    if device.type == "cpu":
        raise RecipeError(f"stage {stage.name}: optimizer adamw8bit needs a GPU, and there is none: use adamw")
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise RecipeError(
            f"stage {stage.name}: optimizer adamw8bit needs bitsandbytes: pip install bitsandbytes, or use adamw"
        ) from error
    return AdamW8bit(groups, **settings)


class Muon(torch.optim.AdamW):
    """Muon for the groups with `matrix: True`, AdamW for the others.

    A matrix takes steps of equal size in all its directions: what few examples ask for, as the one word in a caption
    that tells left from right, is learned beside what all ask for. Weights of convolutions count as matrices of their
    outputs and all else, and steps are as long as AdamW's, so that a learning rate fits both. (`torch.optim.Muon`
    takes no weights of convolutions, and is missing before PyTorch 2.9.)

    Args:
        groups: As of `torch.optim.AdamW`.
        momentum: Share of the gradient's moving average that a step keeps.
        **settings: Of `torch.optim.AdamW`.

    Source:
        Jordan et al., Muon (kellerjordan.github.io/posts/muon); Liu et al., Muon is Scalable for LLM Training
        (arXiv 2502.16982), for the length of steps.
    """

    def __init__(self, groups: list[dict[str, Any]], momentum: float = 0.95, **settings: Any) -> None:
        super().__init__(groups, **settings)
        self.momentum = momentum

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step. See `torch.optim.Optimizer.step`."""
        loss = closure() if closure else None
        for group in self.param_groups:
            if not group.get("matrix"):
                continue
            for weight in group["params"]:
                if weight.grad is not None:
                    self.step_matrix(weight, group["lr"], group["weight_decay"])
                    weight.grad = None  # which AdamW then passes over
        super().step()
        return loss

    def step_matrix(self, weight: Tensor, rate: float, weight_decay: float) -> None:
        """Change a weight [out, ...] by its gradient."""
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros(())  # AdamW expects one when it loads a state
            state["momentum_buffer"] = torch.zeros_like(weight)
        average = state["momentum_buffer"].lerp_(weight.grad, 1 - self.momentum)
        direction = orthogonal(weight.grad.lerp(average, self.momentum).flatten(1))
        weight.mul_(1 - rate * weight_decay)
        weight.add_(direction.reshape(weight.shape), alpha=-0.2 * max(direction.shape) ** 0.5 * rate)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """A matrix [M, N] with the singular vectors of another, and singular values of 0.7 to 1.2, by Newton-Schulz."""
    x = matrix / (matrix.norm() + 1e-7)
    x = x.T if len(x) > x.shape[1] else x
    for _ in range(steps):
        square = x @ x.T
        x = 3.4445 * x + (2.0315 * square @ square - 4.775 * square) @ x
    return x.T if x.shape != matrix.shape else x


def matrix_groups(groups: list[dict[str, Any]], trainable: dict[str, nn.Parameter]) -> list[dict[str, Any]]:
    """Parameter groups parted into matrices within the networks, and all else.

    The first and the last layer, embeddings, biases and norms are no matrices here, as Muon's authors advise.
    """
    apart = ("embed", "conv_in.", "conv_out.", "post_quant_conv.")
    inner = {id(p) for name, p in trainable.items() if p.ndim > 1 and not any(part in name for part in apart)}
    parted = []
    for group in groups:
        for matrix in (True, False):
            if params := [p for p in group["params"] if (id(p) in inner) == matrix]:
                parted.append({**group, "params": params, "matrix": matrix})
    return parted


def parameter_groups(trainable: dict[str, nn.Parameter], stage: StageConfig) -> list[dict[str, Any]]:
    """One optimiser group for each learning rate; of the keys of `stage.rates` in a name the last one counts.

    Raises RecipeError for a key that is in no name.
    """
    if unmatched := [key for key in stage.rates if not any(key in name for name in trainable)]:
        raise RecipeError(
            f"stage {stage.name}: no trained parameter has {unmatched[0]!r} in its name, as rates expect; there are "
            f"{', '.join(sorted(trainable)[:3])}, ..."
        )
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in trainable.items():
        matching = [factor for key, factor in stage.rates.items() if key in name]
        factor = matching[-1] if matching else 1.0
        groups.setdefault(factor, []).append(parameter)
    return [{"params": params, "lr": stage.learning_rate * factor} for factor, params in groups.items()]


def learning_rate_factor(step: int, stage: StageConfig) -> float:
    """Factor of the learning rate at a step, counted from 0: linear warm-up, then a cosine down to `final_rate`."""
    if step < stage.warmup:
        return (step + 1) / stage.warmup
    share = min(1.0, (step - stage.warmup) / max(1, stage.steps - stage.warmup))
    return stage.final_rate + (1 - stage.final_rate) * 0.5 * (1 + math.cos(math.pi * share))
