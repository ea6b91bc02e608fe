"""Widgets and outputs that pages show at other places than their nodes, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vidrd_core.comfy.graphs import NodeId
from vidrd_core.comfy.page import PageGraph
from vidrd_core.comfy.workflow import Workflow


class Shown:
    """What a workflow shows elsewhere: widgets on the nodes that use a subgraph, inputs and outputs of an app.

    Args:
        workflow: The workflow, as it is before it is changed.
    """

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow
        self._pages = [graph for graph in workflow.graphs if isinstance(graph, PageGraph)]
        self._promoted = {kind: inner.promoted() for kind, inner in workflow.subgraphs.items()}

    def _users(self, kind: str) -> Iterator[tuple[PageGraph, dict[str, Any]]]:
        """The nodes that use a subgraph, with their graphs."""
        for graph in self._pages:
            yield from ((graph, node) for node in graph.nodes.values() if node["type"] == kind)

    def forget_removed(self) -> None:
        """Take what was removed out of these lists, once the workflow is changed."""
        for graph in self._pages[:1]:
            app = (graph.data.get("extra") or {}).get("linearData") or {}
            for name, position in (("inputs", 0), ("outputs", None)):
                if isinstance(app.get(name), list):
                    app[name] = [
                        each for each in app[name] if (each if position is None else each[0]) not in graph.removed
                    ]
        for kind, inner in self.workflow.subgraphs.items():
            self._forget_nodes(kind, inner.removed)
        changed = True
        while changed:  # a subgraph that loses a widget takes it from those around it
            changed = False
            for kind, inner in self.workflow.subgraphs.items():
                changed |= self._forget_widgets(kind, inner)

    def _forget_nodes(self, kind: str, removed: set[NodeId]) -> None:
        """Take nodes that a subgraph has lost out of the lists of the nodes that use it."""
        gone = {str(each) for each in removed}
        for _, node in self._users(kind):
            properties = node.get("properties") or {}
            if properties.get("proxyWidgets"):
                properties["proxyWidgets"] = [each for each in properties["proxyWidgets"] if str(each[0]) not in gone]
            if properties.get("previewExposures"):
                properties["previewExposures"] = [
                    each for each in properties["previewExposures"] if str(each.get("sourceNodeId")) not in gone
                ]

    def _forget_widgets(self, kind: str, inner: PageGraph) -> bool:
        """Take the values of widgets that a subgraph has lost from the nodes that use it; whether it has lost any.

        Pages fill these widgets by their order, so that a value too many would shift all others.
        """
        before, now = self._promoted[kind], inner.promoted()
        self._promoted[kind] = now
        lost = [slot for slot in before if slot not in now]
        names = [inner.data["inputs"][slot]["name"] for slot in lost]
        for graph, node in self._users(kind) if lost else []:
            values = node.get("widgets_values")
            if isinstance(values, list):
                kept = [value for slot, value in zip(before, values, strict=False) if slot in now]
                node["widgets_values"] = kept + values[len(before) :]
            for named in (values, node.get("widgets_values_named")):
                if isinstance(named, dict):
                    for name in names:
                        named.pop(name, None)
            for each in node.get("inputs") or []:
                if each["name"] in names:
                    each.pop("widget", None)
            gone = {(str(node["id"]), name) for name in names}
            for outer in [kind for kind, each in self.workflow.subgraphs.items() if each is graph]:
                for _, around in self._users(outer):
                    properties = around.get("properties") or {}
                    if properties.get("proxyWidgets"):
                        properties["proxyWidgets"] = [
                            each for each in properties["proxyWidgets"] if (str(each[0]), each[1]) not in gone
                        ]
        return bool(lost)
