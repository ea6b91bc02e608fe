"""VidRD's UNet3D as ComfyUI's MODEL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
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
from vidrd_core.models.load_parts import described, read_unet
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.sampling import DiffusionConfig, Schedule

from .lora import register_lora_keys
from .ops import HostOps, attention

FRAME_POSITIONS = "vidrd_numbers"  # in transformer_options: the position embedded for each frame, [F]
FEATURE_CACHES = "vidrd_feature_caches"  # in transformer_options: what the network keeps from call to call
HOOKS = "vidrd_hooks"  # in transformer_options, beside it: which hooks patch the weights, and how strongly
PREVIEW = "preview.json"  # latents to RGB: a linear map for ComfyUI's previews, layers for this pack's
UNET_PREFIX = "model.diffusion_model."  # of a UNet's tensors in a file that ComfyUI saves
SCALE = 0.18215  # LATENT = model space / SCALE, as for Stable Diffusion
MODEL_TYPES = {"eps": "EPS", "v": "V_PREDICTION", "flow": "FLOW"}
BETA_SCHEDULES = {
    "scaled_linear": "linear",
    "linear": "sqrt_linear",
}  # this package's -> ComfyUI's, as LDM named them


class VideoLatent(comfy.latent_formats.SD15):
    """Stable Diffusion's latent format with a frame dimension: [B, 4, N, H/8, W/8]."""

    latent_dimensions = 3

    def __init__(self) -> None:
        super().__init__()
        self.taesd_decoder_name = None  # ComfyUI's TAESD previewer takes images only
        self.preview_layers: Layers | None = None  # a better preview than RGB factors, for this pack's nodes


class HostUNet3D(UNet3D):
    """UNet3D with the constructor and the call that ComfyUI's BaseModel expects of a diffusion model.

    Args:
        config: The network's shape.
        dtype: The dtype of its weights; None is torch's default one.
        device: Where they are allocated; None is torch's default device.
        operations: One of ComfyUI's classes of layers, in `comfy.ops`.
    """

    def __init__(
        self,
        config: UNet3DConfig,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        operations: Any = None,
    ) -> None:
        super().__init__(config, HostOps(operations, dtype, device), attention)
        self.dtype = dtype
        self.in_channels = config.in_channels  # for RenormCFG

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        control: Any = None,
        frame_positions: Tensor | None = None,
        transformer_options: dict[str, Any] | None = None,
        **_: Any,
    ) -> Tensor:
        """Predict noise, v or velocity.

        Args:
            x: Noisy latents [B, C, N, h, w].
            timesteps: Timesteps [B].
            context: Text features [B, L, D].
            control: The output of a ControlNet; not supported.
            frame_positions: The position of each frame [N]; None numbers them from 0.
            transformer_options: ComfyUI's options, of which those that replace attention are refused, and
                `FeatureCaches`.

        Returns:
            The prediction, like x.

        Raises:
            ValueError: There is a ControlNet, or self-attention is to be replaced.
        """
        if control is not None:
            raise ValueError("VidRD's UNet3D does not support ControlNet: remove Apply ControlNet")
        options = transformer_options or {}
        if options.get("patches_replace", {}).get("attn1"):
            raise ValueError(
                "VidRD's UNet3D does not let its self-attention be replaced: remove SelfAttentionGuidance, "
                "PerturbedAttentionGuidance or the like"
            )
        if frame_positions is not None:
            # A context window has fewer frames than the clip: it is numbered like a clip of its own.
            frame_positions = frame_positions.to(x.device) if len(frame_positions) == x.shape[2] else None
        caches = options.get(FEATURE_CACHES)
        cache = caches.of_call(options, x.device) if caches else None
        return super().forward(x, timesteps, context, frame_positions, cache)


class NoImageUNetError(KeyError):
    """A node asks for a setting that only an image UNet has."""

    def __str__(self) -> str:
        return f"VidRD's UNet3D has no {self.args[0]!r}, which this node needs (FreeU or the like): remove the node"


class UNetConfig(dict[str, Any]):
    """What nodes read of a model's config."""

    def __missing__(self, name: str) -> Any:
        raise NoImageUNetError(name)


