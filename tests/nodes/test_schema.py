"""The nodes' definitions, as ComfyUI's /object_info serves them."""

import pytest

from ..stand_in import definitions, describe
from ..workflows.slots import slots
from .inputs import order, recorded

PAPER = {"steps": 50, "cfg": 10.0, "prompt_frames": 4, "alpha": 4.0, "beta": 0.4, "order": "auto"}
PAPER_SIZE = {"width": 256, "height": 256, "frames": 8}


@pytest.fixture(scope="module")
def nodes():
    """The nodes' definitions by id."""
    return definitions()


def test_every_node_has_a_name_a_category_and_a_description(nodes):
    names = [node["display_name"] for node in nodes.values()]
    assert len(set(names)) == len(names)
    for name, node in nodes.items():
        assert node["name"] == name
        assert name.startswith("VidRD_")
        assert node["display_name"]
        assert node["category"].split("/")[0] == "VidRD"
        assert len(node["description"]) > 40, name


def test_every_input_has_a_tooltip(nodes):
    for name, node in nodes.items():
        for each in slots(node):
            assert each.config.get("tooltip", "").endswith("."), (name, each.name)


def test_outputs_can_be_distinguished(nodes):
    """A single output needs no tooltip; each of several, and each state, has one."""
    for name, node in nodes.items():
        assert len(set(node["output_name"])) == len(node["output_name"]), name
        for output, type_, tooltip in zip(node["output_name"], node["output"], node["output_tooltips"], strict=True):
            assert tooltip or (len(node["output"]) == 1 and type_ != "VIDRD_STATE"), (name, output)


def test_defaults_are_valid_values(nodes):
    for name, node in nodes.items():
        for each in filter(lambda each: each.is_widget, slots(node)):
            where, config = (name, each.name), each.config
            if each.type in ("INT", "FLOAT"):
                assert config["min"] <= config["default"] <= config["max"], where
                grid = config.get("step", 1) if each.type == "INT" else config["round"]
                for value in (config["default"], config["min"], config["max"]):
                    assert value / grid == pytest.approx(round(value / grid)), where
            elif each.type == "COMBO":
                assert len(set(config["options"])) == len(config["options"]) > 0, where
                assert config.get("default", config["options"][0]) in config["options"], where
            else:
                assert "default" in config, where


def test_seeds_have_control_after_generate(nodes):
    seeds = [each for node in nodes.values() for each in slots(node) if each.type == "INT" and "seed" in each.name]
    assert len(seeds) >= 3
    for each in seeds:
        assert each.config["control_after_generate"] is True
        assert (each.config["min"], each.config["max"]) == (0, 0xFFFFFFFFFFFFFFFF)


def test_defaults_are_the_papers(nodes):
    for name, paper in (("VidRD_Extend", PAPER), ("VidRD_EmptyClip", PAPER_SIZE)):
        defaults = {each.name: each.config.get("default") for each in slots(nodes[name])}
        assert defaults | paper == defaults


def test_inputs_of_one_name_are_alike(nodes):
    """They have the same type, and settings of the method the same default."""
    seen = {}
    for name, node in nodes.items():
        for each in slots(node):
            default = each.config.get("default") if each.name in PAPER else None
            assert seen.setdefault(each.name, (each.type, default)) == (each.type, default), (name, each.name)


def test_the_built_in_model_comes_first(nodes):
    for name in ("LoadUNet3D", "LoadTemporalVAE", "LoadTextEncoder", "InflateCheckpoint"):
        for each in slots(nodes[f"VidRD_{name}"]):
            if each.name in ("file", "temporal"):
                assert each.config["options"][0] == each.config["default"] == "tiny (built in)"


def test_methods_accept_the_inputs_of_their_schema(nodes):
    for name, methods in describe()["taken"].items():
        inputs = {each.name for each in slots(nodes[name])}
        optional = {each.name for each in slots(nodes[name]) if each.optional}
        for method, taken in methods.items():
            assert set(taken["named"]) <= inputs, (name, method)
            assert not optional & set(taken["needed"]), (name, method)
        execute = methods["execute"]
        assert execute["others"] or set(execute["named"]) == inputs, name


def test_saved_workflows_still_fit(nodes):
    """Inputs may only be appended; `python -m tools.node_files` records them."""
    for name, before in recorded().items():
        assert name in nodes, "a saved workflow may have it"
        for kind, names in order(nodes[name]).items():
            assert names[: len(before[kind])] == before[kind], (name, kind)


def test_long_video_shows_its_main_settings(nodes):
    """The page shows the others when asked for advanced inputs."""
    shown = [
        each.name for each in slots(nodes["VidRD_LongVideo"]) if each.is_widget and not each.config.get("advanced")
    ]
    assert shown == [
        "prompts", "negative_prompt", "clips", "seed", "steps", "cfg", "sampler_name", "scheduler",
        "filename_prefix", "format", "fps", "preset",
    ]  # fmt: skip
