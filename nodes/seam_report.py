"""The node Seam Report."""

from __future__ import annotations

import math
from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from vidrd_core.metrics import METRICS, ClipBoundaries
from vidrd_core.reports.seam_figure import draw_seam_figure
from vidrd_core.reports.seam_report import seam_report
from vidrd_core.state import ClipState

from .host.images import image_to_frames, picture_to_image
from .schema import CATEGORY, schema, state_input


class SeamReport(io.ComfyNode):
    """Measures the seams between the clips of a video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_SeamReport",
            display_name="Seam Report",
            category=CATEGORY,
            description="Measures the seams between the clips of a video: duplicate frames, jumps, motion that "
            "reverses, and repetition from clip to clip. Needs no other model. With the state of a model of the "
            "drawn world, also whether its thing stays the same, and how far it is from where its motion puts it.",
            search_aliases=["vidrd", "measure", "quality", "metrics", "loop", "seam"],
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="All frames of the video."),
                io.Int.Input(
                    "clip_frames",
                    default=8,
                    min=0,
                    max=4096,
                    tooltip="Frames per clip (N). 0: the video has no seams.",
                ),
                io.Int.Input(
                    "repeated_frames",
                    default=0,
                    min=0,
                    max=4096,
                    tooltip="The frames of each later clip that repeat the previous one and are not shown again: M "
                    "in forward order, 0 in mirror order.",
                ),
                io.Int.Input(
                    "prompt_frames",
                    default=4,
                    min=0,
                    max=4096,
                    tooltip="M. Frame changes up to M frames after a seam are also checked for jumps.",
                ),
                state_input(
                    "The state of the last clip, which replaces the three numbers above. Not connected: they are "
                    "used."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="report", tooltip="The image that the node shows."),
                io.String.Output(display_name="text", tooltip="The results as text, one line per seam."),
                io.Float.Output(
                    display_name=METRICS["seam_ratio"].label,
                    tooltip="The frame change across the worst seam divided by the typical change: 1 is perfect, "
                    "near 0 is a duplicate frame, larger is a jump.",
                ),
                io.Float.Output(
                    display_name=METRICS["worst_step"].label,
                    tooltip="The largest frame change at or shortly after a seam, divided by the typical change.",
                ),
                io.Float.Output(
                    display_name=METRICS["loopiness"].label,
                    tooltip="How much the video repeats after one or two clips; 0 is not at all.",
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
            clip_frames, repeated_frames, prompt_frames = chain_of(state, len(video))
        boundaries = ClipBoundaries()
        if clip_frames:
            prompt_frames = min(prompt_frames, clip_frames - 1)
            boundaries = ClipBoundaries.regular(len(video), clip_frames, repeated_frames, prompt_frames)
        report = seam_report(video, boundaries, caption=prompt_of(state))
        picture = picture_to_image(draw_seam_figure(video, report))
        numbers = (_or(report.seam_ratio, 1.0), _or(report.worst_step, 1.0), _or(report.loopiness, 0.0))
        return io.NodeOutput(picture, "\n".join(report.lines()), *numbers, ui=ui.PreviewImage(picture, cls=cls))


def chain_of(state: ClipState, length: int) -> tuple[int, int, int]:
    """How a video is divided into clips, from its last clip's state.

    Args:
        state: The state of the last clip.
        length: Frames of the video.

    Returns:
        Frames per clip (N), frames of each later clip that repeat the previous one, and prompt frames (M).

    Raises:
        ValueError: If the video is not all clips up to the state's.
    """
    reuse: dict[str, Any] = state.made_with.get("reuse", {})
    expected = state.frames + state.index * (state.frames - state.repeated) - state.closed
    if length != expected:
        raise ValueError(
            f"images has {length} frames, expected {expected}: the state is that of clip {state.index + 1}, with "
            f"{state.frames} frames per clip. Connect the whole video from the first clip on, or disconnect state "
            "and set clip_frames"
        )
    return state.frames, state.repeated, int(reuse.get("prompt_frames", 0))


def prompt_of(state: ClipState | None) -> str:
    """The prompt that a state records; "" if it does not."""
    prompt = state.made_with.get("prompt") if state is not None else None
    return prompt if isinstance(prompt, str) else ""


def _or(value: float, default: float) -> float:
    """The value, or the default for NaN: nothing was measured."""
    return default if math.isnan(value) else float(value)
