"""Models of two experts, as Wan 2.2 has them: one takes the first steps of each clip, another one the last ones."""

import importlib

import pytest
import torch

from vidrd_core.state import ClipState

from .small_models import small_model

STEPS, SWITCH = 6, 2
GIVEN = {"seed": 3, "steps": STEPS, "cfg": 3.0, "scheduler": "simple"}
REUSE = {"prompt_frames": 3, "alpha": 2.0, "beta": 0.6, "order": "auto"}


@pytest.fixture(scope="module")
def clip(host):
    """A clip's inputs; the second expert has other weights."""
    model, positive, negative, latent = small_model("wan")
    low = small_model("wan")[0]
    with torch.no_grad():
        for tensor in low.model.diffusion_model.parameters():
            tensor.mul_(0.8)
    return {"model": model, "model_low_noise": low, "positive": positive, "negative": negative, "latent": latent}


@pytest.fixture(scope="module")
def extend(run, clip):
    def extend(state=None, sampler="euler", **changes):
        given = {**clip, **GIVEN, **REUSE, "sampler_name": sampler, "switch_step": SWITCH, **changes}
        return run("Extend", **given, state=state)

    return extend


def stock(clip, noise, sampler):
    """The same clip by the host's function behind two KSamplers (Advanced)."""
    sample = importlib.import_module("comfy.sample").sample
    latents = clip["latent"]["samples"]
    for name, first, last in (("model", 0, SWITCH), ("model_low_noise", SWITCH, STEPS)):
        latents = sample(
            clip[name], torch.zeros_like(noise) if first else noise, STEPS, 3.0, sampler, "simple", clip["positive"],
            clip["negative"], latents, disable_noise=bool(first), start_step=first, last_step=last,
            force_full_denoise=bool(first), seed=3,
        )  # fmt: skip
    return latents


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "uni_pc"])
def test_without_reuse_clips_are_those_of_two_stock_samplers(clip, extend, sampler):
    state = None
    for _ in range(2):
        _, whole, state = extend(state, sampler, prompt_frames=0, alpha=0.0)
        expected = stock(clip, state.noise, sampler)
        assert torch.equal(whole["samples"], expected)
    alone = extend(sampler=sampler, model_low_noise=None, prompt_frames=0)[1]["samples"]
    assert not torch.allclose(alone, whole["samples"], atol=0.1)
    assert len(state.sigmas) == STEPS + 1


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "euler_ancestral", "dpmpp_2m_sde"])
def test_prompt_frames_replay_through_both_experts(extend, sampler, tmp_path):
    state = extend(sampler=sampler)[2]
    for _ in range(2):
        _, _, following = extend(state, sampler)
        now, then = following.latents[:, :, 1:4], state.latents[:, :, -3:]
        assert torch.allclose(now, then, atol=1e-3)
        assert not torch.allclose(following.latents[:, :, 4:7], then, atol=0.1)
        state.save(tmp_path / "state.safetensors")
        again = extend(ClipState.load(tmp_path / "state.safetensors"), sampler)[2]
        assert torch.equal(again.latents, following.latents)
        state = following


@pytest.fixture(scope="module")
def by_parts(run, clip):
    """A function that samples a clip with two SamplerCustomAdvanced, of which both have one guided sampler."""
    samplers, custom = (
        importlib.import_module(each) for each in ("comfy.samplers", "comfy_extras.nodes_custom_sampler")
    )
    sigmas = samplers.calculate_sigmas(clip["model"].get_model_object("model_sampling"), "simple", STEPS)
    make = custom.SamplerCustomAdvanced
    make = make.execute if hasattr(make, "execute") else make().sample

    def guider(name):
        guider = samplers.CFGGuider(clip[name])
        guider.set_conds(clip["positive"], clip["negative"])
        guider.set_cfg(3.0)
        return guider

    def sample(state, twice=False):
        how = {name: value for name, value in REUSE.items() if name != "beta"}
        (noise,) = run("Noise", seed=3, **how, state=state)
        (guided,) = run("Guidance", sampler=samplers.sampler_object("euler"), **REUSE, state=state)
        high = make(noise, guider("model"), guided, sigmas[: SWITCH + 1], clip["latent"])[0]
        with pytest.raises(
            ValueError, match=r"the clip's schedule ends at noise level .*, expected 0: sample its last"
        ):
            run("CollectState", sampler=guided, latent=high)
        none = custom.Noise_EmptyNoise()
        for _ in range(1 + twice):  # as the host runs the second sampler alone after a change of its inputs
            out = make(none, guider("model_low_noise"), guided, sigmas[SWITCH:], high)[0]
        return run("CollectState", sampler=guided, latent=out)

    return sample


@pytest.mark.parametrize("twice", [False, True])
def test_two_samplers_by_parts_give_the_same_clips_as_extend(by_parts, extend, twice):
    state = None
    for _ in range(3):
        new, following = by_parts(state, twice)
        expected, _, state = extend(state)
        assert torch.equal(new["samples"], expected["samples"])
        assert torch.equal(following.record, state.record)
        assert torch.equal(following.sigmas, state.sigmas)


def test_the_switch_is_in_the_middle_by_default(extend):
    assert torch.equal(extend(switch_step=0)[2].latents, extend(switch_step=STEPS // 2)[2].latents)


def test_experts_that_do_not_fit_are_refused(extend, run, clip):
    for step in (STEPS, STEPS + 1):
        with pytest.raises(ValueError, match=f"switch_step is {step} of 6 steps, expected fewer"):
            extend(switch_step=step)
    other = small_model("hunyuan")[0]
    with pytest.raises(ValueError, match=r"model_low_noise is HunyuanVideo .*, model is WAN21"):
        extend(model_low_noise=other)
    samplers = importlib.import_module("comfy.samplers")
    (guided,) = run("Guidance", sampler=samplers.sampler_object("euler"), **REUSE, state=None)
    guider = samplers.CFGGuider(clip["model"])
    guider.set_conds(clip["positive"], clip["negative"])
    noise, sigmas = torch.zeros_like(clip["latent"]["samples"]), torch.tensor([0.5, 0.2, 0.0])
    with pytest.raises(ValueError, match="noise has standard deviation 0, expected about 1: wire Reuse"):
        guider.sample(noise, torch.ones_like(noise), guided, sigmas, seed=3)
