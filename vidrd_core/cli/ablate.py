"""`vidrd ablate`: the effect of M, alpha and beta on a model's long videos, each varied alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from vidrd_core.cli.errors import InputError, input_checked, note, say
from vidrd_core.cli.evaluate import prompts_of
from vidrd_core.cli.evaluate_options import SweepOptions
from vidrd_core.cli.measuring import PAGE, SHEETS, NetworkOptions, about_model, measure, process_device, sheet_name
from vidrd_core.cli.options import MachineOptions, ModelOptions
from vidrd_core.cli.request import load_model, reuse_settings
from vidrd_core.evaluation.ablation import (
    Sweep,
    ablation_videos,
    paper_sweeps,
    unique_points,
    video_name,
)
from vidrd_core.evaluation.ablation_analysis import analyze, group_by_point
from vidrd_core.evaluation.confidence import Statistic, frechet_to
from vidrd_core.evaluation.runner import Networks, read_records
from vidrd_core.io.atomic import write_json, write_text
from vidrd_core.metrics.feature_extractors import load_feature_extractor
from vidrd_core.metrics.frechet import Array
from vidrd_core.metrics.fvd import FeatureStatistics, feature_statistics
from vidrd_core.metrics.inception import SPLITS, inception_score
from vidrd_core.pipeline import VidRD
from vidrd_core.procedural.drawn import DrawnClips, drawn_clips_of
from vidrd_core.reports.ablation import ablation_page
from vidrd_core.reuse import ReuseSettings
from vidrd_core.settings import SampleSettings

RESULT = "ablation.json"
REFERENCE_CLIPS = 2000
RANDOM_FEATURES = "python:vidrd_core.metrics.random_features:RandomProjectionFeatures"
RANDOM_FEATURES_NAME = "python:vidrd_core.evaluation.looks:Looks"  # in records since 0.1.0, which are resumed


@dataclass(frozen=True)
class AblateRequest:
    """What `vidrd ablate` is asked for.

    Args:
        output: The folder of the result.
        sweep: What is varied, and on what.
        networks: The networks that measure.
        preset: The name of reuse settings that `reuse` overrides.
        reuse: The fields of `ReuseSettings` that were given.
        sample: The fields of `SampleSettings` that were given.
        model: The model.
        machine: What it computes on.
    """

    output: Path
    sweep: SweepOptions
    networks: NetworkOptions
    preset: str | None
    reuse: dict[str, Any]
    sample: dict[str, Any]
    model: ModelOptions
    machine: MachineOptions


def run(request: AblateRequest) -> None:
    """Generate and measure the videos of all points, and write ablation.json and report.html."""
    device = process_device(request.machine.device)
    options, chosen = request.sweep, request.networks
    chosen.check()
    with input_checked():
        texts = prompts_of(options.prompts) if options.prompts else []
        sample = SampleSettings(**request.sample)
    model = load_model(request.model, replace(request.machine, device=device))
    with input_checked():
        sample = model.complete(sample)
        assert sample.frames is not None
        base = reuse_settings(request.preset, sample.frames, request.reuse)
        varied = sweeps_of(options, sample.frames, base)
        for point in unique_points(varied):
            point.check_frames(sample.frames)
        drawn = drawn_clips_of(model)
        if not texts and not drawn:
            raise InputError(f"{model.name} is no model of drawn clips: give --prompts for it")
        texts = texts or (drawn.prompts(options.videos) if drawn else [])
        prompts = [texts[number % len(texts)] for number in range(options.videos)]
    networks = chosen.networks(sample.frames, device)
    drawn = drawn if drawn and not networks.fvd and drawn.is_caption(prompts[0]) else None
    if drawn:
        features = load_feature_extractor(RANDOM_FEATURES, device)
        networks = replace(networks, fvd=replace(features, name=RANDOM_FEATURES_NAME))
    if networks.fvd and options.videos < 3:
        raise InputError(
            f"videos is {options.videos}, expected 3 or more: FVD's intervals leave one out of two or more"
        )
    with input_checked():
        points = unique_points(varied)
        sources = ablation_videos(model, prompts, points, options.clips, asdict(sample), networks.frames)
    fixed = {name: value for name, value in base.metadata().items() if name not in ("prompt_frames", "alpha", "beta")}
    header = {
        **about_model(model, options.clips),
        **sample.metadata(),
        **fixed,
        "prompts": str(options.prompts or "drawn scenes"),
    }
    pictured = {video_name(number, point) for number in range(options.sheets) for point in points}
    if not measure(sources, request.output, networks, header, pictured):
        return
    with input_checked():
        names = {source.name for source in sources}
        reference = partial(_drawn_statistics, drawn, networks, sample) if drawn else None
        found = analyze_records(request, networks, varied, 2 * sample.frames, names, reference)
    write_json(request.output / RESULT, {"settings": {**networks.metadata(), **header}, "sweeps": found})
    _write_page(request, model, {**networks.metadata(), **header}, varied, found)
    for each in found:
        say(each["statement"])
    note(f"{len(points)} points of {options.videos} videos: {request.output / PAGE}")


def sweeps_of(options: SweepOptions, frames: int, base: ReuseSettings) -> Sequence[Sweep]:
    """The sweeps that the options ask for. Raises ValueError for invalid values, or if nothing is varied."""
    kinds: dict[str, tuple[str, Callable[[str], Any]]] = {
        "prompt_frames": (options.counts, int),
        "alpha": (options.alphas, float),
        "beta": (options.betas, float),
    }
    values: dict[str, list[Any] | None] = {}
    for setting, (text, kind) in kinds.items():
        try:
            if text:
                values[setting] = None if text == "none" else [kind(part) for part in text.split(",")]
        except ValueError as error:
            raise ValueError(f"{setting} takes {text!r}, expected numbers separated by commas, or none") from error
    if not (found := paper_sweeps(frames, base, values)):
        raise ValueError("nothing is varied: only two of --counts, --alphas and --betas may be none")
    return found


def analyze_records(
    request: AblateRequest,
    networks: Networks,
    varied: Sequence[Sweep],
    period: int,
    names: set[str],
    reference: Callable[[], FeatureStatistics] | None,
) -> list[dict[str, Any]]:
    """Analyze the records.

    Args:
        request: What the command is asked for.
        networks: The networks.
        varied: The sweeps.
        period: Lag in frames at which loopiness is taken.
        names: Names of the videos that count.
        reference: Computes the reference statistics for a model of drawn clips.

    Returns:
        A JSON-ready dict for each sweep, with its trends and its statement.
    """
    results = group_by_point((each for each in read_records(request.output) if each["name"] in names), period)
    statistics: dict[str, tuple[str, Statistic]] = {}
    known = reference() if reference else request.networks.reference_statistics(networks, request.output)
    if known:
        statistics["fvd"] = ("fvd", frechet_to(known))
    if networks.classifier and request.sweep.videos >= SPLITS:
        statistics["inception_score"] = ("classes", _mean_inception_score)
    return analyze(varied, results, statistics)


def _mean_inception_score(probabilities: Array) -> float:
    """The mean of the Inception Score over its splits."""
    return inception_score(probabilities)[0]


def _drawn_statistics(drawn: DrawnClips, networks: Networks, sample: SampleSettings) -> FeatureStatistics:
    """Statistics of drawn clips, the reference for a model of them."""
    assert networks.fvd is not None
    assert sample.frames is not None
    assert sample.height is not None
    found = drawn.reference(REFERENCE_CLIPS, sample.frames, sample.height)
    return feature_statistics(
        (clip[None, : networks.frames] for clip in found), networks.fvd, networks.fvd.name, None
    )


def _write_page(
    request: AblateRequest,
    model: VidRD,
    header: dict[str, Any],
    varied: Sequence[Sweep],
    found: Sequence[dict[str, Any]],
) -> None:
    """Write report.html."""
    sheets = []
    for number in range(request.sweep.sheets):
        for point in unique_points(varied):
            name = video_name(number, point)
            if (picture := request.output / SHEETS / sheet_name(name)).exists():
                sheets.append((name, picture))
    write_text(request.output / PAGE, ablation_page(f"M, alpha and beta on {model.name}", header, found, sheets))
