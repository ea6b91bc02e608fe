"""The settings with which one clip is sampled."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, TypedDict

from vidrd_core.reuse import is_number, is_whole
from vidrd_core.sampling import SOLVERS

LARGEST = {"frames": 4096, "width": 65536, "height": 65536}
LARGEST_CFG = 1000


@dataclass(frozen=True)
class SampleSettings:
    """How one clip is sampled; None means the model's default.

    The first sentence of each entry is also the help of the command's option.

    Args:
        seed: Seed of all noise; the same seed gives the same video. It is 0 or more.
        steps: Denoising steps of a clip (T). At most the model's number of training steps.
        cfg: Scale of classifier-free guidance; 1 is off. Valid are -1000 to 1000.
        solver: How a step is taken; heun takes two calls, euler_ancestral adds noise. One of `sampling.SOLVERS`.
        negative: Negative prompt, which guidance steers away from.
        frames: Frames of a clip (N).
        width: Width in pixels.
        height: Height in pixels.
        prompt_interval: Calls per computation of replayed frames' features. With 1, all is exact; see `FeatureCache`.
        deep_interval: Calls per computation of the UNet's deep levels. Likewise.

    Raises:
        ValueError: A setting is of the wrong type or out of range.
    """

    seed: int = 0
    steps: int = 50
    cfg: float | None = None
    solver: str = "ddim"
    negative: str = ""
    frames: int | None = None
    width: int | None = None
    height: int | None = None
    prompt_interval: int = 1
    deep_interval: int = 1

    def __post_init__(self) -> None:
        if self.solver not in tuple(SOLVERS):
            raise ValueError(f"solver is {self.solver!r}, expected one of {', '.join(SOLVERS)}")
        if not is_whole(self.seed) or self.seed < 0:
            raise ValueError(f"seed is {self.seed!r}, expected a whole number, 0 or more")
        if not is_whole(self.steps) or self.steps < 1:
            raise ValueError(f"steps is {self.steps!r}, expected a whole number, 1 or more")
        for name in ("prompt_interval", "deep_interval"):
            if not is_whole(value := getattr(self, name)) or value < 1:
                raise ValueError(f"{name} is {value!r}, expected a whole number, 1 or more")
        if self.cfg is not None and not (is_number(self.cfg) and abs(self.cfg) <= LARGEST_CFG):
            raise ValueError(f"cfg is {self.cfg!r}, expected a number from -{LARGEST_CFG} to {LARGEST_CFG}")
        if not isinstance(self.negative, str):
            raise ValueError(f"negative is {self.negative!r}, expected a text")
        for name, largest in LARGEST.items():
            value = getattr(self, name)
            if value is not None and not (is_whole(value) and 1 <= value <= largest):
                raise ValueError(f"{name} is {value!r}, expected a whole number from 1 to {largest}")

    def metadata(self) -> dict[str, Any]:
        """The settings as saved files hold them: each interval only if it is not 1, since older files have none."""
        return {
            name: value for name, value in asdict(self).items() if not (name.endswith("_interval") and value == 1)
        }


class SampleArguments(TypedDict, total=False):
    """The fields of `SampleSettings` as keyword arguments; None, or a missing one, means the default."""

    seed: int | None
    steps: int | None
    cfg: float | None
    solver: str | None
    negative: str | None
    frames: int | None
    width: int | None
    height: int | None
    prompt_interval: int | None
    deep_interval: int | None
