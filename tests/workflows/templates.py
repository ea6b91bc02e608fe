"""ComfyUI's own templates, as a public package carries them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .files import nodes, read

PACKAGE = "comfyui-workflow-templates-json==0.1.123"
FOLDER = "comfyui_workflow_templates_json/templates"
SAVERS = ("CreateVideo", "SaveVideo", "SaveWEBM", "SaveAnimatedWEBP")


def video_templates(folder: Path) -> dict[str, dict[str, Any]]:
    """The templates that save videos, by file name; not those whose names begin with api_, which need an account."""
    found = {path.name: read(path) for path in sorted((folder / FOLDER).glob("*.json")) if path.name[:4] != "api_"}
    return {
        name: each
        for name, each in found.items()
        if isinstance(each, dict) and "nodes" in each and any(node["type"] in SAVERS for node in nodes(each))
    }
