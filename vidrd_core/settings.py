"""How a clip is sampled."""

from __future__ import annotations

from dataclasses import dataclass

from vidrd_core.reuse import is_number, is_whole
from vidrd_core.sampling import SOLVERS

LARGEST = {"frames": 4096, "width": 65536, "height": 65536}
LARGEST_CFG = 1000


@dataclass(frozen=True)
class SampleSettings:
    """How one clip is sampled; what is None is the model's own default. Raises ValueError for what cannot be."""

    seed: int = 0  # with the clip's number it decides all chance
    steps: int = 50  # T
    cfg: float | None = None  # guidance scale; 1 is off
    solver: str = "ddim"  # one of sampling.SOLVERS
    negative: str = ""  # what guidance leads away from
    frames: int | None = None  # N
    width: int | None = None  # pixels
    height: int | None = None  # pixels

    def __post_init__(self) -> None:
        if self.solver not in tuple(SOLVERS):
            raise ValueError(f"solver is {self.solver!r}, expected one of {', '.join(SOLVERS)}")
        if not is_whole(self.seed) or self.seed < 0:
            raise ValueError(f"seed is {self.seed!r}, expected a whole number, 0 or more")
        if not is_whole(self.steps) or self.steps < 1:
            raise ValueError(f"steps is {self.steps!r}, expected a whole number, 1 or more")
        if self.cfg is not None and not (is_number(self.cfg) and abs(self.cfg) <= LARGEST_CFG):
            raise ValueError(f"cfg is {self.cfg!r}, expected a number from -{LARGEST_CFG} to {LARGEST_CFG}")
        if not isinstance(self.negative, str):
            raise ValueError(f"negative is {self.negative!r}, expected a text")
        for name, largest in LARGEST.items():
            value = getattr(self, name)
            if value is not None and not (is_whole(value) and 1 <= value <= largest):
                raise ValueError(f"{name} is {value!r}, expected a whole number from 1 to {largest}")
