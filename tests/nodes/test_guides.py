"""Guide frames, which LTXVAddGuide puts after a clip's latents: they guide the clip, and are no part of the video."""

import importlib
from types import SimpleNamespace

import pytest
import torch

from .families import node, pooled_vae
from .small_models import small_model

REUSE = {"prompt_frames": 2, "alpha": 2.0, "order": "auto"}
SIGMAS = [1.0, 0.9, 0.6, 0.3, 0.0]
SHAPES = {"ltxv": None, "ltxav": (1, 8, 49, 16)}


@pytest.fixture(scope="module", params=SHAPES)
def guided(host, request):
    """A function that gives the guider and the LATENT of a clip with guide frames at these places."""
    name, audio = request.param, SHAPES[request.param]
    if audio:
        nested = pytest.importorskip("comfy.nested_tensor", reason="this host has no latents of video and audio")
    model, positive, negative, _ = small_model(name)
    vae, samplers = pooled_vae(host, 128, 8, 32), importlib.import_module("comfy.samplers")
    generator = torch.Generator().manual_seed(3)
    pictures = {place: torch.rand(1, 96, 96, 3, generator=generator) for place in (0, -1)}

    def guided(*places):
        conds, latent = (positive, negative), {"samples": torch.zeros(1, 128, 7, 3, 3)}
        for place in places:
            *conds, latent = node("comfy_extras.nodes_lt", "LTXVAddGuide")(
                positive=conds[0], negative=conds[1], vae=vae, latent=latent, image=pictures[place], frame_idx=place,
                strength=0.7,
            )  # fmt: skip
        assert latent["samples"].shape[2] == 7 + len(places)
        if audio:
            parts = {"video_latent": latent, "audio_latent": {"samples": torch.zeros(audio)}}
            (latent,) = node("comfy_extras.nodes_lt", "LTXVConcatAVLatent")(**parts)
            assert isinstance(latent["samples"], nested.NestedTensor)
        guider = samplers.CFGGuider(model)
        guider.set_conds(*conds)
        guider.set_cfg(1.0)
        return SimpleNamespace(guider=guider, latent=latent, conds=conds, model=model, audio=audio)

    return guided


@pytest.fixture(scope="module")
def sample(run):
    """A function that samples a clip by parts: the LATENT, the new frames, the state, and the noise."""
    custom = importlib.import_module("comfy_extras.nodes_custom_sampler").SamplerCustomAdvanced
    make = custom.execute if hasattr(custom, "execute") else custom().sample

    def sample(clip, state=None, sampler="euler", stock=False):
        inner = importlib.import_module("comfy.samplers").sampler_object(sampler)
        (noise,) = run("Noise", seed=3, **REUSE, state=state)
        (ours,) = run("Guidance", sampler=inner, **REUSE, beta=1.0, state=state)
        made = make(noise, clip.guider, inner if stock else ours, torch.tensor(SIGMAS), clip.latent)[0]
        return (made,) if stock else (made, *run("CollectState", sampler=ours, latent=made))

    return sample


def parts_of(latent):
    """The tensors of a LATENT, video first."""
    samples = latent["samples"]
    return list(samples.unbind()) if getattr(samples, "is_nested", False) else [samples]


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "dpmpp_2m"])
def test_the_first_clip_is_the_stock_sampler_s(guided, sample, sampler):
    clip = guided(0, -1)
    made, new, state = sample(clip, sampler=sampler)
    for ours, theirs in zip(parts_of(made), parts_of(sample(clip, sampler=sampler, stock=True)[0]), strict=True):
        assert torch.equal(ours, theirs)
    assert state.frames == 7
    assert torch.equal(parts_of(new)[0], parts_of(made)[0][:, :, :7])


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "dpmpp_2m"])
def test_clips_go_on_from_the_latents_before_the_guide_frames(guided, sample, sampler):
    state = None
    for places in ((0,), (), (0, -1), (-1,)):
        made, new, following = sample(guided(*places), state, sampler)
        video = parts_of(made)[0]
        assert video.shape[2] == 7 + len(places)
        assert following.latents.shape[2] == following.noise.shape[2] == 7
        if state is not None:
            assert torch.equal(following.latents[:, :, 1:3], state.latents[:, :, -2:])
            assert not torch.allclose(following.latents[:, :, 3:5], state.latents[:, :, -2:], atol=0.1)
            assert torch.equal(following.noise[:, :, 1:3], state.noise[:, :, -2:])
            assert torch.equal(parts_of(new)[0], video[:, :, 3:7])
        if state is not None and following.sound_latents.numel():
            assert torch.equal(following.sound_latents[:, :, 1:17], state.sound_latents[:, :, -16:])
        state = following


def test_guide_frames_guide_the_clip(guided, sample):
    state = sample(guided(0))[2]
    without, at_the_end = (sample(guided(*places), state)[2] for places in ((), (-1,)))
    assert torch.equal(without.latents[:, :, 1:3], at_the_end.latents[:, :, 1:3])
    assert not torch.allclose(without.latents[:, :, 3:], at_the_end.latents[:, :, 3:], atol=1e-2)


def test_extend_gives_the_same_clips(guided, run, host):
    """With KSampler's schedule; the first clip is KSampler's own."""
    samplers, state = importlib.import_module("comfy.samplers"), None
    for places in ((0,), (-1,), ()):
        clip = guided(*places)
        given = {"positive": clip.conds[0], "negative": clip.conds[1], "latent": clip.latent, "model": clip.model}
        given |= {"seed": 3, "steps": 4, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
        new, whole, following = run("Extend", **given, **REUSE, beta=1.0, state=state)
        if state is None:
            sigmas = samplers.calculate_sigmas(clip.model.get_model_object("model_sampling"), "simple", 4)
            (noise,) = run("Noise", seed=3, **REUSE)
            expected = clip.guider.sample(
                noise.generate_noise(clip.latent), clip.latent["samples"], samplers.sampler_object("euler"), sigmas,
                denoise_mask=clip.latent["noise_mask"], seed=3,
            )  # fmt: skip
            for ours, theirs in zip(parts_of(whole), parts_of({"samples": expected}), strict=True):
                assert torch.equal(ours, theirs)
            assert parts_of(new)[0].shape[2] == 7
        else:
            assert torch.equal(following.latents[:, :, 1:3], state.latents[:, :, -2:])
            assert parts_of(new)[0].shape[2] == 4
        state = following


def test_latents_without_guides_must_have_the_clip_s_length(guided, sample):
    state, clip = sample(guided())[2], guided()
    video, *audio = parts_of(clip.latent)
    longer = torch.cat([video, video[:, :, :1]], 2)
    samples = clip.latent["samples"]
    clip.latent = {"samples": type(samples)([longer, *audio]) if audio else longer}
    with pytest.raises(ValueError, match="latent shape"):
        sample(clip, state)
