"""Prompts to long videos: `load`, then `generate`, `extend` or `stream` clips, and `decode` them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidrd_core.beyond import following_noise
from vidrd_core.clip import Clip, clip_generator, states_of
from vidrd_core.following import check_following
from vidrd_core.footage import state_of_video
from vidrd_core.model import Model
from vidrd_core.per_clip import PerClip, of_clip
from vidrd_core.per_clip import check as check_per_clip
from vidrd_core.prompt_schedule import OVER_FRAMES, Fade, fade_of
from vidrd_core.reuse import ReuseSettings, is_whole
from vidrd_core.sample import sample_clips
from vidrd_core.sampling import OnStep
from vidrd_core.settings import SampleSettings
from vidrd_core.state import ClipState, StateMismatchError
from vidrd_core.video.tensors import to_frames


class VidRD(Model):
    """A text encoder, a UNet3D and a temporal VAE that make long videos."""

    def generate(
        self, prompt: str, reuse: ReuseSettings | None = None, *, on_step: OnStep | None = None, **settings: Any
    ) -> Clip:
        """Make a first clip. `settings` are those of `SampleSettings`.

        `reuse` is how clips will follow: no more than N / 2 of this one's last frames can be prompt frames (M),
        unless it says so.

        Raises ValueError for what the model cannot do, UnknownWordError for a word that it does not know,
        DivergenceError if nothing came out.
        """
        reuse = reuse or ReuseSettings()
        sample = self.complete(SampleSettings(**settings))
        noise = torch.randn(self.latent_shape(sample), generator=clip_generator(sample.seed, 0))
        return sample_clips(self, [prompt], [sample], noise, [], reuse, on_step)[0]

    def generate_many(
        self, prompts: Sequence[str], seeds: Sequence[int], reuse: ReuseSettings | None = None, **settings: Any
    ) -> list[Clip]:
        """First clips of several videos at once: those of `generate` with a prompt and a seed each, to rounding.

        On a GPU they take little longer than one. Raises what `generate` does.
        """
        _check_pairs(prompts, seeds, "seeds")
        reuse = reuse or ReuseSettings()
        sample = self.complete(SampleSettings(**settings))
        samples = [replace(sample, seed=seed) for seed in seeds]
        shape = self.latent_shape(sample)
        noise = torch.cat([torch.randn(shape, generator=clip_generator(seed, 0)) for seed in seeds])
        return sample_clips(self, prompts, samples, noise, [], reuse)

    def extend_many(
        self, states: Sequence[ClipState], prompts: Sequence[str], reuse: ReuseSettings | None = None, **settings: Any
    ) -> list[Clip]:
        """The clips that follow several states of alike settings at once: those of `extend`, to rounding.

        Raises what `extend` does.
        """
        _check_pairs(prompts, states, "states")
        followed = [self._follow(state, reuse, settings, approximate=False) for state in states]
        rule = followed[0][1]
        if any(other != rule for _, other, _ in followed):
            raise ValueError("the states were made with other reuse settings each: give one for all")
        noises = []
        for state, (sample, _, _) in zip(states, followed, strict=True):
            opening = state.opening_noise if rule.loop == "close" else None
            generator = clip_generator(sample.seed, state.index + 1)
            noises.append(following_noise(state.noise, rule, generator, opening=opening))
        samples = [sample for sample, _, _ in followed]
        return sample_clips(self, prompts, samples, torch.cat(noises), states, rule)

    def extend(
        self,
        state: ClipState,
        prompt: str,
        reuse: ReuseSettings | None = None,
        *,
        approximate: bool = False,
        fade: Fade | None = None,
        on_step: OnStep | None = None,
        **settings: Any,
    ) -> Clip:
        """Make the clip that follows a state; what is left out is as it was for the clip before.

        `fade` is another prompt and the share, 0 to 1, of this one over it: their encoded texts are mixed so. With
        OVER_FRAMES for a share, predictions for both are mixed, ever more of this one over the first frames.

        If `approximate`, other steps and another solver will do: prompt frames are led by the old predictions at the
        nearest noise level.

        Raises StateMismatchError if the state is of another model, size or schedule, ValueError if M is not less than
        N or more than what was recorded, DivergenceError if nothing came out.
        """
        sample, reuse, nearest = self._follow(state, reuse, settings, approximate)
        opening = state.opening_noise if reuse.loop == "close" else None
        generator = clip_generator(sample.seed, state.index + 1)
        noise = following_noise(state.noise, reuse, generator, opening=opening)
        return sample_clips(self, [prompt], [sample], noise, [state], reuse, on_step, nearest, fade)[0]

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
        **settings: Any,
    ) -> Iterator[Clip]:
        """Make clips one after the other: prompt k for clip k, the last one repeats.

        `clips` is how many the whole video has, those before `state` too (None: as many as there are prompts);
        `state` is that of an earlier clip to go on from, whose number decides which prompt comes next; `approximate`
        is as in `extend`. Nothing comes after the last clip's. A new prompt fades in over `travel` clips, or
        with OVER_FRAMES over its first clip's first frames, at twice the model calls for that clip. `per_clip` has
        "seed", "cfg" and "alpha" of single clips, as in {"cfg": [None, 4.0]} for the second one.

        Raises what `generate` and `extend` do, at once.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
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
                f"give clips, how many it shall have in all"
            )
        # All that can be wrong is told now, not when the first clip is asked for.
        if state is None:
            reuse, sample = reuse or ReuseSettings(), self.complete(SampleSettings(**settings))
        else:
            sample, reuse, _ = self._follow(state, reuse, settings, approximate)
        loops = reuse.loop != "none" and last > 1
        (replace(reuse, loop="close") if loops else reuse).check_frames(self.latent_shape(sample)[2])
        check_per_clip(last, sample, reuse, own := per_clip or {})
        self.schedule.sigmas(sample.steps)
        self.check_prompts(prompts)
        self.text_encoder.tokenize([*prompts, sample.negative])

        def make(state: ClipState | None) -> Iterator[Clip]:
            for index in range(0 if state is None else state.index + 1, last):
                prompt = prompts[min(index, len(prompts) - 1)]
                mine, rule = of_clip(index, sample, reuse, own)
                if state is None:
                    clip = self.generate(prompt, rule, on_step=on_step, **vars(mine))
                else:
                    rule = replace(rule, loop="close") if loops and index == last - 1 else rule
                    fade = fade_of(prompts, index, travel)
                    clip = self.extend(
                        state, prompt, rule, approximate=approximate, fade=fade, on_step=on_step, **vars(mine)
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
        **settings: Any,
    ) -> ClipState:
        """The state of real footage, uint8 [F, H, W, 3]: its last frames, or a still, as a clip to be extended.

        `prompt` is what it shows. Its trajectory is found by DDIM inversion, without guidance, which is unstable
        in reverse, or cheaper by noising its latents. `settings` are those of `SampleSettings`, for this and what
        follows; its size is the footage's.

        Raises ValueError for frames that the model cannot encode, and what `generate` does.
        """
        return state_of_video(self, video, prompt, reuse or ReuseSettings(), method, on_step, settings)

    @torch.no_grad()
    def decode(self, clips: Clip | ClipState | Iterable[Clip | ClipState]) -> Iterator[NDArray[np.uint8]]:
        """Clips to frames uint8 [F, H, W, 3], given out as they become final; their sum is the whole video.

        The temporal decoder looks `vae.config.halo` frames ahead: a frame comes when that many later ones are there,
        the last ones at the end. A video that begins at a later clip is decoded beside the latents before it.
        """
        states = states_of(clips)
        first = next(states, None)
        if first is None:
            return

        def latents() -> Iterator[Tensor]:
            for state in chain([first], states):
                self.bring("vae")  # another clip may have been made meanwhile
                yield state.shown.to(self.device)

        self.bring("vae")
        height, width = first.shown.shape[-2:]
        together = self.vae.frames_at_once(height, width, self.tile)
        for video in self.vae.decode_stream(latents(), first.past.to(self.device), self.tile, together):
            yield to_frames(video[0])

    def frames(self, clips: Clip | ClipState | Iterable[Clip | ClipState]) -> NDArray[np.uint8]:
        """All frames of a clip or of several, uint8 [F, H, W, 3]. Raises ValueError if there is none."""
        if not (parts := list(self.decode(clips))):
            raise ValueError("there are no clips: give at least one")
        return np.concatenate(parts)

    def _follow(
        self, state: ClipState, reuse: ReuseSettings | None, settings: dict[str, Any], approximate: bool
    ) -> tuple[SampleSettings, ReuseSettings, bool]:
        """What a clip that follows a state is made with, and whether it is led by nearest noise levels."""
        known, rules = SampleSettings.__dataclass_fields__, ReuseSettings.__dataclass_fields__
        before = {key: value for key, value in state.made_with.items() if key in known}
        given = {key: value for key, value in settings.items() if value is not None}
        sample = self.complete(SampleSettings(**{**before, **given}))
        reuse = reuse or ReuseSettings(
            **{key: value for key, value in state.made_with.get("reuse", {}).items() if key in rules}
        )
        for part, mine in self.other_parts.items():
            if (theirs := state.made_with.get(part, mine)) != mine:
                name = part.replace("_", " ")
                raise StateMismatchError(f"the state was made with {name} {theirs}, this model has {mine}")
        state.check(self.signature, self.latent_shape(sample))
        reuse.check_frames(state.frames)
        nearest = False
        try:
            state.check_schedule(self.schedule.sigmas(sample.steps), sample.solver)
        except StateMismatchError as error:
            if not approximate:
                raise StateMismatchError(
                    f"{error}; to go on nearly, not exactly, give --approximate (approximate=True)"
                ) from None
            nearest = True
        reuse.check_recorded(state.record.shape[3])
        check_following(state, reuse)
        return sample, reuse, nearest


def _check_pairs(prompts: Sequence[str], others: Sequence[Any], name: str) -> None:
    """Raise ValueError unless there are as many of both, and one at least."""
    if not prompts or len(prompts) != len(others):
        raise ValueError(f"there are {len(prompts)} prompts and {len(others)} {name}: give as many, one at least")
