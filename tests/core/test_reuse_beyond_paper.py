"""Warm-up latents, noise policies, soft release, anchor and closed loops against closed forms."""

import math
from dataclasses import replace

import pytest
import torch

from vidrd_core.anchoring import anchor_statistics, channel_statistics
from vidrd_core.presets import PRESETS, ReuseChoice, preset
from vidrd_core.reuse import (
    ReuseSettings,
    StagedGuidance,
    lowpass,
    next_clip_noise,
    past_dependent_noise,
)
from vidrd_core.sampling import SOLVERS
from vidrd_core.state import ClipState

FAST = {"steps": 4, "seed": 5}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def correlation(a, b):
    return float((a * b).mean() / (a.std() * b.std()))


OLD = torch.randn(1, 4, 8, 48, 48, generator=generator(1))


@pytest.mark.parametrize("order", ["mirror", "forward"])
@pytest.mark.parametrize("noise", ["pns", "fresh", "shuffle", "lowpass"])
@pytest.mark.parametrize("alpha", [0.0, 1.0, 4.0])
def test_every_policy_keeps_unit_variance_and_prompt_frames(noise, order, alpha):
    settings = ReuseSettings(3, alpha, order=order, noise=noise)
    new = next_clip_noise(OLD, settings, generator(2))
    source = settings.source_frames(8)
    for j in range(8):
        assert abs(float(new[:, :, j].std()) - 1) < 0.03
        if j < 3:
            assert torch.equal(new[:, :, j], OLD[:, :, source[j]])
    assert torch.equal(new, next_clip_noise(OLD, settings, generator(2)))
    assert not torch.allclose(new, next_clip_noise(OLD, settings, generator(3)))


def test_pns_equals_the_papers_formula():
    settings = ReuseSettings()
    assert torch.equal(
        next_clip_noise(OLD, settings, generator(2)), past_dependent_noise(OLD, settings, generator(2))
    )


def test_fresh_noise_is_independent_of_the_old():
    new = next_clip_noise(OLD, ReuseSettings(3, 4.0, noise="fresh"), generator(2))
    assert all(abs(correlation(new[:, :, j], OLD[:, :, i])) < 0.05 for j in range(3, 8) for i in range(8))


def test_shuffled_noise_uses_every_old_frame_once_and_correlates_by_rho():
    settings = ReuseSettings(3, 2.0, noise="shuffle")
    new = next_clip_noise(OLD, settings, generator(2))
    table = torch.tensor([[correlation(new[:, :, j], OLD[:, :, i]) for i in range(5)] for j in range(3, 8)])
    assert sorted(table.argmax(1).tolist()) == [0, 1, 2, 3, 4]
    assert table.argmax(1).tolist() != [4, 3, 2, 1, 0]  # which is what pns takes
    torch.testing.assert_close(table.amax(1), torch.full((5,), 2 / math.sqrt(5)), rtol=0, atol=0.02)


def test_lowpass_noise_is_old_in_low_frequencies_and_new_in_high_ones():
    settings = ReuseSettings(0, 1e6, order="forward", noise="lowpass")
    new = next_clip_noise(OLD, settings, generator(2))
    spectrum, old = torch.fft.fftn(new, dim=(2, 3, 4)), torch.fft.fftn(OLD, dim=(2, 3, 4))
    assert torch.allclose(spectrum[..., 0, 0, 0], old[..., 0, 0, 0], rtol=1e-3, atol=1e-2)
    high = spectrum[..., 4, 20:28, 20:28]
    shared = (high * old[..., 4, 20:28, 20:28].conj()).mean().abs() / (high.abs().square().mean())
    assert shared < 0.1
    power = spectrum.abs().square().mean((0, 1)) / 8 / 48 / 48  # 1 at every frequency: none is lost where they meet
    near = power[0:2, :12, :12].mean()
    assert abs(float(near) - 1) < 0.15


@pytest.mark.parametrize("noise", ["fresh", "shuffle", "lowpass"])
def test_frames_can_be_in_another_dimension(noise):
    settings = ReuseSettings(3, 1.0, noise=noise)
    across = next_clip_noise(OLD, settings, generator(2))
    if noise == "shuffle":
        assert across.shape == OLD.shape
    batch = OLD[0].movedim(1, 0)  # [N, C, h, w]
    new = next_clip_noise(batch, settings, generator(2), frame_dim=0)
    assert torch.equal(new[:3], batch.flip(0)[:3])
    assert new.shape == batch.shape
    assert abs(float(new.std()) - 1) < 0.02


