"""Seam Report."""

from __future__ import annotations

import math
from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from vidrd_core.metrics.video_metrics import Joints
from vidrd_core.reports.seam_figure import seam_picture
from vidrd_core.reports.seam_report import seam_report
from vidrd_core.state import ClipState

from .host.images import image_to_frames, picture_to_image
from .schema import CATEGORY, schema, state_input


class SeamReport(io.ComfyNode):
    """How a video's clips meet, as a picture and numbers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_SeamReport",
            display_name="Seam Report",
            category=CATEGORY,
            description="Measures how the clips of a video meet: doubled frames and jumps at the seams, motion that "
            "turns back, and whether the video comes round. Needs no other model.",
            search_aliases=["vidrd", "measure", "quality", "metrics", "loop", "seam"],
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="All frames of the video."),
                io.Int.Input(
                    "clip_frames", default=8, min=0, max=4096, tooltip="Frames of a clip (N). 0: there are no seams."
                ),
                io.Int.Input(
                    "repeated_frames",
                    default=0,
                    min=0,
                    max=4096,
                    tooltip="How many frames of a later clip were shown already and so are left out: M in forward "
                    "order, 0 in mirror order.",
                ),
                io.Int.Input(
                    "prompt_frames",
                    default=4,
                    min=0,
                    max=4096,
                    tooltip="M. A jump is looked for in so many steps after a seam, too.",
                ),
                state_input("What the last clip left: it tells the three numbers above. Nothing wired: they count."),
            ],
            outputs=[
                io.Image.Output(display_name="report", tooltip="The picture that the node shows."),
                io.String.Output(display_name="text", tooltip="The same in words, a line for each seam."),
                io.Float.Output(
                    display_name="seam ratio",
                    tooltip="The step across the worst seam over the usual step: 1 is perfect, near 0 a doubled "
                    "frame, more a jump.",
                ),
                io.Float.Output(
                    display_name="worst step", tooltip="The largest step from a seam on, over the usual step."
                ),
                io.Float.Output(
                    display_name="loopiness", tooltip="How much the video comes round after one or two clips; 0: not."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        images: Tensor,
        clip_frames: int,
        repeated_frames: int,
        prompt_frames: int,
        state: ClipState | None = None,
    ) -> io.NodeOutput:
        video = image_to_frames(images)
        if state is not None:
            clip_frames, repeated_frames, prompt_frames = told_by(state, len(video))
        joints = Joints()
        if clip_frames:
            joints = Joints.regular(len(video), clip_frames, repeated_frames, min(prompt_frames, clip_frames - 1))
        report = seam_report(video, joints)
        picture = picture_to_image(seam_picture(video, report))
        numbers = (_or(report.seam_ratio, 1.0), _or(report.worst_step, 1.0), _or(report.loopiness, 0.0))
        return io.NodeOutput(picture, "\n".join(report.lines()), *numbers, ui=ui.PreviewImage(picture, cls=cls))


def told_by(state: ClipState, length: int) -> tuple[int, int, int]:
    """N, how many frames of later clips repeat, and M, by the last clip's state.

    Raises ValueError if a video of `length` frames is not all clips up to it.
    """
    reuse: dict[str, Any] = state.made_with.get("reuse", {})
    expected = state.frames + state.index * (state.frames - state.repeated) - state.closed
    if length != expected:
        raise ValueError(
            f"images are {length} frames, and the state is of clip {state.index + 1} of {state.frames} frames each, "
            f"{expected} in all: wire the whole video, from the first clip on, or set clip_frames and no state"
        )
    return state.frames, state.repeated, int(reuse.get("prompt_frames", 0))


def _or(value: float, otherwise: float) -> float:
    return otherwise if math.isnan(value) else float(value)
