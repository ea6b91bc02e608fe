"""Noise schedules, denoisers and solvers.

One contract, as in k-diffusion: `denoise(x, sigma) -> x0`. x is "variance exploding", x0 + sigma * noise, for eps and
v models, and (1 - sigma) x0 + sigma * noise for flow models.

A solver is one function decorated with `solver`, which puts it into `SOLVERS`; settings, the command line and tests
take it from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

LEAST_ALPHA = 2.0**-24  # of pure noise: a noise level of 4096

Denoise = Callable[[Tensor, Tensor], Tensor]
"""`denoise(x, sigma) -> x0`, sigma a scalar tensor."""
Function = TypeVar("Function", bound=Callable[..., Any])
OnStep = Callable[[int, Tensor], None]
"""`on_step(i, x)`, called at the end of step i with the latents reached."""
NoiseSampler = Callable[[Tensor, Tensor], Tensor]
"""`noise_sampler(sigma, sigma_next) -> noise` like x, of unit variance."""


class DivergenceError(ValueError):
    """Sampling produced NaN or infinity: the settings do not suit the model."""


def clip_generator(seed: int, index: int) -> torch.Generator:
    """Make the random generator of one clip, from the seed and the number of the clip alone.

    Args:
        seed: The seed of the video, 0 or more.
        index: The clip's number, from 0.

    Returns:
        A CPU generator, so that a seed gives the same noise on every device.
    """
    (state,) = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state) >> 1)


def step_noise_generator(seed: int, index: int) -> torch.Generator:
    """The CPU generator of the noise that solvers add within a clip; independent of `clip_generator`'s."""
    return clip_generator(clip_generator(seed, index).initial_seed(), 0)


