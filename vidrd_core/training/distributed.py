"""The processes that train together, as `torchrun` or `accelerate launch` start them."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState

from vidrd_core.training.data import RecipeError

PATIENCE = timedelta(hours=6)  # of processes that wait for the main one: it makes samples meanwhile


def settings() -> dict[str, Any]:
    """What Accelerate must be told: of several processes without a GPU it would know nothing."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return {"cpu": True} if several and not torch.cuda.is_available() else {}


def processes() -> PartialState:
    """This process among them. Raises RecipeError if they do not know each other."""
    state = PartialState(**settings(), timeout=PATIENCE)
    expected = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes != expected:
        raise RecipeError(
            f"{expected} processes were started, and each would train by itself: start one, or as many as there are "
            f"GPUs by 'accelerate launch -m vidrd_core.cli train RECIPE'"
        )
    return state
