"""Rewrites a workflow of one clip into one of many clips, by the nodes of this pack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vidrd_core.comfy.chains import check_together, find_chains, prompt_encoder
from vidrd_core.comfy.definitions import AS_SET, MAX_PROMPT_FRAMES, PRESETS
from vidrd_core.comfy.graphs import Graph, NodeId
from vidrd_core.comfy.lengths import check_reuse
from vidrd_core.comfy.names import FileNames
from vidrd_core.comfy.rewriting import Extended, Rewriting
from vidrd_core.comfy.saving import plan_videos, remove_savers
from vidrd_core.comfy.shown import Shown
from vidrd_core.comfy.view import GETTERS, SETTERS, View, setter_of
from vidrd_core.comfy.workflow import Workflow

MAX_CLIPS = 100  # ComfyUI checks a chain of nodes by recursion, which Python limits


def extend_workflow(
    workflow: Workflow,
    clips: int,
    prompts: Sequence[str] = (),
    prompt_frames: int | None = None,
    order: str | None = None,
    preset: str | None = None,
) -> Extended:
    """Make a workflow's video long: its sampler, decoder and saver are replaced, all else stays.

    Args:
        workflow: The workflow; it is changed in place, unless it is refused.
        clips: The number of clips, 1 to `MAX_CLIPS`.
        prompts: A prompt for each clip, the last one for those that remain; none keeps the workflow's own.
        prompt_frames: M, the latents of a clip that replay the previous one; by default that of the preset, or, with
            an order, that of the nodes, 4.
        order: "mirror", "forward" or "auto"; by default that of the preset, or, with `prompt_frames`, that of the
            nodes, "auto".
        preset: One of the nodes' presets; by default "for this model", or, if M or the order is given, "as set here".

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
    if prompt_frames is not None and not 0 <= prompt_frames <= MAX_PROMPT_FRAMES:
        raise ValueError(
            f"{prompt_frames} prompt frames, expected 0 to {MAX_PROMPT_FRAMES}, and fewer than a clip has"
        )
    own = {name: each for name, each in (("prompt_frames", prompt_frames), ("order", order)) if each is not None}
    if preset is None:
        preset = AS_SET if own else "for this model"
    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}, expected one of {', '.join(PRESETS)}")
    if own and preset != AS_SET:
        raise ValueError(
            f"the preset {preset!r} sets the prompt frames and the order itself: leave these out, or take the preset "
            f"{AS_SET!r}"
        )
    reuse: dict[str, Any] = own if preset == AS_SET else {"preset": preset}
    view, result, shown, names = View(workflow), Extended(), Shown(workflow), FileNames(workflow)
    chains = find_chains(view)
    for chain in chains:
        check_together(view, chain)
        check_reuse(view, chain, reuse)
    encoders = {chain.sampler: prompt_encoder(view, chain) for chain in chains} if prompts else {}
    plans = plan_videos(view, chains, result.notes)
    used = [
        (graph, node)
        for graph in workflow.graphs
        for node in graph.ids()
        if graph.kind(node) not in workflow.subgraphs and _is_used(graph, node)
    ]
    done: set[tuple[int, NodeId]] = set()
    for chain in chains:
        at = (id(view.graph(chain.sampler)), chain.sampler[-1])
        if at not in done:  # a subgraph that is used twice is rewritten once
            done.add(at)
            result.samplers.append(view.label(chain.sampler))
            rewriting = Rewriting(view, chain, plans[chain.sampler], clips, reuse, result)
            rewriting.run(prompts, encoders.get(chain.sampler))
    if clips == 1 and preset == "loop on purpose":
        result.notes.append(f"one clip closes no loop, as the preset {preset!r} does: make two clips or more")
    for chain in chains:
        remove_savers(view, [saver for plan in plans[chain.sampler] for saver in plan.savers])
    _remove_unused(used)
    result.notes += shown.forget_removed() + names.keep_values()
    workflow.store(f"VidRD: {clips} clips")
    return result


def _is_used(graph: Graph, node: NodeId) -> bool:
    """Whether anything uses what a node gives, also by a getter."""
    getters = (each for each in graph.ids() if graph.kind(each) in GETTERS) if graph.kind(node) in SETTERS else ()
    return graph.used(node) or any(setter_of(graph, each) == node for each in getters)


def _remove_unused(used: list[tuple[Graph, NodeId]]) -> None:
    """Remove those of some nodes that run and that nothing uses any more."""
    while gone := [
        (graph, node)
        for graph, node in used
        if graph.has(node) and not graph.mode(node) and not _is_used(graph, node)
    ]:
        for graph, node in gone:
            graph.remove(node)
