"""The settings of a UNet3D, a temporal VAE and a text encoder."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from vidrd_core.io.configs import check_types


@dataclass(frozen=True)
class UNet3DConfig:
    """A Stable Diffusion UNet with temporal layers; the defaults are VidRD on Stable Diffusion 2.1.

    Args:
        in_channels: Channels of the latents.
        out_channels: Channels of the prediction.
        block_out_channels: Channels of each level, from the highest resolution on; multiples of `norm_groups`.
        attention_levels: Whether each level has transformers.
        heads: Attention heads of each level.
        layers_per_block: ResNets of a level on the way down; one more on the way up.
        cross_attention_dim: Width of the encoded prompts.
        norm_groups: Groups of the GroupNorms.
        linear_projection: Whether transformers project by linear layers (SD 2.x) or 1 x 1 convs (SD 1.x).
        temp_conv_depth: Convs of a Temp-Conv; 0 for a UNet without them.
        dropout: In Temp-Convs, while training.
        temp_attention: "inside" transformer blocks, as in VidRD, "after" them, as in ModelScope, or "none".
        embed_to: Whether Temp-Attn's frame embedding is added to the attention's "input" or to the residual "stream",
            as in the released VidRD.
        released_embedding: Whether that frame embedding is the released VidRD's: sine, cosine, sine, ... instead of
            all cosines and then all sines, and also added to an image, as frame 0; needs `embed_to` "stream".
        transformer_in: Whether a temporal transformer comes first, as in ModelScope.
        joint_resnet_norm: Whether GroupNorms of ResNets take statistics over the clip, as in the released VidRD.
        temporal_for_images: Whether the temporal layers run on a clip of one frame, too.
        position_features: Add `tiny_conditioning.position_features` to the first layer, for small models.
        text_pooling: Add the pooled caption to the timestep embedding, for small models.
        frame_embedding: Hidden width of `tiny_conditioning.FrameEmbedding`, for small models; 0 for none.
        frame_pictures: Channels of `tiny_conditioning.FramePictures`, which needs `frame_embedding`; 0 for none.

    Raises:
        ValueError: Settings that do not fit each other.

    Source:
        VidRD (Gu et al., arXiv 2309.03549), section 4.1.
    """

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention_levels: tuple[bool, ...] = (True, True, True, False)
    heads: tuple[int, ...] = (5, 10, 20, 20)
    layers_per_block: int = 2
    cross_attention_dim: int = 1024
    norm_groups: int = 32
    linear_projection: bool = True
    temp_conv_depth: int = 4
    dropout: float = 0.1
    temp_attention: Literal["inside", "after", "none"] = "inside"
    embed_to: Literal["input", "stream"] = "input"
    released_embedding: bool = False
    transformer_in: bool = False
    joint_resnet_norm: bool = False
    temporal_for_images: bool = False
    position_features: bool = False
    text_pooling: bool = False
    frame_embedding: int = 0
    frame_pictures: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        _check_widths(self.block_out_channels, self.norm_groups, self.layers_per_block)
        levels = len(self.block_out_channels)
        for name in ("attention_levels", "heads"):
            if len(getattr(self, name)) != levels:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries, block_out_channels has {levels}")
        for width, heads in zip(self.block_out_channels, self.heads, strict=True):
            _check_heads(width, heads)
        _check_depth(self.temp_conv_depth)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, expected 0 to less than 1")
        if self.released_embedding and self.embed_to != "stream":
            raise ValueError(f"released_embedding is on, but embed_to is {self.embed_to!r}, expected 'stream'")
        if self.frame_pictures and not self.frame_embedding:
            raise ValueError(f"frame_pictures is {self.frame_pictures}, but frame_embedding is 0: it needs one")


def with_released_embedding(settings: dict[str, Any]) -> dict[str, Any]:
    """A UNet's settings as one of our files holds them, with `released_embedding` where an older file lacks it.

    It then follows `embed_to`: only the released checkpoint has the embedding in the stream.
    """
    return {"released_embedding": settings.get("embed_to") == "stream", **settings}


CONTEXT = 4  # latents on either side of the frames that are due, in a window of a decoder whose norms span frames


@dataclass(frozen=True)
class VAEConfig:
    """Stable Diffusion's AutoencoderKL with VidRD's decoder, or SVD's; the defaults are VidRD's.

    Args:
        in_channels: Channels of a frame.
        latent_channels: Channels of the latents.
        block_out_channels: Channels of each level, from the highest resolution on; multiples of `norm_groups`.
        layers_per_block: ResNets of a level of the encoder; one more in the decoder.
        norm_groups: Groups of the GroupNorms.
        patch_size: Side of the squares of pixels that are folded into channels before the first conv.
        decoder: "temp_conv" with Temp-Conv after each ResNet of the up blocks, or "svd" with Stable Video Diffusion's
            spatio-temporal ResNets.
        temp_conv_depth: Convs of a Temp-Conv; 0 for an image VAE and for SVD's decoder.
        joint_temp_norm: Whether GroupNorms of Temp-Convs take their statistics over all frames, as in the released
            VidRD.
        quant_conv: Whether a 1 x 1 conv follows the encoder.
        post_quant_conv: Whether a 1 x 1 conv precedes the decoder; SVD's has none.
        latents_mean: Mean of the latents, one number or one for each channel.
        latents_std: Standard deviation of the latents, one number or one for each channel.

    Raises:
        ValueError: Settings that do not fit each other.

    Source:
        VidRD (Gu et al., arXiv 2309.03549), section 4.2.
    """

    in_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_groups: int = 32
    patch_size: int = 1
    decoder: Literal["temp_conv", "svd"] = "temp_conv"
    temp_conv_depth: int = 3
    joint_temp_norm: bool = False
    quant_conv: bool = True
    post_quant_conv: bool = True
    latents_mean: tuple[float, ...] = (0.0,)
    latents_std: tuple[float, ...] = (1 / 0.18215,)

    def __post_init__(self) -> None:
        check_types(self)
        _check_widths(self.block_out_channels, self.norm_groups, self.layers_per_block)
        if self.patch_size < 1:
            raise ValueError(f"patch_size is {self.patch_size}, expected 1 or more")
        for name in ("latents_mean", "latents_std"):
            if len(getattr(self, name)) not in (1, self.latent_channels):
                raise ValueError(f"{name} has {len(getattr(self, name))} entries: give 1 or {self.latent_channels}")
        if not all(map(math.isfinite, self.latents_mean)) or not all(0 < std < math.inf for std in self.latents_std):
            raise ValueError(
                f"latents_mean and latents_std are {list(self.latents_mean)} and {list(self.latents_std)}, expected "
                "finite numbers, and deviations above 0"
            )
        _check_depth(self.temp_conv_depth)
        if self.decoder == "svd" and self.temp_conv_depth:
            raise ValueError(f"temp_conv_depth is {self.temp_conv_depth}, expected 0: SVD's decoder has no Temp-Conv")

    @property
    def downsampling(self) -> int:
        """Pixels along the side of one latent."""
        return self.patch_size * 2 ** (len(self.block_out_channels) - 1)

    @property
    def streams_exactly(self) -> bool:
        """Whether a decoded frame depends on its halo alone: not where a norm spans frames."""
        return self.decoder == "temp_conv" and not (self.joint_temp_norm and self.temp_conv_depth)

    @property
    def halo(self) -> int:
        """Frames on either side that a decoded frame depends on; a window's context where norms span frames."""
        if not self.streams_exactly:
            return CONTEXT
        return self.temp_conv_depth * len(self.block_out_channels) * (self.layers_per_block + 1)


@dataclass(frozen=True)
class TextConfig:
    """A CLIP text encoder with a word-level vocabulary, for small models.

    Args:
        words: The vocabulary, in the order of its token ids; without, a recipe takes that of procedural clips.
        hidden_size: Width of the encoded prompts, a multiple of `heads`.
        layers: Transformer layers; with 0 the UNet reads the words' own embeddings, normalised.
        heads: Attention heads.
        max_length: Tokens of a prompt, with start and end.

    Raises:
        ValueError: Settings that do not fit each other.
    """

    words: tuple[str, ...] = ()
    hidden_size: int = 128
    layers: int = 2
    heads: int = 4
    max_length: int = 32

    def __post_init__(self) -> None:
        check_types(self)
        for name, least in (("layers", 0), ("max_length", 3)):
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


def _check_depth(depth: int) -> None:
    if depth < 0:
        raise ValueError(f"temp_conv_depth is {depth}, expected 0 or more")


def _check_heads(width: int, heads: int) -> None:
    if heads < 1 or width < 1 or width % heads:
        raise ValueError(f"heads is {heads}, expected a divisor of the width, {width}")
