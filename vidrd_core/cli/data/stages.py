"""Stages of data as commands: settings from options, then a run with a bar."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from vidrd_core.cli.data.progress import Bar
from vidrd_core.cli.errors import CommandError, InputError, input_checked, note, reason
from vidrd_core.data.actions import TEMPLATES, Actions
from vidrd_core.data.captioners.local import LocalModel
from vidrd_core.data.captioners.server import Server
from vidrd_core.data.captions import Captioner, CaptionerError, Sidecar, Templates, words_of
from vidrd_core.data.clip_sampling import ClipSettings
from vidrd_core.data.executors import Executor, Here, Processes, Ray
from vidrd_core.data.files import read_rows, tidy
from vidrd_core.data.long_videos import LongVideos
from vidrd_core.data.motion_filter import LivelySettings
from vidrd_core.data.pseudo_video import CameraSettings
from vidrd_core.data.runner import Stage, run
from vidrd_core.data.scene_detection import SegmentSettings
from vidrd_core.data.stills import Stills
from vidrd_core.io import MissingPackageError as MissingError

Settings = TypeVar("Settings")


def stills(given: dict[str, Any]) -> None:
    with input_checked():
        clips = _settings(ClipSettings, given)
        camera = CameraSettings(**{name: given[name] for name in ("zoom", "pan", "direction", "easing")})
        motion = not given["images"]
        stage = Stills(
            given["folder"], _captioner(given), clips, camera, motion, given["captions"], given["recaption"]
        )
    _run(stage, given)


def actions(given: dict[str, Any]) -> None:
    with input_checked():
        templates = tuple(given["template"] or TEMPLATES.get(given["layout"], Templates.templates))
        captioner = Templates(templates, _descriptions(given["descriptions"]), given["seed"])
        clips = _settings(ClipSettings, given)
        stage = Actions(given["folder"], given["layout"], captioner, clips, given["table"], given["split"])
    _run(stage, given)


def videos(given: dict[str, Any]) -> None:
    if given["longest"] < given["least"]:
        raise InputError(f"--longest is {given['longest']:g} s, expected --least, {given['least']:g} s, or more")
    with input_checked():
        stage = LongVideos(
            given["folder"],
            _captioner(given),
            _settings(ClipSettings, given),
            _settings(SegmentSettings, given),
            _settings(LivelySettings, given),
            given["captions"],
            given["recaption"],
        )
    _run(stage, given)


def _settings(kind: type[Settings], given: dict[str, Any]) -> Settings:
    names = [field.name for field in fields(kind) if field.name in given]  # type: ignore[arg-type]
    return kind(**{name: given[name] for name in names})


def _captioner(given: dict[str, Any]) -> Captioner:
    who, _, where = given["captioner"].partition(":")
    prompt, model = given["caption_prompt"], given["caption_model"]
    if who == "server" and where:
        if not model:
            raise InputError("a server needs --caption-model, the name of the model that it serves")
        return Server(where, model, **({"prompt": prompt} if prompt else {}))
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
    raise InputError(f"captioner is {given['captioner']!r}, expected sidecar, local:FOLDER or server:ADDRESS")


def _descriptions(path: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Labels and their captions, in the order of a table's lines."""
    said: dict[str, tuple[str, ...]] = {}
    for number, row in read_rows(path) if path else ():
        if not (row.get("label") and row.get("caption")):
            raise ValueError(f"{path}, line {number}: expected columns label and caption, got {', '.join(row)}")
        label = words_of(row["label"])
        said[label] = (*said.get(label, ()), tidy(row["caption"]))
    return tuple(said.items())


def _executor(given: dict[str, Any]) -> Executor:
    workers = given["workers"]
    if workers < 1:
        raise InputError(f"workers is {workers}, expected 1 or more")
    if given["ray"] or given["ray_address"]:
        return Ray(given["ray_address"], workers)
    return Processes(workers) if workers > 1 else Here()


def _run(stage: Stage, given: dict[str, Any]) -> None:
    if (per_shard := given["per_shard"]) is not None and per_shard < 1:
        raise InputError(f"per-shard is {per_shard}, expected 1 or more")
    executor, output = _executor(given), given["output"]
    try:
        with input_checked(), Bar(stage.name) as bar:
            report = run(stage, output, executor, retry=given["retry"], progress=bar.update, per_shard=per_shard)
    except (MissingError, CaptionerError) as error:
        raise InputError(f"{reason(error)}; what was made before is kept in {output}") from error
    except ChildProcessError as error:
        raise CommandError(reason(error)) from error
    except KeyboardInterrupt:
        note(f"stopped; the same command goes on from the whole shards in {output}")
        raise
    if not report.found:
        wanted = "pictures" if isinstance(stage, Stills) else "videos"
        raise InputError(f"there are no {wanted} in {stage.folder}")  # type: ignore[attr-defined]
    done = f"{report.made} clips made, {report.skipped} skipped, in {report.shards} new shards"
    before = f"; {report.known} of {report.found} were done before" if report.known else ""
    why = f" ('vidrd data show {output}' says why)" if report.skipped else ""
    note(f"{done}{before}{why}")
