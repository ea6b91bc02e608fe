"""Reuse and Diffuse: how a clip reuses the previous clip's initial noise and denoising trajectory.

Source: Gu et al., "Reuse and Diffuse: Iterative Denoising for Text-to-Video Generation", arXiv 2309.03549, 4.3.
N frames in a clip, M prompt frames, T denoising steps; i numbers clips, j frames. z_T is the initial noise::

    FNR   z_T[i, j] = z_T[i-1, N-1-j]
    PNS   j < M: as FNR; else rho z_T[i-1, N-1-j] + eps,
          rho = alpha / sqrt(1 + alpha^2), eps ~ N(0, 1 / (1 + alpha^2))
    DSG   z_{t-1}[i, j] = z_{t-1}[i-1, N-1-j] while t > (1 - beta) T + beta T j / M, else the solver's step

DSG needs no sampler of its own. A prompt frame starts from exactly the noise of the frame that it replays, so any
deterministic solver that is given the old *denoised predictions* (x0) for it reproduces the old trajectory exactly.
After the replay has ended, a multistep solver (dpmpp_2m) still looks back at the old predictions.
The released code replays one step less (`staging`): it overwrites latents at the start of steps 0 to n_j - 1.
Beyond the paper: `order` "forward", three more noise policies, a soft release, anchored statistics, closed loops.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from operator import attrgetter
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

LARGEST_ALPHA = 1e6  # beyond it float32 has no room for new noise
CHOICES: dict[str, tuple[str, ...]] = {
    "order": ("mirror", "forward"),
    "noise": ("pns", "fresh", "shuffle", "lowpass"),
    "release": ("hard", "soft"),
    "loop": ("none", "keep", "close"),
    "staging": ("paper", "released"),
}
OLD_NAMES = {"drift": "anchor", "head": "warmup_latents"}  # of settings: saved files and older code use them
SOFT_CUTOFF = 0.25  # of the highest spatial frequency: what a soft release keeps replaying
NOISE_CUTOFF = 0.25  # of the highest frequency in time and space: the old noise that "lowpass" keeps (as in FreeInit)

Class = TypeVar("Class", bound=type)


def is_whole(value: object) -> bool:
    """Whether a value is an int and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether a value is an int or a float and not a bool."""
    return isinstance(value, float) or is_whole(value)


def _accepts_old_names(kind: Class) -> Class:
    """Let a dataclass take settings by the names in OLD_NAMES, too, and be asked for them."""
    made = kind.__init__  # type: ignore[misc]

    @wraps(made)
    def init(self: Any, *args: Any, **given: Any) -> None:
        for old in sorted(OLD_NAMES.keys() & given.keys()):
            if (new := OLD_NAMES[old]) in given and len(given) <= len(fields(self)):  # dataclasses.replace gives more
                raise ValueError(f"{new} is given twice, also as {old}, its older name: leave {old} out")
            warnings.warn(f"{old} is now called {new}", DeprecationWarning, stacklevel=2)
            given[new] = given.pop(old)
        made(self, *args, **given)

    kind.__init__ = init  # type: ignore[misc]
    for old, new in OLD_NAMES.items():
        setattr(kind, old, property(attrgetter(new), doc=f"The older name of `{new}`."))
    return kind


@_accepts_old_names
@dataclass(frozen=True)
class ReuseSettings:
    """How much of the previous clip a clip reuses; the defaults are the paper's.

    The first sentence of each entry is also the help of the command's option.

    Args:
        prompt_frames: Prompt frames (M): frames of a clip that replay the previous one's; less than N.
        alpha: How much of the old noise the other frames keep (PNS): 0 none, 1 half, 4 nearly all. The highest value
            is `LARGEST_ALPHA`.
        beta: Share of the steps, 0 to 1, during which the first prompt frame replays (DSG); mirror order only.
        order: mirror: a clip begins as the previous one in reverse, as in the paper; forward: it continues in time
            order. Forward reuses the last M frames (new frame j from old frame N-M+j) and replays them through
            all steps; they are not shown twice.
        noise: Noise of the other frames: pns mixes old and new by alpha, as in the paper; fresh is new; shuffle takes
            the old frames in random order; lowpass keeps old low frequencies.
        release: hard: the replay of a frame ends at once, as in the paper; soft: its low frequencies are replayed
            for as many steps again, with a falling weight.
        anchor: How far brightness, colours and contrast are pulled towards those of the first clip, 0 to 1. That is,
            the statistics of the predictions, channel by channel. (Its older name is `drift`.)
        loop: keep: the video ends where it began; close: this clip ends where the first one began. For "close" all
            earlier clips need "keep", which records how the first clip began; `VidRD.stream` does both by itself.
        warmup_latents: Latents that are sampled before the prompt frames of a forward clip and not shown, for models
            whose first latent stands for a single frame and each other one for several. (Its older name is `head`.)
        staging: Steps of replay: n_j as in the paper, or n_j - 1. (Of mirror order; the released code has this.)

    Raises:
        ValueError: A setting is of the wrong type or out of range, or given by both of its names.
    """

    prompt_frames: int = 4
    alpha: float = 4.0
    beta: float = 0.4
    order: Literal["mirror", "forward"] = "mirror"
    noise: Literal["pns", "fresh", "shuffle", "lowpass"] = "pns"
    release: Literal["hard", "soft"] = "hard"
    anchor: float = 0.0
    loop: Literal["none", "keep", "close"] = "none"
    warmup_latents: int = 0
    staging: Literal["paper", "released"] = "paper"

    def __post_init__(self) -> None:
        if not is_whole(self.prompt_frames) or self.prompt_frames < 0:
            raise ValueError(f"prompt_frames (M) is {self.prompt_frames!r}, expected a whole number, 0 or more")
        if not (is_number(self.alpha) and 0 <= self.alpha <= LARGEST_ALPHA):
            raise ValueError(f"alpha is {self.alpha!r}, expected a number from 0 to {LARGEST_ALPHA:g}")
        for name in ("beta", "anchor"):
            if not (is_number(share := getattr(self, name)) and 0 <= share <= 1):
                raise ValueError(f"{name} is {share!r}, expected a number from 0 to 1")
        if not is_whole(self.warmup_latents) or self.warmup_latents < 0:
            raise ValueError(f"warmup_latents is {self.warmup_latents!r}, expected a whole number, 0 or more")
        for name, known in CHOICES.items():
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name} is {value!r}, expected one of {', '.join(known)}")

    def metadata(self) -> dict[str, Any]:
        """The settings as saved files hold them: two by older names, and `staging` only if it is not "paper"."""
        old = {new: name for name, new in OLD_NAMES.items()}
        names = [field.name for field in fields(self) if field.name != "staging" or self.staging != "paper"]
        return {old.get(name, name): getattr(self, name) for name in names}

    @classmethod
    def from_metadata(cls, values: Mapping[str, Any]) -> ReuseSettings:
        """Settings from a saved file: the default for what it lacks, without unknown names. Raises ValueError."""
        new = {OLD_NAMES.get(name, name): value for name, value in values.items()}
        return cls(**{field.name: new[field.name] for field in fields(cls) if field.name in new})

    def check_frames(self, frames: int) -> None:
        """Raise ValueError unless M < N and the clip has room for its warm-up and closing frames, too."""
        warmup, ends = self.first_prompt_frame, self.prompt_frames if self.loop == "close" else 0
        if warmup + self.prompt_frames + ends < frames:
            return
        more = f", of which {warmup} are sampled as a warm-up before them" * (warmup > 0)
        more += ", and as many at its end, to close the loop" * (ends > 0)
        raise ValueError(
            f"prompt_frames (M) is {self.prompt_frames}, expected less than the {frames} frames of a clip (N){more}: "
            f"give a smaller M, or more frames"
        )

    def check_recorded(self, recorded: int) -> None:
        """Raise ValueError unless the previous clip recorded M frames or more."""
        if self.prompt_frames > recorded:
            raise ValueError(
                f"prompt_frames (M) is {self.prompt_frames}, but the last clip recorded only its last {recorded} "
                f"frames: give {recorded} or less"
            )

    @property
    def repeated_frames(self) -> int:
        """How many frames at the start of an extending clip the previous clip has shown already."""
        return self.first_prompt_frame + self.prompt_frames if self.order == "forward" else 0

    @property
    def first_prompt_frame(self) -> int:
        """The index of the first prompt frame in an extending clip."""
        return self.warmup_latents if self.order == "forward" else 0

    @property
    def reuses_anything(self) -> bool:
        """Whether anything of the previous clip is reused."""
        return self.prompt_frames > 0 or self.alpha > 0

    def source_frames(self, frames: int) -> list[int]:
        """For each of the N frames of the new clip, the index of the old frame whose noise it reuses."""
        if self.order == "mirror":
            return list(range(frames - 1, -1, -1))
        return [(frames - self.prompt_frames - self.warmup_latents + j) % frames for j in range(frames)]

    def frame_positions(self, frames: int, previous: list[int] | None) -> list[int]:
        """Choose the position that is embedded for each frame.

        Args:
            frames: N.
            previous: The positions of the previous clip's frames [N]; None for a first clip.

        Returns:
            N positions; a frame that reuses noise keeps the position of the old frame.
        """
        if previous is None or not self.reuses_anything:
            return list(range(frames))
        return [previous[j] for j in self.source_frames(frames)]

    def closing(self, frames: int, steps: int) -> list[tuple[int, int, int]]:
        """What the last frames of a closing clip replay: (frame, frame of the first clip, number of steps).

        The first clip's warm-up latents are skipped: they span less time than the frames here do.
        """
        counts = enumerate(self.replay_counts(steps))
        if self.order == "mirror":  # its beginning, played backwards
            return [(frames - 1 - j, j, count) for j, count in counts]
        return [(frames - self.prompt_frames + j, self.warmup_latents + j, count) for j, count in counts]

    @property
    def first_clip_frames(self) -> int:
        """How many of the first clip's first frames are kept, if a loop is to be closed."""
        return self.first_prompt_frame + self.prompt_frames

    def recorded_frames(self, frames: int) -> int:
        """How many of a clip's last frames are recorded: M, or half of N for clips that may ask for more."""
        return min(frames, max(self.prompt_frames, frames // 2, 1))

    def replay_counts(self, steps: int) -> list[int]:
        """For each prompt frame, during how many of the first steps it replays the old frame."""
        if self.order == "mirror":
            return replay_counts(self.prompt_frames, self.beta, steps, self.staging)
        return [steps] * self.prompt_frames


def revert_noise(noise: Tensor, frame_dim: int = 2) -> Tensor:
    """Frame-level Noise Reversion (FNR): the frames of z_T in reverse order.

    Args:
        noise: z_T [B, C, N, h, w], or with its N frames at `frame_dim`.
        frame_dim: The dimension of the frames.

    Returns:
        A tensor like `noise`.

    Source:
        arXiv 2309.03549, section 4.3, FNR.

    Example:
        >>> revert_noise(torch.arange(3.0).view(1, 1, 3, 1, 1)).flatten().tolist()
        [2.0, 1.0, 0.0]
    """
    return noise.flip(frame_dim)


def past_dependent_noise(
    noise: Tensor, settings: ReuseSettings, generator: torch.Generator | None, frame_dim: int = 2
) -> Tensor:
    """Past-dependent Noise Sampling (PNS): the next clip's z_T from the previous clip's, both of unit variance.

    Args:
        noise: The previous clip's z_T [B, C, N, h, w], or with its N frames at `frame_dim`.
        settings: M, alpha and the order; `settings.noise` plays no part.
        generator: A CPU generator; None is torch's default one.
        frame_dim: The dimension of the frames.

    Returns:
        The next clip's z_T, a tensor like `noise`.

    Raises:
        ValueError: M is not less than N.

    Source:
        arXiv 2309.03549, section 4.3, PNS.

    Example:
        >>> old = torch.randn(1, 4, 8, 2, 2)
        >>> new = past_dependent_noise(old, ReuseSettings(prompt_frames=4), torch.Generator().manual_seed(0))
        >>> torch.equal(new[:, :, :4], revert_noise(old)[:, :, :4])
        True
    """
    reused, eps, prompt = _reused_and_new(noise, settings, generator, frame_dim)
    rho, share = _shares(settings.alpha)
    return torch.where(prompt, reused, rho * reused + share * eps)


def next_clip_noise(
    noise: Tensor,
    settings: ReuseSettings,
    generator: torch.Generator | None,
    frame_dim: int = 2,
    first_clip_noise: Tensor | None = None,
) -> Tensor:
    """The next clip's z_T from the previous clip's by `settings.noise`, of unit variance.

    Prompt frames reuse the old noise under every policy.

    Args:
        noise: The previous clip's z_T [B, C, N, h, w], or with its N frames at `frame_dim`.
        settings: The policy, M, alpha, the order, and whether this clip closes a loop.
        generator: A CPU generator; None is torch's default one.
        frame_dim: The dimension of the frames.
        first_clip_noise: z_T of the first clip's first frames [B, C, P, h, w], which a clip that closes a loop ends
            with.

    Returns:
        The next clip's z_T, a tensor like `noise`.

    Raises:
        ValueError: M is not less than N.
    """
    if settings.noise == "pns":
        new = past_dependent_noise(noise, settings, generator, frame_dim)
    else:
        reused, eps, prompt = _reused_and_new(noise, settings, generator, frame_dim)
        rho, share = _shares(settings.alpha)
        if settings.noise == "fresh":
            mixed = eps
        elif settings.noise == "shuffle":
            source, others = torch.tensor(settings.source_frames(noise.shape[frame_dim])), ~prompt.flatten().cpu()
            shuffled = source[others]
            source[others] = shuffled[torch.randperm(len(shuffled), generator=generator)]
            mixed = rho * noise.index_select(frame_dim, source.to(noise.device)) + share * eps
        else:
            mixed = _low_and_high(reused, eps, rho, (frame_dim, -2, -1))
        new = torch.where(prompt, reused, mixed)
    if first_clip_noise is not None and settings.loop == "close":
        for frame, source_frame, _ in settings.closing(noise.shape[frame_dim], 1):
            new.select(frame_dim, frame).copy_(first_clip_noise.select(frame_dim, source_frame))
    return new


def _shares(alpha: float) -> tuple[float, float]:
    """The factors of old and new noise, whose squares add up to 1."""
    new = 1 / math.hypot(1, alpha)
    return alpha * new, new


def _reused_and_new(
    noise: Tensor, settings: ReuseSettings, generator: torch.Generator | None, frame_dim: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The old noise in the new clip's order, as much new noise, and where prompt frames are, [1.., N, ..1]."""
    frames = noise.shape[frame_dim]
    settings.check_frames(frames)
    reused = noise.index_select(frame_dim, torch.tensor(settings.source_frames(frames), device=noise.device))
    # Drawn on the CPU, so that a seed means the same noise on every device.
    eps = torch.randn(noise.shape, generator=generator, dtype=torch.float32).to(noise)
    shape = [1] * noise.ndim
    shape[frame_dim] = frames
    index = torch.arange(frames) - settings.first_prompt_frame
    prompt = (index >= 0) & (index < settings.prompt_frames)
    return reused, eps, prompt.to(noise.device).view(shape)


def _low_and_high(old: Tensor, new: Tensor, rho: float, dims: tuple[int, ...]) -> Tensor:
    """Old noise at low frequencies, new noise at high ones; their powers add up to 1 at each frequency.

    FreeInit (Wu et al., 2024, eq. 5 to 7) weights them m and 1 - m, which loses power where both overlap.
    """
    impulse = torch.zeros_like(old[:1, :1] if 1 not in dims and 0 not in dims else old[:, :1])
    impulse[(0,) * impulse.ndim] = 1.0
    kept = rho * torch.fft.fftn(lowpass(impulse, dims, NOISE_CUTOFF), dim=dims).real
    added = (1 - kept.square()).clamp(min=0).sqrt()
    mixed = torch.fft.fftn(old, dim=dims) * kept + torch.fft.fftn(new, dim=dims) * added
    return torch.fft.ifftn(mixed, dim=dims).real.to(old.dtype)


def lowpass(x: Tensor, dims: Sequence[int], cutoff: float) -> Tensor:
    """A Gaussian low-pass filter of x along `dims`, with gain 1 at frequency 0.

    Its standard deviation is `cutoff` times the highest frequency.
    """
    distance: Tensor | float = 0.0
    for dim in dims:
        frequency = torch.fft.fftfreq(x.shape[dim], 0.5, device=x.device)
        distance = distance + frequency.square().view([-1 if d == dim % x.ndim else 1 for d in range(x.ndim)])
    kept = torch.exp(-torch.as_tensor(distance) / (2 * cutoff**2))
    return torch.fft.ifftn(torch.fft.fftn(x.float(), dim=tuple(dims)) * kept, dim=tuple(dims)).real.to(x.dtype)


def replay_counts(prompt_frames: int, beta: float, steps: int, staging: str = "paper") -> list[int]:
    """Count the steps during which each prompt frame j replays the old frame: n_j = ceil(beta T (1 - j / M)).

    Args:
        prompt_frames: M.
        beta: 0 to 1.
        steps: T.
        staging: "paper", or "released" for one step less, but not below 0.

    Returns:
        n_j of each of the M frames, 0 to T: the number of t in T .. 1 with t > (1 - beta) T + beta T j / M.

    Source:
        arXiv 2309.03549, section 4.3, DSG.

    Example:
        >>> replay_counts(prompt_frames=4, beta=0.4, steps=50)
        [20, 15, 10, 5]
        >>> replay_counts(prompt_frames=4, beta=0.4, steps=50, staging="released")
        [19, 14, 9, 4]
    """
    # Rounded first, as 0.4 * 50 * (1 - 1 / 4) comes out slightly above 15.
    counts = [math.ceil(round(beta * steps * (1 - j / prompt_frames), 9)) for j in range(prompt_frames)]
    return [max(0, count - 1) for count in counts] if staging == "released" else counts


def steps_of_calls(call_sigmas: Tensor, sigmas: Tensor) -> list[int]:
    """The step to which each model call belongs.

    A step begins with the last call at its own sigma: earlier ones there looked ahead, as Heun's second call does.
    `call_sigmas` [calls] are the sigmas of the calls, `sigmas` [T + 1] those of the schedule.
    """
    begins = [0]
    for sigma in sigmas[1:-1].tolist():
        there = ((call_sigmas - sigma).abs() <= 1e-4 * sigma).nonzero().flatten().tolist()
        later = (call_sigmas < sigma).nonzero().flatten().tolist()  # for a solver that never calls at this sigma
        begins.append(there[-1] if there else later[0] if later else len(call_sigmas))
    return [sum(begin <= call for begin in begins) - 1 for call in range(len(call_sigmas))]


@dataclass(frozen=True)
class ReplayedFrame:
    """A frame that replays an old one: completely for `steps` steps, then for `soft` more in its low frequencies."""

    frame: int
    record: Tensor  # the old frame's predictions [calls, ...], without the dimension of the frames
    steps: int
    soft: int = 0

    def weight(self, step: int) -> float:
        """How much of the low frequencies is replayed at a step, 0 to 1."""
        return 1.0 if step < self.steps else max(0.0, 1 - (step - self.steps + 1) / (self.soft + 1))


class StagedGuidance:
    """Denoising with Staged Guidance (DSG): a wrapper around `denoise(x, sigma) -> x0` that also records.

    Prompt frame j is given the old clip's predictions until step n_j. A solver may call the denoiser several times a
    step, so `on_step` has to be called at the end of each step.

    The old clip's calls are replayed one by one, unless `call_sigmas` is given: then, for another schedule or solver,
    each call gets the old prediction at the nearest sigma, which is approximate.

    Args:
        denoise: `denoise(x, sigma, **options) -> x0`, x [B, C, N, h, w].
        settings: M, beta, the order, the release and the loop.
        steps: T.
        record: The predictions of the old clip's last R frames at each call [calls, B, C, R, h, w], in time order, or
            with the frames at `frame_dim` + 1; None for a first clip.
        keep: How many of this clip's last frames to record.
        frame_dim: The dimension of the frames in x.
        call_sigmas: The sigma of each of the old clip's calls [calls], for the approximate way.
        frames: N, for a clip that closes a loop.
        first_clip_record: The predictions of the first clip's first frames, for a clip that closes a loop.
        step_noise: The noise that an ancestral or SDE solver added to the old clip's last R frames at each draw
            [draws, B, C, R, h, w], or with the frames at `frame_dim` + 1.
        correct: `correct(x0, share of the steps done)`, which may change predictions in place before frames are
            replayed.
        before_call: `before_call(frames)`, called before each call of the denoiser, which need not predict the first
            `frames` frames: they replay.

    Raises:
        ValueError: M is more than the R frames that were recorded.

    Source:
        arXiv 2309.03549, section 4.3, DSG.
    """

    def __init__(
        self,
        denoise: Callable[..., Tensor],
        settings: ReuseSettings,
        steps: int,
        record: Tensor | None = None,
        keep: int = 0,
        frame_dim: int = 2,
        call_sigmas: Tensor | None = None,
        frames: int = 0,
        first_clip_record: Tensor | None = None,
        step_noise: Tensor | None = None,
        correct: Callable[[Tensor, float], None] | None = None,
        before_call: Callable[[int], None] | None = None,
    ) -> None:
        self.before_call = before_call
        self.denoise, self.steps, self.keep, self.frame_dim = denoise, steps, keep, frame_dim
        self.call_sigmas, self.step_noise, self.correct = call_sigmas, step_noise, correct
        self.keep_first = settings.first_clip_frames if record is None and settings.loop == "keep" else 0
        self.replayed: list[ReplayedFrame] = []
        soft = settings.release == "soft"

        def replay(frame: int, record: Tensor, source: int, count: int) -> None:
            old = record.select(frame_dim + 1, source)
            self.replayed.append(ReplayedFrame(frame, old, count, min(count, steps - count) if soft else 0))

        self.sources: list[int] = []
        if record is not None:
            settings.check_recorded(recorded := record.shape[frame_dim + 1])
            # The record's last frame is the old clip's last one.
            last = list(range(recorded - settings.prompt_frames, recorded))
            self.sources = last[::-1] if settings.order == "mirror" else last
            for j, (source, count) in enumerate(zip(self.sources, settings.replay_counts(steps), strict=True)):
                replay(settings.first_prompt_frame + j, record, source, count)
        if first_clip_record is not None:
            for frame, source, count in settings.closing(frames, steps):
                replay(frame, first_clip_record, source, count)
        self.kept: list[Tensor] = []
        self.kept_first: list[Tensor] = []
        self.kept_noise: list[Tensor] = []
        self.sigmas: list[float] = []
        self.calls = self.step = 0

    @property
    def counts(self) -> list[int]:
        """For each prompt frame, during how many of the first steps it replays the old frame."""
        return [each.steps for each in self.replayed[: len(self.sources)]]

    def __call__(self, x: Tensor, sigma: Tensor, **options: Any) -> Tensor:
        """Denoise x [B, C, N, h, w] at sigma, a scalar or [B] equal ones; `options` go to the denoiser."""
        if self.before_call:
            self.before_call(self.replayed_at_start())
        return self.replay(self.denoise(x, sigma, **options), sigma)

    def replayed_at_start(self) -> int:
        """How many frames at the clip's start replay completely at this step."""
        replayed = {each.frame for each in self.replayed if self.step < each.steps}
        return next(frame for frame in range(len(replayed) + 1) if frame not in replayed)

    def replay(self, x0: Tensor, sigma: Tensor) -> Tensor:
        """The predictions of one call with replayed frames put in place; they are recorded, too."""
        sigma = sigma.flatten()[0]
        active = [each for each in self.replayed if each.weight(self.step) > 0]
        if active or self.correct:
            x0 = x0.clone()  # it belongs to the denoiser
        if self.correct:
            for each in active:
                if self.before_call and self.step < each.steps:  # the frame may not have been predicted
                    x0.select(self.frame_dim, each.frame).copy_(self.old_prediction(each.record, sigma))
            self.correct(x0, (self.step + 1) / self.steps)
        for each in active:
            frame, old = x0.select(self.frame_dim, each.frame), self.old_prediction(each.record, sigma).to(x0)
            if self.step < each.steps:
                frame.copy_(old)
            else:
                frame.add_(each.weight(self.step) * lowpass(old - frame, (-2, -1), SOFT_CUTOFF))
        self.sigmas.append(float(sigma))
        if self.keep:
            frames = x0.shape[self.frame_dim]
            self.kept.append(x0.narrow(self.frame_dim, frames - self.keep, self.keep).detach().cpu().clone())
        if self.keep_first:
            self.kept_first.append(x0.narrow(self.frame_dim, 0, self.keep_first).detach().cpu().clone())
        self.calls += 1
        return x0

    def replay_step_noise(self, noise: Tensor) -> Tensor:
        """Noise that a solver is about to add, like x, with that of replayed frames put in place; it is recorded."""
        draw, dim = len(self.kept_noise), self.frame_dim
        if self.step_noise is not None and draw < len(self.step_noise):
            noise = noise.clone()
            for each, source in zip(self.replayed, self.sources, strict=False):  # not those that close a loop
                if self.step < each.steps:
                    noise.select(dim, each.frame).copy_(self.step_noise[draw].select(dim, source))
        last = noise.narrow(dim, noise.shape[dim] - self.keep, self.keep)
        self.kept_noise.append(last.detach().cpu().clone())
        return noise

    def old_prediction(self, record: Tensor, sigma: Tensor) -> Tensor:
        """The old clip's prediction for a frame at this call, of all its predictions [calls, ...]."""
        if self.call_sigmas is not None:
            return record[int((self.call_sigmas.log() - math.log(float(sigma))).abs().argmin())]
        if self.calls >= len(record):
            raise ValueError(
                f"the solver calls the model more often than the {len(record)} times of the last clip: "
                f"use the same solver and steps"
            )
        return record[self.calls]

    def on_step(self, i: int, x: Tensor) -> None:
        """Step i has ended, with x."""
        self.step = i + 1

    def new_record(self) -> Tensor:
        """The predictions of this clip's last `keep` frames at every call, [calls, ..., keep, ...]."""
        return torch.stack(self.kept)

    def new_first_clip_record(self) -> Tensor:
        """The predictions of this first clip's first frames, to close a loop later; of 0 frames if none is kept."""
        if self.kept_first:
            return torch.stack(self.kept_first)
        return self.new_record().narrow(self.frame_dim + 1, 0, 0)

    def new_step_noise(self) -> Tensor:
        """The noise that was added to this clip's last `keep` frames, [draws, ..., keep, ...]."""
        return torch.stack(self.kept_noise) if self.kept_noise else self.new_record()[:0]

    def new_call_sigmas(self) -> Tensor:
        """The sigma of each call, [calls]."""
        return torch.tensor(self.sigmas)
