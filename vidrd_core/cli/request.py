"""`vidrd generate` and `vidrd extend`: everything is checked here, before anything is made."""

from __future__ import annotations

import math
import shlex
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from vidrd_core.cli.errors import InputError, input_checked, note
from vidrd_core.cli.progress import busy
from vidrd_core.cli.render import Plan, Target, render
from vidrd_core.cli.states import StateFile, StateFolder, compare
from vidrd_core.loading import load
from vidrd_core.model import STORAGE, Offload
from vidrd_core.pipeline import VidRD
from vidrd_core.presets import preset
from vidrd_core.prompt_schedule import NAMES, PerClip, fade_of, parse_per_clip, settings_of_clip
from vidrd_core.reuse import LARGEST_ALPHA, ReuseSettings
from vidrd_core.settings import LARGEST, LARGEST_CFG, SampleSettings
from vidrd_core.state import ClipState

MOST_THREADS = 1024
MOST_CLIPS = 1_000_000
DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Machine:
    """What computes, and on what."""

    model: str
    vae: str | None
    text_encoder: str | None
    temporal: str | None
    lora: list[str] | None
    prediction: str | None
    schedule: str | None
    dtype: str
    storage: str | None
    offload: Offload
    tile: int | None
    device: str
    threads: int | None


@dataclass(frozen=True)
class Request:
    """What both commands are asked."""

    prompts: list[str]
    clips: int | None
    machine: Machine
    sample: dict[str, Any]  # of SampleSettings; None: the state's
    reuse: dict[str, Any]  # of ReuseSettings; None: the preset's or the state's
    preset: str | None
    target: Target
    travel: int
    per_clip: dict[str, str]


