"""Solvers and schedules against closed forms and diffusers."""

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
)

from vidrd_core.sampling import (
    SOLVERS,
    DiffusionConfig,
    Schedule,
    call_sigmas,
    ddim,
    dpmpp_2m,
    euler_ancestral,
    guided,
    latents_of,
    unipc,
)


def network(x, timestep):
    """A smooth stand-in for a UNet."""
    return torch.tanh(x + 0.3 * x.roll(1, -1)) * (0.5 + timestep.float() / 1000)


SCHEDULERS = {
    "ddim": DDIMScheduler,
    "heun": HeunDiscreteScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
    "euler_ancestral": EulerAncestralDiscreteScheduler,
    "unipc": UniPCMultistepScheduler,
}
ENDS = {  # where a solver ends: diffusers' setting, and ours
    "clean": ({}, {}),
    "noisy ddim": ({"set_alpha_to_one": False}, {"set_alpha_to_one": False}),
    "noisy multistep": ({"final_sigmas_type": "sigma_min"}, {"final_sigmas_type": "sigma_min"}),
}


def test_every_solver_is_one_of_diffusers():
    assert {name: each.scheduler + "Scheduler" for name, each in SOLVERS.items()} == {
        name: kind.__name__.replace("DiscreteScheduler", "Scheduler") for name, kind in SCHEDULERS.items()
    }


@pytest.mark.parametrize("steps", [5, 7, 30, 50])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    ("solver", "end"),
    [
        *((solver, "clean") for solver in SOLVERS),
        ("ddim", "noisy ddim"), ("dpmpp_2m", "noisy multistep"), ("unipc", "noisy multistep"),
    ],
)  # fmt: skip
def test_timesteps_and_steps_are_diffusers(solver, end, prediction, spacing, steps):
    theirs = SCHEDULERS[solver](
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing=spacing, steps_offset=1,
        prediction_type=prediction, **ENDS[end][0], **({"clip_sample": False} if solver == "ddim" else {}),
    )  # fmt: skip
    theirs.set_timesteps(steps)
    kind = {"epsilon": "eps", "v_prediction": "v"}[prediction]
    ours = Schedule(DiffusionConfig(prediction=kind, timestep_spacing=spacing, **ENDS[end][1]))
    sigmas = ours.sigmas(steps, solver)
    noise = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = noise * theirs.init_noise_sigma
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    drawn = {"generator": generators[0]} if solver == "euler_ancestral" else {}
    for t in theirs.timesteps:
        output = network(theirs.scale_model_input(expected, t), t)
        expected = theirs.step(output, t, expected, **drawn).prev_sample
    denoise = ours.as_diffusers(ours.denoiser(network), sigmas, solver)
    x = SOLVERS[solver](
        denoise,
        ours.start(noise, sigmas[0], solver),
        sigmas,
        None,
        lambda *_: torch.randn(noise.shape, generator=generators[1]),
    )
    torch.testing.assert_close(latents_of(x, sigmas), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction", ["eps", "v"])
@pytest.mark.parametrize("schedule", ["scaled_linear", "linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("steps", [50, 20, 8])
def test_ddim_equals_diffusers(prediction, schedule, steps):
    ours = Schedule(DiffusionConfig(prediction=prediction, schedule=schedule))
    sigmas = ours.sigmas(steps)
    theirs = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule=schedule, clip_sample=False, steps_offset=1,
        prediction_type={"eps": "epsilon", "v": "v_prediction"}[prediction],
    )  # fmt: skip
    theirs.set_timesteps(steps)
    noise = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = noise
    for t in theirs.timesteps:
        expected = theirs.step(network(expected, t), t, expected).prev_sample
    x = ddim(ours.denoiser(network), ours.start(noise, sigmas[0]), sigmas)
    torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-5)


def test_leading_timesteps_beyond_the_last_are_refused():
    schedule = Schedule(DiffusionConfig(timestep_spacing="leading", steps_offset=1))
    with pytest.raises(
        ValueError, match="steps is 1000, and with steps_offset 1 the first is at timestep 1000, expect"
    ):
        schedule.sigmas(1000)


def test_dpmpp_2m_equals_diffusers():
    ours = Schedule(DiffusionConfig())
    theirs = DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", solver_order=2,
        timestep_spacing="leading", steps_offset=1, final_sigmas_type="zero", lower_order_final=True,
    )  # fmt: skip
    theirs.set_timesteps(20)
    sigmas = theirs.sigmas.float()
    noise = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = noise
    for t in theirs.timesteps:
        expected = theirs.step(network(expected, t), t, expected).prev_sample
    # The same network input: diffusers rounds a timestep, ours is exact for the sigmas given.
    timesteps = iter(theirs.timesteps)

    def denoise(x, sigma):
        alpha = 1 / (1 + sigma**2).sqrt()
        return x - sigma * network(x * alpha, next(timesteps))

    x = dpmpp_2m(denoise, ours.start(noise, sigmas[0]), sigmas)
    torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_unipc_equals_diffusers(prediction):
    theirs = UniPCMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", solver_order=2, solver_type="bh2",
        timestep_spacing="leading", steps_offset=1, final_sigmas_type="zero", prediction_type=prediction,
    )  # fmt: skip
    theirs.set_timesteps(12)
    sigmas = theirs.sigmas.float()
    noise = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = noise
    for t in theirs.timesteps:
        expected = theirs.step(network(expected, t), t, expected).prev_sample
    timesteps = iter(theirs.timesteps)

    def denoise(x, sigma):
        alpha = 1 / (1 + sigma**2).sqrt()
        output = network(x * alpha, next(timesteps))
        return x - sigma * output if prediction == "epsilon" else alpha**2 * x - alpha * sigma * output

    x = unipc(denoise, noise * (1 + sigmas[0] ** 2).sqrt(), sigmas)
    torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-4)


