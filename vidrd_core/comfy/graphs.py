"""A graph of ComfyUI's nodes that can be read and changed, and its API form: {node id: {class_type, inputs}}."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

from vidrd_core.comfy.definitions import ADDED

NodeId = int | str
INPUTS, OUTPUTS = -10, -20  # the ids of a subgraph's ends
NEVER, BYPASS = 2, 4  # modes of a node


class WorkflowError(ValueError):
    """A file that is no workflow, or one that cannot be rewritten.

    Args:
        reason: Why, in a few words, as "two samplers in a row"; "" for a file that is none.
        message: The whole message, which names the node.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Source(NamedTuple):
    """An output of a node, or an input of the subgraph (`INPUTS`)."""

    node: NodeId
    slot: int


class Connected(NamedTuple):
    """A widget that is connected, and the value that it keeps for when it is not."""

    source: Source
    value: Any


class Target(NamedTuple):
    """An input of a node, or an output of the subgraph (`OUTPUTS`; its name is then the slot)."""

    node: NodeId
    name: str


class Graph(ABC):
    """A graph of nodes that can be read and changed. Ids are those of the file."""

    @abstractmethod
    def ids(self) -> list[NodeId]:
        """All nodes, in the order of the file."""

    @abstractmethod
    def has(self, node: NodeId) -> bool:
        """Whether there is such a node."""

    @abstractmethod
    def kind(self, node: NodeId) -> str:
        """A node's type."""

    @abstractmethod
    def title(self, node: NodeId) -> str:
        """The title that a user gave a node; "" without one."""

    @abstractmethod
    def mode(self, node: NodeId) -> int:
        """0 for a node that runs, else `NEVER` or `BYPASS`."""

    @abstractmethod
    def linked(self, node: NodeId) -> list[str]:
        """The names of a node's connected inputs."""

    @abstractmethod
    def source(self, node: NodeId, name: str) -> Source | None:
        """What an input is connected to."""

    @abstractmethod
    def value(self, node: NodeId, name: str) -> Any:
        """The value of a widget, also if it is connected; None if there is none or it is not known."""

    @abstractmethod
    def targets(self, source: Source) -> list[Target]:
        """The inputs that an output is connected to."""

    @abstractmethod
    def connect(self, target: Target, source: Source | None) -> None:
        """Connect an input, in place of what it was connected to; None disconnects it."""

    @abstractmethod
    def set_value(self, node: NodeId, name: str, value: Any) -> None:
        """Change the value of a widget."""

    @abstractmethod
    def add(self, kind: str, title: str, inputs: dict[str, Any], column: int = 0, row: int = 0) -> NodeId:
        """Add a node of `ADDED`.

        Args:
            kind: Its type.
            title: Its title.
            inputs: Values of widgets; the `Source` of those inputs that are connected, or a `Connected`.
            column: Its place among the added nodes, from the left.
            row: Its place, from the top.

        Returns:
            Its id.
        """

    @abstractmethod
    def duplicate(self, node: NodeId, column: int = 0, row: int = 0) -> NodeId:
        """Add another node like this one, with the same connections of its inputs."""

    @abstractmethod
    def height(self, node: NodeId) -> float:
        """The height of a node in pixels, with its title; 0 where nodes have no place."""

    @abstractmethod
    def remove(self, node: NodeId) -> None:
        """Remove a node and its links."""

    @abstractmethod
    def new_block(self) -> None:
        """Place the nodes that are added from now on below those that were added before."""

    def redirect(self, old: Source, new: Source) -> None:
        """Connect all that an output is connected to to another output."""
        for target in self.targets(old):
            self.connect(target, new)

    def used(self, node: NodeId) -> bool:
        """Whether anything uses one of a node's outputs."""
        return any(self.targets(Source(node, slot)) for slot in range(8))

    def sources(self, node: NodeId) -> Iterator[tuple[str, Source]]:
        """A node's connected inputs, by name."""
        for name in self.linked(node):
            source = self.source(node, name)
            if source is not None:
                yield name, source

    def given(self, node: NodeId, name: str) -> Any:
        """What an input has: a `Source` or `Connected` if it is connected, else the value of its widget, or None."""
        source, value = self.source(node, name), self.value(node, name)
        if source is None:
            return value
        return source if value is None else Connected(source, value)


