"""The workflows of the pack as files: they fit the current nodes."""

import json
import re

import pytest
from PIL import Image

from ..stand_in import definitions as ours
from .files import EXAMPLES, PATHS, ROOT, SUBGRAPHS_ENDS, graphs, nodes, read, subgraphs, wires
from .slots import CONTROLS, slots, widgets
from .stock import definitions, packs

EXACT = 2**53  # larger integers are not exact in a page
FROM_DISK = {  # whose options depend on the user's files
    "ADE_AnimateDiffLoaderGen1.model_name", "CLIPLoader.clip_name", "CheckpointLoaderSimple.ckpt_name",
    "LoadImage.image", "LoadVideo.file", "UNETLoader.unet_name", "VAELoader.vae_name", "VidRD_LoadState.file",
}  # fmt: skip


@pytest.fixture(params=PATHS, ids=lambda path: str(path.relative_to(ROOT)))
def path(request):
    """Each workflow's file."""
    return request.param


@pytest.fixture
def workflow(path):
    """Each workflow."""
    return read(path)


@pytest.fixture
def known(workflow):
    """Each of its nodes with its definition."""
    return [(node, definitions()[node["type"]]) for node in nodes(workflow)]


def test_it_has_the_version_that_all_pages_read(workflow):
    assert workflow["version"] == 0.4
    assert workflow["last_node_id"] >= max(node["id"] for node in workflow["nodes"])
    assert workflow["last_link_id"] >= max((wire.id for wire in wires(workflow)), default=0)


def test_every_node_is_known_and_names_its_pack(workflow):
    for node in nodes(workflow):
        assert node["type"] in definitions(), "for a stock node run `python -m tests.workflows.stock`"
        properties = node["properties"]
        assert properties["Node name for S&R"] == node["type"]
        others = {name: pack for pack, held in packs().items() for name in held}
        assert properties["cnr_id"] == ("vidrd" if node["type"] in ours() else others.get(node["type"], "comfy-core"))
        assert properties["ver"]


def test_app_mode_shows_widgets_and_results_that_exist(workflow):
    app = workflow["extra"].get("linearData")
    if app is None:
        pytest.skip("it is made for the graph")
    known = {node["id"]: node["type"] for node in workflow["nodes"]}
    for node, name, *_ in app["inputs"]:
        added = ["edit_clips"] if known[node] == "VidRD_LongVideo" else []  # by our script
        assert name in widgets(definitions()[known[node]]) + added, name
    assert app["outputs"]
    assert all(definitions()[known[node]]["output_node"] for node in app["outputs"])
    assert "linearMode" not in workflow["extra"]  # it opens as a graph


def test_values_fit_the_widgets_by_position_and_by_name(known):
    for node, definition in known:
        names, given = widgets(definition), node.get("widgets_values", [])
        assert len(given) == len(names), node["type"]
        if names:
            assert node["widgets_values_named"] == dict(zip(names, given, strict=True)), node["type"]


def test_values_are_valid(known):
    for node, definition in known:
        given = dict(zip(widgets(definition), node.get("widgets_values", []), strict=True))
        assert given.get("control_after_generate", "fixed") in CONTROLS
        for each in filter(lambda each: each.is_widget, slots(definition)):
            where, value, config = f"{node['type']}.{each.name}", given[each.name], each.config
            if each.type in ("INT", "FLOAT"):
                assert type(value) is int or (each.type == "FLOAT" and type(value) is float), where
                assert config["min"] <= value <= min(config["max"], EXACT), where
                grid = config.get("round") if each.type == "FLOAT" else config.get("step", 1)
                if grid:
                    assert value / grid == pytest.approx(round(value / grid)), where
            elif "COMBO" in each.type and where not in FROM_DISK:
                assert value in config["options"], where
            else:
                assert type(value) is (bool if each.type == "BOOLEAN" else str), where


