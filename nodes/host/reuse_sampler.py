"""Reuse and Diffuse around any ComfyUI SAMPLER, for any video MODEL: Denoising with Staged Guidance."""

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

from .audio_video import AudioTimeline, AudioVideoShapes, check_audio_shape, shapes_of
from .latent_layout import clip_shape, layout_of, record_to_clip_layout, to_clip_layout, to_model_layout
from .model import FRAME_POSITIONS, HostModel, model_signature
from .noise_replay import ReplayedNoise, accepts_noise_sampler, stock_noise_sampler

SAMPLERS = comfy.samplers.KSampler.SAMPLERS
SCHEDULERS = comfy.samplers.KSampler.SCHEDULERS
PAST_LATENTS = 40  # latents of previous clips that a state keeps as context for decoders with temporal layers


class GuidedDenoiser:
    """A guider whose predictions pass through `StagedGuidance`; its other attributes are the guider's own.

    Args:
        guider: ComfyUI's guider, which denoises.
        shapes: How video and audio are packed in one latent.
        guidances: The guidance of the video, and of the audio if there is any.
        steps: The step to which each model call belongs, as in the previous clip; empty for a first clip.
        size: The shape of the clip's latents, as the sampler has them.
    """

    def __init__(
        self,
        guider: Any,
        shapes: AudioVideoShapes,
        guidances: list[StagedGuidance],
        steps: list[int],
        size: torch.Size,
    ) -> None:
        self._guider, self._shapes, self._guidances, self._steps = guider, shapes, guidances, steps
        self._size = size

    def __call__(self, x: Tensor, sigma: Tensor, **options: Any) -> Tensor:
        """Denoise x at sigma.

        Raises ValueError for latents of another size than the clip's, and comfy's InterruptProcessingException if the
        run was cancelled.
        """
        management.throw_exception_if_processing_interrupted()
        if x.shape != self._size:
            raise ValueError(
                f"the sampler denoises latents of {list(x.shape)}, the clip has {list(self._size)}: one that changes "
                "their size or takes a few frames at a time, as LCM Upscale and AR Video, cannot be replayed; choose "
                "another sampler"
            )
        parts = self._shapes.split(self._guider(x, sigma, **options))
        return self._shapes.join([self._replay(*each, sigma) for each in zip(self._guidances, parts, strict=True)])

    def _replay(self, guidance: StagedGuidance, x0: Tensor, sigma: Tensor) -> Tensor:
        calls = guidance.calls
        guidance.step = self._steps[calls] if calls < len(self._steps) else len(self._steps)
        return guidance.replay(x0, sigma)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guider, name)


