"""What `vidrd models` and `vidrd info` print: built-in models, and what a file is, without running anything."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vidrd_core import loading
from vidrd_core.cli.errors import InputError, input_checked
from vidrd_core.io import safetensors
from vidrd_core.io.configs import parse_json
from vidrd_core.io.pictures import PictureError, picture_facts
from vidrd_core.io.tables import VIDEO_SUFFIXES
from vidrd_core.loading import PARTS, SUFFIX
from vidrd_core.reuse import OLD_NAMES
from vidrd_core.video.reader import ANIMATED, UNREADABLE, probe_video

if TYPE_CHECKING:
    from vidrd_core.models.formats.naming import Part


class Fact(NamedTuple):
    """One thing that is known of a file.

    Args:
        name: What the text calls it.
        text: Its value as text.
        data: The same for JSON, by name; {} where another fact has it.
    """

    name: str
    text: str
    data: dict[str, Any] = {}  # noqa: RUF012 - it is never changed


Facts = Iterator[Fact]


@dataclass(frozen=True)
class Tensors:
    """A safetensors file by its header, without its tensors.

    Args:
        details: This package's JSON details, {} in a file of another program.
        shapes: The shape of each tensor.
    """

    details: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, path: Path) -> Tensors:
        """Read a file's header. Raises FileNotFoundError, FormatError."""
        details = safetensors.describe(path)
        with safetensors.open_safetensors(path, "numpy") as file:
            return cls(details, {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()})  # noqa: SIM118

    @property
    def parameters(self) -> int:
        """The number of weights, without a tokenizer's bytes."""
        return sum(math.prod(shape) for name, shape in self.shapes.items() if "tokenizer/" not in name)


def built_in() -> list[dict[str, Any]]:
    """The built-in models: name, parameters, frames, size in pixels, bytes, prediction and words each."""
    found = []
    for name, folder in loading.built_in_models().items():
        files = [folder / part for part in PARTS if (folder / part).is_file()]
        with input_checked(f"{folder}: "):
            parts = [Tensors.of(file) for file in files]
        facts = {key: value for part in parts for key, value in part.details.items() if key != "config"}
        diffusion = _mapping(facts.get("diffusion"))
        found.append(
            {
                "name": name,
                "parameters": sum(part.parameters for part in parts),
                **{key: diffusion.get(key, "?") for key in ("frames", "size", "prediction")},
                "bytes": sum(file.stat().st_size for file in files),
                "words": [word for part in parts for word in _config(part).get("words", ())],
            }
        )
    return found


def models_table(found: list[dict[str, Any]]) -> Any:
    """Built-in models, as `built_in` gives them, as a rich table, or a sentence if there are none."""
    from rich.table import Table

    if not found:
        return "no model is built in; --model takes a folder with " + ", ".join(PARTS)
    table = Table(title="built-in models", title_justify="left")
    for column in ("name", "parameters", "clip", "on disk", "prediction"):
        table.add_column(column, no_wrap=True)
    table.add_column("words it knows", ratio=1)
    for model in found:
        table.add_row(
            model["name"],
            f"{model['parameters'] / 1e6:.2f} M",
            f"{model['frames']} frames of {model['size']} x {model['size']}",
            _size(model["bytes"]),
            str(model["prediction"]),
            " ".join(model["words"]) or "any",
        )
    return table


def inspect(path: Path) -> Facts:
    """Describe a file or folder.

    Args:
        path: Any file or folder, or the name of a built-in model.

    Returns:
        What is known of it; the first fact is the "kind", what it is in a few words.

    Raises:
        InputError: There is no such file, it is damaged or of an unknown kind.
    """
    path = path if path.exists() else loading.built_in_models().get(str(path), path)
    if not path.exists():
        raise InputError(f"there is no file {path}")
    with input_checked():
        if path.is_dir():
            return _folder(path)
        kind = safetensors.file_format(path)
        if kind == "pickle":
            return _torch_file(path)
        if kind == "safetensors" or path.suffix.lower() == ".safetensors":
            return _safetensors(path)
        return _video(path)


