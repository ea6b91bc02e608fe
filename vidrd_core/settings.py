"""How a clip is sampled."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vidrd_core.sampling import SOLVERS


@dataclass(frozen=True)
class SampleSettings:
    """How one clip is sampled; what is None is the model's own default."""

    seed: int = 0
    steps: int = 50
    cfg: float | None = None
    solver: str = "ddim"
    negative: str = ""
    frames: int | None = None
    width: int | None = None
    height: int | None = None

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise ValueError(f"solver is {self.solver!r}, expected one of {', '.join(SOLVERS)}")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected 0 or more")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}, expected 1 or more")
        if self.cfg is not None and not math.isfinite(self.cfg):
            raise ValueError(f"cfg is {self.cfg}, expected a finite number")
        if self.frames is not None and self.frames < 1:
            raise ValueError(f"frames is {self.frames}, expected 1 or more")