class ReuseSampler(comfy.samplers.Sampler):
    """A SAMPLER under which prompt frames replay the denoising of a previous clip, and which records its own.

    Args:
        inner: The SAMPLER that takes the steps.
        previous: The state of the clip to extend; None for a first clip.
        choice: What the clip reuses, by default what the paper does.

    Attributes:
        settings: The reuse settings of the last clip that was checked or sampled.
        state: The state of the last clip that was sampled; None if there was none, or it failed.
        clip: That clip's video, in the scale and layout of a LATENT.
        past: The latents that were shown before it [B, C, P, h, w], in the same scale.
        audio_settings: The reuse settings of its audio, if there is any.
    """

    def __init__(self, inner: Any, previous: ClipState | None, choice: ReuseChoice | None = None) -> None:
        self.inner, self.previous, self.choice = inner, previous, choice or ReuseChoice()
        self.settings = self.choice.settings
        self.state: ClipState | None = None
        self.clip: Tensor | None = None
        self.past: Tensor | None = None
        self.audio_settings: ReuseSettings | None = None

    @property
    def solver(self) -> str:
        """The inner sampler's name, as states record it: that of `vidrd_core`'s solver where there is the same."""
        function = getattr(self.inner, "sampler_function", type(self.inner))
        name = function.__name__.removeprefix("sample_")
        return "ddim" if name == "euler" else name

    def check(self, model: Any, shape: tuple[int, ...], sigmas: Tensor) -> None:
        """Resolve `settings` for a clip, and check that it can extend the state.

        Args:
            model: The MODEL.
            shape: The shape of the video's latents, in the model's layout.
            sigmas: The schedule, falling to 0, [T + 1].

        Raises:
            StateMismatchError: The state is of another model, shape, schedule or solver.
            ValueError: The shape or the settings do not suit the model, or the state lacks what they need.
        """
        layout = layout_of(model)
        layout.check(shape)
        shape = clip_shape(shape)
        self.settings = self.choice.resolve(shape[2], layout.compresses_time, layout.timing.cycle)
        self.settings.check_frames(shape[2])
        if self.previous is not None:
            if (made_with := self.previous.made_with.get("family", layout.model_name)) != layout.model_name:
                raise StateMismatchError(
                    f"the state was made with {made_with}, this model is {layout.model_name}, whose latents differ: "
                    f"load the model that made the state"
                )
            self.previous.check_next(self.settings, model_signature(model), shape, sigmas.cpu(), self.solver)

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
        """Sample a clip; ComfyUI's guider calls this.

        Args:
            model_wrap: The guider.
            sigmas: The schedule, falling to 0, [T + 1].
            extra_args: "seed" and "model_options".
            callback: `callback(step, x0, x, steps)`, called after each step.
            noise: z_T of unit variance, [B, C, N, h, w], [N, C, h, w] or packed with audio [B, 1, L].
            latent_image: Latents in the model's scale, of the same shape; zeros, or None, for text to video.
            denoise_mask: Where to denoise, 0 to 1, of the same shape.
            disable_pbar: Whether to draw no progress bar on the terminal.

        Returns:
            The denoised latents in the model's scale, of the same shape.

        Raises:
            StateMismatchError: As `check`; or only one of the state and the latent has audio.
            ValueError: As `check`; or the noise is not made from the state's, or the schedule does not end at 0.
            DivergenceError: The latents have NaN or infinity.
        """
        self.state = self.clip = self.past = self.audio_settings = None
        layout = layout_of(model_wrap.model_patcher)
        shapes = shapes_of(model_wrap, noise, layout.timing)
        self.check(model_wrap.model_patcher, shapes.video, sigmas)
        settings, previous = self.settings, self.previous
        _check_full_schedule(sigmas, noise)
        dim = layout.frame_dim
        starts = shapes.split(noise)
        frames, seed = starts[0].shape[dim], extra_args.get("seed")
        keep = settings.recorded_frames(frames)
        if previous is not None and seed is not None:  # noise that samplers add differs from clip to clip, too
            extra_args = {**extra_args, "seed": clip_generator(seed, previous.index + 1).initial_seed()}
        positions = settings.frame_positions(frames, None if previous is None else previous.frame_positions)
        steps: list[int] = []
        if previous is not None:
            _check_noise(to_clip_layout(starts[0]), previous.noise, settings)
            steps = steps_of_calls(previous.call_sigmas, previous.sigmas)
        guidance = StagedGuidance(
            model_wrap,
            settings,
            len(sigmas) - 1,
            None if previous is None else to_model_layout(previous.record, dim),
            keep=keep,
            frame_dim=dim,
            frames=frames,
            first_clip_record=None
            if previous is None or settings.loop != "close"
            else to_model_layout(previous.first_clip_record, dim),
            step_noise=None if previous is None else to_model_layout(previous.step_noise, dim),
            correct=_for_any_layout(anchoring([previous] if previous else [], settings)),
        )
        guidances = [guidance]
        if len(starts) > 1:
            timeline = AudioTimeline(frames, starts[1].shape[2], layout.timing)
            guidances.append(self._audio_guidance(starts[1], timeline, keep, len(sigmas) - 1))
        elif previous is not None and previous.sound_noise.numel():
            raise StateMismatchError("the state is of a clip with audio, this latent has none: wire one with audio")
        if isinstance(model_wrap.inner_model, HostModel):
            extra_args["model_options"].setdefault("transformer_options", {})[FRAME_POSITIONS] = torch.tensor(
                positions
            )
        inner = self.inner
        if accepts_noise_sampler(inner):
            stock = stock_noise_sampler(inner, noise, sigmas, extra_args.get("seed"))
            options = {"noise_sampler": ReplayedNoise(stock, shapes, guidances), **inner.extra_options}
            inner = comfy.samplers.KSAMPLER(inner.sampler_function, options, inner.inpaint_options)
        latents = inner.sample(
            GuidedDenoiser(model_wrap, shapes, guidances, steps, noise.shape),
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
        parts = shapes.split(latents)
        self.state = ClipState.of_clip(
            previous,
            settings,
            noise=to_clip_layout(starts[0]).cpu(),
            latents=to_clip_layout(parts[0]).cpu(),
            record=record_to_clip_layout(guidance.new_record()),
            first_clip_record=record_to_clip_layout(guidance.new_first_clip_record()),
            step_noise=record_to_clip_layout(guidance.new_step_noise()),
            sigmas=sigmas.cpu(),
            call_sigmas=guidance.new_call_sigmas(),
            solver=self.solver,
            model_signature=model_signature(model_wrap.model_patcher),
            frame_positions=positions,
            past_frames=PAST_LATENTS,
            sound=_audio_fields(starts, parts, guidances),
            made_with={
                "seed": seed,
                "steps": len(sigmas) - 1,
                "cfg": getattr(model_wrap, "cfg", None),
                **layout.metadata(),
                "frames": frames,
                "reuse": settings.metadata(),
            },
        )
        as_latent = model_wrap.inner_model.process_latent_out
        past = to_model_layout(self.state.past.float(), dim)
        self.clip, self.past = as_latent(parts[0].float()).cpu(), to_clip_layout(as_latent(past))
        return latents

    def _audio_guidance(self, noise: Tensor, timeline: AudioTimeline, keep: int, steps: int) -> StagedGuidance:
        """The guidance of the audio, of noise [B, C, T, f, 1], of a clip that records `keep` video latents."""
        previous, audio_latents = self.previous, noise.shape[2]
        self.audio_settings = settings = timeline.reuse_settings(self.settings)
        settings.check_frames(audio_latents)
        record = step_noise = None
        if previous is not None:
            check_audio_shape(tuple(noise.shape[:4]), previous)
            _check_noise(noise, previous.sound_noise, settings)
            record, step_noise = previous.sound_record, previous.sound_step_noise
            settings.check_recorded(record.shape[3])
        keep = max(timeline.recorded_latents(keep), settings.prompt_frames)  # rounding may take one away
        return StagedGuidance(
            lambda x, _: x, settings, steps, record, keep, frames=audio_latents, step_noise=step_noise
        )

    def _start_scale(self, model_wrap: Any, sigmas: Tensor, latent_image: Tensor | None) -> Tensor | float:
        """The factor on the noise so that sampling starts with unit variance, as DDIM does, at any first sigma.

        Source:
            ComfyUI's `EPS.noise_scaling` multiplies noise by sigma alone where the schedule does not begin at the
            model's largest sigma, which is meant for noise that is added to an image.
        """
        empty = latent_image is None or not latent_image.any()
        exploding = isinstance(model_wrap.inner_model.model_sampling, comfy.model_sampling.EPS)
        if not (empty and exploding) or self.inner.max_denoise(model_wrap, sigmas):
            return 1.0
        return (1 + sigmas[0] ** 2).sqrt() / sigmas[0]


def _audio_fields(
    starts: list[Tensor], parts: list[Tensor], guidances: list[StagedGuidance]
) -> dict[str, Tensor] | None:
    """The fields of a `ClipState` for audio; None without audio."""
    if len(starts) == 1:
        return None
    return {
        "sound_noise": starts[1].cpu(),
        "sound_record": guidances[1].new_record(),
        "sound_latents": parts[1].cpu(),
        "sound_step_noise": guidances[1].new_step_noise(),
    }


def _check_noise(noise: Tensor, old: Tensor, settings: ReuseSettings) -> None:
    """Raise ValueError unless the prompt frames of noise [B, C, N, h, w] have the noise of the previous clip."""
    count, first = settings.prompt_frames, settings.first_prompt_frame
    source = settings.source_frames(noise.shape[2])[first : first + count]
    if not torch.allclose(noise[:, :, first : first + count].cpu(), old[:, :, source], atol=1e-5):
        raise ValueError(
            "the noise is not the state's: wire Reuse & Diffuse Noise with the same state, prompt_frames and order, "
            "and leave out nodes that replace the noise, such as sample settings of AnimateDiff-Evolved"
        )


def _for_any_layout(correct: Callable[[Tensor, float], None] | None) -> Callable[[Tensor, float], None] | None:
    """The same in-place correction, for predictions of any layout: `to_clip_layout` gives a view."""
    return None if correct is None else lambda x0, share: correct(to_clip_layout(x0), share)


def _check_full_schedule(sigmas: Tensor, noise: Tensor) -> None:
    """Raise ValueError if only a part of the steps is to be sampled: no clip can extend the result."""
    if sigmas[-1] > 0:
        raise ValueError(
            f"the schedule ends at noise level {float(sigmas[-1]):.4g}, expected 0: Reuse & Diffuse Guidance needs "
            f"all steps of a clip, so wire the whole sigmas, not those of Split Sigmas"
        )
    if not 0.5 < noise.std() < 2:
        raise ValueError(
            f"the noise has standard deviation {float(noise.std()):.3g}, expected about 1: wire Reuse & Diffuse Noise"
        )
