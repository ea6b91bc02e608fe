"""The stages of data preparation as commands: settings from options, a run, and its progress."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from vidrd_core.cli.data.options import CaptionOptions, LabelOptions, RunOptions
from vidrd_core.cli.errors import CommandError, InputError, input_checked, note, reason
from vidrd_core.cli.progress import ProgressBars
from vidrd_core.data.actions import TEMPLATES, Actions
from vidrd_core.data.captioners.local import LocalModel
from vidrd_core.data.captioners.server import Server
from vidrd_core.data.captions import Captioner, CaptionerError, Sidecar, Templates, words_of
from vidrd_core.data.clip_sampling import ClipSettings
from vidrd_core.data.executors import Executor, Processes, Ray
from vidrd_core.data.files import one_line
from vidrd_core.data.long_videos import LongVideos
from vidrd_core.data.motion_filter import MotionFilterSettings
from vidrd_core.data.pseudo_video import CameraSettings
from vidrd_core.data.runner import Report, Stage, run
from vidrd_core.data.scene_detection import SceneSettings
from vidrd_core.data.stills import Stills
from vidrd_core.io import MissingPackageError
from vidrd_core.io.tables import read_rows


def stills(
    folder: Path,
    output: Path,
    clips: dict[str, Any],
    camera: dict[str, Any] | None,
    captions: CaptionOptions,
    options: RunOptions,
) -> None:
    """Run `vidrd data stills`; without a camera an image is a clip of one frame. Raises InputError, CommandError."""
    with input_checked():
        stage = Stills(
            folder,
            _captioner(captions),
            ClipSettings(**clips),
            CameraSettings(**(camera or {})),
            camera is not None,
            captions.captions,
            captions.recaption,
        )
    _run(stage, output, options)


def actions(folder: Path, output: Path, labels: LabelOptions, clips: dict[str, Any], options: RunOptions) -> None:
    """Run `vidrd data actions`. Raises InputError, CommandError."""
    with input_checked():
        settings = ClipSettings(**clips)
        templates = tuple(labels.template or TEMPLATES.get(labels.layout, Templates.templates))
        captioner = Templates(templates, _descriptions(labels.descriptions), settings.seed)
        stage = Actions(folder, labels.layout, captioner, settings, labels.table, labels.split)
    _run(stage, output, options)


def videos(
    folder: Path,
    output: Path,
    scenes: dict[str, Any],
    motion_filter: dict[str, Any],
    clips: dict[str, Any],
    captions: CaptionOptions,
    options: RunOptions,
) -> None:
    """Run `vidrd data videos`. Raises InputError, CommandError."""
    with input_checked():
        split, kept = SceneSettings(**scenes), MotionFilterSettings(**motion_filter)
        if split.longest < kept.least:
            raise InputError(f"--longest is {split.longest:g} s, expected --least, {kept.least:g} s, or more")
        stage = LongVideos(
            folder, _captioner(captions), ClipSettings(**clips), split, kept, captions.captions, captions.recaption
        )
    _run(stage, output, options)


def _captioner(options: CaptionOptions) -> Captioner:
    """The captioner that --captioner names. Raises InputError."""
    who, _, where = options.captioner.partition(":")
    prompt, model = options.caption_prompt, options.caption_model
    if who == "server" and where:
        if not model:
            raise InputError("a server needs --caption-model, the name of the model that it serves")
        return Server(where, model, prompt) if prompt else Server(where, model)
    if model:
        raise InputError("--caption-model is for a server: --captioner server:ADDRESS")
    if who == "local" and where:
        if not Path(where).is_dir():
            raise InputError(f"there is no folder {where}: name one with an image-text model of transformers")
        return LocalModel(Path(where), prompt)
    if who == "sidecar" and not where and not prompt:
        return Sidecar()
    if prompt:
        raise InputError("--caption-prompt is for a model: --captioner local:FOLDER or server:ADDRESS")
    raise InputError(f"captioner is {options.captioner!r}, expected sidecar, local:FOLDER or server:ADDRESS")


def _descriptions(path: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Labels with their captions, in the order of a table's lines."""
    captions: dict[str, tuple[str, ...]] = {}
    for number, row in read_rows(path) if path else ():
        if not all(isinstance(row.get(name), str) and row[name].strip() for name in ("label", "caption")):
            raise ValueError(f"{path}, line {number}: expected columns label and caption, got {', '.join(row)}")
        label = words_of(row["label"])
        captions[label] = (*captions.get(label, ()), one_line(row["caption"]))
    return tuple(captions.items())


def _executor(options: RunOptions) -> Executor:
    """Where the parts are processed. Raises InputError."""
    if options.workers < 1:
        raise InputError(f"workers is {options.workers}, expected 1 or more")
    if options.ray or options.ray_address:
        executor = Ray(options.ray_address, options.workers)
        try:
            executor.check()
        except (MissingPackageError, ValueError) as error:
            raise InputError(reason(error)) from error
        return executor
    return Processes(options.workers)


def _run(stage: Stage, output: Path, options: RunOptions) -> None:
    """Run a stage and report what it did. Raises InputError, CommandError."""
    if options.per_shard is not None and options.per_shard < 1:
        raise InputError(f"per-shard is {options.per_shard}, expected 1 or more")
    executor = _executor(options)
    try:
        with input_checked(), Bar(stage.name) as bar:
            report = run(
                stage,
                output,
                executor,
                retry=options.retry,
                progress=bar.update,
                per_shard=options.per_shard,
            )
    except (MissingPackageError, CaptionerError) as error:
        raise InputError(f"{reason(error)}; the shards made so far are kept in {output}") from error
    except ChildProcessError as error:
        raise CommandError(reason(error)) from error
    except KeyboardInterrupt:
        note(f"stopped; run the same command again to continue after the complete shards in {output}")
        raise
    if not report.found:
        wanted = "pictures" if isinstance(stage, Stills) else "videos"
        raise InputError(f"there are no {wanted} in {stage.folder}")  # type: ignore[attr-defined]
    done = f"{report.made} clips made, {report.skipped} skipped, in {report.shards} new shards"
    before = f"; {report.known} of {report.found} were done before" if report.known else ""
    why = f" ('vidrd data show {output}' says why)" if report.skipped else ""
    note(f"{done}{before}{why}")


class Bar(ProgressBars):
    """A context that shows how many files are found, then how many are done, on stderr.

    Args:
        name: The stage's name.
    """

    def __init__(self, name: str) -> None:
        self.name, self.shards = name, 0
        super().__init__(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        if self.bars:
            self.task = self.bars.add_task(name, total=None)

    def update(self, report: Report, todo: int) -> None:
        """Show a run's report; `todo` is how many records there are to do, 0 while that is not known."""
        if self.bars:
            counts = f"{report.made} made, {report.skipped} skipped" if todo else "searching"
            self.bars.update(
                self.task,
                description=f"{self.name}: {counts}",
                total=todo or None,
                completed=report.worked if todo else report.found,
            )
        elif report.shards > self.shards:
            self.shards = report.shards
            note(f"{report.worked} of {todo} files: {report.made} clips made, {report.skipped} skipped")
