"""`vidrd evaluate`: measure a folder of videos, or the videos that a model generates from prompts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from vidrd_core.cli.errors import InputError, input_checked, note
from vidrd_core.cli.measuring import PAGE, SHEETS, NetworkOptions, about_model, measure, process_device, sheet_name
from vidrd_core.cli.request import Machine, group, loaded, rules_of
from vidrd_core.evaluation.protocols import Protocol, class_counts, load_protocol
from vidrd_core.evaluation.runner import Networks, flatten, read_records, summarize
from vidrd_core.evaluation.videos import ClipLayout, GenerationSettings, VideoSource, from_folder, from_model
from vidrd_core.io.atomic import write_json, write_text
from vidrd_core.metrics.registry import metric_of
from vidrd_core.reports.html import evaluation_page
from vidrd_core.settings import SampleSettings

RESULT = "evaluation.json"
NETWORK_FRAMES = 16


@dataclass(frozen=True)
class EvaluateOptions:
    """The options of `vidrd evaluate` that say what is measured; see `cli.evaluate_options`."""

    videos: Path | None
    prompts: Path | None
    output: Path
    captions: Path | None
    clip_frames: int | None
    repeated: int
    prompt_frames: int | None
    clips: int
    videos_per_prompt: int
    sheets: int
    protocol: str | None
    class_list: Path | None
    json: bool


def run(given: dict[str, Any]) -> None:
    """Evaluate, and write evaluation.json and report.html into the output folder."""
    given = {**given, "device": process_device(given["device"])}
    options = EvaluateOptions(**group(EvaluateOptions, given))
    chosen = NetworkOptions(**group(NetworkOptions, given))
    if sum(each is not None for each in (options.videos, options.prompts, options.protocol)) != 1:
        raise InputError("expected a folder of VIDEOS, or --prompts or --protocol for a model: give one of them")
    if options.class_list and not options.protocol:
        raise InputError("--class-list is for --protocol")
    chosen.check()
    with input_checked():
        by = load_protocol(options.protocol) if options.protocol else None
        networks = chosen.networks(by.network_frames if by else NETWORK_FRAMES, given["device"])
    sources, about = _sources(options, given, by)
    if by:
        note(f"{by.name}: {by.status}")
    pictured = {source.name for source in sources[: options.sheets]}
    if measure(sources, options.output, networks, about, pictured):
        names = {source.name for source in sources}
        _write_results(options, chosen, networks, {**networks.metadata(), **about}, names, by.status if by else "")


def texts_of(by: Protocol, class_list: Path | None) -> list[str]:
    """A protocol's prompts, in proportion to the classes in a list of real videos; evenly without a list."""
    if class_list is None:
        note("without --class-list every class has the same number of videos")
    return by.texts(class_counts(class_list) if class_list else dict.fromkeys(by.prompts, 1))


def prompts_of(path: Path) -> list[str]:
    """The lines of a text file that are not blank. Raises OSError, ValueError."""
    prompts = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not prompts:
        raise ValueError(f"there are no prompts in {path}: give one a line")
    return prompts


def _sources(
    options: EvaluateOptions, given: dict[str, Any], by: Protocol | None
) -> tuple[list[VideoSource], dict[str, Any]]:
    """The videos to evaluate, and the settings that their records are labeled with."""
    with input_checked():
        if options.videos is not None:
            layout = None
            if options.clip_frames is not None:
                layout = ClipLayout(options.clip_frames, options.repeated, options.prompt_frames or 0)
                layout.boundaries(0)  # raises ValueError for an invalid layout
            elif options.repeated:
                raise InputError("--repeated needs --clip-frames: how many frames a clip has")
            return from_folder(options.videos, layout, options.captions), {"videos": str(options.videos)}
        if by:
            prompts = texts_of(by, options.class_list)
        else:
            assert options.prompts is not None
            prompts = prompts_of(options.prompts)
        sample = SampleSettings(**group(SampleSettings, given))
    model = loaded(Machine(**group(Machine, given)))
    with input_checked():
        sample = model.complete(sample)
        assert sample.frames is not None
        reuse = rules_of(given["preset"], sample.frames, given)
        reuse.check_frames(sample.frames)
        settings = GenerationSettings(options.clips, options.videos_per_prompt, reuse, asdict(sample))
        about = about_model(model, options.clips)
        if by:
            about |= {"protocol": by.name, "class_list": str(options.class_list or "")}
        return from_model(model, prompts, settings), {**about, **asdict(sample), **asdict(reuse)}


def _write_results(
    options: EvaluateOptions,
    chosen: NetworkOptions,
    networks: Networks,
    header: dict[str, Any],
    names: set[str],
    status: str,
) -> None:
    """Write evaluation.json and report.html, and print the result."""
    with input_checked():
        reference = chosen.reference_statistics(networks, options.output)
        found = summarize((r for r in read_records(options.output) if r["name"] in names), networks, reference)
    values: dict[str, list[float]] = {}
    skipped: list[tuple[str, str]] = []
    sheets: list[tuple[str, Path]] = []
    for record in read_records(options.output):
        picture = options.output / SHEETS / sheet_name(record["name"])
        if record["name"] not in names:
            continue
        if "reason" in record:
            skipped.append((record["name"], record["reason"]))
            continue
        for name, value in flatten(record):
            values.setdefault(name, []).append(value)
        if picture.exists() and len(sheets) < options.sheets:
            sheets.append((f"{record['name']}: {record['text']}" if record["text"] else record["name"], picture))
    result = {"settings": header, **found, "skipped_videos": dict(skipped)}
    write_json(options.output / RESULT, result)
    title = f"{options.videos or header.get('model')}, measured"
    write_text(options.output / PAGE, evaluation_page(title, header, found, values, sheets, skipped, status))
    if options.json:
        typer.echo((options.output / RESULT).read_text(encoding="utf-8"), nl=False)
    else:
        _print_figures(found)
    note(f"{found['videos']} videos measured, {found['skipped']} skipped: {options.output / PAGE}")


def _print_figures(found: dict[str, Any]) -> None:
    """Print the main figures to stdout."""
    if "fvd" in found:
        typer.echo(f"FVD {found['fvd']['value']:.4g}")
    if "inception_score" in found:
        score = found["inception_score"]
        typer.echo(f"Inception Score {score['mean']:.4g} +- {score['std']:.4g}")
    for name, row in found["measures"].items():
        if (metric := metric_of(name)) and metric.printed:
            typer.echo(
                f"{name}: {row['mean']:.4g} (median {row['median']:.4g}, {row['low']:.4g} to {row['high']:.4g})"
            )