class PromptGraph(Graph):
    """A prompt, as the API takes it.

    Args:
        data: {node id: {class_type, inputs}}; it is changed in place.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def ids(self) -> list[NodeId]:
        """All nodes."""
        return [key for key in self.data if self.has(key)]

    def has(self, node: NodeId) -> bool:
        """Whether its id is the key of a node."""
        each = self.data.get(str(node))
        return isinstance(each, dict) and "class_type" in each

    def kind(self, node: NodeId) -> str:
        """Its class."""
        return self.data[str(node)]["class_type"]

    def title(self, node: NodeId) -> str:
        """Its title, where the page has saved one."""
        told = self.data[str(node)].get("_meta")
        return str(told.get("title") or "") if isinstance(told, dict) else ""

    def mode(self, node: NodeId) -> int:
        """0: all nodes of a prompt run."""
        return 0

    def linked(self, node: NodeId) -> list[str]:
        """Inputs whose value is [node, slot]."""
        inputs = self.data[str(node)].get("inputs") or {}
        return [name for name, value in inputs.items() if self._link(value)]

    def _link(self, value: Any) -> Source | None:
        if not isinstance(value, list) or len(value) != 2 or type(value[1]) is not int:
            return None
        node = str(value[0])  # a text is the id of a node to hosts, also if there is no such node
        return Source(node, value[1]) if isinstance(value[0], str) or node in self.data else None

    def source(self, node: NodeId, name: str) -> Source | None:
        """The node and slot that an input names."""
        return self._link((self.data[str(node)].get("inputs") or {}).get(name))

    def value(self, node: NodeId, name: str) -> Any:
        """The value of an input that is no link."""
        value = (self.data[str(node)].get("inputs") or {}).get(name)
        return None if self._link(value) else value

    def targets(self, source: Source) -> list[Target]:
        """The inputs that name an output."""
        return [
            Target(node, name)
            for node in self.ids()
            for name in self.linked(node)
            if self.source(node, name) == source
        ]

    def connect(self, target: Target, source: Source | None) -> None:
        """Write a link into an input, or take it out."""
        inputs = self.data[str(target.node)]["inputs"]
        if source is None:
            inputs.pop(target.name, None)
        else:
            inputs[target.name] = [str(source.node), source.slot]

    def set_value(self, node: NodeId, name: str, value: Any) -> None:
        """Write a value into an input."""
        self.data[str(node)]["inputs"][name] = value

    def _new_id(self) -> str:
        parts = [int(part) for key in self.data for part in key.split(":") if part.isdecimal()]
        return str(max(parts, default=0) + 1)

    def add(self, kind: str, title: str, inputs: dict[str, Any], column: int = 0, row: int = 0) -> NodeId:
        """Add a node; its place means nothing here."""
        given: dict[str, Any] = {each.name: each.default for each in ADDED[kind].inputs if each.is_widget}
        for name, value in inputs.items():
            source = value.source if isinstance(value, Connected) else value
            given[name] = [str(source.node), source.slot] if isinstance(source, Source) else value
        new = self._new_id()
        self.data[new] = {"inputs": given, "class_type": kind, "_meta": {"title": title}}
        return new

    def new_block(self) -> None:
        """Nothing: nodes have no place here."""

    def duplicate(self, node: NodeId, column: int = 0, row: int = 0) -> NodeId:
        """Add a copy."""
        new = self._new_id()
        self.data[new] = copy.deepcopy(self.data[str(node)])
        return new

    def height(self, node: NodeId) -> float:
        """Nothing: nodes have no place here."""
        return 0.0

    def remove(self, node: NodeId) -> None:
        """Take a node out, and the inputs that name it."""
        for other in self.ids():
            for name, source in list(self.sources(other)):
                if source.node == node:
                    self.connect(Target(other, name), None)
        del self.data[str(node)]
