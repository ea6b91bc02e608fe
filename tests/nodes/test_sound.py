"""Models that sample video and audio together: both are reused, and stay aligned."""

import importlib

import pytest
import torch

from vidrd_core.reuse import ReuseSettings
from vidrd_core.state import ClipState, StateMismatchError

from .small_models import small_model

STEPS, FRAMES, AUDIO_LATENTS = 5, 7, 49  # 7 latents of video are 49 frames, with as many audio latents
GIVEN = {"seed": 3, "steps": STEPS, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
REUSE = {"prompt_frames": 2, "alpha": 2.0, "beta": 0.4, "order": "auto"}


@pytest.fixture(scope="module")
def clip(host):
    nested = pytest.importorskip("comfy.nested_tensor", reason="this host has no latents of video and audio")
    model, positive, negative, _ = small_model("ltxav")
    parts = [torch.zeros(1, 128, FRAMES, 3, 3), torch.zeros(1, 8, AUDIO_LATENTS, 16)]
    return {
        "model": model, "positive": positive, "negative": negative,
        "latent": {"samples": nested.NestedTensor(parts)},
    }  # fmt: skip


@pytest.fixture(scope="module")
def extend(run, clip):
    return lambda state=None, **changes: run("Extend", **{**clip, **GIVEN, **REUSE, **changes}, state=state)


def stock(host, clip, noise, sampler="euler"):
    """The same clip by ComfyUI alone."""
    samplers = importlib.import_module("comfy.samplers")
    guider = samplers.CFGGuider(clip["model"])
    guider.set_conds(clip["positive"], clip["negative"])
    guider.set_cfg(1.0)
    sigmas = samplers.calculate_sigmas(clip["model"].get_model_object("model_sampling"), "simple", STEPS)
    return guider.sample(noise, clip["latent"]["samples"], samplers.sampler_object(sampler), sigmas, seed=3)


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m"])
def test_without_reuse_clips_are_the_stock_samplers(host, clip, extend, sampler):
    nested, state = importlib.import_module("comfy.nested_tensor"), None
    for _ in range(2):
        _, whole, state = extend(state, sampler_name=sampler, prompt_frames=0, alpha=0.0)
        noise = nested.NestedTensor([state.noise, state.sound_noise[..., 0]])
        expected = stock(host, clip, noise, sampler)
        for ours, theirs in zip(whole["samples"].unbind(), expected.unbind(), strict=True):
            assert theirs.std() > 0.01
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("sampler", ["euler", "heun", "euler_ancestral", "dpmpp_2m_sde"])
def test_video_and_audio_are_continued_together(extend, sampler):
    """A warm-up latent and two prompt latents are 17 of 49 frames, and of 49 audio latents; 1 of these is warm-up."""
    new, whole, state = extend(sampler_name=sampler)
    assert [part.shape[2] for part in new["samples"].unbind()] == [FRAMES, AUDIO_LATENTS]
    for _ in range(3):
        new, whole, following = extend(state, sampler_name=sampler)
        video, sound = whole["samples"].unbind()
        assert torch.allclose(following.latents[:, :, 1:3], state.latents[:, :, 5:7], atol=1e-4)
        assert torch.allclose(following.sound_latents[:, :, 1:17], state.sound_latents[:, :, 33:49], atol=1e-4)
        assert torch.equal(following.sound_noise[:, :, 1:17], state.sound_noise[:, :, 33:49])
        assert not torch.allclose(following.sound_latents[:, :, 17:33], state.sound_latents[:, :, 33:49], atol=0.1)
        assert 0.8 < following.sound_noise.std() < 1.2
        for part, all_of_it, shown in zip(new["samples"].unbind(), (video, sound), (3, 17), strict=True):
            assert torch.equal(part, all_of_it[:, :, shown:])
        state = following


def test_resume_is_exact_and_states_stop_growing(extend, tmp_path):
    state, sizes = extend()[2], []
    for _ in range(3):
        state = extend(state)[2]
        sizes.append(state.get_ram_usage())
    assert sizes[2] - sizes[1] <= state.shown.nbytes
    state.save(tmp_path / "state.safetensors")
    loaded = ClipState.load(tmp_path / "state.safetensors")
    for ours, theirs in zip(extend(loaded)[1]["samples"].unbind(), extend(state)[1]["samples"].unbind(), strict=True):
        assert torch.equal(ours, theirs)


def test_custom_sampling_gives_the_same_clip_as_extend(run, clip, extend):
    samplers, custom = (
        importlib.import_module(each) for each in ("comfy.samplers", "comfy_extras.nodes_custom_sampler")
    )
    sigmas = samplers.calculate_sigmas(clip["model"].get_model_object("model_sampling"), "simple", STEPS)
    state = None
    for _ in range(3):
        how = {name: value for name, value in REUSE.items() if name != "beta"}
        (noise,) = run("Noise", seed=3, **how, state=state)
        (guided,) = run("Guidance", sampler=samplers.sampler_object("euler"), **REUSE, state=state)
        guider = samplers.CFGGuider(clip["model"])
        guider.set_conds(clip["positive"], clip["negative"])
        guider.set_cfg(1.0)
        make = custom.SamplerCustomAdvanced
        make = make.execute if hasattr(make, "execute") else make().sample
        out = make(noise, guider, guided, sigmas, clip["latent"])[0]
        new, following = run("CollectState", sampler=guided, latent=out)
        expected = extend(state)
        for ours, theirs in zip(new["samples"].unbind(), expected[0]["samples"].unbind(), strict=True):
            assert torch.equal(ours, theirs)
        state = following


def test_audio_of_another_shape_is_refused(clip, extend, host):
    nested = importlib.import_module("comfy.nested_tensor")
    state, video = extend()[2], clip["latent"]["samples"].unbind()[0]
    shorter = {"samples": nested.NestedTensor([video, torch.zeros(1, 8, 40, 16)])}
    for latent, message in (
        (shorter, "wire the latent that the previous clip was made from"),
        ({"samples": video}, "state is of a clip with audio, this latent has none"),
    ):
        with pytest.raises(StateMismatchError, match=message):
            extend(state, latent=latent)
    three = {"samples": nested.NestedTensor([video, torch.zeros(1, 8, 40, 16), video])}
    with pytest.raises(ValueError, match="expected video alone, or video and audio"):
        extend(latent=three)


def test_the_audio_timeline(pack):
    timeline = importlib.import_module("custom_nodes_vidrd.nodes.host.audio_video").AudioTimeline
    forward = ReuseSettings(2, order="forward", warmup_latents=1)
    for audio_latents, warmup, replayed in ((49, 1, 16), (25, 1, 8), (98, 2, 32), (50, 1, 16)):
        settings = timeline(7, audio_latents, 8).reuse_settings(forward)
        assert (settings.warmup_latents, settings.prompt_frames, settings.loop) == (warmup, replayed, "none")
    assert timeline(7, 49, 8).recorded_latents(3) == 24
    assert timeline(7, 49, 8).reuse_settings(ReuseSettings(0, order="forward")).repeated_frames == 0
