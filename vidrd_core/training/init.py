"""The model that a recipe starts from: any that `vidrd generate` takes, an image model too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vidrd_core.loading import files_of, find
from vidrd_core.models import checkpoint
from vidrd_core.models.clip_text import CLIPText
from vidrd_core.models.config import DiffusionConfig, TextConfig, UNet3DConfig, VAEConfig
from vidrd_core.models.parts import (
    CLIP_TEXT,
    find_vae,
    load_clip_text,
    load_text_encoder,
    read_unet,
)
from vidrd_core.models.text import TextEncoder


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
    except (FileNotFoundError, checkpoint.FormatError) as error:
        raise ValueError(f"init: {error}") from error
    return InitConfigs(unet, vae, text if isinstance(text, TextConfig) else None, diffusion)


def load_init_text(path: Path) -> TextEncoder | CLIPText:
    """A text encoder of ours, or CLIP's. Raises FileNotFoundError, FormatError."""
    own = checkpoint.is_ours(path) and not checkpoint.holds(path, CLIP_TEXT)
    return load_text_encoder(path) if own else load_clip_text(path)
