"""Clips in two passes, as LTX-2 makes them: small latents, then upscaled ones with noise; each has its states."""

import asyncio
import copy
import dataclasses
import importlib
from types import SimpleNamespace

import pytest
import torch

from vidrd_core.state import ClipState, StateMismatchError

from .small_models import small_model

REUSE = {"prompt_frames": 2, "alpha": 2.0, "order": "auto"}
# Each pass's sigmas; those of Stable Diffusion end at 14.6.
FLOW = ([1.0, 0.9, 0.6, 0.3, 0.0], [0.85, 0.6, 0.3, 0.0])
FAMILIES = {
    "ltxav": ((1, 128, 7, 3, 3), (1, 8, 49, 16), FLOW),
    "wan": ((1, 16, 7, 4, 4), None, FLOW),
    "sd15": ((8, 4, 8, 8), None, ([14.6146, 6.0, 2.0, 0.5, 0.0], [3.0, 1.0, 0.3, 0.0])),
}
SAMPLERS = ["euler", "euler_ancestral", "gradient_estimation", "dpmpp_2m_sde"]


@pytest.fixture(scope="module", params=FAMILIES)
def family(host, request):
    """A small random model, an empty latent, and a random network that upscales latents of it."""
    name = request.param
    model, positive, negative, _ = small_model(name)
    video, audio, sigmas = FAMILIES[name]
    latent = torch.zeros(video)
    if audio:
        nested = pytest.importorskip("comfy.nested_tensor", reason="this host has no latents of video and audio")
        latent = nested.NestedTensor([latent, torch.zeros(audio)])
    network = torch.nn.Conv3d(video[1], video[1], (3, 1, 1), padding=(1, 0, 0))
    network.requires_grad_(False)
    generator = torch.Generator().manual_seed(4)
    for tensor in network.parameters():
        tensor.copy_(torch.randn(tensor.shape, generator=generator) / tensor[0].numel() ** 0.5)

    def upscaled(latent):
        """Twice as high and wide; each frame depends on its neighbours, as with LTX-2's upscaler."""
        samples = latent["samples"]
        if not audio:
            frames = samples if len(video) == 5 else samples.movedim(0, 1)[None]
            wide = network(frames).repeat_interleave(2, -1).repeat_interleave(2, -2)
            return {"samples": wide if len(video) == 5 else wide[0].movedim(1, 0)}
        frames, sound = samples.unbind()
        wide = network(frames).repeat_interleave(2, -1).repeat_interleave(2, -2)
        return {"samples": nested.NestedTensor([wide, sound])}

    samplers = importlib.import_module("comfy.samplers")
    guider = samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(1.0)
    dim = 2 if len(video) == 5 else 0
    return SimpleNamespace(
        name=name, guider=guider, latent={"samples": latent}, upscaled=upscaled, sigmas=sigmas, dim=dim,
    )  # fmt: skip


@pytest.fixture(scope="module")
def one_pass(run, family):
    """A function that samples one pass: the LATENT, its new frames, and its state."""
    custom = importlib.import_module("comfy_extras.nodes_custom_sampler").SamplerCustomAdvanced
    make = custom.execute if hasattr(custom, "execute") else custom().sample

    def one_pass(number, latent, state=None, sampler="euler", seed=3):
        inner = importlib.import_module("comfy.samplers").sampler_object(sampler)
        (noise,) = run("Noise", seed=seed, **REUSE, state=state)
        (guided,) = run("Guidance", sampler=inner, **REUSE, beta=1.0, state=state)
        made = make(noise, family.guider, guided, torch.tensor(family.sigmas[number]), latent)[0]
        return made, *run("CollectState", sampler=guided, latent=made)

    return one_pass


@pytest.fixture(scope="module")
def two_passes(family, one_pass):
    """A function that samples a clip in two passes: both LATENTs, and both states."""

    def two_passes(states=(None, None), sampler="euler"):
        low, _, first = one_pass(0, family.latent, states[0], sampler)
        high, _, second = one_pass(1, family.upscaled(low), states[1], sampler, seed=9)
        return low, high, (first, second)

    return two_passes


def parts_of(latent):
    """The tensors of a LATENT, video first."""
    samples = latent["samples"]
    return list(samples.unbind()) if getattr(samples, "is_nested", False) else [samples]


def noise_of(state, family):
    """The noise with which a clip began, as a NOISE."""
    video = state.noise if family.dim == 2 else state.noise[0].movedim(1, 0)
    if family.name == "ltxav":
        nested = importlib.import_module("comfy.nested_tensor")
        video = nested.NestedTensor([video, state.sound_noise[..., 0]])
    return SimpleNamespace(seed=3, generate_noise=lambda latent: video)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_first_clip_is_the_stock_nodes(family, two_passes, sampler):
    custom = importlib.import_module("comfy_extras.nodes_custom_sampler").SamplerCustomAdvanced
    make = custom.execute if hasattr(custom, "execute") else custom().sample
    _, high, states = two_passes(sampler=sampler)
    latent = family.latent
    for number, state in enumerate(states):
        latent = family.upscaled(latent) if number else latent
        noise, sigmas = noise_of(state, family), torch.tensor(family.sigmas[number])
        noise.seed = (3, 9)[number]
        inner = importlib.import_module("comfy.samplers").sampler_object(sampler)
        latent = make(noise, family.guider, inner, sigmas, latent)[0]
    for ours, theirs in zip(parts_of(high), parts_of(latent), strict=True):
        assert theirs.std() > 0.01
        assert torch.equal(ours, theirs)


