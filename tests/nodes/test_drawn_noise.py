"""Samplers that draw from torch's own generator, as SamplerLCMUpscale does: clips are reproducible with them, too."""

import importlib
import itertools

import pytest
import torch

from vidrd_core.state import ClipState

from .small_models import small_model

REUSE = {"prompt_frames": 3, "alpha": 2.0, "order": "auto"}


def draws(model, x, sigmas, extra_args=None, callback=None, disable=None):
    """Samples with new noise at each step, drawn as many samplers of other packs draw it."""
    for sigma, following in itertools.pairwise(sigmas):
        x = model(x, sigma * x.new_ones([len(x)]), **(extra_args or {}))
        if following > 0:
            x = (1 - following) * x + following * torch.randn_like(x)
    return x


@pytest.fixture(scope="module")
def parts(host):
    """A model's guider and latent, the host's SamplerCustomAdvanced, and a schedule."""
    model, positive, negative, latent = small_model("wan")
    samplers, custom = (
        importlib.import_module(each) for each in ("comfy.samplers", "comfy_extras.nodes_custom_sampler")
    )
    guider = samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(3.0)
    make = custom.SamplerCustomAdvanced
    make = make.execute if hasattr(make, "execute") else make().sample
    sigmas = samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 4)
    return guider, latent, make, sigmas, custom, samplers.KSAMPLER(draws)


def test_a_first_clip_is_the_hosts(parts, run):
    guider, latent, make, sigmas, custom, inner = parts
    noise = custom.Noise_RandomNoise(3)
    expected = make(noise, guider, inner, sigmas, latent)[0]["samples"]

    class Same:
        seed = 3
        kept = noise.generate_noise(latent)
        generate_noise = staticmethod(lambda latent: Same.kept)

    for given in (noise, Same):
        (guided,) = run("Guidance", sampler=inner, **REUSE, beta=1.0, state=None)
        torch.rand(7)  # whatever ran before
        assert torch.equal(make(given, guider, guided, sigmas, latent)[0]["samples"], expected)


def test_resume_is_exact(parts, run, tmp_path):
    guider, latent, make, sigmas, _, inner = parts

    def clip(state):
        torch.rand(5)
        (noise,) = run("Noise", seed=3, **REUSE, state=state)
        (guided,) = run("Guidance", sampler=inner, **REUSE, beta=1.0, state=state)
        made = make(noise, guider, guided, sigmas, latent)[0]
        return run("CollectState", sampler=guided, latent=made)[1]

    state = clip(None)
    assert torch.equal(clip(None).latents, state.latents)
    following = clip(state)
    state.save(tmp_path / "state.safetensors")
    assert torch.equal(clip(ClipState.load(tmp_path / "state.safetensors")).latents, following.latents)
    new = following.latents[:, :, 4:]
    assert not torch.allclose(new, state.latents[:, :, 4:], atol=0.1)  # each clip draws its own


def test_the_second_of_two_parts_goes_on_where_the_first_one_stopped(parts, run):
    guider, latent, make, sigmas, custom, inner = parts
    noise, none = custom.Noise_RandomNoise(3), custom.Noise_EmptyNoise()
    first = make(noise, guider, inner, sigmas[:3], latent)[0]
    expected = make(none, guider, inner, sigmas[2:], first)[0]["samples"]
    (guided,) = run("Guidance", sampler=inner, **REUSE, beta=1.0, state=None)
    first = make(noise, guider, guided, sigmas[:3], latent)[0]
    for _ in range(2):
        torch.rand(7)
        assert torch.equal(make(none, guider, guided, sigmas[2:], first)[0]["samples"], expected)
