"""The node State From Video."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.footage import METHODS, state_from_video
from .schema import CATEGORY, State, check_choices, clip_inputs, schema


class StateFromVideo(io.ComfyNode):
    """The state of existing footage, so that it can be extended."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        known = {each.id: each for each in clip_inputs()}
        return schema(
            node_id="VidRD_StateFromVideo",
            display_name="State From Video",
            category=f"{CATEGORY}/state",
            description="Makes a state from an existing video, or from a still, so that it can be extended: encodes "
            "its last frames and reconstructs their denoising trajectory.",
            search_aliases=["extend video", "image to video", "DDIM inversion", "vidrd"],
            inputs=[
                known["model"],
                io.Vae.Input("vae", tooltip="The VAE that encodes the frames; it must be the model's own."),
                io.Conditioning.Input(
                    "positive", tooltip="A prompt for what the footage shows, from CLIP Text Encode."
                ),
                io.Image.Input(
                    "images",
                    tooltip="Frames of a video, of which the last ones are used, or a single image as a still.",
                ),
                io.Int.Input(
                    "frames",
                    default=8,
                    min=2,
                    max=4096,
                    tooltip="Frames per clip (N), the same as in VidRD Empty Clip for the clips that follow.",
                ),
                known["seed"],
                known["steps"],
                known["sampler_name"],
                known["scheduler"],
                io.Combo.Input(
                    "method",
                    options=list(METHODS),
                    default="inversion",
                    tooltip="inversion: finds the footage's noise by DDIM inversion, three model calls per step. "
                    "noise: uses new noise, no model call. Both replay the footage exactly.",
                ),
            ],
            outputs=[
                State.Output(display_name="state", tooltip="The state for Reuse & Diffuse Extend."),
                io.Latent.Output(display_name="footage", tooltip="The latents of the frames that were used."),
            ],
        )

    @classmethod
    def validate_inputs(
        cls, sampler_name: str | None = None, scheduler: str | None = None, method: str | None = None
    ) -> bool | str:
        return check_choices(cls, sampler_name=sampler_name, scheduler=scheduler, method=method)

    @classmethod
    def execute(cls, model: Any, vae: Any, positive: Any, images: Any, **settings: Any) -> io.NodeOutput:
        return io.NodeOutput(*state_from_video(model, vae, positive, images, **settings))
