"""A part of Long Video: a few of its clips.

ComfyUI's caches know a node by all nodes that it depends on. In one long chain of clips these keys take more memory
than the clips, as they grow with the square of their number. So the clips of a part are given the state and the video
of the part before as values, whose names are in the keys in place of all that made them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder

from vidrd_core.prompt_schedule import OVER_FRAMES
from vidrd_core.state import ClipState

from .host.memory import return_free_memory
from .host.named_values import NamedValue, name_of_state, name_of_video
from .host.progress import PART
from .host.video import GrowingVideo, check_before_sampling
from .schema import RAW_LINK, State, internal_schema

LINKED = ("model", "clip", "vae", "latent", "audio_vae", "model_low_noise")
"""Passed on as links to the nodes that the clips consist of, so that the cache identifies those by their source."""
CHECK = "VidRD_CheckVideo"
CLIPS = 8  # of a part


class LongVideoPart(io.ComfyNode):
    """Samples and writes some clips of a Long Video, which makes these nodes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return internal_schema(
            node_id=PART,
            display_name="VidRD Long Video (part)",
            description="Some clips of a VidRD Long Video, which makes these nodes by itself.",
            enable_expand=True,
            inputs=[
                io.String.Input("clips", tooltip="What each clip has of its own, as JSON."),
                io.String.Input("settings", tooltip="What the clips share, as JSON."),
                io.String.Input("file", tooltip="How the video is written, as JSON."),
                io.Boolean.Input("last", default=False, tooltip="Whether the video ends with these clips."),
                io.Model.Input("model", **RAW_LINK),
                io.Clip.Input("clip", **RAW_LINK),
                io.Vae.Input("vae", **RAW_LINK),
                io.Latent.Input("latent", **RAW_LINK),
                State.Input("state", optional=True),
                io.Video.Input("before", optional=True),
                io.Vae.Input("audio_vae", optional=True, **RAW_LINK),
                io.Model.Input("model_low_noise", optional=True, **RAW_LINK),
            ],
            outputs=[io.Video.Output(display_name="video"), State.Output(display_name="last state")],
        )

    @classmethod
    def execute(
        cls,
        clips: str,
        settings: str,
        file: str,
        last: bool,
        state: Any = None,
        before: Any = None,
        **links: Any,
    ) -> io.NodeOutput:
        if isinstance(state, ClipState):
            state = NamedValue(name_of_state(state), state)
        if isinstance(before, GrowingVideo):
            before = NamedValue(*name_of_video(before))
        return_free_memory()
        graph = GraphBuilder()
        of_clips, shared, of_file = (json.loads(text) for text in (clips, settings, file))
        video, state = add_clips(graph, of_clips, shared, of_file, last, links, state, before)
        return io.NodeOutput(video, state, expand=graph.finalize())


