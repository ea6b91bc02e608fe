"""Reuse and Diffuse around any SAMPLER of the host, for any video MODEL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import comfy.model_management as management
import comfy.model_sampling
import comfy.samplers
import torch
from torch import Tensor

from vidrd_core.clip import DivergenceError, clip_generator
from vidrd_core.following import check_following, correction, handed_on
from vidrd_core.presets import ReuseChoice
from vidrd_core.reuse import ReuseSettings, StagedGuidance, steps_of_calls
from vidrd_core.state import ClipState, StateMismatchError

from .audio_video import Clock, Streams, check_sound, streams_of
from .latent_layout import as_batch, as_clip, as_clips, clip_shape, family_of
from .model import NUMBERS, HostModel, signature_of
from .noise_replay import ReplayedNoise, ReplayedPart, stock_noise, takes_noise

SAMPLERS = comfy.samplers.KSampler.SAMPLERS
SCHEDULERS = comfy.samplers.KSampler.SCHEDULERS
PAST = 40  # latents that a state keeps of the clips before, for decoders that look back


class Guided:
    """A guider whose predictions pass through StagedGuidance, one for each stream. All else is the guider's own."""

    def __init__(self, guider: Any, streams: Streams, guidances: list[StagedGuidance], steps: list[int]) -> None:
        self._guider, self._streams, self._guidances, self._steps = guider, streams, guidances, steps

    def __call__(self, x: Tensor, sigma: Tensor, **options: Any) -> Tensor:
        management.throw_exception_if_processing_interrupted()
        parts = self._streams.split(self._guider(x, sigma, **options))
        return self._streams.join([self._follow(*each, sigma) for each in zip(self._guidances, parts, strict=True)])

    def _follow(self, guidance: StagedGuidance, x0: Tensor, sigma: Tensor) -> Tensor:
        calls = guidance.calls
        guidance.step = self._steps[calls] if calls < len(self._steps) else len(self._steps)
        return guidance.follow(x0, sigma)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guider, name)


