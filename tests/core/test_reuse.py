"""FNR, PNS and DSG against closed forms and a literal transcription of the paper's formulas."""

import itertools
import math

import pytest
import torch

from vidrd_core.reuse import (
    ReuseSettings,
    StagedGuidance,
    past_dependent_noise,
    replay_counts,
    revert_noise,
    steps_of_calls,
)
from vidrd_core.sampling import SOLVERS, ddim


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def literal_noise(old, settings, eps):
    """z_T of the new clip, frame by frame, as in the paper."""
    frames, m, alpha = old.shape[2], settings.prompt_frames, settings.alpha
    rho = alpha / math.sqrt(1 + alpha**2)
    new = torch.empty_like(old)
    for j in range(frames):
        if j < m:
            new[:, :, j] = old[:, :, frames - 1 - j]
        else:
            new[:, :, j] = rho * old[:, :, frames - 1 - j] + eps[:, :, j] / math.sqrt(1 + alpha**2)
    return new


def literal_counts(m, beta, steps):
    """The number of steps for which each prompt frame is replayed, by counting t = T .. 1."""
    counts = []
    for j in range(m):
        threshold = (1 - beta) * steps + beta * steps * j / m
        counts.append(sum(t > threshold + 1e-9 for t in range(steps, 0, -1)))
    return counts


@pytest.mark.parametrize("frames", [2, 3, 8, 16])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 4.0])
def test_noise_equals_the_papers_formula(frames, alpha):
    for m in {0, 1, frames // 2, frames - 1}:
        settings = ReuseSettings(prompt_frames=m, alpha=alpha)
        old = torch.randn(2, 4, frames, 5, 3, generator=generator(1))
        new = past_dependent_noise(old, settings, generator(2))
        eps = torch.randn(old.shape, generator=generator(2))
        torch.testing.assert_close(new, literal_noise(old, settings, eps), rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 7, 20, 50])
def test_replay_counts_equal_the_papers_formula(steps):
    for m, beta in itertools.product(range(12), (0.0, 0.1, 0.25, 0.4, 0.5, 2 / 3, 0.8, 1.0)):
        assert replay_counts(m, beta, steps) == literal_counts(m, beta, steps), (m, beta)


def test_replay_counts_for_the_papers_settings():
    assert replay_counts(4, 0.4, 50) == [20, 15, 10, 5]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((4, 0.4, 50), [19, 14, 9, 4]),
        ((4, 0.4, 10), [3, 2, 1, 0]),
        ((4, 0.0, 10), [0, 0, 0, 0]),
        ((1, 1.0, 10), [9]),
        ((0, 0.4, 10), []),
    ],
)
def test_the_released_code_replays_one_step_less(settings, expected):
    assert replay_counts(*settings, staging="released") == expected
    assert ReuseSettings(*(settings[0], 4.0, settings[1]), staging="released").replay_counts(settings[2]) == expected


def test_reverting_twice_is_the_identity():
    noise = torch.randn(1, 4, 7, 3, 3, generator=generator())
    assert torch.equal(revert_noise(revert_noise(noise)), noise)
    assert torch.equal(revert_noise(noise)[:, :, 0], noise[:, :, -1])


@pytest.mark.parametrize("order", ["mirror", "forward"])
@pytest.mark.parametrize("alpha", [0.0, 1.0, 4.0])
def test_noise_keeps_unit_variance_and_correlates_by_rho(order, alpha):
    settings = ReuseSettings(prompt_frames=3, alpha=alpha, order=order)
    old = torch.randn(1, 4, 8, 64, 64, generator=generator(1))
    new = past_dependent_noise(old, settings, generator(2))
    source = settings.source_frames(8)
    for j in range(8):
        a, b = new[:, :, j].flatten(), old[:, :, source[j]].flatten()
        correlation = torch.corrcoef(torch.stack([a, b]))[0, 1].item()
        assert a.std().item() == pytest.approx(1, abs=0.02)
        assert correlation == pytest.approx(1 if j < 3 else alpha / math.sqrt(1 + alpha**2), abs=0.03)


