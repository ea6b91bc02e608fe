"""What `vidrd models` and `vidrd info` print: built-in models, and what a file is, without running anything."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidrd_core import loading
from vidrd_core.cli.errors import InputError, input_checked
from vidrd_core.io import safetensors
from vidrd_core.loading import PARTS
from vidrd_core.video.reader import probe_video

if TYPE_CHECKING:
    from vidrd_core.models.formats.naming import Part

Facts = Iterator[tuple[str, str]]


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
        (name, value) pairs; the first is ("kind", what it is in a few words).

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


def _folder(path: Path) -> Facts:
    parts = [part for part in PARTS if (path / part).is_file()]
    states = sorted(path.glob("clip_*.safetensors"))
    frames = sorted(path.glob("frame_*.png"))
    if parts:
        missing = [part for part in PARTS if part not in parts]
        yield "kind", f"model folder, not whole: it lacks {', '.join(missing)}" if missing else "model folder"
        for part in parts:
            facts = dict(_safetensors(path / part))
            yield part, f"{facts['kind']}, {facts.get('parameters', '?')} parameters, {facts['on disk']}"
    elif states:
        yield "kind", f"folder of {len(states)} clip states, {states[0].name} to {states[-1].name}; of the last one:"
        yield from list(_safetensors(states[-1]))[1:]
    elif frames:
        from PIL import Image

        with Image.open(frames[0]) as image:
            yield "kind", f"video of {len(frames)} PNG frames"
            yield "size", f"{image.width} x {image.height} pixels"
            yield "fps", str(image.info.get("fps", "unknown"))
            yield from _made_with(image.info.get("comment", ""))
    else:
        from vidrd_core.models.lora.files import is_lora

        if not loading.is_third_party(path) and not is_lora(path):
            raise InputError(f"{path} is a folder with no model parts, clip states or PNG frames in it")
        yield "kind", "folder of a LoRA" if is_lora(path) else "diffusers folder"
        yield from _parts(path)


def _safetensors(path: Path) -> Facts:
    file = Tensors.of(path)
    kind = file.details.get("kind")
    if kind is None:
        yield "kind", "safetensors file, not made by vidrd"
        yield from _parts(path)
        yield "tensors", f"{len(file.shapes)}: {safetensors.first_few(file.shapes)}"
    elif kind == "clip state":
        from vidrd_core.state import ClipState

        ClipState.load(path)  # raises for a damaged one
        yield from _state(file)
    else:
        yield "kind", str(kind)
        if kind == safetensors.WHOLE_MODEL:
            for name, part in safetensors.parts_of(file.details).items():
                yield name, str(part.get("kind"))
        for group in ("config", "diffusion"):
            for name, value in _mapping(file.details.get(group)).items():
                yield name, " ".join(map(str, value)) if isinstance(value, list) else str(value)
    if kind != "clip state":
        yield "parameters", f"{file.parameters:,}"
    yield "on disk", _size(path.stat().st_size)


def _torch_file(path: Path) -> Facts:
    yield "kind", "torch file"
    yield from _parts(path)
    yield "on disk", _size(path.stat().st_size)


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
            yield part.replace("_", " "), str(error)
    if not found:
        yield "holds", contents(keys_of(path))


def _part(path: Path, part: Part) -> Facts:
    """One part of a model. Raises FormatError."""
    from vidrd_core.models.formats.detect import NAMINGS, find_unet, read_part
    from vidrd_core.models.formats.naming import detect_naming

    if part == "unet":
        unet, diffusion = find_unet(path)
        yield "unet", f"{unet.about}, {sum(t.numel() for t in unet.tensors.values()):,} parameters"
        yield "denoising", f"{diffusion.prediction}, {diffusion.schedule}"
        return
    tensors, _ = read_part(path, part)
    naming = detect_naming(NAMINGS[part], tensors)
    yield part.replace("_", " "), f"{naming.name} names" if naming else "yes"


def _lora(path: Path) -> Facts:
    """The layers and the model family of a LoRA."""
    from vidrd_core.models.lora.files import read_lora
    from vidrd_core.models.lora.merge import text_width
    from vidrd_core.models.lora.names import is_text_layer

    found = read_lora(path)
    of_text = sum(map(is_text_layer, found))
    ranks = sorted({change.rank for change in found.values()})
    family = {768: " of Stable Diffusion 1.x", 1024: " of Stable Diffusion 2.x"}.get(text_width(found) or 0, "")
    yield "holds", f"a LoRA{family}, of rank {', '.join(map(str, ranks))}"
    yield "changes", f"{len(found) - of_text} layers of the UNet, {of_text} of the text encoder"


def _state(file: Tensors) -> Facts:
    details = file.details
    made = _mapping(details.get("made_with"))
    yield "kind", f"clip state of clip {details.get('index')} (the first one is 0)"
    yield "prompt", str(made.pop("prompt", "unknown"))
    reuse = _mapping(made.pop("reuse", None))
    yield "settings", _pairs(made)
    yield "reuse", _pairs(reuse) if reuse else "unknown"
    record = file.shapes.get("record", ())
    if len(record) == 6:
        yield "next clip", f"can take up to {record[3]} prompt frames (M)"
    for name, shape in file.shapes.items():
        if 0 in shape:  # an empty tensor
            continue
        yield f"shape of {name}", " x ".join(map(str, shape))
    yield "model signature", str(details.get("model_signature"))


def _video(path: Path) -> Facts:
    try:
        video = probe_video(path)
    except ValueError as error:
        raise InputError(f"{path} is no safetensors file, and no video that can be read") from error
    yield "kind", f"video ({path.suffix[1:].lower() or video.kind}, {video.codec})"
    yield "frames", str(video.frames)
    yield "size", f"{video.width} x {video.height} pixels"
    yield "fps", f"{video.fps:.4g}"
    yield "length", f"{video.frames / video.fps:.2f} s" if video.fps else "unknown"
    yield "on disk", _size(path.stat().st_size)
    yield from _made_with(video.tags.get("comment", ""))


def _made_with(comment: str) -> Facts:
    """The settings that `generate` and `extend` write into a video."""
    try:
        made = json.loads(comment)
        if "comment" in made:  # a GIF has one comment for all tags
            made = json.loads(made["comment"])
        if made.pop("software") == "vidrd":
            for number, prompt in enumerate(made.pop("prompts", []), 1):
                yield f"prompt {number}", str(prompt)
            yield "made with", _pairs(made)
    except (ValueError, KeyError, TypeError, AttributeError):
        return


def _config(part: Tensors) -> dict[str, Any]:
    return _mapping(part.details.get("config"))


def _mapping(value: Any) -> dict[str, Any]:
    """A copy of a dictionary; {} for anything else, as in a damaged file."""
    return dict(value) if isinstance(value, dict) else {}


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {'none' if value == '' else value}" for name, value in values.items())


def _size(count: int) -> str:
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000  # type: ignore[assignment]
    return f"{count:.4g} GB"
