"""The optimiser of a stage: its groups, and how its rate goes."""

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
    """AdamW, or bitsandbytes' with states of 8 bits. Raises RecipeError where that cannot be."""
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
    """One optimiser group for each rate; of the marks in `stage.rates` that a name contains, the last decides.

    Raises RecipeError for a mark that no name contains.
    """
    if unfit := [mark for mark in stage.rates if not any(mark in name for name in trainable)]:
        raise RecipeError(
            f"stage {stage.name}: no parameter that it trains has {unfit[0]!r} in its name, as rates say; there are "
            f"{', '.join(sorted(trainable)[:3])}, ..."
        )
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in trainable.items():
        fitting = [factor for mark, factor in stage.rates.items() if mark in name]
        factor = fitting[-1] if fitting else 1.0
        groups.setdefault(factor, []).append(parameter)
    return [{"params": params, "lr": stage.learning_rate * factor} for factor, params in groups.items()]


def rate(step: int, stage: StageConfig) -> float:
    """Linear warm-up, then a cosine from 1 to `final_rate`."""
    if step < stage.warmup:
        return (step + 1) / stage.warmup
    share = min(1.0, (step - stage.warmup) / max(1, stage.steps - stage.warmup))
    return stage.final_rate + (1 - stage.final_rate) * 0.5 * (1 + math.cos(math.pi * share))
