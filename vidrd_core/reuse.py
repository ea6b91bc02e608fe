"""Reuse and Diffuse: how a clip takes over the last one's noise and denoising trajectory (arXiv 2309.03549, 4.3).

N frames a clip, M prompt frames, T steps; i numbers clips, j frames. z_T is the initial noise.

    FNR   z_T[i, j] = z_T[i-1, N-1-j]
    PNS   j < M: as FNR; else rho z_T[i-1, N-1-j] + eps,
          rho = alpha / sqrt(1 + alpha^2), eps ~ N(0, 1 / (1 + alpha^2))
    DSG   z_{t-1}[i, j] = z_{t-1}[i-1, N-1-j] while t > (1 - beta) T + beta T j / M, else the solver's step

DSG needs no sampler of its own. A prompt frame starts from the old frame's very noise, so a solver that is given the
old *denoised predictions* for it walks the old trajectory again, exactly, if it is deterministic: as long as a frame
is led its z_t is the old one's. Once it is not, a solver that looks back (dpmpp_2m) looks back at old predictions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

LARGEST_ALPHA = 1e6  # beyond it nothing new is left in a float32
CHOICES: dict[str, tuple[str, ...]] = {
    "order": ("mirror", "forward"),
    "noise": ("pns", "fresh", "shuffle", "lowpass"),
    "release": ("hard", "soft"),
    "loop": ("none", "keep", "close"),
}
SOFT_CUT = 0.25  # of the highest spatial frequency: what a soft release leads on


def is_whole(value: object) -> bool:
    """An int, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """An int or a float, and no bool."""
    return isinstance(value, float) or is_whole(value)