@dataclass(frozen=True)
class DiffusionConfig:
    """How a UNet was trained to denoise.

    Args:
        prediction: What it predicts: the noise (eps), the velocity (v), or the velocity of a flow model (flow).
        schedule: How beta rises over the training timesteps: linearly, or as the square of a linear rise.
        beta_start: Beta of the first timestep.
        beta_end: Beta of the last timestep, below 1.
        train_steps: Number of training timesteps.
        zero_terminal_snr: Whether the last timestep is pure noise (Lin et al., 2024); not with eps.
        frames: Frames (latents) of a clip, N.
        size: Width and height in pixels.
        cfg: The guidance scale with which it is best.

    Raises:
        ValueError: A setting is out of range, or they do not fit each other.
    """

    prediction: Literal["eps", "v", "flow"] = "eps"
    schedule: Literal["scaled_linear", "linear"] = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    train_steps: int = 1000
    zero_terminal_snr: bool = False
    frames: int = 8
    size: int = 256
    cfg: float = 10.0

    def __post_init__(self) -> None:
        for name, known in (("prediction", ("eps", "v", "flow")), ("schedule", ("scaled_linear", "linear"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(known)}")
        for name in ("train_steps", "frames", "size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError(f"beta goes from {self.beta_start} to {self.beta_end}, expected 0 < start <= end < 1")
        if self.zero_terminal_snr and self.prediction == "eps":
            raise ValueError(
                "zero_terminal_snr is for models that predict v: from pure noise, eps says nothing of x0"
            )


class Schedule:
    """A noise schedule: the sigma of each timestep, and the conversions between x, x0 and the network's output.

    Args:
        config: How the model was trained.
    """

    def __init__(self, config: DiffusionConfig) -> None:
        self.config = config
        if config.prediction == "flow":
            self.table = torch.arange(1, config.train_steps + 1) / config.train_steps
        else:
            self.table = ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt()

    @property
    def alphas_cumprod(self) -> Tensor:
        """The product of (1 - beta) up to each timestep, [train_steps]."""
        c = self.config
        power = 0.5 if c.schedule == "scaled_linear" else 1.0
        betas = torch.linspace(c.beta_start**power, c.beta_end**power, c.train_steps, dtype=torch.float32)
        table = (1 - betas ** (1 / power)).cumprod(dim=0)
        if not c.zero_terminal_snr:
            return table
        # Shifted so that the last is 0 and scaled so that the first stays (Lin et al., 2024, Algorithm 1); almost 0,
        # as its noise level must be a number.
        roots = table.sqrt()
        roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
        return roots.square().clamp(min=LEAST_ALPHA)

    def timestep(self, sigma: Tensor) -> Tensor:
        """The (fractional) timestep of a noise level."""
        if self.config.prediction == "flow":
            return sigma * self.config.train_steps - 1
        logs, target = self.table.log(), sigma.to(self.table).log()
        low = (torch.searchsorted(logs, target, right=True) - 1).clamp(0, len(logs) - 2)
        share = ((target - logs[low]) / (logs[low + 1] - logs[low])).clamp(0, 1)
        return low + share

    def sigmas(self, steps: int) -> Tensor:
        """Descending noise levels of `steps` DDIM steps and a final 0: [steps + 1].

        Timesteps 1, 1 + k, 1 + 2k, ... with k = train_steps / steps, rounded down each: those of SD's own DDIM where
        `steps` divides `train_steps`; where it does not, SD rounds k down and its steps begin less noisy (30: at 958,
        these at 967). Few steps begin well below the noisiest timestep: 50 at 981 of 999, 4 at 751.

        Raises ValueError unless `steps` is 1 to train_steps.
        """
        total = self.config.train_steps
        if not 1 <= steps <= total:
            raise ValueError(f"steps is {steps}, expected 1 to {total}")
        if self.config.prediction == "flow":
            return torch.linspace(1, 0, steps + 1)
        timesteps = torch.arange(steps) * total // steps + (steps < total)
        if self.config.zero_terminal_snr:  # from the noisiest timestep on, for which it was trained
            timesteps = (total - torch.arange(steps) * (total / steps)).round().long().flip(0) - 1
        return torch.cat([self.table[timesteps.flip(0)], torch.zeros(1)])

    def start(self, noise: Tensor, sigma: Tensor) -> Tensor:
        """Unit noise as the x from which sampling starts, variance 1 + sigma^2 (flow: sigma^2)."""
        return noise * sigma if self.config.prediction == "flow" else noise * (1 + sigma**2).sqrt()

    def denoiser(self, network: Callable[[Tensor, Tensor], Tensor]) -> Denoise:
        """Wrap `network(x, timestep) -> prediction` into `denoise(x, sigma) -> x0`."""
        prediction = self.config.prediction

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            timestep = self.timestep(sigma).to(x.device)
            if prediction == "flow":
                return x - sigma * network(x, timestep)
            alpha = 1 / (1 + sigma**2).sqrt()  # the network sees x scaled to variance 1
            output = network(x * alpha, timestep)
            if prediction == "eps":
                return x - sigma * output
            return alpha**2 * x - alpha * sigma * output

        return denoise

    def noised(self, x0: Tensor, noise: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """For training: the network's input at whole timesteps [B] and the output it should give."""
        shape = (-1,) + (1,) * (x0.ndim - 1)
        if self.config.prediction == "flow":
            sigma = self.table.to(x0.device)[timestep].view(shape)
            return (1 - sigma) * x0 + sigma * noise, noise - x0
        alphas = self.alphas_cumprod.to(x0.device)[timestep].view(shape)
        signal, level = alphas.sqrt(), (1 - alphas).sqrt()
        target = noise if self.config.prediction == "eps" else signal * noise - level * x0
        return signal * x0 + level * noise, target


def guided(
    network: Callable[[Tensor, Tensor, Tensor], Tensor], cond: Tensor, uncond: Tensor | None, scale: float
) -> Callable[[Tensor, Tensor], Tensor]:
    """Classifier-free guidance over `network(x, timestep, text)`, cond and uncond in one batch."""
    if uncond is None or scale == 1.0:
        return lambda x, timestep: network(x, timestep.expand(len(x)), cond)
    text = torch.cat([cond, uncond])

    def predict(x: Tensor, timestep: Tensor) -> Tensor:
        output = network(torch.cat([x, x]), timestep.expand(2 * len(x)), text)
        with_text, without = output.chunk(2)
        return without + scale * (with_text - without)

    return predict


@dataclass(frozen=True)
class Solver:
    """A solver as `SOLVERS` holds it: called as `solver(denoise, x, sigmas, on_step, noise_sampler) -> z_0`.

    Args:
        name: Its name in settings.
        function: The decorated function.
        about: A few words about it for the command's help.
        flow: Whether it also solves flow models.
        adds_noise: Whether it adds noise between steps, so that its function takes a `noise_sampler`.
    """

    name: str
    function: Callable[..., Tensor]
    about: str
    flow: bool
    adds_noise: bool

    def __call__(
        self,
        denoise: Denoise,
        x: Tensor,
        sigmas: Tensor,
        on_step: OnStep | None = None,
        noise_sampler: NoiseSampler | None = None,
    ) -> Tensor:
        """Sample.

        Args:
            denoise: `denoise(x, sigma) -> x0`.
            x: The noisy latents to start from (`Schedule.start`).
            sigmas: The noise levels, falling to 0, [T + 1].
            on_step: `on_step(i, x)`, called at the end of each step.
            noise_sampler: The noise to add, for solvers that add some; by default torch's own.

        Returns:
            The clean latents z_0, like x.
        """
        if not self.adds_noise:
            return self.function(denoise, x, sigmas, on_step)
        return self.function(denoise, x, sigmas, on_step, noise_sampler or (lambda *_: torch.randn_like(x)))


SOLVERS: dict[str, Solver] = {}
"""The solvers by name; functions decorated with `solver` are here."""


def solver(about: str, *, flow: bool = True, adds_noise: bool = False) -> Callable[[Function], Function]:
    """A decorator that puts a solver into `SOLVERS` by its function's name; arguments are those of `Solver`."""

    def register(function: Function) -> Function:
        name, without_gradients = function.__name__, torch.no_grad()(function)
        SOLVERS[name] = Solver(name, without_gradients, about, flow, adds_noise)
        return without_gradients

    return register


def call_sigmas(name: str, sigmas: Tensor) -> Tensor:
    """The sigma of each model call that a solver makes on a schedule.

    Args:
        name: The solver's, one of `SOLVERS`.
        sigmas: The noise levels, falling to 0, [T + 1].

    Returns:
        [calls], found by running the solver on a stand-in for the model.
    """
    called: list[Tensor] = []

    def probe(x: Tensor, sigma: Tensor) -> Tensor:
        called.append(sigma.cpu())
        return torch.zeros_like(x)

    SOLVERS[name](probe, torch.zeros(1, device=sigmas.device), sigmas)
    return torch.stack(called)


@solver("one model call a step")
def ddim(denoise: Denoise, x: Tensor, sigmas: Tensor, on_step: OnStep | None = None) -> Tensor:
    """DDIM with eta = 0 (Song et al., 2021), which is Euler's method in sigma."""
    for i in range(len(sigmas) - 1):
        d = (x - denoise(x, sigmas[i])) / sigmas[i]
        x = x + d * (sigmas[i + 1] - sigmas[i])
        if on_step:
            on_step(i, x)
    return x


@solver("two model calls a step")
def heun(denoise: Denoise, x: Tensor, sigmas: Tensor, on_step: OnStep | None = None) -> Tensor:
    """Heun's second-order method (Karras et al., 2022, Algorithm 1); two calls a step, one in the last."""
    for i in range(len(sigmas) - 1):
        d = (x - denoise(x, sigmas[i])) / sigmas[i]
        dt = sigmas[i + 1] - sigmas[i]
        reached = x + d * dt
        if sigmas[i + 1] > 0:
            d_next = (reached - denoise(reached, sigmas[i + 1])) / sigmas[i + 1]
            reached = x + (d + d_next) / 2 * dt
        x = reached
        if on_step:
            on_step(i, x)
    return x


@solver("second order from one model call a step", flow=False)
def dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Tensor, on_step: OnStep | None = None) -> Tensor:
    """DPM-Solver++(2M) (Lu et al., 2022) for eps and v models: second order from the last two predictions."""
    old: Tensor | None = None
    for i in range(len(sigmas) - 1):
        x0 = denoise(x, sigmas[i])
        if sigmas[i + 1] == 0:
            x = x0
        else:
            h = (sigmas[i] / sigmas[i + 1]).log()
            ahead = x0
            if old is not None:
                r = (sigmas[i - 1] / sigmas[i]).log() / h
                ahead = x0 + (x0 - old) / (2 * r)
            x = (sigmas[i + 1] / sigmas[i]) * x - torch.expm1(-h) * ahead
        old = x0
        if on_step:
            on_step(i, x)
    return x


@solver("one model call a step, and new noise after it", flow=False, adds_noise=True)
def euler_ancestral(
    denoise: Denoise, x: Tensor, sigmas: Tensor, on_step: OnStep | None, noise_sampler: NoiseSampler
) -> Tensor:
    """Ancestral sampling with Euler steps, eta = 1, for eps and v models (Song et al., 2021, as k-diffusion has it).

    Each step goes below the next noise level and adds noise to reach it.
    """
    for i in range(len(sigmas) - 1):
        sigma, sigma_next = sigmas[i], sigmas[i + 1]
        x0 = denoise(x, sigma)
        up = (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2).sqrt()
        down = (sigma_next**2 - up**2).sqrt()
        x = x0 + (x - x0) * down / sigma
        if sigma_next > 0:
            x = x + up * noise_sampler(sigma, sigma_next)
        if on_step:
            on_step(i, x)
    return x


@solver("second order with a corrector, from one model call a step", flow=False)
def unipc(denoise: Denoise, x: Tensor, sigmas: Tensor, on_step: OnStep | None = None) -> Tensor:
    """UniPC-2 with B(h) = exp(h) - 1 for eps and v models (Zhao et al., 2023, Algorithms 1 and 2, data prediction).

    The call at a step's end also corrects the point at which it was made.
    """
    lambdas = -sigmas.log()  # half the log-SNR of x / alpha
    x0s: list[Tensor] = []
    before = x
    for i in range(len(sigmas) - 1):
        x0 = denoise(x, sigmas[i])
        if i > 0:
            x = _unipc_step(before, x0s, lambdas[: i + 1], sigmas, corrected=x0)
        x0s = [*x0s[-1:], x0]
        before = x
        x = x0 if sigmas[i + 1] == 0 else _unipc_step(x, x0s, lambdas[: i + 2], sigmas)
        if on_step:
            on_step(i, x)
    return x


def _unipc_step(
    x: Tensor, x0s: list[Tensor], lambdas: Tensor, sigmas: Tensor, corrected: Tensor | None = None
) -> Tensor:
    """From x at the last noise level but one to the last, by the predictions there and before, [1 or 2].

    `corrected` is the prediction at the end, for the corrector.
    """
    end = len(lambdas) - 1
    h = lambdas[end] - lambdas[end - 1]
    phi_1 = torch.expm1(-h)
    difference: Tensor | float = 0.0
    if len(x0s) == 1:
        if corrected is not None:
            difference = 0.5 * (corrected - x0s[-1])
    else:
        ratio = (lambdas[end - 2] - lambdas[end - 1]) / h
        slope = (x0s[-2] - x0s[-1]) / ratio
        if corrected is None:
            difference = 0.5 * slope
        else:
            # Weights that make the step exact for predictions quadratic in lambda.
            phi_2 = phi_1 / -h - 1
            phi_3 = phi_2 / -h - 0.5
            b_1, b_2 = phi_2 / phi_1, 2 * phi_3 / phi_1
            w_slope = (b_1 - b_2) / (1 - ratio)
            difference = w_slope * slope + (b_1 - w_slope) * (corrected - x0s[-1])
    return (sigmas[end] / sigmas[end - 1]) * x - phi_1 * (x0s[-1] + difference)
