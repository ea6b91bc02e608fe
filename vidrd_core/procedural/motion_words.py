"""The classification of a track as a motion word, by rules; positions are in pixels of a frame 64 high."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vidrd_core.procedural import DIRECTIONS, Array

UNCLEAR = "unclear"
MIN_VISIBLE = 0.85  # least share of frames in which a sprite must be visible: 7 of 8


def classify_motion(positions: Array, radius: Array, angle: Array, visible: NDArray[np.bool_]) -> str:
    """Classify a track as a motion word.

    Args:
        positions: [F, 2] (x, y) in pixels of a frame 64 high.
        radius: [F] in any unit.
        angle: [F] in radians, unwrapped.
        visible: [F]; the other arrays count only where it is set.

    Returns:
        One of `scenes.MOTIONS`, or "unclear".
    """
    if len(visible) < 3 or visible.sum() < max(3, MIN_VISIBLE * len(visible)):
        return UNCLEAR
    time = np.linspace(0, 1, len(visible))[visible]
    track, radius, angle = positions[visible], radius[visible], angle[visible]
    steps = np.linalg.norm(np.diff(track, axis=0), axis=1)
    if steps.max() > 2.5 * np.median(steps) + 3:  # a jump
        return UNCLEAR
    first, last = np.exp(np.polyval(np.polyfit(time, np.log(radius), 1), (0, 1)))
    growth = float(last / first)
    if np.linalg.norm(np.ptp(track, axis=0)) < 5:
        return _in_place(time, angle, growth)
    if not 0.6 < growth < 1 / 0.6:
        return UNCLEAR
    return _straight(time, track) or _bounce(time, track) or _orbit(track) or UNCLEAR


def _in_place(time: Array, angle: Array, growth: float) -> str:
    """The word for a sprite that stays in place, from its total growth and rotation."""
    turn, start = np.polyfit(time, angle, 1)
    wobble = float(np.std(angle - turn * time - start))
    if growth > 1.6 or growth < 1 / 1.6:
        return "grow" if growth > 1 else "shrink"
    if turn > math.radians(45) and wobble < math.radians(10):
        return "spin"
    return "stay" if abs(turn) < math.radians(25) and 0.8 < growth < 1.25 else UNCLEAR


def _straight(time: Array, track: Array) -> str:
    """The direction of a straight path at constant speed; "" if it is none."""
    slope, start = np.polyfit(time, track, 1)
    way = float(np.linalg.norm(slope))
    error = np.linalg.norm(track - start - time[:, None] * slope, axis=1)
    if way < 12 or error.max() > 1 + 0.12 * way:
        return ""
    unit = {word: np.array(step) / math.hypot(*step) for word, step in DIRECTIONS.items()}
    word = max(unit, key=lambda each: float(unit[each] @ slope))
    return word if float(unit[word] @ slope) > way * math.cos(math.radians(18)) else ""


def _bounce(time: Array, track: Array) -> str:
    """Whether it goes up and back down on a parabola with its apex in mid-clip."""
    bend, slope, start = np.polyfit(time, track[:, 1], 2)
    if bend <= 0 or np.ptp(track[:, 0]) > 6:
        return ""
    apex = -slope / (2 * bend)
    height = bend / 4
    error = np.abs(np.polyval((bend, slope, start), time) - track[:, 1])
    fits = 0.38 < apex < 0.62 and height > 12 and error.max() < 1 + 0.12 * height
    return "bounce" if fits else ""


def _orbit(track: Array) -> str:
    """Whether it makes about one clockwise turn at a constant distance from a center."""
    system = np.concatenate([2 * track, np.ones((len(track), 1))], axis=1)
    centre = np.linalg.lstsq(system, (track**2).sum(1), rcond=None)[0][:2]
    arm = track - centre
    length = np.linalg.norm(arm, axis=1)
    turn = np.diff(np.unwrap(np.arctan2(arm[:, 1], arm[:, 0])))
    even = length.min() > 0.7 * length.mean() and length.max() < 1.3 * length.mean()
    fits = even and 7 < length.mean() < 24 and turn.min() > 0 and abs(turn.sum() - 2 * math.pi) < 1.2
    return "circle" if fits else ""
