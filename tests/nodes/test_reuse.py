"""Extend, Noise and Guidance in a real ComfyUI: results equal to `vidrd_core`'s, for any sampler."""

import importlib

import pytest
import torch

import vidrd_core
from vidrd_core import ReuseSettings

from .conftest import PROMPTS

STEPS = 5
REUSE = {"prompt_frames": 3, "alpha": 2.0, "beta": 0.6}


@pytest.fixture(scope="module")
def extend(run, tiny):
    """Sample clip k of a video."""

    def extend(k, state=None, order="mirror", sampler="euler", **changes):
        given = {"steps": STEPS, "cfg": 2.5, "seed": 3, "scheduler": "ddim_uniform", **REUSE, **changes}
        clip = {"model": tiny.model, "positive": tiny.positive[min(k, 1)], "negative": tiny.negative}
        return run("Extend", **clip, latent=tiny.latent, sampler_name=sampler, order=order, state=state, **given)

    return extend


@pytest.fixture(scope="module")
def parts(run, tiny, host):
    """The same from Noise and Guidance, through SamplerCustomAdvanced."""

    def parts(k, state=None, order="mirror", sampler="euler"):
        sigmas = host.samplers.KSampler(tiny.model, STEPS, tiny.model.load_device, sampler, "ddim_uniform").sigmas
        reuse = {**REUSE, "order": order, "state": state}
        (guided,) = run("Guidance", sampler=host.samplers.sampler_object(sampler), **reuse)
        del reuse["beta"]
        (noise,) = run("Noise", seed=3, **reuse)
        guider = host.samplers.CFGGuider(tiny.model)
        guider.set_conds(tiny.positive[min(k, 1)], tiny.negative)
        guider.set_cfg(2.5)
        stock = host.nodes_custom_sampler.SamplerCustomAdvanced
        make = stock.execute if hasattr(stock, "execute") else stock().sample
        latent = make(noise, guider, guided, sigmas, tiny.latent)[0]
        return run("CollectState", sampler=guided, latent=latent)

    return parts


@pytest.mark.parametrize("order", ["mirror", "forward"])
@pytest.mark.parametrize(("sampler", "solver"), [("euler", "ddim"), ("heun", "heun"), ("dpmpp_2m", "dpmpp_2m")])
def test_extend_equals_vidrd_core(extend, order, sampler, solver):
    settings = {"steps": STEPS, "cfg": 2.5, "seed": 3, "solver": solver}
    clips = vidrd_core.load("tiny").stream(PROMPTS, 3, ReuseSettings(**REUSE, order=order), **settings)
    state = None
    for k, expected in enumerate(clip.state for clip in clips):
        new, whole, state = extend(k, state, order, sampler)
        assert torch.equal(state.noise, expected.noise)
        for name in ("latents", "record", "sigmas", "call_sigmas"):
            torch.testing.assert_close(getattr(state, name), getattr(expected, name), rtol=1e-4, atol=2e-4)
        for name in ("index", "repeated", "solver", "model_signature", "frame_positions"):
            assert getattr(state, name) == getattr(expected, name)
        assert new["samples"].shape[2] == 8 - expected.repeated
        assert torch.equal(new["samples"], whole["samples"][:, :, expected.repeated :])
        state = expected  # so that differences in the last bits do not add up


def test_seeds_below_0_are_seeds(extend):
    """The host checks no range of what another node gives: its Int node draws them from -2^50 on."""
    state = None
    for k in range(2):
        _, _, other = extend(k, state, seed=-2)
        new, _, state = extend(k, state, seed=-1)
        assert new["samples"].isfinite().all()
        assert not torch.equal(state.noise, other.noise)


DETERMINISTIC = ["euler", "ddim", "heun", "heunpp2", "dpm_2", "lms", "dpmpp_2m", "ipndm", "deis", "uni_pc"]


@pytest.mark.parametrize("sampler", DETERMINISTIC)
def test_custom_sampling_gives_the_same_clip_as_extend(extend, parts, sampler):
    state = None
    for k in range(2):
        _, _, expected = extend(k, state, sampler=sampler)
        new, state = parts(k, state, sampler=sampler)
        assert torch.equal(state.latents, expected.latents)
        assert new["samples"].shape[2] == 8 - state.repeated


STOCHASTIC = [
    "euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde", "ddpm",
    "lcm", "er_sde", "seeds_2", "sa_solver", "res_multistep_ancestral", "res_multistep",
]  # fmt: skip


