"""The nodes Load VidRD UNet3D, Load VidRD Temporal VAE and Load VidRD Text Encoder."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from .host import folders
from .host.model import load_model
from .host.text import load_clip
from .host.vae import load_vae
from .schema import CATEGORY, check_choices, schema

WEIGHT_DTYPES = {
    "default": (None, False),
    "fp8_e4m3fn": (torch.float8_e4m3fn, False),
    "fp8_e4m3fn_fast": (torch.float8_e4m3fn, True),
    "fp8_e5m2": (torch.float8_e5m2, False),
}


def file_input(folder: str, what: str) -> io.Combo.Input:
    """Make the input for a model file.

    Args:
        folder: The stock model folder, such as "vae".
        what: For the tooltip: which part of which models fits.

    Returns:
        A combo input with the id "file" and the built-in model as its default.
    """
    return io.Combo.Input(
        "file",
        options=folders.choices(folder),
        default=folders.BUILT_IN,
        tooltip=f"The built-in model, a file in models/{folder}, or the matching part of a checkpoint: {what}",
    )


def weight_dtype_input() -> io.Combo.Input:
    """The data type in which weights are stored."""
    return io.Combo.Input(
        "weight_dtype",
        options=list(WEIGHT_DTYPES),
        default="default",
        tooltip="The data type of the weights: fp8 halves the memory of fp16 at a small loss of quality. default: "
        "chosen for your hardware.",
    )


class LoadUNet3D(io.ComfyNode):
    """Loads a UNet3D as MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_LoadUNet3D",
            display_name="Load VidRD UNet3D",
            category=f"{CATEGORY}/loaders",
            description="Loads a UNet of a video model or of Stable Diffusion. The MODEL works with KSampler, "
            "SamplerCustomAdvanced, LoraLoader and other nodes; its latents have a frame dimension. An image model "
            "treats frames independently: see Inflate Checkpoint.",
            search_aliases=["vidrd", "reuse and diffuse", "video model loader", "unet3d", "modelscope", "zeroscope"],
            inputs=[
                file_input(
                    "diffusion_models",
                    "a UNet of this pack, Stable Diffusion 1 or 2, ModelScope, ZeroScope or the released VidRD. "
                    "The format is detected from the tensors, not from the file name.",
                ),
                weight_dtype_input(),
            ],
            outputs=[io.Model.Output(display_name="MODEL")],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None, weight_dtype: str | None = None) -> bool | str:
        return check_choices(cls, file=file, weight_dtype=weight_dtype)

    @classmethod
    def execute(cls, file: str, weight_dtype: str) -> io.NodeOutput:
        dtype, fast = WEIGHT_DTYPES[weight_dtype]
        return io.NodeOutput(load_model(folders.path_of(file, "diffusion_models", "unet"), dtype, fast))

    @classmethod
    def fingerprint_inputs(cls, file: str, **_: Any) -> Any:
        return folders.weights_version(folders.path_of(file, "diffusion_models", "unet"))


class LoadTemporalVAE(io.ComfyNode):
    """Loads a temporal VAE as VAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_LoadTemporalVAE",
            display_name="Load VidRD Temporal VAE",
            category=f"{CATEGORY}/loaders",
            description="Loads a VAE that decodes latents into frames: a temporal one, which also uses neighbouring "
            "frames, or an image VAE. The VAE works with VAE Decode, VAE Decode (Tiled), VAE Encode and other nodes.",
            search_aliases=["vidrd", "video vae loader", "temporal decoder", "svd vae"],
            inputs=[
                file_input(
                    "vae",
                    "a VAE of this pack, Stable Diffusion 1 or 2, Stable Video Diffusion or the released VidRD, "
                    "with the same latent space as the UNet.",
                )
            ],
            outputs=[io.Vae.Output(display_name="VAE")],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        return check_choices(cls, file=file)

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(load_vae(folders.path_of(file, "vae", "vae")))

    @classmethod
    def fingerprint_inputs(cls, file: str) -> Any:
        return folders.weights_version(folders.path_of(file, "vae", "vae"))


class LoadTextEncoder(io.ComfyNode):
    """Loads a text encoder as CLIP."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_LoadTextEncoder",
            display_name="Load VidRD Text Encoder",
            category=f"{CATEGORY}/loaders",
            description="Loads a text encoder of this pack, or the CLIP of Stable Diffusion. The CLIP works with "
            "CLIP Text Encode and other nodes. The built-in model knows 73 words: a shape (circle, square, triangle, "
            "star, cross, ring), its colour, its motion, and the background.",
            search_aliases=["vidrd", "clip loader", "text encoder"],
            inputs=[
                file_input(
                    "text_encoders",
                    "a text encoder of this pack, or the CLIP of Stable Diffusion 1 or 2. It must be the one that "
                    "the UNet was trained with.",
                )
            ],
            outputs=[io.Clip.Output(display_name="CLIP")],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        return check_choices(cls, file=file)

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(load_clip(folders.path_of(file, "text_encoders", "text_encoder")))

    @classmethod
    def fingerprint_inputs(cls, file: str) -> Any:
        return folders.weights_version(folders.path_of(file, "text_encoders", "text_encoder"))
