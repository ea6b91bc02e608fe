"""The node Pseudo-Video."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from comfy_api.latest import io
from torch import Tensor

from vidrd_core.data.pseudo_video import DIRECTIONS, EASINGS, LARGEST_PAN, LARGEST_ZOOM, CameraSettings, pseudo_video

from .schema import CATEGORY, MAX_SEED, SEED_CONTROL, check_choices, schema


class PseudoVideo(io.ComfyNode):
    """A pseudo-video: a clip made from a still by zoom and pan."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_PseudoVideo",
            display_name="Pseudo-Video",
            category=f"{CATEGORY}/data",
            description="Makes a clip from a still by a random zoom and pan. The view stays inside the still and "
            "moves with subpixel precision, so the motion is smooth.",
            search_aliases=["ken burns", "zoom", "pan", "camera", "image to video", "vidrd"],
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="A single still, preferably larger than the clip, so that zooming in stays sharp.",
                ),
                io.Int.Input("frames", default=8, min=1, max=4096, tooltip="Frames of the clip (N); 8 in the paper."),
                io.Int.Input(
                    "width",
                    default=0,
                    min=0,
                    max=16384,
                    step=8,
                    tooltip="The width in pixels. 0: that of the still, or by its aspect ratio if height is set.",
                ),
                io.Int.Input(
                    "height",
                    default=0,
                    min=0,
                    max=16384,
                    step=8,
                    tooltip="The height in pixels. 0: that of the still, or by its aspect ratio if width is set.",
                ),
                io.Float.Input(
                    "zoom",
                    default=1.3,
                    min=1.0,
                    max=float(LARGEST_ZOOM),
                    step=0.05,
                    round=0.001,
                    tooltip="The maximum magnification at the closer end; the minimum is its square root. 1 turns "
                    "zoom off.",
                ),
                io.Float.Input(
                    "pan",
                    default=0.15,
                    min=0.0,
                    max=float(LARGEST_PAN),
                    step=0.05,
                    round=0.001,
                    tooltip="The maximum movement, as a fraction of the view at its wider end; the minimum is half "
                    "of that. Larger values also magnify more, to have room. 0 turns pan off.",
                ),
                io.Combo.Input(
                    "direction",
                    options=list(DIRECTIONS),
                    default="random",
                    tooltip="The direction of the zoom. in: zooms in. out: zooms out. random: chosen by the seed.",
                ),
                io.Combo.Input(
                    "easing",
                    options=list(EASINGS),
                    default="linear",
                    tooltip="The speed of the motion. linear: constant. smooth: starts and ends slowly.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=MAX_SEED,
                    control_after_generate=SEED_CONTROL,
                    tooltip="The random seed of the zoom and pan. The same seed gives the same motion at any size.",
                ),
            ],
            outputs=[io.Image.Output(display_name="images", tooltip="The frames of the clip.")],
        )

    @classmethod
    def validate_inputs(cls, direction: str | None = None, easing: str | None = None) -> bool | str:
        return check_choices(cls, direction=direction, easing=easing)

    @classmethod
    def execute(
        cls,
        image: Tensor,
        frames: int,
        width: int,
        height: int,
        zoom: float,
        pan: float,
        direction: Any,
        easing: Any,
        seed: int,
    ) -> io.NodeOutput:
        if len(image) != 1:
            raise ValueError(
                f"image is a batch of {len(image)} stills, expected one: pick one with ImageFromBatch, or split the "
                "batch with Rebatch Images (batch_size 1) for a clip from each"
            )
        settings = CameraSettings(frames, width or None, height or None, zoom, pan, direction, easing)
        still = image[0].float().cpu().numpy()
        return io.NodeOutput(torch.from_numpy(pseudo_video(still, settings, np.random.default_rng(seed))))
