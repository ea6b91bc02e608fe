"""Models of two experts, as Wan 2.2 has them: one takes the first steps of each clip, another one the last ones."""

import dataclasses
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


@pytest.fixture(scope="module", params=[(8.0, 5.0), (5.0, 8.0)], ids=str)
def shifted(clip, request):
    """The two experts, each with a schedule of its own, as ModelSamplingSD3 makes them."""
    node = importlib.import_module("comfy_extras.nodes_model_advanced").ModelSamplingSD3
    patch = node.execute if hasattr(node, "execute") else node().patch
    names = ("model", "model_low_noise")
    return {name: patch(clip[name], shift)[0] for name, shift in zip(names, request.param, strict=True)}


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


@pytest.mark.parametrize("sampler", ["euler", "uni_pc", "dpmpp_2m_sde"])
def test_each_expert_has_its_own_schedule(clip, extend, shifted, sampler, tmp_path):
    _, whole, state = extend(sampler=sampler, **shifted)
    assert torch.equal(whole["samples"], stock({**clip, **shifted}, state.noise, sampler))
    samplers = importlib.import_module("comfy.samplers")
    high, low = (samplers.KSampler(each, STEPS, "cpu", sampler, "simple").sigmas for each in shifted.values())
    assert torch.equal(state.sigmas, torch.cat([high[:SWITCH], low[SWITCH:]]))
    assert not torch.allclose(high[SWITCH], low[SWITCH], atol=0.01)
    following = extend(state, sampler, **shifted)[2]
    torch.testing.assert_close(following.latents[:, :, 1:4], state.latents[:, :, -3:], rtol=0, atol=1e-3)
    state.save(tmp_path / "state.safetensors")
    again = extend(ClipState.load(tmp_path / "state.safetensors"), sampler, **shifted)[2]
    assert torch.equal(again.latents, following.latents)


def test_a_state_with_the_first_experts_schedule_goes_on_with_it(extend, shifted):
    """As earlier versions made them."""
    state = extend()[2]
    high = (
        importlib.import_module("comfy.samplers")
        .KSampler(shifted["model"], STEPS, "cpu", "euler", "simple")
        .sigmas.cpu()
    )
    earlier = dataclasses.replace(state, sigmas=high, call_sigmas=high[:-1])
    assert torch.equal(extend(earlier, **shifted)[2].sigmas, high)


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
    make = custom.SamplerCustomAdvanced
    make = make.execute if hasattr(make, "execute") else make().sample

    def guider(model, cfg=3.0):
        guider = samplers.CFGGuider(model)
        guider.set_conds(clip["positive"], clip["negative"])
        guider.set_cfg(cfg)
        return guider

    def sample(state, twice=False, model=clip["model"], model_low_noise=clip["model_low_noise"], cfg=3.0):
        sigmas, low = (
            samplers.calculate_sigmas(each.get_model_object("model_sampling"), "simple", STEPS)
            for each in (model, model_low_noise)
        )
        how = {name: value for name, value in REUSE.items() if name != "beta"}
        (noise,) = run("Noise", seed=3, **how, state=state)
        (guided,) = run("Guidance", sampler=samplers.sampler_object("euler"), **REUSE, state=state)
        high = make(noise, guider(model), guided, sigmas[: SWITCH + 1], clip["latent"])[0]
        with pytest.raises(
            ValueError, match=r"the clip's schedule ends at noise level .*, expected 0: sample its last"
        ):
            run("CollectState", sampler=guided, latent=high)
        none = custom.Noise_EmptyNoise()
        for _ in range(1 + twice):  # as the host runs the second sampler alone after a change of its inputs
            out = make(none, guider(model_low_noise, cfg), guided, low[SWITCH:], high)[0]
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


def test_two_samplers_by_parts_have_their_own_schedules(by_parts, extend, shifted):
    state = None
    for _ in range(2):
        _, following = by_parts(state, **shifted)
        _, _, state = extend(state, **shifted)
        assert torch.equal(following.latents, state.latents)
        assert torch.equal(following.sigmas, state.sigmas)


def test_a_clip_in_parts_is_noted_with_the_seed_of_its_first(by_parts):
    assert by_parts(None)[1].made_with["seed"] == 3
    assert by_parts(None)[1].made_with["cfg"] == 3.0
    assert by_parts(None, cfg=1.0)[1].made_with["cfg"] is None


