"""The paper's ablation of M, alpha and beta: what each does to a model's long videos, the others at the paper's.

Every point makes the same videos, of the same prompts and seeds, so differences are taken video by video. First clips
do not depend on what is varied and are made once for all points of a prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from vidrd_core.evaluation.videos import Clips, Shown, Subject
from vidrd_core.pipeline import VidRD
from vidrd_core.procedural.prompt_alignment import faithfulness, scene_for
from vidrd_core.reuse import ReuseSettings
from vidrd_core.sample import Clip
from vidrd_core.video import DEFAULT_FPS

LETTERS = {"prompt_frames": "M", "alpha": "alpha", "beta": "beta"}
ALPHAS, BETAS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0), (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Sweep:
    """One setting of ReuseSettings, its values in rising order, and what else is fixed."""

    setting: str
    points: tuple[ReuseSettings, ...]

    def __post_init__(self) -> None:
        if len(self.points) < 2 or self.values != sorted(set(self.values)):
            raise ValueError(f"{self.letter} takes {self.values}, expected two or more values that rise")

    @property
    def letter(self) -> str:
        return LETTERS[self.setting]

    @property
    def values(self) -> list[float]:
        return [float(getattr(point, self.setting)) for point in self.points]

    @property
    def fixed(self) -> str:
        """The others, in words."""
        others = (name for name in LETTERS if name != self.setting)
        return ", ".join(f"{LETTERS[name]} {getattr(self.points[0], name):g}" for name in others)


def counts(frames: int) -> tuple[int, ...]:
    """Numbers of prompt frames from none to three quarters of a clip of N = `frames`."""
    return tuple(sorted({0, frames // 8, frames // 4, frames // 2, 3 * frames // 4}))


def sweep(setting: str, values: Iterable[Any], base: ReuseSettings) -> Sweep:
    """One setting through its values, the others as in `base`. Raises ValueError for values that cannot be."""
    return Sweep(setting, tuple(replace(base, **{setting: value}) for value in values))


def sweeps(frames: int, base: ReuseSettings | None = None) -> tuple[Sweep, ...]:
    """The paper's three: M at alpha 4 and beta 0.4, alpha at M 4 and beta 0.4, beta at M 4 and alpha 4.

    For clips of N = `frames` other than 8 M goes from 0 to 3 N / 4 all the same.
    """
    base = base or ReuseSettings(prompt_frames=min(4, frames // 2))
    varied = {"prompt_frames": counts(frames), "alpha": ALPHAS, "beta": BETAS}
    return tuple(sweep(setting, values, base) for setting, values in varied.items())


def distinct(of: Iterable[Sweep]) -> list[ReuseSettings]:
    """All points, each once."""
    return list(dict.fromkeys(point for each in of for point in each.points))


def point_name(point: ReuseSettings) -> str:
    return f"M={point.prompt_frames} alpha={point.alpha:g} beta={point.beta:g}"


def subject_name(number: int, point: ReuseSettings) -> str:
    """What a video is called in records: its number and its point."""
    return f"{number:04d} {point_name(point)}"


def subjects(
    model: VidRD,
    prompts: Sequence[str],
    points: Sequence[ReuseSettings],
    clips: int,
    sample: Mapping[str, Any],
    looked_at: int | None = None,
) -> list[Subject]:
    """The videos of all points, prompt by prompt; prompt k has the seed of the first and k.

    Networks are given `looked_at` frames across the last seam, N unless told: frames that a video begins with would
    be the same for all points. Raises ValueError for what the model cannot do, or for videos without a seam.
    """
    if clips < 2:
        raise ValueError(f"clips is {clips}, expected 2 or more: a video of one clip has no seam")
    settings = dict(sample)
    seed = int(settings.pop("seed", 0))
    most = max(points, key=lambda point: point.prompt_frames)
    for point in points:
        model.stream(prompts, len(prompts), point, **settings)  # which checks, and makes nothing

    @lru_cache(maxsize=1)
    def first(number: int) -> Clip:
        return model.generate(prompts[number], most, seed=seed + number, **settings)

    def show(number: int, point: ReuseSettings) -> Shown:
        begun, text = first(number), prompts[number]
        video = model.frames([begun, *model.stream(text, clips, point, state=begun.state)])
        rule = Clips(begun.state.frames, point.repeated_frames, point.prompt_frames)
        joints = replace(rule.joints(len(video)), window=rule.frames)  # not M + 1: points are compared
        told = faithfulness(video, scene_for(model, text), rule.frames, rule.repeated, first=1)
        wide = looked_at or rule.frames
        start = max(0, min(joints.seams[-1] - wide // 2, len(video) - wide))
        return Shown(video, DEFAULT_FPS, text, joints, told, video[start : start + wide])

    return [
        Subject(subject_name(number, point), lambda number=number, point=point: show(number, point))  # type: ignore[misc]
        for number in range(len(prompts))
        for point in points
    ]
