"""Run ComfyUI in this process: its nodes, node packs, and graphs through its own executor."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def begin(checkout: Path, base: Path) -> None:
    """Make the modules of a ComfyUI checkout importable, as `main.py --cpu` does.

    Args:
        checkout: The folder with `main.py`.
        base: The folder for models and output.
    """
    sys.path.insert(0, str(checkout))
    arguments, sys.argv = sys.argv, ["main.py", "--cpu", "--base-directory", str(base)]
    try:
        importlib.import_module("comfy.options").enable_args_parsing()
        importlib.import_module("comfy.cli_args")
        importlib.import_module("utils.extra_config")  # before comfy/utils.py takes that name
    finally:
        sys.argv = arguments


def executor(server: Any, cache: str = "", **sizes: float) -> Any:
    """ComfyUI's PromptExecutor, which reports progress and errors to `server`.

    Args:
        server: A stand-in for ComfyUI's server.
        cache: The name of its kind of cache; "" for the classic one.
        **sizes: Of the cache: `lru`, in entries; `ram` and `ram_inactive`, in GiB that it leaves free.
    """
    execution = importlib.import_module("execution")
    known = inspect.signature(execution.PromptExecutor.__init__).parameters
    extra = {"cache_args": {"lru": 0, "ram": 0, "ram_inactive": 0, **sizes}, "cache_size": sizes.get("lru")}
    given = {name: value for name, value in extra.items() if name in known}
    return execution.PromptExecutor(server, execution.CacheType[cache] if cache else False, **given)


class Server:
    """A stand-in for ComfyUI's server, as the executor needs it; it collects errors."""

    client_id, last_node_id, last_prompt_id = "benchmark", None, None

    def __init__(self) -> None:
        self.sockets_metadata: dict[str, Any] = {}
        self.errors: list[dict[str, Any]] = []

    def send_sync(self, event: str, data: Any, sid: str | None = None) -> None:
        """Receive an event of the executor."""
        if event == "execution_error":
            self.errors.append(data)

    def queue_updated(self) -> None:
        """Ignored: there is no page with a queue."""


class Host:
    """A running ComfyUI.

    Args:
        checkout: The folder with `main.py`.
        base: The folder for models and output.
        packs: Folders of node packs to load.

    Attributes:
        nodes: The node classes by id.
        output: The output folder.

    Raises:
        RuntimeError: A pack cannot be loaded.
    """

    def __init__(self, checkout: Path, base: Path, packs: Sequence[Path]) -> None:
        os.environ["VIDRD_KEEP_GB"] = "0"  # what is measured is made each time
        begin(checkout, base)
        host, self._execution = (importlib.import_module(name) for name in ("nodes", "execution"))
        server = importlib.import_module("server").PromptServer
        running = server(asyncio.new_event_loop())  # packs add their routes to it
        asyncio.run(host.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False))
        for pack in packs:
            if not asyncio.run(host.load_custom_node(str(pack), module_parent="custom_nodes")):
                raise RuntimeError(f"ComfyUI cannot load {pack}, see above")
        self.nodes: dict[str, Any] = host.NODE_CLASS_MAPPINGS
        self.output = Path(importlib.import_module("folder_paths").get_output_directory())
        threading.Thread(target=running.loop.run_until_complete, args=[running.publish_loop()], daemon=True).start()
        self._server = Server()
        self._runner = executor(self._server)

    def inputs(self, node: str) -> set[str]:
        """The names of a node's inputs."""
        return {name for kind in self.nodes[node].INPUT_TYPES().values() for name in kind}

    def fitting(self, graph: dict[str, Any]) -> dict[str, Any]:
        """A graph without the inputs that this version's nodes do not have."""
        return {
            key: {**each, "inputs": {k: v for k, v in each["inputs"].items() if k in self.inputs(each["class_type"])}}
            for key, each in graph.items()
        }

    def run(self, graph: dict[str, Any]) -> None:
        """Validate and run a graph in API format. Raises RuntimeError if it is invalid or fails."""
        valid, error, outputs, by_node = asyncio.run(self._execution.validate_prompt("id", graph, None))
        if not valid:
            raise RuntimeError(f"ComfyUI refuses the graph: {error} {by_node}")
        self._server.errors.clear()
        self._runner.execute(graph, "id", {"client_id": Server.client_id}, outputs)
        if self._server.errors:
            error = self._server.errors[0]
            raise RuntimeError(f"{error['node_type']}: {error['exception_message']}")
