"""The paper's ablation of M, alpha and beta: what each does to a model's long videos, the others at the paper's.

Every point makes the same videos, of the same prompts and seeds, so differences are taken video by video. First clips
do not depend on what is varied and are made once for all points of a prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from vidrd_core.clip import Clip
from vidrd_core.data.readout import read_clip, score
from vidrd_core.data.shapes import Scene
from vidrd_core.evaluation.evaluate import Record, flat
from vidrd_core.evaluation.seams import Video
from vidrd_core.evaluation.subjects import Clips, Shown, Subject
from vidrd_core.pipeline import VidRD
from vidrd_core.reuse import ReuseSettings
from vidrd_core.video import DEFAULT_FPS

ALPHAS, BETAS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0), (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
Z = 1.96  # standard errors: 95 %


@dataclass(frozen=True)
class Sweep:
    """One setting's values, and what else is fixed."""

    setting: str  # of ReuseSettings
    letter: str
    points: tuple[ReuseSettings, ...]

    @property
    def values(self) -> list[float]:
        return [float(getattr(point, self.setting)) for point in self.points]


def sweeps(frames: int, base: ReuseSettings | None = None) -> tuple[Sweep, ...]:
    """The paper's three: M at alpha 4 and beta 0.4, alpha at M 4 and beta 0.4, beta at M 4 and alpha 4.

    For clips of N = `frames` other than 8 M goes from 0 to 3 N / 4 all the same.
    """
    base = base or ReuseSettings(prompt_frames=min(4, frames // 2))
    counts = tuple(sorted({0, frames // 8, frames // 4, frames // 2, 3 * frames // 4}))
    varied: dict[str, tuple[str, tuple[Any, ...]]] = {
        "prompt_frames": ("M", counts), "alpha": ("alpha", ALPHAS), "beta": ("beta", BETAS)
    }  # fmt: skip
    return tuple(
        Sweep(setting, letter, tuple(replace(base, **{setting: value}) for value in values))
        for setting, (letter, values) in varied.items()
    )


def distinct(of: Iterable[Sweep]) -> list[ReuseSettings]:
    """All points, each once."""
    return list(dict.fromkeys(point for sweep in of for point in sweep.points))


def point_name(point: ReuseSettings) -> str:
    return f"M={point.prompt_frames} alpha={point.alpha:g} beta={point.beta:g} {point.order}"


@dataclass(frozen=True)
class Wanted:
    """What a video should show: a prompt, and the scene that it tells of, if a program can read it off the frames."""

    text: str
    scene: Scene | None = None


def subjects(
    model: VidRD, wanted: Sequence[Wanted], points: Sequence[ReuseSettings], clips: int, sample: Mapping[str, Any]
) -> list[Subject]:
    """The videos of all points, prompt by prompt; prompt k has the seed of the first and k.

    Networks are given N frames across the last seam.

    Raises ValueError for what the model cannot do, or for videos without a seam.
    """
    if clips < 2:
        raise ValueError(f"clips is {clips}, expected 2 or more: a video of one clip has no seam")
    settings = dict(sample)
    seed = int(settings.pop("seed", 0))
    most = max(points, key=lambda point: point.prompt_frames)
    for point in points:
        model.stream(
            [each.text for each in wanted], len(wanted), point, **settings
        )  # which checks, and makes nothing

    @lru_cache(maxsize=1)
    def first(number: int) -> Clip:
        return model.generate(wanted[number].text, most, seed=seed + number, **settings)

    def show(number: int, point: ReuseSettings) -> Shown:
        begun, text = first(number), wanted[number].text
        more = model.stream(text, clips, point, state=begun.state)
        video = model.frames([begun, *more])
        rule = Clips(begun.state.frames, point.repeated_frames, point.prompt_frames)
        joints = rule.joints(len(video))
        middle = joints.seams[-1] - rule.frames // 2
        across = video[middle : middle + rule.frames]
        return Shown(video, DEFAULT_FPS, text, joints, told(video, rule, wanted[number].scene), across)

    return [
        Subject(f"{number:04d} {point_name(point)}", lambda number=number, point=point: show(number, point))  # type: ignore[misc]
        for number in range(len(wanted))
        for point in points
    ]


def told(video: Video, rule: Clips, scene: Scene | None) -> dict[str, float]:
    """Prompt faithfulness of clips after the first, read off their frames: shares right in look and in motion."""
    if scene is None:
        return {}
    starts = range(rule.frames - rule.repeated, len(video) - rule.frames + 1, rule.frames - rule.repeated)
    found = [score(read_clip(video[start : start + rule.frames], len(scene.sprites)), scene) for start in starts]
    return {
        "faithful_look": float(np.mean([each.color and each.shape for each in found])),
        "faithful_motion": float(np.mean([each.motion for each in found])),
    }


def figures(record: Record, period: int) -> dict[str, float]:
    """A video's figures, one number each: means over its seams, loopiness at `period`, how far seams are from 1."""
    values: dict[str, list[float]] = {}
    for name, value in flat(record):
        values.setdefault(name, []).append(value)
    found = {name: float(np.mean(each)) for name, each in values.items() if not name.startswith("loopiness")}
    if ratios := values.get("seam_ratio"):
        found["seam_error"] = float(np.mean(np.abs(np.log2(ratios))))
    if loop := values.get(f"loopiness {period}"):
        found["loopiness"] = loop[0]
    return found


@dataclass(frozen=True)
class Trend:
    """What a setting does to a figure: `change` from its lowest value to its highest, with a 95 % interval of the
    mean over videos, and Spearman's correlation of the points' means with the setting."""

    change: float
    low: float
    high: float
    correlation: float

    @property
    def way(self) -> int:
        """1 it rises, -1 it falls, 0 neither for certain."""
        return 0 if self.low <= 0 <= self.high else int(np.sign(self.change))


def trend(values: Sequence[float], rows: Sequence[Mapping[int, float]]) -> Trend:
    """Of a setting's values, rising, and each point's figures by number of the video."""
    shared = sorted(set(rows[0]) & set(rows[-1]))
    apart = np.array([rows[-1][number] - rows[0][number] for number in shared])
    if len(apart) < 2:
        raise ValueError(f"there are {len(apart)} videos of both ends, expected two or more")
    change, error = float(apart.mean()), float(apart.std(ddof=1) / np.sqrt(len(apart)))
    means = [float(np.mean(list(row.values()))) for row in rows]
    return Trend(change, change - Z * error, change + Z * error, spearman(values, means))


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation, by SciPy; 0 where one of them does not vary."""
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic) if min(np.ptp(a), np.ptp(b)) > 0 else 0.0
