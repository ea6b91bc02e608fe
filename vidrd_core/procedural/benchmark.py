"""How well a model trained on procedural clips does: chains of clips are made and read out by program.

For each scene of `shapes.evaluation_scenes` one first clip is made, and from it a chain in every order. A record,
one line of JSON, holds what `read_clip` found in each clip and what `seams` and `motion` measured on the chain.

In forward order a clip begins with the M frames that the one before ended with, which are shown once. What is read
out is the whole clip all the same, its N frames, for that is what the model made.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidrd_core.loading import load
from vidrd_core.pipeline import VidRD
from vidrd_core.procedural import Scene, caption, describe, evaluation_scenes, render
from vidrd_core.procedural.benchmark_records import header_of, opened, read_records
from vidrd_core.procedural.benchmark_report import ORDERS, REAL, summarise, table
from vidrd_core.procedural.chain_metrics import Record, Video, measure, rounded, words_of
from vidrd_core.reuse import ReuseSettings
from vidrd_core.settings import SampleSettings
from vidrd_core.video.tensors import to_frames, to_video

Job = tuple[int, Scene, tuple[str, ...]]  # number of the prompt, its scene, what to make: orders, or REAL

CAPTIONS = ("plain", "free")
SCENE_SEED = 2309  # training draws from the generators (1, i)


@dataclass(frozen=True)
class ScoreSettings:
    """What is sampled. Prompt k has sampling seed `seed` + k; `reuse.order` gives way to each of `orders`."""

    prompts: int = 200
    clips: int = 8
    orders: tuple[str, ...] = ORDERS
    steps: int = 25
    seed: int = 0
    scene_seed: int = SCENE_SEED
    objects: int = 1  # in a scene, 1 or 2
    captions: str = "plain"  # or "free": in many ways, without what goes without saying
    cfg: float | None = None  # None: the model's own
    solver: str = "ddim"
    reuse: ReuseSettings = field(default_factory=ReuseSettings)

    def __post_init__(self) -> None:
        SampleSettings(seed=self.seed, steps=self.steps, solver=self.solver)
        for name in ("prompts", "clips"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if self.objects not in (1, 2):
            raise ValueError(f"objects is {self.objects}, expected 1 or 2")
        if self.captions not in CAPTIONS:
            raise ValueError(f"captions are {self.captions!r}, expected {' or '.join(CAPTIONS)}")
        if not self.orders or len(set(self.orders)) < len(self.orders) or not set(self.orders) <= set(ORDERS):
            raise ValueError(f"orders are {list(self.orders)}, expected some of {', '.join(ORDERS)}, each once")

    def text_of(self, index: int, scene: Scene) -> str:
        """What prompt `index` says of its scene."""
        if self.captions == "plain":
            return describe(scene)
        return caption(scene, np.random.default_rng((self.scene_seed, index)))

    def reuse_in(self, order: Any) -> ReuseSettings:
        return dataclasses.replace(self.reuse, order=order)


def score_model(
    model: str | Path | VidRD,
    out: Path,
    *,
    workers: int = 1,
    batch: int = 1,
    device: str = "cpu",
    sheets: int = 0,
    on_record: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> list[Record]:
    """Make and measure the chains that `settings` (those of ScoreSettings) ask for; returns their records.

    Each record is appended to the file `out` as soon as it is there; what the file holds already is not made again.
    Several workers are processes of one torch thread each, which load the model by name themselves. Each makes the
    chains of `batch` prompts at a time, on a device; another number makes them another way to rounding. Of the first
    `sheets` prompts a picture of every chain is kept beside `out`. `on_record` is told (done, total).
    Raises ValueError if `out` holds records of another model or of other settings.
    """
    chosen = ScoreSettings(**settings)
    if batch < 1:
        raise ValueError(f"batch is {batch}, expected 1 or more")
    if workers < 1 or (workers > 1 and isinstance(model, VidRD)):
        raise ValueError(f"workers is {workers}: expected 1 or more, and 1 for a model that is not given by its name")
    loaded = model if isinstance(model, VidRD) else load(model, device)
    chosen.reuse.check_frames(loaded.diffusion.frames)
    header = header_of(loaded, chosen)
    done = {(record["prompt"], record["order"]) for record in opened(Path(out), header)}
    kinds = (*chosen.orders, REAL)
    alike: dict[tuple[str, ...], list[Job]] = {}
    for index, scene in enumerate(evaluation_scenes(chosen.prompts, chosen.scene_seed, chosen.objects)):
        if missing := tuple(kind for kind in kinds if (index, kind) not in done):
            alike.setdefault(missing, []).append((index, scene, missing))
    jobs = [group[i : i + batch] for group in alike.values() for i in range(0, len(group), batch)]
    folder = Path(out).parent / "sheets"
    score_jobs = partial(_score_by, loaded if workers == 1 else model, device, chosen, folder, sheets)
    count = len(done)
    with Path(out).open("a", encoding="utf-8", newline="\n") as file:
        for record in _results(score_jobs, jobs, workers):
            file.write(json.dumps(record, allow_nan=False) + "\n")
            file.flush()
            count += 1
            if on_record:
                on_record(count, chosen.prompts * len(kinds))
    return read_records(out)[1]


def _results(
    score_jobs: Callable[[list[Job]], list[Record]], jobs: list[list[Job]], workers: int
) -> Iterator[Record]:
    if workers == 1:
        for some in jobs:
            yield from score_jobs(some)
        return
    pool = ProcessPoolExecutor(min(workers, max(1, len(jobs))), get_context("spawn"), _one_thread)
    try:
        for future in as_completed([pool.submit(score_jobs, some) for some in jobs]):
            yield from future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    torch.set_num_threads(1)


_load_once = lru_cache(maxsize=1)(load)  # a worker does many jobs


def _score_by(
    model: str | Path | VidRD, device: str, settings: ScoreSettings, folder: Path, sheets: int, jobs: list[Job]
) -> list[Record]:
    loaded = model if isinstance(model, VidRD) else _load_once(model, device)
    return score_prompts(loaded, settings, jobs, folder, sheets)


def score_prompts(
    model: VidRD, settings: ScoreSettings, jobs: Sequence[Job], sheets: Path | None = None, sheeted: int = 0
) -> list[Record]:
    """The records of prompts for which the same is missing, made in one batch: of their chains, and of the drawn
    scenes passed through the VAE. Pictures of those numbered below `sheeted` go to a folder."""
    size, frames = model.diffusion.size, model.diffusion.frames
    kinds, texts = jobs[0][2], [settings.text_of(index, scene) for index, scene, _ in jobs]

    def record(number: int, order: str, video: Video, **more: Any) -> Record:
        index, scene, _ = jobs[number]
        about: Record = {"prompt": index, "text": texts[number], "background": scene.background}
        reuse = settings.reuse_in("mirror" if order == REAL else order)
        clips = 1 if order == REAL else settings.clips
        read = measure(video, scene=scene, frames=frames, clips=clips, reuse=reuse)
        return {**about, **words_of(scene.sprites), "order": order, **read, **more}

    records = []
    if REAL in kinds:
        drawn = (_through_vae(model, render(scene, frames, size)) for _, scene, _ in jobs)
        records += [record(number, REAL, video) for number, video in enumerate(drawn)]
    orders = [kind for kind in kinds if kind != REAL]
    sample: dict[str, Any] = {"steps": settings.steps, "solver": settings.solver, "cfg": settings.cfg}
    began = time.perf_counter()
    seeds = [settings.seed + index for index, _, _ in jobs]
    firsts = model.generate_many(texts, seeds, settings.reuse, **sample) if orders else []
    first_seconds = (time.perf_counter() - began) / len(jobs)
    for order in orders:
        chains, seconds = [[clip] for clip in firsts], [first_seconds]
        for _ in range(1, settings.clips):
            began = time.perf_counter()
            states = [chain[-1].state for chain in chains]
            followers = model.extend_many(states, texts, settings.reuse_in(order), **sample)
            for chain, clip in zip(chains, followers, strict=True):
                chain.append(clip)
            seconds.append((time.perf_counter() - began) / len(jobs))
        for number, chain in enumerate(chains):
            began = time.perf_counter()
            video = model.frames(chain)
            times = {"seconds": rounded(seconds), "decode_seconds": round(time.perf_counter() - began, 4)}
            made = record(number, order, video, **times, threads=torch.get_num_threads())
            records.append(made)
            if sheets and jobs[number][0] < sheeted:
                _draw_sheet(video, frames, made, sheets)
    return records


@torch.no_grad()
def _through_vae(model: VidRD, video: Video) -> Video:
    return to_frames(model.vae.decode(model.vae.encode(to_video(video[None], model.device))))[0]


def _draw_sheet(video: Video, frames: int, record: Record, folder: Path) -> None:
    """A picture of a chain, a clip a row, each with what was read; of a later clip the frames that it added."""
    from vidrd_core.video import contact_sheet  # needs PyAV

    added = (len(video) - frames) // max(1, len(record["clips"]) - 1)
    rows = np.split(video, range(frames, len(video), added or 1))
    labels = [" ".join(clip[word] for word in ("color", "shape", "motion")) for clip in record["clips"]]
    labels[0] = f"{record['text']} - {labels[0]}"
    folder.mkdir(parents=True, exist_ok=True)
    contact_sheet(rows, folder / f"{record['prompt']:04d}_{record['order']}.png", labels)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    known, reuse = ScoreSettings(), ReuseSettings()
    parser.add_argument("--model", default="tiny", help="a built-in name or a folder of parts")
    for name in ("prompts", "clips", "steps", "seed", "scene_seed", "objects"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(known, name))
    parser.add_argument("--captions", choices=CAPTIONS, default=known.captions, help="free: any of the many ways")
    parser.add_argument("--orders", nargs="+", choices=ORDERS, default=list(ORDERS))
    parser.add_argument("--cfg", type=float, help="guidance scale (the model's own unless given)")
    parser.add_argument("--solver", default=known.solver)
    parser.add_argument("--prompt-frames", type=int, default=reuse.prompt_frames, help="M")
    parser.add_argument("--alpha", type=float, default=reuse.alpha)
    parser.add_argument("--beta", type=float, default=reuse.beta)
    parser.add_argument("--workers", type=int, default=1, help="processes; more than one have one thread each")
    parser.add_argument("--batch", type=int, default=1, help="prompts at a time, for a GPU")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sheets", type=int, default=0, help="of how many prompts to keep pictures")
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/score"), help="folder; a rerun goes on in it")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Score a model: records.jsonl, summary.json and table.md in a folder."""
    given = vars(_parser().parse_args(arguments))
    out, model = given.pop("out"), given.pop("model")
    how = {name: given.pop(name) for name in ("workers", "batch", "device", "sheets")}
    reuse = {name: given.pop(name) for name in ("prompt_frames", "alpha", "beta")}
    began, first = time.perf_counter(), 0

    def progress(done: int, total: int) -> None:
        nonlocal first
        first = first or done
        left = (time.perf_counter() - began) / (done - first + 1) * (total - done)
        print(f"\r{done} of {total} records, {left / 60:.0f} min left ", end="", file=sys.stderr, flush=True)

    given["orders"] = tuple(given["orders"])
    try:
        records = score_model(
            model, out / "records.jsonl", on_record=progress, reuse=ReuseSettings(**reuse), **how, **given
        )  # fmt: skip
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(f"\nstopped; run it again to go on with {out}")
    header, _ = read_records(out / "records.jsonl")
    summary = {"settings": header, **summarise(records)}
    (out / "summary.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (out / "table.md").write_text(table(summary), encoding="utf-8")
    print(f"\n{table(summary)}")


if __name__ == "__main__":
    main()
