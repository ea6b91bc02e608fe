"""State From Video."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.footage import METHODS, state_from_video
from .schema import CATEGORY, State, check_choices, clip_inputs, schema


class StateFromVideo(io.ComfyNode):
    """What real footage leaves for a next clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        known = {each.id: each for each in clip_inputs()}
        return schema(
            node_id="VidRD_StateFromVideo",
            display_name="State From Video",
            category=f"{CATEGORY}/state",
            description="Lets a video that was not made here go on: encodes its last frames, or a still, finds out "
            "how they might have been denoised, and gives a state to extend.",
            search_aliases=["extend video", "image to video", "DDIM inversion", "vidrd"],
            inputs=[
                known["model"],
                io.Vae.Input("vae", tooltip="Encodes the frames: the one of this model."),
                io.Conditioning.Input("positive", tooltip="What the footage shows, from CLIP Text Encode."),
                io.Image.Input(
                    "images",
                    tooltip="Frames of a video, the last of which are taken, or one picture, which stands still.",
                ),
                io.Int.Input(
                    "frames",
                    default=8,
                    min=2,
                    max=4096,
                    tooltip="Frames of a clip (N), as in VidRD Empty Clip: the clips that follow have as many.",
                ),
                known["seed"],
                known["steps"],
                known["sampler_name"],
                known["scheduler"],
                io.Combo.Input(
                    "method",
                    options=list(METHODS),
                    default="inversion",
                    tooltip="inversion: DDIM run backwards, three model calls a step; the noise is of the footage. "
                    "noise: no model call; the footage is led exactly, and the noise is new.",
                ),
            ],
            outputs=[
                State.Output(display_name="state", tooltip="For Reuse & Diffuse Extend."),
                io.Latent.Output(display_name="footage", tooltip="The latents of the frames that were taken."),
            ],
        )

    @classmethod
    def validate_inputs(
        cls, sampler_name: str | None = None, scheduler: str | None = None, method: str | None = None
    ) -> bool | str:
        return check_choices(cls, sampler_name=sampler_name, scheduler=scheduler, method=method)

    @classmethod
    def execute(cls, model: Any, vae: Any, positive: Any, images: Any, **given: Any) -> io.NodeOutput:
        return io.NodeOutput(*state_from_video(model, vae, positive, images, **given))
