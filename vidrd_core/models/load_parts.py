"""Load and save the three parts of a model, in our files or any known format: UNet3D, temporal VAE, text encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from vidrd_core.io import safetensors
from vidrd_core.io.configs import Config, from_dict, to_dict
from vidrd_core.io.safetensors import FormatError
from vidrd_core.models import ops as core_ops
from vidrd_core.models.attention import Attention, sdpa
from vidrd_core.models.claimed_sizes import on_meta
from vidrd_core.models.clip_text_encoder import CLIPText, CLIPTextSettings
from vidrd_core.models.clip_tokenizer import (
    TOKENIZER,
    find_tokenizer,
    load_tokenizer,
    tokenizer_from_tensors,
    tokenizer_tensors,
)
from vidrd_core.models.config import TextConfig, UNet3DConfig, VAEConfig, with_released_embedding
from vidrd_core.models.formats.detect import RELEASED_SAMPLING, find_unet, read_part
from vidrd_core.models.formats.text import identify_text
from vidrd_core.models.formats.vae import identify_vae
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.models.word_text_encoder import TextEncoder
from vidrd_core.sampling import DiffusionConfig

Found = TypeVar("Found")
UNET, VAE, TEXT, CLIP_TEXT = "UNet3D", "temporal VAE", "text encoder", "CLIP text encoder"  # kinds of our files
Described = tuple[dict[str, Tensor], dict[str, Any]]
"""What `safetensors.write` takes: tensors, and details with the kind."""


def save_unet(unet: UNet3D, diffusion: DiffusionConfig, path: Path) -> None:
    """Write a UNet3D and its diffusion settings to one file. Raises OSError."""
    tensors, details = described(unet, diffusion)
    safetensors.write(path, tensors, **details)


def described(unet: UNet3D, diffusion: DiffusionConfig) -> Described:
    """The contents of a UNet3D's file: tensors, and details."""
    return unet.state_dict(), {"kind": UNET, "config": to_dict(unet.config), "diffusion": to_dict(diffusion)}


def load_unet(path: Path, ops: Any = core_ops, attention: Attention = sdpa) -> tuple[UNet3D, DiffusionConfig]:
    """Load a UNet3D for inference, with its diffusion settings.

    Args:
        path: Our file, or a file or folder in a known format; an image UNet is inflated.
        ops: The namespace of layers that it is built from: Linear, Conv2d, GroupNorm, LayerNorm.
        attention: The attention function.

    Returns:
        The UNet, and its noise schedule, prediction type and clip shape.

    Raises:
        FileNotFoundError: There is no such file.
        FormatError: The file is damaged or holds something else.
    """
    tensors, config, diffusion = read_unet(path)
    return build_unet(tensors, config, path, ops, attention), diffusion


def build_unet(
    tensors: dict[str, Tensor], config: UNet3DConfig, path: Path, ops: Any = core_ops, attention: Attention = sdpa
) -> UNet3D:
    """A UNet3D with these tensors, for inference; `path` names their file in messages. Raises FormatError."""
    unet = on_meta(lambda: UNet3D(config, ops, attention), config, tensors, path)
    safetensors.load_weights(unet, tensors, path)
    return unet.eval()


def read_unet(path: Path) -> tuple[dict[str, Tensor], UNet3DConfig, DiffusionConfig]:
    """The tensors of a UNet3D under our names, its config and its diffusion config. Raises as `load_unet`."""
    if not safetensors.is_ours(path):
        found, diffusion = find_unet(path)
        return found.tensors, found.config, diffusion
    tensors, details = safetensors.read(path, UNET)
    config = _config(UNet3DConfig, details, "config", path, with_released_embedding)
    lacking = RELEASED_SAMPLING if config.released_embedding else {}  # what files of earlier versions do not say
    return tensors, config, _config(DiffusionConfig, details, "diffusion", path, lambda found: {**lacking, **found})


def save_vae(vae: TemporalVAE, path: Path) -> None:
    """Write a temporal VAE to one file. Raises OSError."""
    tensors, details = described_vae(vae)
    safetensors.write(path, tensors, **details)


def described_vae(vae: TemporalVAE) -> Described:
    """The contents of a VAE's file: tensors, and details."""
    return vae.state_dict(), {"kind": VAE, "config": to_dict(vae.config)}


def load_vae(path: Path, ops: Any = core_ops, attention: Attention = sdpa) -> TemporalVAE:
    """Load a VAE of Stable Diffusion's latents for inference. Arguments and errors as in `load_unet`."""
    tensors, config = find_vae(path)
    vae = on_meta(lambda: TemporalVAE(config, ops, attention), config, tensors, path)
    safetensors.load_weights(vae, tensors, path)
    return vae.eval()


