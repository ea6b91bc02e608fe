"""Copies of nodes for clips that differ from the first one: in what they go on with, or in their prompts."""

from __future__ import annotations

from typing import Any

from vidrd_core.comfy.graphs import Graph, NodeId, Source, Target
from vidrd_core.comfy.page import height_of

GAP = 70  # pixels between added nodes, with room for a title

Replaced = dict[Source, Source]
"""Outputs, and what takes their place in a clip."""
_Reason = tuple[Any, ...]
_Known = dict[NodeId, frozenset[_Reason]]


class Copies:
    """The nodes that are added to a graph for each clip, in a column each.

    Args:
        graph: The graph.
        clips: The number of clips.

    Attributes:
        rows: Where the next node of each clip goes, in pixels from the first added node.
        only_in: Nodes of one clip alone: the clip, and what takes the place of each of their outputs in other clips,
            an output, or the name of the input that is passed on.
        without: Nodes of which later clips have a copy that lacks an input, with the input's name.
    """

    def __init__(self, graph: Graph, clips: int) -> None:
        self.graph = graph
        self.rows = [0.0] * clips
        self.only_in: dict[NodeId, tuple[int, list[str | Source]]] = {}
        self.without: dict[NodeId, str] = {}
        self._copies: dict[tuple[NodeId, frozenset[_Reason]], NodeId] = {}
        self._columns = 0  # of the nodes for all clips

    def add(self, kind: str, title: str, inputs: dict[str, Any], clip: int | None = None) -> NodeId:
        """Add a node: of a clip below its others, or, above them all, for all clips, from left to right.

        Args:
            kind: Its type, of `ADDED`.
            title: Its title.
            inputs: As in `Graph.add`.
            clip: The clip, from 0; None for all.

        Returns:
            Its id.
        """
        if clip is None:
            self._columns += 1
            return self.graph.add(kind, title, inputs, self._columns - 1, int(self.rows[0]))
        node = self.graph.add(kind, title, inputs, clip, int(self.rows[clip]))
        self.rows[clip] += height_of(kind) + GAP
        return node

    def begin_clips(self) -> None:
        """Begin a new row below the nodes for all clips."""
        if self._columns:
            self.rows = [self.rows[0] + 250.0 + GAP] * len(self.rows)
            self._columns = 0

    def of(self, source: Source | None, replaced: Replaced, clip: int) -> Source | None:
        """What a clip gets in place of an output.

        Args:
            source: The output; None for an open input.
            replaced: What is replaced in this clip.
            clip: The clip, from 0.

        Returns:
            The output, or that of a copy of its node that depends on what is replaced.
        """
        if source is None:
            return None
        if source in replaced:
            return replaced[source]
        if not self.graph.has(source.node):
            return source  # an input of the subgraph
        only, instead = self.only_in.get(source.node, (clip, []))
        if clip != only:
            other = instead[source.slot] if source.slot < len(instead) else source  # which hosts refuse
            return other if isinstance(other, Source) else self._passed(source.node, other, replaced, clip)
        reasons = self._reasons(source.node, replaced, clip, {})
        if not reasons:
            return source
        key = (source.node, reasons)
        if key not in self._copies:
            inputs = dict(self.graph.sources(source.node))
            changed = {name: self.of(each, replaced, clip) for name, each in inputs.items()}
            lacking = self.without.get(source.node) if clip else None
            copy = self._copies[key] = self.graph.duplicate(source.node, clip, int(self.rows[clip]))
            self.rows[clip] += self.graph.height(copy) + GAP
            for name, each in changed.items():
                if name == lacking or each != inputs[name]:
                    self.graph.connect(Target(copy, name), None if name == lacking else each)
        return Source(self._copies[key], source.slot)

    def _passed(self, node: NodeId, name: str, replaced: Replaced, clip: int) -> Source | None:
        """What a clip gets in place of an input of a node that it does without."""
        return self.of(self.graph.source(node, name), replaced, clip)

    def _reasons(self, node: NodeId, replaced: Replaced, clip: int, known: _Known) -> frozenset[_Reason]:
        """What is different for a clip in all that a node depends on; `known` holds what was found for others."""
        if node in known:
            return known[node]
        known[node] = frozenset()  # for damaged files, in which nodes depend on themselves
        found: set[_Reason] = set()
        if clip and node in self.without:
            found.add(("without", node))
        for _, source in self.graph.sources(node):
            if source in replaced:
                found.add((source, replaced[source]))
            elif self.graph.has(source.node):
                if clip != self.only_in.get(source.node, (clip,))[0]:
                    found.add(("not here", source.node))
                found |= self._reasons(source.node, replaced, clip, known)
        known[node] = frozenset(found)
        return known[node]
