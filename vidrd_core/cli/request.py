"""`vidrd generate` and `vidrd extend`: check all settings before anything is sampled."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vidrd_core.cli.errors import InputError, input_checked, note
from vidrd_core.cli.options import MachineOptions, ModelOptions, PerClipOptions, VideoOptions
from vidrd_core.cli.progress import busy
from vidrd_core.cli.render import Plan, render
from vidrd_core.cli.states import StateFile, StateFolder, check_settings
from vidrd_core.loading import load
from vidrd_core.model import STORAGE, usable_device, usable_devices
from vidrd_core.models import kernels
from vidrd_core.pipeline import VidRD
from vidrd_core.presets import preset
from vidrd_core.prompt_schedule import NAMES, PerClip, fade_of, parse_per_clip, settings_of_clip
from vidrd_core.reuse import LARGEST_ALPHA, ReuseSettings
from vidrd_core.settings import LARGEST, LARGEST_CFG, SampleSettings
from vidrd_core.state import ClipState

MAX_THREADS = 1024
MAX_CLIPS = 1_000_000
DTYPES = ("auto", "float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Request:
    """The arguments that both commands have.

    Args:
        prompts: A prompt for each clip.
        video: The output.
        model: The model.
        machine: Where it computes.
        sample: The fields of `SampleSettings` that were given.
        reuse: The fields of `ReuseSettings` that were given.
        preset: The name of reuse settings that `reuse` overrides.
        per_clip: Values of single clips.
    """

    prompts: list[str]
    video: VideoOptions
    model: ModelOptions
    machine: MachineOptions
    sample: dict[str, Any]
    reuse: dict[str, Any]
    preset: str | None
    per_clip: PerClipOptions


def generate(
    request: Request, state_dir: Path | None, resume: bool, before_sampling: Callable[[], None] = lambda: None
) -> None:
    """Make a video from its first clip, or resume one.

    Args:
        request: The command's arguments.
        state_dir: The folder of clip states; by default none are saved.
        resume: Whether to continue from the states in `state_dir`.
        before_sampling: Called once everything is checked.

    Raises:
        CommandError: A setting is not valid, or the run failed, as in `render`.
    """
    prompts, count = request.prompts, _count(request.prompts, request.video.clips)
    with StateFolder(state_dir) if state_dir else nullcontext() as states:
        _generate(request, prompts, count, states, resume, before_sampling)


def _generate(
    request: Request,
    prompts: list[str],
    count: int,
    states: StateFolder | None,
    resume: bool,
    before_sampling: Callable[[], None],
) -> None:
    if resume and not states:
        raise InputError("--resume needs --state-dir: the folder with the states of the finished clips")
    if states and not resume:
        states.refuse_existing(0, "add --resume to continue, or name another --state-dir")
    with input_checked():
        sample = SampleSettings(**request.sample)
        reuse_settings(request.preset, sample.frames or LARGEST["frames"], request.reuse)
    dtype = (states and states.dtype()) or fastest_dtype(request.machine.device)
    model = load_model(request.model, request.machine, dtype)
    with input_checked():
        frames = model.complete(sample).frames
        assert frames is not None
        reuse = reuse_settings(request.preset, frames, request.reuse)
        per_clip = per_clip_values(request.per_clip, count)
        sample = _complete(model, sample, reuse, prompts, count, request.video.travel)

    def check(state: ClipState) -> None:
        """Raise ValueError for a state that this run would not make."""
        closes = reuse.loop != "none" and count > 1 and state.index == count - 1
        own = settings_of_clip(state.index, sample, replace(reuse, loop="close") if closes else reuse, per_clip)
        fade = fade_of(prompts, state.index, request.video.travel)
        check_settings(
            state,
            {
                "prompt": prompts[min(state.index, len(prompts) - 1)],
                "fade": list(fade) if fade else None,
                **asdict(own[0]),
                "reuse": own[1].metadata(),
                "lora": model.loras or None,
                "dtype": model.metadata()["dtype"],
            },
        )
        if closes:  # no clip can extend it
            state.check_model(model.signature, model.latent_shape(sample))
        else:
            model.stream(prompts, count, reuse, state=state, **vars(sample))  # checks that the state fits

    finished: list[Path] = []
    if states and resume:
        finished, why = states.finished(count, check)
        note(f"resuming: found {len(finished)} of {count} clips in {states.folder}" + (f"; {why}" if why else ""))
    before_sampling()
    render(
        Plan(
            model=model,
            sample=sample,
            reuse=reuse,
            prompts=prompts,
            clips=range(count),
            finished=finished,
            previous=None,
            states=states,
            video=request.video,
            per_clip=per_clip,
        )
    )


def extend(request: Request, path: Path, state_dir: Path | None, save_state: Path | None, approximate: bool) -> None:
    """Make the clips that come after a state.

    Args:
        request: The command's arguments.
        path: The state's file.
        state_dir: The folder in which the new clips' states are saved; by default none are.
        save_state: The file in which the newest state is saved.
        approximate: Whether the state may be of another schedule or solver.

    Raises:
        CommandError: A setting is not valid, or the run failed, as in `render`.
    """
    prompts, count = request.prompts, _count(request.prompts, request.video.clips)
    if state_dir and save_state:
        raise InputError("--state-dir and --save-state are both given: choose one")
    with StateFolder(state_dir) if state_dir else nullcontext() as folder:
        _extend(request, prompts, count, path, folder or (StateFile(save_state) if save_state else None), approximate)


def _extend(
    request: Request,
    prompts: list[str],
    count: int,
    path: Path,
    states: StateFolder | StateFile | None,
    approximate: bool,
) -> None:
    with input_checked():
        state = ClipState.load(path)
        known = SampleSettings.__dataclass_fields__
        made_with = {name: value for name, value in state.made_with.items() if name in known}
        sample = SampleSettings(**{**made_with, **request.sample})
        reuse_before = ReuseSettings.from_metadata(state.made_with.get("reuse") or {})
        reuse = reuse_settings(request.preset, state.frames, request.reuse, reuse_before)
    indices = range(state.index + 1, state.index + 1 + count)
    if isinstance(states, StateFolder):
        states.refuse_existing(indices.start, "name another --state-dir")
    model = load_model(request.model, request.machine, state.made_with.get("dtype", "float32"))
    with input_checked(f"{path}: "):
        state.check_model(model.signature, model.latent_shape(model.complete(sample)))
    with input_checked():
        per_clip = per_clip_values(request.per_clip, count, indices.start)
        sample = _complete(model, sample, reuse, prompts, count, request.video.travel)
    with input_checked(f"{path}: "):
        fit: dict[str, Any] = {"state": state, "approximate": approximate}
        model.stream(prompts, indices.stop, reuse, **fit, **vars(sample))  # checks that the state fits
    render(
        Plan(
            model=model,
            sample=sample,
            reuse=reuse,
            prompts=prompts,
            clips=indices,
            finished=[],
            previous=state,
            states=states,
            video=request.video,
            approximate=approximate,
            per_clip=per_clip,
        )
    )


def _count(prompts: list[str], clips: int | None) -> int:
    """The number of clips to make; prints a note about what is likely to be a mistake. Raises InputError."""
    if clips is not None and not 1 <= clips <= MAX_CLIPS:
        raise InputError(f"clips is {clips}, expected 1 to {MAX_CLIPS}")
    if len(prompts) > 1 and not any(" " in prompt.strip() for prompt in prompts):
        whole = shlex.quote(" ".join(prompts))
        note(
            f"{len(prompts)} prompts of one word each; for one prompt of several words put quotes around it: {whole}"
        )
    elif clips is not None and clips < len(prompts):
        note(f"{len(prompts)} prompts for {clips} clips: the last ones are not used")
    return len(prompts) if clips is None else clips


def reuse_settings(
    named: str | None, frames: int, given: dict[str, Any], default: ReuseSettings | None = None
) -> ReuseSettings:
    """Combine a preset with a command's options.

    Args:
        named: A preset.
        frames: N, for the preset.
        given: The fields of `ReuseSettings` that were given; they override the preset.
        default: The settings without a preset; by default the paper's.

    Returns:
        The settings of all clips but the last one, which closes a loop: "close" is "keep" for the others.

    Raises:
        ValueError: The preset or a field is not valid.
    """
    base = preset(named, frames) if named is not None else default or ReuseSettings()
    settings = replace(base, **given)
    return replace(settings, loop="keep") if settings.loop == "close" else settings


def fastest_dtype(device: str) -> str:
    """The type in which `vidrd generate` computes on a device, unless it is told. Raises InputError."""
    return "bfloat16" if check_device(device).type == "cpu" and kernels.has_amx() else "float32"


def load_model(options: ModelOptions, machine: MachineOptions, dtype: str = "float32") -> VidRD:
    """Load the model that the options name, on its device, to compute in `dtype` for "auto". Raises InputError."""
    if machine.threads is not None and not 1 <= machine.threads <= MAX_THREADS:
        raise InputError(f"threads is {machine.threads}, expected 1 to {MAX_THREADS}")
    with input_checked():
        if machine.threads is not None:
            torch.set_num_threads(machine.threads)
        device = check_device(machine.device)
        if options.dtype not in DTYPES:
            raise InputError(f"dtype is {options.dtype!r}, expected one of {', '.join(DTYPES)}")
        if machine.storage not in (None, *STORAGE):
            raise InputError(f"storage is {machine.storage!r}, expected one of {', '.join(STORAGE)}")
        with busy(f"loading {options.model}"):
            model = load(
                options.model,
                device,
                dtype=getattr(torch, dtype if options.dtype == "auto" else options.dtype),
                storage=getattr(torch, machine.storage) if machine.storage else None,
                offload=machine.offload,
                tile=machine.tile,
                vae=options.vae,
                text_encoder=options.text_encoder,
                temporal=options.temporal,
                prediction=options.prediction,
                schedule=options.schedule,
            )
            for name, strength in map(_with_strength, options.lora or []):
                model.load_lora(name, strength)
        if model.about:
            note(f"{options.model} is a {model.about}")
        return model


def check_device(name: str) -> torch.device:
    """The device of this name, if it works here. Raises InputError with those that do."""
    try:
        return usable_device(name)
    except ValueError as error:
        raise InputError(f"device is {name!r}, which cannot be used here: give {usable_devices()}") from error


def _with_strength(given: str) -> tuple[str, float]:
    """The name and the strength in FILE or FILE:STRENGTH; FILE itself may contain a colon."""
    name, _, last = given.rpartition(":")
    try:
        return (name, float(last)) if name else (given, 1.0)
    except ValueError:
        return given, 1.0


def per_clip_values(given: PerClipOptions, count: int, start: int = 0) -> PerClip:
    """The per-clip values of `count` clips from clip `start`. Raises ValueError."""
    largest = {"seed": math.inf, "cfg": LARGEST_CFG, "alpha": int(LARGEST_ALPHA)}
    smallest = {"seed": 0, "cfg": -LARGEST_CFG, "alpha": 0}
    texts = {name: getattr(given, f"{name}_per_clip") for name in NAMES}
    return {
        name: [None] * start + parse_per_clip(name, text, count, smallest[name], largest[name])
        for name, text in texts.items()
        if text.strip()
    }


def _complete(
    model: VidRD, sample: SampleSettings, reuse: ReuseSettings, prompts: list[str], count: int, travel: int
) -> SampleSettings:
    """Complete settings with the model's defaults. Raises ValueError for those that the model cannot do."""
    sample = model.complete(sample)
    # `stream` checks everything, and samples nothing until it is iterated over.
    model.stream(prompts, count, reuse, travel=travel, **vars(sample))
    return sample
