"""The form of a graph that ComfyUI's page saves: nodes with positions, links and subgraphs."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vidrd_core.comfy.definitions import ADDED, WIDGETS
from vidrd_core.comfy.graphs import INPUTS, OUTPUTS, Connected, Graph, NodeId, Source, Target

NODE_WIDTH, GAP = 330, 60
_MAP, _MAP_OF_NOISE = 150, 112  # the heights of the pictures of reuse that web/js/reuse_map.js draws in nodes
_LINK_PARTS = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


@dataclass
class _Link:
    """A link of a page's graph."""

    origin: Source
    target: NodeId
    slot: int
    type: Any
    raw: Any  # as in the file


class PageGraph(Graph):
    """A workflow as the page saves it, or one of its subgraphs.

    Args:
        data: The graph; `store` changes it.
        counter: Gives a number to each new node and link of the whole file.

    Attributes:
        added: The nodes that were added, and are still there.
        removed: The nodes that were taken out.
        instead: Of nodes that gave an app's outputs: those that give them now.
    """

    def __init__(self, data: dict[str, Any], counter: Counter) -> None:
        self.data, self.counter = data, counter
        self.nodes: dict[NodeId, dict[str, Any]] = {node["id"]: node for node in data["nodes"]}
        known = {str(each): each for each in (INPUTS, OUTPUTS, *self.nodes)}  # 37 and "37" are the same to pages
        arriving = {
            str(each["link"]): (node["id"], slot)
            for node in data["nodes"]
            for slot, each in enumerate(node.get("inputs") or [])
            if each.get("link") is not None
        }
        self.links: dict[NodeId, _Link] = {}
        for raw in data.get("links") or []:
            number, *parts = [raw[name] for name in _LINK_PARTS] if isinstance(raw, dict) else raw
            origin = Source(known.get(str(parts[0]), parts[0]), parts[1])
            told = target = (known.get(str(parts[2]), parts[2]), parts[3])
            if target[0] != OUTPUTS:  # pages go by the input's own record of its link
                target = arriving.get(str(number), (None, 0))
            if target[0] is not None and self._has(origin):  # files have links that lead nowhere, too
                self.links[number] = _Link(origin, *target, parts[4], raw if target == told else None)
        self._numbers = {str(number): number for number in self.links}
        boxes = [_box(node) for node in data["nodes"]] or [(0.0, 0.0, 0.0, 0.0)]
        for group in data.get("groups") or []:
            left, top, width, height = group["bounding"]
            boxes.append((left, top, left + width, top + height))
        self._left, self._top = min(box[0] for box in boxes), max(box[3] for box in boxes) + 120.0
        self.added: list[NodeId] = []
        self.removed: set[NodeId] = set()
        self.instead: dict[NodeId, NodeId] = {}

    def _has(self, source: Source) -> bool:
        """Whether there is such an output."""
        if source.node == INPUTS:
            return source.slot < len(self.data.get("inputs") or [])
        outputs = self.nodes[source.node].get("outputs") if source.node in self.nodes else []
        return outputs is None or source.slot < len(outputs)  # pages know outputs that were not saved

    def ids(self) -> list[NodeId]:
        """All nodes."""
        return list(self.nodes)

    def has(self, node: NodeId) -> bool:
        """Whether it has the node."""
        return node in self.nodes

    def kind(self, node: NodeId) -> str:
        """Its type; that of a subgraph is the subgraph's id."""
        return self.nodes[node]["type"]

    def title(self, node: NodeId) -> str:
        """Its title."""
        return self.nodes[node].get("title") or ""

    def mode(self, node: NodeId) -> int:
        """Its mode."""
        return self.nodes[node].get("mode") or 0

    def _input(self, node: NodeId, name: str) -> dict[str, Any] | None:
        return next((each for each in self.nodes[node].get("inputs") or [] if each["name"] == name), None)

    def linked(self, node: NodeId) -> list[str]:
        """Inputs with a link."""
        return [each["name"] for each in self.nodes[node].get("inputs") or [] if self._number(each) is not None]

    def _number(self, end: dict[str, Any]) -> NodeId | None:
        """The link of an input."""
        number = self._numbers.get(str(end.get("link")))
        return number if number in self.links else None

    def source(self, node: NodeId, name: str) -> Source | None:
        """The origin of an input's link."""
        number = self._number(self._input(node, name) or {})
        return None if number is None else self.links[number].origin

    def type_of(self, node: NodeId, name: str) -> Any:
        """The type of an input."""
        return (self._input(node, name) or {}).get("type")

    def value(self, node: NodeId, name: str) -> Any:
        """The value by the order of the node's widgets, or by their names where the file has these."""
        return _values(self.nodes[node]).get(name)

    def targets(self, source: Source) -> list[Target]:
        """The ends of an output's links."""
        return [self._target(link) for link in self.links.values() if link.origin == source]

    def ends_at(self, slot: int) -> Source | None:
        """What an output of this subgraph is connected to."""
        ends = (link.origin for link in self.links.values() if (link.target, link.slot) == (OUTPUTS, slot))
        return next(ends, None)

    def promoted(self) -> list[int]:
        """The inputs of this subgraph that are widgets of the nodes that use it, in the order of their values."""
        inner = [link for link in self.links.values() if link.origin.node == INPUTS and link.target != OUTPUTS]
        return sorted({link.origin.slot for link in inner if "widget" in self._end(link)})

    def promoted_value(self, node: NodeId, inner: PageGraph, slot: int) -> Any:
        """The value that a node which uses a subgraph has for one of its inputs as a widget.

        Args:
            node: The node.
            inner: The subgraph.
            slot: The place of the input.

        Returns:
            The value; None without one.
        """
        given, places = self.nodes[node].get("widgets_values"), inner.promoted()
        if isinstance(given, dict):
            return given.get(inner.data["inputs"][slot]["name"])
        place = places.index(slot) if slot in places else len(places)
        return given[place] if given and place < len(given) else None

    def _end(self, link: _Link) -> dict[str, Any]:
        """The input of a node that a link leads to."""
        return self.nodes[link.target]["inputs"][link.slot]

    def _target(self, link: _Link) -> Target:
        if link.target == OUTPUTS:
            return Target(OUTPUTS, str(link.slot))
        return Target(link.target, self._end(link)["name"])

    def _unlink(self, number: NodeId) -> None:
        link = self.links.pop(number)
        if link.target != OUTPUTS:
            self._end(link)["link"] = None

    def connect(self, target: Target, source: Source | None) -> None:
        """Take the input's link out, and draw a new one."""
        if target.node == OUTPUTS:
            old = [each for each, link in self.links.items() if self._target(link) == target]
        else:
            number = self._number(self._input(target.node, target.name) or {})
            old = [] if number is None else [number]
        for number in old:
            self._unlink(number)
        if source is None:
            return
        number = self.counter.next_link()
        type_ = self._type(source)
        if target.node == OUTPUTS:
            slot = int(target.name)
        else:
            inputs = self.nodes[target.node].setdefault("inputs", [])
            slot = next((i for i, each in enumerate(inputs) if each["name"] == target.name), len(inputs))
            if slot == len(inputs):  # a widget that the page saved no socket for
                inputs.append({"name": target.name, "type": type_, "widget": {"name": target.name}})
            inputs[slot]["link"] = number
        self.links[number], self._numbers[str(number)] = _Link(source, target.node, slot, type_, None), number

    def _type(self, source: Source) -> Any:
        ends = self.data["inputs"] if source.node == INPUTS else self.nodes[source.node].get("outputs") or []
        if source.slot < len(ends):
            return ends[source.slot]["type"]
        return next((link.type for link in self.links.values() if link.origin == source), "*")

    def set_value(self, node: NodeId, name: str, value: Any) -> None:
        """Change a widget's value by place and by name."""
        data = self.nodes[node]
        names = WIDGETS[data["type"]]
        data["widgets_values"][names.index(name)] = value
        if "widgets_values_named" in data:
            data["widgets_values_named"][name] = value

    def _place(self, column: int, row: int) -> list[float]:
        return [self._left + column * (NODE_WIDTH + GAP), self._top + row]

    def add(self, kind: str, title: str, inputs: dict[str, Any], column: int = 0, row: int = 0) -> NodeId:
        """Add a node below the graph; `row` is in pixels."""
        definition, new = ADDED[kind], self.counter.next_node()
        ordered = sorted(definition.inputs, key=lambda each: each.is_widget)
        values: dict[str, Any] = {}
        for each in definition.inputs:
            if each.is_widget:
                given = inputs.get(each.name, each.default)
                given = given.value if isinstance(given, Connected) else given
                values[each.name] = each.default if isinstance(given, Source) else given
        named = {name: values.get(name, "fixed") for name in definition.widgets}
        node = {
            "id": new,
            "type": kind,
            "pos": self._place(column, row),
            "size": [NODE_WIDTH, height_of(kind)],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": [
                {
                    "name": each.name,
                    **({"shape": 7} if each.optional else {}),
                    "type": each.type,
                    **({"widget": {"name": each.name}} if each.is_widget else {}),
                    "link": None,
                }
                for each in ordered
            ],
            "outputs": [{"name": name, "type": type_, "links": []} for name, type_ in definition.outputs],
            "title": title,
            "properties": {"Node name for S&R": kind, "cnr_id": definition.pack},
            "widgets_values": list(named.values()),
            "widgets_values_named": named,
        }
        self.nodes[new] = node
        self.added.append(new)
        for name, value in inputs.items():
            source = value.source if isinstance(value, Connected) else value
            if isinstance(source, Source):
                self.connect(Target(new, name), source)
        return new

    def add_seed(self, value: int, control: str, row: int = 0) -> NodeId:
        """Add the page's own PrimitiveNode for a seed, which changes between runs in the seed's range.

        Args:
            value: The seed.
            control: How it changes, as the page names it.
            row: Its place from the top, left of the other added nodes.

        Returns:
            Its id.
        """
        new = self.counter.next_node()
        self.nodes[new] = {
            "id": new,
            "type": "PrimitiveNode",
            "pos": self._place(-1, row),
            "size": [NODE_WIDTH, height_of("PrimitiveInt")],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": [],
            "outputs": [{"name": "INT", "type": "INT", "widget": {"name": "seed"}, "links": []}],
            "title": "seed",
            "properties": {"Run widget replace on values": False},
            "widgets_values": [value, control],
        }
        self.added.append(new)
        return new

    def new_block(self) -> None:
        """Start a block of added nodes below the former ones."""
        self._top = max([self._top, *(_box(self.nodes[node])[3] + 120 for node in self.added)])

    def duplicate(self, node: NodeId, column: int = 0, row: int = 0) -> NodeId:
        """Add a copy below the graph."""
        new, data = self.counter.next_node(), copy.deepcopy(self.nodes[node])
        data |= {"id": new, "pos": self._place(column, row), "size": [NODE_WIDTH, self.height(node)]}
        for each in data.get("inputs") or []:
            each["link"] = None
        for each in data.get("outputs") or []:
            each["links"] = []
        self.nodes[new] = data
        self.added.append(new)
        for name, source in list(self.sources(node)):
            self.connect(Target(new, name), source)
        return new

    def height(self, node: NodeId) -> float:
        """That of its box."""
        _, top, _, bottom = _box(self.nodes[node])
        return bottom - top

    def remove(self, node: NodeId) -> None:
        """Take a node out, with its links."""
        for number in [each for each, link in self.links.items() if node in (link.origin.node, link.target)]:
            self._unlink(number)
        del self.nodes[node]
        self.added = [each for each in self.added if each != node]
        self.removed.add(node)

    def store(self, group: str) -> None:
        """Write the changes into `data`.

        Args:
            group: The title of a group around the added nodes.
        """
        if not (self.added or self.removed):
            return
        data = self.data
        data["nodes"] = list(self.nodes.values())
        as_dicts = "inputNode" in data or any(isinstance(raw, dict) for raw in data.get("links") or [])
        data["links"] = [link.raw or _raw(number, link, as_dicts) for number, link in self.links.items()]
        leaving: dict[Source, list[NodeId]] = {}
        arriving: dict[int, list[NodeId]] = {}
        for number, link in self.links.items():
            leaving.setdefault(link.origin, []).append(number)
            if link.target == OUTPUTS:
                arriving.setdefault(link.slot, []).append(number)
        for node in data["nodes"]:
            for slot, output in enumerate(node.get("outputs") or []):
                numbers = leaving.get(Source(node["id"], slot), [])
                if (output.get("links") or []) != numbers:
                    output["links"] = _in_order(output.get("links"), numbers)
        if "inputNode" in data:
            for slot, each in enumerate(data.get("inputs") or []):
                each["linkIds"] = _in_order(each.get("linkIds"), leaving.get(Source(INPUTS, slot), []))
            for slot, each in enumerate(data.get("outputs") or []):
                each["linkIds"] = _in_order(each.get("linkIds"), arriving.get(slot, []))
        extra = data.get("extra") or {}
        now = {str(number) for number in self.links}
        if isinstance(extra.get("linkExtensions"), list):
            kept = [each for each in extra["linkExtensions"] if isinstance(each, dict) and str(each.get("id")) in now]
            extra["linkExtensions"] = kept
        for reroutes in (extra.get("reroutes"), data.get("reroutes")):
            for reroute in reroutes if isinstance(reroutes, list) else []:
                if isinstance(reroute, dict) and isinstance(reroute.get("linkIds"), list):
                    reroute["linkIds"] = [each for each in reroute["linkIds"] if str(each) in now]
        self._store_order()
        if self.added:
            boxes = [_box(self.nodes[node]) for node in self.added]
            left, top = min(box[0] for box in boxes) - 20, min(box[1] for box in boxes) - 80
            size = [max(box[2] for box in boxes) + 20 - left, max(box[3] for box in boxes) + 20 - top]
            groups = data["groups"] = data.get("groups") or []
            number = max((each["id"] for each in groups if isinstance(each.get("id"), int)), default=0) + 1
            groups.append(
                {"id": number, "title": group, "bounding": [left, top, *size], "color": "#3f789e", "flags": {}}
            )

    def _store_order(self) -> None:
        """The order in which nodes run, of which the page takes the place in its list of steps."""
        depth: dict[NodeId, int] = {}
        waiting = {node: {source.node for _, source in self.sources(node)} & self.nodes.keys() for node in self.nodes}
        while waiting:
            ready = [node for node, before in waiting.items() if before <= depth.keys()] or list(waiting)[:1]
            for node in ready:
                depth[node] = len(depth)
                del waiting[node]
        for node, data in self.nodes.items():
            data["order"] = depth[node]