class ModelConfig(comfy.supported_models_base.BASE):
    """ComfyUI's description of a supported model.

    Args:
        config: The UNet's shape.
        diffusion: The noise schedule and what the network predicts.
    """

    unet_config: ClassVar[dict[str, Any]] = {}
    unet_extra_config: ClassVar[dict[str, Any]] = {}
    latent_format = VideoLatent
    memory_usage_factor = 1.0  # measured: 0.86 to 0.92 for 8 and 16 frames of 256 x 256, in float32 at full size

    def __init__(self, config: UNet3DConfig, diffusion: DiffusionConfig) -> None:
        super().__init__({"config": config})
        self.unet_config = UNetConfig(self.unet_config)  # type: ignore[misc]
        self.diffusion = diffusion
        self.sampling_settings = {
            "beta_schedule": BETA_SCHEDULES.get(diffusion.schedule, "linear"),
            "linear_start": diffusion.beta_start,
            "linear_end": diffusion.beta_end,
            "timesteps": diffusion.train_steps,
            "zsnr": diffusion.zero_terminal_snr,
        }


class HostModel(comfy.model_base.BaseModel):
    """ComfyUI's BaseModel with a `HostUNet3D`.

    States hold the name of this class, in "family": it must stay.
    """

    def __init__(self, config: ModelConfig, device: torch.device | None = None) -> None:
        kind = comfy.model_base.ModelType[MODEL_TYPES[config.diffusion.prediction]]
        super().__init__(config, kind, device=device, unet_model=HostUNet3D)
        if config.diffusion.trained_betas or config.diffusion.schedule not in BETA_SCHEDULES:
            self.model_sampling.set_sigmas(Schedule(config.diffusion).table)

    def _apply_model(
        self,
        x: Tensor,
        t: Tensor,
        c_concat: Any = None,
        c_crossattn: Any = None,
        control: Any = None,
        transformer_options: Any = None,
        **more: Any,
    ) -> Tensor:
        """Hand the positions of frames to the network as a tensor of its own.

        TorchCompileModel compiles it without a guard on transformer_options, and would keep what these once were.
        """
        options = transformer_options or {}
        if FEATURE_CACHES in options:
            if hasattr(self.diffusion_model, "_orig_mod"):
                raise ValueError(
                    "VidRD Feature Cache cannot reach into a compiled model: remove it, or TorchCompileModel"
                )
            hooks = getattr(self.current_patcher, "current_hooks", None)
            options = {
                **options,
                HOOKS: tuple((each.hook_ref, each.strength) for each in hooks.hooks) if hooks else (),
            }
        if (positions := options.get(FRAME_POSITIONS)) is not None:
            more["frame_positions"] = positions
        return super()._apply_model(x, t, c_concat, c_crossattn, control, options, **more)

    def state_dict_for_saving(self, *parts: Any, **named: Any) -> dict[str, Tensor]:
        """What ModelSave and CheckpointSave write, with the UNet's description, by which this pack loads it."""
        saved: dict[str, Tensor] = super().state_dict_for_saving(*parts, **named)
        _, details = described(self.diffusion_model, self.model_config.diffusion)
        return {**saved, f"{UNET_PREFIX}{safetensors.DESCRIPTION}": safetensors.description(details)}

    def process_timestep(self, timestep: Tensor, **_: Any) -> Tensor:
        """The timestep that the network was trained on: for VidRD's flow models from 0, where ComfyUI's is from 1."""
        return timestep - 1 if self.model_config.diffusion.prediction == "flow" else timestep


def load_again(load: Callable[..., Any], *given: Any, disable_dynamic: bool = False) -> Any:
    """Load a model anew, as newer hosts do for another GPU or a deep copy; its patcher is never a dynamic one."""
    return load(*given)


