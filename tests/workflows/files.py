"""The workflows that come with the pack, as the page saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "example_workflows"
PATHS = [*sorted(EXAMPLES.glob("*.json")), *sorted((ROOT / "subgraphs").glob("*.json"))]
PAGES_OWN = ("MarkdownNote", "Note", "Reroute")  # the page alone has these nodes, and sends them never
SUBGRAPHS_ENDS = (-10, -20)  # what stands for a subgraph's inputs and outputs in it


class Wire(NamedTuple):
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
    """The subgraphs that it defines, by what nodes that use them have as type."""
    return {graph["id"]: graph for graph in (workflow.get("definitions") or {}).get("subgraphs", [])}


def graphs(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """The workflow's own nodes and wires, and those of its subgraphs."""
    return [workflow, *subgraphs(workflow).values()]


def wires(graph: dict[str, Any]) -> list[Wire]:
    """Its wires: lists in a workflow, objects in a subgraph."""
    return [
        Wire(**{name: link[name] for name in Wire._fields}) if isinstance(link, dict) else Wire(*link)
        for link in graph["links"]
    ]


def nodes(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """All nodes that a host must have."""
    apart = {*PAGES_OWN, *subgraphs(workflow)}
    return [node for graph in graphs(workflow) for node in graph["nodes"] if node["type"] not in apart]
