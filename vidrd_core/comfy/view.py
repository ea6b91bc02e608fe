"""What a workflow runs: its nodes and connections through subgraphs, reroutes and bypassed nodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from vidrd_core.comfy.graphs import BYPASS, INPUTS, NEVER, Graph, NodeId, Source, WorkflowError
from vidrd_core.comfy.page import PageGraph
from vidrd_core.comfy.workflow import Workflow

REROUTES = ("Reroute", "Reroute (rgthree)")
SETTERS = {"SetNode": "GetNode", "easy setNode": "easy getNode"}  # of KJNodes and Easy-Use: links without a line
GETTERS = {getter: setter for setter, getter in SETTERS.items()}
PAGES_OWN = ("MarkdownNote", "Note", "PrimitiveNode", *REROUTES, *SETTERS, *GETTERS)  # which pages never send

_OPEN = "is not connected; connect it"

Key = tuple[NodeId, ...]
"""A node that runs: the ids of the nodes of subgraphs around it, from the outside in, and its own."""


class Output(NamedTuple):
    """An output of a node that runs."""

    key: Key
    slot: int


@dataclass(frozen=True)
class _Use:
    """A graph as it is used once: the workflow's own, or that of one node of a subgraph."""

    graph: Graph
    path: Key = ()
    outer: _Use | None = None

    @property
    def node(self) -> NodeId:
        """The node of the outer graph that uses it."""
        return self.path[-1]

    def is_in_itself(self) -> bool:
        """Whether one of the graphs around it is the same one."""
        around = self.outer
        while around is not None and around.graph is not self.graph:
            around = around.outer
        return around is not None


