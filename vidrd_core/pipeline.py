"""Prompts to long videos: `load` a model, then call it, or `generate`, `extend`, `stream` and `decode` clips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Unpack

from vidrd_core.io.configs import meant
from vidrd_core.model import Model
from vidrd_core.prompt_schedule import (
    OVER_FRAMES,
    Fade,
    PerClip,
    check_per_clip,
    fade_of,
    settings_of_clip,
)
from vidrd_core.reuse import OLD_NAMES, ReuseSettings, is_whole
from vidrd_core.sample import Clip, sample_clips, state_of_video, states_of
from vidrd_core.sampling import OnStep, clip_generator
from vidrd_core.settings import SampleArguments, SampleSettings
from vidrd_core.state import ClipState, ScheduleMismatchError, StateMismatchError
from vidrd_core.video import DEFAULT_FPS, open_video
from vidrd_core.video.tensors import decoded_frames

_OTHER_ARGUMENTS = ("clips", "reuse", "state", "travel", "per_clip", "on_step")  # of a call, for hints


@dataclass(frozen=True, eq=False)
class Video:
    """A long video as a call of a model returns it.

    Args:
        frames: uint8 [F, H, W, 3], RGB.
        clips: Its clips; the last one's state is what the video can be extended from.
    """

    frames: NDArray[np.uint8]
    clips: list[Clip]

    def save(self, path: str | Path, fps: float = DEFAULT_FPS, scale: int = 1) -> None:
        """Write the video to a file in .mp4, .webm, .gif, .webp or .apng, or to a folder of PNG frames ("name/").

        Args:
            path: The file or folder; an older one of that name is replaced.
            fps: Frames per second.
            scale: The side of the square to which each pixel is enlarged.

        Raises:
            ValueError: The name, the rate or the scale is not valid.
            OSError: The file cannot be written.
        """
        with open_video(path, fps, scale=scale) as file:
            file.write(self.frames)


class VidRD(Model):
    """A text encoder, a UNet3D and a temporal VAE that make long videos, clip by clip.

    Methods that sample take the fields of `SampleSettings` as keyword arguments: seed, steps, cfg, solver,
    negative, frames, width, height.
    """

    def __call__(
        self,
        prompt: str | Sequence[str],
        clips: int | None = None,
        reuse: ReuseSettings | None = None,
        *,
        state: ClipState | None = None,
        travel: int = 0,
        per_clip: PerClip | None = None,
        on_step: OnStep | None = None,
        **settings: Unpack[SampleArguments],
    ) -> Video:
        """Make a long video and keep all of it in memory; `stream` and `decode` take constant memory instead.

        Args:
            prompt: A prompt for all clips, or one for each; the last one repeats.
            clips: The number of clips of the video; by default one for each prompt.
            reuse: What each clip reuses of the previous one; by default the paper's settings.
            state: The state of an earlier clip to continue from; the result holds the clips after it.
            travel: The number of clips over which a new prompt fades in.
            per_clip: Values of single clips, as in `stream`.
            on_step: `on_step(i, x)`, called at the end of each denoising step.
            **settings: The fields of `SampleSettings`.

        Returns:
            The frames and the clips.

        Raises:
            ValueError: A setting is not valid, or the state does not fit.
            UnknownWordError: The text encoder does not know a word of a prompt.
            DivergenceError: A clip came out with NaN or infinity.

        Example:
            >>> model = load("tiny")
            >>> video = model("a red circle moving right", clips=2, steps=2)
            >>> video.frames.shape
            (16, 64, 64, 3)
        """
        more: dict[str, Any] = {"state": state, "travel": travel, "per_clip": per_clip, "on_step": on_step}
        made = list(self.stream(prompt, clips, reuse, **more, **settings))
        return Video(self.frames(made), made)

    def generate(
        self,
        prompt: str,
        reuse: ReuseSettings | None = None,
        *,
        on_step: OnStep | None = None,
        **settings: Unpack[SampleArguments],
    ) -> Clip:
        """Sample a first clip.

        Args:
            prompt: What it shows.
            reuse: How later clips will extend it: at most N / 2 of its last frames can become prompt frames (M),
                unless this says more.
            on_step: `on_step(i, x)`, called at the end of each denoising step.
            **settings: The fields of `SampleSettings`.

        Returns:
            The clip; `decode` makes its frames.

        Raises:
            ValueError: A setting is not valid for the model.
            UnknownWordError: The text encoder does not know a word of the prompt.
            DivergenceError: The clip came out with NaN or infinity.

        Example:
            >>> clip = load("tiny").generate("a red circle moving right", seed=1, steps=2)
            >>> clip.latents.shape
            torch.Size([1, 4, 8, 16, 16])
        """
        reuse = reuse or ReuseSettings()
        sample = self.complete(_sample_settings(settings))
        noise = torch.randn(self.latent_shape(sample), generator=clip_generator(sample.seed, 0))
        return sample_clips(self, [prompt], [sample], noise, [], reuse, on_step)[0]

    def generate_many(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        reuse: ReuseSettings | None = None,
        *,
        on_step: OnStep | None = None,
        **settings: Unpack[SampleArguments],
    ) -> list[Clip]:
        """Sample first clips of several videos in one batch; on a GPU that takes little longer than one clip.

        Args:
            prompts: A prompt for each.
            seeds: A seed for each.
            reuse: As in `generate`.
            on_step: `on_step(i, x)`, called at the end of each denoising step.
            **settings: The other fields of `SampleSettings`.

        Returns:
            A clip for each prompt, equal to those of `generate` but for rounding. In batches of one size a clip does
            not depend on the others.

        Raises:
            ValueError: The numbers of prompts and seeds differ, or a setting is not valid for the model.
        """
        _check_pairs(prompts, seeds, "seeds")
        reuse = reuse or ReuseSettings()
        sample = self.complete(_sample_settings(settings))
        samples = [replace(sample, seed=seed) for seed in seeds]
        shape = self.latent_shape(sample)
        noise = torch.cat([torch.randn(shape, generator=clip_generator(seed, 0)) for seed in seeds])
        return sample_clips(self, prompts, samples, noise, [], reuse, on_step)

    def extend(
        self,
        state: ClipState,
        prompt: str,
        reuse: ReuseSettings | None = None,
        *,
        approximate: bool = False,
        fade: Fade | None = None,
        on_step: OnStep | None = None,
        **settings: Unpack[SampleArguments],
    ) -> Clip:
        """Sample the clip that comes after a state. Settings that are not given are those of the state's clip.

        Args:
            state: The state of the previous clip.
            prompt: What the new clip shows.
            reuse: What it reuses.
            approximate: Allow other steps or another solver than the state's: prompt frames then replay the old
                predictions at the nearest sigma.
            fade: The previous prompt and the share of the new one, 0 to 1, in which their encodings are mixed. With
                OVER_FRAMES as the share, predictions for both are mixed, with a share of the new one that grows over
                the first frames.
            on_step: `on_step(i, x)`, called at the end of each denoising step.
            **settings: The fields of `SampleSettings`.

        Returns:
            The clip; its `latents` are those that it adds to the video.

        Raises:
            StateMismatchError: The state is of another model, size or schedule.
            ValueError: M is not less than N, or more than the frames that were recorded.
            DivergenceError: The clip came out with NaN or infinity.

        Example:
            >>> model = load("tiny")
            >>> first = model.generate("a red circle moving right", steps=2)
            >>> model.extend(first.state, "a blue circle moving right").index
            1
        """
        sample, reuse, exact = self._next_settings(state, reuse, settings, approximate)
        noise = state.next_noise(reuse, sample.seed)
        return sample_clips(self, [prompt], [sample], noise, [state], reuse, on_step, exact, fade)[0]

    def extend_many(
        self,
        states: Sequence[ClipState],
        prompts: Sequence[str],
        reuse: ReuseSettings | None = None,
        *,
        seeds: Sequence[int] | None = None,
        fade: Fade | None = None,
        on_step: OnStep | None = None,
        **settings: Unpack[SampleArguments],
    ) -> list[Clip]:
        """Sample the clips that come after several states of equal settings in one batch.

        Args:
            states: The states of the previous clips.
            prompts: A prompt for each.
            reuse: What the clips reuse.
            seeds: A seed for each; by default the seed in `settings`, or each state's.
            fade: As in `extend`, for all of them.
            on_step: `on_step(i, x)`, called at the end of each denoising step.
            **settings: The fields of `SampleSettings`.

        Returns:
            A clip for each state, equal to those of `extend` but for rounding. In batches of one size a clip does not
            depend on the others.

        Raises:
            ValueError: The numbers of states, prompts and seeds differ, or the states' settings do.
            StateMismatchError: As `extend` does.
        """
        _check_pairs(prompts, states, "states")
        if seeds is not None:
            _check_pairs(prompts, seeds, "seeds")
        own: list[SampleArguments] = (
            [settings] * len(states) if seeds is None else [{**settings, "seed": seed} for seed in seeds]
        )
        found = [
            self._next_settings(state, reuse, given, approximate=False)
            for state, given in zip(states, own, strict=True)
        ]
        shared = found[0][1]
        if any(other != shared for _, other, _ in found):
            raise ValueError("the states were made with other reuse settings each: give one for all")
        samples = [sample for sample, _, _ in found]
        noises = [state.next_noise(shared, sample.seed) for state, sample in zip(states, samples, strict=True)]
        return sample_clips(self, prompts, samples, torch.cat(noises), states, shared, on_step, fade=fade)

    def stream(
        self,
        prompts: str | Sequence[str],
        clips: int | None = None,
        reuse: ReuseSettings | None = None,
        *,
        state: ClipState | None = None,
        approximate: bool = False,
        travel: int = 0,
        per_clip: PerClip | None = None,
        on_step: OnStep | None = None,
        **settings: Unpack[SampleArguments],
    ) -> Iterator[Clip]:
        """Sample clips one after the other, in constant memory.

        Args:
            prompts: Prompt k is for clip k; the last one repeats.
            clips: The number of clips of the video, those up to `state` included; by default one for each
                prompt.
            reuse: What each clip reuses of the previous one; by default the paper's settings, or the state's.
            state: The state of an earlier clip to continue from; its number decides which prompt comes next.
            approximate: As in `extend`.
            travel: The number of clips over which a new prompt fades in, or OVER_FRAMES for within the first frames
                of its first clip, which takes twice the model calls for that clip.
            per_clip: The "seed", "cfg" and "alpha" of single clips, as in {"cfg": [None, 4.0]} for the second one.
            on_step: `on_step(i, x)`, called at the end of each denoising step.
            **settings: The fields of `SampleSettings`.

        Returns:
            An iterator over the clips that come after `state`.

        Raises:
            ValueError: As `generate` and `extend` raise it, at once and not with the first clip.

        Example:
            >>> model = load("tiny")
            >>> clips = model.stream(["a red circle", "a blue circle"], clips=3, steps=2)
            >>> [clip.prompt for clip in clips]
            ['a red circle', 'a blue circle', 'a blue circle']
        """
        prompts = _listed(prompts)
        if not prompts:
            raise ValueError("there is no prompt: give at least one")
        if not is_whole(travel) or travel < OVER_FRAMES:
            raise ValueError(
                f"travel is {travel!r}, expected a whole number of clips, 0 or more, or {OVER_FRAMES} for over frames"
            )
        last = len(prompts) if clips is None else clips
        if not is_whole(last) or last < 1:
            raise ValueError(f"clips is {clips!r}, expected a whole number, 1 or more")
        if state is not None and clips is None and state.index + 1 >= last:
            raise ValueError(
                f"the state is that of clip {state.index + 1}, and there are {last} prompts for the whole video: "
                f"give clips, how many it is to have in all"
            )
        if state is None:
            reuse, sample = reuse or ReuseSettings(), self.complete(_sample_settings(settings))
        else:
            sample, reuse, _ = self._next_settings(state, reuse, settings, approximate)
        loops = reuse.loop != "none" and last > 1
        reuse = replace(reuse, loop="keep") if reuse.loop == "close" else reuse  # only the last clip closes
        (replace(reuse, loop="close") if loops else reuse).check_frames(self.latent_shape(sample)[2])
        check_per_clip(last, sample, reuse, own := per_clip or {})
        self.schedule.sigmas(sample.steps, sample.solver)
        self.check_prompts(prompts)
        for text in (*prompts, sample.negative):
            self.text_encoder.rows(text)  # raises now for a word that it does not know

        def make(state: ClipState | None) -> Iterator[Clip]:
            for index in range(0 if state is None else state.index + 1, last):
                prompt = prompts[min(index, len(prompts) - 1)]
                mine, rule = settings_of_clip(index, sample, reuse, own)
                given: dict[str, Any] = vars(mine)
                if state is None:
                    clip = self.generate(prompt, rule, on_step=on_step, **given)
                else:
                    rule = replace(rule, loop="close") if loops and index == last - 1 else rule
                    fade = fade_of(prompts, index, travel)
                    clip = self.extend(
                        state, prompt, rule, approximate=approximate, fade=fade, on_step=on_step, **given
                    )
                state = clip.state
                yield clip

        return make(state)

    def state_from_video(
        self,
        video: NDArray[np.uint8],
        prompt: str,
        reuse: ReuseSettings | None = None,
        *,
        method: Literal["inversion", "noise"] = "inversion",
        on_step: OnStep | None = None,
        **settings: Unpack[SampleArguments],
    ) -> ClipState:
        """Make a state from real footage, so that clips can extend it.

        Args:
            video: uint8 [F, H, W, 3]. Its last N frames are used; a shorter one, or a still, is lengthened by
                repeating its first frame at the start.
            prompt: What it shows.
            reuse: How clips will extend it.
            method: How its trajectory is found: "inversion", DDIM inversion without guidance (with guidance it is
                unstable in reverse), or "noise", which adds noise and needs no model call.
            on_step: `on_step(steps done, x)`.
            **settings: The fields of `SampleSettings`, for this state and the clips that extend it; the size is the
                footage's.

        Returns:
            The state of a first clip of N frames, which `extend` and `stream` continue.

        Raises:
            ValueError: The model cannot encode such frames, or a setting is not valid.
        """
        return state_of_video(
            self, video, prompt, reuse or ReuseSettings(), method, _sample_settings(settings), on_step
        )

    @torch.no_grad()
    def decode(self, clips: Clip | ClipState | Iterable[Clip | ClipState]) -> Iterator[NDArray[np.uint8]]:
        """Decode clips to frames, in constant memory.

        The temporal decoder looks `vae.config.halo` frames ahead: a frame is yielded when that many later ones are
        there, the last ones at the end. A video that begins at a later clip is decoded with the latents before it.

        Args:
            clips: One clip or state, or several in their order; an iterator is read as the decoder needs it.

        Yields:
            Frames uint8 [F, H, W, 3] as they become final; together they are the complete video.

        Raises:
            DivergenceError: The decoder gave NaN or infinity.

        Example:
            >>> model = load("tiny")
            >>> sum(len(frames) for frames in model.decode(model.stream("a red circle", 2, steps=2)))
            16
        """
        states = states_of(clips)
        first = next(states, None)
        if first is None:
            return

        def latents() -> Iterator[Tensor]:
            for state in chain([first], states):
                self.move_to_device("vae")  # another clip may have been sampled meanwhile
                yield state.shown.to(self.device)

        self.move_to_device("vae")
        height, width = first.shown.shape[-2:]
        together = self.vae.frames_at_once(height, width, self.tile)
        for video in self.vae.decode_stream(latents(), first.past.to(self.device), self.tile, together):
            yield decoded_frames(video[0])

    def frames(self, clips: Clip | ClipState | Iterable[Clip | ClipState]) -> NDArray[np.uint8]:
        """All frames of a clip or of several, uint8 [F, H, W, 3]. Raises ValueError if there is none."""
        if not (parts := list(self.decode(clips))):
            raise ValueError("there are no clips: give at least one")
        return np.concatenate(parts)

    def _next_settings(
        self, state: ClipState, reuse: ReuseSettings | None, settings: SampleArguments, approximate: bool
    ) -> tuple[SampleSettings, ReuseSettings, bool]:
        """The settings of the clip that extends a state, and whether the old calls are replayed one by one."""
        before = {key: state.made_with[key] for key in SampleSettings.__dataclass_fields__ if key in state.made_with}
        sample = self.complete(_sample_settings(settings, before))
        reuse = reuse or ReuseSettings.from_metadata(state.made_with.get("reuse", {}))
        for part, mine in self.other_parts.items():
            if (theirs := state.made_with.get(part, mine)) != mine:
                name = part.replace("_", " ")
                raise StateMismatchError(f"the state was made with {name} {theirs}, this model has {mine}")
        sigmas = self.schedule.sigmas(sample.steps, sample.solver)
        try:
            exact = state.check_next(
                reuse, self.signature, self.latent_shape(sample), sigmas, sample.solver, approximate
            )
        except ScheduleMismatchError as error:
            raise ScheduleMismatchError(
                f"{error}; to go on nearly, not exactly, give --approximate (approximate=True)"
            ) from None
        return sample, reuse, exact


def _sample_settings(given: SampleArguments, before: dict[str, Any] | None = None) -> SampleSettings:
    """The settings that were given, else those before. Raises TypeError for a name that is no setting of a clip."""
    known = SampleSettings.__dataclass_fields__
    for name in given:
        if (current := OLD_NAMES.get(name, name)) in ReuseSettings.__dataclass_fields__:
            raise TypeError(f"{name} is a setting of reuse: give reuse=ReuseSettings({current}=...)")
        if name not in known:
            similar = () if name in _OTHER_ARGUMENTS else (*known, *_OTHER_ARGUMENTS)
            raise TypeError(
                f"there is no setting {meant([name], similar)}: expected {', '.join(known)}; those of reuse go into "
                f"reuse=ReuseSettings(...)"
            )
    return SampleSettings(**{**(before or {}), **{name: value for name, value in given.items() if value is not None}})


def _listed(prompts: str | Sequence[str]) -> list[str]:
    """A prompt or several as a list. Raises ValueError for anything else."""
    if not isinstance(prompts, Iterable):
        raise ValueError(f"the prompt is {prompts!r}, expected a text, or a list of them")
    return [prompts] if isinstance(prompts, str) else list(prompts)


def _check_pairs(prompts: Sequence[str], others: Sequence[Any], name: str) -> None:
    """Raise ValueError unless there are as many of both, and one at least."""
    if not prompts or len(prompts) != len(others):
        raise ValueError(f"there are {len(prompts)} prompts and {len(others)} {name}: give as many, one at least")