def find_vae(path: Path) -> tuple[dict[str, Tensor], VAEConfig]:
    """The tensors of a VAE under our names, and its settings. Raises as `load_unet`."""
    if safetensors.is_ours(path):
        tensors, details = safetensors.read(path, VAE)
        return tensors, _config(VAEConfig, details, "config", path)
    config, tensors = _naming_file(path, identify_vae, *read_part(path, "vae"))
    return tensors, config


def save_text_encoder(encoder: TextEncoder | CLIPText, path: Path) -> None:
    """Write a text encoder with its vocabulary, or CLIP with its tokenizer, to one file. Raises OSError."""
    tensors, details = described_text(encoder)
    safetensors.write(path, tensors, **details)


def described_text(encoder: TextEncoder | CLIPText) -> Described:
    """The contents of a text encoder's file: tensors, and details."""
    if isinstance(encoder, TextEncoder):
        return encoder.state_dict(), {"kind": TEXT, "config": to_dict(encoder.config)}
    tensors = encoder.file_state_dict() | tokenizer_tensors(encoder.tokenizer)
    return tensors, {"kind": CLIP_TEXT, "config": to_dict(encoder.config)}


def load_text_encoder(path: Path) -> TextEncoder:
    """Load a word-level text encoder for inference. Raises FileNotFoundError, FormatError."""
    tensors, details = safetensors.read(path, TEXT)
    config = _config(TextConfig, details, "config", path)
    encoder = on_meta(lambda: TextEncoder(config), config, tensors, path)
    safetensors.load_weights(encoder, encoder.match_transformers(tensors), path)
    return encoder.eval()


def load_clip_text(path: Path, tokenizer: str | Path | None = None) -> CLIPText:
    """Load a CLIP text encoder for inference.

    Args:
        path: Our file, or a file or folder in a known format.
        tokenizer: A folder with a tokenizer; by default the one inside our file or in the folder, else the one that
            `find_tokenizer` finds on this machine.

    Returns:
        The encoder with its tokenizer, in evaluation mode.

    Raises:
        FileNotFoundError: There is no such file or tokenizer.
        FormatError: The file or the tokenizer is damaged, or one of something else.
    """
    settings, tensors, inside = find_clip_text(path)
    if tokenizer is not None:
        words = load_tokenizer(tokenizer, settings.vocabulary)
    elif inside:
        words = tokenizer_from_tensors(inside, settings.vocabulary, path)
    else:
        try:
            words = load_tokenizer(path, settings.vocabulary)
        except FileNotFoundError:
            words = find_tokenizer(settings.vocabulary, path)
    claimed = on_meta(lambda: CLIPText(settings, words), settings, tensors, path)
    safetensors.matched(claimed.state_dict(), claimed.match_transformers(tensors), path)
    encoder = CLIPText(settings, words)  # with what transformers keeps beside its weights
    safetensors.load_weights(encoder, encoder.match_transformers(tensors), path)
    return encoder.eval()


def find_clip_text(path: Path) -> tuple[CLIPTextSettings, dict[str, Tensor], dict[str, Tensor]]:
    """The settings of a CLIP text encoder, its tensors under our names, and the tokenizer inside our file, else {}.

    Raises as `load_clip_text`.
    """
    if not safetensors.is_ours(path):
        return *_naming_file(path, identify_text, *read_part(path, "text_encoder")), {}
    found, details = safetensors.read(path, CLIP_TEXT)
    inside = {key: tensor for key, tensor in found.items() if key.startswith(TOKENIZER)}
    tensors = {key: tensor for key, tensor in found.items() if key not in inside}
    return _config(CLIPTextSettings, details, "config", path), tensors, inside


def clip_settings(path: Path, tensors: dict[str, Tensor], config: dict[str, Any]) -> CLIPTextSettings:
    """The settings of a CLIP text encoder, from what `read_part` has read of `path`. Raises FormatError."""
    return _naming_file(path, identify_text, tensors, config)[0]


def _naming_file(path: Path, read: Callable[..., Found], *arguments: Any) -> Found:
    """`read(*arguments)`, with FormatErrors that name the file."""
    try:
        return read(*arguments)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error


def _config(
    kind: type[Config],
    details: dict[str, Any],
    key: str,
    path: Path,
    update: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Config:
    """The configuration in a file's details; `update` adds what older files lack."""
    if not isinstance(given := details.get(key), dict):
        raise FormatError(f"the description in {path} is not whole: {key} is {given!r:.100}, expected a mapping")
    try:
        return from_dict(kind, update(given))
    except (KeyError, ValueError, TypeError) as error:
        raise FormatError(f"the description in {path} is not whole: {error}") from error
