"""Temporal layers of an image model (VidRD, section 4.1): add them, remove them, and save them by themselves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from torch import Tensor

from vidrd_core.io import safetensors
from vidrd_core.io.configs import from_dict, to_dict
from vidrd_core.io.safetensors import TEMPORAL_LAYERS, FormatError, differences
from vidrd_core.models.claimed_sizes import on_meta
from vidrd_core.models.config import UNet3DConfig, with_released_embedding
from vidrd_core.models.formats.detect import NAMINGS, contents, read_part
from vidrd_core.models.formats.naming import Tensors, detect_naming
from vidrd_core.models.formats.unet import identify_unet, temporal_config
from vidrd_core.models.formats.unet_keys import is_temporal
from vidrd_core.models.load_parts import read_unet
from vidrd_core.models.unet3d import UNet3D


def save_temporal(unet: UNet3D, path: Path) -> None:
    """Write the temporal layers of a UNet3D alone, for any UNet of the same widths.

    Raises ValueError if it has none, OSError if the file cannot be written.
    """
    write_temporal(unet.state_dict(), unet.config, path)


def write_temporal(tensors: Tensors, config: UNet3DConfig, path: Path) -> None:
    """As `save_temporal`, from a UNet3D's tensors under our names and its settings."""
    temporal = {key: tensor for key, tensor in tensors.items() if is_temporal(key)}
    if not temporal:
        raise ValueError("the UNet has no temporal layers: give a ModelScope, ZeroScope or VidRD UNet3D")
    safetensors.write(path, temporal, TEMPORAL_LAYERS, settings=_settings(config), heads=config.heads)


def with_temporal(
    tensors: dict[str, Tensor], config: UNet3DConfig, path: Path
) -> tuple[dict[str, Tensor], UNet3DConfig]:
    """Add the temporal layers of a file to a UNet; they replace its own, if it has any.

    Args:
        tensors: The UNet's tensors under our names.
        config: Its settings.
        path: A file with temporal layers alone, or any UNet3D that can be loaded.

    Returns:
        The tensors and settings of the UNet with these layers.

    Raises:
        FileNotFoundError: There is no such file.
        FormatError: It has no temporal layers, or those of a UNet of other widths, depth or heads.
    """
    temporal, settings, heads = _read(path)
    spatial, _ = without_temporal(tensors, config)
    try:
        whole = from_dict(UNet3DConfig, {**to_dict(config), **settings})
    except ValueError as error:
        raise FormatError(f"the description in {path} is not whole, or of a later version: {error}") from error
    state = on_meta(lambda: UNet3D(whole), whole, spatial | temporal, path).state_dict()
    faults = differences({key: tensor for key, tensor in state.items() if is_temporal(key)}, temporal)
    if whole.temp_attention != "none" and heads not in (None, config.heads):
        faults.append(f"attention heads {heads} for {config.heads}")
    safetensors.check_finite(temporal, path)
    if faults:
        raise FormatError(f"{path} is for another UNet, of other widths, depth or heads: {'; '.join(faults)}")
    return spatial | temporal, whole


def without_temporal(tensors: Tensors, config: UNet3DConfig) -> tuple[dict[str, Tensor], UNet3DConfig]:
    """The tensors and settings of a UNet without its temporal layers, which makes each frame independently."""
    spatial = {key: tensor for key, tensor in tensors.items() if not is_temporal(key)}
    return spatial, dataclasses.replace(config, **temporal_config({}, None))


def read_temporal(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the temporal layers of a file.

    Args:
        path: A file with temporal layers alone, or any UNet3D that can be loaded.

    Returns:
        Their tensors under our names, and the settings of UNet3DConfig that depend on them.

    Raises:
        FileNotFoundError: There is no such file.
        FormatError: It has no temporal layers, or is damaged.
    """
    temporal, settings, _ = _read(path)
    safetensors.check_finite(temporal, path)
    return temporal, settings


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], tuple[int, ...] | None]:
    """As `read_temporal`, with the attention heads of each level; None if the file does not show them."""
    if not safetensors.is_ours(path):
        return _read_third_party(path)
    details = safetensors.describe(path)
    if details.get("kind") == TEMPORAL_LAYERS:
        heads = details.get("heads")
        settings = details.get("settings")
        settings = with_released_embedding(settings) if isinstance(settings, dict) else {}
        if not _settings(UNet3DConfig()).keys() <= settings.keys():
            raise FormatError(f"the description in {path} is not whole: it lacks settings of temporal layers")
        return safetensors.read(path, TEMPORAL_LAYERS)[0], settings, tuple(heads) if isinstance(heads, list) else None
    tensors, config, _ = read_unet(path)
    temporal = {key: tensor for key, tensor in tensors.items() if is_temporal(key)}
    if not temporal:
        raise FormatError(f"{path} has no temporal layers: its UNet is one of images")
    return temporal, _settings(config), config.heads


def _read_third_party(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], tuple[int, ...] | None]:
    theirs, config = read_part(path, "unet")
    naming = detect_naming(NAMINGS["unet"], theirs)
    ours = theirs if naming is None else naming.to_ours(theirs)
    temporal = {key: tensor for key, tensor in ours.items() if is_temporal(key)}
    if not temporal:
        raise FormatError(f"{path} has no temporal layers: it holds {contents(theirs)}")
    try:
        heads = identify_unet(theirs, config).config.heads
    except FormatError:  # only a complete UNet shows them
        heads = None
    return temporal, temporal_config(temporal, naming), heads


def _settings(config: UNet3DConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in temporal_config({}, None)}
