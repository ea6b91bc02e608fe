"""`vidrd generate --prompts-file`: many videos with one model, checked before any is sampled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import typer

from vidrd_core.cli.cpus import usable_cpus
from vidrd_core.cli.errors import (
    CommandError,
    InputError,
    input_checked,
    is_fault,
    note,
    out_of_memory,
    reason,
    say,
    set_quiet,
)
from vidrd_core.cli.options import MachineOptions, ManyOptions, ModelOptions, PerClipOptions, VideoOptions
from vidrd_core.cli.progress import VideosDisplay, busy
from vidrd_core.cli.prompts_file import Row, read_prompts_file
from vidrd_core.cli.render import scale_of
from vidrd_core.cli.request import (
    MAX_CLIPS,
    Request,
    fastest_dtype,
    load_model,
    per_clip_values,
    reuse_settings,
)
from vidrd_core.data.executors import Ray
from vidrd_core.io import MissingPackageError
from vidrd_core.io.interrupt import Interrupt
from vidrd_core.many.jobs import Job, check_model, default_batch, file_of
from vidrd_core.many.manifest import dtype_of, model_identity
from vidrd_core.many.replicas import Replicas
from vidrd_core.many.runner import InProcess, Maker, Report, make_videos
from vidrd_core.pipeline import VidRD
from vidrd_core.reuse import ReuseSettings
from vidrd_core.sampling import DivergenceError
from vidrd_core.settings import SampleSettings
from vidrd_core.video.writer import check_video

MAX_BATCH = 1024


def generate_many(request: Request, options: ManyOptions, context: Any, save: Any) -> None:
    """Make a video of each row of a prompts file, those that the folder does not have yet.

    Args:
        request: The command's arguments, for rows that do not say otherwise; the output is a folder.
        options: The file, and how its videos are made.
        context: Click's context of the command.
        save: Called once everything is checked.

    Raises:
        InputError: A row or a setting is not valid, or the folder holds other videos; nothing was sampled.
        CommandError: The machine failed, or videos could not be made.
        typer.Exit: The run was stopped by a signal.
    """
    assert options.prompts_file is not None
    ray = _check(request, options)
    with input_checked():
        SampleSettings(**request.sample)
        rows = read_prompts_file(context, options.prompts_file)
    machine = request.machine
    if ray:  # what it checks needs no device
        machine = replace(machine, device="cpu", offload="none", storage=None)
    if request.model.dtype == "auto":
        # What processors the machines of a cluster have is not known here.
        usual = "float32" if options.ray_address else fastest_dtype(request.machine.device)
        dtype: Any = dtype_of(Path(request.video.output)) or usual
        request = replace(request, model=replace(request.model, dtype=dtype))
    model = load_model(request.model, machine)
    jobs = _jobs(rows, request, options, model)
    save()
    started = time.perf_counter()
    with Interrupt() as stop, ExitStack() as stack:
        display = VideosDisplay(stop)
        try:
            maker: Maker = InProcess(model, display.begin, display.step)
            on_gpu = model.device.type != "cpu"
            if ray:
                replicas = _replicas(ray, request, options, display, stop)
                try:
                    maker = stack.enter_context(replicas)
                except ValueError as error:
                    raise InputError(reason(error)) from error
                on_gpu = replicas.on_gpus
            size = default_batch(jobs, on_gpu) if options.batch is None else options.batch
            stack.enter_context(display)
            with input_checked():
                report = make_videos(
                    jobs,
                    Path(request.video.output),
                    model_identity(model),
                    maker,
                    size,
                    where=[row.where for row in rows],
                    on_pending=lambda pending: display.start(len(jobs), len(pending)),
                    on_result=display.end,
                )
        except KeyboardInterrupt:
            stack.close()
            note(f"stopped; {display.left(request.video.output)}")
            raise typer.Exit(128 + (stop.number or 2)) from None
        except (ChildProcessError, MissingPackageError) as error:
            raise CommandError(reason(error)) from error
        except Exception as error:
            if not is_fault(error):
                raise
            hint = " or give a smaller --batch" if out_of_memory(error) and options.batch != 1 else ""
            raise CommandError(f"{reason(error)}{hint}; {display.left(request.video.output)}") from error
    _conclude(report, rows, jobs, request.video.output, time.perf_counter() - started)


def _check(request: Request, options: ManyOptions) -> Ray | None:
    """Check what has to do with many videos alone; Ray, if it is to make them. Raises InputError."""
    if request.prompts:
        raise InputError("prompts and --prompts-file are both given: choose one")
    for name, most in (("batch", MAX_BATCH), ("workers", MAX_BATCH)):
        value = getattr(options, name)
        if value is not None and not 1 <= value <= most:
            raise InputError(f"{name} is {value}, expected 1 to {most}")
    uses_ray = options.ray or options.ray_address is not None
    if options.workers is not None and not uses_ray:
        raise InputError("--workers is for --ray: in one process --batch and --threads say how much is done at once")
    if Path(request.video.output).is_file():
        raise InputError(f"{request.video.output} is a file: with --prompts-file give a folder for the videos")
    if not uses_ray:
        return None
    ray = Ray(options.ray_address, options.workers)
    try:
        ray.check()
    except (MissingPackageError, ValueError) as error:
        raise InputError(reason(error)) from error
    return ray


def _replicas(ray: Ray, request: Request, options: ManyOptions, display: VideosDisplay, stop: Interrupt) -> Replicas:
    """The workers of Ray."""
    machine = request.machine
    if machine.threads is None and options.ray_address is None:
        machine = replace(machine, threads=max(1, usable_cpus() // (options.workers or 1)))
    load = partial(load_in_worker, request.model, machine)
    use_gpus = machine.device == "auto" or machine.device.startswith("cuda")
    return Replicas(ray, load, options.workers, use_gpus, stop.check, display.begin)


def load_in_worker(options: ModelOptions, machine: MachineOptions) -> VidRD:
    """Load the model in a worker of Ray. Raises InputError."""
    set_quiet(True)
    return load_model(options, machine)


def _jobs(rows: Sequence[Row], request: Request, options: ManyOptions, model: VidRD) -> list[Job]:
    """The videos that rows ask for. Raises InputError if any cannot be made, with the first reason and all lines."""
    jobs: list[Job] = []
    errors: list[tuple[str, str]] = []
    taken: dict[str, str] = {}
    with busy("checking the prompts"):
        for number, row in enumerate(rows):
            try:
                job = _job(number, row, request, options, model)
                if (name := job.file.rstrip("/").lower()) in taken:
                    raise ValueError(f"{job.file} is the file of {taken[name]}, too: give another name")
            except ValueError as error:
                errors.append((row.where, reason(error)))
            else:
                taken[name] = row.where
                jobs.append(job)
    if errors:
        where, why = errors[0]
        others = [place.rpartition("line ")[2] for place, _ in errors[1:]]
        more = f" (and {len(others)} more, in line {', '.join(others[:20])})" if others else ""
        raise InputError(f"{where}: {why}{more}; nothing was sampled")
    return jobs


def _job(number: int, row: Row, request: Request, options: ManyOptions, model: VidRD) -> Job:
    """The video of a row. Raises ValueError."""
    if row.error:
        raise ValueError(row.error)
    given = row.options
    sample = {**request.sample, **_of(SampleSettings, given)}
    if "seed" not in given:
        sample["seed"] = sample.get("seed", 0) + number
    completed = model.complete(SampleSettings(**sample))
    assert completed.frames is not None
    video = replace(request.video, **_of(VideoOptions, given))
    clips = len(row.prompts) if video.clips is None else video.clips
    if not 1 <= clips <= MAX_CLIPS:
        raise ValueError(f"clips is {clips}, expected 1 to {MAX_CLIPS}")
    reuse = {**request.reuse, **_of(ReuseSettings, given)}
    job = Job(
        number=number,
        file=file_of(row.name, options.format, number),
        prompts=row.prompts,
        sample=completed,
        reuse=reuse_settings(given.get("preset", request.preset), completed.frames, reuse),
        clips=clips,
        travel=video.travel,
        per_clip=per_clip_values(replace(request.per_clip, **_of(PerClipOptions, given)), clips),
        fps=video.fps,
        scale=scale_of(video, completed),
    )
    job = replace(job, lengths=check_model(model, job))
    assert completed.width is not None
    assert completed.height is not None
    check_video(f"{request.video.output}/{job.file}", job.fps, job.scale, (completed.width, completed.height))
    return job


def _of(kind: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Those of the given values that are fields of a dataclass."""
    return {each.name: given[each.name] for each in fields(kind) if each.name in given}


def _conclude(report: Report, rows: Sequence[Row], jobs: Sequence[Job], output: str, seconds: float) -> None:
    """Print what was done. Raises InputError or CommandError if videos could not be made."""
    if report.failed:
        for each in report.failed[1:]:
            note(f"{rows[each.job.number].where}: {reason(each.error or ValueError())}")
        first = report.failed[0]
        kind = InputError if all(isinstance(each.error, DivergenceError) for each in report.failed) else CommandError
        raise kind(
            f"{len(report.failed)} of {len(jobs)} videos could not be made; {rows[first.job.number].where}: "
            f"{reason(first.error or ValueError())}; the others are in {output}"
        )
    before = f", {report.known} made before" if report.known else ""
    pace = f"; took {seconds:.1f} s, {seconds / report.made:.1f} s a video" if report.made else ""
    say(f"{output}: {len(jobs)} video{'s' * (len(jobs) > 1)}{before}{pace}")
