"""The benchmark of models of procedural clips: chains of clips are generated and recognized by program.

For each scene of `evaluation_scenes` one first clip is generated, and from it a chain of clips in every order. A
record, one line of JSON, holds what `recognition` found in each clip and what `chain_metrics` measured on the chain.

In forward order a clip begins with the last M frames of the clip before, which are shown once. What is recognized is
nevertheless the complete clip of N frames, because that is what the model generated.
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

from vidrd_core.io.atomic import write_json, write_text
from vidrd_core.io.digests import weights_digest
from vidrd_core.io.jsonl import JsonLines, check_header, read_lines, resume
from vidrd_core.loading import load
from vidrd_core.pipeline import VidRD
from vidrd_core.procedural import EVALUATION_SEED, Scene, caption, describe, evaluation_scenes, render
from vidrd_core.procedural.benchmark_report import ORDERS, REAL, draw_chain, summarize, table
from vidrd_core.procedural.chain_metrics import Record, Video, measure_chain, rounded, words_of
from vidrd_core.reuse import ReuseSettings
from vidrd_core.settings import SampleSettings
from vidrd_core.video.tensors import to_frames, to_video

Job = tuple[int, Scene, tuple[str, ...]]
"""Index of a prompt, its scene, and the missing records (orders, or `REAL`)."""

FORMAT = 2
CAPTIONS = ("plain", "free")


@dataclass(frozen=True)
class BenchmarkSettings:
    """What is generated.

    Args:
        prompts: Number of prompts.
        clips: Clips of a chain.
        orders: The orders to compare, which replace `reuse.order`.
        steps: Sampling steps.
        seed: Prompt k has the sampling seed `seed` + k.
        scene_seed: Seed of the scenes.
        objects: Sprites of a scene, 1 or 2.
        captions: "plain" for canonical captions, "free" for random ones, which leave out defaults.
        cfg: Guidance scale; None for the model's own.
        solver: Name of the solver.
        reuse: What a clip reuses from the one before.

    Raises:
        ValueError: A setting is out of range.
    """

    prompts: int = 200
    clips: int = 8
    orders: tuple[str, ...] = ORDERS
    steps: int = 25
    seed: int = 0
    scene_seed: int = EVALUATION_SEED
    objects: int = 1
    captions: str = "plain"
    cfg: float | None = None
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
        """The caption of prompt `index`."""
        if self.captions == "plain":
            return describe(scene)
        return caption(scene, np.random.default_rng((self.scene_seed, index)))

    def reuse_in(self, order: Any) -> ReuseSettings:
        """The reuse settings with another order."""
        return dataclasses.replace(self.reuse, order=order)


def read_records(path: Path) -> tuple[dict[str, Any], list[Record]]:
    """Read the records of a benchmark.

    Args:
        path: The file, in JSON Lines.

    Returns:
        The header (model and settings), and the records sorted by prompt, then by order.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is another kind of file.
    """
    header, *records = [*read_lines(path)] or [{}]
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} does not begin as records of format {FORMAT} do")
    kinds = [*header["orders"], REAL]
    return header, sorted(records, key=lambda record: (record["prompt"], kinds.index(record["order"])))


def model_digest(model: VidRD) -> str:
    """Twelve hex digits of all weights of a model."""
    return weights_digest(model.signature, model.vae, model.text_encoder)


def _header(model: VidRD, settings: BenchmarkSettings) -> dict[str, Any]:
    """What identifies the records of a model and of settings."""
    chosen = dataclasses.asdict(settings)
    del chosen["reuse"]
    reuse = {key: value for key, value in settings.reuse.metadata().items() if key != "order"}
    header = {"format": FORMAT, "model": model.name, "weights": model_digest(model), **chosen, **reuse}
    return json.loads(json.dumps(header))  # as it is read: tuples are lists


def _resume(path: Path, header: dict[str, Any]) -> list[Record]:
    """The records of a file to be continued; a file without records gets the new header. Raises ValueError."""
    records: list[Record] = []
    if path.exists() and next(read_lines(path), None) is not None:
        found, records = read_records(path)
        if records:  # the model's name may change, its weights may not
            check_header(path, *({**each, "model": ""} for each in (header, found)))
    resume(path)
    if not records:
        path.unlink(missing_ok=True)
    return records


def run_benchmark(
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
    """Generate and measure the chains of a benchmark.

    Each record is appended to `out` as soon as it is complete; what the file already holds is not generated again.

    Args:
        model: A model, or its name or folder.
        out: File of the records.
        workers: Number of processes, each with one torch thread; they load the model by its name.
        batch: Prompts generated at a time; clips differ by rounding between batch sizes.
        device: Where the model runs.
        sheets: For how many prompts a contact sheet of every chain is kept beside `out`.
        on_record: Called with the number of records that are done and the number of all.
        **settings: The fields of `BenchmarkSettings`.

    Returns:
        All records, sorted by prompt.

    Raises:
        ValueError: A setting is out of range, or `out` holds records of another model or other settings.
    """
    chosen = BenchmarkSettings(**settings)
    if batch < 1:
        raise ValueError(f"batch is {batch}, expected 1 or more")
    if workers < 1 or (workers > 1 and isinstance(model, VidRD)):
        raise ValueError(f"workers is {workers}: expected 1 or more, and 1 for a model that is not given by its name")
    loaded = model if isinstance(model, VidRD) else load(model, device)
    chosen.reuse.check_frames(loaded.diffusion.frames)
    header = _header(loaded, chosen)
    done = {(record["prompt"], record["order"]) for record in _resume(Path(out), header)}
    kinds = (*chosen.orders, REAL)
    by_kinds: dict[tuple[str, ...], list[Job]] = {}
    for index, scene in enumerate(evaluation_scenes(chosen.prompts, chosen.scene_seed, chosen.objects)):
        if missing := tuple(kind for kind in kinds if (index, kind) not in done):
            by_kinds.setdefault(missing, []).append((index, scene, missing))
    jobs = [group[i : i + batch] for group in by_kinds.values() for i in range(0, len(group), batch)]
    folder = Path(out).parent / "sheets"
    run_jobs = partial(_run_jobs, loaded if workers == 1 else model, device, chosen, folder, sheets)
    count = len(done)
    with JsonLines(out, header) as file:
        for record in _results(run_jobs, jobs, workers):
            file.append(record)
            count += 1
            if on_record:
                on_record(count, chosen.prompts * len(kinds))
    return read_records(out)[1]


def _results(run_jobs: Callable[[list[Job]], list[Record]], jobs: list[list[Job]], workers: int) -> Iterator[Record]:
    """The records of batches of jobs, as soon as they are complete."""
    if workers == 1:
        for batch in jobs:
            yield from run_jobs(batch)
        return
    pool = ProcessPoolExecutor(min(workers, max(1, len(jobs))), get_context("spawn"), torch.set_num_threads, (1,))
    try:
        for future in as_completed([pool.submit(run_jobs, batch) for batch in jobs]):
            yield from future.result()
    finally:
        pool.shutdown(cancel_futures=True)


_load_once = lru_cache(maxsize=1)(load)  # a worker does many jobs


def _run_jobs(
    model: str | Path | VidRD, device: str, settings: BenchmarkSettings, folder: Path, sheets: int, jobs: list[Job]
) -> list[Record]:
    """A batch of jobs by one worker, which loads the model by its name."""
    loaded = model if isinstance(model, VidRD) else _load_once(model, device)
    return benchmark_prompts(loaded, settings, jobs, folder, sheets)


def benchmark_prompts(
    model: VidRD, settings: BenchmarkSettings, jobs: Sequence[Job], folder: Path | None = None, sheets: int = 0
) -> list[Record]:
    """Generate and measure some prompts in one batch: their chains, and the drawn scenes after the VAE.

    Args:
        model: The model.
        settings: What is generated.
        jobs: Prompts that all lack the same records.
        folder: Where contact sheets go.
        sheets: Prompts with an index below this get contact sheets.

    Returns:
        A record for each prompt and each of its missing records, those of drawn scenes first.
    """
    size, frames = model.diffusion.size, model.diffusion.frames
    kinds, texts = jobs[0][2], [settings.text_of(index, scene) for index, scene, _ in jobs]

    def record(number: int, order: str, video: Video, **more: Any) -> Record:
        index, scene, _ = jobs[number]
        about: Record = {"prompt": index, "text": texts[number], "background": scene.background}
        reuse = settings.reuse_in("mirror" if order == REAL else order)
        clips = 1 if order == REAL else settings.clips
        found = measure_chain(video, scene=scene, frames=frames, clips=clips, reuse=reuse)
        return {**about, **words_of(scene.sprites), "order": order, **found, **more}

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
            if folder and jobs[number][0] < sheets:
                draw_chain(video, frames, made, folder / f"{made['prompt']:04d}_{order}.png")
    return records


@torch.no_grad()
def _through_vae(model: VidRD, video: Video) -> Video:
    """A video encoded and decoded by the model's VAE."""
    return to_frames(model.vae.decode(model.vae.encode(to_video(video[None], model.device))))[0]


