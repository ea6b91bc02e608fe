"""The host's nodes that patch a MODEL, on ours: what the table in docs/comfyui.md says of each."""

import asyncio
import importlib
import re
from pathlib import Path

import pytest

TABLE = Path(__file__).parents[2] / "docs" / "comfyui.md"
SIMPLE = ("INT", "FLOAT", "STRING", "BOOLEAN")


def told():
    """Each node's verdict in the table: acts, no effect, or refused."""
    text = TABLE.read_text(encoding="utf-8").partition("<!-- patches -->")[2].partition("<!-- end of patches -->")[0]
    rows = re.findall(r"^\| (acts|no effect|refused) \| (.*?) \|", text, re.MULTILINE)
    return [(node, verdict) for verdict, nodes in rows for node in nodes.split(", ")]


@pytest.fixture(scope="module")
def every_node(host):
    module = importlib.import_module("nodes")
    extra = getattr(module, "init_builtin_extra_nodes", None)
    asyncio.run(extra())
    return module.NODE_CLASS_MAPPINGS


def defaults(node, model):
    """The inputs of a node, at their defaults."""
    inputs = node.INPUT_TYPES()
    given = {}
    for name, (kind, *options) in {**inputs["required"], **inputs.get("optional", {})}.items():
        options = options[0] if options else {}
        choices = kind if isinstance(kind, (list, tuple)) else options.get("options")
        if kind == "MODEL":
            given[name] = model
        elif choices:
            given[name] = options.get("default", choices[0])
        elif kind in SIMPLE:
            given[name] = options.get("default", {"STRING": "", "BOOLEAN": False}.get(kind, 0))
    return given


def patched(node, model):
    """The MODEL that a node makes."""
    out = node.execute(**defaults(node, model)) if hasattr(node, "GET_SCHEMA") else None
    if out is None:
        made = node()
        out = getattr(made, node.FUNCTION)(**defaults(node, model))
    return next(each for each in getattr(out, "args", out) if hasattr(each, "model_options"))


@pytest.mark.parametrize(("name", "verdict"), told())
def test_it_does_what_the_table_says(every_node, tiny, sample, name, verdict):
    if name not in every_node:
        pytest.skip(f"this host has no {name}")
    if verdict == "refused":
        with pytest.raises((ValueError, KeyError)) as error:
            sample(patched(every_node[name], tiny.model))
        assert str(error.value).startswith("VidRD's UNet3D")
        return
    change = (sample(patched(every_node[name], tiny.model)) - sample()).abs().max()
    assert (change > 1e-2) == (verdict == "acts")
    assert change.isfinite()


def test_the_table_is_there():
    assert len(told()) > 25
