"""VidRD Encode Prompts, and VidRD Empty Clip."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.text import encode_prompt
from .host.vae import empty_clip
from .schema import CATEGORY, schema


class EncodePrompts(io.ComfyNode):
    """One prompt a line, as conditioning."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_EncodePrompts",
            display_name="VidRD Encode Prompts",
            category=CATEGORY,
            description="Encodes one prompt a line, for one clip each. Nodes that take one conditioning run once for "
            "each in the list.",
            search_aliases=["clip text encode", "prompt list", "vidrd"],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder."),
                io.String.Input(
                    "prompts",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    tooltip="One prompt a line; empty lines do not count.",
                ),
                io.String.Input("negative_prompt", default="", tooltip="What no clip should show."),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", is_output_list=True, tooltip="One for each prompt."),
                io.Conditioning.Output(display_name="negative", tooltip="One for all clips."),
                io.String.Output(
                    display_name="texts",
                    is_output_list=True,
                    tooltip="The prompts themselves. Loops tell by them which rounds have changed.",
                ),
            ],
        )

    @classmethod
    def execute(cls, clip: Any, prompts: str, negative_prompt: str) -> io.NodeOutput:
        lines = lines_of(prompts)
        return io.NodeOutput(
            [encode_prompt(clip, line) for line in lines], encode_prompt(clip, negative_prompt), lines
        )


def lines_of(prompts: str) -> list[str]:
    """The prompts in a text. Raises ValueError if there is none."""
    lines = [line.strip() for line in prompts.splitlines() if line.strip()]
    if not lines:
        raise ValueError("there is no prompt: write at least one line that says what a clip shows")
    return lines


class EmptyClip(io.ComfyNode):
    """An empty latent of a clip's size."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_EmptyClip",
            display_name="VidRD Empty Clip",
            category=CATEGORY,
            description="An empty clip to sample into. Its latents have a frame dimension, which Empty Latent Image "
            "lacks.",
            search_aliases=["empty latent video", "vidrd"],
            inputs=[
                io.Int.Input(
                    "width",
                    default=256,
                    min=8,
                    max=16384,
                    step=8,
                    tooltip="Pixels across. The paper: 256; the built-in tiny model: 64.",
                ),
                io.Int.Input(
                    "height",
                    default=256,
                    min=8,
                    max=16384,
                    step=8,
                    tooltip="Pixels down. The paper: 256; the built-in tiny model: 64.",
                ),
                io.Int.Input(
                    "frames",
                    default=8,
                    min=2,
                    max=4096,
                    tooltip="Frames of a clip (N), best as many as the model was trained on. The paper: 8.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="The VAE that will decode the clip. Without one a latent stands for 8 x 8 pixels, as "
                    "with Stable Diffusion; the built-in tiny model's stands for 4 x 4, so wire its VAE.",
                ),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
        )

    @classmethod
    def execute(cls, width: int, height: int, frames: int, vae: Any = None) -> io.NodeOutput:
        return io.NodeOutput(empty_clip(width, height, frames, vae))
