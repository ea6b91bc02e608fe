"""How a clip is sampled."""

from __future__ import annotations

from dataclasses import dataclass

from vidrd_core.sampling import SOLVERS

LARGEST = {"frames": 4096, "width": 65536, "height": 65536}
LARGEST_CFG = 1000


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
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed is {self.seed!r}, expected a whole number, 0 or more")
        if not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"steps is {self.steps!r}, expected a whole number, 1 or more")
        if self.cfg is not None and not (isinstance(self.cfg, int | float) and abs(self.cfg) <= LARGEST_CFG):
            raise ValueError(f"cfg is {self.cfg!r}, expected a number from -{LARGEST_CFG} to {LARGEST_CFG}")
        for name, largest in LARGEST.items():
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and 1 <= value <= largest):
                raise ValueError(f"{name} is {value!r}, expected a whole number from 1 to {largest}")
