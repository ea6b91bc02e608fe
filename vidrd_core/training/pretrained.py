"""The model that a recipe starts from (`init`): any that `vidrd generate` takes, or an image model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from vidrd_core.io import safetensors
from vidrd_core.loading import files_of, find
from vidrd_core.models.clip_text_encoder import CLIPText
from vidrd_core.models.config import TextConfig, UNet3DConfig, VAEConfig
from vidrd_core.models.load_parts import (
    CLIP_TEXT,
    find_vae,
    load_clip_text,
    load_text_encoder,
    read_unet,
)
from vidrd_core.models.word_text_encoder import TextEncoder
from vidrd_core.sampling import DiffusionConfig
from vidrd_core.training.data import DataConfig


@dataclass(frozen=True)
class PretrainedConfigs:
    """The settings of a pretrained model's parts; None where there is no model, or a part of another kind.

    Args:
        unet: Of the UNet.
        vae: Of the VAE.
        text: Of a text encoder of this package; None for CLIP's.
        diffusion: Noise schedule, prediction type, and the shape of clips.
    """

    unet: UNet3DConfig | None = None
    vae: VAEConfig | None = None
    text: TextConfig | None = None
    diffusion: DiffusionConfig | None = None


def read_configs(init: Path) -> PretrainedConfigs:
    """The settings of a model's parts, from its files. Raises ValueError if it cannot be read."""
    try:
        files = files_of(find(init))
        _, unet, diffusion = read_unet(files["unet"])
        _, vae = find_vae(files["vae"])
        text = load_init_text(files["text_encoder"]).config
    except (FileNotFoundError, safetensors.FormatError) as error:
        raise ValueError(f"init: {error}") from error
    return PretrainedConfigs(unet, vae, text if isinstance(text, TextConfig) else None, diffusion)


def with_temporal_layers(configs: PretrainedConfigs, tasks: set[str], data: DataConfig) -> PretrainedConfigs:
    """Add the temporal layers that a recipe's stages train to an image model's settings: VidRD's.

    The recipe's own sections come after these.

    Args:
        configs: The model's settings.
        tasks: The tasks of the recipe's stages.
        data: The clips that it is trained on, which become those that it generates.

    Returns:
        The settings, with the number of frames and the size of the data's clips. A part that has temporal layers
        already, or whose temporal layers no stage trains, is unchanged.
    """
    unet, vae, diffusion = configs.unet, configs.vae, configs.diffusion
    if "clip" in tasks and unet is not None and not unet.temp_conv_depth and unet.temp_attention == "none":
        vidrd = UNet3DConfig()
        unet = replace(unet, temp_conv_depth=vidrd.temp_conv_depth, temp_attention=vidrd.temp_attention)
    if "vae_temporal" in tasks and vae is not None and not vae.temp_conv_depth and vae.decoder == "temp_conv":
        vae = replace(vae, temp_conv_depth=VAEConfig().temp_conv_depth)
    if diffusion is not None:
        diffusion = replace(diffusion, frames=data.frames, size=min(data.all_sizes()[0]))
    return PretrainedConfigs(unet, vae, configs.text, diffusion)


def load_init_text(path: Path) -> TextEncoder | CLIPText:
    """A text encoder of this package, or CLIP's, from a file. Raises FileNotFoundError, FormatError."""
    own = safetensors.is_ours(path) and not safetensors.has_kind(path, CLIP_TEXT)
    return load_text_encoder(path) if own else load_clip_text(path)
