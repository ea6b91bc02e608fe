"""Sampling of one clip with any video MODEL: a first one, or one that extends a state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import comfy.model_management as management
import comfy.samplers
import comfy.utils
import torch
from torch import Tensor

from vidrd_core.presets import ReuseChoice
from vidrd_core.prompt_schedule import shares_of_frames
from vidrd_core.reuse import ReuseSettings, next_clip_noise
from vidrd_core.sampling import clip_generator
from vidrd_core.state import ClipState

from .audio_video import AudioTimeline, LatentTiming, check_audio_shape, guide_latents, join_latent, split_latent
from .latent_layout import clip_shape, layout_of, timing_of, to_model_layout
from .memory import put_away_tensor
from .progress import clip_position, show_status, step_callback
from .reuse_sampler import ReuseSampler
from .sound import FRAMES_AFTER, FRAMES_BEFORE, SOUND_AFTER, SOUND_BEFORE, SOUND_DIM

Latent = dict[str, Any]
"""ComfyUI's LATENT: "samples", and optional entries."""
PAST_KEY = "vidrd_past"  # in a LATENT: the latents shown before it, as context for decoders; they may wait in a file
CLOSING_KEY = "vidrd_closing"  # in a LATENT that closes a loop: the first clip's latents, which come after it


def initial_noise(
    parts: Sequence[Tensor],
    seed: int,
    settings: ReuseSettings,
    previous: ClipState | None,
    timing: LatentTiming,
    guides: int = 0,
) -> Any:
    """z_T of a clip, from the previous clip's by FNR and PNS, or new for a first clip.

    Args:
        parts: Latents of the wanted shapes, from `split_latent`: the video, and its audio if any.
        seed: The seed that all clips of a video share.
        settings: What the clip reuses.
        previous: The state of the clip that it extends; None for a first clip.
        timing: Which stretches of time the latents stand for; used for audio only.
        guides: How many latents of guide frames come after those of the clip; they get new noise.

    Returns:
        Noise of unit variance, of the parts' shapes: a tensor, or a NestedTensor of video and audio.

    Raises:
        StateMismatchError: The audio has another shape than the state's.
        ValueError: The state lacks what the settings need of the first clip.
    """
    shape = clip_shape(tuple(parts[0].shape))
    if previous is None:
        video = torch.randn(shape, generator=clip_generator(seed, 0))
    else:
        video = previous.next_noise(settings, seed)
        shape = tuple(video.shape)
        if guides:
            generator = clip_generator(clip_generator(seed, previous.index + 1).initial_seed(), 2)
            video = torch.cat([video, torch.randn((*shape[:2], guides, *shape[3:]), generator=generator)], 2)
    noise = to_model_layout(video, 2 if parts[0].ndim == 5 else 0)
    if len(parts) == 1:
        return noise
    sound = timing.audio_clip(parts[1])
    # A seed of its own: with the video's, audio would begin with the same noise.
    generator = clip_generator(clip_generator(seed, previous.index + 1 if previous else 0).initial_seed(), 1)
    if previous is None:
        return join_latent([noise, torch.randn(parts[1].shape, generator=generator)])
    check_audio_shape(tuple(sound.shape[:4]), previous)
    timeline = AudioTimeline(shape[2], sound.shape[2], timing)
    audio = next_clip_noise(previous.sound_noise, timeline.reuse_settings(settings), generator)
    return join_latent([noise, timing.audio_of_model(audio)])


def latent_frames(latent: Latent) -> int:
    """The number of video latents along time (N) in a LATENT."""
    return clip_shape(tuple(split_latent(latent)[0].shape))[2]


