"""Print the definitions of our nodes as JSON, with the stand-in or with a ComfyUI checkout."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import inspect
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
METHODS = ("execute", "validate_inputs", "fingerprint_inputs")


def load_pack() -> list[Any]:
    """Our nodes, loaded through the pack's entry point as ComfyUI does."""
    spec = importlib.util.spec_from_file_location(
        "custom_nodes_vidrd", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    entry = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = entry
    spec.loader.exec_module(entry)
    nodes = asyncio.run(asyncio.run(entry.comfy_entrypoint()).get_node_list())
    nodes = [node for node in nodes if not node.GET_SCHEMA().is_deprecated]  # those that others expand into
    for node in nodes:
        node.RELATIVE_PYTHON_MODULE = "custom_nodes.vidrd"
    return nodes


def start_host(checkout: str, folder: str) -> Any:
    """ComfyUI's module `nodes`, with its extra nodes loaded."""
    sys.path[0] = checkout  # in place of the stand-in
    sys.argv = ["main.py", "--cpu", "--base-directory", folder]
    importlib.import_module("comfy.options").enable_args_parsing()
    importlib.import_module("utils.extra_config")  # as main.py does, before comfy/utils.py takes that name
    nodes = importlib.import_module("nodes")
    asyncio.run(nodes.init_builtin_extra_nodes())
    return nodes


def stock_definition(nodes: Any, name: str) -> dict[str, Any]:
    """The definition of a stock node."""
    node = nodes.NODE_CLASS_MAPPINGS[name]
    if hasattr(node, "GET_NODE_INFO_V1"):
        return node.GET_NODE_INFO_V1()
    inputs = node.INPUT_TYPES()
    return {
        "input": inputs,
        "input_order": {kind: list(named) for kind, named in inputs.items()},
        "output": node.RETURN_TYPES,
        "output_is_list": getattr(node, "OUTPUT_IS_LIST", [False] * len(node.RETURN_TYPES)),
        "output_name": getattr(node, "RETURN_NAMES", node.RETURN_TYPES),
        "name": name,
        "display_name": nodes.NODE_DISPLAY_NAME_MAPPINGS.get(name, name),
        "description": "",
        "python_module": getattr(node, "RELATIVE_PYTHON_MODULE", "nodes"),
        "category": node.CATEGORY,
        "output_node": getattr(node, "OUTPUT_NODE", False),
    }


def taken(node: Any, method: str) -> dict[str, Any]:
    """The parameters of a method: named ones, required ones, and whether it accepts others."""
    parameters = inspect.signature(getattr(node, method, lambda **_: None)).parameters.values()
    named = [each for each in parameters if each.kind is not each.VAR_KEYWORD]
    return {
        "named": [each.name for each in named],
        "needed": [each.name for each in named if each.default is each.empty],
        "others": len(named) < len(parameters),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", help="a ComfyUI checkout; run this with its Python")
    parser.add_argument("--stock", nargs="*", default=[], help="stock nodes to define as well")
    arguments = parser.parse_args()
    output = sys.stdout
    sys.stdout = sys.stderr  # the host prints to stdout
    with tempfile.TemporaryDirectory() as folder:
        if arguments.host:
            stock = start_host(arguments.host, folder)
        else:
            importlib.import_module("modules").install()
        nodes = load_pack()
        by_id = {node.GET_SCHEMA().node_id: node for node in nodes}
        described = {
            "definitions": {name: node.GET_NODE_INFO_V1() for name, node in by_id.items()},
            "taken": {name: {method: taken(node, method) for method in METHODS} for name, node in by_id.items()},
            "stock": {name: stock_definition(stock, name) for name in arguments.stock},
        }
    json.dump(described, output)


if __name__ == "__main__":
    main()