def test_forward_order_reuses_the_last_frames_in_time_order():
    settings = ReuseSettings(prompt_frames=3, alpha=0.0, order="forward")
    old = torch.randn(1, 4, 8, 2, 2, generator=generator(1))
    new = past_dependent_noise(old, settings, generator(2))
    assert torch.equal(new[:, :, :3], old[:, :, 5:])
    assert settings.repeated_frames == 3
    assert settings.replay_counts(50) == [50, 50, 50]


def test_frames_can_be_in_another_dimension():
    settings = ReuseSettings(prompt_frames=2, alpha=1.0)
    old = torch.randn(1, 4, 6, 2, 2, generator=generator(1))
    moved = past_dependent_noise(old.transpose(0, 2).contiguous(), settings, None, frame_dim=0)
    assert torch.equal(moved[:2].transpose(0, 2), revert_noise(old)[:, :, :2])


def toy_denoiser(x, sigma):
    """A smooth nonlinear network that mixes frames, pixels and noise levels."""
    mixed = x + 0.3 * x.roll(1, 2) - 0.2 * x.flip(2) + 0.1 * x.mean(dim=(3, 4), keepdim=True)
    return torch.tanh(mixed / (1 + sigma**2).sqrt()) + 0.05 * sigma.log1p()


def run(solver, noise, sigmas, settings, record=None, keep=None):
    """A clip, what it recorded (predictions and added noise), and x before the first and after each step."""
    record, step_noise = record or (None, None)
    steps, keep = len(sigmas) - 1, keep or noise.shape[2]
    guidance = StagedGuidance(toy_denoiser, settings, steps, record, keep, step_noise=step_noise)
    start = noise * (1 + sigmas[0] ** 2).sqrt()
    path, added = [start], generator(100 if record is None else 200)

    def on_step(i, x):
        guidance.on_step(i, x)
        path.append(x.clone())

    def noise_sampler(sigma, sigma_next):
        return guidance.replay_step_noise(torch.randn(noise.shape, generator=added, dtype=noise.dtype))

    result = SOLVERS[solver](guidance, start, sigmas, on_step, noise_sampler)
    return result, (guidance.new_record(), guidance.new_step_noise()), torch.stack(path)


def literal_ddim(noise, sigmas, old_path, m, beta):
    """DSG as in the paper: z_{t-1} of prompt frames is overwritten by the old clip's."""
    steps, frames = len(sigmas) - 1, noise.shape[2]
    x = noise * (1 + sigmas[0] ** 2).sqrt()
    for t in range(steps, 0, -1):
        i = steps - t
        x0 = toy_denoiser(x, sigmas[i])
        x = x + (x - x0) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
        for j in range(m):
            if t > (1 - beta) * steps + beta * steps * j / m + 1e-9:
                x[:, :, j] = old_path[i + 1][:, :, frames - 1 - j]
    return x


def levels(steps):
    return torch.cat([torch.logspace(1, -1.5, steps, dtype=torch.float64), torch.zeros(1)])


SIGMAS = levels(12)


@pytest.mark.parametrize("steps", [1, 2, 7, 12, 50])
@pytest.mark.parametrize("beta", [0.0, 0.3, 0.4, 0.75, 1.0])
@pytest.mark.parametrize(("frames", "m"), [(3, 1), (8, 0), (8, 4), (8, 7), (5, 3)])
def test_replaying_predictions_is_the_papers_staged_guidance(frames, m, beta, steps):
    sigmas = levels(steps)
    settings = ReuseSettings(prompt_frames=m, beta=beta)
    old_noise = torch.randn(1, 4, frames, 4, 4, generator=generator(1), dtype=torch.float64)
    _, record, old_path = run("ddim", old_noise, sigmas, settings)
    noise = past_dependent_noise(old_noise, settings, generator(2))
    replayed, _, _ = run("ddim", noise, sigmas, settings, record)
    literal = literal_ddim(noise, sigmas, old_path, m, beta)
    torch.testing.assert_close(replayed, literal, rtol=0, atol=1e-5)


