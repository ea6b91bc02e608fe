"""`vidrd evaluate`: measure a folder of videos, or the videos that a model generates from prompts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import typer

from vidrd_core.cli.errors import InputError, input_checked, note, say
from vidrd_core.cli.evaluate_options import FolderOptions, MadeOptions, ResultOptions
from vidrd_core.cli.measuring import (
    PAGE,
    SHEETS,
    NetworkOptions,
    about_model,
    measure,
    process_count,
    process_device,
    sheet_name,
)
from vidrd_core.cli.options import MachineOptions, ModelOptions
from vidrd_core.cli.request import load_model, reuse_settings
from vidrd_core.evaluation.protocols import Protocol, class_counts, load_protocol
from vidrd_core.evaluation.runner import Networks, flatten, read_records, summarize
from vidrd_core.evaluation.videos import ClipLayout, GenerationSettings, VideoSource, from_folder, from_model
from vidrd_core.io.atomic import write_json, write_text
from vidrd_core.io.tables import read_text_lines
from vidrd_core.metrics.registry import metric_of
from vidrd_core.reports.html import evaluation_page
from vidrd_core.settings import SampleSettings

RESULT = "evaluation.json"
NETWORK_FRAMES = 16


@dataclass(frozen=True)
class EvaluateRequest:
    """What `vidrd evaluate` is asked for.

    Args:
        output: The folder of the result.
        videos: A folder of videos; None for videos that a model makes.
        folder: What is known of them.
        made: The videos that a model makes.
        networks: The networks that measure.
        result: What the result shows.
        preset: The name of reuse settings that `reuse` overrides.
        reuse: The fields of `ReuseSettings` that were given.
        sample: The fields of `SampleSettings` that were given.
        model: The model.
        machine: What it computes on.
    """

    output: Path
    videos: Path | None
    folder: FolderOptions
    made: MadeOptions
    networks: NetworkOptions
    result: ResultOptions
    preset: str | None
    reuse: dict[str, Any]
    sample: dict[str, Any]
    model: ModelOptions
    machine: MachineOptions


def run(request: EvaluateRequest) -> None:
    """Evaluate, and write evaluation.json and report.html into the output folder."""
    device = process_device(request.machine.device)
    request = replace(request, machine=replace(request.machine, device=device))
    made, chosen = request.made, request.networks
    if sum(each is not None for each in (request.videos, made.prompts, made.protocol)) != 1:
        raise InputError("expected a folder of VIDEOS, or --prompts or --protocol for a model: give one of them")
    if made.class_list and not made.protocol:
        raise InputError("--class-list is for --protocol")
    chosen.check()
    with input_checked():
        by = load_protocol(made.protocol) if made.protocol else None
        networks = chosen.networks(by.network_frames if by else NETWORK_FRAMES, device)
    sources, about = _sources(request, by)
    if by:
        note(f"{by.name}: {by.status}")
    pictured = {source.name for source in sources[: request.result.sheets]}
    if measure(sources, request.output, networks, about, pictured):
        names = {source.name for source in sources}
        _write_results(request, networks, {**networks.metadata(), **about}, names, by.status if by else "")


def texts_of(by: Protocol, class_list: Path | None) -> list[str]:
    """A protocol's prompts, in proportion to the classes in a list of real videos; evenly without a list."""
    if class_list is None:
        note("without --class-list every class has the same number of videos")
    return by.texts(class_counts(class_list) if class_list else dict.fromkeys(by.prompts, 1))


def prompts_of(path: Path) -> list[str]:
    """The lines of a text file that are not blank. Raises OSError, ValueError."""
    prompts = [line.strip() for line in read_text_lines(path) if line.strip()]
    if not prompts:
        raise ValueError(f"there are no prompts in {path}: give one a line")
    return prompts


def _sources(request: EvaluateRequest, by: Protocol | None) -> tuple[list[VideoSource], dict[str, Any]]:
    """The videos to evaluate, and the settings that their records are labeled with."""
    made, folder = request.made, request.folder
    with input_checked():
        if request.videos is not None:
            layout = None
            if folder.clip_frames is not None:
                layout = ClipLayout(folder.clip_frames, folder.repeated, request.reuse.get("prompt_frames", 0))
                layout.boundaries(0)  # raises ValueError for an invalid layout
            elif folder.repeated:
                raise InputError("--repeated needs --clip-frames: how many frames a clip has")
            return from_folder(request.videos, layout, folder.captions), {"videos": str(request.videos)}
        if by:
            prompts = texts_of(by, made.class_list)
        else:
            assert made.prompts is not None
            prompts = prompts_of(made.prompts)
        sample = SampleSettings(**request.sample)
    model = load_model(request.model, request.machine)
    with input_checked():
        sample = model.complete(sample)
        assert sample.frames is not None
        reuse = reuse_settings(request.preset, sample.frames, request.reuse)
        reuse.check_frames(sample.frames)
        settings = GenerationSettings(made.clips, made.videos_per_prompt, reuse, asdict(sample), made.batch)
        about = about_model(model, made.clips) | ({"batch": made.batch} if made.batch > 1 else {})
        if by:
            about |= {"protocol": by.name, "class_list": str(made.class_list or "")}
        about |= {**sample.metadata(), **reuse.metadata()}
        return from_model(model, prompts, settings, process_count()), about


def _write_results(
    request: EvaluateRequest, networks: Networks, header: dict[str, Any], names: set[str], status: str
) -> None:
    """Write evaluation.json and report.html, and print the result."""
    output = request.output
    with input_checked():
        reference = request.networks.reference_statistics(networks, output)
        found = summarize((r for r in read_records(output) if r["name"] in names), networks, reference)
    values: dict[str, list[float]] = {}
    skipped: list[tuple[str, str]] = []
    sheets: list[tuple[str, Path]] = []
    for record in read_records(output):
        picture = output / SHEETS / sheet_name(record["name"])
        if record["name"] not in names:
            continue
        if "reason" in record:
            skipped.append((record["name"], record["reason"]))
            continue
        for name, value in flatten(record):
            values.setdefault(name, []).append(value)
        if picture.exists() and len(sheets) < request.result.sheets:
            sheets.append((f"{record['name']}: {record['text']}" if record["text"] else record["name"], picture))
    result = {"settings": header, **found, "skipped_videos": dict(skipped)}
    write_json(output / RESULT, result)
    title = f"{request.videos or header.get('model')}, measured"
    write_text(output / PAGE, evaluation_page(title, header, found, values, sheets, skipped, status))
    if request.result.as_json:
        typer.echo((output / RESULT).read_text(encoding="utf-8"), nl=False)
    else:
        _print_figures(found)
    note(f"{found['videos']} videos measured, {found['skipped']} skipped: {output / PAGE}")


def _print_figures(found: dict[str, Any]) -> None:
    """Print the main figures to stdout."""
    if "fvd" in found:
        say(f"FVD {found['fvd']['value']:.4g}")
    if "inception_score" in found:
        score = found["inception_score"]
        say(f"Inception Score {score['mean']:.4g} +- {score['std']:.4g}")
    for name, row in found["measures"].items():
        if (metric := metric_of(name)) and metric.printed:
            say(f"{name}: {row['mean']:.4g} (median {row['median']:.4g}, {row['low']:.4g} to {row['high']:.4g})")
