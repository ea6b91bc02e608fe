"""Load VidRD UNet3D, Temporal VAE, Text Encoder."""

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


def _file(folder: str, what: str) -> io.Combo.Input:
    return io.Combo.Input(
        "file",
        options=folders.choices(folder),
        default=folders.BUILT_IN,
        tooltip=f"The {what}: the one that comes with this pack, a file in models/{folder}, or that in a checkpoint.",
    )


class LoadUNet3D(io.ComfyNode):
    """A UNet3D file as MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_LoadUNet3D",
            display_name="Load VidRD UNet3D",
            category=f"{CATEGORY}/loaders",
            description="The part that denoises. A MODEL for KSampler, SamplerCustomAdvanced, LoraLoader and all "
            "other nodes that take one; its latents have a frame dimension.",
            search_aliases=["vidrd", "reuse and diffuse", "video model loader", "unet3d"],
            inputs=[
                _file("diffusion_models", "UNet3D"),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="default",
                    tooltip="How weights are kept: fp8 takes half the memory of fp16, for a little quality. "
                    "default: what suits this machine.",
                ),
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
        return folders.version_of(folders.path_of(file, "diffusion_models", "unet"))


class LoadTemporalVAE(io.ComfyNode):
    """A temporal VAE file as VAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_LoadTemporalVAE",
            display_name="Load VidRD Temporal VAE",
            category=f"{CATEGORY}/loaders",
            description="The part that turns latents into frames, with an eye on the frames around. A VAE for VAE "
            "Decode, VAE Decode (Tiled), VAE Encode and all other nodes that take one.",
            search_aliases=["vidrd", "video vae loader", "temporal decoder"],
            inputs=[_file("vae", "temporal VAE")],
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
        return folders.version_of(folders.path_of(file, "vae", "vae"))


class LoadTextEncoder(io.ComfyNode):
    """A text encoder file as CLIP."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_LoadTextEncoder",
            display_name="Load VidRD Text Encoder",
            category=f"{CATEGORY}/loaders",
            description="The part that reads prompts. A CLIP for CLIP Text Encode and all other nodes that take one. "
            "The built-in one knows 72 words: a shape (circle, square, triangle, star, cross, ring), its colour, "
            "how it moves, and on what background.",
            search_aliases=["vidrd", "clip loader", "text encoder"],
            inputs=[_file("text_encoders", "text encoder")],
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
        return folders.version_of(folders.path_of(file, "text_encoders", "text_encoder"))
