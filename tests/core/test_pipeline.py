"""Sampling clips, chains of clips, and resuming them."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from vidrd_core.io.digests import non_defaults
from vidrd_core.loading import DiffusionArguments
from vidrd_core.pipeline import VidRD
from vidrd_core.reuse import ReuseSettings
from vidrd_core.sampling import DiffusionConfig
from vidrd_core.settings import SampleArguments, SampleSettings
from vidrd_core.state import ClipState, StateMismatchError

from ..conftest import randomise

FAST = {"steps": 3, "seed": 5}


def same(a: ClipState, b: ClipState) -> bool:
    """Whether two states are equal bit for bit."""
    tensors = ("noise", "record", "latents", "past", "sigmas")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in tensors) and a.made_with == b.made_with


@pytest.mark.parametrize("order", ["mirror", "forward"])
def test_streamed_clips_equal_clips_that_are_saved_and_resumed(model, tmp_path, order):
    prompts = ["a red circle", "a blue circle moving right"]
    reuse = ReuseSettings(prompt_frames=3, order=order)
    streamed = list(model.stream(prompts, 5, reuse, **FAST))
    path = tmp_path / "clip.safetensors"
    for index, clip in enumerate(streamed):
        state = ClipState.load(path) if index else None
        resumed = next(model.stream(prompts, 5, reuse, state=state, **FAST))
        resumed.state.save(path)
        assert resumed.prompt == clip.prompt == prompts[min(index, 1)]
        assert same(ClipState.load(path), clip.state)


def test_more_clips_leave_the_earlier_ones_unchanged(model):
    five, six = (list(model.stream("a red circle", n, **FAST)) for n in (5, 6))
    assert all(same(a.state, b.state) for a, b in zip(five, six, strict=False))


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(model):
    a, b, c = (model.generate("a red circle", steps=3, seed=seed).latents for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.allclose(a, c)


def test_extend_uses_the_settings_of_the_previous_clip(model):
    chain = list(model.stream("a red circle", 2, ReuseSettings(alpha=1.0), solver="heun", cfg=2.0, **FAST))
    assert same(model.extend(chain[0].state, "a red circle").state, chain[1].state)
    other = model.extend(chain[0].state, "a red circle", seed=6).state
    assert not same(other, chain[1].state)


def test_settings_change_the_clip(model):
    base = model.generate("a red circle", **FAST).latents
    for change in ({"cfg": 1.0}, {"solver": "dpmpp_2m"}, {"negative": "blue"}):
        assert not torch.equal(model.generate("a red circle", **FAST, **change).latents, base), change


def test_beta_1_pins_the_first_frame_to_the_old_last_one(model):
    first, second = model.stream("a red circle", 2, ReuseSettings(prompt_frames=4, beta=1.0), **FAST)
    torch.testing.assert_close(second.state.latents[:, :, 0], first.state.latents[:, :, -1], rtol=0, atol=1e-5)


def test_forward_order_repeats_the_last_frames_and_does_not_show_them_twice(model):
    reuse = ReuseSettings(prompt_frames=3, order="forward")
    first, second = model.stream("a red circle", 2, reuse, **FAST)
    latents = second.state.latents
    torch.testing.assert_close(latents[:, :, :3], first.state.latents[:, :, 5:], rtol=0, atol=1e-5)
    assert torch.equal(second.latents, latents[:, :, 3:])
    assert len(model.frames([first, second])) == 8 + 5


def test_a_reused_frame_keeps_its_frame_position_with_its_noise(model):
    for order, expected in (
        ("mirror", [[*range(8)], [*range(8)][::-1], [*range(8)]]),
        ("forward", [[*range(8)], [5, 6, 7, 0, 1, 2, 3, 4], [2, 3, 4, 5, 6, 7, 0, 1]]),
    ):
        positions = []
        hook = model.unet.register_forward_pre_hook(lambda unet, given, to=positions: to.append(given[3].tolist()))
        clips = list(model.stream("a red circle", 3, ReuseSettings(prompt_frames=3, order=order), **FAST))
        hook.remove()
        assert [clip.state.frame_positions for clip in clips] == expected
        assert positions == [[frames] * 2 for frames in expected for _ in range(3)]


def test_a_clip_without_reuse_starts_at_frame_position_0(model):
    state = model.generate("a red circle", **FAST).state
    fresh = model.extend(state, "a red circle", ReuseSettings(prompt_frames=0, alpha=0.0))
    assert fresh.state.frame_positions == list(range(8))
    assert (
        model.extend(state, "a red circle", ReuseSettings(prompt_frames=0)).state.frame_positions
        == list(range(8))[::-1]
    )


def test_a_clip_of_one_frame_is_an_image_without_frame_position(model):
    positions = []
    hook = model.unet.register_forward_pre_hook(lambda unet, given: positions.append(given[3]))
    model.generate("a red circle", frames=1, **FAST)
    hook.remove()
    assert positions == [None] * 3


@pytest.mark.parametrize("order", ["mirror", "forward"])
def test_streamed_frames_equal_the_whole_video_decoded_at_once(model, order):
    clips = list(model.stream("a red circle", 4, ReuseSettings(order=order), **FAST))
    with torch.no_grad():
        whole = model.vae.decode(torch.cat([clip.latents for clip in clips], dim=2))
    expected = ((whole[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 3, 0).numpy()
    frames = model.frames(clips)
    assert frames.shape == expected.shape == (len(expected), 32, 32, 3)
    assert np.abs(frames.astype(int) - expected).max() <= 1  # rounding of values that differ by 1e-6
    assert (frames == expected).mean() > 0.999


def test_a_later_clip_is_decoded_with_the_latents_before_it(model):
    clips = list(model.stream("a red circle", 3, **FAST))
    whole = model.frames(clips)
    late = model.frames(clips[2])
    assert np.abs(late.astype(int) - whole[16:]).max() <= 1
    alone = model.frames(ClipState(**{**vars(clips[2].state), "past": clips[2].state.past[:, :, :0]}))
    assert np.abs(alone.astype(int) - whole[16:]).max() > 1, "the halo should matter"


def test_streaming_samples_one_clip_at_a_time(model):
    calls = []
    clips = model.stream("a red circle", 50, on_step=lambda i, x: calls.append(i), **FAST)
    next(clips)
    assert calls == [0, 1, 2]
    for _, _ in zip(model.decode(clips), range(2), strict=False):
        pass
    assert len(calls) <= 4 * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 4}, "number of steps 3, this clip has 4"),
        ({"solver": "heun"}, r"solver ddim \(euler in ComfyUI\), this clip has heun"),
        ({"width": 64}, r"latent shape \(1, 4, 8, 8, 8\), this clip has \(1, 4, 8, 8, 16\)"),
        ({"frames": 6}, r"\(1, 4, 6, 8, 8\)"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(model, change, message):
    state = model.generate("a red circle", **FAST).state
    with pytest.raises(StateMismatchError, match=message):
        model.extend(state, "a red circle", **change)


def test_a_state_of_another_model_is_refused(model):
    state = model.generate("a red circle", **FAST).state
    stranger = ClipState(**{**vars(state), "model_signature": "0123456789ab"})
    with pytest.raises(StateMismatchError, match=f"model 0123456789ab, this clip has {model.signature}"):
        model.extend(stranger, "a red circle")


@pytest.mark.parametrize("part", ["vae", "text_encoder"])
def test_a_state_of_another_vae_or_text_encoder_is_refused(model, part):
    state = model.generate("a red circle", **FAST).state
    parts = {name: getattr(model, name) for name in ("unet", "vae", "text_encoder")}
    parts[part] = randomise(type(parts[part])(parts[part].config), 9)
    with pytest.raises(StateMismatchError, match=f"made with {part.replace('_', ' ')} .*, this model has"):
        VidRD(**parts, diffusion=model.diffusion).extend(state, "a red circle")


def test_a_state_of_a_later_version_with_more_reuse_settings_is_read(model):
    state = model.generate("a red circle", **FAST).state
    state.made_with["reuse"]["release"] = "hard"
    assert model.extend(state, "a red circle").index == 1


def test_the_last_half_of_a_clip_is_recorded_whatever_m_is(model):
    state = model.generate("a red circle", ReuseSettings(prompt_frames=1), **FAST).state
    assert model.extend(state, "a red circle", ReuseSettings(prompt_frames=4)).index == 1
    with pytest.raises(ValueError, match=r"M. is 5, but the last clip recorded only its last 4"):
        model.extend(state, "a red circle", ReuseSettings(prompt_frames=5))


def test_a_stream_without_clips_is_refused(model):
    state = list(model.stream("a red circle", 2, **FAST))[-1].state
    assert list(model.stream("a red circle", 2, state=state)) == []
    with pytest.raises(ValueError, match="give clips, how many it is to have in all"):
        model.stream("a red circle", state=state)


@pytest.mark.parametrize("change", [{"steps": 5}, {"steps": 2}, {"solver": "heun"}, {"solver": "dpmpp_2m"}])
def test_another_schedule_can_be_replayed_approximately(model, change):
    reuse = ReuseSettings(beta=1.0)
    state = model.generate("a red circle", reuse, **FAST).state
    with pytest.raises(StateMismatchError, match="to go on nearly, not exactly, give --approximate"):
        model.extend(state, "a red circle", reuse, **change)
    clips = list(model.stream("a red circle", 3, reuse, state=state, approximate=True, **change))
    assert clips[0].state.made_with["solver"] == change.get("solver", "ddim")
    torch.testing.assert_close(clips[0].latents[:, :, 0], state.latents[:, :, -1], rtol=0, atol=1e-5)
    assert same(clips[1].state, model.extend(clips[0].state, "a red circle", reuse).state), "this one is exact"


def test_approximate_replay_is_exact_for_the_same_schedule(model):
    state = model.generate("a red circle", solver="heun", **FAST).state
    assert same(
        model.extend(state, "a red circle", approximate=True).state, model.extend(state, "a red circle").state
    )


def test_no_clips_have_no_frames(model):
    with pytest.raises(ValueError, match="there are no clips"):
        model.frames([])


def test_settings_that_are_none_are_those_of_the_previous_clip(model):
    first = model.generate("a red circle", steps=1, cfg=5.0)
    assert model.extend(first.state, "a red circle", cfg=None, steps=None).state.made_with["cfg"] == 5.0


def test_new_default_settings_do_not_change_a_signature():
    @dataclass(frozen=True)
    class Later(DiffusionConfig):
        added: bool = False

    assert non_defaults(Later(frames=9)) == non_defaults(DiffusionConfig(frames=9)) != non_defaults(DiffusionConfig())
    assert non_defaults(Later(added=True)) != non_defaults(DiffusionConfig())


def test_a_state_of_another_schedule_is_refused(model):
    state = model.generate("a red circle", **FAST).state
    stranger = ClipState(**{**vars(state), "sigmas": state.sigmas * 1.1})
    with pytest.raises(StateMismatchError, match="another schedule of 3 steps"):
        model.extend(stranger, "a red circle")


@pytest.mark.parametrize(
    ("prompts", "settings", "message"),
    [
        ([], {}, "no prompt"),
        ("  ", {}, "prompt 1 has no words"),
        (["a red circle", ""], {}, "prompt 2 has no words .''."),
        ("...", {}, "prompt 1 has no words"),
        ("a red circle", {"steps": 1001}, "steps is 1001, expected 1 to 1000"),
        ("a red circle", {"cfg": float("nan")}, "cfg is nan"),
        ("a green circle", {}, "does not know 'green'; it knows: a, blue, circle"),
        ("a red circle", {"cfg": 1e30}, r"cfg is 1e\+30, expected a number from -1000 to 1000"),
        ("a red circle", {"cfg": "3"}, "cfg is '3', expected a number"),
        ("a red circle", {"steps": 0}, "steps is 0"),
        ("a red circle", {"steps": 2.5}, "steps is 2.5, expected a whole number"),
        ("a red circle", {"seed": 1.5}, "seed is 1.5, expected a whole number"),
        (
            "a red circle",
            {"frames": 10**20},
            "frames is 100000000000000000000, expected a whole number from 1 to 4096",
        ),
        ("a red circle", {"width": 33}, "width is 33, expected a multiple of 4"),
        ("a red circle", {"solver": "euler_a"}, "'euler_a', expected one of ddim, heun, dpmpp_2m"),
        ("a red circle", {"seed": -1}, "seed is -1"),
        ("a red circle", {"clips": 0}, "clips is 0"),
        ("a red circle", {"frames": 4}, "prompt_frames .M. is 4, expected less than the 4 frames"),
        ("a a a a a a a a a", {}, "9 words, this model reads at most 6"),
    ],
)
def test_invalid_input_is_refused_before_sampling(model: VidRD, prompts, settings, message):
    with pytest.raises(ValueError, match=message):
        model.stream(prompts, **settings)


@pytest.mark.parametrize(
    "reuse",
    [
        ReuseSettings(prompt_frames=3),
        ReuseSettings(prompt_frames=2, order="forward", noise="shuffle", anchor=0.5, loop="keep"),
    ],
)
def test_batched_clips_equal_single_ones(model, tmp_path, reuse):
    prompts, seeds, steps = ["a red circle", "a blue circle moving right"], [5, 8], 3
    close = replace(reuse, loop="close") if reuse.loop == "keep" else reuse
    first = model.generate_many(prompts, seeds, reuse, steps=steps)
    second = model.extend_many([clip.state for clip in first], prompts, close)
    for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        alone = model.generate(prompt, reuse, seed=seed, steps=steps)
        chain = [alone, model.extend(alone.state, prompt, close)]
        for one, other in zip((first[i], second[i]), chain, strict=True):
            assert one.prompt == prompt
            for name in ("noise", "record", "latents", "past", "first_clip_record", "statistics"):
                torch.testing.assert_close(getattr(one.state, name), getattr(other.state, name), atol=1e-4, rtol=1e-4)
            assert one.state.made_with == other.state.made_with
            one.state.save(tmp_path / "state.safetensors")
            assert same(ClipState.load(tmp_path / "state.safetensors"), one.state)
        # What is kept of one clip does not keep the others' in memory.
        assert first[i].state.record.untyped_storage().nbytes() == first[i].state.record.nbytes


@pytest.mark.parametrize("solver", ["euler_ancestral", "unipc"])
def test_a_solver_replays_resumes_and_batches(model, tmp_path, solver):
    """Prompt frames in forward order come out as the old frames, and a saved state continues bit for bit."""
    settings, reuse = {"steps": 4, "solver": solver, "seed": 3}, ReuseSettings(3, order="forward")
    clips = [clip.state for clip in model.stream("a red circle", 3, reuse, **settings)]
    assert len(clips[0].step_noise) == (3 if solver == "euler_ancestral" else 0)
    for old, new in pairwise(clips):
        torch.testing.assert_close(new.latents[:, :, :3], old.latents[:, :, -3:], rtol=0, atol=1e-5)
    clips[0].save(tmp_path / "state.safetensors")
    resumed = model.stream("a red circle", 3, state=ClipState.load(tmp_path / "state.safetensors"))
    assert all(same(clip.state, old) for clip, old in zip(resumed, clips[1:], strict=True))
    (alone, _) = model.generate_many(["a red circle"] * 2, [3, 4], reuse, steps=4, solver=solver)
    torch.testing.assert_close(alone.state.latents, clips[0].latents, atol=1e-4, rtol=1e-4)
    assert model.extend(clips[0], "a red circle", steps=3, approximate=True).state.latents.isfinite().all()


def test_calling_a_model_makes_a_whole_video(model, tmp_path):
    video = model("a red circle", clips=2, steps=2, seed=4)
    expected = list(model.stream("a red circle", 2, steps=2, seed=4))
    assert np.array_equal(video.frames, model.frames(expected))
    assert [clip.index for clip in video.clips] == [0, 1]
    further = model("a red circle", clips=3, state=video.clips[-1].state)
    assert [clip.index for clip in further.clips] == [2]
    video.save(tmp_path / "frames/", fps=4)
    assert len(list((tmp_path / "frames").iterdir())) == 16


def test_typed_keyword_arguments_are_the_fields_of_the_settings():
    assert list(SampleArguments.__annotations__) == list(SampleSettings.__dataclass_fields__)
    assert list(DiffusionArguments.__annotations__) == list(DiffusionConfig.__dataclass_fields__)


def test_clips_with_different_settings_are_not_batched(model):
    few, more = (model.generate("a red circle", steps=steps).state for steps in (2, 3))
    with pytest.raises(ValueError, match="clips of one batch need settings that are equal except for the seed"):
        model.extend_many([few, more], ["a red circle"] * 2)
    one, other = (model.generate("a red circle", ReuseSettings(alpha=alpha), steps=2).state for alpha in (1, 2))
    with pytest.raises(ValueError, match="the states were made with other reuse settings each"):
        model.extend_many([one, other], ["a red circle"] * 2)
    with pytest.raises(ValueError, match="there are 1 prompts and 2 seeds: give as many, one at least"):
        model.generate_many(["a red circle"], [1, 2])
    with pytest.raises(ValueError, match="there are 0 prompts and 0 states"):
        model.extend_many([], [])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"order": "forward"}, r"order is a setting of reuse: give reuse=ReuseSettings\(order=...\)"),
        ({"drift": 0.5}, r"drift is a setting of reuse: give reuse=ReuseSettings\(anchor=...\)"),
        ({"stepz": 3}, r"there is no setting stepz \(did you mean steps\?\): expected seed, steps, .*ReuseSettings"),
        ({"stepz": None}, r"there is no setting stepz \(did you mean steps\?\)"),
        ({"clip": 3}, r"there is no setting clip \(did you mean clips\?\)"),
    ],
)
def test_unknown_keyword_arguments_are_refused_with_a_hint(model, given, message):
    state = model.generate("a red circle", steps=1).state
    for sample in (
        lambda: model("a red circle", **given),
        lambda: model.stream("a red circle", **given),
        lambda: model.generate("a red circle", **given),
        lambda: model.extend(state, "a red circle", **given),
    ):
        with pytest.raises(TypeError, match=message):
            sample()
    with pytest.raises(TypeError, match="there is no setting clips: expected seed"):
        model.generate("a red circle", clips=3)


@pytest.mark.parametrize("prompt", [5, None, ["a red circle", 5]])
def test_prompts_that_are_no_texts_are_refused(model, prompt):
    for sample in (lambda: model(prompt), lambda: model.stream(prompt, 2)):
        with pytest.raises(ValueError, match=r"prompt (2 )?is (5|None), expected a text"):
            sample()
    with pytest.raises(ValueError, match="prompt 1 is 5, expected a text"):
        model.generate(5)