def test_lowpass_keeps_a_constant_and_removes_a_checkerboard():
    flat = torch.full((2, 8, 8), 3.0)
    board = ((torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1).expand(2, 8, 8)
    assert torch.allclose(lowpass(flat, (-2, -1), 0.25), flat, atol=1e-5)
    assert lowpass(board, (-2, -1), 0.25).abs().max() < 1e-3


def test_warmup_latents_come_before_the_prompt_frames_and_are_not_shown():
    settings = ReuseSettings(3, order="forward", warmup_latents=1)
    assert settings.source_frames(8) == [4, 5, 6, 7, 0, 1, 2, 3]
    assert settings.repeated_frames == 4
    assert replace(settings, order="mirror").repeated_frames == 0
    with pytest.raises(ValueError, match="of which 1 are sampled as a warm-up before them"):
        ReuseSettings(7, order="forward", warmup_latents=1).check_frames(8)


def toy(frames):
    """A denoiser that mixes all frames, so that one frame shows what was done to another."""
    mix = torch.softmax(torch.randn(frames, frames, generator=generator(7)), 1)
    return lambda x, sigma: torch.tanh(torch.einsum("ij,bcjhw->bcihw", mix, x) / (1 + sigma))


def sample(settings, noise, steps=10, solver="ddim", **guidance):
    sigmas = torch.cat([torch.linspace(10, 0.1, steps), torch.zeros(1)])
    frames = noise.shape[2]
    keep = settings.recorded_frames(frames)
    wrapped = StagedGuidance(toy(frames), settings, steps, keep=keep, frames=frames, **guidance)
    trajectory, added = [], generator(200 if guidance else 100)

    def on_step(i, x):
        wrapped.on_step(i, x)
        trajectory.append(x.clone())

    def noise_sampler(sigma, sigma_next):
        return wrapped.replay_step_noise(torch.randn(noise.shape, generator=added))

    SOLVERS[solver](wrapped, noise * 10, sigmas, on_step, noise_sampler)
    return wrapped, trajectory


@pytest.mark.parametrize("solver", sorted(SOLVERS))
@pytest.mark.parametrize("m", [1, 3, 4, 6])
def test_prompt_frames_after_warmup_latents_are_replayed_to_the_end(solver, m):
    settings = ReuseSettings(m, order="forward", warmup_latents=1)
    noise = torch.randn(1, 2, 8, 4, 4, generator=generator())
    first, old = sample(settings, noise, solver=solver)
    new = next_clip_noise(noise, settings, generator(1))
    _, again = sample(settings, new, solver=solver, record=first.new_record(), step_noise=first.new_step_noise())
    for then, now in zip(old, again, strict=True):
        assert torch.allclose(now[:, :, 1 : 1 + m], then[:, :, 8 - m :], atol=1e-5)
    assert not torch.allclose(again[-1][:, :, 0], old[-1][:, :, 7 - m], atol=1e-3)


@pytest.mark.parametrize("order", ["mirror", "forward"])
@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_a_closing_clip_ends_where_the_first_began(order, solver):
    settings = ReuseSettings(3, beta=1.0, order=order, loop="keep")
    noise = torch.randn(1, 2, 8, 4, 4, generator=generator())
    first, old = sample(settings, noise, solver=solver)
    closing = replace(settings, loop="close")
    new = next_clip_noise(noise, closing, generator(1), first_clip_noise=noise[:, :, :3])
    _, again = sample(
        closing, new, solver=solver, record=first.new_record(), first_clip_record=first.new_first_clip_record()
    )
    frames, theirs = ([7], [0]) if order == "mirror" else ([5, 6, 7], [0, 1, 2])
    assert torch.allclose(again[-1][:, :, frames], old[-1][:, :, theirs], atol=1e-5)
    begin = 7 if order == "mirror" else 5
    assert torch.allclose(again[-1][:, :, 0], old[-1][:, :, begin], atol=1e-5)


def test_a_soft_release_replays_low_frequencies_for_as_many_steps_again():
    hard, soft = ReuseSettings(2, beta=0.4), ReuseSettings(2, beta=0.4, release="soft")
    noise = torch.randn(1, 2, 8, 4, 4, generator=generator())
    first, _ = sample(hard, noise)
    new = next_clip_noise(noise, hard, generator(1))
    one, hard_way = sample(hard, new, record=first.new_record())
    two, soft_way = sample(soft, new, record=first.new_record())
    assert [each.steps for each in one.replayed] == [each.steps for each in two.replayed] == [4, 2]
    weights = [two.replayed[0].weight(step) for step in range(10)]
    assert weights[:4] == [1.0] * 4
    assert weights[4:8] == pytest.approx([0.8, 0.6, 0.4, 0.2])
    assert weights[8:] == [0.0, 0.0]
    assert torch.equal(hard_way[1], soft_way[1])
    assert not torch.equal(hard_way[3], soft_way[3])


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_anchor_moves_statistics_towards_those_of_the_first_clip(strength):
    x0 = torch.randn(2, 4, 8, 16, 16, generator=generator()) * 3 + 5
    wanted = torch.stack([torch.full((2, 4), 1.0), torch.full((2, 4), 2.0)])
    anchor_statistics(wanted, strength)(x0, 1.0)
    mean, std = channel_statistics(x0)
    assert torch.allclose(mean, torch.tensor(5 - 4 * strength), atol=0.3)
    assert torch.allclose(std, torch.tensor(3 - strength), atol=0.15)


def test_anchor_reduces_the_drift_of_a_model_from_its_first_clip(model):
    def far(drift):
        clips = [clip.state for clip in model.stream("a red circle", 3, ReuseSettings(drift=drift), **FAST)]
        return float((channel_statistics(clips[-1].latents) - clips[0].statistics).abs().mean())

    assert far(1.0) < 0.05 * far(0.0)


def test_older_names_of_settings_are_taken_but_not_beside_the_current_ones():
    with pytest.warns(DeprecationWarning, match="drift is now called anchor"):
        settings = ReuseSettings(drift=0.3, head=1)
    assert settings == ReuseSettings(anchor=0.3, warmup_latents=1)
    assert (settings.drift, settings.head) == (0.3, 1)
    with pytest.warns(DeprecationWarning, match="is now called"):
        assert replace(settings, drift=0.5, head=2) == ReuseSettings(anchor=0.5, warmup_latents=2)
    for both in ({"drift": 0.3, "anchor": 0.2}, {"head": 1, "warmup_latents": 0}):
        old, new = both
        with pytest.raises(ValueError, match=f"{new} is given twice, also as {old}, its older name: leave {old} out"):
            ReuseSettings(**both)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("frames", [2, 8, 16, 21])
def test_presets_run_and_resume(model, tmp_path, name, frames):
    if frames > 8:
        assert preset(name, frames).prompt_frames < frames / 2
        return
    settings = preset(name, frames)
    if name == "loop on purpose" and frames == 2:
        with pytest.raises(ValueError, match="to close the loop"):
            model.stream("a red circle", 3, settings, frames=frames, **FAST)
        return
    streamed = list(model.stream("a red circle", 3, settings, frames=frames, **FAST))
    streamed[1].state.save(tmp_path / "clip.safetensors")
    state = ClipState.load(tmp_path / "clip.safetensors")
    resumed = list(model.stream("a red circle", 3, settings, state=state, **FAST))
    assert torch.equal(resumed[-1].state.latents, streamed[-1].state.latents)
    shown = sum(clip.latents.shape[2] for clip in streamed)
    if name == "loop on purpose":
        last, first = streamed[-1].state, streamed[0].state
        assert torch.allclose(last.latents[:, :, -2:], first.latents[:, :, :2], atol=1e-5)
        assert shown == 8 + 6 + 4
        with pytest.raises(ValueError, match="nothing can follow it"):
            model.extend(last, "a red circle", **FAST)
    elif name == "paper":
        assert shown == 3 * frames


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="expected one of paper, keep moving"):
        preset("papre", 8)


