"""Reuse and Diffuse around any ComfyUI SAMPLER, for any video MODEL: Denoising with Staged Guidance."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management as management
import comfy.model_sampling
import comfy.samplers
import torch
from torch import Tensor

from vidrd_core.anchoring import anchoring
from vidrd_core.presets import AS_SET, ReuseChoice
from vidrd_core.reuse import ReuseSettings, StagedGuidance, steps_of_calls
from vidrd_core.sampling import DivergenceError, clip_generator
from vidrd_core.state import ClipState, StateMismatchError

from .audio_video import AudioTimeline, AudioVideoShapes, check_audio_shape, shapes_of
from .clip_notes import preview_of_latents, prompt_of_running_node
from .feature_cache import caches_of
from .latent_layout import (
    LatentLayout,
    clip_shape,
    layout_of,
    record_to_clip_layout,
    to_clip_layout,
    to_model_layout,
)
from .memory import put_away
from .model import FRAME_POSITIONS, HostModel, model_signature
from .noise_replay import (
    ReplayedNoise,
    accepts_noise_sampler,
    generator_states,
    restore_generators,
    seed_generators,
    stock_noise_sampler,
)

SAMPLERS = comfy.samplers.KSampler.SAMPLERS
SCHEDULERS = comfy.samplers.KSampler.SCHEDULERS
STOCK = "stock"  # in a state's made_with, as "start": it started as the inner sampler does by itself
PAST_LATENTS = 40  # latents of previous clips that a state keeps as context for decoders with temporal layers


@dataclass(frozen=True)
class _Run:
    """A clip that is being sampled.

    Args:
        settings: What its video reuses.
        audio_settings: What its audio reuses.
        starts: z_T of its video, and of its audio if there is any.
        guidances: The guidance of its video and audio.
        steps: The step to which each model call belongs, as in the previous clip; empty for a first clip.
        positions: Of its frames.
        model_signature: Of the model that took its first steps.
        sigmas: The schedule as far as it was sampled; where two parts meet, the second one's noise level.
        seed: Of its first steps.
        cfg: The scale of guidance; None where its parts differ, or a guider has several.
        stock_start: Whether it starts as the inner sampler does by itself: see `ReuseSampler._start_scale`.
        latents: What its first steps gave, if others are to follow.
        generator: The state of torch's own generators after these steps.
        begun_from: The latents to which noise was added, of the recorded frames of its video and audio; of a second
            pass alone.
    """

    settings: ReuseSettings
    audio_settings: ReuseSettings | None
    starts: list[Tensor]
    guidances: list[StagedGuidance]
    steps: list[int]
    positions: list[int]
    model_signature: str
    sigmas: Tensor
    seed: int | None
    cfg: float | None
    stock_start: bool
    latents: Tensor | None = None
    generator: tuple[Tensor, ...] = ()
    begun_from: tuple[Tensor, ...] = ()

    def continued(self, sigmas: Tensor, cfg: float | None) -> _Run:
        """The clip at the steps that follow. It is a copy, for the host may sample these steps again."""
        guidances = [copy(each) for each in self.guidances]
        for each in guidances:
            each.kept, each.kept_first = [*each.kept], [*each.kept_first]
            each.kept_noise, each.sigmas = [*each.kept_noise], [*each.sigmas]
        sigmas = torch.cat([self.sigmas[:-1], sigmas.cpu()])
        return replace(self, guidances=guidances, sigmas=sigmas, cfg=cfg if cfg == self.cfg else None, latents=None)


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
        for guidance in self._guidances:
            calls = guidance.calls
            guidance.step = self._steps[calls] if calls < len(self._steps) else len(self._steps)
            if guidance.before_call:
                guidance.before_call(guidance.replayed_at_start())
        predicted = self._guider(x, sigma, **options)
        parts = zip(self._guidances, self._shapes.split(predicted), strict=True)
        return self._shapes.join([guidance.replay(x0, sigma) for guidance, x0 in parts], predicted)

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
        guides: How many latents of guide frames came after its own in the latents that were sampled.
        unfinished: The last clip as each of its parts left it that did not end at 0: what remains may follow with
            another model, and the host may sample any of these parts again.
    """

    def __init__(self, inner: Any, previous: ClipState | None, choice: ReuseChoice | None = None) -> None:
        self.inner, self.previous, self.choice = inner, previous, choice or ReuseChoice()
        self.settings = self.choice.settings
        self.state: ClipState | None = None
        self.clip: Tensor | None = None
        self.past: Tensor | None = None
        self.audio_settings: ReuseSettings | None = None
        self.guides = 0
        self.unfinished: list[_Run] = []

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
            shape: The shape of the video's latents, in the model's layout, without guide frames.
            sigmas: The schedule, falling to 0, [T + 1], or its first steps.

        Raises:
            StateMismatchError: The state is of another model, shape, schedule or solver.
            ValueError: The shape or the settings do not suit the model, or the state lacks what they need.
        """
        layout = layout_of(model)
        layout.check(shape)
        shape = clip_shape(shape)
        self.settings = self._resolved(shape[2], layout)
        if self.previous is not None:
            if (made_with := self.previous.made_with.get("family", layout.model_name)) != layout.model_name:
                raise StateMismatchError(
                    f"the state was made with {made_with}, this model is {layout.model_name}, whose latents differ: "
                    f"load the model that made the state"
                )
            sigmas = sigmas.cpu()
            if sigmas[-1] > 0:  # of the first steps, these alone can be compared; the next part has its own level
                sigmas = torch.cat([sigmas[:-1], self.previous.sigmas[len(sigmas) - 1 :]])
            self.previous.check_next(self.settings, model_signature(model), shape, sigmas, self.solver)

    def _resolved(self, frames: int, layout: LatentLayout) -> ReuseSettings:
        """The settings for clips of so many frames. Raises ValueError for clips that are too short for them."""

        def resolved(frames: int) -> ReuseSettings:
            settings = self.choice.resolve(frames, layout.compresses_time, layout.timing.cycle)
            settings.check_frames(frames)
            return settings

        try:
            return resolved(frames)
        except ValueError:
            preset = self.choice.preset
            if preset == AS_SET or (least := _least(resolved, frames)) is None:
                raise
            kind = "latents" if layout.compresses_time else "frames"
            raise ValueError(
                f"the clip has {frames} {kind}, expected {least} or more for the preset {preset!r}: make clips longer"
            ) from None

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
            sigmas: The schedule, falling to 0, [T + 1]; or its first steps, or those that follow the last ones.
            extra_args: "seed" and "model_options".
            callback: `callback(step, x0, x, steps)`, called after each step.
            noise: z_T of unit variance, [B, C, N, h, w], [N, C, h, w] or packed with audio [B, 1, L]; zeros for steps
                that follow.
            latent_image: Latents in the model's scale, of the same shape; zeros, or None, for text to video; for
                steps that follow, what the last ones gave. Where the schedule begins below the largest noise level,
                as that of a second pass does, prompt frames get those of the previous clip.
            denoise_mask: Where to denoise, 0 to 1, of the same shape. Where it is 0, `latent_image` is kept, also in
                prompt frames.
            disable_pbar: Whether to draw no progress bar on the terminal.

        Returns:
            The denoised latents in the model's scale, of the same shape.

        Raises:
            StateMismatchError: As `check`; or only one of the state and the latent has audio, or begins from latents.
            ValueError: As `check`; or the noise is not made from the state's.
            DivergenceError: The latents have NaN or infinity.
        """
        self.state = self.clip = self.past = self.audio_settings = None
        layout = layout_of(model_wrap.model_patcher)
        shapes = shapes_of(model_wrap, noise, layout.timing)
        self.guides = shapes.guides
        check_windows(model_wrap.inner_model, extra_args.get("model_options", {}), shapes.audio is not None)
        started = self._started_with(sigmas, noise, latent_image)
        if started is None:
            run = self._begin(model_wrap, layout, shapes, sigmas, noise, extra_args.get("seed"))
            run, latent_image = self._begin_from(model_wrap, shapes, run, latent_image, denoise_mask)
        else:
            run = started.continued(sigmas, cfg_of(model_wrap))
            if self.previous is not None and sigmas[-1] == 0:
                self.previous.check_schedule(run.sigmas, self.solver)
        seed, previous = extra_args.get("seed"), self.previous
        if previous is not None and seed is not None:  # noise that samplers add differs from clip to clip, too
            extra_args = {**extra_args, "seed": clip_generator(seed, previous.index + 1).initial_seed()}
        if started is not None:
            restore_generators(started.generator, noise.device)
        elif seed is not None:
            seed_generators(extra_args["seed"], shapes)
        if isinstance(model_wrap.inner_model, HostModel):
            extra_args["model_options"].setdefault("transformer_options", {})[FRAME_POSITIONS] = torch.tensor(
                run.positions
            )
        caches = caches_of(model_wrap)
        run.guidances[0].before_call = caches.replay if caches and caches.prompt_interval > 1 else None
        inner = self.inner
        if accepts_noise_sampler(inner):
            stock = stock_noise_sampler(inner, noise, sigmas, extra_args.get("seed"))
            options = {"noise_sampler": ReplayedNoise(stock, shapes, run.guidances), **inner.extra_options}
            inner = comfy.samplers.KSAMPLER(inner.sampler_function, options, inner.inpaint_options)
        latents = inner.sample(
            GuidedDenoiser(model_wrap, shapes, run.guidances, run.steps, noise.shape),
            sigmas.clone(),  # uni_pc writes to it
            extra_args,
            callback,
            noise * (1.0 if run.stock_start else self._start_scale(model_wrap, sigmas, latent_image)),
            latent_image,
            denoise_mask,
            disable_pbar,
        )
        if not latents.isfinite().all():
            raise DivergenceError("the clip came out as no finite numbers: give a smaller cfg, or another sampler")
        if sigmas[-1] > 0:
            self.unfinished.append(replace(run, latents=latents, generator=generator_states(noise.device)))
        else:
            self._finish(model_wrap, layout, shapes, run, latents)
        return latents

    def _started_with(self, sigmas: Tensor, noise: Tensor, latent_image: Tensor | None) -> _Run | None:
        """The clip whose steps so far gave these latents, if no noise is added; later parts of it are forgotten."""
        if latent_image is None or noise.any():
            return None
        found = [
            number
            for number, run in enumerate(self.unfinished)
            if run.latents is not None
            and run.latents.shape == latent_image.shape
            and torch.allclose(latent_image.cpu(), run.latents.cpu(), rtol=1e-3, atol=1e-3)
        ]
        if not found:
            return None
        # The schedule of a second expert may go on at another noise level than that of the first one ends at.
        best = min(found, key=lambda number: float((self.unfinished[number].sigmas[-1] - sigmas[0].cpu()).abs()))
        del self.unfinished[best + 1 :]
        return self.unfinished[best]

    def _begin(
        self,
        model_wrap: Any,
        layout: LatentLayout,
        shapes: AudioVideoShapes,
        sigmas: Tensor,
        noise: Tensor,
        seed: int | None,
    ) -> _Run:
        """Check a clip, and prepare its guidance."""
        self.unfinished = []
        self.check(model_wrap.model_patcher, shapes.clip, sigmas)
        settings, previous = self.settings, self.previous
        _check_start(noise)
        dim = layout.frame_dim
        starts = shapes.split(noise)
        frames = starts[0].shape[dim]
        keep = settings.recorded_frames(frames)
        positions = settings.frame_positions(frames, None if previous is None else previous.frame_positions)
        steps: list[int] = []
        if previous is not None:
            _check_noise(to_clip_layout(starts[0]), previous.noise, settings)
            steps = steps_of_calls(previous.call_sigmas, previous.sigmas)
        # A first clip's are used for nothing, so that these may be some of several parts.
        count = len(sigmas if previous is None else previous.sigmas) - 1
        guidance = StagedGuidance(
            model_wrap,
            settings,
            count,
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
        guidances, audio_settings = [guidance], None
        if len(starts) > 1:
            timeline = AudioTimeline(frames, starts[1].shape[2], layout.timing)
            audio_settings = timeline.reuse_settings(settings)
            guidances.append(self._audio_guidance(starts[1], timeline, audio_settings, keep, count))
        elif previous is not None and previous.sound_noise.numel():
            raise StateMismatchError("the state is of a clip with audio, this latent has none: wire one with audio")
        inner = model_wrap.inner_model
        stock = not isinstance(inner, HostModel) and (previous is None or previous.made_with.get("start") == STOCK)
        return _Run(
            settings,
            audio_settings,
            starts,
            guidances,
            steps,
            positions,
            model_signature(model_wrap.model_patcher),
            sigmas.cpu(),
            seed,
            cfg_of(model_wrap),
            stock,
        )

    def _begin_from(
        self,
        model_wrap: Any,
        shapes: AudioVideoShapes,
        run: _Run,
        latent_image: Tensor | None,
        denoise_mask: Tensor | None,
    ) -> tuple[_Run, Tensor | None]:
        """Let the prompt frames of a clip that begins from latents begin from the previous clip's; record its own.

        What a mask keeps stays as it is given.
        """
        old = () if self.previous is None else (self.previous.start_latents, self.previous.sound_start_latents)
        empty = latent_image is None or not latent_image.any()
        if latent_image is None or empty or self.inner.max_denoise(model_wrap, run.sigmas):
            if old and old[0].numel():
                raise StateMismatchError(
                    "the state is of a second pass, which begins from latents; this clip begins from noise alone: "
                    "wire the latents of its first pass into latent_image, and the sigmas of the second"
                )
            return run, latent_image
        parts, kept = shapes.split(latent_image.clone()), []
        masks = shapes.split(torch.ones_like(latent_image) if denoise_mask is None else denoise_mask)
        settings = (run.settings, run.audio_settings)
        for part, mask, guidance, reuse, before in zip(
            parts, masks, run.guidances, settings, old or (None, None), strict=False
        ):
            clip, free = to_clip_layout(part), to_clip_layout(mask)  # views
            if before is not None and before.numel() and reuse is not None:
                for j, source in enumerate(guidance.sources):
                    at = reuse.first_prompt_frame + j
                    clip[:, :, at] = torch.lerp(
                        clip[:, :, at], before[:, :, source].to(clip), free[:, :, at].to(clip)
                    )
            kept.append(clip[:, :, clip.shape[2] - guidance.keep :].cpu().clone())
        return replace(run, begun_from=tuple(kept)), shapes.join(parts, latent_image)

    def _finish(
        self,
        model_wrap: Any,
        layout: LatentLayout,
        shapes: AudioVideoShapes,
        run: _Run,
        latents: Tensor,
    ) -> None:
        """Keep the state of a clip whose steps are all done."""
        guidance, dim, parts = run.guidances[0], layout.frame_dim, shapes.split(latents)
        self.audio_settings = run.audio_settings
        state = ClipState.of_clip(
            self.previous,
            run.settings,
            noise=to_clip_layout(run.starts[0]).cpu(),
            latents=to_clip_layout(parts[0]).cpu(),
            record=record_to_clip_layout(guidance.new_record()),
            first_clip_record=record_to_clip_layout(guidance.new_first_clip_record()),
            step_noise=record_to_clip_layout(guidance.new_step_noise()),
            sigmas=run.sigmas,
            call_sigmas=guidance.new_call_sigmas(),
            solver=self.solver,
            model_signature=run.model_signature,
            frame_positions=run.positions,
            past_frames=PAST_LATENTS,
            sound=_audio_fields(run.starts, parts, run.guidances),
            start_latents=run.begun_from,
            made_with={
                "seed": run.seed,
                "steps": len(run.sigmas) - 1,
                "cfg": run.cfg,
                **(caches.metadata() if (caches := caches_of(model_wrap)) else {}),
                **({"start": STOCK} if run.stock_start else {}),
                **layout.metadata(),
                "frames": parts[0].shape[dim],
                "reuse": run.settings.metadata(),
                **prompt_of_running_node(),
            },
        )
        state = replace(state, preview=preview_of_latents(model_wrap.inner_model, state.shown))
        as_latent = model_wrap.inner_model.process_latent_out
        past = to_model_layout(state.past.float(), dim)
        self.clip, self.past = as_latent(parts[0].float()).cpu(), to_clip_layout(as_latent(past))
        self.state = put_away(state)

    def _audio_guidance(
        self, noise: Tensor, timeline: AudioTimeline, settings: ReuseSettings, keep: int, steps: int
    ) -> StagedGuidance:
        """The guidance of the audio, of noise [B, C, T, f, 1], of a clip that records `keep` video latents."""
        previous, audio_latents = self.previous, noise.shape[2]
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
        """The factor on the noise so that sampling starts with unit variance, as the paper's DDIM does.

        It is for this pack's own models, and for clips that follow a state with such a start: footage, which is
        inverted to it, and states of earlier versions.

        Source:
            ComfyUI's `EPS.noise_scaling` multiplies noise by sigma alone where the schedule does not begin at the
            model's largest sigma, which is meant for noise that is added to an image.
        """
        empty = latent_image is None or not latent_image.any()
        exploding = isinstance(model_wrap.inner_model.model_sampling, comfy.model_sampling.EPS)
        if not (empty and exploding) or self.inner.max_denoise(model_wrap, sigmas):
            return 1.0
        return (1 + sigmas[0] ** 2).sqrt() / sigmas[0]


def _least(resolved: Callable[[int], Any], frames: int) -> int | None:
    """The number of frames, more than `frames`, from which on there are settings; None if it takes very many."""
    for more in range(frames + 1, frames + 100):
        with suppress(ValueError):
            resolved(more)
            return more
    return None


def cfg_of(guider: Any) -> float | None:
    """The scale of guidance of ComfyUI's guider; None if it is no single one, as that of DualCFGGuider."""
    single = comfy.samplers.CFGGuider.set_cfg
    return getattr(guider, "cfg", None) if getattr(type(guider), "set_cfg", single) is single else None


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


def _check_start(noise: Tensor) -> None:
    """Raise ValueError if the noise is not that of a whole clip's first step."""
    if not 0.5 < noise.std() < 2:
        raise ValueError(
            f"the noise has standard deviation {float(noise.std()):.3g}, expected about 1: wire Reuse & Diffuse "
            "Noise; or, for the last steps of a clip, the guided sampler and the latent of its first steps"
        )


def check_windows(inner: Any, options: dict[str, Any], with_audio: bool) -> None:
    """Raise ValueError if there are context windows that change the noise, or that ComfyUI cannot give a model.

    Args:
        inner: The inner model.
        options: Its model_options.
        with_audio: Whether its latents are video and audio.
    """
    handler = options.get("context_handler")
    if handler is None:
        return
    name = type(inner).__name__
    if getattr(handler, "freenoise", False):
        raise ValueError(
            "the Context Windows node shuffles the noise (freenoise), which later clips need as it was: turn "
            "freenoise off"
        )
    # Of packed latents, only hosts that map windows from the video to the audio can cut a part.
    if with_audio and not hasattr(inner, "map_context_window_to_modalities"):
        raise ValueError(
            f"this ComfyUI cannot cut the video and the audio of {name} into the same context windows: remove the "
            f"Context Windows node, and make shorter clips"
        )
    counts_frames = "SVD_img2vid" in [kind.__name__ for kind in type(inner).__mro__]
    if counts_frames and getattr(handler, "causal_window_fix", False):
        raise ValueError(
            f"{name} cannot take the frame that causal_window_fix adds to context windows: turn causal_window_fix off"
        )
