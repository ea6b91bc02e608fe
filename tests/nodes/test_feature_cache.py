"""VidRD Feature Cache in a real ComfyUI: clips equal to `vidrd_core`'s with the same intervals."""

import importlib

import pytest
import torch

import vidrd_core
from vidrd_core import ReuseSettings

from .conftest import PROMPTS
from .small_models import CONFIGS, build_model
from .test_long_video import long_video

STEPS = 10  # a divisor of 1000: as many steps of ddim_uniform
REUSE = {"prompt_frames": 3, "alpha": 2.0, "beta": 0.6}
SETTINGS = {"steps": STEPS, "cfg": 2.5, "seed": 3}


@pytest.fixture
def extend(run, tiny):
    """The clip after a state, by a MODEL."""

    def extend(model, k, state, order, sampler="euler", **more):
        given = {"positive": tiny.positive[min(k, 1)], "negative": tiny.negative, "latent": tiny.latent, **more}
        given |= {"sampler_name": sampler, "scheduler": "ddim_uniform", "order": order, "state": state}
        return run("Extend", model=model, **SETTINGS, **REUSE, **given)

    return extend


@pytest.fixture
def cached(run, tiny):
    """The tiny MODEL with a cache."""
    return lambda *intervals, model=tiny.model: run(
        "FeatureCache", model=model, **dict(zip(("prompt_interval", "deep_interval"), intervals, strict=True))
    )[0]


@pytest.mark.parametrize("order", ["mirror", "forward"])
@pytest.mark.parametrize(("sampler", "solver"), [("euler", "ddim"), ("heun", "heun")])
@pytest.mark.parametrize("intervals", [(2, 1), (1, 3), (3, 2)])
def test_clips_equal_those_of_vidrd_core(extend, cached, order, sampler, solver, intervals):
    given = dict(zip(("prompt_interval", "deep_interval"), intervals, strict=True))
    core, reuse = vidrd_core.load("tiny"), ReuseSettings(**REUSE, order=order)
    clips = list(core.stream(PROMPTS, 3, reuse, **SETTINGS, solver=solver, **given))
    exact = core.extend(clips[0].state, PROMPTS[1], reuse, prompt_interval=1, deep_interval=1).state
    assert (clips[1].state.latents - exact.latents).abs().max() > 1e-2, "the intervals change nothing"
    state = None
    for k, expected in enumerate(clip.state for clip in clips):
        _, _, state = extend(cached(*intervals), k, state, order, sampler)
        for name in ("latents", "record"):
            torch.testing.assert_close(getattr(state, name), getattr(expected, name), rtol=1e-3, atol=1e-3)
        said = {name: value for name, value in given.items() if value > 1}
        assert {name: state.made_with.get(name) for name in said} == said
        assert {**given, **state.made_with} == {**state.made_with, **given}
        state = expected  # so that differences in the last bits do not add up


def test_without_intervals_the_bits_are_the_same(extend, cached, tiny, sample):
    assert torch.equal(sample(cached(1, 1)), sample(tiny.model))
    first = extend(tiny.model, 0, None, "forward")[2]
    exact, same = (extend(model, 1, first, "forward")[2] for model in (tiny.model, cached(1, 1, model=cached(3, 2))))
    assert torch.equal(exact.latents, same.latents)
    assert same.made_with == exact.made_with


def test_nothing_is_kept_from_one_sampling_for_the_next(cached, sample, tiny):
    model = cached(2, 3)
    first = sample(model)
    assert not torch.equal(first, sample(tiny.model))
    sample(model, positive=tiny.positive[1])
    assert torch.equal(sample(model), first)
    assert "vidrd_feature_caches" not in model.model_options["transformer_options"]


def test_prompts_that_are_computed_one_by_one_keep_their_own(host, cached, sample, monkeypatch):
    """As ComfyUI does where memory is short."""
    together, shapes = sample(cached(2, 3)), []
    model = cached(2, 3)
    monkeypatch.setattr(model.model, "memory_required", lambda shape, *_, **__: shapes.append(shape) or 1e18)
    torch.testing.assert_close(sample(model), together, rtol=1e-4, atol=1e-4)
    assert shapes


