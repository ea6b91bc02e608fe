"""Widgets and outputs that pages show at other places than their nodes, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vidrd_core.comfy.graphs import Graph, NodeId
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

    def forget_removed(self) -> list[str]:
        """Take what was removed out of these lists, once the workflow is changed.

        Returns:
            What a user should know of it.
        """
        notes = []
        for graph in self._pages[:1]:
            gone, instead = {str(each) for each in graph.removed}, {str(a): b for a, b in graph.instead.items()}
            app = app_of(graph)
            if isinstance(app.get("outputs"), list):
                app["outputs"] = [
                    type(each)(instead[str(each)]) if isinstance(each, int | str) and str(each) in instead else each
                    for each in app["outputs"]
                ]
            for name in ("inputs", "outputs"):
                if isinstance(app.get(name), list):
                    lost = [f"{_widget_of(each) or 'the output'} of node {_node_of(each)}" for each in app[name]
                            if _node_of(each) in gone]  # fmt: skip
                    notes += [f"the app no longer shows {', '.join(lost)}"] if lost else []
                    app[name] = [each for each in app[name] if _node_of(each) not in gone]
        for kind, inner in self.workflow.subgraphs.items():
            self._forget_nodes(kind, inner.removed)
        changed = True
        while changed:  # a subgraph that loses a widget takes it from those around it
            changed = False
            for kind, inner in self.workflow.subgraphs.items():
                changed |= self._forget_widgets(kind, inner)
        return notes

    def _forget_nodes(self, kind: str, removed: set[NodeId]) -> None:
        """Take nodes that a subgraph has lost out of the lists of the nodes that use it."""
        gone = {str(each) for each in removed}
        for _, node in self._users(kind):
            properties = node.get("properties") or {}
            for name in ("proxyWidgets", "previewExposures"):
                if isinstance(properties.get(name), list):
                    properties[name] = [each for each in properties[name] if _node_of(each) not in gone]

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
                    if isinstance(properties.get("proxyWidgets"), list):
                        properties["proxyWidgets"] = [
                            each
                            for each in properties["proxyWidgets"]
                            if (_node_of(each), _widget_of(each)) not in gone
                        ]
        return bool(lost)


def app_of(graph: PageGraph) -> dict[str, Any]:
    """The inputs and outputs of a workflow as an app: [node, widget], and nodes; {} without one."""
    app = (graph.data.get("extra") or {}).get("linearData")
    return app if isinstance(app, dict) else {}


def widgets_shown(workflow: Workflow, graph: Graph) -> list[list[Any]]:
    """The widgets of a graph's nodes that are shown elsewhere by their names.

    Args:
        workflow: The workflow.
        graph: One of its graphs.

    Returns:
        Lists that begin with [node, widget], which may be changed in place.
    """
    pages = [each for each in workflow.graphs if isinstance(each, PageGraph)]
    lists = [app_of(graph).get("inputs")] if isinstance(graph, PageGraph) and graph is workflow.main else []
    for node in [node for each in pages for node in each.nodes.values()]:
        if workflow.subgraphs.get(node["type"]) is graph:
            lists.append((node.get("properties") or {}).get("proxyWidgets"))
    entries = [each for shown in lists if isinstance(shown, list) for each in shown]
    return [each for each in entries if isinstance(each, list) and _widget_of(each) is not None]


def _node_of(shown: Any) -> str:
    """The node that an entry of such a list is of."""
    if isinstance(shown, dict):
        return str(shown.get("sourceNodeId"))
    return str(shown[0]) if isinstance(shown, list) and shown else str(shown)


def _widget_of(shown: Any) -> str | None:
    """The name of the widget that an entry of such a list shows."""
    return str(shown[1]) if isinstance(shown, list) and len(shown) > 1 else None
