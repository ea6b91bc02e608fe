"""Save and load model parts as safetensors, with their configuration as JSON inside."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vidrd_core.io.atomic import atomic_file

KEY = "vidrd"  # of the JSON in a file's metadata
WHOLE = "whole model"  # the kind of a file that holds all parts: tensors as "unet.NAME", details as parts["unet"]
TEMPORAL = "temporal layers"  # the kind of a file with a UNet3D's layers over time alone


class FormatError(ValueError):
    """A file is not what it was taken for."""


def write(path: Path, tensors: dict[str, Tensor], kind: str, **details: Any) -> None:
    """Write tensors and JSON details to one safetensors file, which appears whole or not at all."""
    # One key: several come in random order.
    write_tensors(path, tensors, {KEY: json.dumps({"kind": kind, **details})})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """The same, with the metadata that other programs look for."""
    with atomic_file(path) as partial:
        partial.touch()
        mode = partial.stat().st_mode  # as the user has it; safetensors lets only the owner read what it writes
        try:
            save_file({k: t.detach().cpu().contiguous() for k, t in tensors.items()}, partial, metadata)
        except SafetensorError as error:
            found = re.search(r"os error (\d+)", str(error))  # it has the errno in its text alone
            number = int(found[1]) if found else None
            raise OSError(number, os.strerror(number) if number else str(error)) from error
        partial.chmod(mode)


def read(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and details of a file that `write` made for the same `kind`, or of that part of a whole model.

    Raises FileNotFoundError, or FormatError saying what the file is instead.
    """
    path = Path(path)
    details, prefix = describe(path), ""
    if details.get("kind") == WHOLE:
        name, details = next(
            ((name, part) for name, part in parts_of(details).items() if part.get("kind") == kind), ("", details)
        )
        prefix = f"{name}."
    if details.get("kind") != kind:
        raise FormatError(f"{path} holds {called(details)}, expected a {kind}")
    with safe_open(path, framework="pt") as file:
        names = [key for key in file.keys() if key.startswith(prefix)]  # noqa: SIM118 - no mapping
        return {key.removeprefix(prefix): file.get_tensor(key) for key in names}, details


def parts_of(details: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The details of each part of a whole model, by name."""
    parts = details.get("parts")
    return {str(name): dict(part) for name, part in parts.items()} if isinstance(parts, dict) else {}


def describe(path: Path) -> dict[str, Any]:
    """The JSON details inside a file, without its tensors; {} for a safetensors file that is not ours."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if path.is_dir():
        raise FormatError(f"{path} is a folder, expected a safetensors file")
    if sniff(path) == "pickle":
        raise FormatError(f"{path} is a pickle (a torch .pt, .ckpt or .bin file), expected safetensors")
    try:
        with safe_open(path, framework="pt") as tensors:
            metadata = tensors.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise FormatError(f"{path} is not a whole safetensors file: {error}") from error
    try:
        return dict(json.loads(metadata[KEY])) if KEY in metadata else {}
    except (ValueError, TypeError) as error:
        raise FormatError(f"{path} carries a damaged description: {error}") from error


def holds(path: Path, kind: str) -> bool:
    """Whether a file of ours is of a kind, or has a part of it."""
    details = describe(path)
    return kind in (details.get("kind"), *(part.get("kind") for part in parts_of(details).values()))


def is_ours(path: Path) -> bool:
    """Whether `write` made a file. Raises FormatError for a damaged one."""
    path = Path(path)
    return path.is_file() and sniff(path) == "safetensors" and bool(describe(path))


def called(details: dict[str, Any]) -> str:
    """What a file with these details holds."""
    if details.get("kind") == TEMPORAL:
        return "temporal layers alone, which go on an image model (temporal=, or the node Inflate Checkpoint)"
    return f"a {details['kind']}" if "kind" in details else "what vidrd did not write"


def sniff(path: Path) -> Literal["safetensors", "pickle", "other"]:
    """What a file looks like, by its first bytes alone."""
    with Path(path).open("rb") as file:
        head = file.read(9)
    if head[8:9] == b"{":  # JSON after eight bytes of its length, of which the first may well be a pickle's 0x80
        return "safetensors"
    return "pickle" if head[:1] == b"\x80" or head[:2] == b"PK" else "other"


def fill(module: torch.nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load weights into a module; one on the meta device takes the tensors themselves.

    Raises FormatError naming the first keys that miss, are surplus or do not fit.
    """
    state = module.state_dict()
    on_meta = any(tensor.is_meta for tensor in state.values())
    own = fitted(state, tensors, path)
    module.load_state_dict({key: tensor.to(state[key].dtype) for key, tensor in own.items()}, assign=on_meta)


def fitted(state: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Tensors in the order and with the shapes of a module's state, of the types that they have. As `fill` raises."""
    if faults := differences(state, tensors):
        raise FormatError(f"{path} does not fit what it seems to be: {'; '.join(faults)}")
    return {key: tensors[key].reshape(wanted.shape) for key, wanted in state.items()}


def differences(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """How tensors differ from those wanted, by names and shapes, in words."""
    missing = [key for key in wanted if key not in found]
    surplus = [key for key in found if key not in wanted]
    shapes = [
        f"{key} {tuple(found[key].shape)} for {tuple(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in found and found[key].shape not in (tensor.shape, (*tensor.shape, 1))  # 1: of a Conv3d
    ]
    return [
        f"{len(keys)} tensors {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for what, keys in (("missing", missing), ("surplus", surplus), ("of another shape", shapes))
        if keys
    ]
