"""Our UNet3D as the host's MODEL."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar

import comfy.latent_formats
import comfy.model_base
import comfy.model_management as management
import comfy.model_patcher
import comfy.supported_models_base
import comfy.utils
import torch
from torch import Tensor

from vidrd_core.io import safetensors
from vidrd_core.io.digests import non_defaults, signature
from vidrd_core.loading import built_in_models
from vidrd_core.models.config import UNet3DConfig
from vidrd_core.models.inflate import with_temporal, without_temporal
from vidrd_core.models.latent_preview import Layers, load_preview
from vidrd_core.models.load_parts import read_unet
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.sampling import DiffusionConfig

from .lora import tell_names
from .ops import Ops, attention

FRAME_POSITIONS = "vidrd_numbers"  # in transformer_options: the position embedded for each frame, [F]
PREVIEW = "preview.json"  # latents to red, green, blue: linearly for the host's previews, better for our own
SCALE = 0.18215  # LATENT = model space / SCALE, as for Stable Diffusion
MODEL_TYPES = {"eps": "EPS", "v": "V_PREDICTION", "flow": "FLOW"}
BETA_SCHEDULES = {"scaled_linear": "linear", "linear": "sqrt_linear"}  # ours -> the host's, named as LDM has them


class VideoLatent(comfy.latent_formats.SD15):
    """Stable Diffusion's latents with a frame dimension: [B, 4, F, H/8, W/8]."""

    latent_dimensions = 3

    def __init__(self) -> None:
        super().__init__()
        self.taesd_decoder_name = None  # the host's preview by TAESD takes no frames
        self.look: Layers | None = None  # a better preview, of our own nodes


class HostUNet3D(UNet3D):
    """UNet3D under the host's calling convention."""

    def __init__(
        self,
        config: UNet3DConfig,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        operations: Any = None,
    ) -> None:
        super().__init__(config, Ops(operations, dtype, device), attention)
        self.dtype = dtype

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **_: Any,
    ) -> Tensor:
        """x [B, C, F, H, W], timesteps [B], context [B, L, D] -> like x."""
        if control is not None:
            raise ValueError("VidRD's UNet3D takes no ControlNet: leave Apply ControlNet out")
        positions = (transformer_options or {}).get(FRAME_POSITIONS)
        if positions is not None:
            # A context window has fewer frames than the clip: each window is a clip of its own.
            positions = positions.to(x.device) if len(positions) == x.shape[2] else None
        return super().forward(x, timesteps, context, positions)


class ModelConfig(comfy.supported_models_base.BASE):
    """What the host asks of a model family."""

    unet_config: ClassVar[dict[str, Any]] = {}
    unet_extra_config: ClassVar[dict[str, Any]] = {}
    latent_format = VideoLatent
    memory_usage_factor = 1.0  # measured: 0.86 to 0.92 for 8 and 16 frames of 256 x 256, in float32 at full size

    def __init__(self, config: UNet3DConfig, diffusion: DiffusionConfig) -> None:
        super().__init__({"config": config})
        self.diffusion = diffusion
        self.sampling_settings = {
            "beta_schedule": BETA_SCHEDULES[diffusion.schedule],
            "linear_start": diffusion.beta_start,
            "linear_end": diffusion.beta_end,
            "timesteps": diffusion.train_steps,
            "zsnr": diffusion.zero_terminal_snr,
        }


class HostModel(comfy.model_base.BaseModel):
    """BaseModel over HostUNet3D."""

    def __init__(self, config: ModelConfig, device: torch.device | None = None) -> None:
        kind = comfy.model_base.ModelType[MODEL_TYPES[config.diffusion.prediction]]
        super().__init__(config, kind, device=device, unet_model=HostUNet3D)

    def process_timestep(self, timestep: Tensor, **_: Any) -> Tensor:
        # Flow models of ours are trained on timesteps from 0 on, the host counts from 1.
        return timestep - 1 if self.model_config.diffusion.prediction == "flow" else timestep


def load_model(
    path: Path, dtype: torch.dtype | None = None, fast_fp8: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """A MODEL from a UNet3D file; `dtype` None is what the host finds best for this machine.

    Raises FileNotFoundError, FormatError.
    """
    patcher = _patcher(path, *read_unet(path), dtype, fast_fp8)
    patcher.cached_patcher_init = (load_model, (path, dtype, fast_fp8))  # how newer hosts copy it to another GPU
    return patcher


def inflate_model(
    path: Path, temporal: Path | None, dtype: torch.dtype | None = None, fast_fp8: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """The same, of the file's spatial layers and the layers over time of another one; with None, of no others.

    Raises FileNotFoundError, FormatError.
    """
    tensors, config, diffusion = read_unet(path)
    if temporal is None:
        tensors, config = without_temporal(tensors, config)
    else:
        tensors, config = with_temporal(tensors, config, temporal)
    patcher = _patcher(path, tensors, config, diffusion, dtype, fast_fp8)
    patcher.cached_patcher_init = (inflate_model, (path, temporal, dtype, fast_fp8))
    return patcher


def _patcher(
    path: Path,
    tensors: dict[str, Tensor],
    config: UNet3DConfig,
    diffusion: DiffusionConfig,
    dtype: torch.dtype | None,
    fast_fp8: bool,
) -> comfy.model_patcher.ModelPatcher:
    tell_names()
    family = ModelConfig(config, diffusion)
    supported = family.supported_inference_dtypes
    device, offload = management.get_torch_device(), management.unet_offload_device()
    if dtype is None:
        count = comfy.utils.calculate_parameters(tensors)
        dtype = management.unet_dtype(
            model_params=count, supported_dtypes=supported, weight_dtype=comfy.utils.weight_dtype(tensors)
        )
    family.set_inference_dtype(dtype, management.unet_manual_cast(dtype, device, supported))
    family.optimizations["fp8"] = fast_fp8
    model = HostModel(family, device=offload)
    _colour_preview(model.latent_format, path.with_name(PREVIEW))
    safetensors.load_weights(model.diffusion_model, tensors, path)
    unet = model.diffusion_model.eval()
    # Now, as the host changes weights in place where a LoRA is to act.
    model.signature = signature(unet, non_defaults(config) + non_defaults(diffusion))
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=offload)


def _colour_preview(latent_format: VideoLatent, path: Path) -> None:
    """Show clips in the making in the built-in model's own colours, not in Stable Diffusion's."""
    if path.parent == built_in_models()["tiny"]:
        known = json.loads(path.read_text(encoding="utf-8"))
        latent_format.latent_rgb_factors = known["latent_rgb_factors"]
        latent_format.latent_rgb_factors_bias = known["latent_rgb_factors_bias"]
        latent_format.look = load_preview(path)


def signature_of(model: Any) -> str:
    """Twelve hex digits that tell what a state's noise and record belong to: for ours as `vidrd_core` has them."""
    inner = model.model
    if isinstance(inner, HostModel):
        return inner.signature
    names = {name: tuple(tensor.shape) for name, tensor in inner.diffusion_model.state_dict().items()}
    form = model.get_model_object("latent_format")
    told = repr((type(inner).__name__, inner.model_type.name, type(form).__name__, sorted(names.items())))
    return hashlib.sha256(told.encode()).hexdigest()[:12]