def test_in_subgraphs_sockets_come_before_widgets(workflow):
    """As the pages order them: 1.27 goes by a link's slot there, whatever the file's own order."""
    for graph in subgraphs(workflow).values():
        for node in graph["nodes"]:
            kinds = ["widget" in socket for socket in node["inputs"]]
            assert kinds == sorted(kinds), node["type"]


def test_sockets_fit_the_nodes(known):
    for node, definition in known:
        known_slots = {each.name: each for each in slots(definition)}
        assert len({socket["name"] for socket in node["inputs"]}) == len(node["inputs"])
        for socket in node["inputs"]:
            each = known_slots[socket["name"]]
            assert socket["type"] == each.type, (node["type"], each.name)
            assert socket.get("shape") == (7 if each.optional else None), (node["type"], each.name)
            assert socket.get("widget") == ({"name": each.name} if each.is_widget else None), (
                node["type"],
                each.name,
            )
        given = [socket["name"] for socket in node["inputs"] if "widget" not in socket]
        assert given == [each.name for each in known_slots.values() if not each.is_widget], node["type"]
        outputs = list(zip(definition["output_name"], definition["output"], strict=True))
        assert [(output["name"], output["type"]) for output in node["outputs"]] == outputs, node["type"]


def test_required_inputs_are_connected(known):
    for node, definition in known:
        wired = {socket["name"] for socket in node["inputs"] if socket["link"] is not None}
        assert wired >= {each.name for each in slots(definition) if not (each.is_widget or each.optional)}, node


def test_links_agree_at_both_ends(workflow):
    for graph in graphs(workflow):
        by_id = {node["id"]: node for node in graph["nodes"]}
        assert len(by_id) == len(graph["nodes"])
        told = {wire.id: wire for wire in wires(graph)}
        assert len(told) == len(graph["links"])
        for wire in told.values():
            if wire.origin_id not in SUBGRAPHS_ENDS:
                output = by_id[wire.origin_id]["outputs"][wire.origin_slot]
                assert wire.id in output["links"]
                assert wire.type == output["type"]
            if wire.target_id not in SUBGRAPHS_ENDS:
                socket = by_id[wire.target_id]["inputs"][wire.target_slot]
                assert wire.id == socket["link"]
                assert "*" in (wire.type, socket["type"]) or wire.type in socket["type"].split(",")
        for node in graph["nodes"]:
            at_nodes = [socket["link"] for socket in node["inputs"] if socket["link"] is not None]
            at_nodes += [link for output in node["outputs"] for link in output["links"] or []]
            assert set(at_nodes) <= told.keys()


def test_it_has_no_absolute_paths(path):
    for text in re.findall(r'"((?:[^"\\]|\\.)*)"', path.read_text(encoding="utf-8")):
        assert not re.match(r"/\w+/|~/|[A-Za-z]:[\\/]|\\\\", json.loads(f'"{text}"')), text


def test_it_has_a_preview_image(path):
    if path.parent != EXAMPLES:
        pytest.skip("blueprints are shown without one")
    picture = path.with_suffix(".jpg")
    assert picture.is_file()
    assert picture.stat().st_size < 500_000
    with Image.open(picture) as image:
        assert image.format == "JPEG"
        assert min(image.size) >= 200


def test_the_folder_is_flat():
    """The page does not read subfolders."""
    assert [each for each in EXAMPLES.glob("*") if each.suffix not in (".json", ".jpg")] == []
    for picture in EXAMPLES.glob("*.jpg"):
        assert picture.with_suffix(".json").exists()


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="there is no example workflow yet")
def test_every_node_of_ours_is_in_an_example():
    shown = {node["type"] for path in EXAMPLES.glob("*.json") for node in nodes(read(path))}
    assert ours().keys() - shown == set()


def test_its_subgraphs_are_used(workflow):
    assert subgraphs(workflow).keys() <= {node["type"] for graph in graphs(workflow) for node in graph["nodes"]}
