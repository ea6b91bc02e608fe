"""The nodes VidRD Encode Prompts and VidRD Empty Clip."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.text import encode_prompt
from .host.vae import empty_clip
from .schema import CATEGORY, schema


class EncodePrompts(io.ComfyNode):
    """Encodes a prompt per line to a list of conditionings."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_EncodePrompts",
            display_name="VidRD Encode Prompts",
            category=CATEGORY,
            description="Encodes a list of prompts, one per line and clip. Nodes connected to the list run once for "
            "each prompt.",
            search_aliases=["clip text encode", "prompt list", "vidrd"],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder (CLIP) for the prompts."),
                io.String.Input(
                    "prompts",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    tooltip="One prompt per line; empty lines are ignored.",
                ),
                io.String.Input("negative_prompt", default="", tooltip="The negative prompt for all clips."),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="positive", is_output_list=True, tooltip="A list with one conditioning per prompt."
                ),
                io.Conditioning.Output(display_name="negative", tooltip="The negative conditioning for all clips."),
                io.String.Output(
                    display_name="texts",
                    is_output_list=True,
                    tooltip="The prompts as a list of texts, by which a loop detects which rounds have changed.",
                ),
            ],
        )

    @classmethod
    def execute(cls, clip: Any, prompts: str, negative_prompt: str) -> io.NodeOutput:
        lines = parse_prompts(prompts)
        return io.NodeOutput(
            [encode_prompt(clip, line) for line in lines], encode_prompt(clip, negative_prompt), lines
        )


def parse_prompts(text: str) -> list[str]:
    """The prompts of a text, one per line that is not blank. Raises ValueError if there is none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError("there is no prompt: write at least one line that describes a clip")
    return lines


class EmptyClip(io.ComfyNode):
    """An empty video latent."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_EmptyClip",
            display_name="VidRD Empty Clip",
            category=CATEGORY,
            description="Makes the empty latent of a clip. It has a frame dimension, unlike that of Empty Latent "
            "Image.",
            search_aliases=["empty latent video", "vidrd"],
            inputs=[
                io.Int.Input(
                    "width",
                    default=256,
                    min=8,
                    max=16384,
                    step=8,
                    tooltip="The width in pixels: 256 in the paper, 64 for the built-in tiny model.",
                ),
                io.Int.Input(
                    "height",
                    default=256,
                    min=8,
                    max=16384,
                    step=8,
                    tooltip="The height in pixels: 256 in the paper, 64 for the built-in tiny model.",
                ),
                io.Int.Input(
                    "frames",
                    default=8,
                    min=2,
                    max=4096,
                    tooltip="Frames per clip (N), preferably as many as the model was trained on; 8 in the paper.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="The VAE that decodes the clip; it sets how many pixels one latent covers. Not "
                    "connected: 8 x 8, as in Stable Diffusion. The built-in tiny model needs 4 x 4: connect its VAE.",
                ),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
        )

    @classmethod
    def execute(cls, width: int, height: int, frames: int, vae: Any = None) -> io.NodeOutput:
        return io.NodeOutput(empty_clip(width, height, frames, vae))