@pytest.mark.parametrize("sampler", DETERMINISTIC + STOCHASTIC)
def test_a_first_clip_is_the_stock_samplers(extend, host, tiny, sampler):
    _, whole, state = extend(0, sampler=sampler, scheduler="normal")
    sigmas = host.samplers.KSampler(tiny.model, STEPS, tiny.model.load_device, sampler, "normal").sigmas
    guider = host.samplers.CFGGuider(tiny.model)
    guider.set_conds(tiny.positive[0], tiny.negative)
    guider.set_cfg(2.5)
    stock = host.samplers.sampler_object(sampler)
    expected = guider.sample(state.noise, tiny.latent["samples"], stock, sigmas, seed=3)
    assert torch.equal(whole["samples"], expected)


@pytest.mark.parametrize("sampler", DETERMINISTIC + STOCHASTIC)
def test_prompt_frames_follow_the_old_clip_under_any_sampler(extend, sampler):
    """With beta 1 the first frame replays all steps: it becomes the old clip's last one."""
    _, _, first = extend(0, sampler=sampler)
    _, _, second = extend(1, first, sampler=sampler, beta=1.0)
    torch.testing.assert_close(second.latents[:, :, 0], first.latents[:, :, -1], rtol=1e-4, atol=1e-4)
    assert (second.latents[:, :, 2] - first.latents[:, :, -3]).abs().max() > 0.01


@pytest.mark.parametrize("sampler", ["euler_ancestral", "dpmpp_sde", "lcm"])
def test_noise_that_samplers_add_differs_between_clips(extend, sampler):
    """All clips share one seed."""
    _, _, first = extend(0, sampler=sampler)
    _, _, second = extend(1, first, sampler=sampler, prompt_frames=0)
    assert first.step_noise.shape == second.step_noise.shape
    assert abs(torch.corrcoef(torch.stack([first.step_noise.flatten(), second.step_noise.flatten()]))[0, 1]) < 0.05


def test_sample_clip_works_for_two_frames(run, tiny):
    (latent,) = run("EmptyClip", width=64, height=64, frames=2, vae=tiny.vae)
    clip = {"model": tiny.model, "positive": tiny.positive[0], "negative": tiny.negative, "latent": latent}
    settings = {"steps": STEPS, "cfg": 2.5, "seed": 3, "scheduler": "ddim_uniform", "sampler_name": "euler"}
    _, state = run("SampleClip", **clip, **settings)
    assert state.record.shape[3] == 1


def test_without_a_state_sample_clip_and_extend_make_the_same_clip(run, tiny, extend):
    clip = {"model": tiny.model, "positive": tiny.positive[0], "negative": tiny.negative, "latent": tiny.latent}
    settings = {"steps": STEPS, "cfg": 2.5, "seed": 3, "scheduler": "ddim_uniform", "sampler_name": "euler"}
    whole, state = run("SampleClip", **clip, **settings)
    _, expected, _ = extend(0)
    assert torch.equal(whole["samples"], expected["samples"])
    assert state.index == 0


def test_saved_states_can_be_extended_here_and_by_vidrd_core(extend, tmp_path):
    _, _, first = extend(0)
    first.save(tmp_path / "state.safetensors")
    loaded = vidrd_core.ClipState.load(tmp_path / "state.safetensors")
    _, _, second = extend(1, first)
    assert torch.equal(extend(1, loaded)[2].latents, second.latents)
    model = vidrd_core.load("tiny")
    again = model.extend(loaded, PROMPTS[1], ReuseSettings(**REUSE))
    torch.testing.assert_close(again.state.latents, second.latents, rtol=1e-4, atol=2e-4)


def test_states_that_do_not_fit_are_refused_before_sampling(extend, parts, run, tiny):
    _, _, state = extend(0)
    for changes, message in (
        ({"prompt_frames": 8}, "expected less than the 8 frames"),
        ({"prompt_frames": 5}, "the last clip recorded only its last 4 frames"),
        ({"steps": 4}, "number of steps 5, this clip has 4"),
        ({"sampler": "heun"}, r"solver ddim \(euler in ComfyUI\), this clip has heun"),
    ):
        with pytest.raises(ValueError, match=message):
            extend(1, state, **changes)
    shapes = {
        (1, 4, 8, 16, 8): r"latent shape \(1, 4, 8, 16, 16\), this clip has",
        (1, 4, 1, 16, 16): "two frames or more: make it with VidRD Empty Clip",
        (8, 4, 16, 16): "expected .B, C, F, h, w.",
        (1, 16, 8, 16, 16): "the latent has 16 channels, this model takes 4: wire this model's VAE",
    }
    clip = {"model": tiny.model, "positive": tiny.positive[0], "negative": tiny.negative, "state": state, "seed": 3}
    settings = {"steps": STEPS, "cfg": 2.5, "scheduler": "ddim_uniform", "sampler_name": "euler", "order": "mirror"}
    for shape, message in shapes.items():
        with pytest.raises(ValueError, match=message):
            run("Extend", **clip, **settings, **REUSE, latent={"samples": torch.zeros(shape)})


