"""Read and write safetensors files: tensors, with their kind and their settings as JSON in the metadata."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vidrd_core.io.atomic import atomic_folder
from vidrd_core.io.configs import parse_json
from vidrd_core.io.os_errors import first_line

METADATA_KEY = "vidrd"  # the key of the JSON details in a file's metadata
DESCRIPTION = "vidrd_details"  # the name of a tensor with a part's details, where another program saves its tensors
WHOLE_MODEL = "whole model"  # kind of a file with all parts: tensors as "unet.NAME", details as parts["unet"]
TEMPORAL_LAYERS = "temporal layers"  # kind of a file with the temporal layers of a UNet3D and nothing else


class FormatError(ValueError):
    """A file does not hold what was expected, or is damaged."""


def write(path: Path, tensors: dict[str, Tensor], kind: str, **details: Any) -> None:
    """Write a safetensors file of this package atomically.

    Args:
        path: The file; its folder must exist.
        tensors: The tensors by name, of any dtype and on any device.
        kind: What the file holds, as "UNet3D": `read` checks it.
        **details: JSON-ready values, as configurations; kept in the metadata under one key.

    Raises:
        OSError: The file cannot be written.
    """
    # One key: safetensors writes several in random order.
    write_tensors(path, tensors, {METADATA_KEY: json.dumps({"kind": kind, **details})})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file atomically, with any metadata, as another program expects it.

    Args:
        path: The file; its folder must exist.
        tensors: The tensors by name.
        metadata: The file's metadata, as {"format": "pt"}.

    Raises:
        OSError: The file cannot be written.
    """
    # In a folder, as safetensors has a temporary file of its own, which a kill would leave behind.
    with atomic_folder(path, parents=False) as staging:
        (file := staging / "tensors").touch()
        mode = file.stat().st_mode  # by the user's umask; safetensors writes files that only the owner can read
        try:
            save_file({k: t.detach().cpu().contiguous() for k, t in tensors.items()}, file, metadata)
        except SafetensorError as error:
            found = re.search(r"os error (\d+)", str(error))  # the errno is in its text alone
            number = int(found[1]) if found else None
            raise OSError(number, os.strerror(number) if number else str(error)) from error
        file.chmod(mode)
        os.replace(file, path)


