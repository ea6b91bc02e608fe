"""Noise schedules, denoisers and solvers.

One contract, as in k-diffusion: `denoise(x, sigma) -> x0`. x is "variance exploding", x0 + sigma * noise, for eps and
v models, and (1 - sigma) x0 + sigma * noise for flow models.

A solver is one function decorated with `solver`, which puts it into `SOLVERS`; settings, the command line and tests
take it from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from vidrd_core.io.digests import NOT_IN_DIGESTS

LAST_STEP = 2.0**-8  # by which a last step goes down that, in diffusers, only clips x0
LEAST_ALPHA = 2.0**-24  # of pure noise: a noise level of 4096
SQUARED_COSINE_OFFSET, LARGEST_BETA = 0.008, 0.999  # of Nichol and Dhariwal's schedule

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
        seed: The seed of the video. Negative ones, as ComfyUI's Int node makes them, count down from 2^64.
        index: The clip's number, from 0.

    Returns:
        A CPU generator, so that a seed gives the same noise on every device.
    """
    (state,) = np.random.SeedSequence([seed % 2**64, index]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state) >> 1)


def step_noise_generator(seed: int, index: int) -> torch.Generator:
    """The CPU generator of the noise that solvers add within a clip; independent of `clip_generator`'s."""
    return clip_generator(clip_generator(seed, index).initial_seed(), 0)


_CHOICES = {
    "prediction": ("eps", "v", "flow"),
    "schedule": ("scaled_linear", "linear", "squaredcos_cap_v2"),
    "timestep_spacing": ("even", "leading", "trailing", "linspace"),
    "final_sigmas_type": ("zero", "sigma_min"),
}


# Of DiffusionConfig, which a file may claim: far more than any model has, and few enough to be allocated.
LARGEST = {"train_steps": 100_000, "frames": 100_000, "size": 65_536}


