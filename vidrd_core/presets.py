"""Named presets of reuse settings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vidrd_core.reuse import ReuseSettings

PRESETS = ("paper", "keep moving", "loop on purpose", "anchored", "for this model")
AS_SET = "as set here"


def preset(name: str, frames: int, compresses: bool = False) -> ReuseSettings:
    """Make the reuse settings of a preset.

    "paper" has the paper's settings. The others continue in time order, with a quarter of a clip's frames as prompt
    frames, which takes a third more model calls per shown frame, and shuffle the old noise, so that less of the
    motion repeats; "loop on purpose" also closes a loop, and "anchored" keeps the colours and the contrast of the
    first clip. "for this model" is "keep moving" for models with a latent for each frame. Where the VAE compresses
    time it takes three prompt frames at least, and half of the clip at most: the first latent stands for one frame
    and is a warm-up in a later clip, and two others tell of motion.

    Args:
        name: One of `PRESETS`.
        frames: N, the frames of a clip; its latents, where the VAE compresses time.
        compresses: Whether the VAE compresses time.

    Returns:
        Settings for clips of that length, on which `prompt_frames` depends.

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
    if name == "for this model" and compresses:
        return replace(moving, prompt_frames=max(1, min(max(3, frames // 4), frames // 2)))
    if name in ("keep moving", "for this model"):
        return moving
    if name == "loop on purpose":
        return replace(moving, loop="keep")
    if name == "anchored":
        return replace(moving, anchor=0.5)
    raise ValueError(f"preset is {name!r}, expected one of {', '.join(PRESETS)}")


@dataclass(frozen=True)
class ReuseChoice:
    """A choice of reuse settings that depends on the clip: on its length, for a preset, and on its model's VAE.

    Args:
        settings: The settings if `preset` is `AS_SET`. With any other preset only two of them count: `staging`, and
            `loop` unless it is "none", which leaves the preset's.
        preset: `AS_SET` or one of `PRESETS`.
        auto: Choose the order by the model: mirror, or forward for a VAE that compresses time.
    """

    settings: ReuseSettings = field(default_factory=ReuseSettings)
    preset: str = AS_SET
    auto: bool = False

    def resolve(self, frames: int, compresses: bool = False, cycle: int = 0) -> ReuseSettings:
        """Resolve the choice for one clip.

        Args:
            frames: Latents of the clip, N.
            compresses: Whether the VAE compresses time, so that the first latent is one frame and others several.
            cycle: The number of latents after which there is such a first latent again; 0: never.

        Returns:
            The settings. For a VAE that compresses time they have one warm-up latent; or, if its latents repeat in
            cycles, prompt frames that stand for as many frames each as the old ones: M is lowered to the next number
            with (N - M) divisible by `cycle`, or raised to the least one.

        Raises:
            ValueError: The order is mirror and the VAE compresses time, the clip is shorter than a cycle, or the
                preset is unknown.
        """
        settings = self.settings
        if self.preset != AS_SET:
            settings = replace(preset(self.preset, frames, compresses), staging=self.settings.staging)
            if self.settings.loop != "none":
                settings = replace(settings, loop=self.settings.loop)
            if self.preset == "for this model" and compresses and settings.loop != "none":
                room = (
                    frames - 2
                ) // 2  # for the warm-up, prompt frames, one new latent and those that close the loop
                settings = replace(settings, prompt_frames=max(1, min(settings.prompt_frames, room)))
        elif self.auto:
            settings = replace(settings, order="forward" if compresses else "mirror")
        if not compresses:
            return settings
        if settings.order == "mirror" and settings.reuses_anything:
            chosen = "order is mirror" if self.preset == AS_SET else f"the preset {self.preset} has the order mirror"
            mend = "order forward or auto" if self.preset == AS_SET else f"the preset {AS_SET} with order forward"
            raise ValueError(
                f"{chosen}, but this model's VAE compresses time: reversed latents are not the reversed video, since "
                f"the first latent is one frame and each other one several; choose {mend}, or the preset keep moving"
            )
        if not cycle:
            return replace(settings, warmup_latents=1)
        m, least = settings.prompt_frames, frames % cycle or cycle
        fitting = m and max(least, m - (m - least) % cycle)
        if m < fitting and fitting >= frames:
            raise ValueError(
                f"a clip of {frames} latents is too short for this model, whose latents repeat in groups of {cycle}: "
                f"prompt_frames (M) would be {fitting}, all of them; make clips of more frames"
            )
        return replace(settings, prompt_frames=fitting)
