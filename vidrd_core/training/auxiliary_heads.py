"""Heads that help a small UNet and its text encoder to learn what captions mean; a model does not ship them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vidrd_core.models.clip_text_encoder import CLIPText
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.word_text_encoder import TextEncoder
from vidrd_core.training.stage_config import StageConfig

HEADS = ("words", "places", "pictures")


class WordsHead(nn.Module):
    """Reads from a pooled caption which of its words were said: keeps words apart that stills do not tell apart."""

    def __init__(self, text: TextEncoder) -> None:
        super().__init__()
        self.words = len(text.config.words) + 2
        self.linear = nn.Linear(text.config.hidden_size, self.words)

    def forward(self, encoded: Tensor, tokens: Tensor) -> Tensor:
        """Loss of telling from encoded [B, L, D] which of the tokens [B, L] are there."""
        said = F.one_hot(tokens, self.words).amax(dim=1).float()
        return F.binary_cross_entropy_with_logits(self.linear(encoded.mean(dim=1)), said)


class PlacesHead(nn.Module):
    """Reads from the frame embedding where the caption's sprites are in a frame: stills alone teach that slowly."""

    scale: Tensor

    def __init__(self, unet: UNet3D) -> None:
        super().__init__()
        self.linear = nn.Linear(unet.config.frame_embedding, 10)
        # x, y, radius, cosine and sine of the angle vary about equally then.
        self.register_buffer("scale", torch.tensor([3.0, 3.0, 15.0, 1.5, 1.5] * 2), persistent=False)

    def forward(self, features: Tensor, truth: Tensor) -> Tensor:
        """Loss of telling from features [B, F, hidden] the places [B, F, 10] of `ShapesData.truth`."""
        return F.mse_loss(self.linear(features), self.scale * truth)


class PicturesHead(nn.Module):
    """Reads from the frame pictures what the latents of a frame are on average: the denoiser alone teaches shapes at
    an angle too slowly."""

    def __init__(self, unet: UNet3D) -> None:
        super().__init__()
        self.conv = nn.Conv2d(unet.config.frame_pictures, unet.config.in_channels, 1)

    def forward(self, unet: UNet3D, features: Tensor, clips: Tensor) -> Tensor:
        """Loss of telling from features [B, F, hidden] the latents [B, C, F, h, w]."""
        painted = self.conv(unet.frame_pictures.paint(features, *clips.shape[-2:]))
        return F.mse_loss(painted, rearrange(clips, "b c f h w -> (b f) c h w"))


class Conditioned(nn.Module):
    """What is trained together: UNet, text encoder, and the heads that help them, if those have a weight."""

    def __init__(self, unet: UNet3D, text_encoder: TextEncoder | CLIPText, stage: StageConfig) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder
        self.words = None
        if stage.words_weight and isinstance(text_encoder, TextEncoder):
            self.words = WordsHead(text_encoder)
        self.places = PlacesHead(unet) if stage.places_weight and unet.config.frame_embedding else None
        self.pictures = PicturesHead(unet) if stage.pictures_weight and unet.config.frame_pictures else None

    def heads(self) -> dict[str, Tensor]:
        """Weights of the heads, as in `state_dict`."""
        return {name: value for name, value in self.state_dict().items() if name.split(".")[0] in HEADS}
