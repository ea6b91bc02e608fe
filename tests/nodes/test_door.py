"""The node pack as ComfyUI loads it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..stand_in import definitions, describe

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


def test_the_entry_point_imports_without_comfyui():
    ended = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_all_node_ids_are_literals_in_the_source():
    """Registries find nodes by reading it."""
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "nodes").glob("*.py"))
    assert sorted(re.findall(r'node_id="(\w+)"', source)) == sorted(definitions())


def test_the_stand_in_gives_the_definitions_of_a_real_host():
    """Apart from options that only this host has, and fields that the stand-in's version does not have."""
    checkout = os.environ.get("COMFYUI_PATH")
    if not checkout:
        pytest.skip("COMFYUI_PATH names no ComfyUI checkout")
    host = describe("--host", checkout)["definitions"]
    assert host.keys() == definitions().keys()
    for name, ours in definitions().items():
        theirs = {field: value for field, value in host[name].items() if field in ours}
        assert without_choices(theirs) == without_choices(ours)
        for given, known in zip(choices(ours), choices(theirs), strict=True):
            assert set(given) <= set(known), name


def choices(definition):
    """The options of a node's inputs."""
    configs = [config for kind in definition["input"].values() for _, *rest in kind.values() for config in rest]
    return [config["options"] for config in configs if "options" in config]


def without_choices(definition):
    """A definition without the options of its inputs; "fixed", as newer hosts say of seeds, is True."""

    def plain(config):
        config = {**config, "options": None} if "options" in config else config
        control = config.get("control_after_generate")
        return {**config, "control_after_generate": bool(control)} if control else config

    inputs = {
        kind: {name: [type_, *map(plain, rest)] for name, (type_, *rest) in named.items()}
        for kind, named in definition["input"].items()
    }
    return {**definition, "input": inputs}
