"""The registry of methods for long videos: every method, at the settings among which its best one is selected."""

from __future__ import annotations

from typing import Any

from vidrd_core.baselines.base import Candidate
from vidrd_core.baselines.clip_by_clip import IndependentClips, LastFrameChaining, ReuseAndDiffuse
from vidrd_core.baselines.context_windows import ContextWindows
from vidrd_core.baselines.reconstruction_guidance import CleanFrameConditioning, ReconstructionGuidance
from vidrd_core.baselines.repaint import RePaint
from vidrd_core.baselines.spectral_blending import FreeLong
from vidrd_core.reuse import ReuseSettings

_OLD_SETTINGS = {"told to go on": "positions continue", "told to begin": "positions from 0"}


def current_setting(setting: str) -> str:
    """What a setting is called now that a record of an earlier version names."""
    return _OLD_SETTINGS.get(setting, setting).replace(" drift=", " anchor=")


def candidates(frames: int, prompted: str = "") -> list[Candidate]:
    """List every method at each of its settings.

    Args:
        frames: Frames of a clip (N).
        prompted: A model that was trained with clean prompt frames; "" if there is none.

    Returns:
        Candidates, whose names and settings are those in records and in docs/long_videos.md.
    """
    quarter, half = max(1, frames // 4), max(1, frames // 2)

    def reuse(method: str, setting: str, **values: Any) -> Candidate:
        return Candidate(method, setting, ReuseAndDiffuse(ReuseSettings(**values)))

    m = min(4, half)
    forward = ReuseSettings(quarter, order="forward")
    clean = CleanFrameConditioning(forward)
    return [
        reuse("paper (mirror)", f"M={m} alpha=4 beta=0.4", prompt_frames=m),
        reuse("paper (mirror)", f"M={m} alpha=1 beta=0.4", prompt_frames=m, alpha=1.0),
        reuse("paper (mirror)", f"M={quarter} alpha=1 beta=0.8", prompt_frames=quarter, alpha=1.0, beta=0.8),
        reuse("mirror, soft release", f"M={m} alpha=4 beta=0.4", prompt_frames=m, release="soft"),
        reuse("mirror, soft release", f"M={m} alpha=1 beta=0.4", prompt_frames=m, alpha=1.0, release="soft"),
        *(
            reuse("forward", f"M={quarter} {noise} alpha={alpha:g}", prompt_frames=quarter, order="forward",
                  noise=noise, alpha=alpha)
            for noise, alpha in (("pns", 4.0), ("pns", 1.0), ("fresh", 4.0), ("shuffle", 4.0), ("lowpass", 4.0))
        ),
        *(
            reuse("forward, anchored", f"M={quarter} shuffle alpha=4 anchor={anchor:g}", prompt_frames=quarter,
                  order="forward", noise="shuffle", anchor=anchor)
            for anchor in (0.25, 0.5, 1.0)
        ),
        *(
            Candidate(method, f"stride={stride} {positions}",
                      ContextWindows(stride, freenoise, positions == "by moment"))
            for method, freenoise in (("FreeNoise windows", True), ("context windows, averaged", False))
            for stride in (half, frames - quarter) for positions in ("by moment", "each from 0")
        ),
        *(
            Candidate("FreeLong", f"{'shuffled' if freenoise else 'new'} noise, {positions}, {share} blended",
                      FreeLong(0.5 if share == "half" else 1.0, freenoise, positions == "by number"))
            for positions in ("by moment", "by number")
            for freenoise, share in ((True, "half"), (True, "all"), (False, "half"))
        ),
        Candidate("forward, resampled (RePaint)", f"M={quarter} pns alpha=4, early steps twice", RePaint(2, forward)),
        *(
            Candidate("forward, reconstruction guidance", f"M={quarter} pns alpha=4, weight {weight:g}",
                      ReconstructionGuidance(forward, weight))
            for weight in (1.0, 2.0, 5.0)
        ),
        Candidate("forward, prompt frames shown clean", f"M={quarter} pns alpha=4, model as it is", clean),
        *([Candidate("forward, trained with clean prompt frames", f"M={quarter} pns alpha=4", clean, prompted)]
          if prompted else []),
        Candidate("last frame, through pixels", "positions continue", LastFrameChaining(continue_positions=True)),
        Candidate("last frame, through pixels", "positions from 0", LastFrameChaining(continue_positions=False)),
        Candidate("independent clips", "", IndependentClips()),
    ]  # fmt: skip