def read(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file that `write` made, or one part of a whole model.

    Args:
        path: The file.
        kind: What it must hold; of a whole model, the part of this kind is read.

    Returns:
        The tensors by name, and the details that `write` was given, with "kind".

    Raises:
        FileNotFoundError: There is no such file.
        FormatError: The file is damaged or holds something else; the message names what.
    """
    path = Path(path)
    details, prefix = describe(path), ""
    if details.get("kind") == WHOLE_MODEL:
        name, details = next(
            ((name, part) for name, part in parts_of(details).items() if part.get("kind") == kind), ("", details)
        )
        prefix = f"{name}."
    if details.get("kind") != kind:
        raise FormatError(f"{path} holds {describe_kind(details)}, expected a {kind}")
    with open_safetensors(path) as file:
        names = [key.removeprefix(prefix) for key in file.keys() if key.startswith(prefix)]  # noqa: SIM118 - no mapping
        return {name: file.get_tensor(prefix + name) for name in names if name != DESCRIPTION}, details


@contextmanager
def open_safetensors(path: Path, framework: str = "pt") -> Iterator[Any]:
    """`safetensors.safe_open` as a context, with errors that name the file.

    Args:
        path: The file.
        framework: What its tensors are read as: "pt" or "numpy".

    Yields:
        The open file.

    Raises:
        FormatError: The file is damaged or not in safetensors format.
    """
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except (SafetensorError, OSError, TypeError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" in str(error):
            raise  # others of PyTorch are for sizes that it cannot have
        raise FormatError(
            f"{path} is not a whole safetensors file: {first_line(error)}; copy it again, or make it anew"
        ) from error


def description(details: dict[str, Any]) -> Tensor:
    """Details as a tensor of bytes, which a program saves beside a part's tensors; `describe` and `read` find it."""
    return torch.frombuffer(bytearray(json.dumps(details).encode()), dtype=torch.uint8)


def parts_of(details: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The details of each part of a whole model, by the part's name; without parts that are damaged."""
    parts = details.get("parts")
    named = parts.items() if isinstance(parts, dict) else ()
    return {str(name): dict(part) for name, part in named if isinstance(part, dict)}


def describe(path: Path) -> dict[str, Any]:
    """Read the JSON details of a file, without its tensors.

    Args:
        path: A safetensors file.

    Returns:
        The details that `write` was given, with "kind"; {} for a safetensors file of another program.

    Raises:
        FileNotFoundError: There is no such file.
        FormatError: It is damaged or not a safetensors file.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if path.is_dir():
        raise FormatError(f"{path} is a folder, expected a safetensors file")
    if file_format(path) == "pickle":
        raise FormatError(f"{path} is a pickle (a torch .pt, .ckpt or .bin file), expected safetensors")
    with open_safetensors(path) as file:
        metadata, keys = file.metadata() or {}, list(file.keys())
        names = [] if METADATA_KEY in metadata else [key for key in keys if key.endswith(f".{DESCRIPTION}")]
        embedded = {name.removesuffix(f".{DESCRIPTION}"): file.get_tensor(name) for name in names}
    try:
        if embedded:
            # Flattened, as bytes() of a single number would make so many zeros.
            parts = {name: dict(parse_json(bytes(text.flatten().tolist()))) for name, text in embedded.items()}
            return {"kind": WHOLE_MODEL, "parts": parts}
        return dict(parse_json(metadata[METADATA_KEY])) if METADATA_KEY in metadata else {}
    except (ValueError, TypeError, RecursionError) as error:  # nested too deep for Python's parser
        raise FormatError(f"{path} has a damaged description: {error}") from error


def has_kind(path: Path, kind: str) -> bool:
    """Whether a file that `write` made is of a kind, or has a part of it. Raises as `describe`."""
    details = describe(path)
    return kind in (details.get("kind"), *(part.get("kind") for part in parts_of(details).values()))


def is_ours(path: Path) -> bool:
    """Whether a file was written by this package. Raises FormatError if it is damaged."""
    path = Path(path)
    return path.is_file() and file_format(path) == "safetensors" and bool(describe(path))


def describe_kind(details: dict[str, Any]) -> str:
    """What a file with these details holds, as messages call it."""
    if details.get("kind") == TEMPORAL_LAYERS:
        return "temporal layers alone, which go on an image model (temporal=, or the node Inflate Checkpoint)"
    if details.get("kind") == WHOLE_MODEL and len(parts := parts_of(details)) == 1:
        return describe_kind(*parts.values())
    return f"a {details['kind']}" if "kind" in details else "tensors that vidrd did not write"


def file_format(path: Path) -> Literal["safetensors", "pickle", "other"]:
    """The format of a file by its first bytes alone; torch's zip archives count as "pickle". Raises OSError."""
    with Path(path).open("rb") as file:
        head = file.read(9)
    if head[8:9] == b"{":  # JSON after eight bytes of its length, of which the first may well be a pickle's 0x80
        return "safetensors"
    return "pickle" if head[:1] == b"\x80" or head[:2] == b"PK" else "other"


def load_weights(module: torch.nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load tensors into a module, strictly; a module on the meta device takes the tensors themselves.

    Args:
        module: Keeps its dtypes.
        tensors: One for each entry of the module's state_dict, of any floating-point dtype.
        path: The file that they come from, for messages.

    Raises:
        FormatError: Names or shapes do not fit, or weights are not finite; the message has the first ones.
    """
    state = module.state_dict()
    on_meta = any(tensor.is_meta for tensor in state.values())
    own = matched(state, tensors, path)
    check_finite(own, path)
    module.load_state_dict({key: tensor.to(state[key].dtype) for key, tensor in own.items()}, assign=on_meta)


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise FormatError with the first one if weights of a file hold NaN or infinity."""
    if wrong := [key for key, tensor in tensors.items() if not is_finite(tensor)]:
        others = f" and {len(wrong) - 1} others" if len(wrong) > 1 else ""
        raise FormatError(
            f"{path}: the weights {wrong[0]}{others} hold numbers that are not finite (NaN or infinity): get the "
            f"file again, or one of another type"
        )


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity, in one pass without a copy; of fp8 with one."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    known = tensor if tensor.dtype.itemsize > 1 else tensor.half()
    return all(bool(end.isfinite()) for end in known.aminmax())


def matched(state: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Bring a file's tensors into the order and shapes of a module's state; they keep their dtypes.

    Args:
        state: The module's state_dict.
        tensors: The file's tensors by name.
        path: The file, for messages.

    Returns:
        Tensors by name, in the order of `state`.

    Raises:
        FormatError: Names or shapes do not fit.
    """
    if faults := differences(state, tensors):
        raise FormatError(f"{path} does not fit what it seems to be: {'; '.join(faults)}")
    return {key: tensors[key].reshape(expected.shape) for key, expected in state.items()}


def differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Compare tensors with the expected ones by name and shape.

    Dimensions of size 1 at the end of a shape are ignored, as a linear layer's weight may be a conv's of kernel 1.

    Args:
        expected: The expected tensors by name.
        found: The tensors of a file by name.

    Returns:
        The differences as texts for a message; [] if there is none.
    """
    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    shapes = [
        f"{key} {list(found[key].shape)}, expected {list(tensor.shape)}"
        for key, tensor in expected.items()
        if key in found and _without_ones(found[key].shape) != _without_ones(tensor.shape)
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    return [f"{len(names)} {what} ({first_few(names)})" for what, names in kinds if names]


def _without_ones(shape: Sequence[int]) -> list[int]:
    """A shape without the 1s at its end."""
    sizes = list(shape)
    while sizes and sizes[-1] == 1:
        sizes.pop()
    return sizes


def first_few(names: Iterable[str]) -> str:
    """The first three names and an ellipsis for more, for a message."""
    listed = list(names)
    return ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "")
