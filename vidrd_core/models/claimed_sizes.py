"""Modules whose sizes a file claims: nothing is allocated before they are seen to be possible."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vidrd_core.io.os_errors import first_line
from vidrd_core.io.safetensors import FormatError

Module = TypeVar("Module", bound=nn.Module)
MOST_LAYERS, WIDEST = 1000, 2**20  # of a new model
LAYERS = ("layers", "layers_per_block", "temp_conv_depth")  # settings that count layers, each of which has tensors


def on_meta(make: Callable[[], Module], config: Any, tensors: Mapping[str, Tensor], path: Path) -> Module:
    """Build a module without memory for its weights, if the file whose settings it has can fill it.

    Args:
        make: Builds it.
        config: Its settings, a dataclass.
        tensors: The file's tensors, which are counted.
        path: The file, for messages.

    Returns:
        The module on the meta device.

    Raises:
        FormatError: The settings are impossible, or claim more than the file holds.
    """
    count, numbers = len(tensors), sum(tensor.numel() for tensor in tensors.values())
    for name, value in claims(config):
        most, what = (count, "tensors") if name in LAYERS else (numbers, "numbers")
        if value > most:
            raise FormatError(f"{path} claims {name} {value}, more than it has {what} ({most}): it is damaged")
    try:
        with torch.device("meta"):
            return make()
    except (RuntimeError, TypeError, ValueError, ArithmeticError, IndexError, AssertionError) as error:
        raise FormatError(f"{path} claims sizes with which it cannot be built: {first_line(error)}") from error


def check_buildable(kind: type[nn.Module], config: Any) -> None:
    """See that a new model of a recipe's settings is possible; no memory is used for it.

    Args:
        kind: The model's class.
        config: Its settings, a dataclass.

    Raises:
        ValueError: It is not, or far larger than any is.
    """
    for name, value in claims(config):
        if value > (most := MOST_LAYERS if name in LAYERS else WIDEST):
            raise ValueError(f"a {kind.__name__} has {name} {value}, expected at most {most}")
    try:
        with torch.device("meta"):
            kind(config)
    except (ValueError, RuntimeError, TypeError, ArithmeticError) as error:
        raise ValueError(f"a {kind.__name__} with these settings is impossible: {first_line(error)}") from error


def claims(config: Any) -> Iterator[tuple[str, int]]:
    """The whole numbers of a configuration, with the names of their settings; of a list its length, too."""
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        if isinstance(value, tuple):
            yield f"the length of {each.name}", len(value)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int):
                yield each.name, number
