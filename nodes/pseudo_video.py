"""Pseudo-Video."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from comfy_api.latest import io
from torch import Tensor

from vidrd_core.data.pseudo_video import DIRECTIONS, EASINGS, LARGEST_PAN, LARGEST_ZOOM, CameraSettings, pseudo_video

from .schema import CATEGORY, KEPT, LARGEST_SEED, check_choices, schema


class PseudoVideo(io.ComfyNode):
    """A still as a clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_PseudoVideo",
            display_name="Pseudo-Video",
            category=f"{CATEGORY}/data",
            description="Makes a clip of a still by a random zoom and pan over it. The view never leaves the still, "
            "and moves by fractions of a pixel, so nothing jumps.",
            search_aliases=["ken burns", "zoom", "pan", "camera", "image to video", "vidrd"],
            inputs=[
                io.Image.Input("image", tooltip="One still. Best larger than the clip, to stay sharp close up."),
                io.Int.Input("frames", default=8, min=1, max=4096, tooltip="Frames of the clip (N). The paper: 8."),
                io.Int.Input(
                    "width",
                    default=0,
                    min=0,
                    max=16384,
                    step=8,
                    tooltip="Pixels across. 0: as the still, or as its shape asks for at the height given.",
                ),
                io.Int.Input(
                    "height",
                    default=0,
                    min=0,
                    max=16384,
                    step=8,
                    tooltip="Pixels down. 0: as the still, or as its shape asks for at the width given.",
                ),
                io.Float.Input(
                    "zoom",
                    default=1.3,
                    min=1.0,
                    max=float(LARGEST_ZOOM),
                    step=0.05,
                    round=0.001,
                    tooltip="The most that the view is magnified at its closer end; the least is the square root of "
                    "that. 1 is none.",
                ),
                io.Float.Input(
                    "pan",
                    default=0.15,
                    min=0.0,
                    max=float(LARGEST_PAN),
                    step=0.05,
                    round=0.001,
                    tooltip="The most that the view moves, as a share of what its wider end shows; the least is half "
                    "of that. More needs a closer view to have room. 0 is none.",
                ),
                io.Combo.Input(
                    "direction",
                    options=list(DIRECTIONS),
                    default="random",
                    tooltip="in: the view comes closer. out: it draws back. random: the seed decides.",
                ),
                io.Combo.Input(
                    "easing",
                    options=list(EASINGS),
                    default="linear",
                    tooltip="linear: at one speed throughout. smooth: it starts and ends at rest.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=LARGEST_SEED,
                    control_after_generate=KEPT,
                    tooltip="Decides where the view goes and how far. The same seed is the same way at any size.",
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
                f"image holds {len(image)} stills, expected one: pick it with ImageFromBatch, or part them with "
                f"Rebatch Images (batch_size 1) for a clip of each"
            )
        settings = CameraSettings(frames, width or None, height or None, zoom, pan, direction, easing)
        still = image[0].float().cpu().numpy()
        return io.NodeOutput(torch.from_numpy(pseudo_video(still, settings, np.random.default_rng(seed))))
