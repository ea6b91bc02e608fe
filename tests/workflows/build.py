"""Make a workflow as the page saves it from a prompt, so that tests state each workflow once."""

from __future__ import annotations

import copy
from typing import Any

from .slots import ADDED, slots, widgets


def to_page(prompt: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A saved workflow that sends this prompt; ids must be numbers."""
    nodes, links = {}, []
    for number, (key, sent) in enumerate(prompt.items()):
        definition = definitions[sent["class_type"]]
        given = {each.name: each for each in slots(definition)}
        values = {
            name: "fixed" if name in ADDED else given[name].config.get("default") for name in widgets(definition)
        }
        values |= {name: value for name, value in sent["inputs"].items() if not isinstance(value, list)}
        nodes[key] = {
            "id": int(key), "type": sent["class_type"], "pos": [300 * number, 0], "size": [270, 200], "flags": {},
            "order": number, "mode": 0, "properties": {"Node name for S&R": sent["class_type"]},
            "inputs": [
                {"name": each.name, "type": each.type, "link": None,
                 **({"widget": {"name": each.name}} if each.is_widget else {})}
                for each in given.values()
            ],
            "outputs": [
                {"name": name, "type": type_, "links": []}
                for name, type_ in zip(definition["output_name"], definition["output"], strict=True)
            ],
            "widgets_values": [values[name] for name in widgets(definition)],
        }  # fmt: skip
        if title := (sent.get("_meta") or {}).get("title"):
            nodes[key]["title"] = title
    for key, sent in prompt.items():
        for name, value in sent["inputs"].items():
            if isinstance(value, list):
                link(nodes, links, value, key, name)
    return {
        "nodes": list(nodes.values()), "links": links, "groups": [], "config": {}, "extra": {}, "version": 0.4,
        "last_node_id": max(map(int, prompt)), "last_link_id": len(links),
    }  # fmt: skip


def link(nodes: dict[str, Any], links: list[Any], origin: list[Any], key: str, name: str) -> None:
    """Draw a link from [node, slot] to an input."""
    output = nodes[origin[0]]["outputs"][origin[1]]
    slot = [each["name"] for each in nodes[key]["inputs"]].index(name)
    number = len(links) + 1
    links.append([number, int(origin[0]), origin[1], int(key), slot, output["type"]])
    output["links"].append(number)
    nodes[key]["inputs"][slot]["link"] = number


def in_subgraph(page: dict[str, Any], outside: set[int]) -> dict[str, Any]:
    """The same workflow with all nodes but those of `outside` in a subgraph, whose outputs those get."""
    inside = [node for node in page["nodes"] if node["id"] not in outside]
    kept = [node for node in page["nodes"] if node["id"] in outside]
    use, graph = 900, "11111111-2222-3333-4444-555555555555"
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    within, around, outputs = [], [], []
    for each in (dict(zip(names, link, strict=True)) for link in page["links"]):
        assert each["origin_id"] not in outside, "outer nodes only take"
        if each["target_id"] in outside:
            around.append([each["id"], use, len(outputs), each["target_id"], each["target_slot"], each["type"]])
            new = 1000 + each["id"]
            origin = next(node for node in inside if node["id"] == each["origin_id"])["outputs"][each["origin_slot"]]
            origin["links"] = [new if link == each["id"] else link for link in origin["links"]]
            within.append({**each, "id": new, "target_id": -20, "target_slot": len(outputs)})
            outputs.append({"id": f"out-{new}", "name": each["type"], "type": each["type"], "linkIds": [new]})
        else:
            within.append(each)
    node = {
        "id": use, "type": graph, "pos": [0, 0], "size": [200, 100], "flags": {}, "order": 0, "mode": 0, "inputs": [],
        "outputs": [
            {"name": each["name"], "type": each["type"], "links": [link[0] for link in around if link[2] == slot]}
            for slot, each in enumerate(outputs)
        ],
        "properties": {}, "widgets_values": [],
    }  # fmt: skip
    state = {"lastGroupId": 0, "lastNodeId": use, "lastLinkId": 2000, "lastRerouteId": 0}
    subgraph = {
        "id": graph, "version": 1, "state": state, "revision": 0, "config": {}, "name": "Video", "inputs": [],
        "inputNode": {"id": -10, "bounding": [0, 0, 1, 1]}, "outputNode": {"id": -20, "bounding": [0, 0, 1, 1]},
        "outputs": outputs, "widgets": [], "groups": [], "extra": {}, "nodes": inside, "links": within,
    }  # fmt: skip
    return {
        **page, "nodes": [node, *kept], "links": around, "definitions": {"subgraphs": [subgraph]},
        "last_node_id": use, "last_link_id": 2000,
    }  # fmt: skip


def promote(page: dict[str, Any], widgets: dict[str, tuple[int, str, Any]]) -> None:
    """Make widgets of nodes in `in_subgraph`'s subgraph inputs of it: {input: (node, its widget, the value)}."""
    subgraph, use = page["definitions"]["subgraphs"][0], page["nodes"][0]
    for name, (node, widget, value) in widgets.items():
        number, slot = 3000 + len(subgraph["inputs"]), len(subgraph["inputs"])
        inputs = next(each["inputs"] for each in subgraph["nodes"] if each["id"] == node)
        place = [each["name"] for each in inputs].index(widget)
        inputs[place]["link"] = number
        type_ = inputs[place]["type"]
        subgraph["inputs"].append({"id": f"in-{number}", "name": name, "type": type_, "linkIds": [number]})
        subgraph["links"].append({
            "id": number, "origin_id": -10, "origin_slot": slot, "target_id": node, "target_slot": place,
            "type": type_,
        })  # fmt: skip
        use["inputs"].append({"name": name, "type": type_, "widget": {"name": name}, "link": None})
        use["widgets_values"].append(value)


def by_way_of(page: dict[str, Any], link: int, kind: str) -> dict[str, Any]:
    """A copy with a "Reroute", or a "SetNode" and a "GetNode", on a link of its main graph."""
    page = copy.deepcopy(page)
    number, origin, slot, target, place, type_ = page["links"][link]
    ends = {each["id"]: each for each in page["nodes"]}
    kinds, new = ["SetNode", "GetNode"] if kind == "SetNode" else [kind], 5000
    ends[origin]["outputs"][slot]["links"] = [
        each for each in ends[origin]["outputs"][slot]["links"] if each != number
    ] + [new]
    first, last = ({
        "id": new + each, "type": kind, "pos": [0, 900], "size": [75, 26], "flags": {}, "order": 0, "mode": 0,
        "inputs": [], "outputs": [], "properties": {}, "widgets_values": ["way"],
    } for each, kind in ((0, kinds[0]), (1, kinds[-1])))  # fmt: skip
    first["inputs"].append({"name": type_, "type": type_, "link": new})
    if kind == "SetNode":
        first["outputs"].append({"name": "*", "type": "*", "links": []})
    else:
        last = first
    last["outputs"].append({"name": "", "type": type_, "links": [new + 1]})
    ends[target]["inputs"][place]["link"] = new + 1
    page["links"][link : link + 1] = [
        [new, origin, slot, first["id"], 0, type_], [new + 1, last["id"], 0, target, place, type_],
    ]  # fmt: skip
    page["nodes"] += [first] if first is last else [first, last]
    return page | {"last_node_id": new + 1, "last_link_id": new + 1}
