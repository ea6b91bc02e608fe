"""Values of nodes in names of files, as %KSampler.seed%, which pages fill in when they send a workflow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from vidrd_core.comfy.graphs import NodeId
from vidrd_core.comfy.page import PageGraph
from vidrd_core.comfy.workflow import Workflow

_ASKED = re.compile(r"%([^%.]+)\.([^%.]+)%")
_RENAMED = {"noise_seed": "seed"}

_Node = tuple[PageGraph, NodeId]


def _in_letters(name: str) -> str:
    """A name without capitals, spaces and brackets."""
    return re.sub(r"\W", "", name).lower()


class FileNames:
    """What the texts of a workflow ask of nodes that may give way.

    Args:
        workflow: The workflow, as it is before it is changed.
    """

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow
        self._asked: dict[tuple[str, str], tuple[PageGraph, str, NodeId, Any]] = {}
        for holder, key in self._texts():
            for name, widget in _ASKED.findall(holder[key]):
                for graph, node in self._named(name)[:1]:
                    self._asked[name, widget] = graph, graph.kind(node), node, graph.value(node, widget)

    def keep_values(self) -> list[str]:
        """Let texts name what took the place of removed nodes, once the workflow is changed.

        Returns:
            What a user should know of it.
        """
        notes, now = [], {}
        for (name, widget), (graph, kind, node, value) in self._asked.items():
            if graph.has(node):
                continue
            asked = f"%{name}.{widget}%"
            now[asked] = self._instead(graph, _RENAMED.get(widget, widget), value) or asked
            if now[asked] == asked:
                notes.append(f"{asked} in the name of a file has no value now, as {kind} (node {node}) gave way")
        for holder, key in self._texts():
            for old, new in now.items():
                holder[key] = holder[key].replace(old, new)
        return notes

    def _instead(self, graph: PageGraph, widget: str, value: Any) -> str | None:
        """The name of an added node's widget of the same value, which all nodes of that name have."""
        for node in graph.added if value is not None else []:
            for name in (graph.kind(node), graph.title(node)):
                if all(each.value(found, widget) == value for each, found in self._named(name)):
                    return f"%{name}.{widget}%"
        return None

    def _named(self, name: str) -> list[_Node]:
        """The nodes that a page finds by a name: by their types for the purpose, or by their titles."""
        nodes = list(self._all(self.workflow.main)) if isinstance(self.workflow.main, PageGraph) else []

        def type_of(graph: PageGraph, node: NodeId) -> Any:
            return (graph.nodes[node].get("properties") or {}).get("Node name for S&R", graph.kind(node))

        def is_titled(graph: PageGraph, node: NodeId) -> bool:
            title = graph.title(node)  # without one, pages show the type in other words, as "KSampler (Advanced)"
            return title == name if title else _in_letters(graph.kind(node)) == _in_letters(name)

        found = [each for each in nodes if type_of(*each) == name]
        return found or [each for each in nodes if is_titled(*each)]

    def _all(self, graph: PageGraph, around: tuple[PageGraph, ...] = ()) -> Iterator[_Node]:
        """All nodes, in the order in which pages look for one."""
        for node in graph.ids():
            inner = self.workflow.subgraphs.get(graph.kind(node))
            if inner is not None and inner not in (*around, graph):
                yield from self._all(inner, (*around, graph))
            yield graph, node

    def _texts(self) -> Iterator[tuple[Any, Any]]:
        """The holders of all texts in widgets that ask for a value, and their places in these."""
        for graph in self.workflow.graphs:
            for node in graph.nodes.values() if isinstance(graph, PageGraph) else []:
                for values in (node.get("widgets_values"), node.get("widgets_values_named")):
                    places = values.items() if isinstance(values, dict) else enumerate(values or [])
                    asking = [key for key, each in places if isinstance(each, str) and _ASKED.search(each)]
                    yield from ((values, key) for key in asking)
