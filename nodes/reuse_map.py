"""The node Reuse Map."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from vidrd_core.video.reuse_map import reuse_map

from .host.images import picture_to_image
from .schema import (
    CATEGORY,
    check_choices,
    more_reuse_inputs,
    parse_reuse_inputs,
    reuse_inputs,
    schema,
    staging_input,
)


class ReuseMap(io.ComfyNode):
    """Draws what a clip reuses of the previous one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_ReuseMap",
            display_name="Reuse Map",
            category=CATEGORY,
            description="Draws what a clip reuses under these settings: which frame's noise each frame starts from, "
            "how much of it is new, and for how many steps it replays the previous clip.",
            search_aliases=["vidrd", "explain settings"],
            is_output_node=True,
            inputs=[
                *reuse_inputs(),
                io.Int.Input("frames", default=8, min=2, max=64, tooltip="Frames per clip (N)."),
                io.Int.Input("steps", default=50, min=1, max=1000, tooltip="Denoising steps (T)."),
                *(each for each in more_reuse_inputs() if each.id != "drift"),
                staging_input(),
            ],
            outputs=[io.Image.Output(display_name="map")],
        )

    @classmethod
    def validate_inputs(
        cls,
        order: str | None = None,
        preset: str | None = None,
        noise_policy: str | None = None,
        release: str | None = None,
        loop: str | None = None,
        staging: str | None = None,
    ) -> bool | str:
        return check_choices(
            cls, order=order, preset=preset, noise_policy=noise_policy, release=release, loop=loop, staging=staging
        )

    @classmethod
    def execute(cls, frames: int, steps: int, **reuse: Any) -> io.NodeOutput:
        picture = reuse_map(parse_reuse_inputs(reuse)[0].resolve(frames), frames, steps)
        image = picture_to_image(picture)
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))