@dataclass(frozen=True)
class DiffusionConfig:
    """How a UNet was trained to denoise.

    Args:
        prediction: What it predicts: the noise (eps), the velocity (v), or the velocity of a flow model (flow).
        schedule: How beta rises over the training timesteps: linearly, as the square of a linear rise, or so that
            alpha falls as the square of a cosine (Nichol and Dhariwal, 2021).
        beta_start: Beta of the first timestep.
        beta_end: Beta of the last timestep, below 1.
        train_steps: Number of training timesteps.
        zero_terminal_snr: Whether the last timestep is pure noise (Lin et al., 2024); not with eps.
        trained_betas: Beta of each training timestep, in place of a schedule; empty for none.
        timestep_spacing: At which timesteps it is sampled: "even" is this package's own rule; "leading", "trailing"
            and "linspace" are those of diffusers' scheduler of the solver (`Solver.scheduler`).
        steps_offset: What "leading" adds to the timesteps.
        set_alpha_to_one: Whether ddim ends at clean latents, or at the noise level of the first timestep, as Stable
            Diffusion's own scheduler does.
        final_sigmas_type: Where dpmpp_2m and unipc end: at clean latents ("zero") or at the noise level of the first
            timestep ("sigma_min").
        clip_sample_range: Within which ddim and heun clip predictions of x0, as diffusers' do if their scheduler
            file says so; 0 for no clipping.
        frames: Frames (latents) of a clip, N.
        size: Width and height in pixels.
        cfg: The guidance scale with which it is best.

    Raises:
        ValueError: A setting is out of range, or they do not fit each other.
    """

    prediction: Literal["eps", "v", "flow"] = "eps"
    schedule: Literal["scaled_linear", "linear", "squaredcos_cap_v2"] = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    train_steps: int = 1000
    zero_terminal_snr: bool = False
    frames: int = 8
    size: int = 256
    cfg: float = 10.0
    trained_betas: tuple[float, ...] = ()
    # Of sampling alone: they are not of a model's signature, as a state has the noise levels themselves.
    timestep_spacing: Literal["even", "leading", "trailing", "linspace"] = field(
        default="even", metadata=NOT_IN_DIGESTS
    )
    steps_offset: int = field(default=1, metadata=NOT_IN_DIGESTS)
    set_alpha_to_one: bool = field(default=True, metadata=NOT_IN_DIGESTS)
    final_sigmas_type: Literal["zero", "sigma_min"] = field(default="zero", metadata=NOT_IN_DIGESTS)
    clip_sample_range: float = field(default=0.0, metadata=NOT_IN_DIGESTS)

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(known)}")
        for name, most in LARGEST.items():
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 to {most}")
        if not math.isfinite(self.cfg):
            raise ValueError(f"cfg is {self.cfg}, expected a finite number")
        if self.trained_betas and len(self.trained_betas) != self.train_steps:
            raise ValueError(f"there are {len(self.trained_betas)} trained_betas, expected {self.train_steps}: one "
                             "for each of train_steps")  # fmt: skip
        if not all(0 < beta < 1 for beta in self.trained_betas):
            raise ValueError("trained_betas has a value that is not between 0 and 1")
        if self.timestep_spacing == "leading" and not 0 <= self.steps_offset < self.train_steps:
            raise ValueError(f"steps_offset is {self.steps_offset}, expected 0 to {self.train_steps - 1}")
        if not 0 <= self.clip_sample_range < math.inf:
            raise ValueError(f"clip_sample_range is {self.clip_sample_range}, expected a finite number of 0 or more")
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
    def betas(self) -> Tensor:
        """The variance of the noise that each timestep adds, [train_steps]."""
        c = self.config
        if c.trained_betas:
            return torch.tensor(c.trained_betas, dtype=torch.float32)
        if c.schedule == "squaredcos_cap_v2":
            times = torch.arange(c.train_steps + 1, dtype=torch.float64) / c.train_steps
            alphas = torch.cos((times + SQUARED_COSINE_OFFSET) / (1 + SQUARED_COSINE_OFFSET) * math.pi / 2) ** 2
            return (1 - alphas[1:] / alphas[:-1]).clamp(max=LARGEST_BETA).float()
        power = 0.5 if c.schedule == "scaled_linear" else 1.0
        betas = torch.linspace(c.beta_start**power, c.beta_end**power, c.train_steps, dtype=torch.float32)
        return betas ** (1 / power)

    @property
    def alphas_cumprod(self) -> Tensor:
        """The product of (1 - beta) up to each timestep, [train_steps]."""
        table = (1 - self.betas).cumprod(dim=0)
        if not self.config.zero_terminal_snr:
            return table
        # Shifted so that the last is 0 and scaled so that the first stays (Lin et al., 2024, Algorithm 1); almost 0,
        # as its noise level must be a number.
        roots = table.sqrt()
        roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
        return roots.square().clamp(min=LEAST_ALPHA)

    def timestep(self, sigma: Tensor) -> Tensor:
        """The (fractional) timestep of a noise level; of pure noise the last one."""
        if self.config.prediction == "flow":
            return sigma * self.config.train_steps - 1
        logs, target = self.table.log(), sigma.to(self.table).log()
        low = (torch.searchsorted(logs, target, right=True) - 1).clamp(0, len(logs) - 2)
        share = ((target - logs[low]) / (logs[low + 1] - logs[low])).clamp(0, 1)
        return low + share.nan_to_num(1.0)  # several of the last levels may be that of pure noise

    def sigmas(self, steps: int, solver: str = "ddim") -> Tensor:
        """Descending noise levels of `steps` steps, and where they end: [steps + 1].

        They end at 0, or where `set_alpha_to_one` and `final_sigmas_type` say so for the solver at the noise level of
        the first timestep; `latents_of` then gives the latents.

        Args:
            steps: The number of steps, 1 to train_steps.
            solver: One of `SOLVERS`.

        Returns:
            [steps + 1], float32.

        Raises:
            ValueError: `steps` is out of range, or "leading" puts a timestep beyond the last one.
        """
        total = self.config.train_steps
        if not 1 <= steps <= total:
            raise ValueError(f"steps is {steps}, expected 1 to {total}")
        if self.config.prediction == "flow":
            return torch.linspace(1, 0, steps + 1)
        scheduler = SOLVERS[solver].scheduler
        timesteps = self._timesteps(steps, scheduler)
        if timesteps[0] > total - 1:
            raise ValueError(
                f"steps is {steps}, and with steps_offset {self.config.steps_offset} the first is at timestep "
                f"{timesteps[0]:g}, expected {total - 1} at most: give fewer steps"
            )
        low = timesteps.floor().long()
        timesteps = timesteps.to(self.table)
        here, above = self.table[low], self.table[(low + 1).clamp(max=total - 1)]
        levels = torch.where(timesteps == low, here, here + (timesteps - low) * (above - here))
        c = self.config
        ends_noisy = not c.set_alpha_to_one if scheduler == "DDIM" else c.final_sigmas_type == "sigma_min"
        ends_noisy = ends_noisy and scheduler in ("DDIM", "DPMSolverMultistep", "UniPCMultistep")
        end = self.table[:1] if ends_noisy else torch.zeros(1)
        if scheduler == "DDIM" and c.clip_sample_range and end == levels[-1]:
            end = end * (1 - LAST_STEP)
        return torch.cat([levels, end])

    def _timesteps(self, steps: int, scheduler: str) -> Tensor:
        """The descending timesteps of `steps` steps [steps], as diffusers' scheduler spaces them.

        "even" has the timesteps 1, 1 + k, 1 + 2k, ... with k = train_steps / steps, rounded down each: those of SD's
        own DDIM where `steps` divides `train_steps`; where it does not, SD ("leading") rounds k down and its steps
        begin less noisy (30: at 958, these at 967). Few steps begin well below the noisiest timestep: 50 at 981 of
        999, 4 at 751. With a zero terminal SNR it begins at the noisiest one, as such models were trained to.
        """
        total, spacing = self.config.train_steps, self.config.timestep_spacing
        # Multistep solvers space one timestep more, the last of which the last step ends at.
        count = steps + (scheduler in ("DPMSolverMultistep", "UniPCMultistep"))
        if spacing == "linspace":
            spaced = torch.linspace(0, total - 1, count, dtype=torch.float64).flip(0)[:steps]
            return spaced if scheduler in ("Heun", "EulerAncestral") else spaced.round()
        if spacing == "leading":
            return (torch.arange(count).flip(0)[:steps] * (total // count) + self.config.steps_offset).double()
        if spacing == "trailing" or self.config.zero_terminal_snr:
            return (total - torch.arange(steps, dtype=torch.float64) * (total / steps)).round() - 1
        return (torch.arange(steps) * total // steps + (steps < total)).flip(0).double()

    def as_diffusers(self, denoise: Denoise, sigmas: Tensor, solver: str) -> Denoise:
        """A denoiser with which ddim and heun take the steps of diffusers' DDIM and Heun, whatever their settings.

        Heun clips x0 where the settings say so.

        diffusers' DDIM steps from timestep t to t - train_steps // steps and then denoises at its next timestep. For
        "linspace", and for "trailing" if `steps` does not divide `train_steps`, these are two noise levels, between
        which the latents keep variance 1. Where it clips x0, it keeps the noise of the unclipped prediction. Only
        predictions are changed, so replaying them stays exact.

        Args:
            denoise: `denoise(x, sigma) -> x0`.
            sigmas: Of `sigmas`, [steps + 1].
            solver: The solver's name.

        Returns:
            `denoise` itself, unless the solver is one of the two and clips, or is ddim at levels of its own.
        """
        steps, spacing, clip = len(sigmas) - 1, self.config.timestep_spacing, self.config.clip_sample_range
        keeps_levels = spacing in ("even", "leading")
        if self.config.prediction == "flow":
            return denoise
        if solver == "heun" and clip:
            return lambda x, sigma: denoise(x, sigma).clamp(-clip, clip)
        if solver != "ddim" or (keeps_levels and not clip):
            return denoise
        levels = sigmas[1:].clone()
        if not keeps_levels:
            reached = self._timesteps(steps, "DDIM").long() - self.config.train_steps // steps
            levels = torch.where(reached >= 0, self.table[reached.clamp(min=0)], sigmas[-1].cpu()).to(sigmas)
        if levels[-1] == sigmas[-1] > 0:  # which may be a little below, so that it can be reached
            levels[-1] = self.table[0]

        def stepped(x: Tensor, sigma: Tensor) -> Tensor:
            x0 = denoise(x, sigma)
            step = int((sigmas[:-1] - sigma).abs().argmin())
            level, end = levels[step], sigmas[step + 1]
            if level == end and not clip:
                return x0
            clean = x0.clamp(-clip, clip) if clip else x0
            there = (clean + level / sigma * (x - x0)) * ((1 + end**2) / (1 + level**2)).sqrt()
            share = end / sigma
            return (there - share * x) / (1 - share)

        return stepped

    def start(self, noise: Tensor, sigma: Tensor, solver: str = "ddim") -> Tensor:
        """Unit noise as the x from which a solver starts, of variance 1 + sigma^2, or of sigma^2 for flow models.

        It is sigma^2, too, where diffusers has it so: for Heun and EulerAncestral with "linspace" or "trailing".
        """
        plain = self.config.timestep_spacing in ("linspace", "trailing")
        plain = plain and SOLVERS[solver].scheduler in ("Heun", "EulerAncestral")
        return noise * sigma if plain or self.config.prediction == "flow" else noise * (1 + sigma**2).sqrt()

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


def latents_of(x: Tensor, sigmas: Tensor) -> Tensor:
    """The latents of variance 1 where a solver ended, from its x, of any shape, and the noise levels [T + 1]."""
    return x / (1 + sigmas[-1] ** 2).sqrt()


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
    """A solver as `SOLVERS` holds it: called as `solver(denoise, x, sigmas, on_step, noise_sampler) -> x`.

    Args:
        name: Its name in settings.
        function: The decorated function.
        about: A few words about it for the command's help.
        scheduler: The class in diffusers that is this solver, without "Scheduler", whose timesteps it takes.
        flow: Whether it also solves flow models.
        adds_noise: Whether it adds noise between steps, so that its function takes a `noise_sampler`.
    """

    name: str
    function: Callable[..., Tensor]
    about: str
    scheduler: str
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
            sigmas: The noise levels, falling to 0 or nearly so, [T + 1].
            on_step: `on_step(i, x)`, called at the end of each step.
            noise_sampler: The noise to add, for solvers that add some; by default torch's own.

        Returns:
            x at the last noise level; at 0 these are the clean latents z_0.
        """
        if not self.adds_noise:
            return self.function(denoise, x, sigmas, on_step)
        return self.function(denoise, x, sigmas, on_step, noise_sampler or (lambda *_: torch.randn_like(x)))


SOLVERS: dict[str, Solver] = {}
"""The solvers by name; functions decorated with `solver` are here."""


def solver(
    about: str, scheduler: str, *, flow: bool = True, adds_noise: bool = False
) -> Callable[[Function], Function]:
    """A decorator that puts a solver into `SOLVERS` by its function's name; arguments are those of `Solver`."""

    def register(function: Function) -> Function:
        name, without_gradients = function.__name__, torch.no_grad()(function)
        SOLVERS[name] = Solver(name, without_gradients, about, scheduler, flow, adds_noise)
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


@solver("one model call a step", "DDIM")
def ddim(denoise: Denoise, x: Tensor, sigmas: Tensor, on_step: OnStep | None = None) -> Tensor:
    """DDIM with eta = 0 (Song et al., 2021), which is Euler's method in sigma."""
    for i in range(len(sigmas) - 1):
        d = (x - denoise(x, sigmas[i])) / sigmas[i]
        x = x + d * (sigmas[i + 1] - sigmas[i])
        if on_step:
            on_step(i, x)
    return x


@solver("two model calls a step", "Heun")
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


@solver("second order from one model call a step", "DPMSolverMultistep", flow=False)
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
            if old is not None and not _is_last_of_few(i, sigmas):
                r = (sigmas[i - 1] / sigmas[i]).log() / h
                ahead = x0 + (x0 - old) / (2 * r)
            x = (sigmas[i + 1] / sigmas[i]) * x - torch.expm1(-h) * ahead
        old = x0
        if on_step:
            on_step(i, x)
    return x


def _is_last_of_few(i: int, sigmas: Tensor) -> bool:
    """Whether step i is the last one of fewer than 15 steps, which diffusers takes in first order."""
    return i == len(sigmas) - 2 and i < 14


@solver("one model call a step, and new noise after it", "EulerAncestral", flow=False, adds_noise=True)
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


@solver("second order with a corrector, from one model call a step", "UniPCMultistep", flow=False)
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
        # The last step is of first order, as in diffusers.
        known = x0s[-1:] if i == len(sigmas) - 2 else x0s
        x = x0 if sigmas[i + 1] == 0 else _unipc_step(x, known, lambdas[: i + 2], sigmas)
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
