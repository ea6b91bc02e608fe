"""Real footage as a clip that can be extended."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidrd_core.clip import clip_generator
from vidrd_core.model import Model
from vidrd_core.reuse import ReuseSettings
from vidrd_core.sampling import OnStep
from vidrd_core.settings import SampleSettings
from vidrd_core.state import ClipState
from vidrd_core.video.tensors import to_video


@torch.no_grad()
def state_of_video(
    model: Model,
    video: NDArray[np.uint8],
    prompt: str,
    reuse: ReuseSettings,
    method: str,
    on_step: OnStep | None,
    settings: dict[str, Any],
) -> ClipState:
    """See `VidRD.state_from_video`."""
    if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8 or 0 in video.shape:
        raise ValueError(f"the video is {video.dtype} {list(video.shape)}, expected uint8 [F, H, W, 3]")
    if method not in ("inversion", "noise"):
        raise ValueError(f"method is {method!r}, expected 'inversion' or 'noise'")
    height, width = video.shape[1:3]
    sample = model.complete(SampleSettings(**{**settings, "width": width, "height": height}))
    frames = model.latent_shape(sample)[2]
    reuse.check_frames(frames)
    model.check_prompts([prompt])
    model.bring("vae")
    pixels = to_video(video[None, -frames:], model.device)
    latents = model.vae.encode(pixels.to(next(model.vae.parameters()).dtype))
    sigmas, denoise = model.schedule.sigmas(sample.steps), None
    if method == "inversion":
        denoise = model.denoiser(prompt, replace(sample, cfg=1.0), list(range(frames)))
    # Heun asks at each level but the first as it arrives and as it leaves.
    twice = sigmas[1:-1].repeat_interleave(2)
    return ClipState.from_latents(
        latents,
        sigmas.to(latents.device),
        model.signature,
        frames=frames,
        denoise=denoise,
        flow=model.diffusion.prediction == "flow",
        generator=clip_generator(sample.seed, 0),
        solver=sample.solver,
        levels=torch.cat([sigmas[:1], twice]) if sample.solver == "heun" else None,
        keep=reuse.recorded_frames(frames),
        made_with={"prompt": prompt, **asdict(sample), "reuse": asdict(reuse), **model.made_of()},
        on_step=on_step,
    )
