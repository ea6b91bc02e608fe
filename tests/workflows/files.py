"""The workflows that come with the pack, as the page saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "example_workflows"
PATHS = [*sorted(EXAMPLES.glob("*.json")), *sorted((ROOT / "subgraphs").glob("*.json"))]
PAGES_OWN = (
    "GetNode",
    "MarkdownNote",
    "Note",
    "PrimitiveNode",
    "Reroute",
    "SetNode",
)  # nodes of the page only, which it never sends
SUBGRAPHS_ENDS = (-10, -20)  # the ids of a subgraph's input and output node


class Wire(NamedTuple):
    """A link between two nodes."""

    id: int
    origin_id: int
    origin_slot: int
    target_id: int
    target_slot: int
    type: str


def read(path: Path) -> dict[str, Any]:
    """A workflow."""
    return json.loads(path.read_text(encoding="utf-8"))


def subgraphs(workflow: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The subgraphs that a workflow defines, by the type of nodes that use them."""
    return {graph["id"]: graph for graph in (workflow.get("definitions") or {}).get("subgraphs", [])}


def graphs(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """The workflow itself and its subgraphs."""
    return [workflow, *subgraphs(workflow).values()]


def wires(graph: dict[str, Any]) -> list[Wire]:
    """The links of a graph: lists in a workflow, objects in a subgraph."""
    return [
        Wire(**{name: link[name] for name in Wire._fields}) if isinstance(link, dict) else Wire(*link)
        for link in graph["links"]
    ]


def nodes(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """All nodes whose types the host must have."""
    apart = {*PAGES_OWN, *subgraphs(workflow)}
    return [node for graph in graphs(workflow) for node in graph["nodes"] if node["type"] not in apart]
