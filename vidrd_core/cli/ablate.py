"""`vidrd ablate`: what M, alpha and beta do to a model's long videos, each varied alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import typer

from vidrd_core.cli.errors import InputError, input_checked, note
from vidrd_core.cli.evaluate import prompts_of
from vidrd_core.cli.measuring import PAGE, SHEETS, Asked, about_model, measure, own_device, sheet_name
from vidrd_core.cli.options import MachineOptions, ModelOptions
from vidrd_core.cli.request import group, load_model, reuse_settings
from vidrd_core.evaluation.ablation import ALPHAS, BETAS, Sweep, counts, distinct, subject_name, subjects, sweep
from vidrd_core.evaluation.ablation_analysis import findings, gathered
from vidrd_core.evaluation.confidence import Statistic, frechet_to
from vidrd_core.evaluation.runner import Networks, read
from vidrd_core.io.atomic import write_json, write_text
from vidrd_core.metrics.feature_extractors import network
from vidrd_core.metrics.frechet import Array
from vidrd_core.metrics.fvd import Statistics, statistics
from vidrd_core.metrics.inception import SPLITS, inception_score
from vidrd_core.pipeline import VidRD
from vidrd_core.procedural import describe, evaluation_scenes, render
from vidrd_core.procedural.prompt_alignment import scene_for
from vidrd_core.reports.ablation import page
from vidrd_core.reuse import ReuseSettings
from vidrd_core.settings import SampleSettings

RESULT = "ablation.json"
SCENE_SEED, DRAWN_SEED, DRAWN = 2309, 77, 2000
IN_BALANCE = 56  # scenes: four of each motion, seven of each colour
LOOKS = "python:vidrd_core.metrics.random_features:Looks"


@dataclass(frozen=True)
class Wanted:
    """What is varied, and on what."""

    output: Path
    prompts: Path | None
    videos: int
    clips: int
    counts: str
    alphas: str
    betas: str
    sheets: int

    def __post_init__(self) -> None:
        if self.videos < 2:
            raise InputError(f"videos is {self.videos}, expected 2 or more: one has no spread")


def run(given: dict[str, Any]) -> None:
    """Make and measure all points' videos, and write_text what comes of it: ablation.json and report.html."""
    given = {**given, "device": own_device(given["device"])}
    wanted, asked = Wanted(**group(Wanted, given)), Asked(**group(Asked, given))
    asked.check()
    with input_checked():
        told = prompts_of(wanted.prompts) if wanted.prompts else []
        sample = SampleSettings(**given["sample"])
    model = load_model(ModelOptions(**group(ModelOptions, given)), MachineOptions(**group(MachineOptions, given)))
    with input_checked():
        sample = model.complete(sample)
        assert sample.frames is not None
        base = reuse_settings(given["preset"], sample.frames, given["reuse"])
        varied = sweeps_of(wanted, sample.frames, base)
        for point in distinct(varied):
            point.check_frames(sample.frames)
        if not told:
            told = drawn_prompts(wanted.videos)
            if scene_for(model, told[0]) is None:
                raise InputError(f"{model.name} is no model of procedural clips: give --prompts for it")
        prompts = [told[number % len(told)] for number in range(wanted.videos)]
    networks = asked.networks(sample.frames, given["device"])
    own = networks.fvd is None and scene_for(model, prompts[0]) is not None
    if own:
        networks = replace(networks, fvd=network(LOOKS, given["device"]))
    with input_checked():
        points = distinct(varied)
        made = subjects(model, prompts, points, wanted.clips, asdict(sample), networks.frames)
    fixed = {name: value for name, value in base.metadata().items() if name not in ("prompt_frames", "alpha", "beta")}
    header = {
        **about_model(model, wanted.clips),
        **asdict(sample),
        **fixed,
        "prompts": str(wanted.prompts or "drawn scenes"),
    }
    pictured = {subject_name(number, point) for number in range(wanted.sheets) for point in points}
    if not measure(made, wanted.output, networks, header, pictured):
        return
    drawn = partial(_drawn, networks, sample) if own else None
    with input_checked():
        found = conclude(
            wanted, asked, networks, varied, 2 * sample.frames, {subject.name for subject in made}, drawn
        )
    write_json(wanted.output / RESULT, {"settings": {**networks.told(), **header}, "sweeps": found})
    _write_page(wanted, model, {**networks.told(), **header}, varied, found)
    for each in found:
        typer.echo(each["statement"])
    note(f"{len(points)} points of {wanted.videos} videos: {wanted.output / PAGE}")


def drawn_prompts(count: int) -> list[str]:
    """Of scenes in balance; the first ones are the same whatever their number, so that a run can be made longer."""
    blocks = range(-(-count // IN_BALANCE))
    return [describe(scene) for block in blocks for scene in evaluation_scenes(IN_BALANCE, SCENE_SEED + block)][
        :count
    ]


def sweeps_of(wanted: Wanted, frames: int, base: ReuseSettings) -> list[Sweep]:
    """What is varied. Raises ValueError for values that cannot be, or if nothing is."""
    kinds: dict[str, tuple[str, Sequence[Any], Callable[[str], Any]]] = {
        "prompt_frames": (wanted.counts, counts(frames), int),
        "alpha": (wanted.alphas, ALPHAS, float),
        "beta": (wanted.betas, BETAS, float),
    }
    found = []
    for setting, (text, usual, kind) in kinds.items():
        if text == "none":
            continue
        try:
            values = [kind(part) for part in text.split(",")] if text else usual
        except ValueError as error:
            raise ValueError(f"{setting} takes {text!r}, expected numbers with commas between, or none") from error
        found.append(sweep(setting, values, base))
    if not found:
        raise ValueError("nothing is varied: leave one of --counts, --alphas and --betas")
    return found


def conclude(
    wanted: Wanted,
    asked: Asked,
    networks: Networks,
    varied: Sequence[Sweep],
    period: int,
    names: set[str],
    drawn: Callable[[], Statistics] | None,
) -> list[dict[str, Any]]:
    """What the records come to."""
    measured = gathered((record for record in read(wanted.output) if record["name"] in names), period)
    made_of: dict[str, tuple[str, Statistic]] = {}
    reference = drawn() if drawn else asked.statistics(networks, wanted.output)
    if reference:
        made_of["fvd"] = ("fvd", frechet_to(reference))
    if networks.classifier and wanted.videos >= SPLITS:
        made_of["inception_score"] = ("classes", _score)
    return findings(varied, measured, made_of)


def _score(probabilities: Array) -> float:
    return inception_score(probabilities)[0]


def _drawn(networks: Networks, sample: SampleSettings) -> Statistics:
    """Of drawn clips, to which a model of procedural clips is held."""
    assert networks.fvd is not None
    assert sample.frames is not None
    assert sample.height is not None
    scenes = evaluation_scenes(DRAWN, DRAWN_SEED)
    clips = (render(scene, sample.frames, sample.height)[None, : networks.frames] for scene in scenes)
    return statistics(clips, networks.fvd, networks.fvd.name, None)


def _write_page(
    wanted: Wanted, model: VidRD, header: dict[str, Any], varied: Sequence[Sweep], found: Sequence[dict[str, Any]]
) -> None:
    sheets = []
    for number in range(wanted.sheets):
        for point in distinct(varied):
            name = subject_name(number, point)
            if (picture := wanted.output / SHEETS / sheet_name(name)).exists():
                sheets.append((name, picture))
    write_text(wanted.output / PAGE, page(f"M, alpha and beta on {model.name}", header, found, sheets))