def released_chain(noises, alphas, m, beta):
    """Clips as the released code samples them, in its own variables: z of variance 1, alphas of the DDIM steps.

    Latents of the whole clip are kept in reverse at the start of each step, and put in place at the start of step s
    of the next clip, for frames j < M with s < beta T (M - j) / M.
    """
    steps, kept, clips = len(alphas) - 1, None, []
    for z in noises:
        stored = []
        for s in range(steps):
            for j in range(m if kept else 0):
                if s < beta * steps * (m - j) / m:
                    z[:, :, j] = kept[s][:, :, j]
            stored.append(z.flip(2))
            x0 = toy_denoiser(z / alphas[s].sqrt(), ((1 - alphas[s]) / alphas[s]).sqrt())
            eps = (z - alphas[s].sqrt() * x0) / (1 - alphas[s]).sqrt()
            z = alphas[s + 1].sqrt() * x0 + (1 - alphas[s + 1]).sqrt() * eps
        kept = stored
        clips.append(z)
    return clips


@pytest.mark.parametrize("steps", [1, 4, 10, 50])
@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("m", [0, 1, 4, 7])
def test_a_chain_with_released_staging_is_the_released_codes(m, beta, steps):
    settings = ReuseSettings(prompt_frames=m, beta=beta, staging="released")
    sigmas, record, ours = levels(steps), None, []
    noises = [torch.randn(1, 4, 8, 4, 4, generator=generator(1), dtype=torch.float64)]
    for clip in range(4):
        if clip:
            noises.append(past_dependent_noise(noises[-1], settings, generator(2 + clip)))
        latents, record, _ = run("ddim", noises[-1], sigmas, settings, record)
        ours.append(latents)
    theirs = released_chain([noise.clone() for noise in noises], 1 / (1 + sigmas**2), m, beta)
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("order", ["mirror", "forward"])
@pytest.mark.parametrize("beta", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("steps", [4, 12, 30])
def test_prompt_frames_follow_the_old_trajectory(solver, order, beta, steps):
    """While frame j is replayed, its z_t equals the old frame's with every solver; added noise is replayed, too."""
    frames, m, sigmas = 8, 4, levels(steps)
    settings = ReuseSettings(prompt_frames=m, beta=beta, order=order)
    old_noise = torch.randn(1, 4, frames, 4, 4, generator=generator(1), dtype=torch.float64)
    _, record, old_path = run(solver, old_noise, sigmas, settings, keep=m)
    noise = past_dependent_noise(old_noise, settings, generator(2))
    _, _, path = run(solver, noise, sigmas, settings, record)
    source = settings.source_frames(frames)
    for j, count in enumerate(settings.replay_counts(len(sigmas) - 1)):
        same = path[: count + 1, :, :, j], old_path[: count + 1, :, :, source[j]]
        torch.testing.assert_close(*same, rtol=0, atol=1e-5)
        if count < len(sigmas) - 2:
            gap = (path[-1, :, :, j] - old_path[-1, :, :, source[j]]).abs().max()
            assert gap > 1e-4, "after its release a frame should go its own way"


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 12])
def test_the_sigma_of_a_call_determines_its_step(solver, steps):
    guidance = StagedGuidance(toy_denoiser, ReuseSettings(), steps)
    steps_seen = []

    def denoise(x, sigma):
        steps_seen.append(guidance.step)
        return guidance(x, sigma)

    sigmas = levels(steps)
    SOLVERS[solver](denoise, torch.randn(1, 4, 8, 2, 2, dtype=torch.float64), sigmas, guidance.on_step)
    assert steps_of_calls(guidance.new_call_sigmas(), sigmas) == steps_seen


