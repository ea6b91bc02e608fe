"""Auxiliary heads that help a small UNet and its text encoder learn what captions mean; not part of a saved model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vidrd_core.models.clip_text_encoder import CLIPText
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.word_text_encoder import TextEncoder
from vidrd_core.training.stage_config import UNetStageConfig

HEADS = ("words", "places", "pictures")


class WordsHead(nn.Module):
    """Predicts from an encoded caption which words it has, so that words that look alike in stills stay distinct.

    Args:
        text: The text encoder, for its vocabulary and width.
    """

    def __init__(self, text: TextEncoder) -> None:
        super().__init__()
        self.words = len(text.config.words) + 2
        self.linear = nn.Linear(text.config.hidden_size, self.words)

    def forward(self, encoded: Tensor, tokens: Tensor) -> Tensor:
        """Binary cross-entropy of the words, from encoded captions [B, L, D] and their tokens [B, L]."""
        present = F.one_hot(tokens, self.words).amax(dim=1).float()
        return F.binary_cross_entropy_with_logits(self.linear(encoded.mean(dim=1)), present)


class PlacesHead(nn.Module):
    """Predicts from the frame embedding where the caption's sprites are in a frame; stills teach that slowly.

    Args:
        unet: A UNet with `frame_embedding`.
    """

    scale: Tensor

    def __init__(self, unet: UNet3D) -> None:
        super().__init__()
        self.linear = nn.Linear(unet.config.frame_embedding, 10)
        # With these factors x, y, radius, cosine and sine of the angle vary about equally.
        self.register_buffer("scale", torch.tensor([3.0, 3.0, 15.0, 1.5, 1.5] * 2), persistent=False)

    def forward(self, features: Tensor, truth: Tensor) -> Tensor:
        """Mean squared error of the places [B, F, 10] of `ShapesData.truth`, from features [B, F, hidden]."""
        return F.mse_loss(self.linear(features), self.scale * truth)


class PicturesHead(nn.Module):
    """Predicts a frame's latents from the frame pictures; the denoiser alone teaches rotated shapes too slowly.

    Args:
        unet: A UNet with `frame_pictures`.
    """

    def __init__(self, unet: UNet3D) -> None:
        super().__init__()
        self.conv = nn.Conv2d(unet.config.frame_pictures, unet.config.in_channels, 1)

    def forward(self, unet: UNet3D, features: Tensor, clips: Tensor) -> Tensor:
        """Mean squared error of the latents [B, C, F, h, w], from features [B, F, hidden]."""
        painted = self.conv(unet.frame_pictures.paint(features, *clips.shape[-2:]))
        return F.mse_loss(painted, rearrange(clips, "b c f h w -> (b f) c h w"))


class UNetWithTextEncoder(nn.Module):
    """What a UNet stage trains together: UNet, text encoder, and the auxiliary heads that have a weight.

    Args:
        unet: The UNet.
        text_encoder: Its text encoder.
        stage: Which heads have a weight.
    """

    def __init__(self, unet: UNet3D, text_encoder: TextEncoder | CLIPText, stage: UNetStageConfig) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder
        self.words = None
        if stage.words_weight and isinstance(text_encoder, TextEncoder):
            self.words = WordsHead(text_encoder)
        self.places = PlacesHead(unet) if stage.places_weight and unet.config.frame_embedding else None
        self.pictures = PicturesHead(unet) if stage.pictures_weight and unet.config.frame_pictures else None

    def heads(self) -> dict[str, Tensor]:
        """Weights of the heads, by their names in `state_dict`."""
        return {name: value for name, value in self.state_dict().items() if name.split(".")[0] in HEADS}
