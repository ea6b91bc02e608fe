"""Widgets of a subgraph's nodes that are shown by the node which uses it: pages fill them by their order alone."""

import copy

import pytest

from vidrd_core.comfy.extend import extend_workflow
from vidrd_core.comfy.workflow import parse_workflow

from ...workflows.build import in_subgraph, promote, to_page
from ...workflows.convert import Graph, to_prompt
from ...workflows.stock import definitions
from .graphs import FAMILIES, wan
from .test_extend import check_links, extended, of_type, refusal


def shown(widgets, data=None):
    """Wan's workflow in a subgraph that promotes widgets: {input: (node, widget, value)}."""
    page = in_subgraph(to_page(data or wan(), definitions()), {11})
    promote(page, widgets)
    return page


def wrapped(page):
    """The same in another subgraph, which promotes all widgets of the first one by other names."""
    page = copy.deepcopy(page)
    inner = page["nodes"][0]
    names = [each["name"] for each in inner["inputs"]]
    links = [{"id": 4000 + slot, "origin_id": -10, "origin_slot": slot, "target_id": 900, "target_slot": slot,
              "type": each["type"]} for slot, each in enumerate(inner["inputs"])]  # fmt: skip
    links += [{"id": 4900, "origin_id": 900, "origin_slot": 0, "target_id": -20, "target_slot": 0, "type": "VIDEO"}]
    outer = copy.deepcopy(inner) | {"id": 950, "type": "outer", "widgets_values": inner["widgets_values"]}
    for slot, each in enumerate(outer["inputs"]):
        each |= {"name": f"outer {names[slot]}", "widget": {"name": f"outer {names[slot]}"}}
        inner["inputs"][slot]["link"] = 4000 + slot
    inner["widgets_values"], inner["outputs"][0]["links"] = [], [4900]
    first = page["definitions"]["subgraphs"][0]
    page["definitions"]["subgraphs"].append({
        **first, "id": "outer", "nodes": [inner], "links": links,
        "inputs": [{"id": name, "name": f"outer {name}", "type": inner["inputs"][slot]["type"],
                    "linkIds": [4000 + slot]} for slot, name in enumerate(names)],
        "outputs": [{**first["outputs"][0], "linkIds": [4900]}],
    })  # fmt: skip
    page["nodes"][0] = outer
    for link in page["links"]:
        link[1] = 950
    return page


def values(page):
    """The promoted widgets of the first node."""
    use = page["nodes"][0]
    inner = next(each for each in page["definitions"]["subgraphs"] if each["id"] == use["type"])
    names = Graph(inner, Graph(page), use).promoted()
    assert len(names) == len(use["widgets_values"])
    return dict(zip(names, use["widgets_values"], strict=True))


WIDGETS = {"denoise": (8, "denoise", 1.0), "text": (5, "text", "a bear"), "seed": (8, "seed", 30),
           "steps": (8, "steps", 25), "lora": (4, "lora_name", "other.safetensors")}  # fmt: skip


@pytest.mark.parametrize("around", [shown, lambda widgets: wrapped(shown(widgets))])
@pytest.mark.parametrize("prompts", [[], ["a fox", "a hen"]])
def test_values_stay_with_their_widgets(around, prompts):
    page = around(WIDGETS)
    before = values(page)
    long = extended(page, 2, prompts=prompts)
    check_links(long)
    gone = {"denoise", "text"} if prompts else {"denoise"}
    assert values(long) == {name: value for name, value in before.items() if name.split()[-1] not in gone}
    sent = to_prompt(long, definitions())
    assert {(each["seed"], each["steps"]) for each in of_type(sent, "VidRD_Extend")} == {(30, 25)}
    assert [each["lora_name"] for each in of_type(sent, "LoraLoaderModelOnly")] == ["other.safetensors"]
    texts = {each["text"] for each in of_type(sent, "CLIPTextEncode")}
    assert texts == ({"a fox", "a hen", "ugly"} if prompts else {"a bear", "ugly"})


def test_named_values_go_with_them():
    page = shown(WIDGETS)
    page["nodes"][0]["widgets_values_named"] = values(page)
    long = extended(page)
    assert long["nodes"][0]["widgets_values_named"] == values(long)
    (text,) = [each for each in long["nodes"][0]["inputs"] if each["name"] == "denoise"]
    assert "widget" not in text


def test_what_is_shown_of_a_subgraph_in_a_subgraph_goes_too():
    page = wrapped(shown(WIDGETS))
    outer = page["definitions"]["subgraphs"][1]
    for slot in range(2):  # as older pages show them: by the names of node and widget
        outer["nodes"][0]["inputs"][slot]["link"] = outer["inputs"][slot]["linkIds"][0] = None
    outer["links"] = outer["links"][2:]
    for each in outer["inputs"][:2]:
        each["linkIds"] = []
    page["nodes"][0]["widgets_values"] = page["nodes"][0]["widgets_values"][2:]
    page["nodes"][0]["properties"] = {"proxyWidgets": [["900", "denoise"], ["900", "text"]]}
    long = extended(page)
    assert long["nodes"][0]["properties"]["proxyWidgets"] == [["900", "text"]]


@pytest.mark.parametrize("around", [lambda page: page, wrapped])
@pytest.mark.parametrize("named", [False, True])
def test_promoted_values_are_read(around, named):
    """By their order: pages write their names, too, and do not read them."""
    page = around(shown({"strength": (4, "strength_model", 0.5), "how much": (8, "denoise", 0.5)}))
    use = page["nodes"][0]
    if named:
        use["widgets_values_named"] = dict.fromkeys(values(page), 1.0)
    assert "its denoise is 0.5" in refusal(page)
    use["widgets_values"][1] = 1.0
    extend_workflow(parse_workflow(page), 2)


def test_an_inner_subgraph_has_values_of_its_own():
    page = wrapped(shown({"how much": (8, "denoise", 0.5)}))
    page["nodes"][0]["widgets_values"] = []
    inner = page["definitions"]["subgraphs"][1]["nodes"][0]
    inner["widgets_values"] = [0.25]
    assert "its denoise is 0.25" in refusal(page)


def test_a_promoted_name_of_the_file_is_read():
    data = FAMILIES["custom"]()
    page = in_subgraph(to_page(data, definitions()), set())
    promote(page, {"name": (11, "filename_prefix", "films/night")})
    long = extended(page)
    assert values(long) == {"name": "films/night"}
    written = of_type(to_prompt(long, definitions()), "VidRD_WriteClip")
    assert {each["filename_prefix"] for each in written} == {"films/night"}