def data_of(facts: Iterable[Fact]) -> dict[str, Any]:
    """Facts as data for JSON, by name."""
    return {name: value for fact in facts for name, value in fact.data.items()}


def _kind(kind: str, **data: Any) -> Fact:
    return Fact("kind", kind, {"kind": kind, **data})


def _on_disk(path: Path) -> Fact:
    count = path.stat().st_size
    return Fact("on disk", _size(count), {"bytes": count})


def _pixels(width: int, height: int) -> Fact:
    return Fact("size", f"{width} x {height} pixels", {"size": [width, height]})


def _folder(path: Path) -> Facts:
    parts = [part for part in PARTS if (path / part).is_file()]
    states = _states_in(path) if not parts else []
    frames = sorted(path.glob("frame_*.png"))
    if parts:
        missing = [part for part in PARTS if part not in parts]
        kind = f"model folder, not whole: it lacks {', '.join(missing)}" if missing else "model folder"
        yield _kind(kind, missing=missing)
        for part in parts:
            facts = list(_safetensors(path / part))
            texts = {fact.name: fact.text for fact in facts}
            about = f"{texts['kind']}, {texts.get('parameters', '?')} parameters, {texts['on disk']}"
            yield Fact(part, about, {part.removesuffix(SUFFIX): data_of(facts)})
    elif states:
        yield _kind(
            f"folder of {len(states)} clip states, {states[0].name} to {states[-1].name}; of the last one:",
            states=len(states),
        )
        _, *facts = _safetensors(states[-1])
        yield from facts
        yield from _branches(states)
    elif frames:
        try:
            first = picture_facts(frames[0])
        except PictureError as error:
            raise InputError(f"{frames[0]} {error}") from error
        yield _kind(f"video of {len(frames)} PNG frames", frames=len(frames))
        yield _pixels(first.width, first.height)
        fps = str(first.texts.get("fps", "unknown"))
        yield Fact("fps", fps, {"fps": _number(fps)})
        yield from _made_with(first.texts.get("comment", ""))
    else:
        from vidrd_core.models.lora.files import is_lora

        if not loading.is_third_party(path) and not is_lora(path):
            raise InputError(f"{path} is a folder with no model parts, clip states or PNG frames in it")
        yield _kind("folder of a LoRA" if is_lora(path) else "diffusers folder")
        yield from _parts(path)


def _states_in(folder: Path) -> list[Path]:
    """The files of states in a folder, by name; whole or not where the name is that of the command's own."""
    from vidrd_core.state import KIND

    found = []
    for path in sorted(folder.glob("*.safetensors")):
        with suppress(OSError, ValueError):
            if path.name.startswith("clip_") or safetensors.has_kind(path, KIND):
                found.append(path)
    return found


def _branches(paths: list[Path]) -> Facts:
    """The branches of videos whose states are in a folder, if there are several."""
    from vidrd_core.state_files import StateSummary, branches

    summaries = []
    for path in paths:
        with suppress(OSError, ValueError):  # damaged
            summaries.append(StateSummary.of(path))
    clips = branches(summaries)
    rows = {each.fingerprint: each.row for each in clips}
    if len(set(rows.values())) < 2:
        return
    told = []
    for row in sorted(set(rows.values())):
        line = [each for each in clips if each.row == row]
        files = [state.path.name for each in line for state in each.states]
        parent = line[0].parent
        after = f", after clip {line[0].index - 1} of branch {rows[parent]}" if parent in rows else ""
        ends = f"clips {line[0].index} to {line[-1].index}" if len(line) > 1 else f"clip {line[0].index}"
        yield Fact(f"branch {row}", f"{ends}{after}: {', '.join(files)}")
        told.append({"clips": [each.index for each in line], "after": rows.get(parent), "files": files})
    yield Fact("branches", str(len(told)), {"branches": told})


