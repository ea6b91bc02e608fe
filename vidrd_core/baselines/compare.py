"""The comparison of methods for long videos on a model of procedural clips: each at its best setting.

All methods get the same prompts, seeds and steps. First every setting of every method generates videos of a few
prompts; the best one of each method then generates those of the prompts that count. The results are records.jsonl,
comparison.json, comparison.md and contact sheets of each method.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidrd_core.baselines.base import Candidate, count_denoised_frames
from vidrd_core.baselines.measure import Measure, best_settings, select
from vidrd_core.baselines.registry import candidates, current_setting
from vidrd_core.baselines.shapes_measure import ShapesMeasure
from vidrd_core.baselines.tables import file_name, write_docs
from vidrd_core.baselines.world_measure import WorldMeasure
from vidrd_core.io.atomic import write_json, write_text
from vidrd_core.io.jsonl import JsonLines, check_header, resume
from vidrd_core.loading import load
from vidrd_core.metrics import seams
from vidrd_core.metrics.peak_memory import peak_memory_mib
from vidrd_core.pipeline import VidRD
from vidrd_core.procedural import EVALUATION_SEED
from vidrd_core.procedural.chain_metrics import Record
from vidrd_core.procedural.drawn import Shapes, World, drawn_clips_of
from vidrd_core.settings import SampleSettings

TUNING_SEED = 77
TUNING_CLIPS = 4
Job = tuple[str, int, tuple[str, Any], int]
"""Stage, index of the prompt, the prompt with what it should show, index of the candidate."""
MEASURES: dict[type, Measure] = {Shapes: ShapesMeasure(), World: WorldMeasure()}


def measure_of(model: VidRD) -> Measure:
    """How videos of a model are measured. Raises ValueError for a model of other clips than drawn ones."""
    try:
        return MEASURES[type(drawn_clips_of(model))]
    except KeyError:
        raise ValueError(
            f"{model.name} is no model of drawn clips, of which videos could be read: train one by vidrd train"
        ) from None


def run(
    model: str,
    out: Path,
    prompts: int,
    tuning: int,
    clips: int,
    steps: int,
    solver: str,
    workers: int,
    sheets: int,
    prompted: str = "",
) -> dict[str, Any]:
    """Generate and measure all videos that `out` does not hold yet.

    Args:
        model: Name or folder of the model.
        out: Folder of the results.
        prompts: Number of prompts that count.
        tuning: Number of prompts that settings are selected by.
        clips: Clips of a video.
        steps: Sampling steps.
        solver: Name of the solver.
        workers: Number of processes.
        sheets: For how many prompts contact sheets are kept.
        prompted: A model trained with clean prompt frames, to be compared as well.

    Returns:
        The comparison, a dictionary for JSON.

    Raises:
        ValueError: `out` holds records of other settings, or videos of the model cannot be read by program.
    """
    loaded = load(model)
    measure = measure_of(loaded)
    out.mkdir(parents=True, exist_ok=True)
    tried = candidates(loaded.diffusion.frames, prompted)
    settings = {"model": loaded.signature, "clips": clips, "steps": steps, "solver": solver}
    settings |= {"prompts": prompts, "tuning prompts": tuning}  # they determine the scenes
    if prompted:
        settings["prompted"] = load(prompted).signature
    path = out / "records.jsonl"
    found, records = resume(path)
    if found is not None:
        check_header(path, settings, found)
    records = [{**record, "setting": current_setting(record["setting"])} for record in records]
    work = partial(make_record, model, prompted, clips, steps, solver, out, sheets)

    def fill(stage: str, count: int, seed: int, numbers: Sequence[int]) -> None:
        done = {(r["stage"], r["prompt"], r["method"], r["setting"]) for r in records}
        jobs = [
            (stage, index, prompt, number)
            for index, prompt in enumerate(measure.prompts(count, seed))
            for number in numbers
            if (stage, index, tried[number].name, tried[number].setting) not in done
        ]
        began = time.perf_counter()
        with JsonLines(path, settings) as file:
            for number, record in enumerate(_results(work, jobs, workers), 1):
                file.append(record)
                records.append(record)
                left = (time.perf_counter() - began) / number * (len(jobs) - number) / 60
                print(
                    f"\r{stage}: {number} of {len(jobs)}, {left:.0f} min left ", end="", file=sys.stderr, flush=True
                )

    fill("tuning", tuning, TUNING_SEED, range(len(tried)))
    best = best_settings(tried, [r for r in records if r["stage"] == "tuning"], measure.quality)
    fill("compared", prompts, EVALUATION_SEED, best)
    fill("memory", 1, EVALUATION_SEED, best)
    rows = [r for r in records if r["stage"] == "compared"]
    return {
        "settings": settings,
        "tuning": {
            f"{c.name}: {c.setting}": round(measure.quality(select(records, "tuning", c)), 3) for c in tried
        },
        "methods": [
            {
                **_row(tried[number], select(rows, "compared", tried[number]), measure),
                "memory": select(records, "memory", tried[number])[0]["memory"],
            }
            for number in best
        ],
    }  # fmt: skip


def make_record(
    model: str, prompted: str, clips: int, steps: int, solver: str, out: Path, sheets: int, job: Job
) -> Record:
    """Generate and measure one video, or the peak memory of two lengths; the arguments are those of `run`."""
    stage, index, prompt, number = job
    clips = min(clips, TUNING_CLIPS) if stage == "tuning" else clips
    frames = _load_once(model).diffusion.frames
    candidate = candidates(frames, prompted)[number]
    loaded = _load_once(candidate.model or model)
    measure, text = measure_of(loaded), prompt[0]
    sample = loaded.complete(SampleSettings(seed=index, steps=steps, solver=solver))
    about = {"stage": stage, "prompt": index, "method": candidate.name, "setting": candidate.setting, "text": text}
    if stage == "memory":
        generate = candidate.method.generate
        work = [partial(generate, loaded, text, length, sample) for length in (clips, 4 * clips)]
        peaks = [peak_memory_mib(each, loaded.unet) for each in work]
        return {**about, "memory": [round(peak, 1) for peak in peaks]}
    began = time.perf_counter()
    with count_denoised_frames(loaded) as count:
        made = candidate.method.generate(loaded, text, clips, sample)
    seconds = round(time.perf_counter() - began, 3)
    video, period = made.video, 2 * frames
    evaluations = count[0] / (2 if sample.cfg != 1.0 else 1)
    loop = seams.loopiness(video, period, reach=seams.LOOP_REACH) if len(video) > period + seams.LOOP_REACH else 0.0
    record = {
        **about, **measure.record(made, prompt, frames, clips),
        "loop_2N": round(float(loop), 4), "dynamic": round(float(seams.frame_changes(video).mean()), 5),
        "calls": round(evaluations / len(video) / steps, 4), "frames": len(video), "seconds": seconds,
    }  # fmt: skip
    if stage == "compared" and index < sheets:
        measure.draw(made, frames, record, out / "sheets" / f"{index:03d}_{file_name(candidate.name)}.png")
    return record


def _row(candidate: Candidate, records: Sequence[Record], measure: Measure) -> dict[str, Any]:
    """A method's row of the comparison."""
    means = ("loop_2N", "drift", "dynamic")
    return {
        "method": candidate.name,
        "setting": candidate.setting,
        **measure.summarize(records),
        **{name: round(float(np.mean([r[name] for r in records])), 4) for name in means},
        "calls": records[0]["calls"],
        "seconds a shown frame": round(float(np.median([r["seconds"] / r["frames"] for r in records])), 4),
    }


