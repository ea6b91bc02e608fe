"""How a workflow saves its videos, and how the long ones are saved: by Decode & Write Clip in place of its nodes."""

from __future__ import annotations

from typing import Any

from vidrd_core.comfy.chains import RATES, Chain, Decoder
from vidrd_core.comfy.graphs import Connected, NodeId, Source
from vidrd_core.comfy.page import PageGraph
from vidrd_core.comfy.rewriting import PREFIX, WITH_SOUND, VideoPlan
from vidrd_core.comfy.view import Key, View, refusal

_FORMATS = {"SaveWEBM": "webm", "SaveAnimatedWEBP": "webp"}
_OF_VHS = ("mp4", "webm", "gif", "webp")  # those of Decode & Write Clip that names of VideoHelperSuite's hold
_SMALL = "256 x 256 pixels"
_CODEC = (("auto", "h264", "vp9"), "mp4 is written as H.264, webm as VP9")
_ENCODING = (
    ("auto", "h264", "av1"),
    "quality and colours are those of Decode & Write Clip",
)  # or a codec in its place
# Of nodes that give way: their settings, the values that are as what is made, and what that is.
_LOST: dict[str, dict[str, tuple[tuple[Any, ...], str]]] = {
    "VAEDecodeTiled": {"tile_size": ((), "a clip is decoded whole, or in ComfyUI's own tiles where memory is short")},
    "CreateVideo": {"bit_depth": ((8, "auto"), "8 bits are written")},
    "SaveVideo": {
        "format": (("auto", "mp4", "webm"), "mp4 is written"),
        **dict.fromkeys(("codec", "format.codec"), _CODEC),
        **dict.fromkeys(("encoding", "format.codec.encoding"), _ENCODING),
    },
    "SaveWEBM": {
        "codec": (("vp9",), "VP9 is written"),
        "crf": ((), f"up to {_SMALL} it is 12, and 20 above"),
    },
    "SaveAnimatedWEBP": {"lossless": ((False,), f"above {_SMALL} the quality is 95")},
    "VHS_VideoCombine": {
        "pingpong": ((False,), "the long video is written forwards alone"),
        "save_output": ((True,), "the long video goes to the output folder"),
    },
}


def plan_videos(view: View, chains: list[Chain], notes: list[str]) -> dict[Key, list[VideoPlan]]:
    """How the frames of all decoders are saved.

    Args:
        view: The workflow.
        chains: Its samplers of clips.
        notes: Gets what a user should know of it.

    Returns:
        For each chain's sampler, the plans of its decoders.

    Raises:
        WorkflowError: A node tells the frame rate in a form that cannot be taken over, or takes sound that no file
            will hold; the message names it.
    """
    plans = {chain.sampler: [_plan(view, chain, each, notes) for each in chain.decoders] for chain in chains}
    shared: dict[tuple[int, NodeId], list[VideoPlan]] = {}
    for chain in chains:
        _check_sound(view, chain, plans[chain.sampler])
        for decoder, plan in zip(chain.decoders, plans[chain.sampler], strict=True):
            shared.setdefault((id(view.graph(decoder.key)), decoder.key[-1]), []).append(plan)
    for each in shared.values():  # one node writes the videos of all nodes that use a subgraph
        if len({(str(plan.prefix), plan.format) for plan in each}) > 1:
            savers = [saver for plan in each for saver in plan.savers]
            notes += [_twice(view, savers, PREFIX)] if savers else []
            for plan in each:
                plan.prefix, plan.format, plan.savers = PREFIX, "mp4", []
    return plans


def _check_sound(view: View, chain: Chain, plans: list[VideoPlan]) -> None:
    """Raise WorkflowError if sound is used that no file of the long video will hold."""
    if chain.sound is None or any(plan.format in WITH_SOUND for plan in plans):
        return
    replaced = [plan.replaced for plan in plans if plan.replaced is not None]
    users = [key for key, _ in view.consumers(chain.sound) if key not in replaced]
    if users:
        shown = ", ".join(view.label(key) for key in replaced)
        why = f"it takes the sound, which {shown} does not save; save the video by SaveVideo, or take it out"
        raise refusal(view, "sound without a file that holds it", users[0], why)


def _twice(view: View, savers: list[Key], prefix: Any) -> str:
    """The line on nodes that go on to save a video which ours saves, too."""
    shown = ", ".join(view.label(key) for key in savers)
    return f"{shown}: saves the long video, too, which Decode & Write Clip writes as {prefix}"