def _safetensors(path: Path) -> Facts:
    file = Tensors.of(path)
    kind = file.details.get("kind")
    if kind is None:
        yield _kind("safetensors file, not made by vidrd")
        yield from _parts(path)
        count = len(file.shapes)
        yield Fact("tensors", f"{count}: {safetensors.first_few(file.shapes)}", {"tensors": count})
    elif kind == "clip state":
        from vidrd_core.state import ClipState

        ClipState.load(path)  # raises for a damaged one
        yield from _state(file)
    else:
        groups = {name: _mapping(file.details.get(name)) for name in ("config", "diffusion")}
        yield _kind(str(kind), **{name: values for name, values in groups.items() if values})
        if kind == safetensors.WHOLE_MODEL:
            for name, part in safetensors.parts_of(file.details).items():
                known = {key: part[key] for key in ("kind", *groups) if key in part}
                yield Fact(name, str(part.get("kind")), {name: known})
        for values in groups.values():
            for name, value in values.items():
                yield Fact(name, " ".join(map(str, value)) if isinstance(value, list) else str(value))
    if kind != "clip state":
        yield Fact("parameters", f"{file.parameters:,}", {"parameters": file.parameters})
    yield _on_disk(path)


def _torch_file(path: Path) -> Facts:
    yield _kind("torch file")
    yield from _parts(path)
    yield _on_disk(path)


def _parts(path: Path) -> Facts:
    """Which parts of a model a file or folder of another program holds, and in which format."""
    from vidrd_core.models.formats.detect import contents, has_part, keys_of
    from vidrd_core.models.formats.naming import PART_NAMES
    from vidrd_core.models.lora.files import is_lora

    if is_lora(path):
        yield from _lora(path)
        return
    found = [part for part in PART_NAMES if has_part(path, part)]
    for part in found:
        try:
            yield from _part(path, part)
        except safetensors.FormatError as error:
            yield Fact(part.replace("_", " "), str(error), {part: {"error": str(error)}})
    if not found:
        holds = contents(keys_of(path))
        yield Fact("holds", holds, {"holds": holds})


def _part(path: Path, part: Part) -> Facts:
    """One part of a model. Raises FormatError."""
    from vidrd_core.models.formats.detect import NAMINGS, find_unet, read_part
    from vidrd_core.models.formats.naming import detect_naming

    if part == "unet":
        unet, diffusion = find_unet(path)
        count = sum(t.numel() for t in unet.tensors.values())
        about = {"about": unet.about, "parameters": count}
        yield Fact("unet", f"{unet.about}, {count:,} parameters", {"unet": about})
        denoising = {"prediction": diffusion.prediction, "schedule": diffusion.schedule}
        yield Fact("denoising", ", ".join(denoising.values()), {"diffusion": denoising})
        return
    tensors, _ = read_part(path, part)
    naming = detect_naming(NAMINGS[part], tensors)
    names = naming.name if naming else None
    yield Fact(part.replace("_", " "), f"{names} names" if names else "yes", {part: {"names": names}})


def _lora(path: Path) -> Facts:
    """The layers and the model family of a LoRA."""
    from vidrd_core.models.lora.files import read_lora
    from vidrd_core.models.lora.merge import text_width
    from vidrd_core.models.lora.names import is_text_layer

    try:
        found = read_lora(path)
    except safetensors.FormatError as error:
        yield Fact("holds", str(error), {"holds": str(error)})
        return
    layers = {name.removesuffix(".bias") for name in found}
    of_text = sum(map(is_text_layer, layers))
    kinds = " and ".join(sorted({change.kind for change in found.values()}))
    ranks = sorted({change.rank for change in found.values() if change.rank is not None})
    family = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x"}.get(text_width(found) or 0)
    of_rank = f", of rank {', '.join(map(str, ranks))}" if ranks else ""
    yield Fact(
        "holds",
        f"{kinds}{f' of {family}' if family else ''}{of_rank}",
        {"holds": kinds, "family": family, "ranks": ranks},
    )
    counts = {"unet": len(layers) - of_text, "text_encoder": of_text}
    yield Fact(
        "changes", f"{counts['unet']} layers of the UNet, {of_text} of the text encoder", {"changed_layers": counts}
    )


