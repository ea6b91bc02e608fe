"""Compares ways to a long video on a model of procedural clips: each at its best setting, same prompts, same steps.

First every setting of every method makes videos of a few prompts; the best of each method then makes those of the
prompts that count. What is written: records.jsonl, comparison.json, comparison.md and a contact sheet of each method.
"""

from __future__ import annotations

import argparse
import json
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

from vidrd_core.data.shapes import Scene, describe, evaluation_scenes
from vidrd_core.evaluation import seams
from vidrd_core.evaluation.methods import Candidate, candidates, frames_denoised
from vidrd_core.evaluation.motion import Record, measure, words_of
from vidrd_core.evaluation.motion_along import points_as_told
from vidrd_core.loading import load
from vidrd_core.settings import SampleSettings

TUNING_SEED, SCENE_SEED = 77, 2309
TUNING_CLIPS = 4
Job = tuple[str, int, Scene, int]  # stage, number of the prompt, its scene, number of the candidate


def run(
    model: str, out: Path, prompts: int, tuning: int, clips: int, steps: int, solver: str, workers: int, sheets: int
) -> dict[str, Any]:
    """Make and measure all videos that are not in `out` yet; returns the comparison."""
    out.mkdir(parents=True, exist_ok=True)
    loaded = load(model)
    tried = candidates(loaded.diffusion.frames)
    settings = {"model": loaded.signature, "clips": clips, "steps": steps, "solver": solver}
    path = out / "records.jsonl"
    records = _opened(path, settings)
    made = partial(make, model, clips, steps, solver, out, sheets)

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
    rows = [r for r in records if r["stage"] == "compared"]
    return {
        "settings": {**settings, "prompts": prompts, "tuning prompts": tuning},
        "tuning": {
            f"{c.method}: {c.setting}": round(goodness(_of(records, "tuning", c)), 3) for c in tried
        },
        "methods": [summary(tried[number], _of(rows, "compared", tried[number])) for number in best],
    }  # fmt: skip


def make(model: str, clips: int, steps: int, solver: str, out: Path, sheets: int, job: Job) -> Record:
    """One video, measured."""
    stage, index, scene, number = job
    clips = min(clips, TUNING_CLIPS) if stage == "tuning" else clips
    loaded = _load_once(model)
    frames = loaded.diffusion.frames
    candidate = candidates(frames)[number]
    text = describe(scene)
    sample = loaded.complete(SampleSettings(seed=index, steps=steps, solver=solver))
    began = time.perf_counter()
    with frames_denoised(loaded) as count:
        made = candidate.make(loaded, text, clips, sample)
    video, reuse = made.video, made.reuse
    evaluations = count[0] / (2 if sample.cfg != 1.0 else 1)
    record = measure(video, scene, frames, clips, reuse)
    repeated = reuse.repeated_frames
    spans = [slice(k * (frames - repeated), k * (frames - repeated) + frames) for k in range(clips)]
    means = [video[span].mean((0, 1, 2)) / 255 for span in spans]
    period = 2 * frames
    loop = seams.loopiness(video, period, reach=seams.LOOP_REACH) if len(video) > period + seams.LOOP_REACH else 0.0
    if stage == "compared" and index < sheets:
        _draw(video, frames, record, text, out / "sheets" / f"{index:03d}_{_file_name(candidate)}.png")
    return {
        "stage": stage, "prompt": index, "method": candidate.method, "setting": candidate.setting, "text": text,
        **words_of(scene.sprites), **record, "as_told": points_as_told(video, spans, scene),
        "loop_2N": round(float(loop), 4), "drift": round(float(np.abs(means[-1] - means[0]).max()), 5),
        "dynamic": round(float(seams.steps(video).mean()), 5),
        "calls": round(evaluations / len(video) / steps, 4), "frames": len(video),
        "seconds": round(time.perf_counter() - began, 3),
    }  # fmt: skip


def goodness(records: Sequence[Record]) -> float:
    """By what a method's best setting is chosen, 0 to 1: the mean of six shares.

    Clips 2 to the last right in colour and shape; in motion; straight ones as told; seams of straight motions that
    keep the direction; and how near to 1 the median seam ratio and the median worst step are.
    """
    later = [clip for r in records for clip in r["clips"][1:]]
    right = [clip["right"] for clip in later]
    turns = [turn for r in records if r["as_told"] is not None for turn in r["turns"]]
    told = [share for r in records if r["as_told"] is not None for share in r["as_told"][1:]]
    near = [
        np.exp(-abs(np.log(max(np.median([x for r in records for x in r[name]]), 1e-3))))
        for name in ("seam_ratio", "worst_step")
    ]
    shares = [
        np.mean([each["color"] and each["shape"] for each in right]),
        np.mean([each["motion"] for each in right]),
        np.mean(told) if told else 1.0,
        turns.count("kept") / len(turns) if turns else 1.0,
        *near,
    ]
    return float(np.mean(shares))