class View:
    """The nodes of a workflow that run.

    Args:
        workflow: The workflow, which must not change while the view is in use.

    Raises:
        WorkflowError: A subgraph is in itself.
    """

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow
        self._uses: dict[Key, _Use] = {}
        self.keys: list[Key] = []
        self._idle: list[tuple[Graph, Key]] = []
        self._enter(_Use(workflow.main))
        self._gaps: dict[Key, dict[str, str]] = {key: {} for key in self.keys}
        self._origins = {key: dict(self._resolved(key)) for key in self.keys}
        self._consumers: dict[Key, list[tuple[Key, str, int]]] = {}
        for key, inputs in self._origins.items():
            for name, (origin, slot) in inputs.items():
                self._consumers.setdefault(origin, []).append((key, name, slot))

    def _enter(self, use: _Use) -> None:
        for node in use.graph.ids():
            key = (*use.path, node)
            if use.graph.mode(node) in (NEVER, BYPASS):
                self._idle.append((use.graph, key))
                continue
            if use.graph.kind(node) in PAGES_OWN:
                continue
            inner = self.workflow.subgraphs.get(use.graph.kind(node))
            self._uses[key] = use
            if inner is None:
                self.keys.append(key)
            else:
                inside = _Use(inner, key, use)
                if inside.is_in_itself():
                    why = "it uses the subgraph that it is in; remove it"
                    raise WorkflowError("a subgraph in itself", f"{self._named(use.graph, key)} is in the way: {why}")
                self._enter(inside)

    def _resolved(self, key: Key) -> Iterator[tuple[str, Output]]:
        use = self._uses[key]
        for name, source in use.graph.sources(key[-1]):
            type_ = use.graph.type_of(key[-1], name) if isinstance(use.graph, PageGraph) else None
            found = self._resolve(use, source, type_)
            if isinstance(found, Output):
                yield name, found
            else:
                self._gaps[key][name] = found

    def _resolve(self, use: _Use, source: Source | None, type_: Any, depth: int = 0) -> Output | str:
        """The output of a running node behind a source; if there is none, why and what to do, in words."""
        if source is None or depth > 200:
            return _OPEN
        graph = use.graph
        if source.node == INPUTS:
            assert isinstance(graph, PageGraph)
            assert use.outer is not None
            name = graph.data["inputs"][source.slot]["name"]
            found = self._resolve(use.outer, use.outer.graph.source(use.node, name), type_, depth + 1)
            here = self._named(use.outer.graph, use.path)
            return found if found != _OPEN else f"is connected to the input {name} of {here}, which {_OPEN}"
        if not graph.has(source.node):
            return f"is connected to node {source.node}, which is not in the file; connect it to another one"
        kind, key = graph.kind(source.node), (*use.path, source.node)
        if graph.mode(source.node) == NEVER:
            return f"is connected to {self._asleep(graph, key)}"
        if kind in GETTERS:
            return self._resolve(use, source_of_setter(graph, setter_of(graph, source.node)), type_, depth + 1)
        if graph.mode(source.node) == BYPASS or kind in (*REROUTES, *SETTERS):
            passed = _passed(graph, source, type_)
            if passed is None and graph.mode(source.node) == BYPASS:
                return f"is connected to {self._asleep(graph, key)}"
            return self._resolve(use, passed, type_, depth + 1)
        inner = self.workflow.subgraphs.get(kind)
        if inner is not None:
            end = inner.ends_at(source.slot)
            if end is None:
                here = self._named(graph, key)
                return f"is connected to output {source.slot + 1} of {here}, which is open inside; connect it there"
            return self._resolve(_Use(inner, key, use), end, type_, depth + 1)
        return _OPEN if kind in PAGES_OWN else Output(key, source.slot)

    def through(self, key: Key, source: Source) -> Output | None:
        """The output of a running node behind a source in the graph of a node; None if there is none."""
        found = self._resolve(self._uses[key], source, None)
        return found if isinstance(found, Output) else None

    def graph(self, key: Key) -> Graph:
        """The graph that a node is in."""
        return self._uses[key].graph

    def kind(self, key: Key) -> str:
        """A node's type."""
        return self.graph(key).kind(key[-1])

    def label(self, key: Key) -> str:
        """A node in words: its type, id and title."""
        return self._named(self.graph(key), key)

    def _named(self, graph: Graph, key: Key) -> str:
        """The same for any node of a graph; the type of one that uses a subgraph is that one's name."""
        kind, title = graph.kind(key[-1]), graph.title(key[-1])
        if kind in self.workflow.subgraphs:
            kind = self.workflow.subgraphs[kind].data.get("name") or "Subgraph"
        named = f" {title!r}" if title and title != kind else ""
        return f"{kind}{named} (node {':'.join(map(str, key))})"

    def _asleep(self, graph: Graph, key: Key, joint: str = ", which ") -> str:
        """A node that does not run, and what to do, in words."""
        why = "is muted; unmute it" if graph.mode(key[-1]) == NEVER else "is bypassed; enable it"
        return f"{self._named(graph, key)}{joint}{why}"

    def type_of(self, output: Output) -> Any:
        """The type of an output; None where the file does not tell."""
        graph = self.graph(output.key)
        outputs = graph.nodes[output.key[-1]].get("outputs") or [] if isinstance(graph, PageGraph) else []
        return outputs[output.slot]["type"] if output.slot < len(outputs) else None

    def origin(self, key: Key, name: str) -> Output | None:
        """The output that an input gets its value from."""
        return self._origins[key].get(name)

    def idle(self, kinds: Sequence[str]) -> list[str]:
        """The nodes of some types that are muted or bypassed, and subgraphs with such nodes, and what to do."""

        def holds(kind: str, seen: tuple[str, ...] = ()) -> bool:
            inner = self.workflow.subgraphs.get(kind)
            if inner is None or kind in seen:
                return kind in kinds
            return any(holds(inner.kind(node), (*seen, kind)) for node in inner.ids())

        return [self._asleep(graph, key, " ") for graph, key in self._idle if holds(graph.kind(key[-1]))]

    def gaps(self, key: Key) -> list[str]:
        """The inputs whose connections lead to no node that runs."""
        return list(self._gaps[key])

    def gap(self, key: Key, name: str) -> str:
        """Why an input gets its value from no node, and what to do, as "is not connected; connect it"."""
        return self._gaps[key].get(name, _OPEN)

    def origins(self, key: Key) -> dict[str, Output]:
        """The origins of all connected inputs."""
        return self._origins[key]

    def consumers(self, key: Key, slot: int | None = None) -> list[tuple[Key, str]]:
        """The nodes and inputs that take a node's output: that of `slot`, or any."""
        return [(to, name) for to, name, of in self._consumers.get(key, []) if slot in (None, of)]

    def value(self, key: Key, name: str) -> Any:
        """The value of a widget, also of one that is set outside the subgraph or by a primitive node; or None."""
        use = self._uses[key]
        source, known = use.graph.source(key[-1], name), use.graph.value(key[-1], name)
        while source is not None and source.node == INPUTS and use.outer is not None:
            inner, node, use = use.graph, use.node, use.outer
            assert isinstance(inner, PageGraph)
            assert isinstance(use.graph, PageGraph)
            given = use.graph.promoted_value(node, inner, source.slot)
            known = known if given is None else given
            source = use.graph.source(node, inner.data["inputs"][source.slot]["name"])
        if source is None or (use.graph.has(source.node) and use.graph.kind(source.node) == "PrimitiveNode"):
            return known  # the page keeps what its own PrimitiveNode sets there, too
        origin = self._resolve(use, source, None)
        if isinstance(origin, Output) and self.kind(origin.key).startswith("Primitive"):
            return self.value(origin.key, "value")
        return None

    def behind(self, key: Key, stop: Callable[[Key], bool] = lambda _: False) -> Iterator[Key]:
        """All nodes that a node depends on, the nearest first; not those behind nodes that `stop` names."""
        yield from self._walk(key, lambda each: [origin.key for origin in self.origins(each).values()], stop)

    def ahead(self, key: Key, stop: Callable[[Key], bool] = lambda _: False) -> Iterator[Key]:
        """All nodes that depend on a node, the nearest first; not those ahead of nodes that `stop` names."""
        yield from self._walk(key, lambda each: [to for to, _ in self.consumers(each)], stop)

    def _walk(self, key: Key, step: Callable[[Key], list[Key]], stop: Callable[[Key], bool]) -> Iterator[Key]:
        seen, waiting = {key}, deque([key])
        while waiting:
            for each in step(waiting.popleft()):
                if each not in seen:
                    seen.add(each)
                    yield each
                    if not stop(each):
                        waiting.append(each)