def _plan(view: View, chain: Chain, decoder: Decoder, notes: list[str]) -> VideoPlan:
    """How the frames of a decoder are saved now."""
    notes += _lost(view, decoder.key)
    for key, name in view.consumers(decoder.key):
        kind = view.kind(key)
        if name != "images" or kind not in RATES or key[:-1] != decoder.key[:-1]:
            continue
        sound = view.origin(key, "audio")
        if sound is not None and sound.key != chain.sound:
            continue  # sound that the model does not make stays with the node that joins it to the frames
        plan = VideoPlan(_rate(view, key, notes), format=_FORMATS.get(kind, "mp4"), replaced=key)
        others: list[Key] = []
        if kind == "CreateVideo":
            others = [to for to, _ in view.consumers(key) if view.kind(to) == "SaveVideo"]
            plan.savers = [to for to in others if _prefix(view, to, key) is not None][:1]
            others = [to for to in others if to not in plan.savers]
            if any(view.value(to, "format") == "webm" for to in plan.savers):
                plan.format = "webm"
        elif kind == "VHS_VideoCombine":
            plan.format = _format_of_vhs(view, key, notes)
        for lossy in (key, *plan.savers):
            notes += _lost(view, lossy)
        saver = plan.savers[0] if plan.savers else key
        plan.prefix = _prefix(view, saver, key) or plan.prefix
        if others:
            prefix = plan.prefix.value if isinstance(plan.prefix, Connected) else plan.prefix
            notes.append(_twice(view, others, "the other one" if isinstance(prefix, Source) else prefix))
        return plan
    rates = [key for key in view.ahead(decoder.key) if view.kind(key) in RATES]
    for key in rates:
        name = RATES[view.kind(key)]
        fps = _rate(view, key, notes) if key[:-1] == decoder.key[:-1] else view.value(key, name)
        if fps is not None:
            return VideoPlan(fps)
    return VideoPlan(None)


def _lost(view: View, key: Key) -> list[str]:
    """Lines on the settings of a node that gives way which differ from what is made."""
    label, lines = view.label(key), []
    for name, (same, made) in _LOST.get(view.kind(key), {}).items():
        value = view.value(key, name)
        if value not in (None, *same) or (value is None and view.origin(key, name) is not None):
            lines.append(f"{name} of {label} is lost: {made}")
    return lines


def _prefix(view: View, saver: Key, maker: Key) -> Any:
    """The name under which a node saves, as a value or as a connection in the graph of `maker`; None if neither."""
    prefix = view.graph(saver).given(saver[-1], "filename_prefix")
    if isinstance(prefix, Source | Connected) and saver[:-1] != maker[:-1]:
        return view.value(saver, "filename_prefix")
    return prefix


def _rate(view: View, key: Key, notes: list[str]) -> Any:
    """The frame rate that a node is given, as a value or a connection. Raises WorkflowError for whole numbers."""
    name, kind = RATES[view.kind(key)], view.kind(key)
    given, origin = view.graph(key).given(key[-1], name), view.origin(key, name)
    if kind != "VHS_VideoCombine" or not isinstance(given, Source | Connected) or origin is None:
        return given
    known = view.value(key, name)  # this node takes whole numbers, too, which ours does not
    if isinstance(known, int):
        notes.append(f"the frame rate of {view.label(origin.key)} is set as a number, {known}: it is no FLOAT")
        return float(known)
    if view.type_of(origin) == "INT":
        raise refusal(
            view,
            "a frame rate of another type",
            origin.key,
            f"it gives {view.label(key)} the frame rate as INT, which Decode & Write Clip does not take; set a "
            "number there",
        )
    return given


def _format_of_vhs(view: View, key: Key, notes: list[str]) -> str:
    """The format of Decode & Write Clip for one of VideoHelperSuite; `notes` get what is lost."""
    label, name = view.label(key), str(view.value(key, "format") or "mp4")
    known = next((each for each in _OF_VHS if each in name.lower()), None)
    if known is None:
        notes.append(f"{label} saves {name}, which Decode & Write Clip does not: mp4 is written")
    users = ", ".join(dict.fromkeys(view.label(to) for to, _ in view.consumers(key)))
    if users:
        notes.append(f"{users}: disconnected, as Decode & Write Clip does not give the file names of {label}")
    return known or "mp4"


def remove_savers(view: View, savers: list[Key]) -> None:
    """Remove nodes that saved a video which ours saves now; what used their output gets the video.

    Args:
        view: The workflow, as it was.
        savers: The nodes.
    """
    for key in savers:
        graph, node = view.graph(key), key[-1]
        if node not in graph.ids():
            continue
        video = graph.source(node, "video")
        if video is not None:
            graph.redirect(Source(node, 0), video)
            if isinstance(graph, PageGraph):
                graph.instead[node] = video.node
        graph.remove(node)
