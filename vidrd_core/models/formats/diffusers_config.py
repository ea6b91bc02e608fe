"""The config.json with which diffusers' classes open a converted UNet or VAE, and the scheduler's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vidrd_core.models.config import UNet3DConfig, VAEConfig
from vidrd_core.sampling import DiffusionConfig

DIGITS = 12  # significant ones of a scaling factor, which comes from a division


def unet_config(config: UNet3DConfig, diffusion: DiffusionConfig) -> dict[str, Any]:
    """Make the config.json of diffusers' UNet2DConditionModel or UNet3DConditionModel.

    Args:
        config: The UNet's settings.
        diffusion: Its sample size is what the model was trained on.

    Returns:
        JSON-ready values by key; the class is the 2D one for a UNet without temporal layers.

    Raises:
        ValueError: diffusers has no such network.
    """
    own = [name for name in ("position_features", "text_pooling", "frame_embedding", "frame_pictures")
           if getattr(config, name)]  # fmt: skip
    is_flat = config.temp_attention == "none" and not (config.temp_conv_depth or config.transformer_in)
    is_3d = config.temp_attention == "after" and config.transformer_in and config.temp_conv_depth == 4
    is_3d = is_3d and config.temporal_for_images
    if own or not (is_flat or is_3d) or config.joint_resnet_norm:
        what = own[0] if own else "Temp-Conv and Temp-Attn as VidRD has them"
        raise ValueError(f"diffusers has no network with {what}: convert to vidrd instead, or to temporal")
    kind = "2D" if is_flat else "3D"
    levels = config.attention_levels
    values: dict[str, Any] = {
        "_class_name": f"UNet{kind}ConditionModel",
        "sample_size": diffusion.size // 8,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "block_out_channels": list(config.block_out_channels),
        "down_block_types": [f"CrossAttnDownBlock{kind}" if level else f"DownBlock{kind}" for level in levels],
        "up_block_types": [f"CrossAttnUpBlock{kind}" if level else f"UpBlock{kind}" for level in levels[::-1]],
        "layers_per_block": config.layers_per_block,
        "cross_attention_dim": config.cross_attention_dim,
        "norm_num_groups": config.norm_groups,
    }
    if is_flat:  # attention_head_dim is the number of heads there
        heads = config.heads[0] if len(set(config.heads)) == 1 else list(config.heads)
        return {**values, "attention_head_dim": heads, "use_linear_projection": config.linear_projection}
    wide = {width // heads for width, heads in zip(config.block_out_channels, config.heads, strict=True)}
    if len(wide) > 1 or not config.linear_projection:
        raise ValueError(f"diffusers' UNet3D has linear projections and heads of one width, not of {sorted(wide)}: "
                         f"convert to vidrd instead")  # fmt: skip
    return {**values, "attention_head_dim": wide.pop()}


def scheduler_config(diffusion: DiffusionConfig) -> dict[str, Any]:
    """The scheduler_config.json of diffusers' DDIM for the same denoising. Raises ValueError for flow models."""
    kinds = {"eps": "epsilon", "v": "v_prediction"}
    if diffusion.prediction not in kinds:
        raise ValueError("diffusers' DDIM has no flow prediction: convert to vidrd instead")
    even = "trailing" if diffusion.zero_terminal_snr else "leading"
    return {
        "_class_name": "DDIMScheduler",
        "beta_schedule": diffusion.schedule,
        "beta_start": diffusion.beta_start,
        "beta_end": diffusion.beta_end,
        "num_train_timesteps": diffusion.train_steps,
        "prediction_type": kinds[diffusion.prediction],
        "clip_sample": diffusion.clip_sample_range > 0,
        "clip_sample_range": diffusion.clip_sample_range or 1.0,
        "set_alpha_to_one": diffusion.set_alpha_to_one,
        "steps_offset": diffusion.steps_offset,
        "timestep_spacing": even if diffusion.timestep_spacing == "even" else diffusion.timestep_spacing,
        "trained_betas": list(diffusion.trained_betas) or None,
        "final_sigmas_type": diffusion.final_sigmas_type,
        "rescale_betas_zero_snr": diffusion.zero_terminal_snr,
    }


def vae_config(config: VAEConfig) -> dict[str, Any]:
    """The config.json of diffusers' AutoencoderKL or AutoencoderKLTemporalDecoder that computes the same.

    Raises ValueError if diffusers has no such network.
    """
    if config.temp_conv_depth or config.patch_size != 1:
        raise ValueError("diffusers has no VAE with VidRD's Temp-Conv or with patches: convert to vidrd instead")
    count = len(config.block_out_channels)
    values: dict[str, Any] = {
        "_class_name": "AutoencoderKL",
        "block_out_channels": list(config.block_out_channels),
        "down_block_types": ["DownEncoderBlock2D"] * count,
        "layers_per_block": config.layers_per_block,
        "latent_channels": config.latent_channels,
        "in_channels": config.in_channels,
        "out_channels": config.in_channels,
        **_statistics(config),
    }
    if config.decoder != "svd":
        quant = {"use_quant_conv": config.quant_conv, "use_post_quant_conv": config.post_quant_conv}
        values |= {"up_block_types": ["UpDecoderBlock2D"] * count, "norm_num_groups": config.norm_groups}
        return {**values, **quant}
    if config.norm_groups != 32 or config.post_quant_conv or any(config.latents_mean):
        raise ValueError(
            "diffusers' temporal decoder has norms of 32 groups, no conv before it and latents of mean 0: convert to "
            "vidrd instead"
        )
    return {**values, "_class_name": "AutoencoderKLTemporalDecoder"}


def with_quant_conv(tensors: dict[str, Tensor], config: VAEConfig) -> dict[str, Tensor]:
    """A VAE's tensors for diffusers, whose class for SVD's requires a quant_conv: an identity, if there is none."""
    if config.decoder != "svd" or config.quant_conv:
        return tensors
    like, channels = next(iter(tensors.values())), 2 * config.latent_channels
    weight = torch.eye(channels, dtype=like.dtype)[:, :, None, None]
    return {**tensors, "quant_conv.weight": weight, "quant_conv.bias": torch.zeros(channels, dtype=like.dtype)}


def _statistics(config: VAEConfig) -> dict[str, Any]:
    """Mean and standard deviation of the latents, as factor and shift or as one number for each channel."""
    mean, std = config.latents_mean, config.latents_std
    if len(mean) == len(std) == 1:
        factor = float(f"{1 / std[0]:.{DIGITS}g}")
        return {"scaling_factor": factor, **({"shift_factor": mean[0]} if mean[0] else {})}
    channels = config.latent_channels
    by_channel = [list(each) * (channels // len(each)) for each in (mean, std)]
    return {"scaling_factor": 1.0, "latents_mean": by_channel[0], "latents_std": by_channel[1]}
