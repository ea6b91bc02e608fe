"""The optimiser of a stage, its parameter groups and its learning-rate schedule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from vidrd_core.training.data import RecipeError
from vidrd_core.training.stage_config import StageConfig


def make_optimizer(
    trainable: dict[str, nn.Parameter], stage: StageConfig, device: torch.device
) -> torch.optim.Optimizer:
    """Make AdamW, or bitsandbytes' AdamW with 8-bit states.

    Args:
        trainable: The parameters by name.
        stage: Learning rates, weight decay and which optimiser.
        device: Where the parameters are.

    Returns:
        The optimiser, with a parameter group for each learning rate.

    Raises:
        RecipeError: The 8-bit optimiser has no GPU or no bitsandbytes, or a key of `rates` matches no name.
    """
    groups = parameter_groups(trainable, stage)
    settings: dict[str, Any] = {"lr": stage.learning_rate, "weight_decay": stage.weight_decay}
    if stage.optimizer == "adamw":
        return torch.optim.AdamW(groups, fused=True, **settings)
    if device.type == "cpu":
        raise RecipeError(f"stage {stage.name}: optimizer adamw8bit needs a GPU, and there is none: use adamw")
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise RecipeError(
            f"stage {stage.name}: optimizer adamw8bit needs bitsandbytes: pip install bitsandbytes, or use adamw"
        ) from error
    return AdamW8bit(groups, **settings)


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