def _parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    known, reuse = BenchmarkSettings(), ReuseSettings()
    parser.add_argument("--model", default="tiny", help="a built-in name or a folder of parts")
    for name in ("prompts", "clips", "steps", "seed", "scene_seed", "objects"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(known, name))
    parser.add_argument(
        "--captions", choices=CAPTIONS, default=known.captions, help="plain: canonical ones; free: random ones"
    )
    parser.add_argument("--orders", nargs="+", choices=ORDERS, default=list(ORDERS))
    parser.add_argument("--cfg", type=float, help="guidance scale (default: the model's own)")
    parser.add_argument("--solver", default=known.solver)
    parser.add_argument("--prompt-frames", type=int, default=reuse.prompt_frames, help="M")
    parser.add_argument("--alpha", type=float, default=reuse.alpha)
    parser.add_argument("--beta", type=float, default=reuse.beta)
    parser.add_argument("--workers", type=int, default=1, help="processes, each with one thread if there are several")
    parser.add_argument("--batch", type=int, default=1, help="prompts at a time, for a GPU")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sheets", type=int, default=0, help="for how many prompts contact sheets are kept")
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("runs/score"), help="folder; the same command resumes in it"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark on a model: writes records.jsonl, summary.json and table.md into a folder."""
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
        records = run_benchmark(
            model, out / "records.jsonl", on_record=progress, reuse=ReuseSettings(**reuse), **how, **given
        )  # fmt: skip
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(f"\nstopped; the same command resumes {out}")
    header, _ = read_records(out / "records.jsonl")
    summary = {"settings": header, **summarize(records)}
    write_json(out / "summary.json", summary)
    write_text(out / "table.md", table(summary))
    print(f"\n{table(summary)}")


if __name__ == "__main__":
    main()
