"""The three parts of a VidRD from files, ours or others': UNet3D, temporal VAE, text encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from vidrd_core.io import safetensors as checkpoint
from vidrd_core.io.configs import Config, from_dict, to_dict
from vidrd_core.models import ops as core_ops
from vidrd_core.models.attention import Attention, sdpa
from vidrd_core.models.clip_text_encoder import (
    CLIP,
    TOKENIZER,
    CLIPText,
    CLIPTextSettings,
    load_tokenizer,
    tokenizer_of,
    tokenizer_tensors,
)
from vidrd_core.models.config import TextConfig, UNet3DConfig, VAEConfig
from vidrd_core.models.formats.detect import find_unet, read_part
from vidrd_core.models.formats.text import read_text
from vidrd_core.models.formats.vae import read_vae
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.models.word_text_encoder import TextEncoder
from vidrd_core.sampling import DiffusionConfig

Found = TypeVar("Found")
UNET, VAE, TEXT, CLIP_TEXT = "UNet3D", "temporal VAE", "text encoder", "CLIP text encoder"
Described = tuple[dict[str, Tensor], dict[str, Any]]
"""What `checkpoint.write` takes: tensors, and details with the kind."""


def save_unet(unet: UNet3D, diffusion: DiffusionConfig, path: Path) -> None:
    """Write a UNet3D with how it denoises."""
    tensors, details = described(unet, diffusion)
    checkpoint.write(path, tensors, **details)


def described(unet: UNet3D, diffusion: DiffusionConfig) -> Described:
    """A UNet3D's file."""
    return unet.state_dict(), {"kind": UNET, "config": to_dict(unet.config), "diffusion": to_dict(diffusion)}


def load_unet(path: Path, ops: Any = core_ops, attention: Attention = sdpa) -> tuple[UNet3D, DiffusionConfig]:
    """Read a UNet3D and how it denoises. Raises FileNotFoundError, FormatError."""
    tensors, config, diffusion = read_unet(path)
    return build_unet(tensors, config, path, ops, attention), diffusion


def build_unet(
    tensors: dict[str, Tensor], config: UNet3DConfig, path: Path, ops: Any = core_ops, attention: Attention = sdpa
) -> UNet3D:
    """A UNet3D of the tensors in `path`, for inference. Raises FormatError if they do not fit."""
    with torch.device("meta"):
        unet = UNet3D(config, ops, attention)
    checkpoint.fill(unet, tensors, path)
    return unet.eval()


def read_unet(path: Path) -> tuple[dict[str, Tensor], UNet3DConfig, DiffusionConfig]:
    """The weights of a UNet3D, its layout and how it denoises. Raises FileNotFoundError, FormatError."""
    if not checkpoint.is_ours(path):
        found, diffusion = find_unet(path)
        return found.tensors, found.config, diffusion
    tensors, details = checkpoint.read(path, UNET)
    return tensors, _read(UNet3DConfig, details, "config", path), _read(DiffusionConfig, details, "diffusion", path)


def save_vae(vae: TemporalVAE, path: Path) -> None:
    """Write a temporal VAE."""
    tensors, details = described_vae(vae)
    checkpoint.write(path, tensors, **details)


def described_vae(vae: TemporalVAE) -> Described:
    """A VAE's file."""
    return vae.state_dict(), {"kind": VAE, "config": to_dict(vae.config)}


def load_vae(path: Path, ops: Any = core_ops, attention: Attention = sdpa) -> TemporalVAE:
    """Read a VAE of Stable Diffusion's latents. Raises FileNotFoundError, FormatError."""
    tensors, config = find_vae(path)
    vae = TemporalVAE(config, ops, attention)
    checkpoint.fill(vae, tensors, path)
    return vae.eval()


def find_vae(path: Path) -> tuple[dict[str, Tensor], VAEConfig]:
    """The weights of a VAE and its layout. Raises FileNotFoundError, FormatError."""
    if checkpoint.is_ours(path):
        tensors, details = checkpoint.read(path, VAE)
        return tensors, _read(VAEConfig, details, "config", path)
    config, tensors = _said_of(path, read_vae, *read_part(path, "vae"))
    return tensors, config


def save_text_encoder(encoder: TextEncoder | CLIPText, path: Path) -> None:
    """Write a text encoder with its words, or CLIP with its tokenizer."""
    tensors, details = described_text(encoder)
    checkpoint.write(path, tensors, **details)


def described_text(encoder: TextEncoder | CLIPText) -> Described:
    """A text encoder's file."""
    if isinstance(encoder, TextEncoder):
        return encoder.state_dict(), {"kind": TEXT, "config": to_dict(encoder.config)}
    tensors = encoder.named_as_clip() | tokenizer_tensors(encoder.tokenizer)
    return tensors, {"kind": CLIP_TEXT, "config": to_dict(encoder.config)}


def load_text_encoder(path: Path) -> TextEncoder:
    """Read a text encoder of ours with its words. Raises FileNotFoundError, FormatError."""
    tensors, details = checkpoint.read(path, TEXT)
    encoder = TextEncoder(_read(TextConfig, details, "config", path))
    checkpoint.fill(encoder, encoder.named_as_here(tensors), path)
    return encoder.eval()


def load_clip_text(path: Path, tokenizer: str | Path | None = None) -> CLIPText:
    """Read a CLIP text encoder, with the tokenizer that is named, is in or beside it, or that all CLIPs share.

    Raises FileNotFoundError, FormatError.
    """
    settings, tensors, inside = find_clip_text(path)
    if inside and tokenizer is None:
        words = tokenizer_of(inside, settings.hidden_size, path)
    else:
        words = load_tokenizer(tokenizer or (path if Path(path).is_dir() else CLIP), settings.hidden_size)
    encoder = CLIPText(settings, words)
    checkpoint.fill(encoder, encoder.named_as_here(tensors), path)
    return encoder.eval()


def find_clip_text(path: Path) -> tuple[CLIPTextSettings, dict[str, Tensor], dict[str, Tensor]]:
    """A CLIP text encoder's settings, its weights, and the tokenizer that a file of ours has inside, else {}.

    Raises FileNotFoundError, FormatError.
    """
    if not checkpoint.is_ours(path):
        return *_said_of(path, read_text, *read_part(path, "text_encoder")), {}
    found, details = checkpoint.read(path, CLIP_TEXT)
    inside = {key: tensor for key, tensor in found.items() if key.startswith(TOKENIZER)}
    tensors = {key: tensor for key, tensor in found.items() if key not in inside}
    return _read(CLIPTextSettings, details, "config", path), tensors, inside


def _said_of(path: Path, read: Callable[..., Found], *given: Any) -> Found:
    try:
        return read(*given)
    except checkpoint.FormatError as error:
        raise checkpoint.FormatError(f"{path}: {error}") from error


def _read(kind: type[Config], details: dict[str, Any], key: str, path: Path) -> Config:
    try:
        return from_dict(kind, details[key])
    except (KeyError, ValueError, TypeError) as error:
        raise checkpoint.FormatError(f"the description in {path} is not whole: {error}") from error
