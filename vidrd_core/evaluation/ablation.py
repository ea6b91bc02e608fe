"""The paper's ablation of M, alpha and beta: the effect of each on a model's long videos, with the others fixed.

Every point generates the same videos, from the same prompts and seeds, so that differences can be taken video by
video. First clips do not depend on the varied settings and are generated once for all points of a prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from vidrd_core.evaluation.videos import ClipLayout, LoadedVideo, VideoSource
from vidrd_core.pipeline import VidRD
from vidrd_core.procedural.drawn import drawn_clips_of
from vidrd_core.reuse import ReuseSettings
from vidrd_core.sample import Clip
from vidrd_core.video import DEFAULT_FPS

SYMBOLS = {"prompt_frames": "M", "alpha": "alpha", "beta": "beta"}
ALPHAS, BETAS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0), (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Sweep:
    """One setting of `ReuseSettings` varied over two or more rising values.

    Args:
        setting: Name of the field.
        points: The settings, which differ in that field only.
    """

    setting: str
    points: tuple[ReuseSettings, ...]

    def __post_init__(self) -> None:
        if len(self.points) < 2 or self.values != sorted(set(self.values)):
            raise ValueError(f"{self.symbol} takes {self.values}, expected two or more values that rise")

    @property
    def symbol(self) -> str:
        """The paper's symbol of the setting."""
        return SYMBOLS[self.setting]

    @property
    def values(self) -> list[float]:
        """The values of the setting."""
        return [float(getattr(point, self.setting)) for point in self.points]

    @property
    def fixed(self) -> str:
        """The other settings in words, as in "alpha 4, beta 0.4"."""
        others = (name for name in SYMBOLS if name != self.setting)
        return ", ".join(f"{SYMBOLS[name]} {getattr(self.points[0], name):g}" for name in others)


def prompt_frame_counts(frames: int) -> tuple[int, ...]:
    """Values of M from 0 to three quarters of a clip of N = `frames` frames."""
    return tuple(sorted({0, frames // 8, frames // 4, frames // 2, 3 * frames // 4}))


def sweep(setting: str, values: Iterable[Any], base: ReuseSettings) -> Sweep:
    """Vary one setting.

    Args:
        setting: Name of a field of `ReuseSettings`: prompt_frames, alpha or beta.
        values: Its values, two or more, rising.
        base: The other settings.

    Returns:
        One point for each value, in the order of the values.

    Raises:
        ValueError: A value is invalid, or the values do not rise.
    """
    return Sweep(setting, tuple(replace(base, **{setting: value}) for value in values))


def paper_sweeps(
    frames: int, base: ReuseSettings | None = None, values: Mapping[str, Sequence[Any] | None] | None = None
) -> tuple[Sweep, ...]:
    """Make the paper's three sweeps: M at alpha 4 and beta 0.4, alpha at M 4 and beta 0.4, beta at M 4 and alpha 4.

    Args:
        frames: Frames of a clip (N); M goes from 0 to 3 N / 4.
        base: The fixed settings; None for the paper's, with M limited to N / 2.
        values: Other values by the names of settings; None leaves a setting as it is.

    Returns:
        The sweeps of M, alpha and beta that are left.

    Raises:
        ValueError: A value is invalid, or the values do not rise.
    """
    base = base or ReuseSettings(prompt_frames=min(4, frames // 2))
    papers: dict[str, Sequence[Any] | None] = {
        "prompt_frames": prompt_frame_counts(frames),
        "alpha": ALPHAS,
        "beta": BETAS,
    }
    varied = {**papers, **(values or {})}
    return tuple(sweep(setting, each, base) for setting, each in varied.items() if each is not None)


def unique_points(of: Iterable[Sweep]) -> list[ReuseSettings]:
    """All points of sweeps, each once."""
    return list(dict.fromkeys(point for each in of for point in each.points))


def point_name(point: ReuseSettings) -> str:
    """The name of a point in records, as in "M=4 alpha=4 beta=0.4"."""
    return f"M={point.prompt_frames} alpha={point.alpha:g} beta={point.beta:g}"


def video_name(number: int, point: ReuseSettings) -> str:
    """The name of a video in records: its number and its point."""
    return f"{number:04d} {point_name(point)}"


def ablation_videos(
    model: VidRD,
    prompts: Sequence[str],
    points: Sequence[ReuseSettings],
    clips: int,
    sample: Mapping[str, Any],
    network_frames: int | None = None,
) -> list[VideoSource]:
    """Prepare the videos of all points, prompt by prompt; prompt k has the seed of the first plus k.

    Networks are given the frames across the last seam: those at the start of a video are the same for all points.

    Args:
        model: The model.
        prompts: The prompts, one per video of a point.
        points: The settings to compare.
        clips: Clips of a video, 2 or more.
        sample: Settings of `SampleSettings` by name.
        network_frames: How many frames networks are given, N by default.

    Returns:
        A source for each prompt and point, named by `video_name`, which generates the video when it is loaded.

    Raises:
        ValueError: The model does not support the settings, or videos would have no seam.
    """
    if clips < 2:
        raise ValueError(f"clips is {clips}, expected 2 or more: a video of one clip has no seam")
    settings = dict(sample)
    seed = int(settings.pop("seed", 0))
    most = max(points, key=lambda point: point.prompt_frames)
    for point in points:
        model.stream(prompts, len(prompts), point, **settings)  # checks everything, generates nothing

    drawn = drawn_clips_of(model)

    @lru_cache(maxsize=1)
    def first_clip(number: int) -> Clip:
        return model.generate(prompts[number], most, seed=seed + number, **settings)

    def generate(number: int, point: ReuseSettings) -> LoadedVideo:
        first, text = first_clip(number), prompts[number]
        video = model.frames([first, *model.stream(text, clips, point, state=first.state)])
        layout = ClipLayout(first.state.frames, point.repeated_frames, point.prompt_frames)
        boundaries = replace(layout.boundaries(len(video)), window=layout.frames)  # M + 1 would differ between points
        figures = drawn.figures(video, text, layout.frames, layout.repeated, first=1) if drawn else {}
        length = network_frames or layout.frames
        start = max(0, min(boundaries.seams[-1] - length // 2, len(video) - length))
        return LoadedVideo(video, DEFAULT_FPS, text, boundaries, figures, video[start : start + length])

    return [
        VideoSource(video_name(number, point), lambda number=number, point=point: generate(number, point))  # type: ignore[misc]
        for number in range(len(prompts))
        for point in points
    ]
