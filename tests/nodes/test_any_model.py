"""Reuse and Diffuse with third-party video models: ComfyUI's own classes, small, with random weights."""

import dataclasses
import importlib

import pytest
import torch

from vidrd_core.state import ClipState, StateMismatchError

from .small_models import SHAPES, small_model

STEPS = 5
COMPRESSING = ("wan", "ltxv", "hunyuan")
CFG = {"ltxv": 1.0}  # else 3: its masks fit no batch under the attention that the host takes on a CPU


@pytest.fixture(scope="module", params=SHAPES)
def small(request, host):
    return request.param, *small_model(request.param)


def frames_of(tensor, first, count):
    """A range of frames of latents in either layout."""
    return tensor.narrow(2 if tensor.ndim == 5 else 0, first, count)


@pytest.fixture(scope="module")
def extend(run, small):
    name, model, positive, negative, latent = small

    def extend(state=None, **changes):
        given = {"seed": 3, "steps": STEPS, "cfg": CFG.get(name, 3.0), "sampler_name": "euler", "scheduler": "simple"}
        reuse = {"prompt_frames": 3, "alpha": 2.0, "beta": 0.6, "order": "auto"}
        clip = {"model": model, "positive": positive, "negative": negative, "latent": latent}
        return run("Extend", **{**clip, **given, **reuse, **changes}, state=state)

    return extend


def stock(small, host, noise, seed, sampler="euler", scheduler="simple"):
    """The same clip by ComfyUI alone."""
    name, model, positive, negative, latent = small
    samplers = importlib.import_module("comfy.samplers")
    guider = samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(CFG.get(name, 3.0))
    sigmas = samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, STEPS)
    return guider.sample(noise, latent["samples"], samplers.sampler_object(sampler), sigmas, seed=seed)


def noise_like(state, latent):
    return state.noise if latent.ndim == 5 else state.noise[0].movedim(1, 0)


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m"])
def test_a_first_clip_is_the_stock_samplers(small, extend, host, sampler):
    _, whole, state = extend(sampler_name=sampler)
    latent = small[-1]["samples"]
    expected = stock(small, host, noise_like(state, latent), 3, sampler)
    assert expected.std() > 0.01
    assert torch.equal(whole["samples"], expected)
    assert tuple(state.noise.shape)[2] == 8


def test_a_first_clip_whose_schedule_begins_below_the_models_is_the_stock_samplers(small, extend, host):
    _, whole, state = extend(scheduler="ddim_uniform")
    assert state.sigmas[0] < 0.999 * small[1].get_model_object("model_sampling").sigma_max
    noise = noise_like(state, small[-1]["samples"])
    assert torch.equal(whole["samples"], stock(small, host, noise, 3, scheduler="ddim_uniform"))


def first_input(model, call):
    """The latents that the model sees first during a call."""
    seen, options = [], model.model_options
    wrapped = options.get("model_function_wrapper")

    def wrap(apply, given):
        seen.append(given["input"].clone())
        return wrapped(apply, given) if wrapped else apply(given["input"], given["timestep"], **given["c"])

    model.model_options = {**options, "model_function_wrapper": wrap}
    call()
    model.model_options = options
    return seen[0]


