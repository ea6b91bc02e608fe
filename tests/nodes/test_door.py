"""The package as ComfyUI imports it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..stand_in import definitions, told

ROOT = Path(__file__).parents[2]
ALONE = f"""
import inspect, sys
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("pack", {str(ROOT / "__init__.py")!r}, submodule_search_locations=[{str(ROOT)!r}])
door = module_from_spec(spec)
spec.loader.exec_module(door)
assert inspect.iscoroutinefunction(door.comfy_entrypoint)
assert door.WEB_DIRECTORY == "./web"
assert not {{"comfy", "comfy_api", "torch", "vidrd_core"}} & set(sys.modules)
"""


def test_the_package_imports_without_comfyui():
    ended = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_the_extension_lists_all_nodes():
    """Their ids are literals in the source, as registries find nodes by reading it."""
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "nodes").glob("*.py"))
    assert sorted(re.findall(r'node_id="(\w+)"', source)) == sorted(definitions())


def test_the_stand_in_gives_the_same_definitions_as_comfyui():
    """Apart from choices that only this ComfyUI has, and fields unknown to the stand-in's version."""
    checkout = os.environ.get("COMFYUI_PATH")
    if not checkout:
        pytest.skip("COMFYUI_PATH names no ComfyUI checkout")
    host = told("--host", checkout)["definitions"]
    assert host.keys() == definitions().keys()
    for name, ours in definitions().items():
        theirs = {field: value for field, value in host[name].items() if field in ours}
        assert without_choices(theirs) == without_choices(ours)
        for given, known in zip(choices(ours), choices(theirs), strict=True):
            assert set(given) <= set(known), name


def choices(definition):
    """The options of a node's inputs."""
    return [said["options"] for kind in definition["input"].values() for _, *rest in kind.values() for said in rest
            if "options" in said]  # fmt: skip


def without_choices(definition):
    """A definition without the options of its inputs."""
    inputs = {
        kind: {
            name: [type_, *({**said, "options": None} if "options" in said else said for said in rest)]
            for name, (type_, *rest) in named.items()
        }
        for kind, named in definition["input"].items()
    }
    return {**definition, "input": inputs}