def test_euler_ancestral_equals_diffusers():
    theirs = EulerAncestralDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
    )
    theirs.set_timesteps(15)
    sigmas = theirs.sigmas.float()
    start = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * theirs.init_noise_sigma
    generator, expected = torch.Generator().manual_seed(1), start
    for t in theirs.timesteps:
        output = network(theirs.scale_model_input(expected, t), t)
        expected = theirs.step(output, t, expected, generator=generator).prev_sample
    timesteps, generator = iter(theirs.timesteps), torch.Generator().manual_seed(1)

    def denoise(x, sigma):
        return x - sigma * network(x / (1 + sigma**2).sqrt(), next(timesteps))

    x = euler_ancestral(denoise, start, sigmas, None, lambda *_: torch.randn(start.shape, generator=generator))
    torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-4)


def test_solvers_report_the_sigma_of_each_model_call():
    sigmas = torch.tensor([3.0, 2.0, 1.0, 0.0])
    once = {name: call_sigmas(name, sigmas).tolist() for name in SOLVERS}
    assert once.pop("heun") == [3, 2, 2, 1, 1]
    assert set(map(tuple, once.values())) == {(3, 2, 1)}


def gaussian(x, sigma):
    """The ideal denoiser of data N(0, 1)."""
    return x / (1 + sigma**2)


@pytest.mark.parametrize(("solver", "order"), [("ddim", 1), ("heun", 2), ("dpmpp_2m", 2), ("unipc", 3)])
def test_solvers_converge_with_their_order(solver, order):
    """For Gaussian data the flow is known: x(0) = x(s) / sqrt(1 + s^2)."""
    x = torch.tensor([1.7], dtype=torch.float64)
    errors = []
    for steps in (40, 80):
        sigmas = torch.logspace(1, -2, steps + 1, dtype=torch.float64)
        exact = x * ((1 + sigmas[-1] ** 2) / (1 + sigmas[0] ** 2)).sqrt()
        errors.append((SOLVERS[solver](gaussian, x, sigmas) - exact).abs().item())
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.25)


@pytest.mark.parametrize("prediction", ["eps", "v", "flow"])
def test_denoisers_recover_x0_from_the_true_output(prediction):
    schedule = Schedule(DiffusionConfig(prediction=prediction))
    x0, noise = torch.randn(2, 1, 4, 2, 8, 8)
    for t in (1, 400, 981):
        model_input, target = schedule.noised(x0, noise, torch.tensor([t]))
        sigma = schedule.table[t]
        x = model_input if prediction == "flow" else model_input * (1 + sigma**2).sqrt()
        seen = []

        def network(x, timestep, target=target, seen=seen):
            seen.append((x, timestep))
            return target

        x0_again = schedule.denoiser(network)(x, sigma)
        torch.testing.assert_close(x0_again, x0, rtol=1e-4, atol=2e-4)
        torch.testing.assert_close(seen[0][0], model_input, rtol=1e-4, atol=1e-4)
        assert seen[0][1].item() == pytest.approx(t, abs=1e-2)


def test_flow_starts_from_pure_noise_and_ends_at_x0():
    schedule = Schedule(DiffusionConfig(prediction="flow"))
    x0, noise = torch.randn(2, 1, 4, 2, 4, 4)
    x = ddim(
        schedule.denoiser(lambda x, t: noise - x0),
        schedule.start(noise, torch.tensor(1.0)),
        schedule.sigmas(5),
    )
    torch.testing.assert_close(x, x0, rtol=1e-5, atol=1e-5)


def test_guidance_is_one_batched_call_and_extrapolates():
    calls = []

    def network(x, timestep, text):
        calls.append(len(x))
        return x * text.mean(dim=(1, 2))[:, None, None]

    cond, uncond = torch.full((1, 2, 3), 2.0), torch.full((1, 2, 3), 1.0)
    x = torch.ones(1, 2, 2)
    assert torch.equal(guided(network, cond, uncond, 5.0)(x, torch.tensor(3)), 6 * x)
    assert calls == [2]
    assert torch.equal(guided(network, cond, uncond, 1.0)(x, torch.tensor(3)), 2 * x)
    assert calls == [2, 1]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 3, 30, 333, 600, 999, 1000])
def test_sigmas_fall_to_zero_for_any_number_of_steps(steps, solver):
    schedule = Schedule(DiffusionConfig())
    sigmas = schedule.sigmas(steps)
    assert len(sigmas) == steps + 1
    assert (sigmas.diff() < 0).all()
    assert sigmas[-1] == 0
    assert sigmas[0] >= schedule.table[min(999, 1000 - 1000 // steps)]
    assert SOLVERS[solver](gaussian, schedule.start(torch.ones(1), sigmas[0]), sigmas).isfinite().all()


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_steps_out_of_range_are_refused(steps):
    with pytest.raises(ValueError, match=f"steps is {steps}, expected 1 to 1000"):
        Schedule(DiffusionConfig()).sigmas(steps)