def best_settings(tried: Sequence[Candidate], records: Sequence[Record]) -> list[int]:
    """The number of each method's best candidate, in the order in which methods are listed."""
    best: dict[str, tuple[float, int]] = {}
    for number, candidate in enumerate(tried):
        score = goodness(_of(records, "tuning", candidate))
        if candidate.method not in best or score > best[candidate.method][0]:
            best[candidate.method] = (score, number)
    return [number for _, number in best.values()]


def summary(candidate: Candidate, records: Sequence[Record]) -> dict[str, Any]:
    """A method's row: shares in %, medians with quartiles, means."""
    straight = [r for r in records if r["as_told"] is not None]
    others = [r for r in records if r["as_told"] is None]

    def right(clip: int, *keys: str) -> float:
        return 100 * float(np.mean([all(r["clips"][clip]["right"][key] for key in keys) for r in records]))

    def spread(name: str, rows: Sequence[Record]) -> list[float]:
        values = [x for r in rows for x in r[name]] or [0.0]  # of no such motions
        return [round(float(x), 3) for x in np.percentile(values, [50, 25, 75])]

    turns = [turn for r in straight for turn in r["turns"]]
    share = {turn: round(100 * turns.count(turn) / len(turns), 1) for turn in sorted(set(turns))}
    mean = {name: round(float(np.mean([r[name] for r in records])), 4) for name in ("loop_2N", "drift", "dynamic")}
    return {
        "method": candidate.method,
        "setting": candidate.setting,
        "color+shape by clip": [round(right(k, "color", "shape"), 1) for k in range(len(records[0]["clips"]))],
        "motion by clip": [round(right(k, "motion"), 1) for k in range(len(records[0]["clips"]))],
        "as told by clip": [
            round(100 * float(np.mean([r["as_told"][k] for r in straight] or [0])), 1)
            for k in range(len(records[0]["clips"]))
        ],
        "turns": share,
        **{name: spread(name, records) for name in ("seam_ratio", "worst_step")},
        "seam_ratio, straight": spread("seam_ratio", straight),
        "seam_ratio, others": spread("seam_ratio", others),
        **mean,
        "calls": records[0]["calls"],
        "seconds a shown frame": round(float(np.median([r["seconds"] / r["frames"] for r in records])), 4),
    }


def table(comparison: dict[str, Any]) -> str:
    """Markdown."""
    columns = (
        "method, at its best setting", "colour + shape, clip 1, last", "motion word", "straight motions as told",
        "direction kept", "seam ratio", "straight / others", "worst step", "loop at 2N", "colour drift", "dynamic",
        "calls",
    )  # fmt: skip
    head = "| " + " | ".join(columns) + " |"
    lines = [head, "|" + " --- |" * (head.count("|") - 1)]
    for row in comparison["methods"]:
        first_last = [
            f"{row[name][0]:.0f}, {row[name][-1]:.0f}"
            for name in ("color+shape by clip", "motion by clip", "as told by clip")
        ]
        m, q, p = row["seam_ratio"]
        lines.append(
            f"| {row['method']}: {row['setting']} | " + " | ".join(first_last)
            + f" | {row['turns'].get('kept', 0):.0f} | {m:.2f} ({q:.2f} to {p:.2f})"
            f" | {row['seam_ratio, straight'][0]:.2f} / {row['seam_ratio, others'][0]:.2f}"
            f" | {row['worst_step'][0]:.2f} | {row['loop_2N']:.2f} | {row['drift']:.4f} | {row['dynamic']:.4f}"
            f" | {row['calls']:.2f} |"
        )  # fmt: skip
    return "\n".join(lines) + "\n"


def _of(records: Sequence[Record], stage: str, candidate: Candidate) -> list[Record]:
    return [
        r for r in records if (r["stage"], r["method"], r["setting"]) == (stage, candidate.method, candidate.setting)
    ]


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


_load_once = lru_cache(maxsize=1)(load)


def _file_name(candidate: Candidate) -> str:
    return "".join(c if c.isalnum() else "_" for c in candidate.method)


def _draw(video: Any, frames: int, record: Record, text: str, path: Path) -> None:
    from vidrd_core.video import contact_sheet  # needs PyAV

    added = (len(video) - frames) // max(1, len(record["clips"]) - 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.split(video, range(frames, len(video), added))
    labels = [" ".join(clip[word] for word in ("color", "shape", "motion")) for clip in record["clips"]]
    labels[0] = f"{text} - {labels[0]}"
    contact_sheet(rows, path, labels)


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
        ("sheets", 3),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--solver", default="dpmpp_2m")
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/compare"), help="folder; a rerun goes on in it")
    given = vars(parser.parse_args(arguments))
    try:
        comparison = run(**given)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(f"\nstopped; run it again to go on with {given['out']}")
    (given["out"] / "comparison.json").write_text(json.dumps(comparison, indent=1) + "\n", encoding="utf-8")
    (given["out"] / "comparison.md").write_text(table(comparison), encoding="utf-8")
    print(f"\n{table(comparison)}")


if __name__ == "__main__":
    main()
