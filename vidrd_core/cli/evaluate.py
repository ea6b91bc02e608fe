"""`vidrd evaluate`: measure a folder of videos, or what a model makes of prompts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import typer

from vidrd_core.cli.errors import InputError, input_checked, note, reason
from vidrd_core.cli.progress import busy
from vidrd_core.cli.render import Machine, group, loaded, rules_of
from vidrd_core.data.shards import write_json
from vidrd_core.evaluation.clip import Clip
from vidrd_core.evaluation.evaluate import Networks, Record, evaluate, flat, read, summary
from vidrd_core.evaluation.flow import MissingError
from vidrd_core.evaluation.fvd import Statistics, statistics
from vidrd_core.evaluation.networks import classifier, network
from vidrd_core.evaluation.page import MEANINGS, page
from vidrd_core.evaluation.records import weights_of
from vidrd_core.evaluation.seams import Video
from vidrd_core.evaluation.subjects import Clips, Making, Subject, from_folder, from_model
from vidrd_core.interrupt import Interrupt
from vidrd_core.settings import SampleSettings
from vidrd_core.video import contact_sheet

RESULT, PAGE, SHEETS = "evaluation.json", "report.html", "sheets"


@dataclass(frozen=True)
class Wanted:
    """What is to be measured, and by what."""

    videos: Path | None
    prompts: Path | None
    output: Path
    captions: Path | None
    clip_frames: int | None
    repeated: int
    prompt_frames: int | None
    clips: int
    videos_per_prompt: int
    fvd: str | None
    reference: Path | None
    classifier: Path | None
    clip: Path | None
    network_frames: int
    sheets: int


def run(given: dict[str, Any]) -> None:
    """Measure, and write what comes of it: evaluation.json and report.html in the output folder."""
    wanted = Wanted(**group(Wanted, given))
    process, processes = (
        int(os.environ.get(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"))
    )
    if (wanted.videos is None) == (wanted.prompts is None):
        raise InputError("expected either a folder of VIDEOS, or --prompts for a model: give one of them")
    if wanted.fvd and not wanted.reference:
        raise InputError("--fvd needs --reference: a folder of real videos, or statistics of them")
    if wanted.reference and not wanted.fvd:
        raise InputError("--reference is for --fvd: name its network")
    with input_checked():
        networks = _networks(wanted, given["device"])
    subjects, about = _subjects(wanted, given)
    done = 0

    def told(subject: Subject, record: Record, video: Video | None) -> None:
        nonlocal done
        done += 1
        if video is not None and subject.name in pictured:
            _draw(video, record, wanted.output / SHEETS)
        said = f": {record['reason']}" if "reason" in record else ""
        if said or done % 10 == 0:
            note(f"{done} videos{f' by process {process}' if processes > 1 else ''}, {subject.name}{said}")
        stop.check()

    pictured = {subject.name for subject in subjects[: wanted.sheets]}
    try:
        with Interrupt() as stop, input_checked():
            evaluate(subjects, wanted.output, networks, about, process=process, processes=processes, on_record=told)
    except MissingError as error:
        raise InputError(reason(error)) from error
    except KeyboardInterrupt:
        note(f"stopped; the same command goes on with {wanted.output}")
        raise
    _conclude(wanted, networks, {**networks.told(), **about}, {subject.name for subject in subjects})


def _networks(wanted: Wanted, device: str) -> Networks:
    return Networks(
        network(wanted.fvd, device) if wanted.fvd else None,
        classifier(wanted.classifier, device) if wanted.classifier else None,
        Clip(wanted.clip, device) if wanted.clip else None,
        wanted.network_frames,
    )


def _subjects(wanted: Wanted, given: dict[str, Any]) -> tuple[list[Subject], dict[str, Any]]:
    """What is to be measured, and what tells it from other things."""
    with input_checked():
        if wanted.videos is not None:
            clips = None
            if wanted.clip_frames is not None:
                clips = Clips(wanted.clip_frames, wanted.repeated, wanted.prompt_frames or 0)
                clips.joints(0)  # a mistake in them is told now
            elif wanted.repeated:
                raise InputError("--repeated needs --clip-frames: how many frames a clip has")
            return from_folder(wanted.videos, clips, wanted.captions), {"videos": str(wanted.videos)}
        assert wanted.prompts is not None
        prompts = [line.strip() for line in wanted.prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
        sample = SampleSettings(**group(SampleSettings, given))
    model = loaded(Machine(**group(Machine, given)))
    with input_checked():
        sample = model.complete(sample)
        assert sample.frames is not None
        reuse = rules_of(given["preset"], sample.frames, given)
        reuse.check_frames(sample.frames)
        making = Making(wanted.clips, wanted.videos_per_prompt, reuse, asdict(sample))
        about = {"model": model.name, "weights": weights_of(model), "loras": model.loras, "clips": wanted.clips}
        return from_model(model, prompts, making), {**about, **asdict(sample), **asdict(reuse)}


def _draw(video: Video, record: Record, folder: Path) -> None:
    """A picture of a video, its clips one under the other; of a long one, what fits on a screen."""
    folder.mkdir(parents=True, exist_ok=True)
    every = max(1, len(video) // 64)
    scale = max(1, 64 // min(video.shape[1:3]))
    seams = [seam for seam in record["seams"] if every == 1]
    contact_sheet([video], folder / sheet_name(record["name"]), every=every, scale=scale, seams=seams)


def _conclude(wanted: Wanted, networks: Networks, header: dict[str, Any], names: set[str]) -> None:
    """Write the result, if all is measured: where several processes do, the last one to end writes it."""
    if missing := len(names) - len({record["name"] for record in read(wanted.output)} & names):
        note(f"{missing} videos are left to other processes; the last one to end writes {RESULT}")
        return
    with input_checked():
        reference = _reference(wanted, networks)
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
    _write(wanted.output / PAGE, page(title, header, found, values, sheets, skipped))
    _tell(found)
    note(f"{found['videos']} videos measured, {found['skipped']} skipped: {wanted.output / PAGE}")


def _reference(wanted: Wanted, networks: Networks) -> Statistics | None:
    """Statistics of real videos: from a file, or of a folder's videos, kept for the next time."""
    if networks.fvd is None or wanted.reference is None:
        return None
    if wanted.reference.is_file():
        return Statistics.load(wanted.reference)
    kept = wanted.output / "reference.safetensors"
    if kept.exists():
        found = Statistics.load(kept)
        if found.about.network == networks.fvd.name and found.about.frames == networks.frames:
            return found
    with busy(f"features of {wanted.reference}"):
        found = of_folder(wanted.reference, networks)
    found.save(kept)
    return found


def of_folder(folder: Path, networks: Networks) -> Statistics:
    """Statistics of the first frames of a folder's videos; those that cannot be read, or are too short, are told."""
    assert networks.fvd is not None
    rates: set[float] = set()

    def firsts() -> Iterator[Video]:
        for subject in from_folder(folder):
            try:
                shown = subject.show()
            except ValueError as error:
                note(f"{subject.name} is left out: {reason(error)}")
                continue
            if len(shown.video) < networks.frames:
                note(f"{subject.name} is left out: it has {len(shown.video)} frames, expected {networks.frames}")
                continue
            rates.add(round(shown.fps, 3))
            yield shown.video[None, : networks.frames]

    found = statistics(firsts(), networks.fvd, networks.fvd.name, None)
    fps = rates.pop() if len(rates) == 1 else None
    return replace(found, about=replace(found.about, fps=fps))


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


def sheet_name(name: str) -> str:
    """The picture of a video of this name; names of folders count."""
    return name.replace("/", "_") + ".png"


def _write(path: Path, text: str) -> None:
    """A file that appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