class ReuseSampler(comfy.samplers.Sampler):
    """A SAMPLER under which prompt frames follow an old clip; the `state` it leaves is what a next clip needs."""

    def __init__(self, inner: Any, before: ClipState | None, choice: ReuseChoice | None = None) -> None:
        self.inner, self.before, self.choice = inner, before, choice or ReuseChoice()
        self.settings = self.choice.settings  # until `check` knows the clip
        self.state: ClipState | None = None
        self.clip: Tensor | None = None  # the same clip as LATENT has it
        self.past: Tensor | None = None  # so the latents shown before it
        self.sound_settings: ReuseSettings | None = None  # of sound that goes with it

    @property
    def solver(self) -> str:
        """The inner sampler's name; the core's where it has the same one."""
        function = getattr(self.inner, "sampler_function", type(self.inner))
        name = function.__name__.removeprefix("sample_")
        return "ddim" if name == "euler" else name

    def check(self, model: Any, shape: tuple[int, ...], sigmas: Tensor) -> None:
        """Raise ValueError or StateMismatchError unless a clip of this shape and schedule can follow the state."""
        family = family_of(model)
        family.check(shape)
        shape = clip_shape(shape)
        self.settings = self.choice.resolve(shape[2], family.compresses)
        self.settings.check_frames(shape[2])
        if self.before is not None:
            if (theirs := self.before.made_with.get("family", family.name)) != family.name:
                raise StateMismatchError(
                    f"the state was made with {theirs}, this model is {family.name}: what one leaves means "
                    f"nothing to the other; load the one that made the state"
                )
            self.before.check(signature_of(model), shape)
            self.before.check_schedule(sigmas.cpu(), self.solver)
            self.settings.check_recorded(self.before.record.shape[3])
            check_following(self.before, self.settings)

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callable[..., None] | None,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        """What the host calls; noise [B, C, N, h, w] or [N, C, h, w] of unit variance -> latents in model space.

        Raises what `check` does, ValueError if the noise does not go with the state, DivergenceError if nothing
        came out.
        """
        self.state = self.clip = self.past = self.sound_settings = None
        streams = streams_of(model_wrap, noise)
        self.check(model_wrap.model_patcher, streams.video, sigmas)
        settings, before = self.settings, self.before
        _check_whole(sigmas, noise)
        family = family_of(model_wrap.model_patcher)
        dim = family.frame_dim
        starts = streams.split(noise)
        frames, seed = starts[0].shape[dim], extra_args.get("seed")
        keep = settings.recorded_frames(frames)
        if before is not None and seed is not None:  # what samplers add themselves is to be of the clip's own, too
            extra_args = {**extra_args, "seed": clip_generator(seed, before.index + 1).initial_seed()}
        numbers = settings.numbers(frames, None if before is None else before.numbers)
        steps: list[int] = []
        if before is not None:
            _check_noise(as_clip(starts[0]), before.noise, settings)
            steps = steps_of_calls(before.levels, before.sigmas)
        guidance = StagedGuidance(
            model_wrap,
            settings,
            len(sigmas) - 1,
            None if before is None else as_batch(before.record, dim),
            keep=keep,
            frame_dim=dim,
            frames=frames,
            opening=as_batch(before.opening, dim) if before is not None and settings.loop == "close" else None,
            correct=_on_clips(correction([before] if before else [], settings)),
        )
        guidances = [guidance]
        if len(starts) > 1:
            guidances.append(self._sound(starts[1], frames, keep, len(sigmas) - 1, family.time_factor))
        elif before is not None and before.sound_noise.numel():
            raise StateMismatchError("the state is of a clip with sound, this latent has none: wire one with sound")
        if isinstance(model_wrap.inner_model, HostModel):
            extra_args["model_options"].setdefault("transformer_options", {})[NUMBERS] = torch.tensor(numbers)
        inner = self.inner
        injected: ReplayedNoise | None = None
        if takes_noise(inner):
            stock = stock_noise(inner, noise, sigmas, extra_args.get("seed"))
            olds = [None, None] if before is None else [as_batch(before.injected, dim), before.sound_injected]
            injected = ReplayedNoise(stock, streams, [*map(ReplayedPart, guidances, olds)])
            options = {"noise_sampler": injected, **inner.extra_options}
            inner = comfy.samplers.KSAMPLER(inner.sampler_function, options, inner.inpaint_options)
        latents = inner.sample(
            Guided(model_wrap, streams, guidances, steps),
            sigmas.clone(),  # uni_pc writes to it
            extra_args,
            callback,
            noise * self._start_scale(model_wrap, sigmas, latent_image),
            latent_image,
            denoise_mask,
            disable_pbar,
        )
        if not latents.isfinite().all():
            raise DivergenceError("the clip came out as no finite numbers: give a smaller cfg, or another sampler")
        made_with = {
            "seed": seed,
            "steps": len(sigmas) - 1,
            "cfg": getattr(model_wrap, "cfg", None),
        }
        made = streams.split(latents)
        record, clip = as_clips(guidance.new_record()), as_clip(made[0]).cpu()
        self.state = ClipState(
            noise=as_clip(starts[0]).cpu(),
            record=record,
            latents=clip,
            past=clip[:, :, :0] if before is None else before.tail(PAST),
            sigmas=sigmas.cpu(),
            levels=guidance.new_levels(),
            injected=record[:0] if injected is None else as_clips(injected.parts[0].new(guidance.new_record())),
            index=0 if before is None else before.index + 1,
            repeated=0 if before is None else settings.repeated_frames,
            solver=self.solver,
            model_signature=signature_of(model_wrap.model_patcher),
            numbers=numbers,
            follows="" if before is None else before.fingerprint,
            **handed_on(before, as_clip(starts[0]).cpu(), as_clips(guidance.new_opening())),
            **_sound_made(starts, made, guidances, injected),
            made_with={
                **made_with,
                **family.told(),
                "frames": frames,
                "reuse": asdict(settings),
            },
        )
        as_latent = model_wrap.inner_model.process_latent_out
        past = as_batch(self.state.past.float(), dim)
        self.clip, self.past = as_latent(made[0].float()).cpu(), as_clip(as_latent(past))
        return latents

    def _sound(self, noise: Tensor, frames: int, keep: int, steps: int, time_factor: int) -> StagedGuidance:
        """What leads the sound, of noise [B, C, T, f, 1], that goes with a clip of N frames."""
        before, moments = self.before, noise.shape[2]
        clock = Clock(frames, moments, time_factor)
        self.sound_settings = settings = clock.settings(self.settings)
        settings.check_frames(moments)
        record = None
        if before is not None:
            check_sound(tuple(noise.shape[:4]), before)
            _check_noise(noise, before.sound_noise, settings)
            record = before.sound_record
            settings.check_recorded(record.shape[3])
        return StagedGuidance(lambda x, _: x, settings, steps, record, keep=clock.recorded(keep), frames=moments)

    def _start_scale(self, model_wrap: Any, sigmas: Tensor, latent_image: Tensor | None) -> Tensor | float:
        """What makes the host start from unit variance below its largest sigma, too, as DDIM does.

        The host multiplies noise by sigma there, which is right for adding noise to an image alone.
        """
        empty = latent_image is None or not latent_image.any()
        exploding = isinstance(model_wrap.inner_model.model_sampling, comfy.model_sampling.EPS)
        if not (empty and exploding) or self.inner.max_denoise(model_wrap, sigmas):
            return 1.0
        return (1 + sigmas[0] ** 2).sqrt() / sigmas[0]


