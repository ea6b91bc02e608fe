"""ComfyUI in this process: its own nodes and packs of nodes, and graphs run by its own executor."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def begin(checkout: Path, base: Path) -> None:
    """Make a checkout's modules importable, as `main.py --cpu` does; models and output are in `base`."""
    sys.path.insert(0, str(checkout))
    arguments, sys.argv = sys.argv, ["main.py", "--cpu", "--base-directory", str(base)]
    try:
        importlib.import_module("comfy.options").enable_args_parsing()
        importlib.import_module("comfy.cli_args")
        importlib.import_module("utils.extra_config")  # before comfy/utils.py bears that name
    finally:
        sys.argv = arguments


def executor(server: Any) -> Any:
    """The host's PromptExecutor, which tells `server` how it goes."""
    kind = importlib.import_module("execution").PromptExecutor
    known = inspect.signature(kind.__init__).parameters
    extra = {"cache_args": {"lru": 0, "ram": 0, "ram_inactive": 0}}
    return kind(server, **{name: value for name, value in extra.items() if name in known})


class Server:
    """What the executor needs of the server: it keeps what went wrong."""

    client_id, last_node_id, last_prompt_id = "benchmark", None, None

    def __init__(self) -> None:
        self.sockets_metadata: dict[str, Any] = {}
        self.errors: list[dict[str, Any]] = []

    def send_sync(self, event: str, data: Any, sid: str | None = None) -> None:
        if event == "execution_error":
            self.errors.append(data)

    def queue_updated(self) -> None:
        """The page would redraw its queue."""


class Host:
    """A running host. `nodes` are those it knows, by name."""

    def __init__(self, checkout: Path, base: Path, packs: Sequence[Path]) -> None:
        begin(checkout, base)
        host, self._execution = (importlib.import_module(name) for name in ("nodes", "execution"))
        server = importlib.import_module("server").PromptServer
        server(asyncio.new_event_loop())  # packs add their routes to it
        asyncio.run(host.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False))
        for pack in packs:
            if not asyncio.run(host.load_custom_node(str(pack), module_parent="custom_nodes")):
                raise RuntimeError(f"ComfyUI cannot load {pack}, see above")
        self.nodes: dict[str, Any] = host.NODE_CLASS_MAPPINGS
        self.output = Path(importlib.import_module("folder_paths").get_output_directory())
        self._server = Server()
        self._runner = executor(self._server)

    def inputs(self, node: str) -> set[str]:
        """The inputs that a node takes."""
        return {name for kind in self.nodes[node].INPUT_TYPES().values() for name in kind}

    def fitting(self, graph: dict[str, Any]) -> dict[str, Any]:
        """A graph without inputs that this host's nodes do not take."""
        return {
            key: {**each, "inputs": {k: v for k, v in each["inputs"].items() if k in self.inputs(each["class_type"])}}
            for key, each in graph.items()
        }

    def run(self, graph: dict[str, Any]) -> None:
        """Validate and run a graph as the host's API has it. Raises RuntimeError for what the host refuses."""
        valid, error, outputs, by_node = asyncio.run(self._execution.validate_prompt("id", graph, None))
        if not valid:
            raise RuntimeError(f"ComfyUI refuses the graph: {error} {by_node}")
        self._server.errors.clear()
        self._runner.execute(graph, "id", {"client_id": Server.client_id}, outputs)
        if self._server.errors:
            told = self._server.errors[0]
            raise RuntimeError(f"{told['node_type']}: {told['exception_message']}")