def test_a_loop_can_be_closed_only_with_loop_keep(model):
    state = model.generate("a red circle", **FAST).state
    with pytest.raises(ValueError, match=r"keeps nothing.*make the first clip with loop 'keep'"):
        model.extend(state, "a red circle", ReuseSettings(2, order="forward", loop="close"), **FAST)


@pytest.mark.parametrize("name", ["keep moving", "anchored", "for this model"])
def test_a_stream_closes_its_loop_with_either_value(model, name):
    made = [
        [clip.state for clip in model.stream("a red circle", 3, replace(preset(name, 8), loop=loop), **FAST)]
        for loop in ("keep", "close")
    ]
    assert [[state.made_with["reuse"]["loop"] for state in states] for states in made] == [
        ["keep", "keep", "close"]
    ] * 2
    assert all(torch.equal(one.latents, other.latents) for one, other in zip(*made, strict=True))
    last, first, m = made[1][-1], made[1][0], preset(name, 8).prompt_frames
    assert torch.allclose(last.latents[:, :, -m:], first.latents[:, :, :m], atol=1e-5)


def test_a_first_clip_closes_nothing(model):
    reuse = ReuseSettings(2, order="forward", loop="close")
    state = model.generate("a red circle", reuse, **FAST).state
    assert state.shown.shape[2] == 8
    with pytest.raises(ValueError, match=r"keeps nothing.*make the first clip with loop 'keep'"):
        model.extend(state, "a red circle", reuse, **FAST)
    (alone,) = model.stream("a red circle", 1, reuse, **FAST)
    closed = model.extend(alone.state, "a red circle", reuse, **FAST).state
    assert torch.allclose(closed.latents[:, :, -2:], state.latents[:, :, :2], atol=1e-5)