@pytest.mark.parametrize("earlier", [False, True])
def test_a_clip_starts_at_the_level_of_the_one_before(small, extend, earlier):
    """States of earlier versions, and of footage, started with unit variance."""
    name, model, *_, latent = small
    state = extend(scheduler="ddim_uniform")[2]
    if earlier:
        kept = {key: value for key, value in state.made_with.items() if key != "start"}
        state = dataclasses.replace(state, made_with=kept)
    made = []
    seen = first_input(model, lambda: made.extend(extend(state, scheduler="ddim_uniform")))
    sigma = state.sigmas[0]
    factor = (1 + sigma**2).sqrt() if earlier and name.startswith("sd15") else sigma
    noise = noise_like(made[2], latent["samples"])
    torch.testing.assert_close(seen[: len(noise)], noise * factor, rtol=1e-4, atol=1e-4)
    assert ("start" in made[2].made_with) != earlier


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m"])
def test_without_reuse_a_second_clip_is_the_stock_samplers(small, extend, host, sampler):
    _, _, state = extend(sampler_name=sampler)
    new, whole, following = extend(state, sampler_name=sampler, prompt_frames=0, alpha=0.0, beta=0.0)
    expected = stock(small, host, noise_like(following, small[-1]["samples"]), 3, sampler)
    assert torch.equal(whole["samples"], expected)
    hidden = 1 if small[0] in COMPRESSING else 0
    assert torch.equal(new["samples"], frames_of(whole["samples"], hidden, 8 - hidden))


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "euler_ancestral"])
@pytest.mark.parametrize("m", [3, 4])
def test_prompt_frames_replay_the_old_trajectory_for_their_steps(small, extend, monkeypatch, sampler, m):
    """At each replayed step the model's input for a frame equals that for the old frame."""
    sampling = importlib.import_module("comfy.samplers")
    shown = []
    real = sampling.CFGGuider.predict_noise

    def spy(self, x, timestep, model_options={}, seed=None):  # noqa: B006
        shown.append(x.detach().clone())
        return real(self, x, timestep, model_options, seed)

    monkeypatch.setattr(sampling.CFGGuider, "predict_noise", spy)
    _, whole, state = extend(sampler_name=sampler, prompt_frames=m)
    old, calls = list(shown), len(shown)
    shown.clear()
    _, again, following = extend(state, sampler_name=sampler, prompt_frames=m)
    assert len(shown) == calls
    if small[0] in COMPRESSING:  # forward, behind a head, to the end
        first, sources, counts = 1, list(range(8 - m, 8)), [STEPS] * m
        assert following.repeated == 1 + m
    else:  # mirror
        first, sources, counts = 0, [7, 6, 5, 4][:m], {3: [3, 2, 1], 4: [3, 3, 2, 1]}[m]
    steps = [0, *range(1, calls)] if calls == STEPS else [(call + 1) // 2 for call in range(calls)]
    for j, (source, count) in enumerate(zip(sources, counts, strict=True)):
        for call in range(calls):
            then, now = frames_of(old[call], source, 1), frames_of(shown[call], first + j, 1)
            if steps[call] < count or (sampler != "heun" and steps[call] == count):
                torch.testing.assert_close(now, then, rtol=1e-4, atol=1e-3 * float(then.abs().max()))
        if count == STEPS:
            torch.testing.assert_close(
                frames_of(again["samples"], first + j, 1),
                frames_of(whole["samples"], source, 1),
                rtol=1e-3,
                atol=1e-3,
            )
    free = frames_of(shown[-1], 7, 1)
    assert not torch.allclose(free, frames_of(old[-1], 7, 1), atol=1e-2)


def test_resume_is_exact_and_memory_is_flat(small, extend, tmp_path):
    state, sizes = None, []
    for clip in range(5):
        new, _, state = extend(state)
        sizes.append(state.get_ram_usage())
        if clip == 2:
            state.save(tmp_path / "state.safetensors")
            state = ClipState.load(tmp_path / "state.safetensors")
            kept = state
    resumed = extend(extend(kept)[2])
    assert torch.equal(resumed[2].latents, state.latents)
    assert torch.equal(resumed[0]["samples"], new["samples"])
    latents = state.latents[:, :, :1].nbytes
    assert sizes[-1] - sizes[1] <= 8 * 4 * latents  # latents for the decoder alone, and these are bounded


@pytest.mark.parametrize(("preset", "least"), [("for this model", (3, 2)), ("loop on purpose", (4, 3))])
def test_a_clip_that_is_too_short_for_a_preset_is_told_the_least_length(small, extend, preset, least):
    short = small[-1]["samples"]
    short = {"samples": short[:, :, :2] if short.ndim == 5 else short[:2]}
    compresses = small[0] in COMPRESSING
    expected = least[0] if compresses else least[1]
    loop = "close" if preset == "loop on purpose" else "none"
    if expected <= 2:
        assert extend(latent=short, preset=preset, loop=loop)[2].frames == 2
        return
    kind = "latents" if compresses else "frames"
    with pytest.raises(
        ValueError, match=f"the clip has 2 {kind}, expected {expected} or more for the preset '{preset}'"
    ):
        extend(latent=short, preset=preset, loop=loop)
    enough = small[-1]["samples"]
    enough = {"samples": enough[:, :, :expected] if enough.ndim == 5 else enough[:expected]}
    assert extend(latent=enough, preset=preset, loop=loop)[2].frames == expected


def test_auto_and_mirror(small, extend):
    state = extend()[2]
    if small[0] in COMPRESSING:
        with pytest.raises(ValueError, match="VAE compresses time"):
            extend(state, order="mirror")
        assert extend(state)[0]["samples"].shape[2] == 4
    else:
        assert torch.equal(extend(state)[2].latents, extend(state, order="mirror")[2].latents)
        assert frames_of(extend(state, order="forward")[0]["samples"], 0, 5).shape


def test_a_prompt_that_fades_into_itself_changes_nothing(small, extend):
    if small[0] in CFG:
        pytest.skip("its masks fit no batch here")
    state = extend()[2]
    plain, faded, other = (
        extend(state, **given)[2].latents
        for given in ({}, {"positive_before": small[2]}, {"positive_before": small[3]})
    )
    torch.testing.assert_close(faded, plain, rtol=1e-3, atol=1e-3 * float(plain.abs().max()))
    assert not torch.allclose(other, plain, atol=1e-3)
    at_once = {"prompt_frames": 0, "positive_before": small[3]}  # over no frames
    expected = extend(state, prompt_frames=0)[2].latents
    torch.testing.assert_close(extend(state, **at_once)[2].latents, expected, rtol=1e-3, atol=1e-3)
    first = extend(positive_before=small[3])[2]  # which follows nothing
    assert torch.equal(first.latents, state.latents)


def test_a_masked_prompt_is_not_faded(small, extend):
    text, options = small[2][0]
    masked = [[text, {**options, "mask": torch.ones(1, 4, 4)}]]
    with pytest.raises(ValueError, match="masked conditioning"):
        extend(extend()[2], positive_before=masked)


def test_presets(extend):
    for preset in ("keep moving", "anchored", "loop on purpose"):
        state = extend(preset=preset)[2]
        assert extend(state, preset=preset)[2].latents.isfinite().all()


@pytest.mark.parametrize("preset", ["loop on purpose", "keep moving", "anchored", "for this model"])
def test_a_closed_loop_ends_with_the_first_clips_frames(small, extend, preset):
    """Where the VAE compresses time, the first latent is left out: it decodes to a single frame."""
    head = int(small[-1]["samples"].ndim == 5)
    first = extend(preset=preset, loop="none" if preset == "loop on purpose" else "keep")[2]
    closed = extend(first, preset=preset, loop="close")[2]
    count = closed.closed
    expected = first.latents[:, :, head : head + count]
    torch.testing.assert_close(closed.latents[:, :, -count:], expected, rtol=1e-4, atol=1e-4)


def test_a_state_of_another_model_is_refused_by_name(small, extend, run):
    others = [name for name in ("wan", "hunyuan") if name != small[0]]
    model, positive, negative, latent = small_model(others[0])
    given = {"seed": 3, "steps": STEPS, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple"}
    state = run(
        "SampleClip", model=model, positive=positive, negative=negative, latent=latent, **given
    )[1]  # fmt: skip
    with pytest.raises(
        StateMismatchError, match=r"made with (WAN21|HunyuanVideo) \(flow, 16 channels\), this model is"
    ):
        extend(state)


def test_latents_of_the_wrong_layout_are_refused(small, extend):
    wrong = torch.zeros(8, 4, 8, 8) if small[-1]["samples"].ndim == 5 else torch.zeros(1, 4, 8, 8, 8)
    if wrong.shape[1] != small[-1]["samples"].shape[1]:
        wrong = wrong[:, :1].repeat_interleave(small[-1]["samples"].shape[1], 1)
    hint = "VidRD Empty Clip" if small[-1]["samples"].ndim == 5 else "Empty Latent Image"
    with pytest.raises(ValueError, match=hint):
        extend(latent={"samples": wrong})
    with pytest.raises(ValueError, match=hint):
        extend(latent={"samples": frames_of(small[-1]["samples"], 0, 1)})


@pytest.fixture(scope="module")
def by_parts(run, small):
    """A clip from Noise, Guidance and a custom guider."""
    name, model, positive, negative, latent = small

    def by_parts(state=None, guider=None, patched=model):
        samplers, stock = (
            importlib.import_module(f"{each}") for each in ("comfy.samplers", "comfy_extras.nodes_custom_sampler")
        )
        sigmas = samplers.calculate_sigmas(patched.get_model_object("model_sampling"), "simple", STEPS)
        reuse = {"prompt_frames": 3, "alpha": 2.0, "order": "auto", "state": state}
        (noise,) = run("Noise", seed=3, **reuse)
        (guided,) = run("Guidance", sampler=samplers.sampler_object("euler"), beta=0.6, **reuse)
        guider = (guider or samplers.CFGGuider)(patched)
        is_dual = isinstance(guider, stock.Guider_DualCFG)
        guider.set_conds(positive, *[positive] * is_dual, negative)
        guider.set_cfg(CFG.get(name, 3.0), *[1.5] * is_dual)
        custom = stock.SamplerCustomAdvanced
        make = custom.execute if hasattr(custom, "execute") else custom().sample
        out = make(noise, guider, guided, sigmas, latent)[0]
        return run("CollectState", sampler=guided, latent=out)

    return by_parts


def test_custom_sampling_gives_the_same_clip_as_extend(extend, by_parts):
    state = None
    for _ in range(3):
        new, next_state = by_parts(state)
        expected = extend(state)
        assert torch.equal(new["samples"], expected[0]["samples"])
        state = next_state


def test_custom_guiders_work(small, by_parts):
    if small[0] in CFG:
        pytest.skip("its guidance is off here")
    stock = importlib.import_module("comfy_extras.nodes_custom_sampler")
    plain, (dual, state) = by_parts(), by_parts(guider=stock.Guider_DualCFG)
    assert not torch.allclose(dual["samples"], plain[0]["samples"], atol=1e-3)  # it is another guider
    following = by_parts(state, guider=stock.Guider_DualCFG)[1]
    check_replayed(small, state, following)


def test_loras_and_other_patches_work(small, by_parts):
    model = small[1]
    patched = model.clone()
    key = next(
        key for key in model.model.state_dict() if key.endswith(".weight") and model.model.state_dict()[key].ndim == 2
    )
    weight = model.model.state_dict()[key]
    patched.add_patches({key: (torch.full(weight.shape, 0.2),)}, 1.0)
    (plain, _), (other, state) = by_parts(), by_parts(patched=patched)
    assert not torch.allclose(plain["samples"], other["samples"], atol=1e-4)
    check_replayed(small, state, by_parts(state, patched=patched)[1])
    assert torch.equal(by_parts()[0]["samples"], plain["samples"])  # and leave no trace


def check_replayed(small, state, following):
    """Check that prompt frames replay the old predictions."""
    first, sources = (1, [1, 2, 3]) if small[0] in COMPRESSING else (0, [3, 2, 1])  # of the 4 that are recorded
    for j, source in enumerate(sources):
        assert torch.equal(following.noise[:, :, first + j], state.noise[:, :, 4 + source])
    if small[0] in COMPRESSING:
        assert torch.allclose(following.latents[:, :, 1:4], state.latents[:, :, 5:8], atol=1e-3)


def test_context_windows_work(small, by_parts):
    """A clip longer than the model's window, with ComfyUI's context windows."""
    windows = importlib.import_module("comfy.context_windows")
    name, model = small[:2]
    if name.startswith("sd15"):
        pytest.skip("the wrapper that stands for a motion module mixes all frames of a window")
    patched = model.clone()
    patched.model_options["context_handler"] = windows.IndexListContextHandler(
        context_schedule=windows.get_matching_context_schedule(windows.ContextSchedules.STATIC_STANDARD),
        fuse_method=windows.get_matching_fuse_method(windows.ContextFuseMethods.PYRAMID),
        context_length=5, context_overlap=2, dim=2,
    )  # fmt: skip
    windows.create_prepare_sampling_wrapper(patched)
    (plain, _), (other, state) = by_parts(), by_parts(patched=patched)
    assert not torch.allclose(plain["samples"], other["samples"], atol=1e-4)
    check_replayed(small, state, by_parts(state, patched=patched)[1])
