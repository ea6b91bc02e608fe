"""What one clip hands to the next: its noise, predictions and latents, in one safetensors file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vidrd_core.anchoring import channel_statistics
from vidrd_core.inversion import trajectory_of
from vidrd_core.io import safetensors
from vidrd_core.io.safetensors import FormatError
from vidrd_core.io.waiting import WaitingTensors
from vidrd_core.reuse import ReuseSettings, is_whole, next_clip_noise
from vidrd_core.sampling import Denoise, clip_generator

KIND = "clip state"
AGAIN = "take the state of an earlier clip, or make the clip again"
# Tensors by attribute: the name in a file, and the number of dimensions.
TENSORS = {
    "noise": ("noise", 5),
    "record": ("record", 6),
    "latents": ("latents", 5),
    "past": ("past", 5),
    "sigmas": ("sigmas", 1),
    "call_sigmas": ("levels", 1),
    "step_noise": ("injected", 6),
}
ADDED = {  # by later versions: empty where a file lacks them
    "first_clip_statistics": ("anchor", 3),
    "first_clip_noise": ("opening_noise", 5),
    "first_clip_record": ("opening", 6),
    "sound_noise": ("sound_noise", 5),
    "sound_record": ("sound_record", 6),
    "sound_latents": ("sound_latents", 5),
    "sound_step_noise": ("sound_injected", 6),
    "start_latents": ("start", 5),
    "sound_start_latents": ("sound_start", 5),
}
TENSORS |= ADDED
LEFT_OUT = ("start_latents", "sound_start_latents")  # of files where they are empty
LAST_CLIP = 2**31
SMALL = 2**12  # bytes up to which a tensor of a state that is put away stays in memory
# Other values by attribute: the name in a file, and the type.
DETAILS: dict[str, tuple[str, type]] = {
    "index": ("index", int),
    "repeated": ("repeated", int),
    "solver": ("solver", str),
    "model_signature": ("model_signature", str),
    "frame_positions": ("numbers", list),
    "follows": ("follows", str),
    "made_with": ("made_with", dict),
}
# Values for people, on which no later clip depends: empty where a file lacks them, and no part of the fingerprint.
NOTES: dict[str, type] = {"ancestors": list, "preview": str}


class StateMismatchError(ValueError):
    """A state does not fit the model or the settings that it is to be extended with."""


class ScheduleMismatchError(StateMismatchError):
    """A state does not fit the schedule or the solver that it is to be extended with."""


@dataclass(frozen=True, eq=False, repr=False)
class ClipState:
    """Everything that extending and decoding a clip needs.

    Args:
        noise: z_T [B, C, N, h, w], of unit variance.
        record: The predictions x0 for the last R frames at each model call [calls, B, C, R, h, w].
        latents: The clip, normalised [B, C, N, h, w].
        past: Latents that were shown just before this clip's new ones [B, C, P, h, w], as many as the decoder's halo
            needs.
        sigmas: The noise levels of the schedule, falling to 0, [T + 1].
        call_sigmas: The sigma of each model call [calls].
        step_noise: The noise that an ancestral or SDE solver added to the last R frames [draws, B, C, R, h, w].
        index: The clip's number in the video, from 0.
        repeated: How many of its first frames the previous clip has shown already.
        solver: The name of the solver.
        model_signature: Digest that identifies the model (`io.digests.signature`).
        frame_positions: The position embedded for each frame [N]: a frame that reuses noise keeps its position.
        follows: The `fingerprint` of the previous clip's state; "" for a first clip.
        made_with: The prompt, seed, cfg and other settings of the clip; the next clip's settings default to them.
        first_clip_statistics: The mean and standard deviation of the first clip's channels [2, B, C]; empty in the
            first clip's own state.
        first_clip_noise: z_T of the first clip's first P frames [B, C, P, h, w], where a loop is to be closed or the
            clip is footage; else of 0 frames.
        first_clip_record: Their predictions [calls, B, C, P, h, w].
        sound_noise: As `noise`, of sound that a model samples together with the video, [B, C, T, f, 1] for T moments;
            empty without sound, and so are the next three.
        sound_record: As `record`.
        sound_latents: As `latents`.
        sound_step_noise: As `step_noise`.
        start_latents: The latents to which noise was added for the last R frames [B, C, R, h, w], of a clip that
            began below the largest noise level, as a second pass does; else empty.
        sound_start_latents: The same of sound.
        ancestors: The fingerprints of all earlier clips, the first one's first; files of earlier versions lack it.
        preview: A small animated WebP of the clip in base64, as `state_files.preview_of` makes it; "" for none.
    """

    noise: Tensor
    record: Tensor
    latents: Tensor
    past: Tensor
    sigmas: Tensor
    call_sigmas: Tensor
    step_noise: Tensor
    index: int
    repeated: int
    solver: str
    model_signature: str
    frame_positions: list[int]
    follows: str = ""
    made_with: dict[str, Any] = field(default_factory=dict)
    first_clip_statistics: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 0))
    first_clip_noise: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 0, 0, 0))
    first_clip_record: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 0, 0, 0, 0))
    sound_noise: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 0, 0, 0))
    sound_record: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 0, 0, 0, 0))
    sound_latents: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 0, 0, 0))
    sound_step_noise: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 0, 0, 0, 0))
    start_latents: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 0, 0, 0))
    sound_start_latents: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 0, 0, 0))
    ancestors: list[str] = field(default_factory=list)
    preview: str = ""

    @classmethod
    def of_clip(
        cls,
        previous: ClipState | None = None,
        settings: ReuseSettings | None = None,
        *,
        noise: Tensor,
        latents: Tensor,
        record: Tensor,
        first_clip_record: Tensor,
        sigmas: Tensor,
        call_sigmas: Tensor,
        solver: str,
        model_signature: str,
        frame_positions: list[int],
        made_with: dict[str, Any],
        past_frames: int = 0,
        step_noise: Tensor | None = None,
        sound: dict[str, Tensor] | None = None,
        start_latents: Sequence[Tensor] = (),
    ) -> ClipState:
        """Build the state of a clip that was sampled.

        Args:
            previous: The state of the clip that it extends; None for a first clip.
            settings: What it reuses of that clip; only an extending clip needs them.
            noise: z_T [B, C, N, h, w], of unit variance.
            latents: The clip, normalised [B, C, N, h, w].
            record: The predictions x0 for the last R frames at each model call [calls, B, C, R, h, w].
            first_clip_record: The predictions for this clip's first P frames [calls, B, C, P, h, w] if it is a first
                clip; ignored otherwise.
            sigmas: The noise levels of the schedule, falling to 0, [T + 1].
            call_sigmas: The sigma of each model call [calls].
            solver: The name of the solver.
            model_signature: Digest that identifies the model (`io.digests.signature`).
            frame_positions: The position embedded for each frame [N].
            made_with: Settings by name, `settings.metadata()` as "reuse" among them.
            past_frames: How many latents that were shown before its own to keep.
            step_noise: The noise that the solver added to the last R frames [draws, B, C, R, h, w]; None if it adds
                none.
            sound: The fields of sound by name, if there is any.
            start_latents: The fields `start_latents` and `sound_start_latents` of a clip that began from latents.

        Returns:
            The state, numbered after `previous` and with what that state keeps of the first clip.
        """
        if previous is None:
            kept = first_clip_record.shape[3]
            first_noise = noise[:, :, :kept].cpu().clone()
            handed_on: dict[str, Any] = {"first_clip_noise": first_noise, "first_clip_record": first_clip_record}
        else:
            names = ("first_clip_noise", "first_clip_record")
            handed_on = {name: getattr(previous, name) for name in names}
            follows = previous.fingerprint
            handed_on |= {"follows": follows, "ancestors": [*previous.earlier_clips, follows]}
            if (statistics := previous.statistics) is not None:
                handed_on["first_clip_statistics"] = statistics
        starts = dict(zip(("start_latents", "sound_start_latents"), start_latents, strict=False))
        return cls(
            noise=noise,
            record=record,
            latents=latents,
            past=latents[:, :, :0] if previous is None else previous.tail(past_frames),
            sigmas=sigmas,
            call_sigmas=call_sigmas,
            step_noise=record[:0] if step_noise is None else step_noise,
            index=0 if previous is None else previous.index + 1,
            repeated=0 if previous is None or settings is None else settings.repeated_frames,
            solver=solver,
            model_signature=model_signature,
            frame_positions=frame_positions,
            made_with=made_with,
            **{**handed_on, **(sound or {}), **starts},
        )

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that identify this clip."""
        if self.waiting is not None:
            return self.__dict__["_fingerprint"]
        digest = hashlib.sha256()
        for name in TENSORS:
            digest.update(getattr(self, name).float().cpu().contiguous().numpy().tobytes())
        digest.update(json.dumps(self._details(), sort_keys=True).encode())
        return digest.hexdigest()[:12]

    @property
    def earlier_clips(self) -> list[str]:
        """The fingerprints of the clips before it, as far as they are known, the last one's last."""
        return self.ancestors or [self.follows] * bool(self.follows)

    @property
    def frames(self) -> int:
        """The number of frames of the clip (N)."""
        return self.noise.shape[2]

    def get_ram_usage(self) -> int:
        """The bytes it takes in memory; ComfyUI's cache calls this method."""
        return sum(self.__dict__[name].nbytes for name in TENSORS if name in self.__dict__)

    def put_away(self, path: str | Path, copies: Sequence[Path] = ()) -> ClipState:
        """Let the tensors wait in a file: each is read from there whenever it is asked for.

        Args:
            path: A file of the state's own, which is removed with the last object that needs it. It is written unless
                it is there, as a copy of one that `save` wrote.
            copies: Files that `save` wrote, which are read if somebody removes `path`.

        Returns:
            The same state, with hardly anything in memory. Copies and pickles of it hold all, as any other's do.

        Raises:
            OSError: The file cannot be written.
        """
        path, values = Path(path), {each.name: getattr(self, each.name) for each in fields(self)}
        if not path.exists():
            self.save(path)
        large = {name: values.pop(name) for name in TENSORS if values[name].nbytes > SMALL}
        names = {name: file_name for name, (file_name, _) in TENSORS.items()}
        values |= {name: values[name].clone() for name in TENSORS if name in values}  # not views of something large
        values["_fingerprint"] = self.fingerprint
        state = object.__new__(ClipState)
        state.__dict__.update(values, _waiting=WaitingTensors(path, large, names, copies))
        return state

    @property
    def waiting(self) -> WaitingTensors | None:
        """The tensors that wait in a file; None for a state that holds all."""
        return self.__dict__.get("_waiting")

    def __repr__(self) -> str:
        """A short text without tensors, for messages: hosts show the inputs of a node that failed."""
        return f"<{type(self).__name__} of clip {self.index}, {len(self.frame_positions)} frames>"

    if not TYPE_CHECKING:  # for which it would have any attribute

        def __getattr__(self, name: str) -> Any:
            """A tensor that waits in a file."""
            waiting = self.__dict__.get("_waiting", ())
            if name not in waiting:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            return waiting[name]

    def __getstate__(self) -> dict[str, Any]:
        """All fields, for copies and pickles."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @property
    def shown(self) -> Tensor:
        """The latents that this clip adds to the video [B, C, F, h, w]."""
        return self.latents[:, :, self.repeated : self.frames - self.closed]

    @property
    def closed(self) -> int:
        """How many of its last frames are the first clip's, with which the loop closes."""
        reuse = self.made_with.get("reuse", {})
        closes = self._closes and reuse.get("order") == "forward"
        return int(reuse.get("prompt_frames", 0)) if closes else 0

    @property
    def _closes(self) -> bool:
        """Whether it closed a loop, as no first clip does."""
        return self.index > 0 and self.made_with.get("reuse", {}).get("loop") == "close"

    @property
    def statistics(self) -> Tensor | None:
        """The mean and standard deviation of the first clip's channels [2, B, C]; None where a file lacks them."""
        if self.index == 0:
            return channel_statistics(self.latents)
        return self.first_clip_statistics if self.first_clip_statistics.numel() else None

    def tail(self, frames: int) -> Tensor:
        """The last latents of the video so far, at most `frames` of them."""
        video = torch.cat([self.past, self.shown], dim=2)
        return video[:, :, max(0, video.shape[2] - frames) :]

    def check_next(
        self,
        settings: ReuseSettings,
        model_signature: str,
        shape: tuple[int, ...],
        sigmas: Tensor,
        solver: str,
        approximate: bool = False,
    ) -> bool:
        """Check that a clip of these settings can extend this one.

        Args:
            settings: What the clip reuses.
            model_signature: Digest that identifies its model.
            shape: The shape of its latents, [B, C, N, h, w].
            sigmas: Its noise levels [T + 1].
            solver: The name of its solver.
            approximate: Whether another schedule or solver is allowed.

        Returns:
            Whether the old calls can be replayed one by one; otherwise they are replayed by the nearest sigma.

        Raises:
            ScheduleMismatchError: The schedule or the solver differs, and `approximate` is False.
            StateMismatchError: The model or the shape differs.
            ValueError: This state does not hold what the settings need.
        """
        self.check_model(model_signature, shape)
        settings.check_frames(self.frames)
        exact = True
        try:
            self.check_schedule(sigmas, solver)
        except ScheduleMismatchError:
            if not approximate:
                raise
            exact = False
        settings.check_recorded(self.record.shape[3])
        self.check_first_clip(settings)
        return exact

    def check_model(self, model_signature: str, shape: tuple[int, ...]) -> None:
        """Raise StateMismatchError unless a clip of this model, with latents [B, C, N, h, w], can extend this one."""
        hint = ": it has other weights, or keeps them in another precision; load the one that made the state"
        _same(StateMismatchError, "model", self.model_signature, model_signature, hint)
        hint = "; the clips of a video all have the same width, height and number of frames"
        _same(StateMismatchError, "latent shape", tuple(self.noise.shape), tuple(shape), hint)

    def check_schedule(self, sigmas: Tensor, solver: str) -> None:
        """Raise ScheduleMismatchError unless a clip with noise levels `sigmas` [T + 1] can replay it exactly."""
        error = ScheduleMismatchError
        _same(error, "number of steps", len(self.sigmas) - 1, len(sigmas) - 1, "; give as many as it was made with")
        mine, other = (_shown(name) for name in (self.solver, solver))
        _same(error, "solver", mine, other, "; give the one it was made with")
        if not torch.allclose(self.sigmas, sigmas.to(self.sigmas), rtol=1e-5, atol=1e-6):
            mine, theirs = (f"{float(s[0]):.4g} to {float(s[-2]):.4g}" for s in (self.sigmas, sigmas))
            raise ScheduleMismatchError(
                f"the state was made with another schedule of {len(sigmas) - 1} steps: its noise levels go "
                f"from {mine}, this clip's from {theirs}; give the schedule it was made with"
            )

    def check_first_clip(self, settings: ReuseSettings) -> None:
        """Raise ValueError unless this state holds what the settings need of the first clip."""
        if self._closes:
            raise ValueError(
                "the state is that of a clip that closed a loop: nothing can follow it; take an earlier state"
            )
        if settings.anchor and self.statistics is None:
            raise ValueError(
                "anchor needs the statistics of the first clip, which this state, written by an older version, does "
                "not hold: set anchor to 0, or sample the clips again"
            )
        kept = self.first_clip_noise.shape[2]
        if settings.loop != "none" and settings.first_clip_frames > kept:
            found = f"keeps only {kept} frames" if kept else "keeps nothing"
            raise ValueError(
                f"the state {found} of how the first clip began, and closing the loop needs prompt_frames (M) = "
                f"{settings.prompt_frames}: make the first clip with loop 'keep' and as many prompt frames"
            )

    def next_noise(self, settings: ReuseSettings, seed: int) -> Tensor:
        """z_T [B, C, N, h, w] of the next clip's video, by FNR and PNS; the seed is the one all clips share.

        Raises ValueError if the state lacks what the settings need of the first clip.
        """
        self.check_first_clip(settings)
        first = self.first_clip_noise if settings.loop == "close" else None
        return next_clip_noise(self.noise, settings, clip_generator(seed, self.index + 1), first_clip_noise=first)

    def save(self, path: str | Path) -> None:
        """Write the state to one file, which appears complete or not at all. Raises OSError."""
        tensors = {file_name: getattr(self, name) for name, (file_name, _) in TENSORS.items()}
        for name in LEFT_OUT:
            if not getattr(self, name).numel():
                del tensors[TENSORS[name][0]]
        notes = {name: getattr(self, name) for name in NOTES if getattr(self, name)}
        safetensors.write(Path(path), tensors, KIND, fingerprint=self.fingerprint, **self._details(), **notes)

    def _details(self) -> dict[str, Any]:
        return {file_name: getattr(self, name) for name, (file_name, _) in DETAILS.items()}

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
        call_sigmas: Tensor | None = None,
        keep: int | None = None,
        made_with: dict[str, Any] | None = None,
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> ClipState:
        """Build a state from real footage, so that clips can extend it.

        The trajectory of the footage is found by DDIM inversion if `denoise` is given, in T times
        `inversion.ITERATIONS` model calls; otherwise noise is added to it.

        Args:
            latents: The normalised latents [B, C, F, h, w] of its last F frames, or of a still.
            sigmas: The schedule of the clips that follow, [T + 1].
            model_signature: Digest that identifies the model.
            frames: N, by default F; where F is less, the first frame is repeated before the others, unshown.
            denoise: `denoise(x, sigma) -> x0`.
            flow: Whether the model is a flow model.
            generator: A CPU generator for noise that is added; None is torch's default one.
            solver: The name of the solver of the clips that follow.
            call_sigmas: The sigma of each of its model calls [calls]; by default one call a step.
            keep: How many of the last frames to record, by default half of N.
            made_with: Settings by name.
            on_step: `on_step(steps done, x)`.

        Returns:
            The state of a first clip of N frames, of which the repeated ones count as shown already.

        Raises:
            ValueError: The latents or a number of frames is not valid.
        """
        found = trajectory_of(latents, sigmas, frames, denoise, flow, generator, call_sigmas, on_step)
        count = found.latents.shape[2]
        keep = max(1, count // 2) if keep is None else keep
        if not is_whole(keep) or keep < 1:
            raise ValueError(f"keep is {keep!r}, expected a whole number, 1 or more")
        keep = min(keep, count)
        state = cls.of_clip(
            noise=found.noise,
            latents=found.latents,
            record=found.predictions[:, :, :, count - keep :].clone(),
            first_clip_record=found.predictions[:, :, :, :keep].clone(),
            sigmas=sigmas.cpu(),
            call_sigmas=found.call_sigmas,
            solver=solver,
            model_signature=model_signature,
            frame_positions=list(range(count)),
            made_with=made_with or {},
        )
        # The repeated first frame was not shown, but a decoder that looks back sees the still stand.
        return replace(state, repeated=found.still, past=found.latents[:, :, : found.still])

    @classmethod
    def load(cls, path: str | Path) -> ClipState:
        """Read a state. Raises FileNotFoundError, or FormatError saying what the file is instead."""
        tensors, details = safetensors.read(Path(path), KIND)
        details.pop("kind")
        fingerprint = details.pop("fingerprint", None)
        notes = {name: details.pop(name) for name in NOTES if name in details}
        if "record" in tensors and tensors["record"].ndim:
            tensors.setdefault("injected", tensors["record"][:0])  # which older states lack
        for file_name, dims in ADDED.values():
            tensors.setdefault(file_name, torch.zeros((0,) * dims))
        values: dict[str, Any] = {**tensors, **details}
        known = {file_name: name for name, (file_name, _) in {**TENSORS, **DETAILS}.items()}
        surplus = (set(values) - set(known)) | (set(tensors) & set(details))
        for what, names in (("lacks", set(known) - set(values)), ("has surplus", surplus)):
            if names:
                raise FormatError(f"{path} is not a whole clip state: it {what} {', '.join(sorted(names))}")
        state = cls(**{known[name]: value for name, value in values.items()}, **notes)
        if fault := _fault(state):
            raise FormatError(f"{path} is damaged: {fault}; {AGAIN}")
        if state.fingerprint != fingerprint:
            raise FormatError(f"{path} is damaged: it does not hold what was saved; {AGAIN}")
        return state


_OLD_NAMES = {
    "levels": "call_sigmas",
    "injected": "step_noise",
    "numbers": "frame_positions",
    "anchor": "first_clip_statistics",
    "opening_noise": "first_clip_noise",
    "opening": "first_clip_record",
    "sound_injected": "sound_step_noise",
}
for _old, _new in _OLD_NAMES.items():
    setattr(ClipState, _old, property(attrgetter(_new), doc=f"The older name of `{_new}`."))


def _same(error: type[StateMismatchError], name: str, mine: object, theirs: object, hint: str) -> None:
    if mine != theirs:
        raise error(f"the state was made with {name} {mine}, this clip has {theirs}{hint}")


def _shown(solver: str) -> str:
    """A solver's name as messages have it, for people who know it from another program."""
    return "ddim (euler in ComfyUI)" if solver == "ddim" else solver


def _fault(state: ClipState) -> str:
    """What is inconsistent in a state that was read, "" if nothing; fields go by their names in files."""
    for name, (file_name, dims) in TENSORS.items():
        tensor = getattr(state, name)
        if tensor.ndim != dims or not tensor.is_floating_point() or tensor.itemsize < 2:
            found = f"shape {tuple(tensor.shape)} and {str(tensor.dtype).removeprefix('torch.')} numbers"
            return f"its {file_name} has {found}, expected {dims} dimensions of floating-point ones of 16 bits"
        if not torch.isfinite(tensor).all():
            return f"its {file_name} holds numbers that are not finite (NaN or infinity)"
    batch, channels, frames, height, width = noise = tuple(state.noise.shape)
    for name, tensor, expected in (
        ("noise", state.noise, "something in each dimension" if 0 in noise else noise),
        ("latents", state.latents, noise),
        ("past", state.past, (batch, channels, state.past.shape[2], height, width)),
        ("record", state.record, (len(state.record) or 1, batch, channels, state.record.shape[3], height, width)),
        ("sigmas", state.sigmas, (max(2, len(state.sigmas)),)),
        ("levels", state.call_sigmas, (len(state.record),)),
    ):
        if tuple(tensor.shape) != expected:
            return f"its {name} has shape {tuple(tensor.shape)}, expected {expected}"
    statistics = state.first_clip_statistics
    if statistics.numel() and tuple(statistics.shape) != (2, batch, channels):
        return f"its anchor has shape {tuple(statistics.shape)}, expected {(2, batch, channels)}"
    kept, calls = state.first_clip_noise.shape[2], state.first_clip_record.shape[0] or 1
    for name, tensor, expected in (
        ("opening_noise", state.first_clip_noise, (batch, channels, kept, height, width)),
        ("opening", state.first_clip_record, (calls, batch, channels, kept, height, width)),
    ):
        if kept and tuple(tensor.shape) != expected:
            return f"its {name} has shape {tuple(tensor.shape)}, expected {expected}"
    if state.sound_noise.numel() and (
        state.sound_latents.shape != state.sound_noise.shape
        or state.sound_record.shape[:1] != state.record.shape[:1]
        or not 1 <= state.sound_record.shape[3] <= state.sound_noise.shape[2]
        or state.sound_step_noise.shape[1:] != state.sound_record.shape[1:]
    ):
        return "the tensors of its sound do not fit each other"
    if not 1 <= state.record.shape[3] <= frames:
        return f"its record has {state.record.shape[3]} frames, expected 1 to {frames}"
    if state.step_noise.shape[1:] != state.record.shape[1:]:
        return f"its injected has shape {tuple(state.step_noise.shape)}, its record {tuple(state.record.shape)}"
    for start, record in ((state.start_latents, state.record), (state.sound_start_latents, state.sound_record)):
        if start.numel() and start.shape != record.shape[1:]:
            return f"its start has shape {tuple(start.shape)}, its record {tuple(record.shape)}"
    for name, (file_name, kind) in DETAILS.items():
        if type(getattr(state, name)) is not kind:
            return f"its {file_name} is {getattr(state, name)!r}, expected {kind.__name__}"
    if not isinstance(reuse := state.made_with.get("reuse", {}), dict):
        return f"its reuse is {reuse!r}, expected dict"
    for name, kind in NOTES.items():
        if type(getattr(state, name)) is not kind:
            return f"its {name} is {getattr(state, name)!r}, expected {kind.__name__}"
    if not 0 <= state.index < LAST_CLIP or not 0 <= state.repeated < frames:
        return f"it is of clip {state.index}, and {state.repeated} of its {frames} frames repeat older ones"
    positions = state.frame_positions
    if len(positions) != frames or not all(type(position) is int for position in positions):
        return f"it has numbers {positions} for {frames} frames"
    return ""