def load_model(
    path: Path, dtype: torch.dtype | None = None, fast_fp8: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """Load a MODEL from a UNet file.

    Args:
        path: A UNet or a checkpoint, in any format that `vidrd_core` reads.
        dtype: The dtype of the weights; None lets ComfyUI choose.
        fast_fp8: Whether to multiply in fp8 where the GPU can.

    Returns:
        A patcher, with the model's weights on ComfyUI's offload device.

    Raises:
        FileNotFoundError: There is no such file.
        FormatError: The file holds no UNet of a known format.
    """
    patcher = _patcher(path, *read_unet(path), dtype, fast_fp8)
    patcher.cached_patcher_init = (load_again, (load_model, path, dtype, fast_fp8))
    return patcher


def inflate_model(
    path: Path, temporal: Path | None, dtype: torch.dtype | None = None, fast_fp8: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """Load a MODEL with the spatial layers of one file and the temporal layers of another.

    Args:
        path: A UNet or a checkpoint with the spatial layers.
        temporal: A file with temporal layers; None for none, so that each frame is denoised alone.
        dtype: The dtype of the weights; None lets ComfyUI choose.
        fast_fp8: Whether to multiply in fp8 where the GPU can.

    Returns:
        A patcher, with the model's weights on ComfyUI's offload device.

    Raises:
        FileNotFoundError: There is no such file.
        FormatError: A file holds no such layers, or they do not fit together.
    """
    tensors, config, diffusion = read_unet(path)
    if temporal is None:
        tensors, config = without_temporal(tensors, config)
    else:
        tensors, config = with_temporal(tensors, config, temporal)
    patcher = _patcher(path, tensors, config, diffusion, dtype, fast_fp8)
    patcher.cached_patcher_init = (load_again, (inflate_model, path, temporal, dtype, fast_fp8))
    return patcher


def _patcher(
    path: Path,
    tensors: dict[str, Tensor],
    config: UNet3DConfig,
    diffusion: DiffusionConfig,
    dtype: torch.dtype | None,
    fast_fp8: bool,
) -> comfy.model_patcher.ModelPatcher:
    """A MODEL from a UNet's weights; `path` is the file that they came from."""
    register_lora_keys()
    model_config = ModelConfig(config, diffusion)
    supported = model_config.supported_inference_dtypes
    device, offload = management.get_torch_device(), management.unet_offload_device()
    if dtype is None:
        count = comfy.utils.calculate_parameters(tensors)
        dtype = management.unet_dtype(
            model_params=count, supported_dtypes=supported, weight_dtype=comfy.utils.weight_dtype(tensors)
        )
    model_config.set_inference_dtype(dtype, management.unet_manual_cast(dtype, device, supported))
    model_config.optimizations["fp8"] = fast_fp8
    model = HostModel(model_config, device=offload)
    _set_preview(model.latent_format, path.with_name(PREVIEW))
    safetensors.load_weights(model.diffusion_model, tensors, path)
    unet = model.diffusion_model.eval()
    # Computed here, as ComfyUI later changes weights in place to apply LoRAs.
    model.signature = signature(unet, non_defaults(config) + non_defaults(diffusion))
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=offload)


def _set_preview(latent_format: VideoLatent, path: Path) -> None:
    """Give the built-in model's latents a preview of their own, as their colours are not Stable Diffusion's."""
    if path.parent == built_in_models()["tiny"]:
        preview = json.loads(path.read_text(encoding="utf-8"))
        latent_format.latent_rgb_factors = preview["latent_rgb_factors"]
        latent_format.latent_rgb_factors_bias = preview["latent_rgb_factors_bias"]
        latent_format.preview_layers = load_preview(path)


def model_signature(model: Any) -> str:
    """Twelve hex digits that identify the model that a state belongs to.

    For a UNet3D of VidRD they are those of `vidrd_core`, from its weights; for a third-party model they come from the
    class, the prediction type, the latent format, and the names and shapes of the weights.
    """
    inner = model.model
    if isinstance(inner, HostModel):
        return inner.signature
    names = {name: tuple(tensor.shape) for name, tensor in inner.diffusion_model.state_dict().items()}
    latent_format = model.get_model_object("latent_format")
    parts = (type(inner).__name__, inner.model_type.name, type(latent_format).__name__, sorted(names.items()))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]