def test_video_and_audio_in_one_latent_is_refused_by_video_models(run, tiny, host, pack):
    nested = pytest.importorskip("comfy.nested_tensor", reason="this host has no latents of video and audio")
    latent = {"samples": nested.NestedTensor([torch.zeros(1, 4, 8, 16, 16), torch.zeros(1, 8, 40, 16)])}
    video = importlib.import_module("custom_nodes_vidrd.nodes.host.video")
    clip = {"model": tiny.model, "positive": tiny.positive[0], "negative": tiny.negative, "seed": 3, "steps": STEPS}
    clip |= {"cfg": 2.5, "scheduler": "ddim_uniform", "sampler_name": "euler", "latent": latent}
    separate = "video and audio together: separate them"
    for refused, message in (
        (lambda: run("SampleClip", **clip), separate),
        (lambda: run("Extend", **clip, **REUSE, order="mirror"), separate),
        (
            lambda: video.write_clip(latent, tiny.vae, video.VideoSettings("v", "mp4", 8.0, 1), None, {}),
            "wire the video latent alone",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            refused()


def test_guidance_without_noise_is_refused(host, run, tiny):
    sigmas = host.samplers.calculate_sigmas(tiny.model.get_model_object("model_sampling"), "ddim_uniform", 4)
    (guided,) = run("Guidance", sampler=host.samplers.sampler_object("euler"), **REUSE, order="mirror")
    guider = host.samplers.CFGGuider(tiny.model)
    guider.set_conds(tiny.positive[0], tiny.negative)
    guider.set_cfg(2.5)
    empty = tiny.latent["samples"]
    with pytest.raises(ValueError, match="standard deviation 0, expected about 1"):
        guider.sample(torch.zeros_like(empty), empty, guided, sigmas, seed=0)
    with pytest.raises(ValueError, match="this Reuse & Diffuse Guidance has recorded no clip: wire its guided"):
        run("CollectState", sampler=guided, latent=tiny.latent)
    with pytest.raises(ValueError, match="the sampler has Reuse & Diffuse Guidance already"):
        run("Guidance", sampler=guided, **REUSE, order="mirror")


def test_a_model_that_was_compiled_for_a_ksampler_first_is_extended_alike(run, tiny, sample):
    """The host's node compiles without guards on its options: what these held at first must not stay."""
    nodes = importlib.import_module("comfy_extras.nodes_torch_compile")
    make = nodes.TorchCompileModel
    make = make.execute if hasattr(make, "execute") else make().patch
    made = make(tiny.model, backend="eager")
    compiled = (made.args if hasattr(made, "args") else made)[0]
    torch.testing.assert_close(sample(compiled), sample(tiny.model), rtol=1e-4, atol=1e-4)
    clip = {"positive": tiny.positive[0], "negative": tiny.negative, "seed": 3, "steps": STEPS, "latent": tiny.latent}
    clip |= {"cfg": 2.5, "scheduler": "ddim_uniform", "sampler_name": "euler", **REUSE, "order": "forward"}
    ends = []
    for model in (tiny.model, compiled):
        state = None
        for _ in range(3):
            _, whole, state = run("Extend", model=model, **clip, state=state)
        ends.append(whole["samples"])
    torch.testing.assert_close(*ends, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("given", [{"total_upscale": 2.0, "upscale_steps": 2, "upscale_method": "bislerp"}, None])
def test_samplers_that_denoise_other_latents_than_the_clips_are_refused(host, run, tiny, given):
    """One that enlarges latents, of the host's nodes; and one that takes a block of frames at a time, as AR Video."""
    samplers = importlib.import_module("comfy.samplers")
    upscale = importlib.import_module("comfy_extras.nodes_advanced_samplers").sample_lcm_upscale

    def in_blocks(model, x, sigmas, extra_args=None, callback=None, disable=None):
        s_in = x.new_ones([len(x)])
        return torch.cat([model(part, sigmas[0] * s_in, **extra_args) for part in x.split(2, 2)], 2)

    sampler = samplers.KSAMPLER(upscale if given else in_blocks, extra_options=given or {})
    (guided,) = run("Guidance", sampler=sampler, **REUSE, order="mirror")
    guider = samplers.CFGGuider(tiny.model)
    guider.set_conds(tiny.positive[0], tiny.negative)
    sigmas = samplers.calculate_sigmas(tiny.model.get_model_object("model_sampling"), "ddim_uniform", 4)
    noise = torch.randn(tiny.latent["samples"].shape, generator=torch.manual_seed(0))
    with pytest.raises(ValueError, match="LCM Upscale and AR Video, cannot be replayed; choose another sampler"):
        guider.sample(noise, tiny.latent["samples"], guided, sigmas)