class CheckVideo(io.ComfyNode):
    """Refuses what could not be written before the first clip of a Long Video is sampled."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return internal_schema(
            node_id=CHECK,
            display_name="VidRD Long Video (check)",
            description="Checks what a VidRD Long Video is given. It makes these nodes by itself.",
            is_output_node=True,  # which ComfyUI runs first
            inputs=[
                io.Latent.Input("latent"),
                io.String.Input("format"),
                io.Vae.Input("audio_vae", optional=True),
                io.Video.Input("before", optional=True),
            ],
            outputs=[],
        )

    @classmethod
    def execute(cls, latent: Any, format: str, audio_vae: Any = None, before: Any = None) -> io.NodeOutput:
        check_before_sampling(latent, format, audio_vae, before)
        return io.NodeOutput()


def add_check(graph: GraphBuilder, file: Mapping[str, Any], links: Mapping[str, Any]) -> None:
    """Add the node that checks a Long Video to a graph; its arguments are as for `add_parts`."""
    check = graph.node(CHECK, "check_1", latent=links["latent"], format=file["format"])
    for name in ("audio_vae", "before"):
        check.set_input(name, links[name])


def add_parts(
    graph: GraphBuilder,
    clips: Sequence[dict[str, Any]],
    settings: dict[str, Any],
    file: dict[str, Any],
    links: Mapping[str, Any],
) -> tuple[Any, Any]:
    """Add the nodes of a Long Video to a graph: those of its clips or, if there are many, of its parts.

    Args:
        graph: The graph.
        clips: For each clip "number", from 1; "prompt", "seed", "cfg", "alpha", "loop"; and "fade", the prompt before
            and the share of the new one, or None.
        settings: The other inputs of Extend, and "negative_prompt".
        file: The inputs of Decode & Write Clip that say how the video is written.
        links: Of `LINKED`, "state" and "before", those that are connected.

    Returns:
        The links to the video and to the last state.
    """
    linked = {name: links.get(name) for name in LINKED}
    state, video = links.get("state"), links.get("before")
    if len(clips) <= CLIPS:
        return add_clips(graph, clips, settings, file, True, linked, state, video)
    for number, first in enumerate(range(0, len(clips), CLIPS), 1):
        own = clips[first : first + CLIPS]
        words = {name: json.dumps(value) for name, value in (("clips", own), ("settings", settings), ("file", file))}
        part = graph.node(PART, f"part_{number}", **words, last=first + CLIPS >= len(clips))
        for name, link in {**linked, "state": state, "before": video}.items():
            part.set_input(name, link)
        video, state = part.out(0), part.out(1)
    return video, state


def add_clips(
    graph: GraphBuilder,
    clips: Sequence[dict[str, Any]],
    settings: dict[str, Any],
    file: dict[str, Any],
    last: bool,
    links: Mapping[str, Any],
    state: Any,
    video: Any,
) -> tuple[Any, Any]:
    """Add the nodes of some clips to a graph.

    Args:
        graph: The graph.
        clips: As for `add_parts`.
        settings: As for `add_parts`.
        file: As for `add_parts`.
        last: Whether the video ends with these clips.
        links: Of `LINKED`, those that are connected.
        state: The previous clip's state: a link, a `NamedValue` or None.
        video: The video so far: a link, a `NamedValue` or None.

    Returns:
        The links to the video and to the last state.
    """
    shared = {name: value for name, value in settings.items() if name != "negative_prompt"}
    negative = graph.node("CLIPTextEncode", "negative", clip=links["clip"], text=settings["negative_prompt"])
    for clip in clips:
        k = clip["number"]
        positive = graph.node("CLIPTextEncode", f"prompt_{k}", clip=links["clip"], text=clip["prompt"])
        over_frames = {}
        if clip["fade"] is not None:
            before, share = clip["fade"]
            old = graph.node("CLIPTextEncode", f"before_{k}", clip=links["clip"], text=before)
            if share == OVER_FRAMES:
                over_frames = {"positive_before": old.out(0)}
            else:
                positive = graph.node(
                    "ConditioningAverage",
                    f"travel_{k}",
                    conditioning_to=positive.out(0),
                    conditioning_from=old.out(0),
                    conditioning_to_strength=share,
                )
        extend = graph.node(
            "VidRD_Extend",
            f"clip_{k}",
            model=links["model"],
            positive=positive.out(0),
            negative=negative.out(0),
            latent=links["latent"],
            **{name: clip[name] for name in ("seed", "cfg", "alpha", "loop")},
            **shared,
            **over_frames,
        )
        write = graph.node("VidRD_WriteClip", f"write_{k}", latent=extend.out(0), vae=links["vae"], **file)
        if last and clip is clips[-1]:
            # No input of the node: the host's cache tells the last clip, which is the run's result, from others.
            write.set_input("last", True)
        for node, name in ((write, "audio_vae"), (extend, "model_low_noise")):
            if links.get(name) is not None:
                node.set_input(name, links[name])
        extend.set_input("state", state)
        write.set_input("before", video)
        state, video = extend.out(2), write.out(0)
    return video, state
