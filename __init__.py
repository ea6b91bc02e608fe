"""VidRD for ComfyUI: the entry point of the node pack. Nodes are imported only when ComfyUI asks for them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> ComfyExtension:
    """The extension with the pack's nodes; ComfyUI calls this once at start."""
    _find_core()
    from .nodes import VidRDExtension

    return VidRDExtension()


def _find_core() -> None:
    """Make the `vidrd_core` beside this file importable without adding this folder to `sys.path`."""
    name, folder = "vidrd_core", Path(__file__).parent / "vidrd_core"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
