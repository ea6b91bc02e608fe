"""Rewrites a workflow of one clip into one of many clips, by the nodes of this pack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vidrd_core.comfy.chains import RATES, Chain, Decoder, check_together, find_chains, prompt_encoder
from vidrd_core.comfy.graphs import Connected, NodeId, Source
from vidrd_core.comfy.rewriting import Extended, Rewriting, VideoPlan
from vidrd_core.comfy.shown import Shown
from vidrd_core.comfy.view import Key, View
from vidrd_core.comfy.workflow import Workflow

MAX_CLIPS = 100  # ComfyUI checks a chain of nodes by recursion, which Python limits
_FORMATS = {"SaveWEBM": "webm", "SaveAnimatedWEBP": "webp"}


def extend_workflow(
    workflow: Workflow,
    clips: int,
    prompts: Sequence[str] = (),
    prompt_frames: int | None = None,
    order: str | None = None,
) -> Extended:
    """Make a workflow's video long: its sampler, decoder and saver are replaced, all else stays.

    Args:
        workflow: The workflow; it is changed in place, unless it is refused.
        clips: The number of clips, 1 to `MAX_CLIPS`.
        prompts: A prompt for each clip, the last one for those that remain; none keeps the workflow's own.
        prompt_frames: M, the latents of a clip that replay the previous one; by default that of the nodes, 4.
        order: "mirror", "forward" or "auto"; by default that of the nodes, "auto".

    Returns:
        What was changed.

    Raises:
        WorkflowError: The workflow cannot be extended; the message names the node in the way.
        ValueError: A setting is out of range.
    """
    if not 1 <= clips <= MAX_CLIPS:
        raise ValueError(f"{clips} clips, expected 1 to {MAX_CLIPS}: save a state, and go on in another workflow")
    if len(prompts) > clips:
        raise ValueError(f"there are {len(prompts)} prompts for {clips} clips: raise --clips, or leave some out")
    reuse: dict[str, Any] = {}
    if prompt_frames is not None:
        reuse["prompt_frames"] = prompt_frames
    if order is not None:
        reuse["order"] = order
    view, result, shown = View(workflow), Extended(), Shown(workflow)
    chains = find_chains(view)
    for chain in chains:
        check_together(view, chain)
    encoders = {chain.sampler: prompt_encoder(view, chain) for chain in chains} if prompts else {}
    plans = {chain.sampler: [_plan(view, chain, decoder) for decoder in chain.decoders] for chain in chains}
    done: set[tuple[int, NodeId]] = set()
    for chain in chains:
        at = (id(view.graph(chain.sampler)), chain.sampler[-1])
        if at not in done:  # a subgraph that is used twice is rewritten once
            done.add(at)
            result.samplers.append(view.label(chain.sampler))
            rewriting = Rewriting(view, chain, plans[chain.sampler], clips, reuse, result)
            rewriting.run(prompts, encoders.get(chain.sampler))
    for chain in chains:
        _remove_savers(view, [saver for plan in plans[chain.sampler] for saver in plan.savers])
    shown.forget_removed()
    workflow.store(f"VidRD: {clips} clips")
    return result


def _plan(view: View, chain: Chain, decoder: Decoder) -> VideoPlan:
    """How the frames of a decoder are saved now."""
    for key, name in view.consumers(decoder.key):
        kind = view.kind(key)
        if name != "images" or kind not in RATES or key[:-1] != decoder.key[:-1]:
            continue
        sound = view.origin(key, "audio")
        if sound is not None and sound.key != chain.sound:
            continue  # sound that the model does not make stays with the node that joins it to the frames
        plan = VideoPlan(view.graph(key).given(key[-1], RATES[kind]), format=_FORMATS.get(kind, "mp4"), replaced=key)
        if kind == "CreateVideo":
            plan.savers = [to for to, _ in view.consumers(key) if view.kind(to) == "SaveVideo"]
            if any(view.value(to, "format") == "webm" for to in plan.savers):
                plan.format = "webm"
        elif kind == "VHSVideoPlanCombine":
            plan.format = _format_of(str(view.value(key, "format")))
        saver = plan.savers[0] if plan.savers else key
        prefix = view.graph(saver).given(saver[-1], "filename_prefix")
        if isinstance(prefix, Source | Connected) and saver[:-1] != decoder.key[:-1]:
            prefix = view.value(saver, "filename_prefix")
        plan.prefix = prefix or plan.prefix
        return plan
    rates = [key for key in view.ahead(decoder.key) if view.kind(key) in RATES]
    for key in rates:
        name = RATES[view.kind(key)]
        fps = view.graph(key).given(key[-1], name) if key[:-1] == decoder.key[:-1] else view.value(key, name)
        if fps is not None:
            return VideoPlan(fps)
    return VideoPlan(None)


def _format_of(name: str) -> str:
    """The format of Decode & Write Clip for one of VideoHelperSuite."""
    found = (ours for ours in ("webm", "gif", "webp") if ours in name.lower())
    return next(found, "mp4")


def _remove_savers(view: View, savers: list[Key]) -> None:
    """Remove the nodes that saved the video; ours has done so. What used their output gets the video."""
    for key in savers:
        graph, node = view.graph(key), key[-1]
        if node not in graph.ids():
            continue
        video = graph.source(node, "video")
        if video is not None:
            graph.redirect(Source(node, 0), video)
        graph.remove(node)
