"""The three parts of a VidRD as files: UNet3D, temporal VAE, text encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vidrd_core.models import checkpoint
from vidrd_core.models.config import Config, DiffusionConfig, TextConfig, UNet3DConfig, VAEConfig, from_dict, to_dict
from vidrd_core.models.layers import Attention, sdpa
from vidrd_core.models.text import TextEncoder
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE

UNET, VAE, TEXT = "UNet3D", "temporal VAE", "text encoder"


def save_unet(unet: UNet3D, diffusion: DiffusionConfig, path: Path) -> None:
    """Write a UNet3D with how it denoises."""
    checkpoint.write(path, unet.state_dict(), UNET, config=to_dict(unet.config), diffusion=to_dict(diffusion))


def load_unet(path: Path, ops: Any = nn, attention: Attention = sdpa) -> tuple[UNet3D, DiffusionConfig]:
    """Read a UNet3D and how it denoises. Raises FileNotFoundError, FormatError."""
    tensors, config, diffusion = read_unet(path)
    unet = UNet3D(config, ops, attention)
    checkpoint.fill(unet, tensors, path)
    return unet.eval(), diffusion


def read_unet(path: Path) -> tuple[dict[str, Tensor], UNet3DConfig, DiffusionConfig]:
    """The weights of a UNet3D, its layout and how it denoises. Raises FileNotFoundError, FormatError."""
    tensors, details = checkpoint.read(path, UNET)
    return tensors, _read(UNet3DConfig, details, "config", path), _read(DiffusionConfig, details, "diffusion", path)


def save_vae(vae: TemporalVAE, path: Path) -> None:
    """Write a temporal VAE."""
    checkpoint.write(path, vae.state_dict(), VAE, config=to_dict(vae.config))


def load_vae(path: Path, ops: Any = nn, attention: Attention = sdpa) -> TemporalVAE:
    """Read a temporal VAE. Raises FileNotFoundError, FormatError."""
    tensors, details = checkpoint.read(path, VAE)
    vae = TemporalVAE(_read(VAEConfig, details, "config", path), ops, attention)
    checkpoint.fill(vae, tensors, path)
    return vae.eval()


def save_text_encoder(encoder: TextEncoder, path: Path) -> None:
    """Write a text encoder with its words."""
    checkpoint.write(path, encoder.state_dict(), TEXT, config=to_dict(encoder.config))


def load_text_encoder(path: Path) -> TextEncoder:
    """Read a text encoder with its words. Raises FileNotFoundError, FormatError."""
    tensors, details = checkpoint.read(path, TEXT)
    encoder = TextEncoder(_read(TextConfig, details, "config", path))
    checkpoint.fill(encoder, encoder.named_as_here(tensors), path)
    return encoder.eval()


def _read(kind: type[Config], details: dict[str, Any], key: str, path: Path) -> Config:
    try:
        return from_dict(kind, details[key])
    except (KeyError, ValueError, TypeError) as error:
        raise checkpoint.FormatError(f"the description in {path} is not whole: {error}") from error
