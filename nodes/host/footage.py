"""The state of real footage, by DDIM inversion or added noise, for any video MODEL and any SAMPLER."""

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
from vidrd_core.state_files import preview_of

from .latent_layout import layout_of, to_clip_layout, to_model_layout
from .model import model_signature
from .progress import step_callback
from .reuse_sampler import ReuseSampler, check_windows
from .sample_clip import Latent
from .vae import is_image_vae, time_factor_for

METHODS = ("inversion", "noise")


class _CallRecorder:
    """A guider that predicts zeros and records the sigma of each call."""

    def __init__(self, guider: Any) -> None:
        self._guider = guider
        self.sigmas: list[float] = []

    def __call__(self, x: Tensor, sigma: Tensor, **_: Any) -> Tensor:
        self.sigmas.append(float(sigma.flatten()[0]))
        return torch.zeros_like(x)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guider, name)


class FootageSampler(comfy.samplers.Sampler):
    """A SAMPLER that samples nothing: it finds the `state` of a clip that would have been denoised to given latents.

    Args:
        inner: The SAMPLER of the clips that follow, whose model calls are counted.
        method: "inversion" for DDIM inversion, "noise" to add noise.
        generator: A CPU generator for noise that is added.
        solver: The inner sampler's name, as states record it.

    Attributes:
        state: The state; None before `sample`.
    """

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
        """Find the state; ComfyUI's guider calls this. Arguments are as for `ReuseSampler.sample`.

        `latent_image` holds the footage's N latents in the model's scale, and is returned as it is.
        """
        assert latent_image is not None
        check_windows(model_wrap.inner_model, extra_args.get("model_options", {}), with_audio=False)
        calls = _CallRecorder(model_wrap)
        options = {**extra_args, "model_options": dict(extra_args.get("model_options", {}))}
        self.inner.sample(calls, sigmas.clone(), options, None, torch.zeros_like(noise), latent_image, None, True)
        layout, steps = layout_of(model_wrap.model_patcher), len(sigmas) - 1
        dim = layout.frame_dim

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            management.throw_exception_if_processing_interrupted()
            x = to_model_layout(x, dim)
            return to_clip_layout(model_wrap(x, sigma * x.new_ones([x.shape[0]]), **extra_args))

        def on_step(step: int, x: Tensor) -> None:
            if callback:
                callback(step, latent_image, to_model_layout(x, dim), steps)

        sampling = model_wrap.inner_model.model_sampling
        clip = to_clip_layout(latent_image)
        self.state = ClipState.from_latents(
            clip,
            sigmas,
            model_signature(model_wrap.model_patcher),
            denoise=denoise if self.method == "inversion" else None,
            flow=isinstance(sampling, comfy.model_sampling.CONST),
            generator=self.generator,
            solver=self.solver,
            call_sigmas=torch.tensor(calls.sigmas),
            made_with={
                "seed": extra_args.get("seed"),
                "steps": steps,
                "frames": clip.shape[2],
                **layout.metadata(),
            },
            on_step=on_step if callback else None,
        )
        return latent_image


def encode_frames(vae: Any, images: Tensor) -> Tensor:
    """The latents [1, C, N, h, w] of an IMAGE [F, H, W, 3 or 4]; N is F, or less where the VAE compresses time."""
    samples = vae.encode(images[..., :3])
    return samples.movedim(0, 1)[None] if samples.ndim == 4 or is_image_vae(vae) else samples


def state_from_video(
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
    """A state from real footage, so that clips can extend it.

    Args:
        model: The MODEL of the clips that follow.
        vae: Its VAE.
        positive: CONDITIONING of what the footage shows.
        images: The footage, float [F, H, W, 3] from 0 to 1, of which the last frames are used; or one still.
        frames: Video frames of a clip; shorter footage begins with its first frame repeated.
        seed: The seed of noise that is added.
        steps: Denoising steps (T).
        sampler_name: One of ComfyUI's samplers, as for the clips that follow.
        scheduler: One of ComfyUI's schedulers, likewise.
        method: "inversion" for DDIM inversion, "noise" to add noise.

    Returns:
        The state, and a LATENT of the footage without the repeated frames.

    Raises:
        ValueError: There are no images, or the VAE and the model do not suit them or each other.
    """
    if not len(images):
        raise ValueError("there are no images: wire a video's frames, or one picture")
    layout = layout_of(model)
    if layout.with_audio:
        raise ValueError(
            "this model makes video and audio together, and footage has no latents of audio: begin with a clip that "
            "it makes"
        )
    factor, used = time_factor_for(vae, frames), images[-frames:]
    missing = frames - len(used)
    whole = encode_frames(vae, torch.cat([used[:1].expand(missing, -1, -1, -1), used]))
    if whole.shape[1] != layout.channels:
        raise ValueError(
            f"the VAE makes latents of {whole.shape[1]} channels, this model takes {layout.channels}: wire this "
            f"model's VAE"
        )
    # Latents that decode to repeated frames alone: the first one decodes to one frame, each other one to `factor`.
    still = 1 + (missing - 1) // factor if missing else 0
    dim = layout.frame_dim
    layout.check(tuple(to_model_layout(whole, dim).shape))
    footage = whole[:, :, missing:]
    if missing and factor > 1:
        footage = encode_frames(vae, used[(len(used) - 1) % factor :])
    whole, footage = to_model_layout(whole, dim), to_model_layout(footage, dim)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)
    inner = comfy.samplers.sampler_object(sampler_name)
    solver = ReuseSampler(inner, None).solver
    sampler = FootageSampler(inner, method, clip_generator(seed, 0), solver)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, positive)
    guider.set_cfg(1.0)  # inversion is unstable under classifier-free guidance
    callback = step_callback(model, steps)
    guider.sample(torch.zeros_like(whole), whole, sampler, sigmas, callback=callback, disable_pbar=True, seed=seed)
    state = sampler.state
    assert state is not None
    preview = preview_of(used[..., :3].mul(255).round().clamp(0, 255).byte().cpu().numpy())
    state = replace(state, repeated=still, past=state.latents[:, :, :still], preview=preview)
    return state, {"samples": footage}
