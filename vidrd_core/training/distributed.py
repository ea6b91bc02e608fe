"""The processes that train together, as `torchrun` or `accelerate launch` start them."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState

from vidrd_core.training.data import RecipeError

TIMEOUT = timedelta(hours=6)  # processes wait so long for the main one, which draws samples


def accelerate_settings() -> dict[str, Any]:
    """Arguments for Accelerate, which does not detect several processes without a GPU by itself."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return {"cpu": True} if several and not torch.cuda.is_available() else {}


def join_processes() -> PartialState:
    """This process's place among those that were started. Raises RecipeError if they do not find each other."""
    state = PartialState(**accelerate_settings(), timeout=TIMEOUT)
    expected = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes != expected:
        raise RecipeError(
            f"{expected} processes were started, and each would train by itself: start one, or as many as there are "
            f"GPUs by 'accelerate launch -m vidrd_core.cli train RECIPE'"
        )
    return state
