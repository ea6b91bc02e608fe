"""`vidrd evaluate`: measure a folder of videos, or what a model makes of prompts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from vidrd_core.cli.errors import InputError, input_checked, note
from vidrd_core.cli.measuring import PAGE, SHEETS, Asked, about_model, measure, own_device, sheet_name
from vidrd_core.cli.options import MachineOptions, ModelOptions
from vidrd_core.cli.request import group, load_model, reuse_settings
from vidrd_core.evaluation.protocols import Protocol, labels_of, protocol
from vidrd_core.evaluation.runner import Networks, flat, read, summary
from vidrd_core.evaluation.videos import Clips, Making, Subject, from_folder, from_model
from vidrd_core.io.atomic import write_json, write_text
from vidrd_core.reports.html import MEANINGS, page
from vidrd_core.settings import SampleSettings

RESULT = "evaluation.json"
NETWORK_FRAMES = 16


@dataclass(frozen=True)
class Wanted:
    """What is to be measured."""

    videos: Path | None
    prompts: Path | None
    output: Path
    captions: Path | None
    clip_frames: int | None
    repeated: int
    clips: int
    videos_per_prompt: int
    sheets: int
    protocol: str | None
    class_list: Path | None


def run(given: dict[str, Any]) -> None:
    """Measure, and write_text what comes of it: evaluation.json and report.html in the output folder."""
    given = {**given, "device": own_device(given["device"])}
    wanted, asked = Wanted(**group(Wanted, given)), Asked(**group(Asked, given))
    if sum(each is not None for each in (wanted.videos, wanted.prompts, wanted.protocol)) != 1:
        raise InputError("expected a folder of VIDEOS, or --prompts or --protocol for a model: give one of them")
    if wanted.class_list and not wanted.protocol:
        raise InputError("--class-list is for --protocol")
    asked.check()
    with input_checked():
        by = protocol(wanted.protocol) if wanted.protocol else None
        networks = asked.networks(by.network_frames if by else NETWORK_FRAMES, given["device"])
    subjects, about = _subjects(wanted, given, by)
    if by:
        note(f"{by.name}: {by.status}")
    pictured = {subject.name for subject in subjects[: wanted.sheets]}
    if measure(subjects, wanted.output, networks, about, pictured):
        names = {subject.name for subject in subjects}
        _conclude(wanted, asked, networks, {**networks.told(), **about}, names, by.status if by else "")


def texts_of(by: Protocol, class_list: Path | None) -> list[str]:
    """A protocol's prompts, shared out as a list of real videos has their classes; evenly without one."""
    if class_list is None:
        note("without --class-list there are as many videos of each class")
    return by.texts(labels_of(class_list) if class_list else dict.fromkeys(by.prompts, 1))


def prompts_of(path: Path) -> list[str]:
    """The lines of a text file that say something. Raises OSError, ValueError."""
    prompts = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not prompts:
        raise ValueError(f"there are no prompts in {path}: give one a line")
    return prompts


def _subjects(wanted: Wanted, given: dict[str, Any], by: Protocol | None) -> tuple[list[Subject], dict[str, Any]]:
    """What is to be measured, and what tells it from other things."""
    with input_checked():
        if wanted.videos is not None:
            clips = None
            if wanted.clip_frames is not None:
                clips = Clips(wanted.clip_frames, wanted.repeated, given["reuse"].get("prompt_frames", 0))
                clips.joints(0)  # a mistake in them is told now
            elif wanted.repeated:
                raise InputError("--repeated needs --clip-frames: how many frames a clip has")
            return from_folder(wanted.videos, clips, wanted.captions), {"videos": str(wanted.videos)}
        if by:
            prompts = texts_of(by, wanted.class_list)
        else:
            assert wanted.prompts is not None
            prompts = prompts_of(wanted.prompts)
        sample = SampleSettings(**given["sample"])
    model = load_model(ModelOptions(**group(ModelOptions, given)), MachineOptions(**group(MachineOptions, given)))
    with input_checked():
        sample = model.complete(sample)
        assert sample.frames is not None
        reuse = reuse_settings(given["preset"], sample.frames, given["reuse"])
        reuse.check_frames(sample.frames)
        making = Making(wanted.clips, wanted.videos_per_prompt, reuse, asdict(sample))
        about = about_model(model, wanted.clips)
        if by:
            about |= {"protocol": by.name, "class_list": str(wanted.class_list or "")}
        return from_model(model, prompts, making), {**about, **asdict(sample), **reuse.metadata()}


def _conclude(
    wanted: Wanted, asked: Asked, networks: Networks, header: dict[str, Any], names: set[str], status: str
) -> None:
    """Write the result."""
    with input_checked():
        reference = asked.statistics(networks, wanted.output)
        found = summary((r for r in read(wanted.output) if r["name"] in names), networks, reference)
    values: dict[str, list[float]] = {}
    skipped: list[tuple[str, str]] = []
    sheets: list[tuple[str, Path]] = []
    for record in read(wanted.output):
        picture = wanted.output / SHEETS / sheet_name(record["name"])
        if record["name"] not in names:
            continue
        if "reason" in record:
            skipped.append((record["name"], record["reason"]))
            continue
        for name, value in flat(record):
            values.setdefault(name, []).append(value)
        if picture.exists() and len(sheets) < wanted.sheets:
            sheets.append((f"{record['name']}: {record['text']}" if record["text"] else record["name"], picture))
    result = {"settings": header, **found, "skipped_videos": dict(skipped)}
    write_json(wanted.output / RESULT, result)
    title = f"{wanted.videos or header.get('model')}, measured"
    write_text(wanted.output / PAGE, page(title, header, found, values, sheets, skipped, status))
    _tell(found)
    note(f"{found['videos']} videos measured, {found['skipped']} skipped: {wanted.output / PAGE}")


def _tell(found: dict[str, Any]) -> None:
    """The main figures, to stdout."""
    if "fvd" in found:
        typer.echo(f"FVD {found['fvd']['value']:.4g}")
    if "inception_score" in found:
        score = found["inception_score"]
        typer.echo(f"Inception Score {score['mean']:.4g} +- {score['std']:.4g}")
    for name, row in found["measures"].items():
        if name in MEANINGS:
            typer.echo(
                f"{name}: {row['mean']:.4g} (median {row['median']:.4g}, {row['low']:.4g} to {row['high']:.4g})"
            )