def test_prompts_that_fade_over_frames_keep_their_own(extend, cached, tiny):
    first = extend(tiny.model, 0, None, "forward")[2]
    one = extend(cached(2, 2), 1, first, "forward", positive_before=tiny.positive[0])[2]
    exact = extend(tiny.model, 1, first, "forward", positive_before=tiny.positive[0])[2]
    assert 1e-3 < (one.latents - exact.latents).square().mean().sqrt() < 0.3 * exact.latents.std()


def test_context_windows_are_computed_in_full(cached, sample, tiny, run):
    windows = importlib.import_module("comfy.context_windows")
    (latent,) = run("EmptyClip", width=64, height=64, frames=16, vae=tiny.vae)
    made = []
    for model in (tiny.model, cached(2, 3)):
        model = model.clone()
        schedule = windows.get_matching_context_schedule("standard_static")
        fuse = windows.get_matching_fuse_method("pyramid")
        handler = windows.IndexListContextHandler(schedule, fuse, context_length=8, context_overlap=2, dim=2)
        model.model_options["context_handler"] = handler
        made.append(sample(model, latent=latent))
    assert torch.equal(*made)


def test_weights_that_a_scheduled_lora_changes_are_heeded(extend, cached, tiny):
    hooks = importlib.import_module("comfy.hooks")
    draw, lora = torch.Generator().manual_seed(0), {}
    for name, weight in tiny.model.model.diffusion_model.state_dict().items():
        if "attn2.to_k" in name or "attn2.to_v" in name:
            layer = f"lora_unet_{name.removesuffix('.weight').replace('.', '_')}"
            lora[f"{layer}.lora_up.weight"] = torch.randn(weight.shape[0], 2, generator=draw)
            lora[f"{layer}.lora_down.weight"] = torch.randn(2, weight.shape[1], generator=draw)
    group = hooks.create_hook_lora(lora=lora, strength_model=1.0, strength_clip=0.0)
    frames = hooks.HookKeyframeGroup()
    frames.add(hooks.HookKeyframe(strength=0.0, start_percent=0.0))
    frames.add(hooks.HookKeyframe(strength=1.0, start_percent=0.4))
    group.set_keyframes_on_hooks(frames)
    hooked = {
        "positive": hooks.set_hooks_for_conditioning(tiny.positive[0], group),
        "negative": hooks.set_hooks_for_conditioning(tiny.negative, group),
    }

    def clip(model, **more):
        return extend(model, 0, None, "forward", **more)[1]["samples"]

    expected = clip(tiny.model, **hooked)
    assert (expected - clip(tiny.model)).abs().max() > 0.1, "the LoRA changes nothing"
    assert torch.equal(clip(cached(2, 1), **hooked), expected)


def test_other_models_and_compiled_ones_are_refused(cached, sample, pack):
    with pytest.raises(ValueError, match="the MODEL is WAN21, expected VidRD's UNet3D"):
        cached(2, 2, model=build_model(*CONFIGS["wan"]))
    nodes = importlib.import_module("comfy_extras.nodes_torch_compile")
    make = nodes.TorchCompileModel
    make = make.execute if hasattr(make, "execute") else make().patch
    made = make(cached(1, 2), backend="eager")
    with pytest.raises(ValueError, match="VidRD Feature Cache cannot reach into a compiled model"):
        sample((made.args if hasattr(made, "args") else made)[0])


def test_long_video_makes_its_clips_again_for_other_intervals(runs, execute):
    graph = long_video(PROMPTS, prefix="cached")
    given = {"prompt_interval": 2, "deep_interval": 2}
    graph["cache"] = {
        "class_type": "VidRD_FeatureCache",
        "inputs": {"model": graph["long"]["inputs"]["model"], **given},
    }
    graph["long"]["inputs"]["model"] = ["cache", 0]
    made = []
    for deep_interval in (2, 3, 2):
        graph["cache"]["inputs"]["deep_interval"] = deep_interval
        made.append(runs(execute, graph)[0])
    assert made == [2, 2, 0]
