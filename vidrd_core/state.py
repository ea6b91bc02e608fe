"""What one clip hands to the next: its noise, its predictions, its latents; one safetensors file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidrd_core.beyond import statistics
from vidrd_core.inversion import replayed
from vidrd_core.io import safetensors
from vidrd_core.io.safetensors import FormatError
from vidrd_core.sampling import Denoise

KIND = "clip state"
# name -> dimensions
TENSORS = {"noise": 5, "record": 6, "latents": 5, "past": 5, "sigmas": 1, "levels": 1, "injected": 6}
ADDED = {  # by later versions: empty in files that lack them
    "anchor": 3, "opening_noise": 5, "opening": 6,
    "sound_noise": 5, "sound_record": 6, "sound_latents": 5, "sound_injected": 6,
}  # fmt: skip
TENSORS |= ADDED
DETAILS: dict[str, type] = {
    "index": int,
    "repeated": int,
    "solver": str,
    "model_signature": str,
    "numbers": list,
    "follows": str,
    "made_with": dict,
}


class StateMismatchError(ValueError):
    """A state does not fit what it is to be extended with."""


@dataclass(frozen=True, eq=False)
class ClipState:
    """All that a next clip needs, and what `latents` needs to be decoded.

    noise    z_T [B, C, N, h, w]
    record   the x0 predicted for the last R frames at each call of the model [calls, B, C, R, h, w]
    latents  the clip, normalised [B, C, N, h, w]
    past     latents that were shown just before this clip's new ones, as many as the decoder's halo needs
    sigmas   the noise levels of the schedule [T + 1]
    levels   the noise level of each call of the model [calls]
    injected the noise that an ancestral or SDE sampler added to the last R frames [draws, B, C, R, h, w]
    index    the clip's number, from 0
    repeated how many of its first frames were shown already by the clip before
    numbers  what each frame was told of its moment in the clip, [N]: a reused frame keeps its number with its noise
    follows  the `fingerprint` of the state of the clip before, "" for a first clip
    anchor   mean and deviation of the first clip's channels [2, B, C]; empty in the first clip's own state
    opening_noise, opening
             z_T [B, C, P, h, w] of the first clip's first P frames and their x0 [calls, B, C, P, h, w], where a loop
             is to be closed, or it is of footage; else of no frames
    sound_noise, sound_record, sound_latents, sound_injected
             the same of sound that a model made together with the video, [B, C, T, f, 1] of T moments; else empty
    """

    noise: Tensor
    record: Tensor
    latents: Tensor
    past: Tensor
    sigmas: Tensor
    levels: Tensor
    injected: Tensor
    index: int
    repeated: int
    solver: str
    model_signature: str
    numbers: list[int]
    follows: str = ""
    made_with: dict[str, Any] = field(default_factory=dict)  # prompt, seed, cfg, ...: what a next clip goes on with
    anchor: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 0))
    opening_noise: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 0, 0, 0))
    opening: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 0, 0, 0, 0))
    sound_noise: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 0, 0, 0))
    sound_record: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 0, 0, 0, 0))
    sound_latents: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 0, 0, 0))
    sound_injected: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 0, 0, 0, 0))

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that tell this clip from every other."""
        digest = hashlib.sha256()
        for name in TENSORS:
            digest.update(getattr(self, name).float().cpu().contiguous().numpy().tobytes())
        digest.update(json.dumps(self._details(), sort_keys=True).encode())
        return digest.hexdigest()[:12]

    @property
    def frames(self) -> int:
        """N."""
        return self.noise.shape[2]

    def get_ram_usage(self) -> int:
        """The bytes that it keeps in memory, for caches that ask by this name."""
        return sum(getattr(self, name).nbytes for name in TENSORS)

    @property
    def shown(self) -> Tensor:
        """The latents that this clip adds to the video."""
        return self.latents[:, :, self.repeated : self.frames - self.closed]

    @property
    def closed(self) -> int:
        """How many of its last frames are the first clip's, with which the loop closes."""
        reuse = self.made_with.get("reuse", {})
        closes = reuse.get("loop") == "close" and reuse.get("order") == "forward"
        return int(reuse.get("prompt_frames", 0)) if closes else 0

    @property
    def statistics(self) -> Tensor | None:
        """Mean and deviation of the first clip's channels [2, B, C]; None in a file that does not tell them."""
        if self.index == 0:
            return statistics(self.latents)
        return self.anchor if self.anchor.numel() else None

    def tail(self, frames: int) -> Tensor:
        """The last latents of the video so far, at most `frames` of them."""
        video = torch.cat([self.past, self.shown], dim=2)
        return video[:, :, max(0, video.shape[2] - frames) :]

    def check(self, model_signature: str, shape: tuple[int, ...]) -> None:
        """Raise StateMismatchError unless a clip of this model, of latents [B, C, N, h, w], can follow."""
        hint = ": it has other weights, or keeps them in another precision; load the one that made the state"
        _same("model", self.model_signature, model_signature, hint)
        hint = "; the clips of a video all have the same width, height and number of frames"
        _same("latent shape", tuple(self.noise.shape), tuple(shape), hint)

    def check_schedule(self, sigmas: Tensor, solver: str) -> None:
        """Raise StateMismatchError unless a clip of noise levels `sigmas` [T + 1] can follow exactly."""
        _same("number of steps", len(self.sigmas) - 1, len(sigmas) - 1, "; give as many as it was made with")
        _same("solver", self.solver, solver, "; give the one it was made with")
        if not torch.allclose(self.sigmas, sigmas.to(self.sigmas), rtol=1e-5, atol=1e-6):
            mine, theirs = (f"{float(s[0]):.4g} to {float(s[-2]):.4g}" for s in (self.sigmas, sigmas))
            raise StateMismatchError(
                f"the state was made with another schedule of {len(sigmas) - 1} steps: its noise levels go "
                f"from {mine}, this clip's from {theirs}; give the schedule it was made with"
            )

    def save(self, path: str | Path) -> None:
        """Write the state to one file, which appears whole or not at all. Raises OSError."""
        tensors = {name: getattr(self, name) for name in TENSORS}
        safetensors.write(Path(path), tensors, KIND, fingerprint=self.fingerprint, **self._details())

    def _details(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in DETAILS}

    @classmethod
    def from_latents(
        cls,
        latents: Tensor,
        sigmas: Tensor,
        model_signature: str,
        *,
        frames: int | None = None,
        denoise: Denoise | None = None,
        flow: bool = False,
        generator: torch.Generator | None = None,
        solver: str = "ddim",
        levels: Tensor | None = None,
        keep: int | None = None,
        made_with: dict[str, Any] | None = None,
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> ClipState:
        """A state to go on from real footage: normalised latents [B, C, F, h, w] of its last F frames, or of a still.

        The clip that is made of them has `frames` (N, F unless told): where F is less, its first frame stands still
        before, unshown. Their trajectory is found by DDIM inversion if `denoise(x, sigma) -> x0` is given, in T times
        `inversion.ITERATIONS` calls; else they are noised with what `generator` draws. `flow` tells a flow model.
        Clips can follow under the schedule `sigmas` [T + 1] and `solver`, which calls the model at `levels` (once a
        step unless told). `keep` is how many of the last frames are recorded: half of N unless told.

        Raises ValueError for latents or numbers of frames that cannot be.
        """
        clip = replayed(latents, sigmas, frames, denoise, flow, generator, levels, keep, on_step)
        return cls(**clip, solver=solver, model_signature=model_signature, made_with=made_with or {})

    @classmethod
    def load(cls, path: str | Path) -> ClipState:
        """Read a state. Raises FileNotFoundError, or FormatError saying what the file is instead."""
        tensors, details = safetensors.read(Path(path), KIND)
        details.pop("kind")
        fingerprint = details.pop("fingerprint", None)
        known = {*TENSORS, *DETAILS}
        if "record" in tensors:
            tensors.setdefault("injected", tensors["record"][:0])  # which older states lack
        for name, dims in ADDED.items():
            tensors.setdefault(name, torch.zeros((0,) * dims))
        values: dict[str, Any] = {**tensors, **details}
        for what, names in (("lacks", known - set(values)), ("has surplus", set(values) - known)):
            if names:
                raise FormatError(f"{path} is not a whole clip state: it {what} {', '.join(sorted(names))}")
        state = cls(**values)
        if fault := _fault(state):
            raise FormatError(f"{path} is damaged: {fault}")
        if state.fingerprint != fingerprint:
            raise FormatError(f"{path} is damaged: it does not hold what was saved")
        return state


def _same(name: str, mine: object, theirs: object, hint: str = "") -> None:
    if mine != theirs:
        raise StateMismatchError(f"the state was made with {name} {mine}, this clip has {theirs}{hint}")


def _fault(state: ClipState) -> str:
    """What does not belong together in a state that was read, if anything."""
    for name, dims in TENSORS.items():
        tensor = getattr(state, name)
        if tensor.ndim != dims or not tensor.is_floating_point():
            found = f"shape {tuple(tensor.shape)} and {str(tensor.dtype).removeprefix('torch.')} numbers"
            return f"its {name} has {found}, expected {dims} dimensions of floating-point ones"
        if not torch.isfinite(tensor).all():
            return f"its {name} holds numbers that are not finite (NaN or infinity)"
    batch, channels, frames, height, width = noise = tuple(state.noise.shape)
    for name, tensor, expected in (
        ("noise", state.noise, "something in each dimension" if 0 in noise else noise),
        ("latents", state.latents, noise),
        ("past", state.past, (batch, channels, state.past.shape[2], height, width)),
        ("record", state.record, (len(state.record) or 1, batch, channels, state.record.shape[3], height, width)),
        ("sigmas", state.sigmas, (max(2, len(state.sigmas)),)),
        ("levels", state.levels, (len(state.record),)),
    ):
        if tuple(tensor.shape) != expected:
            return f"its {name} has shape {tuple(tensor.shape)}, expected {expected}"
    if state.anchor.numel() and tuple(state.anchor.shape) != (2, batch, channels):
        return f"its anchor has shape {tuple(state.anchor.shape)}, expected {(2, batch, channels)}"
    kept = state.opening_noise.shape[2]
    for name, tensor, expected in (
        ("opening_noise", state.opening_noise, (batch, channels, kept, height, width)),
        ("opening", state.opening, (state.opening.shape[0] or 1, batch, channels, kept, height, width)),
    ):
        if kept and tuple(tensor.shape) != expected:
            return f"its {name} has shape {tuple(tensor.shape)}, expected {expected}"
    if state.sound_noise.numel() and (
        state.sound_latents.shape != state.sound_noise.shape
        or state.sound_record.shape[:1] != state.record.shape[:1]
        or not 1 <= state.sound_record.shape[3] <= state.sound_noise.shape[2]
        or state.sound_injected.shape[1:] != state.sound_record.shape[1:]
    ):
        return "what it holds of its sound does not belong together"
    if not 1 <= state.record.shape[3] <= frames:
        return f"its record has {state.record.shape[3]} frames, expected 1 to {frames}"
    if state.injected.shape[1:] != state.record.shape[1:]:
        return f"its injected has shape {tuple(state.injected.shape)}, its record {tuple(state.record.shape)}"
    for name, kind in DETAILS.items():
        if type(getattr(state, name)) is not kind:
            return f"its {name} is {getattr(state, name)!r}, expected {kind.__name__}"
    if not isinstance(reuse := state.made_with.get("reuse", {}), dict):
        return f"its reuse is {reuse!r}, expected dict"
    if state.index < 0 or not 0 <= state.repeated < frames:
        return f"it is of clip {state.index}, and {state.repeated} of its {frames} frames repeat older ones"
    if len(state.numbers) != frames or not all(type(number) is int for number in state.numbers):
        return f"it has numbers {state.numbers} for {frames} frames"
    return ""
