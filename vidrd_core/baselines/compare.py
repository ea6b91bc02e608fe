"""Compares ways to a long video on a model of procedural clips: each at its best setting, same prompts, same steps.

First every setting of every method makes videos of a few prompts; the best of each method then makes those of the
prompts that count. What is written: records.jsonl, comparison.json, comparison.md and a contact sheet of each method.
"""

from __future__ import annotations

import argparse
import json
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

from vidrd_core.baselines.base import frames_denoised
from vidrd_core.baselines.ranking import best_settings, goodness, of, summary
from vidrd_core.baselines.registry import candidates
from vidrd_core.baselines.tables import by_clip, draw, file_name, table, write_docs
from vidrd_core.loading import load
from vidrd_core.metrics import seams
from vidrd_core.metrics.peak_memory import allocated
from vidrd_core.procedural import Scene, describe, evaluation_scenes
from vidrd_core.procedural.chain_metrics import Record, from_any_moment, measure, points_as_told, words_of
from vidrd_core.procedural.recognition import read_clip
from vidrd_core.settings import SampleSettings

TUNING_SEED, SCENE_SEED = 77, 2309
TUNING_CLIPS = 4
PICTURED = {"straight": 0, "orbit": 9}  # prompts of which the page shows all methods
Job = tuple[str, int, Scene, int]  # stage, number of the prompt, its scene, number of the candidate


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
    """Make and measure all videos that are not in `out` yet; returns the comparison."""
    out.mkdir(parents=True, exist_ok=True)
    loaded = load(model)
    tried = candidates(loaded.diffusion.frames, prompted)
    settings = {"model": loaded.signature, "clips": clips, "steps": steps, "solver": solver}
    settings |= {"prompts": prompts, "tuning prompts": tuning}  # which decide which prompts these are
    if prompted:
        settings["prompted"] = load(prompted).signature
    path = out / "records.jsonl"
    records = _opened(path, settings)
    made = partial(make, model, prompted, clips, steps, solver, out, sheets)

    def fill(stage: str, count: int, seed: int, numbers: Sequence[int]) -> None:
        done = {(r["stage"], r["prompt"], r["method"], r["setting"]) for r in records}
        jobs = [
            (stage, index, scene, number)
            for index, scene in enumerate(evaluation_scenes(count, seed, 1))
            for number in numbers
            if (stage, index, tried[number].method, tried[number].setting) not in done
        ]
        began = time.perf_counter()
        with path.open("a", encoding="utf-8", newline="\n") as file:
            for number, record in enumerate(_results(made, jobs, workers), 1):
                file.write(json.dumps(record, allow_nan=False) + "\n")
                file.flush()
                records.append(record)
                left = (time.perf_counter() - began) / number * (len(jobs) - number) / 60
                print(
                    f"\r{stage}: {number} of {len(jobs)}, {left:.0f} min left ", end="", file=sys.stderr, flush=True
                )

    fill("tuning", tuning, TUNING_SEED, range(len(tried)))
    best = best_settings(tried, [r for r in records if r["stage"] == "tuning"])
    fill("compared", prompts, SCENE_SEED, best)
    fill("memory", 1, SCENE_SEED, best)
    rows = [r for r in records if r["stage"] == "compared"]
    return {
        "settings": settings,
        "tuning": {
            f"{c.method}: {c.setting}": round(goodness(of(records, "tuning", c)), 3) for c in tried
        },
        "methods": [
            {
                **summary(tried[number], of(rows, "compared", tried[number])),
                "memory": of(records, "memory", tried[number])[0]["memory"],
            }
            for number in best
        ],
    }  # fmt: skip


def make(model: str, prompted: str, clips: int, steps: int, solver: str, out: Path, sheets: int, job: Job) -> Record:
    """One video, measured."""
    stage, index, scene, number = job
    clips = min(clips, TUNING_CLIPS) if stage == "tuning" else clips
    frames = _load_once(model).diffusion.frames
    candidate = candidates(frames, prompted)[number]
    loaded = _load_once(candidate.model or model)
    text = describe(scene)
    sample = loaded.complete(SampleSettings(seed=index, steps=steps, solver=solver))
    about = {"stage": stage, "prompt": index, "method": candidate.method, "setting": candidate.setting, "text": text}
    if stage == "memory":
        work = [partial(candidate.make, loaded, text, length, sample) for length in (clips, 4 * clips)]
        peaks = [allocated(each, loaded.unet) for each in work]
        return {**about, "memory": [round(peak, 1) for peak in peaks]}
    began = time.perf_counter()
    with frames_denoised(loaded) as count:
        made = candidate.make(loaded, text, clips, sample)
    video, reuse = made.video, made.reuse
    evaluations = count[0] / (2 if sample.cfg != 1.0 else 1)
    record = measure(video, scene, frames, clips, reuse)
    repeated = reuse.repeated_frames
    spans = [slice(k * (frames - repeated), k * (frames - repeated) + frames) for k in range(clips)]
    shown = [read_clip(video[span], len(scene.sprites)).sprites[0] for span in spans]
    told = shown, scene.sprites[0].motion, video.shape[1]
    means = [video[span].mean((0, 1, 2)) / 255 for span in spans]
    period = 2 * frames
    loop = seams.loopiness(video, period, reach=seams.LOOP_REACH) if len(video) > period + seams.LOOP_REACH else 0.0
    if stage == "compared" and index < sheets:
        draw(video, frames, record, text, out / "sheets" / f"{index:03d}_{file_name(candidate.method)}.png")
    return {
        **about, **words_of(scene.sprites), **record,
        "as_told": points_as_told(*told), "from_any_moment": from_any_moment(*told),
        "loop_2N": round(float(loop), 4), "drift": round(float(np.abs(means[-1] - means[0]).max()), 5),
        "dynamic": round(float(seams.steps(video).mean()), 5),
        "calls": round(evaluations / len(video) / steps, 4), "frames": len(video),
        "seconds": round(time.perf_counter() - began, 3),
    }  # fmt: skip


def _opened(path: Path, settings: dict[str, Any]) -> list[Record]:
    """The records in a file of the same settings; half a last line, of a stopped run, is cut off."""
    if not path.exists():
        path.write_text(json.dumps(settings) + "\n", encoding="utf-8")
        return []
    with path.open("rb+") as file:
        file.truncate(file.read().rfind(b"\n") + 1)
    found, *records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if found != settings:
        raise ValueError(f"{path} holds records of {found}, now {settings}: choose another folder, or delete it")
    return records


def _results(work: Any, jobs: Sequence[Job], workers: int) -> Iterator[Record]:
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
    """Compare, and write what came out."""
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
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/compare"), help="folder; a rerun goes on in it")
    parser.add_argument("--prompted", default="", help="a model trained with clean prompt frames, tried too")
    parser.add_argument("--docs", type=Path, help="folder whose long_videos.md gets the table and pictures")
    given = vars(parser.parse_args(arguments))
    docs = given.pop("docs")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the workers' profilers tell of each start
    try:
        comparison = run(**given)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(f"\nstopped; run it again to go on with {given['out']}")
    (given["out"] / "comparison.json").write_text(json.dumps(comparison, indent=1) + "\n", encoding="utf-8")
    (given["out"] / "comparison.md").write_text(f"{table(comparison)}\n{by_clip(comparison)}", encoding="utf-8")
    print(f"\n{table(comparison)}\n{by_clip(comparison)}")
    if docs:
        try:
            write_docs(comparison, given["out"] / "sheets", docs, PICTURED)
        except (OSError, ValueError) as error:
            sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