def sample_clip(
    model: Any,
    positive: Any,
    negative: Any,
    latent: Latent,
    *,
    seed: int,
    steps: int,
    cfg: float,
    sampler_name: str,
    scheduler: str,
    choice: ReuseChoice,
    previous: ClipState | None = None,
    positive_before: Any = None,
    model_low_noise: Any = None,
    switch_step: int = 0,
) -> tuple[Latent, Latent, ClipState]:
    """Sample a clip.

    Args:
        model: The MODEL.
        positive: CONDITIONING of the prompt.
        negative: CONDITIONING of the negative prompt.
        latent: A LATENT of the wanted shape: zeros for text to video.
        seed: The seed that all clips of a video share.
        steps: Denoising steps (T).
        cfg: The scale of classifier-free guidance; 1 is off.
        sampler_name: One of ComfyUI's samplers.
        scheduler: One of ComfyUI's schedulers.
        choice: What the clip reuses.
        previous: The state of the clip that it extends; None for a first clip.
        positive_before: CONDITIONING that fades out over the first frames of an extending clip.
        model_low_noise: The MODEL for the last steps, as Wan 2.2 has two; None takes all steps with `model`.
        switch_step: How many steps `model` takes before `model_low_noise`; 0 is half of them.

    Returns:
        The LATENT of the frames that the clip adds to the video, the LATENT of all its frames, and its state.

    Raises:
        StateMismatchError: The state is of another model, shape, schedule or solver; nothing was sampled.
        ValueError: The latent or the settings do not suit the model; nothing was sampled.
        DivergenceError: The latents have NaN or infinity.
    """
    parts = split_latent(latent)
    image, layout = parts[0], layout_of(model)
    if layout.with_audio and len(parts) == 1:
        raise ValueError(
            "the latent holds video alone, this model makes video and audio together: wire its own empty latent, as "
            "Empty MiniMax H3 AV Latent"
        )
    if image.shape[1] != layout.channels:
        raise ValueError(
            f"the latent has {image.shape[1]} channels, this model takes {layout.channels}: wire this model's VAE "
            f"into VidRD Empty Clip, and that latent in here"
        )
    guides = guide_latents([options for _, options in (*positive, *negative)], tuple(image.shape))
    size = tuple(image[:, :, : image.shape[2] - guides].shape) if guides else tuple(image.shape)
    experts = [model] if model_low_noise is None else [model, model_low_noise]
    _check_experts(experts)
    stages = _stages(experts, sampler_name, scheduler, steps, switch_step, previous)
    sampler = ReuseSampler(comfy.samplers.sampler_object(sampler_name), previous, choice)
    sampler.check(model, size, _joined(stages))
    if clip_position() is not None and sampler.settings.loop == "keep":  # whose last clip is to close the loop
        replace(sampler.settings, loop="close").check_frames(clip_shape(size)[2])
    share = None
    if positive_before is not None and previous is not None:
        shares = [*shares_of_frames(sampler.settings, clip_shape(size)[2]), *[1.0] * guides]
        if len(parts) == 1:
            positive = fade_conditioning(positive_before, positive, shares, tuple(image.shape))
        else:
            share = _packed_shares(shares, parts, sampler.settings, guides, layout.timing)
    noise = initial_noise(parts, seed, sampler.settings, previous, layout.timing, guides)
    whole, callback, first = latent["samples"], step_callback(model, len(_joined(stages)) - 1), 0
    try:
        for expert, sigmas in zip(experts, stages, strict=True):
            if share is None:
                guider = comfy.samplers.CFGGuider(expert)
                guider.set_conds(positive, negative)
            else:
                guider = FadingGuider(expert, share)
                guider.inner_set_conds({"positive": positive, "negative": negative, "before": positive_before})
            guider.set_cfg(cfg)
            whole = guider.sample(
                join_latent([torch.zeros_like(part) for part in parts]) if first else noise,
                whole,
                sampler,
                sigmas,
                denoise_mask=latent.get("noise_mask"),
                callback=lambda step, *more, first=first: callback(first + step, *more),
                disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
                seed=seed,
            ).to(management.intermediate_device())
            first += len(sigmas) - 1
    except management.InterruptProcessingException:
        show_status("stopped; Run samples this clip again and continues", clip_position())
        raise
    state = sampler.state
    assert state is not None
    return new_frames(whole, sampler), {"samples": whole}, state


