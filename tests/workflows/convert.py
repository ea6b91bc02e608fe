"""Convert a saved workflow into the prompt that ComfyUI's page would send for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .files import PAGES_OWN, SUBGRAPHS_ENDS, subgraphs, wires
from .slots import ADDED, slots, widgets

NEVER, BYPASS = 2, 4
INPUTS, OUTPUTS = SUBGRAPHS_ENDS


class Graph:
    """The nodes and wires of a workflow, or of one use of a subgraph: the node `use` of the graph `outer`."""

    def __init__(self, graph: dict[str, Any], outer: Graph | None = None, use: dict[str, Any] | None = None) -> None:
        self.graph, self.outer, self.use = graph, outer, use
        self.subgraphs = subgraphs(graph) if outer is None else outer.subgraphs
        self.path = "" if outer is None else f"{outer.path}{use['id']}:"
        self.nodes = {node["id"]: node for node in graph["nodes"]}
        self.wires = {wire.id: wire for wire in wires(graph)}

    def within(self, node: dict[str, Any]) -> Graph:
        """The subgraph that a node of this graph uses."""
        return Graph(self.subgraphs[node["type"]], self, node)

    def source(self, link: int | None, type_: str) -> Any:
        """The source of a link: [node, slot], {"value": the value of an outer widget}, or None."""
        if link is None:
            return None
        wire = self.wires[link]
        if wire.origin_id == INPUTS:
            return self.from_outside(wire.origin_slot, type_)
        node, slot = self.nodes[wire.origin_id], wire.origin_slot
        if node["mode"] == BYPASS:
            return self.source(bypass(node, slot, type_), type_)
        if node["mode"] != NEVER and node["type"] in self.subgraphs:
            inside = self.within(node)
            ends = [
                each.id for each in inside.wires.values() if (each.target_id, each.target_slot) == (OUTPUTS, slot)
            ]
            return inside.source(ends[0] if ends else None, type_)
        if node["type"] == "GetNode":
            named = (each for each in self.nodes.values() if each["type"] == "SetNode")
            node = next(each for each in named if each["widgets_values"] == node["widgets_values"])
        if node["type"] in ("Reroute", "SetNode"):
            return self.source(node["inputs"][0]["link"], type_)
        if node["type"] == "PrimitiveNode":
            return None  # the widget that it sets holds its value, too
        return [f"{self.path}{node['id']}", slot]

    def from_outside(self, slot: int, type_: str) -> Any:
        """The source of a subgraph's input: that of a link, or the value of its widget."""
        name = self.graph["inputs"][slot]["name"]
        link = next((each["link"] for each in self.use["inputs"] if each["name"] == name), None)
        if link is not None:
            return self.outer.source(link, type_)
        values = dict(zip(self.promoted(), self.use.get("widgets_values") or [], strict=False))
        return {"value": values[name]} if name in values else None

    def promoted(self) -> list[str]:
        """The inputs of a subgraph that are widgets of the node that uses it."""
        ends = [self.nodes[each.target_id]["inputs"][each.target_slot] if each.origin_id == INPUTS else {}
                for each in self.wires.values()]  # fmt: skip
        widgets = {each["link"] for each in ends if "widget" in each}
        return [each["name"] for each in self.graph["inputs"] if widgets & set(each["linkIds"])]

    def sent(self, definitions: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each node that is sent to the host, by its id."""
        for node in self.nodes.values():
            if node["mode"] in (NEVER, BYPASS) or node["type"] in PAGES_OWN:
                continue
            if node["type"] in self.subgraphs:
                yield from self.within(node).sent(definitions)
                continue
            inputs = values(node, definitions[node["type"]])
            for socket in node["inputs"]:
                given = self.source(socket["link"], socket["type"])
                if given is not None:
                    inputs[socket["name"]] = given["value"] if isinstance(given, dict) else given
            yield f"{self.path}{node['id']}", {"class_type": node["type"], "inputs": inputs}


def bypass(node: dict[str, Any], slot: int, type_: str) -> int | None:
    """The link that replaces a bypassed node's output: that of the same slot, or the first of its type."""
    same = [*node["inputs"][slot : slot + 1], *node["inputs"]]
    return next((each["link"] for each in same if each["type"] == type_), None)


def values(node: dict[str, Any], definition: dict[str, Any]) -> dict[str, Any]:
    """The values of a node's widgets; widgets that it was saved without have their defaults."""
    configs = {each.name: each.config for each in slots(definition) if each.is_widget}
    defaults = {name: each.get("default", (each.get("options") or [""])[0]) for name, each in configs.items()}
    given = zip(widgets(definition), node.get("widgets_values") or [], strict=False)
    return {**defaults, **{name: value for name, value in given if name not in ADDED}}


def to_prompt(workflow: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The prompt for /prompt, {node id: {class_type, inputs}}."""
    prompt = dict(Graph(workflow).sent(definitions))
    for node in prompt.values():
        for name, given in list(node["inputs"].items()):
            if isinstance(given, list) and given[0] not in prompt:  # from a muted node
                del node["inputs"][name]
    return prompt
