"""Named presets of reuse settings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vidrd_core.reuse import ReuseSettings

PRESETS = ("paper", "keep moving", "loop on purpose", "anchored")
AS_SET = "as set here"


def preset(name: str, frames: int) -> ReuseSettings:
    """The reuse settings of a preset.

    "paper" has the paper's settings. The others continue in time order, with a quarter of a clip's frames as prompt
    frames, which takes a third more model calls per shown frame, and shuffle the old noise, so that less of the
    motion repeats; "loop on purpose" also closes a loop, and "anchored" keeps the colours and the contrast of the
    first clip.

    Args:
        name: One of `PRESETS`.
        frames: N, the frames of a clip.

    Raises:
        ValueError: There is no such preset.

    Example:
        >>> settings = preset("keep moving", frames=8)
        >>> settings.prompt_frames, settings.order, settings.noise
        (2, 'forward', 'shuffle')
    """
    moving = ReuseSettings(max(1, frames // 4), order="forward", noise="shuffle")
    if name == "paper":
        return ReuseSettings(prompt_frames=min(4, frames - 1))
    if name == "keep moving":
        return moving
    if name == "loop on purpose":
        return replace(moving, loop="keep")
    if name == "anchored":
        return replace(moving, anchor=0.5)
    raise ValueError(f"preset is {name!r}, expected one of {', '.join(PRESETS)}")


@dataclass(frozen=True)
class Rule:
    """Reuse settings that wait for a clip: for its length, if a preset is named, and for its model.

    `settings` are those of "as set here"; of a preset they say only whether this clip closes a loop. `auto` lets the
    model decide on the order: the paper's, or forward where the VAE compresses time.
    """

    settings: ReuseSettings = field(default_factory=ReuseSettings)
    preset: str = AS_SET
    auto: bool = False

    def at(self, frames: int, compresses: bool = False) -> ReuseSettings:
        """The settings of a clip of N latents. If the VAE `compresses` time, its first latent is a single picture.

        Raises ValueError for mirror order there, or an unknown preset.
        """
        settings = self.settings
        if self.preset != AS_SET:
            settings = preset(self.preset, frames)
            if self.settings.loop == "close":
                settings = replace(settings, loop="close")
        elif self.auto:
            settings = replace(settings, order="forward" if compresses else "mirror")
        if not compresses:
            return settings
        if settings.order == "mirror" and settings.reuses_anything:
            raise ValueError(
                "order is mirror, but this model's VAE compresses time: its latents in reverse are not the video in "
                "reverse, as the first stands for one frame and each other one for several; choose order forward or "
                "auto, or the preset keep moving"
            )
        return replace(settings, warmup_latents=1)