def _stages(
    experts: Sequence[Any], sampler_name: str, scheduler: str, steps: int, switch: int, previous: ClipState | None
) -> list[Tensor]:
    """The noise levels of each expert's steps, as those of KSampler (Advanced): each has its own model's schedule.

    Raises ValueError if the first expert would take no steps, or all.
    """

    def joining(levels: Sequence[Tensor]) -> list[Tensor]:
        if len(levels) == 1:
            return list(levels)
        at = _switch(switch, min(map(len, levels)) - 1)
        return [levels[0][: at + 1], levels[1][at:]]

    own = [comfy.samplers.KSampler(each, steps, each.load_device, sampler_name, scheduler).sigmas for each in experts]
    stages = joining(own)
    if previous is None or _same_levels(_joined(stages), previous.sigmas):
        return stages
    # Earlier versions took the schedule of the first expert for both, and before that did not leave out a level for
    # the samplers for which KSampler does.
    plain = comfy.samplers.calculate_sigmas(experts[0].get_model_object("model_sampling"), scheduler, steps)
    for earlier in (own[0], plain):
        if _same_levels(earlier, previous.sigmas):
            return joining([earlier] * len(experts))
    return stages


def _joined(stages: Sequence[Tensor]) -> Tensor:
    """The schedule of all stages, falling to 0, [T + 1]: where two meet, it has the second one's level."""
    return torch.cat([*(each[:-1].cpu() for each in stages), stages[-1][-1:].cpu()])


def _same_levels(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one.cpu(), other.cpu())


def _check_experts(experts: Sequence[Any]) -> None:
    """Raise ValueError unless models go together as the experts of one."""
    names = [layout_of(each).model_name for each in experts]
    if len(set(names)) > 1:
        raise ValueError(
            f"model_low_noise is {names[1]}, model is {names[0]}, whose latents differ: wire the two experts of one "
            "model"
        )
    kinds = [_kind_of_network(each) for each in experts]
    if any(kind != kinds[0] for kind in kinds):
        first, other = (", ".join(f"{name} {value}" for name, value in kind.items()) for kind in kinds)
        raise ValueError(
            f"model_low_noise is of another kind ({other}) than model ({first}), as text to video and image to video "
            f"are: wire the two experts of one model"
        )


def _kind_of_network(model: Any) -> dict[str, Any]:
    """What ComfyUI detected of a MODEL's network by which it tells text to video from image to video and others."""
    config = model.model.model_config.unet_config
    return {
        name: config.get(name) for name in ("image_model", "model_type", "in_dim", "in_channels") if name in config
    }


def _switch(step: int, steps: int) -> int:
    """The number of steps that the first of two experts takes. Raises ValueError if the other one would take none."""
    if steps < 2:
        raise ValueError(f"steps is {steps}, expected 2 or more: model and model_low_noise take some each")
    if step >= steps:
        raise ValueError(
            f"switch_step is {step} of {steps} steps, expected fewer, so that model_low_noise takes some of them"
        )
    return step or steps // 2


def fade_conditioning(old: Any, new: Any, shares: Sequence[float], shape: tuple[int, ...]) -> Any:
    """Mix two CONDITIONINGs by masks over frames.

    Args:
        old: The CONDITIONING that fades out.
        new: The CONDITIONING that fades in.
        shares: The share of the new one in each frame, N numbers from 0 to 1.
        shape: The shape of the latents; the masks get its last two dimensions [N, h, w].

    Returns:
        One CONDITIONING of both.

    Raises:
        ValueError: One of them has a mask already.
    """
    height, width = shape[-2:]
    share = torch.tensor(shares)[:, None, None].expand(-1, height, width)
    faded = []
    for conditioning, mask in ((old, 1 - share), (new, share)):
        for text, options in conditioning:
            if "mask" in options:
                raise ValueError(
                    "a masked conditioning cannot fade in or out: remove the mask, or leave positive_before unwired"
                )
            faded.append([text, {**options, "mask": mask, "mask_strength": 1.0, "set_area_to_bounds": False}])
    return faded


