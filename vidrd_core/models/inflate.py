"""Layers over time, put on an image model (VidRD, section 4.1), taken off, and kept in files of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidrd_core.io import safetensors as checkpoint
from vidrd_core.io.configs import from_dict, to_dict
from vidrd_core.io.safetensors import TEMPORAL, FormatError
from vidrd_core.models.config import UNet3DConfig
from vidrd_core.models.formats.detect import contents, read_part
from vidrd_core.models.formats.unet import as_here, is_temporal, read_unet, temporal_config
from vidrd_core.models.formats.unet_keys import from_naming, naming_of
from vidrd_core.models.unet3d import UNet3D


def save_temporal(unet: UNet3D, path: Path) -> None:
    """Write a UNet3D's layers over time alone: a file to put on any checkpoint of the same widths."""
    write_temporal(unet.state_dict(), unet.config, path)


def write_temporal(tensors: Mapping[str, Tensor], config: UNet3DConfig, path: Path) -> None:
    """The same, of a UNet3D's tensors. Raises ValueError if it has no layers over time."""
    temporal = {key: tensor for key, tensor in tensors.items() if is_temporal(key)}
    if not temporal:
        raise ValueError("the UNet has no layers over time: give a ModelScope, ZeroScope or VidRD UNet3D")
    checkpoint.write(path, temporal, TEMPORAL, settings=_settings(config), heads=config.heads)


def with_temporal(
    tensors: dict[str, Tensor], config: UNet3DConfig, path: Path
) -> tuple[dict[str, Tensor], UNet3DConfig]:
    """A UNet with the layers over time of a file: one of them alone, or any UNet3D. Its own, if any, go.

    Raises FileNotFoundError, FormatError for a file that holds none, or none for UNets of this build.
    """
    temporal, settings, heads = _read(path)
    spatial, _ = without_temporal(tensors, config)
    try:
        whole = from_dict(UNet3DConfig, {**to_dict(config), **settings})
    except ValueError as error:
        raise FormatError(f"the description in {path} is not whole, or of a later version: {error}") from error
    faults = _faults(temporal, whole)
    if whole.temp_attention != "none" and heads not in (None, config.heads):
        faults.append(f"attention heads {heads} for {config.heads}")
    if faults:
        raise FormatError(f"{path} is for another UNet, of other widths, depth or heads: {'; '.join(faults)}")
    return spatial | temporal, whole


def without_temporal(tensors: Mapping[str, Tensor], config: UNet3DConfig) -> tuple[dict[str, Tensor], UNet3DConfig]:
    """A UNet without its layers over time: the frames that it makes know nothing of each other."""
    spatial = {key: tensor for key, tensor in tensors.items() if not is_temporal(key)}
    return spatial, dataclasses.replace(config, **temporal_config({}, None))


def read_temporal(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The layers over time in a file, by their names here, and the settings of UNet3DConfig that they decide.

    Raises FileNotFoundError, FormatError if there are none.
    """
    temporal, settings, _ = _read(path)
    return temporal, settings


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], tuple[int, ...] | None]:
    """What `read_temporal` gives, and the attention's heads by level, None if nothing tells them."""
    if not checkpoint.is_ours(path):
        return _read_others(path)
    details = checkpoint.describe(path)
    if details.get("kind") == TEMPORAL:
        heads = details.get("heads")
        settings = details.get("settings")
        if not isinstance(settings, dict) or not _settings(UNet3DConfig()).keys() <= settings.keys():
            raise FormatError(f"the description in {path} is not whole: it lacks settings of layers over time")
        return checkpoint.read(path, TEMPORAL)[0], settings, tuple(heads) if heads else None
    from vidrd_core.models.load_parts import read_unet as read_whole  # which needs this module's neighbours

    tensors, config, _ = read_whole(path)
    temporal = {key: tensor for key, tensor in tensors.items() if is_temporal(key)}
    if not temporal:
        raise FormatError(f"{path} has no layers over time: its UNet is one of images")
    return temporal, _settings(config), config.heads


def _read_others(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], tuple[int, ...] | None]:
    theirs, config = read_part(path, "unet")
    naming, names = naming_of(theirs), from_naming(theirs)
    temporal = {names[key]: as_here(names[key], tensor) for key, tensor in theirs.items() if is_temporal(names[key])}
    if not temporal:
        raise FormatError(f"{path} has no layers over time: it holds {contents(theirs)}")
    try:
        heads = read_unet(theirs, config).config.heads
    except FormatError:  # only a whole UNet tells them
        heads = None
    return temporal, temporal_config(temporal, naming), heads


def _settings(config: UNet3DConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in temporal_config({}, None)}


def _faults(temporal: Mapping[str, Tensor], config: UNet3DConfig) -> list[str]:
    """How layers over time differ from those that a UNet of this build has, in words."""
    with torch.device("meta"):
        wanted = {key: tensor for key, tensor in UNet3D(config).state_dict().items() if is_temporal(key)}
    return checkpoint.differences(wanted, temporal)