def test_a_choice_is_resolved_for_the_clip():
    assert ReuseChoice(preset="keep moving").resolve(16).prompt_frames == 4
    assert ReuseChoice(preset="keep moving").resolve(16).head == 0
    assert ReuseChoice(preset="keep moving").resolve(21, compresses=True) == ReuseSettings(
        5, order="forward", noise="shuffle", warmup_latents=1
    )
    for latents, frames in {2: 1, 3: 1, 5: 2, 6: 3, 9: 3, 13: 3, 16: 4, 31: 7}.items():
        found = ReuseChoice(preset="for this model").resolve(latents, compresses=True)
        assert found == ReuseSettings(frames, order="forward", noise="shuffle", warmup_latents=1)
    assert ReuseChoice(preset="for this model").resolve(17, compresses=True, cycle=5).prompt_frames == 2
    assert ReuseChoice(preset="for this model").resolve(8) == preset("keep moving", 8)
    for name in PRESETS:
        for loop in ("keep", "close"):
            assert ReuseChoice(ReuseSettings(loop=loop), name).resolve(8) == replace(preset(name, 8), loop=loop)
        assert ReuseChoice(preset=name).resolve(8) == preset(name, 8)
    for latents, frames in {4: 1, 5: 1, 6: 2, 7: 2, 8: 3, 9: 3, 21: 5}.items():  # so many that the loop can be closed
        found = ReuseChoice(ReuseSettings(loop="close"), "for this model").resolve(latents, compresses=True)
        assert found.prompt_frames == frames
        found.check_frames(latents)
    assert ReuseChoice(ReuseSettings(3), auto=True).resolve(8) == ReuseSettings(3)
    assert ReuseChoice(ReuseSettings(3), auto=True).resolve(8, compresses=True) == ReuseSettings(
        3, order="forward", warmup_latents=1
    )
    for choice in (ReuseChoice(), ReuseChoice(preset="paper")):
        with pytest.raises(ValueError, match="reversed latents are not the reversed video"):
            choice.resolve(8, compresses=True)
    assert ReuseChoice(ReuseSettings(0, 0.0)).resolve(8, compresses=True).order == "mirror"  # takes nothing over
    with pytest.raises(ValueError, match=r"the preset paper has the order mirror.*the preset as set here with"):
        ReuseChoice(preset="paper").resolve(8, compresses=True)
    with pytest.raises(ValueError, match=r"a clip of 3 latents is too short.* prompt_frames \(M\) would be 3, all"):
        ReuseChoice(ReuseSettings(2, order="forward")).resolve(3, compresses=True, cycle=5)