def refusal(view: View, reason: str, key: Key, why: str) -> WorkflowError:
    """The error that names a node in the way.

    Args:
        view: The workflow.
        reason: Why, in a few words, as in `WorkflowError`.
        key: The node.
        why: Why, and what to do.

    Returns:
        The error.
    """
    return WorkflowError(reason, f"{view.label(key)} is in the way: {why}")


def unconnected(view: View, key: Key, name: str) -> WorkflowError:
    """The error that names an input that gets nothing.

    Args:
        view: The workflow.
        key: The node.
        name: The input.

    Returns:
        The error.
    """
    return refusal(view, "not connected", key, f"its input {name} {view.gap(key, name)}")


def same_graph(view: View, one: Key, other: Key) -> None:
    """Check that both nodes are in the same graph.

    Args:
        view: The workflow.
        one: A node.
        other: The node that is in the way otherwise.

    Raises:
        WorkflowError: They are not.
    """
    if one[:-1] != other[:-1]:
        raise WorkflowError(
            "parts in several subgraphs",
            f"{view.label(other)} is in the way: it is in another subgraph than {view.label(one)}; put both into one",
        )


def setter_of(graph: Graph, node: NodeId) -> NodeId | None:
    """The node that sets what a getter gets: that of the same name in the same graph; None if there is none."""
    kind, name = GETTERS[graph.kind(node)], _name_of(graph, node)
    found = (each for each in graph.ids() if graph.kind(each) == kind and _name_of(graph, each) == name)
    return None if name is None else next(found, None)


def source_of_setter(graph: Graph, setter: NodeId | None) -> Source | None:
    """What a setter sets; None if it is not connected, or if there is none."""
    return None if setter is None else next((source for _, source in graph.sources(setter)), None)


def _name_of(graph: Graph, node: NodeId) -> Any:
    """The name that a setter or getter has: its first widget."""
    values = graph.nodes[node].get("widgets_values") if isinstance(graph, PageGraph) else None
    return next(iter(values.values() if isinstance(values, dict) else values or []), None)


def _passed(graph: Graph, source: Source, type_: Any) -> Source | None:
    """What replaces the output of a bypassed node: its input of the same place, or the first, of the same type."""
    assert isinstance(graph, PageGraph)
    inputs = graph.nodes[source.node].get("inputs") or []
    if graph.kind(source.node) in (*REROUTES, *SETTERS):
        return graph.source(source.node, inputs[0]["name"]) if inputs else None
    outputs = graph.nodes[source.node].get("outputs") or []
    wanted = outputs[source.slot]["type"] if source.slot < len(outputs) else type_
    for each in [*inputs[source.slot : source.slot + 1], *inputs]:
        if each["type"] == wanted:
            return graph.source(source.node, each["name"])
    return None
