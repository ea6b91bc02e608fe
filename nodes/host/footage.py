"""The state of real footage, for any MODEL and any SAMPLER of the host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import comfy.model_management as management
import comfy.model_sampling
import comfy.samplers
import torch
from torch import Tensor

from vidrd_core.sampling import clip_generator
from vidrd_core.state import ClipState

from .latent_layout import as_batch, as_clip, family_of
from .model import signature_of
from .progress import step_callback
from .reuse_sampler import ReuseSampler
from .sample_clip import Latent
from .vae import decodes_pictures, ratio_for

METHODS = ("inversion", "noise")


class _Calls:
    """A guider that computes nothing, and knows at which noise levels it was asked."""

    def __init__(self, guider: Any) -> None:
        self._guider = guider
        self.sigmas: list[float] = []

    def __call__(self, x: Tensor, sigma: Tensor, **_: Any) -> Tensor:
        self.sigmas.append(float(sigma.flatten()[0]))
        return torch.zeros_like(x)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guider, name)


class FootageSampler(comfy.samplers.Sampler):
    """A SAMPLER that goes the other way: from latents to the `state` of a clip that would have become them."""

    def __init__(self, inner: Any, method: str, generator: torch.Generator, solver: str) -> None:
        self.inner, self.method, self.generator, self.solver = inner, method, generator, solver
        self.state: ClipState | None = None

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
        """What the host calls; latent_image of N frames in model space comes back as it is."""
        assert latent_image is not None
        calls = _Calls(model_wrap)
        options = {**extra_args, "model_options": dict(extra_args.get("model_options", {}))}
        self.inner.sample(calls, sigmas.clone(), options, None, torch.zeros_like(noise), latent_image, None, True)
        family, steps = family_of(model_wrap.model_patcher), len(sigmas) - 1
        dim = family.frame_dim

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            management.throw_exception_if_processing_interrupted()
            x = as_batch(x, dim)
            return as_clip(model_wrap(x, sigma * x.new_ones([x.shape[0]]), **extra_args))

        def on_step(done: int, x: Tensor) -> None:
            if callback:
                callback(done, latent_image, as_batch(x, dim), steps)

        sampling = model_wrap.inner_model.model_sampling
        clip = as_clip(latent_image)
        self.state = ClipState.from_latents(
            clip,
            sigmas,
            signature_of(model_wrap.model_patcher),
            denoise=denoise if self.method == "inversion" else None,
            flow=isinstance(sampling, comfy.model_sampling.CONST),
            generator=self.generator,
            solver=self.solver,
            call_sigmas=torch.tensor(calls.sigmas),
            made_with={
                "seed": extra_args.get("seed"),
                "steps": steps,
                "frames": clip.shape[2],
                **family.metadata(),
            },
            on_step=on_step if callback else None,
        )
        return latent_image


def encoded(vae: Any, images: Tensor) -> Tensor:
    """Pictures [F, H, W, 3] as latents [1, C, F', h, w]."""
    samples = vae.encode(images[..., :3])
    return samples.movedim(0, 1)[None] if samples.ndim == 4 or decodes_pictures(vae) else samples


def state_of_footage(
    model: Any,
    vae: Any,
    positive: Any,
    images: Tensor,
    *,
    frames: int,
    seed: int,
    steps: int,
    sampler_name: str,
    scheduler: str,
    method: str,
) -> tuple[ClipState, Latent]:
    """The state of the last `frames` (N) of footage [F, H, W, 3], or of a still, and their latents.

    Raises ValueError for what the VAE or the model cannot take.
    """
    if not len(images):
        raise ValueError("there are no images: wire a video's frames, or one picture")
    ratio, taken = ratio_for(vae, frames), images[-frames:]
    missing = frames - len(taken)
    whole = encoded(vae, torch.cat([taken[:1].expand(missing, -1, -1, -1), taken]))
    channels = model.get_model_object("latent_format").latent_channels
    if whole.shape[1] != channels:
        raise ValueError(f"the VAE makes latents of {whole.shape[1]} channels, this model takes {channels}: wire its")
    # The first latent stands for a frame, each other one for `ratio`: of so many all frames stand still before.
    still = 1 + (missing - 1) // ratio if missing else 0
    dim = family_of(model).frame_dim
    family_of(model).check(tuple(as_batch(whole, dim).shape))
    footage = whole[:, :, missing:]
    if missing and ratio > 1:
        footage = encoded(vae, taken[(len(taken) - 1) % ratio :])
    whole, footage = as_batch(whole, dim), as_batch(footage, dim)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)
    inner = comfy.samplers.sampler_object(sampler_name)
    solver = ReuseSampler(inner, None).solver
    sampler = FootageSampler(inner, method, clip_generator(seed, 0), solver)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, positive)
    guider.set_cfg(1.0)  # guidance is unstable in reverse
    shown = step_callback(model, steps)
    guider.sample(torch.zeros_like(whole), whole, sampler, sigmas, callback=shown, disable_pbar=True, seed=seed)
    state = sampler.state
    assert state is not None
    return replace(state, repeated=still, past=state.latents[:, :, :still]), {"samples": footage}