def group(kind: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Those of a command's arguments that a dataclass has."""
    return {field.name: given[field.name] for field in fields(kind) if field.name in given}


def request(given: dict[str, Any]) -> Request:
    """A request from a command's arguments by name."""
    machine, target = Machine(**group(Machine, given)), Target(**group(Target, given))
    return Request(
        given["prompts"],
        given["clips"],
        machine,
        group(SampleSettings, given),
        group(ReuseSettings, given),
        given["preset"],
        target,
        given["travel"],
        {name: given[f"{name}_per_clip"] for name in NAMES},
    )


def generate(wanted: Request, state_dir: Path | None, resume: bool) -> None:
    """Make a video from its first clip, or go on with one."""
    prompts, count = wanted.prompts, _count(wanted.prompts, wanted.clips)
    keep = StateFolder(state_dir) if state_dir else None
    if resume and not keep:
        raise InputError("--resume needs --state-dir: the folder in which the finished clips are")
    if keep and not resume:
        keep.refuse_from(0, "add --resume to go on with it, or name another --state-dir")
    with input_checked():
        settings = SampleSettings(**wanted.sample)
        _rules(wanted, settings.frames or LARGEST["frames"], {})
    model = loaded(wanted.machine)
    with input_checked():
        frames = model.complete(settings).frames
        assert frames is not None
        rules = _rules(wanted, frames, {})
        own = _per_clip(wanted, count, 0)
        settings = _checked(model, settings, rules, prompts, count, wanted.travel)

    def check(state: ClipState) -> None:
        prompt = prompts[min(state.index, len(prompts) - 1)]
        lora = {"lora": model.loras or None}
        closes = rules.loop != "none" and count > 1 and state.index == count - 1
        sample, reuse = settings_of_clip(
            state.index, settings, replace(rules, loop="close") if closes else rules, own
        )
        fade = fade_of(prompts, state.index, wanted.travel)
        faded = {"fade": list(fade) if fade else None}
        compare(state, {"prompt": prompt, **faded, **asdict(sample), "reuse": reuse.metadata(), **lora})
        if closes:  # nothing follows it
            state.check_model(model.signature, model.latent_shape(settings))
        else:
            model.stream(prompts, count, rules, state=state, **asdict(settings))  # checks that the state fits

    finished: list[Path] = []
    if keep and resume:
        finished, why = keep.finished(count, check)
        note(f"resuming: found {len(finished)} of {count} clips in {keep.folder}" + (f"; {why}" if why else ""))
    render(
        Plan(
            model=model,
            sample=settings,
            reuse=rules,
            prompts=prompts,
            clips=range(count),
            finished=finished,
            before=None,
            keep=keep,
            target=wanted.target,
            travel=wanted.travel,
            per_clip=own,
        )
    )


def extend(wanted: Request, path: Path, state_dir: Path | None, save_state: Path | None, approximate: bool) -> None:
    """Make the clips that follow a state."""
    prompts, count = wanted.prompts, _count(wanted.prompts, wanted.clips)
    if state_dir and save_state:
        raise InputError("--state-dir and --save-state are both given: choose one")
    with input_checked():
        state = ClipState.load(path)
        settings = SampleSettings(**_overridden(SampleSettings, state.made_with, wanted.sample))
        before = ReuseSettings.from_metadata(state.made_with.get("reuse") or {})
        rules = _rules(wanted, state.frames, asdict(before))
    numbers = range(state.index + 1, state.index + 1 + count)
    keep: StateFolder | StateFile | None = StateFile(save_state) if save_state else None
    if state_dir:
        keep = StateFolder(state_dir)
        keep.refuse_from(numbers.start, "name another --state-dir")
    model = loaded(wanted.machine)
    with input_checked(f"{path}: "):
        state.check_model(model.signature, model.latent_shape(model.complete(settings)))
    with input_checked():
        own = _per_clip(wanted, count, numbers.start)
        settings = _checked(model, settings, rules, prompts, count, wanted.travel)
    with input_checked(f"{path}: "):
        fit: dict[str, Any] = {"state": state, "approximate": approximate}
        model.stream(prompts, numbers.stop, rules, **fit, **asdict(settings))  # checks that the state fits
    render(
        Plan(
            model=model,
            sample=settings,
            reuse=rules,
            prompts=prompts,
            clips=numbers,
            finished=[],
            before=state,
            keep=keep,
            target=wanted.target,
            approximate=approximate,
            travel=wanted.travel,
            per_clip=own,
        )
    )


def _count(prompts: list[str], clips: int | None) -> int:
    """How many clips to make; says what is likely to be a slip."""
    if clips is not None and not 1 <= clips <= MOST_CLIPS:
        raise InputError(f"clips is {clips}, expected 1 to {MOST_CLIPS}")
    if len(prompts) > 1 and not any(" " in prompt.strip() for prompt in prompts):
        whole = shlex.quote(" ".join(prompts))
        note(
            f"{len(prompts)} prompts of one word each; for one prompt of several words put quotes around it: {whole}"
        )
    elif clips is not None and clips < len(prompts):
        note(f"{len(prompts)} prompts for {clips} clips: the last ones are not used")
    return len(prompts) if clips is None else clips


def _rules(wanted: Request, frames: int, made: dict[str, Any]) -> ReuseSettings:
    """The preset, for clips of N frames, or what a state was made with, under what else is asked for."""
    if wanted.preset is not None:
        made = asdict(preset(wanted.preset, frames))
    return ReuseSettings(**_overridden(ReuseSettings, made, wanted.reuse))


def rules_of(named: str | None, frames: int, given: dict[str, Any]) -> ReuseSettings:
    """A preset, for clips of N frames, or the paper's rules, under what else a command's arguments ask for."""
    made = asdict(preset(named, frames)) if named is not None else {}
    return ReuseSettings(**_overridden(ReuseSettings, made, group(ReuseSettings, given)))


def _overridden(kind: Any, made: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    known = {field.name for field in fields(kind)}
    return {
        **{key: value for key, value in made.items() if key in known},
        **{key: value for key, value in given.items() if value is not None},
    }


def loaded(machine: Machine) -> VidRD:
    """The model that is asked for, where it shall compute. Raises InputError."""
    if machine.threads is not None and not 1 <= machine.threads <= MOST_THREADS:
        raise InputError(f"threads is {machine.threads}, expected 1 to {MOST_THREADS}")
    with input_checked():
        if machine.threads is not None:
            torch.set_num_threads(machine.threads)
        try:
            torch.zeros(1, device=machine.device).cpu()
        except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
            others = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
            usable = " or ".join(["cpu", *(kind for kind, is_here in others.items() if is_here)])
            raise InputError(f"device is {machine.device!r}, which cannot be used here: give {usable}") from error
        if machine.dtype not in DTYPES:
            raise InputError(f"dtype is {machine.dtype!r}, expected one of {', '.join(DTYPES)}")
        if machine.storage not in (None, *STORAGE):
            raise InputError(f"storage is {machine.storage!r}, expected one of {', '.join(STORAGE)}")
        with busy(f"loading {machine.model}"):
            model = load(
                machine.model,
                machine.device,
                dtype=getattr(torch, machine.dtype),
                storage=getattr(torch, machine.storage) if machine.storage else None,
                offload=machine.offload,
                tile=machine.tile,
                vae=machine.vae,
                text_encoder=machine.text_encoder,
                temporal=machine.temporal,
                prediction=machine.prediction,
                schedule=machine.schedule,
            )
            for name, strength in map(_with_strength, machine.lora or []):
                model.load_lora(name, strength)
        if model.about:
            note(f"{machine.model} is a {model.about}")
        return model


def _with_strength(given: str) -> tuple[str, float]:
    """FILE or FILE:STRENGTH, where FILE may have a colon of its own."""
    name, _, last = given.rpartition(":")
    try:
        return (name, float(last)) if name else (given, 1.0)
    except ValueError:
        return given, 1.0


def _per_clip(wanted: Request, count: int, start: int) -> PerClip:
    """The numbers of single clips, of so many from clip `start` on. Raises ValueError."""
    largest = {"seed": math.inf, "cfg": LARGEST_CFG, "alpha": int(LARGEST_ALPHA)}
    smallest = {"seed": 0, "cfg": -LARGEST_CFG, "alpha": 0}
    return {
        name: [None] * start + parse_per_clip(name, text, count, smallest[name], largest[name])
        for name, text in wanted.per_clip.items()
        if text.strip()
    }


def _checked(
    model: VidRD, sample: SampleSettings, reuse: ReuseSettings, prompts: list[str], count: int, travel: int
) -> SampleSettings:
    """The settings with the model's defaults. Raises ValueError for what this model cannot do."""
    sample = model.complete(sample)
    # It checks all, and makes nothing until it is asked.
    model.stream(prompts, count, reuse, travel=travel, **asdict(sample))
    return sample