class FadingGuider(comfy.samplers.CFGGuider):
    """A CFGGuider that mixes the predictions for two prompts, "before" and "positive", at twice the model calls.

    For latents of video and audio, which are packed, so that the host's masks do not fit them.

    Args:
        model: The MODEL.
        share: The share of "positive" in each element of the packed latents [1, 1, L], 0 to 1.
    """

    def __init__(self, model: Any, share: Tensor) -> None:
        super().__init__(model)
        self.share = share
        self.conds: dict[str, Any] = {}

    def predict_noise(self, x: Tensor, timestep: Tensor, *given: Any, **options: Any) -> Tensor:
        """Predict x0 of packed latents x [B, 1, L] at a noise level `timestep`."""
        conds, predicted = self.conds, []
        for name in ("before", "positive"):
            self.conds = {**conds, "positive": conds[name]}
            predicted.append(super().predict_noise(x, timestep, *given, **options))
        self.conds = conds
        return predicted[0].lerp(predicted[1], self.share.to(x))


def _packed_shares(
    shares: Sequence[float], parts: Sequence[Tensor], settings: ReuseSettings, guides: int, timing: LatentTiming
) -> Tensor:
    """The share of a new prompt in each element of packed video and audio [1, 1, L], from those of the frames.

    In audio, too, it rises after what replays, for as long as that lasts.
    """
    video, audio = parts
    timeline = AudioTimeline(video.shape[2] - guides, audio.shape[timing.audio_dim], timing)
    of_audio = shares_of_frames(timeline.reuse_settings(settings), timeline.audio_latents)
    both = []
    for part, dim, each in ((video, 2, shares), (audio, timing.audio_dim, of_audio)):
        along = torch.tensor(each).view([-1 if i == dim else 1 for i in range(part.ndim)])
        both.append(along.expand(1, *part.shape[1:]).reshape(1, 1, -1))
    return torch.cat(both, -1)


def new_frames(whole: Any, sampler: ReuseSampler) -> Latent:
    """The frames that a sampler's last clip adds to the video.

    Args:
        whole: The samples of all its frames: a tensor, or a NestedTensor of video and audio.
        sampler: The sampler, with the clip's state.

    Returns:
        A LATENT of those frames, with the latents shown before them under `PAST_KEY`, and those that close a loop
        under `CLOSING_KEY`; with audio, also what `decode_sound` needs.
    """
    assert sampler.state is not None
    state = sampler.state
    video, *audio = split_latent({"samples": whole})
    dim = 2 if video.ndim == 5 else 0
    ends = state.frames - state.closed
    new = [video.narrow(dim, state.repeated, ends - state.repeated)]
    more: Latent = {CLOSING_KEY: video.narrow(dim, ends, state.closed)} if state.closed else {}
    if audio:
        assert sampler.audio_settings is not None
        shown = sampler.audio_settings.repeated_frames if state.repeated else 0
        timing = timing_of(state.made_with)
        dim = timing.audio_dim
        length = audio[0].shape[dim]
        end = AudioTimeline(state.frames, length, timing).end_of(ends)
        new.append(audio[0].narrow(dim, shown, end - shown))
        more |= {
            SOUND_BEFORE: audio[0].narrow(dim, 0, shown),
            SOUND_DIM: dim,
            FRAMES_BEFORE: timing.frames(state.repeated),
        }
        if state.closed:
            more[SOUND_AFTER] = audio[0].narrow(dim, end, length - end)
            more[FRAMES_AFTER] = timing.frames(state.frames) - timing.frames(ends)
    assert sampler.past is not None
    return {"samples": join_latent(new), PAST_KEY: put_away_tensor(sampler.past), **more}
