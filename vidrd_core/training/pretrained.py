"""The model that a recipe starts from: any that `vidrd generate` takes, an image model too."""

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
class InitConfigs:
    """The settings of its parts; None where there is no model, or a part of another kind."""

    unet: UNet3DConfig | None = None
    vae: VAEConfig | None = None
    text: TextConfig | None = None
    diffusion: DiffusionConfig | None = None


def configs_of(init: Path) -> InitConfigs:
    """The settings of a model's parts. Raises ValueError if it cannot be read."""
    try:
        files = files_of(find(init))
        _, unet, diffusion = read_unet(files["unet"])
        _, vae = find_vae(files["vae"])
        text = load_init_text(files["text_encoder"]).config
    except (FileNotFoundError, safetensors.FormatError) as error:
        raise ValueError(f"init: {error}") from error
    return InitConfigs(unet, vae, text if isinstance(text, TextConfig) else None, diffusion)


def as_video(configs: InitConfigs, tasks: set[str], data: DataConfig) -> InitConfigs:
    """An image model's settings with the layers over time that its stages train, VidRD's unless the recipe says; and
    the clips that it is trained on as those that it makes."""
    unet, vae, diffusion = configs.unet, configs.vae, configs.diffusion
    if "clip" in tasks and unet is not None and not unet.temp_conv_depth and unet.temp_attention == "none":
        usual = UNet3DConfig()
        unet = replace(unet, temp_conv_depth=usual.temp_conv_depth, temp_attention=usual.temp_attention)
    if "vae_temporal" in tasks and vae is not None and not vae.temp_conv_depth and vae.decoder == "temp_conv":
        vae = replace(vae, temp_conv_depth=VAEConfig().temp_conv_depth)
    if diffusion is not None:
        diffusion = replace(diffusion, frames=data.frames, size=min(data.all_sizes()[0]))
    return InitConfigs(unet, vae, configs.text, diffusion)


def load_init_text(path: Path) -> TextEncoder | CLIPText:
    """A text encoder of ours, or CLIP's. Raises FileNotFoundError, FormatError."""
    own = safetensors.is_ours(path) and not safetensors.has_kind(path, CLIP_TEXT)
    return load_text_encoder(path) if own else load_clip_text(path)
