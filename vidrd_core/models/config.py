"""The settings of a UNet3D, a temporal VAE and a text encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class UNet3DConfig:
    """A Stable Diffusion UNet with temporal layers; the defaults are VidRD on SD 2.1 (paper, section 4.1)."""

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention_levels: tuple[bool, ...] = (True, True, True, False)
    heads: tuple[int, ...] = (5, 10, 20, 20)
    layers_per_block: int = 2
    cross_attention_dim: int = 1024
    norm_groups: int = 32
    linear_projection: bool = True

    # what makes it a video model
    temp_conv_depth: int = 4
    dropout: float = 0.1
    temp_attention: Literal["inside", "after", "none"] = "inside"  # VidRD / ModelScope / a 2-D UNet
    embed_to: Literal["input", "stream"] = "input"
    transformer_in: bool = False
    joint_resnet_norm: bool = False  # GroupNorm of the ResNets over the clip, as in the released VidRD
    temporal_for_images: bool = False  # run the temporal layers on a clip of one frame, too

    # what small models need
    position_features: bool = False  # tell the first layer where in the frame it is (layers.position_features)
    text_pooling: bool = False  # add the pooled caption to the timestep embedding
    frame_embedding: int = 0  # hidden width of temporal.FrameEmbedding; 0 = none
    frame_pictures: int = 0  # channels of temporal.FramePictures, which needs frame_embedding; 0 = none

    def __post_init__(self) -> None:
        _check_widths(self.block_out_channels, self.norm_groups, self.layers_per_block)
        levels = len(self.block_out_channels)
        for name in ("attention_levels", "heads"):
            if len(getattr(self, name)) != levels:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries, block_out_channels has {levels}")
        for width, heads in zip(self.block_out_channels, self.heads, strict=True):
            _check_heads(width, heads)
        if self.frame_pictures and not self.frame_embedding:
            raise ValueError(f"frame_pictures is {self.frame_pictures}, but frame_embedding is 0: it needs one")


CONTEXT = 4  # frames on either side beside which a window is decoded, where norms span frames


@dataclass(frozen=True)
class VAEConfig:
    """Stable Diffusion's AutoencoderKL, with SVD's decoder or VidRD's.

    VidRD's has Temp-Conv after each ResNet of the up blocks.
    """

    in_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_groups: int = 32
    patch_size: int = 1  # pixels folded into channels before the first conv
    decoder: Literal["temp_conv", "svd"] = "temp_conv"  # svd: ResNets in space and time, and no Temp-Conv
    temp_conv_depth: int = 3  # 0 = an image VAE
    joint_temp_norm: bool = False  # GroupNorm of Temp-Conv over all frames, as in the released VidRD
    quant_conv: bool = True  # a 1 x 1 conv after the encoder
    post_quant_conv: bool = True  # and one before the decoder, which SVD's lacks
    latents_mean: tuple[float, ...] = (0.0,)
    latents_std: tuple[float, ...] = (1 / 0.18215,)

    def __post_init__(self) -> None:
        _check_widths(self.block_out_channels, self.norm_groups, self.layers_per_block)
        for name in ("latents_mean", "latents_std"):
            if len(getattr(self, name)) not in (1, self.latent_channels):
                raise ValueError(f"{name} has {len(getattr(self, name))} entries: give 1 or {self.latent_channels}")
        if self.decoder == "svd" and self.temp_conv_depth:
            raise ValueError(f"temp_conv_depth is {self.temp_conv_depth}, expected 0: SVD's decoder has no Temp-Conv")

    @property
    def downsampling(self) -> int:
        """Pixels per latent along each side."""
        return self.patch_size * 2 ** (len(self.block_out_channels) - 1)

    @property
    def streams_exactly(self) -> bool:
        """Whether a decoded frame depends on its halo alone. It does not where a norm spans frames."""
        return self.decoder == "temp_conv" and not (self.joint_temp_norm and self.temp_conv_depth)

    @property
    def halo(self) -> int:
        """Frames on either side that a decoded frame depends on; if not exactly, those that it is decoded beside."""
        if not self.streams_exactly:
            return CONTEXT
        return self.temp_conv_depth * len(self.block_out_channels) * (self.layers_per_block + 1)


@dataclass(frozen=True)
class TextConfig:
    """A CLIP text encoder over a vocabulary of whole words."""

    words: tuple[str, ...] = ()
    hidden_size: int = 128
    layers: int = 2
    heads: int = 4
    max_length: int = 32

    def __post_init__(self) -> None:
        for name, least in (("layers", 1), ("max_length", 3)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {least} or more")
        _check_heads(self.hidden_size, self.heads)


def _check_widths(widths: tuple[int, ...], groups: int, layers: int) -> None:
    if not widths or min(*widths, groups, layers) < 1:
        raise ValueError(
            f"block_out_channels, norm_groups and layers_per_block are {list(widths)}, {groups} and {layers}, "
            f"expected numbers of 1 or more"
        )
    if unfit := [width for width in widths if width % groups]:
        raise ValueError(f"block_out_channels has {unfit[0]}, expected a multiple of norm_groups, {groups}")


def _check_heads(width: int, heads: int) -> None:
    if heads < 1 or width < 1 or width % heads:
        raise ValueError(f"heads is {heads}, expected what divides the width, {width}")