def test_a_guider_of_two_scales_is_noted_without_one(run, clip):
    custom = importlib.import_module("comfy_extras.nodes_custom_sampler")
    samplers = importlib.import_module("comfy.samplers")
    (guided,) = run("Guidance", sampler=samplers.sampler_object("euler"), **REUSE, state=None)
    guider = custom.Guider_DualCFG(clip["model"])
    guider.set_conds(clip["positive"], clip["negative"], clip["negative"])
    guider.set_cfg(2.0, 4.0)
    noise = torch.randn(clip["latent"]["samples"].shape, generator=torch.Generator().manual_seed(1))
    guider.sample(noise, clip["latent"]["samples"], guided, torch.tensor([1.0, 0.5, 0.0]), seed=5)
    assert guided.state.made_with["cfg"] is None
    assert guided.state.made_with["seed"] == 5


def test_any_of_three_parts_can_be_sampled_again(run, clip):
    """As the host does after a change of one guider: earlier parts are kept, later ones follow."""
    samplers, custom = (
        importlib.import_module(each) for each in ("comfy.samplers", "comfy_extras.nodes_custom_sampler")
    )
    make = custom.SamplerCustomAdvanced
    make = make.execute if hasattr(make, "execute") else make().sample
    sigmas = samplers.calculate_sigmas(clip["model"].get_model_object("model_sampling"), "simple", STEPS)

    def chain():
        (noise,) = run("Noise", seed=3, prompt_frames=3, alpha=2.0, order="auto", state=None)
        (guided,) = run("Guidance", sampler=samplers.sampler_object("euler"), **REUSE, state=None)
        latents = [clip["latent"]]

        def part(number, cfg):
            guider = samplers.CFGGuider(clip["model_low_noise" if number == 2 else "model"])
            guider.set_conds(clip["positive"], clip["negative"])
            guider.set_cfg(cfg)
            levels = sigmas[2 * number : 2 * number + 3]
            latents[number + 1 :] = [
                make(custom.Noise_EmptyNoise() if number else noise, guider, guided, levels, latents[number])[0]
            ]
            return latents[-1]

        return part, guided

    part, guided = chain()
    for number, cfg in enumerate((3.0, 2.0, 1.0)):
        part(number, cfg)
    first = run("CollectState", sampler=guided, latent=part(2, 1.0))[1]
    part(1, 2.5)
    again = run("CollectState", sampler=guided, latent=part(2, 1.0))[1]
    part, guided = chain()
    for number, cfg in enumerate((3.0, 2.5, 1.0)):
        latent = part(number, cfg)
    expected = run("CollectState", sampler=guided, latent=latent)[1]
    assert torch.equal(again.latents, expected.latents)
    assert torch.equal(again.record, expected.record)
    assert not torch.allclose(again.latents, first.latents, atol=1e-2)


def test_the_switch_is_in_the_middle_by_default(extend):
    assert torch.equal(extend(switch_step=0)[2].latents, extend(switch_step=STEPS // 2)[2].latents)


def test_experts_that_do_not_fit_are_refused(extend, run, clip):
    for step in (STEPS, STEPS + 1):
        with pytest.raises(ValueError, match=f"switch_step is {step} of 6 steps, expected fewer"):
            extend(switch_step=step)
    with pytest.raises(ValueError, match="steps is 1, expected 2 or more: model and model_low_noise"):
        extend(steps=1)
    other = small_model("hunyuan")[0]
    with pytest.raises(ValueError, match=r"model_low_noise is HunyuanVideo .*, model is WAN21"):
        extend(model_low_noise=other)
    pictures = small_model("wan i2v")[0]
    with pytest.raises(
        ValueError, match=r"of another kind .*model_type i2v, in_dim 36.* than model .*model_type t2v"
    ):
        extend(model_low_noise=pictures)
    samplers = importlib.import_module("comfy.samplers")
    (guided,) = run("Guidance", sampler=samplers.sampler_object("euler"), **REUSE, state=None)
    guider = samplers.CFGGuider(clip["model"])
    guider.set_conds(clip["positive"], clip["negative"])
    noise, sigmas = torch.zeros_like(clip["latent"]["samples"]), torch.tensor([0.5, 0.2, 0.0])
    with pytest.raises(ValueError, match="noise has standard deviation 0, expected about 1: wire Reuse"):
        guider.sample(noise, torch.ones_like(noise), guided, sigmas, seed=3)