def _sound_made(
    starts: list[Tensor], made: list[Tensor], guidances: list[StagedGuidance], injected: ReplayedNoise | None
) -> dict[str, Tensor]:
    """What a state keeps of sound, if there is any."""
    if len(starts) == 1:
        return {}
    record = guidances[1].new_record()
    return {
        "sound_noise": starts[1].cpu(),
        "sound_record": record,
        "sound_latents": made[1].cpu(),
        "sound_injected": record[:0] if injected is None else injected.parts[1].new(record),
    }


def _check_noise(noise: Tensor, old: Tensor, settings: ReuseSettings) -> None:
    """Raise ValueError unless the prompt frames of noise [B, C, N, h, w] have that of the last clip."""
    count, first = settings.prompt_frames, settings.first_prompt
    source = settings.source(noise.shape[2])[first : first + count]
    if not torch.allclose(noise[:, :, first : first + count].cpu(), old[:, :, source], atol=1e-5):
        raise ValueError(
            "the noise is not the state's: wire Reuse & Diffuse Noise with the same state, prompt_frames and order, "
            "and let no sample settings of AnimateDiff-Evolved or the like change it"
        )


def _on_clips(correct: Callable[[Tensor, float], None] | None) -> Callable[[Tensor, float], None] | None:
    """The same for predictions of any layout, of which clips are but a view."""
    return None if correct is None else lambda x0, share: correct(as_clip(x0), share)


def _check_whole(sigmas: Tensor, noise: Tensor) -> None:
    """Raise ValueError for a part of the denoising alone, whose noise and latents no clip can go on from."""
    if sigmas[-1] > 0:
        raise ValueError(
            f"the schedule ends at noise level {float(sigmas[-1]):.4g}, expected 0: Reuse & Diffuse Guidance leads a "
            f"clip through all its steps, so wire the whole sigmas, not those of Split Sigmas"
        )
    if not 0.5 < noise.std() < 2:
        raise ValueError(
            f"the noise has standard deviation {float(noise.std()):.3g}, expected about 1: wire Reuse & Diffuse Noise"
        )
