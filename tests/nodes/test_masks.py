"""Noise masks: what they keep is as it was given, in prompt frames as well; the rest replays the clip before."""

import importlib

import pytest
import torch

from .small_models import small_model

REUSE = {"prompt_frames": 2, "alpha": 2.0, "order": "auto"}
KEPT = 2  # columns of latents


@pytest.fixture(scope="module", params=["wan", "sd15"])
def clips(host, request):
    """A model's guider, and the latents of two clips, whose left columns are kept."""
    model, positive, negative, empty = small_model(request.param)
    samplers = importlib.import_module("comfy.samplers")
    guider = samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(3.0)
    generator = torch.Generator().manual_seed(5)
    shape = empty["samples"].shape
    mask = torch.ones(1, 1, *shape[2:]) if len(shape) == 5 else torch.ones(shape[0], 1, *shape[2:])
    mask[..., :KEPT] = 0
    latents = [{"samples": torch.randn(shape, generator=generator), "noise_mask": mask} for _ in range(2)]
    return guider, latents, 2 if len(shape) == 5 else 0


@pytest.fixture(scope="module")
def sample(run, clips):
    """A function that samples a clip: its latents, and its state."""
    custom = importlib.import_module("comfy_extras.nodes_custom_sampler").SamplerCustomAdvanced
    make = custom.execute if hasattr(custom, "execute") else custom().sample
    scheduler = importlib.import_module("comfy_extras.nodes_custom_sampler").BasicScheduler
    schedule = scheduler.execute if hasattr(scheduler, "execute") else scheduler().get_sigmas

    def sample(latent, denoise, state=None):
        guider, *_ = clips
        sigmas = schedule(guider.model_patcher, "simple", 4, denoise)[0]
        (noise,) = run("Noise", seed=3, **REUSE, state=state)
        inner = importlib.import_module("comfy.samplers").sampler_object("euler")
        (guided,) = run("Guidance", sampler=inner, **REUSE, beta=1.0, state=state)
        made = make(noise, guider, guided, sigmas, latent)[0]
        return made["samples"], run("CollectState", sampler=guided, latent=made)[1]

    return sample


@pytest.mark.parametrize("denoise", [1.0, 0.5])
def test_what_a_mask_keeps_is_as_given(clips, sample, denoise):
    _, latents, dim = clips
    first, state = sample(latents[0], denoise)
    second, following = sample(latents[1], denoise, state)
    for made, latent in zip((first, second), latents, strict=True):
        torch.testing.assert_close(made[..., :KEPT], latent["samples"][..., :KEPT], rtol=0, atol=1e-4)
    at = 1 if dim == 2 else 0  # the warm-up latent comes first
    count = 2 if dim == 2 else 1  # in mirror order the second frame is let go
    ours, theirs = second.narrow(dim, at, count), first.narrow(dim, 8 - count, count)
    torch.testing.assert_close(ours[..., KEPT:], theirs[..., KEPT:], rtol=0, atol=1e-4)
    third, _ = sample(latents[0], denoise, following)
    torch.testing.assert_close(third[..., :KEPT], latents[0]["samples"][..., :KEPT], rtol=0, atol=1e-4)


def test_a_soft_mask_keeps_in_part(clips, sample):
    """At 0.5 a prompt frame begins half-way between what is given and the frame of the clip before."""
    guider, latents, dim = clips
    _, state = sample(latents[0], 0.5)
    soft = {**latents[1], "noise_mask": torch.full_like(latents[1]["noise_mask"], 0.5)}
    seen, options = [], guider.model_options
    wrapped = options.get("model_function_wrapper")

    def wrap(apply, given):
        seen.append(given["input"].clone())
        return wrapped(apply, given) if wrapped else apply(given["input"], given["timestep"], **given["c"])

    guider.model_options = {**options, "model_function_wrapper": wrap}
    _, following = sample(soft, 0.5, state)
    guider.model_options = options
    given = guider.model_patcher.model.process_latent_in(soft["samples"])
    sampling = guider.model_patcher.get_model_object("model_sampling")
    noise = following.noise if dim == 2 else following.noise[0].movedim(1, 0)
    old = state.start_latents[:, :, -2:]
    old = old if dim == 2 else old[0].movedim(1, 0).flip(0)
    first = 1 if dim == 2 else 0
    begun = (given.narrow(dim, first, 2) + old) / 2
    expected = sampling.noise_scaling(state.sigmas[:1], noise.narrow(dim, first, 2), begun)
    ours = seen[0][: len(noise)].narrow(dim, first, 2)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
