"""Reuse and Diffuse around any SAMPLER of the host, for any video MODEL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_management as management
import comfy.model_sampling
import comfy.samplers
import torch
from torch import Tensor

from vidrd_core.presets import ReuseChoice
from vidrd_core.reuse import ReuseSettings, StagedGuidance, steps_of_calls
from vidrd_core.sampling import DivergenceError, clip_generator
from vidrd_core.state import ClipState, StateMismatchError, anchoring

from .audio_video import Clock, Streams, check_sound, streams_of
from .latent_layout import as_batch, as_clip, as_clips, clip_shape, family_of
from .model import FRAME_POSITIONS, HostModel, signature_of
from .noise_replay import ReplayedNoise, stock_noise, takes_noise

SAMPLERS = comfy.samplers.KSampler.SAMPLERS
SCHEDULERS = comfy.samplers.KSampler.SCHEDULERS
PAST = 40  # latents that a state keeps of the clips before, for decoders that look back


class Guided:
    """A guider whose predictions pass through StagedGuidance, one for each stream; all else is the guider's own."""

    def __init__(self, guider: Any, streams: Streams, guidances: list[StagedGuidance], steps: list[int]) -> None:
        self._guider, self._streams, self._guidances, self._steps = guider, streams, guidances, steps

    def __call__(self, x: Tensor, sigma: Tensor, **options: Any) -> Tensor:
        management.throw_exception_if_processing_interrupted()
        parts = self._streams.split(self._guider(x, sigma, **options))
        return self._streams.join([self._replay(*each, sigma) for each in zip(self._guidances, parts, strict=True)])

    def _replay(self, guidance: StagedGuidance, x0: Tensor, sigma: Tensor) -> Tensor:
        calls = guidance.calls
        guidance.step = self._steps[calls] if calls < len(self._steps) else len(self._steps)
        return guidance.replay(x0, sigma)

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
            self.before.check_next(self.settings, signature_of(model), shape, sigmas.cpu(), self.solver)

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
        positions = settings.frame_positions(frames, None if before is None else before.frame_positions)
        steps: list[int] = []
        if before is not None:
            _check_noise(as_clip(starts[0]), before.noise, settings)
            steps = steps_of_calls(before.call_sigmas, before.sigmas)
        guidance = StagedGuidance(
            model_wrap,
            settings,
            len(sigmas) - 1,
            None if before is None else as_batch(before.record, dim),
            keep=keep,
            frame_dim=dim,
            frames=frames,
            first_clip_record=None
            if before is None or settings.loop != "close"
            else as_batch(before.first_clip_record, dim),
            step_noise=None if before is None else as_batch(before.step_noise, dim),
            correct=_on_clips(anchoring([before] if before else [], settings)),
        )
        guidances = [guidance]
        if len(starts) > 1:
            guidances.append(self._sound(starts[1], frames, keep, len(sigmas) - 1, family.time_factor))
        elif before is not None and before.sound_noise.numel():
            raise StateMismatchError("the state is of a clip with sound, this latent has none: wire one with sound")
        if isinstance(model_wrap.inner_model, HostModel):
            extra_args["model_options"].setdefault("transformer_options", {})[FRAME_POSITIONS] = torch.tensor(
                positions
            )
        inner = self.inner
        if takes_noise(inner):
            stock = stock_noise(inner, noise, sigmas, extra_args.get("seed"))
            options = {"noise_sampler": ReplayedNoise(stock, streams, guidances), **inner.extra_options}
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
        parts = streams.split(latents)
        self.state = ClipState.of_clip(
            before,
            settings,
            noise=as_clip(starts[0]).cpu(),
            latents=as_clip(parts[0]).cpu(),
            record=as_clips(guidance.new_record()),
            first_clip_record=as_clips(guidance.new_first_clip_record()),
            step_noise=as_clips(guidance.new_step_noise()),
            sigmas=sigmas.cpu(),
            call_sigmas=guidance.new_call_sigmas(),
            solver=self.solver,
            model_signature=signature_of(model_wrap.model_patcher),
            frame_positions=positions,
            past_frames=PAST,
            sound=_sound_of(starts, parts, guidances),
            made_with={
                "seed": seed,
                "steps": len(sigmas) - 1,
                "cfg": getattr(model_wrap, "cfg", None),
                **family.metadata(),
                "frames": frames,
                "reuse": settings.metadata(),
            },
        )
        as_latent = model_wrap.inner_model.process_latent_out
        past = as_batch(self.state.past.float(), dim)
        self.clip, self.past = as_latent(parts[0].float()).cpu(), as_clip(as_latent(past))
        return latents

    def _sound(self, noise: Tensor, frames: int, keep: int, steps: int, time_factor: int) -> StagedGuidance:
        """What leads the sound, of noise [B, C, T, f, 1], that goes with a clip of N frames."""
        before, moments = self.before, noise.shape[2]
        clock = Clock(frames, moments, time_factor)
        self.sound_settings = settings = clock.settings(self.settings)
        settings.check_frames(moments)
        record = step_noise = None
        if before is not None:
            check_sound(tuple(noise.shape[:4]), before)
            _check_noise(noise, before.sound_noise, settings)
            record, step_noise = before.sound_record, before.sound_step_noise
            settings.check_recorded(record.shape[3])
        keep = clock.recorded(keep)
        return StagedGuidance(lambda x, _: x, settings, steps, record, keep, frames=moments, step_noise=step_noise)

    def _start_scale(self, model_wrap: Any, sigmas: Tensor, latent_image: Tensor | None) -> Tensor | float:
        """What makes the host start from unit variance below its largest sigma, too, as DDIM does.

        The host multiplies noise by sigma there, which is right for adding noise to an image alone.
        """
        empty = latent_image is None or not latent_image.any()
        exploding = isinstance(model_wrap.inner_model.model_sampling, comfy.model_sampling.EPS)
        if not (empty and exploding) or self.inner.max_denoise(model_wrap, sigmas):
            return 1.0
        return (1 + sigmas[0] ** 2).sqrt() / sigmas[0]


def _sound_of(starts: list[Tensor], parts: list[Tensor], guidances: list[StagedGuidance]) -> dict[str, Tensor] | None:
    """What a state keeps of sound, if there is any."""
    if len(starts) == 1:
        return None
    return {
        "sound_noise": starts[1].cpu(),
        "sound_record": guidances[1].new_record(),
        "sound_latents": parts[1].cpu(),
        "sound_step_noise": guidances[1].new_step_noise(),
    }


def _check_noise(noise: Tensor, old: Tensor, settings: ReuseSettings) -> None:
    """Raise ValueError unless the prompt frames of noise [B, C, N, h, w] have that of the last clip."""
    count, first = settings.prompt_frames, settings.first_prompt_frame
    source = settings.source_frames(noise.shape[2])[first : first + count]
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
