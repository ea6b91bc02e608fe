"""Layers over time, put on an image model (VidRD, section 4.1)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from torch import Tensor

from vidrd_core.models import checkpoint
from vidrd_core.models.config import UNet3DConfig
from vidrd_core.models.formats.naming import from_naming, naming_of
from vidrd_core.models.formats.parts import contents, read_part
from vidrd_core.models.formats.unet import as_here, is_temporal, temporal_config
from vidrd_core.models.unet3d import UNet3D

TEMPORAL = "temporal layers"


def save_temporal(unet: UNet3D, path: Path) -> None:
    """Write a UNet3D's layers over time alone: a file to put on any checkpoint of the same widths."""
    tensors = {key: tensor for key, tensor in unet.state_dict().items() if is_temporal(key)}
    settings = {name: getattr(unet.config, name) for name in temporal_config({}, None)}
    checkpoint.write(path, tensors, TEMPORAL, settings=settings)


def with_temporal(
    tensors: dict[str, Tensor], config: UNet3DConfig, path: Path
) -> tuple[dict[str, Tensor], UNet3DConfig]:
    """A UNet with the layers over time of a file: one of them alone, or any UNet3D. Its own, if any, go.

    Raises FileNotFoundError, FormatError for a file that holds none, or none for UNets of these widths.
    """
    temporal, settings = read_temporal(path)
    whole = {key: tensor for key, tensor in tensors.items() if not is_temporal(key)} | temporal
    for key, tensor in temporal.items():
        block, _, place = key.partition(".temp_convs.")
        resnet = whole.get(f"{block}.resnets.{place.split('.')[0]}.conv2.bias")
        if place and resnet is not None and key.endswith(".bias") and tensor.shape != resnet.shape:
            raise checkpoint.FormatError(
                f"{path} is for another UNet: {key} has {tensor.shape[0]} channels, the layer before it "
                f"{resnet.shape[0]}"
            )
    return whole, dataclasses.replace(config, **settings)


def read_temporal(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The layers over time in a file, by their names here, and the settings of UNet3DConfig that they decide.

    Raises FileNotFoundError, FormatError if there are none.
    """
    if checkpoint.is_ours(path):
        details = checkpoint.describe(path)
        if details.get("kind") == TEMPORAL:
            return checkpoint.read(path, TEMPORAL)[0], dict(details["settings"])
        from vidrd_core.models.parts import read_unet  # which needs this module's neighbours

        tensors, config, _ = read_unet(path)
        settings = {name: getattr(config, name) for name in temporal_config({}, None)}
        return {key: tensor for key, tensor in tensors.items() if is_temporal(key)}, settings
    theirs, _ = read_part(path, "unet")
    naming, names = naming_of(theirs), from_naming(theirs)
    temporal = {names[key]: as_here(names[key], tensor) for key, tensor in theirs.items() if is_temporal(names[key])}
    if not temporal:
        raise checkpoint.FormatError(f"{path} has no layers over time: it holds {contents(theirs)}")
    return temporal, temporal_config(temporal, naming)