def _results(work: Any, jobs: Sequence[Job], workers: int) -> Iterator[Record]:
    """The records of jobs, as soon as they are complete."""
    if workers == 1:
        yield from map(work, jobs)
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,))
    try:
        for future in as_completed([pool.submit(work, job) for job in jobs]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


_load_once = lru_cache(maxsize=2)(load)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison and write its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="tiny")
    for name, default in (
        ("prompts", 100),
        ("tuning", 14),
        ("clips", 8),
        ("steps", 12),
        ("workers", 2),
        ("sheets", 10),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--solver", default="dpmpp_2m")
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("runs/compare"), help="folder; the same command resumes in it"
    )
    parser.add_argument(
        "--prompted", default="", help="a model trained with clean prompt frames, to be compared as well"
    )
    parser.add_argument("--docs", type=Path, help="folder whose long_videos.md gets the table and pictures")
    given = vars(parser.parse_args(arguments))
    docs = given.pop("docs")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # keeps the workers' profilers quiet
    try:
        comparison = run(**given)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(f"\nstopped; the same command resumes {given['out']}")
    measure = measure_of(load(given["model"]))
    tables = measure.tables(comparison["methods"])
    write_json(given["out"] / "comparison.json", comparison)
    write_text(given["out"] / "comparison.md", tables)
    print(f"\n{tables}")
    if docs:
        try:
            methods = [row["method"] for row in comparison["methods"]]
            write_docs(methods, tables, given["out"] / "sheets", docs, measure.pictured)
        except (OSError, ValueError) as error:
            sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
