"""Workflows as files: the form in which ComfyUI's page saves them, and the API form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidrd_core.comfy.graphs import Graph, PromptGraph, WorkflowError
from vidrd_core.comfy.page import Counter, PageGraph
from vidrd_core.io.configs import parse_json

_OF_PAGES = {"links", "last_node_id", "state"}  # other programs' files have nodes, too


@dataclass
class Workflow:
    """A workflow from a file.

    Args:
        data: The file's content.
        main: The graph of the workflow.
        subgraphs: Its subgraphs by their ids, which are the types of nodes that use them.
    """

    data: dict[str, Any]
    main: Graph
    subgraphs: dict[str, PageGraph]

    @property
    def is_prompt(self) -> bool:
        """Whether it is of the API form."""
        return isinstance(self.main, PromptGraph)

    @property
    def graphs(self) -> list[Graph]:
        """The main graph and the subgraphs."""
        return [self.main, *self.subgraphs.values()]

    def store(self, group: str) -> dict[str, Any]:
        """Write changes into `data`.

        Args:
            group: The title of the group of added nodes.

        Returns:
            `data`.
        """
        pages = [graph for graph in self.graphs if isinstance(graph, PageGraph)]
        for graph in pages:
            graph.store(group)
        if pages:
            node, link = pages[0].counter.node, pages[0].counter.link
            self.data |= {"last_node_id": node, "last_link_id": link}
            for state in [graph.data["state"] for graph in pages if isinstance(graph.data.get("state"), dict)]:
                state |= {"lastNodeId": node, "lastLinkId": link}
        return self.data


def parse_workflow(data: Any) -> Workflow:
    """Tell the form of a workflow.

    Args:
        data: The content of its file; or what ComfyUI's server takes (prompt), or stores in pictures (workflow).

    Returns:
        The workflow; it shares `data`, or the part that is one.

    Raises:
        WorkflowError: It is none.
    """
    if isinstance(data, dict) and isinstance(data.get("nodes"), list) and not _OF_PAGES.isdisjoint(data):
        try:
            graphs = (data.get("definitions") or {}).get("subgraphs") or []
            for graph in (data, *graphs):
                _check_graph(graph)
            counter = Counter([data, *graphs])
            return Workflow(data, PageGraph(data, counter), {each["id"]: PageGraph(each, counter) for each in graphs})
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise WorkflowError(
                "", f"is damaged: {error or type(error).__name__} in its nodes or links; save it from the page again"
            ) from error
    if isinstance(data, dict):
        nodes = [node for node in data.values() if isinstance(node, dict) and isinstance(node.get("class_type"), str)]
        others = [each for each in data.values() if isinstance(each, dict) and "class_type" in each]
        if nodes and len(others) == len(nodes) and all(isinstance(node.get("inputs"), dict) for node in nodes):
            return Workflow(data, PromptGraph(data), {})
        for name in ("workflow", "prompt"):
            if isinstance(data.get(name), dict):
                return parse_workflow(data[name])
    raise WorkflowError(
        "", "is no workflow of ComfyUI: expected the page's format (Save) or the API format (Export (API))"
    )


def _check_graph(graph: dict[str, Any]) -> None:
    """Raise TypeError or KeyError unless the parts of a page's graph are of the types that the page writes."""

    def each_of(holder: dict[str, Any], name: str, kind: Any = dict) -> list[Any]:
        given = holder.get(name)
        if not isinstance(given, list | None) or not all(isinstance(each, kind) for each in given or []):
            raise TypeError(f"{name} of the wrong type")
        return given or []

    def text(holder: dict[str, Any], name: str, kind: Any = str) -> None:
        if not isinstance(holder[name], kind):
            raise TypeError(f"{name} of the wrong type")

    for holder in (graph, *each_of(graph, "nodes")):
        for name in ("extra", "properties", "state", "widgets_values_named"):
            if not isinstance(holder.get(name), dict | None):
                raise TypeError(f"{name} of the wrong type")
    ids = [str(node["id"]) for node in graph["nodes"]]
    if len(set(ids)) < len(ids):
        raise ValueError(f"two nodes with the id {next(each for each in ids if ids.count(each) > 1)}")
    for node in graph["nodes"]:
        text(node, "type")
        text(node, "id", int | str)
        if isinstance(node["id"], bool):
            raise TypeError("id of the wrong type")
        text({"mode": node.get("mode") or 0}, "mode", int)
        text({"widgets_values": node.get("widgets_values")}, "widgets_values", list | dict | None)
        for each in each_of(node, "inputs"):
            text(each, "name")
            text(each, "type", str | int)  # 0 or -1 for events
        for each in each_of(node, "outputs"):
            text(each, "type", str | int)
            each_of(each, "links", int | str)
    for name in ("inputs", "outputs"):
        for each in each_of(graph, name):
            text(each, "name")
            text(each, "type")
            each_of(each, "linkIds", int | str)
    each_of(graph, "links", dict | list)
    for group in each_of(graph, "groups"):
        left, top, width, height = group["bounding"]
        text({"bounding": left + top + width + height}, "bounding", int | float)


def read_workflow(path: str | Path) -> Workflow:
    """Read a workflow of either form.

    Args:
        path: A JSON file.

    Returns:
        The workflow.

    Raises:
        OSError: The file cannot be read.
        WorkflowError: It holds none.
    """
    try:
        data = parse_json(Path(path).read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise WorkflowError("", f"{path} is no JSON file ({error}): export a workflow from ComfyUI's page") from error
    try:
        return parse_workflow(data)
    except WorkflowError as error:
        raise WorkflowError(error.reason, f"{path} {error}") from error