class Counter:
    """Numbers for new nodes and links, which no graph of a file has.

    Args:
        graphs: All graphs of the file.
    """

    def __init__(self, graphs: Iterable[dict[str, Any]]) -> None:
        self.node = self.link = 0
        for graph in graphs:
            state = graph.get("state") or {}
            nodes = [node["id"] for node in graph["nodes"]]
            links = [link["id"] if isinstance(link, dict) else link[0] for link in graph.get("links") or []]
            nodes += [graph.get("last_node_id"), state.get("lastNodeId")]
            links += [graph.get("last_link_id"), state.get("lastLinkId")]
            self.node = max(self.node, *map(_whole, nodes))
            self.link = max(self.link, *map(_whole, links))

    def next_node(self) -> int:
        """The id of a new node."""
        self.node += 1
        return self.node

    def next_link(self) -> int:
        """The id of a new link."""
        self.link += 1
        return self.link


def _whole(number: Any) -> int:
    """An id as a number; 0 for one that is none."""
    return int(number) if isinstance(number, int) or (isinstance(number, str) and number.isdecimal()) else 0


def height_of(kind: str) -> float:
    """About the height in pixels that the page gives a node."""
    definition = ADDED[kind]
    sockets = max(sum(not each.is_widget for each in definition.inputs), len(definition.outputs))
    height = 40.0 + 22 * sockets + 26 * len(definition.widgets) + 60 * (kind == "CLIPTextEncode")
    if "prompt_frames" not in definition.widgets:
        return height
    return height + (_MAP if "beta" in definition.widgets else _MAP_OF_NOISE)


def _box(node: dict[str, Any]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a node: places and sizes are lists, or mappings in older files."""
    place, size = node.get("pos") or [0, 0], node.get("size") or [200, 100]
    left, top = (place["0"], place["1"]) if isinstance(place, dict) else place[:2]
    width, height = (size["0"], size["1"]) if isinstance(size, dict) else size[:2]
    return left, top, left + width, top + height


def _values(node: dict[str, Any]) -> dict[str, Any]:
    """A node's widgets by name, as far as their names are known."""
    given = node.get("widgets_values")
    if isinstance(given, dict):
        return given
    names = WIDGETS.get(node["type"])
    if names is None:
        return node.get("widgets_values_named") or {}
    return dict(zip(names, given or [], strict=False))


def _raw(number: NodeId, link: _Link, as_dict: bool) -> Any:
    parts = (number, *link.origin, link.target, link.slot, link.type)
    return dict(zip(_LINK_PARTS, parts, strict=True)) if as_dict else list(parts)


def _in_order(old: list[NodeId] | None, now: list[NodeId]) -> list[NodeId]:
    kept = [each for each in old or [] if each in now]
    return kept + [each for each in now if each not in kept]