def test_calls_between_sigmas_belong_to_the_step_before():
    sigmas = torch.tensor([8.0, 4.0, 2.0, 0.0])
    calls = [8.0, 6.0, 4.0, 3.0, 1.9, 1.0]  # the third step's first call is not quite at its level
    assert steps_of_calls(torch.tensor(calls), sigmas) == [0, 0, 1, 1, 2, 2]
    looking_ahead = [8.0, 4.0, 2.0, 4.0, 2.0, 2.0, 1.0]
    assert steps_of_calls(torch.tensor(looking_ahead), sigmas) == [0, 0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("solver", SOLVERS)
def test_beta_1_pins_the_first_frame_to_the_old_last_one(solver):
    settings = ReuseSettings(prompt_frames=4, beta=1.0)
    old_noise = torch.randn(1, 4, 8, 4, 4, generator=generator(1), dtype=torch.float64)
    old, record, _ = run(solver, old_noise, SIGMAS, settings)
    noise = past_dependent_noise(old_noise, settings, generator(2))
    new, _, _ = run(solver, noise, SIGMAS, settings, record)
    torch.testing.assert_close(new[:, :, 0], old[:, :, -1], rtol=0, atol=1e-9)


def test_without_guidance_it_is_plain_sampling():
    noise = torch.randn(1, 4, 8, 4, 4, generator=generator(3), dtype=torch.float64)
    plain = ddim(toy_denoiser, noise * (1 + SIGMAS[0] ** 2).sqrt(), SIGMAS)
    for settings in (ReuseSettings(beta=0.0), ReuseSettings(prompt_frames=0)):
        record = torch.randn(12, 1, 4, 8, 4, 4, generator=generator(4), dtype=torch.float64)
        assert torch.equal(run("ddim", noise, SIGMAS, settings, (record, None))[0], plain)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompt_frames": -1}, "prompt_frames .M. is -1"),
        ({"prompt_frames": 1.5}, "prompt_frames .M. is 1.5, expected a whole number"),
        ({"alpha": -0.1}, "alpha is -0.1"),
        ({"alpha": 1e39}, r"alpha is 1e\+39, expected a number from 0 to 1e\+06"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"beta": 1.01}, "beta is 1.01"),
        ({"beta": float("nan")}, "beta is nan"),
        ({"order": "sideways"}, "'sideways', expected one of mirror, forward"),
    ],
)
def test_settings_are_validated(values, message):
    with pytest.raises(ValueError, match=message):
        ReuseSettings(**values)


def test_as_many_prompt_frames_as_frames_are_refused():
    with pytest.raises(ValueError, match="is 8, expected less than the 8 frames"):
        past_dependent_noise(torch.zeros(1, 4, 8, 2, 2), ReuseSettings(prompt_frames=8), None)


def test_more_prompt_frames_than_recorded_are_refused():
    with pytest.raises(ValueError, match=r"\(M\) is 4.*last 3 frames"):
        StagedGuidance(toy_denoiser, ReuseSettings(), 10, torch.zeros(10, 1, 4, 3, 2, 2))


def test_more_calls_than_recorded_are_refused():
    guidance = StagedGuidance(toy_denoiser, ReuseSettings(beta=1.0), 10, torch.zeros(1, 1, 4, 4, 2, 2))
    x = torch.zeros(1, 4, 8, 2, 2)
    guidance(x, torch.tensor(1.0))
    with pytest.raises(ValueError, match="more often than the 1 times"):
        guidance(x, torch.tensor(1.0))


def test_a_denoisers_output_is_not_modified():
    kept = torch.zeros(1, 4, 8, 2, 2)
    guidance = StagedGuidance(lambda x, sigma: kept, ReuseSettings(), 2, torch.ones(2, 1, 4, 8, 2, 2))
    assert guidance(kept, torch.tensor(1.0)).any()
    assert not kept.any()