def _state(file: Tensors) -> Facts:
    from vidrd_core.state import TENSORS

    details = file.details
    made = _mapping(details.get("made_with"))
    index, prompt = details.get("index"), made.pop("prompt", None)
    yield _kind(f"clip state of clip {index} (the first one is 0)")
    yield Fact("prompt", "unknown" if prompt is None else str(prompt), {"index": index, "prompt": prompt})
    reuse = _current_names(_mapping(made.pop("reuse", None)))
    yield Fact("settings", _pairs(made), {"settings": made})
    yield Fact("reuse", _pairs(reuse) if reuse else "unknown", {"reuse": reuse})
    record = file.shapes.get("record", ())
    if len(record) == 6:
        yield Fact("next clip", f"can take up to {record[3]} prompt frames (M)", {"max_prompt_frames": record[3]})
    names = {saved: name for name, (saved, _) in TENSORS.items()}
    shapes = {names[saved]: list(shape) for saved, shape in file.shapes.items() if 0 not in shape}  # 0: it is empty
    for name, shape in shapes.items():
        yield Fact(f"shape of {name.replace('_', ' ')}", " x ".join(map(str, shape)))
    signature = str(details.get("model_signature"))
    yield Fact("model signature", signature, {"shapes": shapes, "model_signature": signature})


def _video(path: Path) -> Facts:
    try:
        video = probe_video(path)
    except ValueError as error:
        if path.suffix.lower() in VIDEO_SUFFIXES or UNREADABLE not in str(error):
            raise InputError(str(error)) from error
        raise InputError(f"{path} is no safetensors file, and no video that can be read") from error
    container = video.kind if video.kind in ANIMATED else path.suffix[1:].lower() or video.kind
    yield _kind(f"video ({container}, {video.codec})", codec=video.codec)
    yield Fact("frames", str(video.frames), {"frames": video.frames})
    yield _pixels(video.width, video.height)
    yield Fact("fps", f"{video.fps:.4g}", {"fps": video.fps})
    yield Fact("length", f"{video.seconds:.2f} s", {"seconds": video.seconds})
    yield _on_disk(path)
    yield from _made_with(video.tags.get("comment", ""))


def _made_with(comment: str) -> Facts:
    """The settings that `generate` and `extend` write into a video."""
    try:
        made = parse_json(comment)
        if "comment" in made:  # a GIF has one comment for all tags
            made = parse_json(made["comment"])
        if made.pop("software") == "vidrd":
            prompts = [str(prompt) for prompt in made.pop("prompts", [])]
            for number, prompt in enumerate(prompts, 1):
                yield Fact(f"prompt {number}", prompt)
            made = _current_names(made)
            yield Fact("made with", _pairs(made), {"prompts": prompts, "made_with": made})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return


def _current_names(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of reuse by their current names; files keep two by older ones."""
    return {OLD_NAMES.get(name, name): value for name, value in settings.items()}


def _config(part: Tensors) -> dict[str, Any]:
    return _mapping(part.details.get("config"))


def _mapping(value: Any) -> dict[str, Any]:
    """A copy of a dictionary; {} for anything else, as in a damaged file."""
    return dict(value) if isinstance(value, dict) else {}


def _number(text: str) -> float | None:
    """The number that a text reads as, if it does."""
    with suppress(ValueError):
        return float(text)
    return None


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {'none' if value == '' else value}" for name, value in values.items())


def _size(count: int) -> str:
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000  # type: ignore[assignment]
    return f"{count:.4g} GB"
