"""Workflows as files: the form in which ComfyUI's page saves them, and the API form."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidrd_core.comfy.graphs import Graph, PromptGraph, WorkflowError
from vidrd_core.comfy.page import Counter, PageGraph


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
        data: The content of its file.

    Returns:
        The workflow; it shares `data`.

    Raises:
        WorkflowError: It is none.
    """
    if isinstance(data, dict) and isinstance(data.get("nodes"), list):
        try:
            graphs = (data.get("definitions") or {}).get("subgraphs") or []
            counter = Counter([data, *graphs])
            return Workflow(data, PageGraph(data, counter), {each["id"]: PageGraph(each, counter) for each in graphs})
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise WorkflowError("", f"is damaged: {type(error).__name__} {error} in its nodes or links") from error
    if isinstance(data, dict):
        nodes = [node for node in data.values() if isinstance(node, dict) and isinstance(node.get("class_type"), str)]
        if nodes and all(isinstance(node.get("inputs", {}), dict) for node in nodes):
            return Workflow(data, PromptGraph(data), {})
    raise WorkflowError(
        "", "is no workflow of ComfyUI: expected the page's format (Save) or the API format (Export (API))"
    )


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
        data = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise WorkflowError("", f"{path} is no JSON file ({error}): export a workflow from ComfyUI's page") from error
    try:
        return parse_workflow(data)
    except WorkflowError as error:
        raise WorkflowError(error.reason, f"{path} {error}") from error