def clips_of(state):
    """The latents of a clip's video and sound [B, C, N, h, w], and how many of its first ones are old."""
    warmup = 1 if state.made_with["compresses"] else 0
    yield state.latents, warmup, 2
    if state.sound_latents.numel():
        yield state.sound_latents, 1, 16


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_clip_begins_as_the_one_before_ends_bit_for_bit(family, two_passes, sampler):
    *_, states = two_passes(sampler=sampler)
    for _ in range(2):
        *_, following = two_passes(states, sampler)
        for before, after in zip(states, following, strict=True):
            mirrored = after.repeated == 0
            for (old, *_), (new, first, count) in zip(clips_of(before), clips_of(after), strict=True):
                tail = old[:, :, -count:]
                if not mirrored:
                    assert torch.equal(new[:, :, first : first + count], tail)
                    assert not torch.allclose(new[:, :, first + count : first + 2 * count], tail, atol=0.1)
                else:  # the second frame is let go half-way, as in the paper
                    assert torch.equal(new[:, :, 0], old[:, :, -1])
        states = following


def first_input(family, call):
    """The latents of the video that the model sees first during a call, [B, C, N, h, w] or [N, C, h, w]."""
    seen, options = [], family.guider.model_options

    def wrap(apply, given):
        seen.append(given["input"].clone())
        return apply(given["input"], given["timestep"], **given["c"])

    family.guider.model_options = {**options, "model_function_wrapper": wrap}
    call()
    family.guider.model_options = options
    if family.name == "ltxav":  # packed: the video's latents come first
        return seen[0].flatten()[: 128 * 7 * 36].view(1, 128, 7, 6, 6)
    return seen[0]


def test_the_model_sees_the_old_latents_from_the_first_step_on(family, one_pass, two_passes):
    """Replayed predictions alone would end at the old frames, too, but begin elsewhere."""
    low, _, states = two_passes()
    upscaled, following = (family.upscaled(each) for each in (low, one_pass(0, family.latent, states[0])[0]))
    empty = torch.zeros(0, 0, 0, 0, 0)
    without = dataclasses.replace(states[1], start_latents=empty, sound_start_latents=empty)
    before = first_input(family, lambda: one_pass(1, upscaled, seed=9))
    frames, warmup = before.shape[family.dim], 1 if family.dim == 2 else 0
    tail = before.narrow(family.dim, frames - 2, 2)
    heads = [
        first_input(family, lambda state=state: one_pass(1, following, state, seed=9)).narrow(family.dim, warmup, 2)
        for state in (states[1], without)
    ]
    assert torch.equal(heads[0], tail if family.dim == 2 else tail.flip(0))
    assert not torch.allclose(heads[1], heads[0], atol=1e-3)


def test_resume_is_exact(family, two_passes, tmp_path):
    *_, states = two_passes()
    *_, states = two_passes(states)
    loaded = []
    for number, state in enumerate(states):
        state.save(tmp_path / f"{number}.safetensors")
        loaded.append(ClipState.load(tmp_path / f"{number}.safetensors"))
        assert loaded[-1].start_latents.numel() == (0, state.record[0].numel())[number]
        assert loaded[-1].sound_start_latents.numel() == (number and state.sound_record[:1].numel())
    *_, after = two_passes(loaded)
    *_, expected = two_passes(states)
    for ours, theirs in zip(after, expected, strict=True):
        assert torch.equal(ours.latents, theirs.latents)
        assert torch.equal(ours.sound_latents, theirs.sound_latents)


def test_a_second_pass_needs_latents(family, two_passes, one_pass):
    low, _, states = two_passes()
    empty = {"samples": family.upscaled(low)["samples"] * 0}
    with pytest.raises(StateMismatchError, match=r"wire the latents of its first pass into latent_image"):
        one_pass(1, empty, states[1])


def test_nodes_with_the_same_inputs_have_samplers_of_their_own(host, execute, monkeypatch):
    """ComfyUI gives nodes that are alike one result, and a guided sampler records one clip."""
    found = []

    class Seen:
        FUNCTION, OUTPUT_NODE, RETURN_TYPES, CATEGORY = "run", True, (), ""
        INPUT_TYPES = classmethod(lambda cls: {"required": {"one": ("SAMPLER",), "other": ("SAMPLER",)}})

        def run(self, **samplers):
            found.append(samplers)
            return {}

    monkeypatch.setitem(host.nodes.NODE_CLASS_MAPPINGS, "Seen", Seen)
    asyncio.run(host.nodes.init_builtin_extra_nodes())
    guidance = {"class_type": "VidRD_Guidance", "inputs": {"sampler": ["1", 0], **REUSE, "beta": 0.4}}
    graph = {
        "1": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
        "2": guidance,
        "3": copy.deepcopy(guidance),
        "4": {"class_type": "Seen", "inputs": {"one": ["2", 0], "other": ["3", 0]}},
    }
    _, errors, refused = execute(graph)
    assert (errors, refused) == ([], {})
    (samplers,) = found
    assert samplers["one"] is not samplers["other"]
    assert samplers["one"].inner is samplers["other"].inner
