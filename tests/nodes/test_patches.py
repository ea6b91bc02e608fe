"""The host's nodes that patch a MODEL, on ours: what the table in docs/comfyui.md says of each."""

import asyncio
import importlib
import re
from pathlib import Path

import pytest

TABLE = Path(__file__).parents[2] / "docs" / "comfyui.md"
SIMPLE = ("INT", "FLOAT", "STRING", "BOOLEAN")
WINDOW = {"context_overlap": 2, "freenoise": False}
ALL_STEPS = {"start_percent": 0.0, "end_percent": 1.0}
SET = {  # inputs by node, with which it changes a model that it can reach
    "FreSca": {"scale_low": 2.0, "scale_high": 3.0},
    "UNetCrossAttentionMultiply": {"q": 2.0, "k": 2.0, "v": 2.0, "out": 2.0},
    "UNetSelfAttentionMultiply": {"q": 2.0, "k": 2.0, "v": 2.0, "out": 2.0},
    "UNetTemporalAttentionMultiply": {"self_structural": 2.0, "self_temporal": 2.0},
    "ContextWindowsManual": {**WINDOW, "context_length": 4, "dim": 2},
    "WanContextWindowsManual": {**WINDOW, "context_length": 13},
    "EasyCache": {"reuse_threshold": 1.0, **ALL_STEPS},
    "HyperTile": {"tile_size": 16, "swap_size": 4, "max_depth": 3, "scale_depth": True},
    "NAGuidance": {"nag_scale": 10.0},
    "PatchModelAddDownscale": {"block_number": 1, "downscale_factor": 2.0, **ALL_STEPS},
    "SkipLayerGuidanceDiT": {"double_layers": "0,1", "single_layers": "0,1", "scale": 5.0, **ALL_STEPS},
    "SkipLayerGuidanceDiTSimple": {"double_layers": "0,1", "single_layers": "0,1", **ALL_STEPS},
    "SkipLayerGuidanceSD3": {"layers": "0,1", "scale": 5.0, **ALL_STEPS},
    "TomePatchModel": {"ratio": 0.9},
}


def told():
    """Each node's verdict in the table: acts, acts if set, no effect, or refused."""
    text = TABLE.read_text(encoding="utf-8").partition("<!-- patches -->")[2].partition("<!-- end of patches -->")[0]
    rows = re.findall(r"^\| (acts|acts if set|no effect|refused) \| (.*?) \|", text, re.MULTILINE)
    return [(node, verdict) for verdict, nodes in rows for node in nodes.split(", ")]


@pytest.fixture(scope="module")
def every_node(host):
    module = importlib.import_module("nodes")
    extra = getattr(module, "init_builtin_extra_nodes", None)
    asyncio.run(extra())
    return module.NODE_CLASS_MAPPINGS


def inputs_of(node, model, changes):
    """The inputs of a node, at their defaults but for changes; older hosts lack some."""
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
    return given | {name: value for name, value in changes.items() if name in given}


def patched(node, model, **changes):
    """The MODEL that a node makes."""
    given = inputs_of(node, model, changes)
    out = node.execute(**given) if hasattr(node, "GET_SCHEMA") else None
    if out is None:
        made = node()
        out = getattr(made, node.FUNCTION)(**given)
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
    if name in SET:
        changed = (sample(patched(every_node[name], tiny.model, **SET[name])) - sample()).abs().max()
        assert (changed > 1e-2) == (verdict == "acts if set")


@pytest.mark.parametrize("name", ["ContextWindowsManual", "WanContextWindowsManual"])
def test_extend_takes_windows_without_freenoise_along_the_frames(every_node, tiny, run, name):
    if name not in every_node or "freenoise" not in inputs_of(every_node[name], tiny.model, {}):
        pytest.skip(f"this host has no {name} with freenoise")
    given = {"positive": tiny.positive[0], "negative": tiny.negative, "latent": tiny.latent, "seed": 3, "steps": 2}
    given |= {"cfg": 2.5, "sampler_name": "euler", "scheduler": "normal", "prompt_frames": 4, "alpha": 4.0}
    given |= {"beta": 1.0, "order": "forward"}

    def made(**changes):
        model = patched(every_node[name], tiny.model, **{**SET[name], **changes})
        return run("Extend", **given, model=model)[1]["samples"]

    plain = run("Extend", **given, model=tiny.model)[1]["samples"]
    assert (made() - plain).abs().max() > 1e-2
    with pytest.raises(ValueError, match="turn freenoise off"):
        made(freenoise=True)
    if name == "ContextWindowsManual":
        assert (made(dim=0) - plain).abs().max() < 1e-2


def test_the_table_is_there():
    assert len(told()) > 25
    assert SET.keys() == {name for name, verdict in told() if verdict in ("acts if set", "no effect")} - {
        "TorchCompileModel"
    }