@dataclass(frozen=True)
class ReuseSettings:
    """How much is reused; the defaults are the paper's.

    `order` "mirror" is the paper's: a clip begins as the last one run backwards. "forward", which is ours, takes
    the last M frames over in time order (new frame j from old frame N-M+j), replays them to the end and lets the
    video go on after them, so beta has no part in it.

    `noise` is where the other frames' noise comes from: "pns", the paper's; "fresh", new; "shuffle", as pns from
    old frames in any order; "lowpass", old at low frequencies, new at high ones (`vidrd_core.beyond`).

    `release` "hard" is the paper's: a frame is led, then it is not. "soft" leads the low spatial frequencies of its
    prediction on for as long again, ever less.

    `drift` draws the statistics of what a clip predicts towards those of the first clip: 0 not at all, 1 wholly.

    `loop` "keep" keeps how the first clip began, so that a last clip can "close" the loop: it ends where the first
    clip begins.

    `head` is for models whose first latent stands for a single picture and each other one for several: so many
    frames are made anew before the prompt frames of a forward clip, and not shown.

    Raises ValueError for what cannot be.
    """

    prompt_frames: int = 4  # M
    alpha: float = 4.0
    beta: float = 0.4
    order: Literal["mirror", "forward"] = "mirror"
    noise: Literal["pns", "fresh", "shuffle", "lowpass"] = "pns"
    release: Literal["hard", "soft"] = "hard"
    drift: float = 0.0
    loop: Literal["none", "keep", "close"] = "none"
    head: int = 0

    def __post_init__(self) -> None:
        if not is_whole(self.prompt_frames) or self.prompt_frames < 0:
            raise ValueError(f"prompt_frames (M) is {self.prompt_frames!r}, expected a whole number, 0 or more")
        if not (is_number(self.alpha) and 0 <= self.alpha <= LARGEST_ALPHA):
            raise ValueError(f"alpha is {self.alpha!r}, expected a number from 0 to {LARGEST_ALPHA:g}")
        if not (is_number(self.beta) and 0 <= self.beta <= 1):
            raise ValueError(f"beta is {self.beta!r}, expected a number from 0 to 1")
        if not (is_number(self.drift) and 0 <= self.drift <= 1):
            raise ValueError(f"drift is {self.drift!r}, expected a number from 0 to 1")
        if not is_whole(self.head) or self.head < 0:
            raise ValueError(f"head is {self.head!r}, expected a whole number, 0 or more")
        for name, known in CHOICES.items():
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name} is {value!r}, expected one of {', '.join(known)}")

    def check_frames(self, frames: int) -> None:
        """Raise ValueError unless M < N, and room is left for what else a clip begins or ends with."""
        head = self.head if self.order == "forward" else 0
        ends = self.prompt_frames if self.loop == "close" else 0
        if head + self.prompt_frames + ends < frames:
            return
        more = f", of which it makes {head} anew before them" * (head > 0)
        more += ", and as many at its end, to close the loop" * (ends > 0)
        raise ValueError(
            f"prompt_frames (M) is {self.prompt_frames}, expected less than the {frames} frames of a clip (N){more}: "
            f"give a smaller M, or more frames"
        )

    def check_recorded(self, recorded: int) -> None:
        """Raise ValueError unless the last clip recorded M frames or more."""
        if self.prompt_frames > recorded:
            raise ValueError(
                f"prompt_frames (M) is {self.prompt_frames}, but the last clip recorded only its last {recorded} "
                f"frames: give {recorded} or less"
            )

    @property
    def repeated_frames(self) -> int:
        """How many frames at the start of an extending clip were shown already."""
        return self.first_prompt + self.prompt_frames if self.order == "forward" else 0

    @property
    def first_prompt(self) -> int:
        """The number of the first prompt frame in an extending clip."""
        return self.head if self.order == "forward" else 0

    @property
    def closing_frames(self) -> int:
        """How many frames at the end of this clip are the first clip's own, and not shown again."""
        return self.prompt_frames if self.loop == "close" and self.order == "forward" else 0

    @property
    def takes_over(self) -> bool:
        """Whether anything is reused at all."""
        return self.prompt_frames > 0 or self.alpha > 0

    def source(self, frames: int) -> list[int]:
        """For each frame of the new clip, the frame of the old one whose noise it takes over."""
        if self.order == "mirror":
            return list(range(frames - 1, -1, -1))
        return [(frames - self.prompt_frames - self.head + j) % frames for j in range(frames)]

    def numbers(self, frames: int, before: list[int] | None) -> list[int]:
        """What each frame of a clip is told of its moment: a reused frame keeps its number with its noise."""
        if before is None or not self.takes_over:
            return list(range(frames))
        return [before[j] for j in self.source(frames)]

    def closing(self, frames: int, steps: int) -> list[tuple[int, int, int]]:
        """What a closing clip's last frames take over: (frame, the first clip's frame, for how many steps).

        Not from its head, which stands for less time than the frames here do.
        """
        counts = enumerate(self.replay_counts(steps))
        if self.order == "mirror":  # as it began, run backwards
            return [(frames - 1 - j, j, count) for j, count in counts]
        return [(frames - self.prompt_frames + j, self.head + j, count) for j, count in counts]

    @property
    def opening_frames(self) -> int:
        """How many of the first clip's first frames are kept, if a loop is to be closed."""
        return self.first_prompt + self.prompt_frames

    def recorded_frames(self, frames: int) -> int:
        """How many of a clip's last frames are recorded: half of them, for clips that may ask for more, or M."""
        return min(frames, max(self.prompt_frames, frames // 2, 1))

    def replay_counts(self, steps: int) -> list[int]:
        """For each prompt frame, during how many of the first steps it follows the old clip."""
        if self.order == "mirror":
            return replay_counts(self.prompt_frames, self.beta, steps)
        return [steps] * self.prompt_frames


def revert_noise(noise: Tensor, frame_dim: int = 2) -> Tensor:
    """Frame-level Noise Reversion (FNR): z_T, [B, C, N, h, w] or with its N frames elsewhere, in reverse order."""
    return noise.flip(frame_dim)


def past_dependent_noise(
    noise: Tensor, settings: ReuseSettings, generator: torch.Generator | None, frame_dim: int = 2
) -> Tensor:
    """Past-dependent Noise Sampling (PNS): the z_T of a clip from that of the last one, both of unit variance.

    `noise` is [B, C, N, h, w], or has its N frames at `frame_dim`; so has what comes back. `generator` is one of the
    CPU; None is torch's own. Raises ValueError unless M < N.
    """
    frames = noise.shape[frame_dim]
    settings.check_frames(frames)
    source = torch.tensor(settings.source(frames), device=noise.device)
    reused = noise.index_select(frame_dim, source)
    # Drawn on the CPU, so that a seed means the same noise on every device.
    eps = torch.randn(noise.shape, generator=generator, dtype=torch.float32).to(noise)
    level = 1 / math.hypot(1, settings.alpha)
    mixed = settings.alpha * level * reused + level * eps
    prompt = is_prompt(settings, frames).to(noise.device)
    shape = [1] * noise.ndim
    shape[frame_dim] = frames
    return torch.where(prompt.view(shape), reused, mixed)


def is_prompt(settings: ReuseSettings, frames: int) -> Tensor:
    """Whether each frame of an extending clip is a prompt frame, [N]."""
    place = torch.arange(frames) - settings.first_prompt
    return (place >= 0) & (place < settings.prompt_frames)


def lowpass(x: Tensor, dims: Sequence[int], cut: float) -> Tensor:
    """The share of x below about `cut` of the highest frequency along `dims`: Gaussian, 1 at frequency 0."""
    far: Tensor | float = 0.0
    for dim in dims:
        frequency = torch.fft.fftfreq(x.shape[dim], 0.5, device=x.device)
        far = far + frequency.square().view([-1 if d == dim % x.ndim else 1 for d in range(x.ndim)])
    kept = torch.exp(-torch.as_tensor(far) / (2 * cut**2))
    return torch.fft.ifftn(torch.fft.fftn(x.float(), dim=tuple(dims)) * kept, dim=tuple(dims)).real.to(x.dtype)


def replay_counts(prompt_frames: int, beta: float, steps: int) -> list[int]:
    """n_j = ceil(beta T (1 - j / M)): the number of t in T .. 1 with t > (1 - beta) T + beta T j / M."""
    # Rounded first, as 0.4 * 50 * (1 - 1 / 4) comes out a little above 15.
    return [math.ceil(round(beta * steps * (1 - j / prompt_frames), 9)) for j in range(prompt_frames)]


def steps_of_calls(levels: Tensor, sigmas: Tensor) -> list[int]:
    """The step to which each call of a model belonged, by the noise level of the calls [calls] and steps [T + 1].

    A step begins with the last call at its own level: those before it there looked ahead, as Heun's second one.
    """
    begins = [0]
    for sigma in sigmas[1:-1].tolist():
        there = ((levels - sigma).abs() <= 1e-4 * sigma).nonzero().flatten().tolist()
        later = (levels < sigma).nonzero().flatten().tolist()  # for a solver that makes no call at this very level
        begins.append(there[-1] if there else later[0] if later else len(levels))
    return [sum(begin <= call for begin in begins) - 1 for call in range(len(levels))]


@dataclass(frozen=True)
class Lead:
    """One frame that follows an old one: for `steps` steps wholly, and for `soft` more in its low frequencies."""

    frame: int
    record: Tensor  # the old frame's predictions, [calls, ...] without the frames' dimension
    steps: int
    soft: int = 0

    def weight(self, step: int) -> float:
        """How much of the low frequencies follows, 1 while all do."""
        return 1.0 if step < self.steps else max(0.0, 1 - (step - self.steps + 1) / (self.soft + 1))


class StagedGuidance:
    """Denoising with Staged Guidance, as a wrapper around `denoise(x, sigma) -> x0` that also records.

    Prompt frame j is given the old clip's prediction until step n_j. `record` [calls, ..., R frames, ...] are the
    predictions of the old clip's last R frames at each call, in time order; None for a first clip. `opening` is that
    of the first clip's first frames, for a clip that closes a loop. `on_step` must be told when a step ends, for a
    solver may call the denoiser several times a step. `correct(x0, share of the steps done)` may change predictions
    before frames are led, in place.

    The old clip's calls are followed one by one, unless `levels` [calls] says at which sigma each was made: then, for
    another schedule or solver, each call is given what the old clip had at the nearest one, which is approximate.
    """

    def __init__(
        self,
        denoise: Callable[..., Tensor],
        settings: ReuseSettings,
        steps: int,
        record: Tensor | None = None,
        keep: int = 0,
        frame_dim: int = 2,
        levels: Tensor | None = None,
        frames: int = 0,
        opening: Tensor | None = None,
        correct: Callable[[Tensor, float], None] | None = None,
    ) -> None:
        self.denoise, self.steps, self.keep, self.frame_dim = denoise, steps, keep, frame_dim
        self.levels, self.correct = levels, correct
        self.keep_opening = settings.opening_frames if record is None and settings.loop == "keep" else 0
        self.leads: list[Lead] = []
        soft = settings.release == "soft"

        def lead(frame: int, record: Tensor, source: int, count: int) -> None:
            old = record.select(frame_dim + 1, source)
            self.leads.append(Lead(frame, old, count, min(count, steps - count) if soft else 0))

        self.sources: list[int] = []
        if record is not None:
            recorded, first = record.shape[frame_dim + 1], settings.first_prompt
            settings.check_recorded(recorded)
            # Record frame r is old frame N - R + r; `source` of a clip of R frames gives r itself.
            self.sources = settings.source(recorded)[first : first + settings.prompt_frames]
            for j, (source, count) in enumerate(zip(self.sources, settings.replay_counts(steps), strict=True)):
                lead(first + j, record, source, count)
        if opening is not None:
            for frame, source, count in settings.closing(frames, steps):
                lead(frame, opening, source, count)
        self.kept: list[Tensor] = []
        self.kept_opening: list[Tensor] = []
        self.sigmas: list[float] = []
        self.calls = 0
        self.step = 0

    @property
    def counts(self) -> list[int]:
        """For each prompt frame, during how many of the first steps it follows the old clip."""
        return [lead.steps for lead in self.leads[: len(self.sources)]]

    def __call__(self, x: Tensor, sigma: Tensor, **options: Any) -> Tensor:
        """x [B, C, N, h, w] at noise level sigma, a scalar or [B] of the same; options are the denoiser's."""
        return self.follow(self.denoise(x, sigma, **options), sigma)

    def follow(self, x0: Tensor, sigma: Tensor) -> Tensor:
        """The predictions of one call, which are recorded, with those for frames that are led in their place."""
        sigma = sigma.flatten()[0]
        led = [lead for lead in self.leads if lead.weight(self.step) > 0]
        if led or self.correct:
            x0 = x0.clone()  # it is the denoiser's
        if self.correct:
            self.correct(x0, (self.step + 1) / self.steps)
        for lead in led:
            frame, old = x0.select(self.frame_dim, lead.frame), self.recorded(lead.record, sigma).to(x0)
            if self.step < lead.steps:
                frame.copy_(old)
            else:
                frame.add_(lead.weight(self.step) * lowpass(old - frame, (-2, -1), SOFT_CUT))
        self.sigmas.append(float(sigma))
        if self.keep:
            frames = x0.shape[self.frame_dim]
            self.kept.append(x0.narrow(self.frame_dim, frames - self.keep, self.keep).detach().cpu().clone())
        if self.keep_opening:
            self.kept_opening.append(x0.narrow(self.frame_dim, 0, self.keep_opening).detach().cpu().clone())
        self.calls += 1
        return x0

    def recorded(self, record: Tensor, sigma: Tensor) -> Tensor:
        """The old clip's prediction for a frame at this call, of all its predictions [calls, ...]."""
        if self.levels is not None:
            return record[int((self.levels.log() - math.log(float(sigma))).abs().argmin())]
        if self.calls >= len(record):
            raise ValueError(
                f"the solver calls the model more often than the {len(record)} times of the last clip: "
                f"use the same solver and steps"
            )
        return record[self.calls]

    def on_step(self, i: int, x: Tensor) -> None:
        """Step i has ended."""
        self.step = i + 1

    def new_record(self) -> Tensor:
        """The predictions of this clip's last `keep` frames at every call, [calls, ..., keep, ...]."""
        return torch.stack(self.kept)

    def new_opening(self) -> Tensor:
        """The predictions of its first frames, kept to close a loop; of none, if no loop is."""
        if self.kept_opening:
            return torch.stack(self.kept_opening)
        return self.new_record().narrow(self.frame_dim + 1, 0, 0)

    def new_levels(self) -> Tensor:
        """The sigma of each call, [calls]."""
        return torch.tensor(self.sigmas)
