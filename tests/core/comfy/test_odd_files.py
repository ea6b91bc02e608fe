"""Files that pages open, though they are not as pages write them, and files that no host would run."""

import copy
import random

import pytest

from vidrd_core.comfy.definitions import MAX_PROMPT_FRAMES, MAX_STEPS
from vidrd_core.comfy.extend import extend_workflow
from vidrd_core.comfy.graphs import WorkflowError
from vidrd_core.comfy.workflow import parse_workflow

from ...workflows.build import in_subgraph, to_page
from ...workflows.convert import to_prompt
from ...workflows.stock import definitions
from .graphs import FAMILIES, changed, same, wan
from .test_extend import extended, places, refusal
from .test_promoted import WIDGETS, shown


def linked(page):
    """The links of a page as {(the node and name of an input): (the node and slot of an output)}, by the inputs."""
    links = {str(link[0]): (str(link[1]), link[2]) for link in page["links"]}
    return {
        (str(node["id"]), each["name"]): links[str(each["link"])]
        for node in page["nodes"]
        for each in node["inputs"]
        if each.get("link") is not None
    }


@pytest.mark.parametrize("odd", ["node", "link", "input", "outputs"])
@pytest.mark.parametrize("number", range(1, 11))
def test_links_of_odd_nodes_stay(odd, number):
    """Ids that are texts at one end alone, and outputs that were not saved: pages follow the links all the same."""
    page = to_page(wan(), definitions())
    expected = same(to_prompt(extended(page), definitions()))
    links = linked(extended(page))
    (node,) = [each for each in page["nodes"] if each["id"] == number]
    for link in page["links"]:
        if link[1] == number and odd == "link":
            link[0] = str(link[0])
        if link[1] == number and odd == "node":
            link[1] = str(link[1])
    for each in node["inputs"]:
        if each["link"] is not None and odd == "input":
            each["link"] = str(each["link"])
    if odd == "outputs":
        del node["outputs"]
    long = extended(page)
    assert linked(long) == links
    assert len(long["links"]) == len({str(link[0]) for link in long["links"]}) == len(linked(long))
    if odd == "outputs":
        assert same(to_prompt(long, definitions())) == expected


def test_ids_that_are_texts_are_not_given_again():
    page = to_page(wan(), definitions())
    for each in page["nodes"]:
        each["id"] = str(each["id"] + 100)
    for link in page["links"]:
        link[1], link[3] = link[1] + 100, str(link[3] + 100)
    page |= {"last_node_id": 1, "last_link_id": "10"}
    ids = [str(each["id"]) for each in extended(page)["nodes"]]
    assert len(set(ids)) == len(ids)
    assert max(map(int, ids)) > 111


def test_clips_have_what_the_nodes_take():
    extend = definitions()["VidRD_Extend"]["input"]["required"]
    assert (extend["steps"][1]["max"], extend["prompt_frames"][1]["max"]) == (MAX_STEPS, MAX_PROMPT_FRAMES)
    assert extend["prompt_frames"][1]["min"] == 0
    long = changed(wan(), n7={"length": 4 * MAX_PROMPT_FRAMES + 5}, n8={"steps": MAX_STEPS})
    extended(long, prompt_frames=MAX_PROMPT_FRAMES)
    said = refusal(changed(wan(), n8={"steps": MAX_STEPS + 1}))
    assert said == "KSampler (node 8) is in the way: it takes 1001 steps, expected 1 to 1000; set fewer first"
    for number in (-1, MAX_PROMPT_FRAMES + 1):
        with pytest.raises(ValueError, match=f"{number} prompt frames, expected 0 to 1024"):
            extended(wan(), prompt_frames=number)


@pytest.mark.parametrize(("name", "node", "missing"), [("wan", 8, "seed"), ("custom", 12, "noise_seed")])
@pytest.mark.parametrize("values", [None, []])
def test_settings_that_were_not_saved_are_named(name, node, missing, values):
    page = to_page(FAMILIES[name](), definitions())
    next(each for each in page["nodes"] if each["id"] == node)["widgets_values"] = values
    assert f"(node {node}) is in the way: the file has no value of its {missing}" in refusal(page)


@pytest.mark.parametrize(
    "data",
    [
        {"nodes": [{"mesh": 0}], "asset": {"version": "2.0"}},
        {"nodes": [{"id": "1", "position": {"x": 0, "y": 0}, "data": {}}], "edges": []},
        {"nodes": [{"id": "a", "name": "Start", "type": "start", "parameters": {}}], "connections": {}},
        {"prompt": "a fox", "steps": 20},
        {"workflow": {"nodes": []}},
    ],
)
def test_files_of_other_programs_are_no_workflows(data):
    with pytest.raises(WorkflowError, match="is no workflow of ComfyUI: expected the page's format"):
        parse_workflow(data)


def test_workflows_in_other_files_are_read():
    page, plain = to_page(wan(), definitions()), wan()
    for data in ({"prompt": plain, "client_id": "x"}, {"workflow": page, "prompt": plain}):
        found = parse_workflow(copy.deepcopy(data))
        extend_workflow(found, 3)
        assert found.data == extended(data.get("workflow") or plain)


@pytest.mark.parametrize("number", [8, 9, 10, 11])
@pytest.mark.parametrize("sign", "/>")
def test_group_nodes_are_not_looked_into(number, sign):
    page = to_page(wan(), definitions())
    next(each for each in page["nodes"] if each["id"] == number)["type"] = f"workflow{sign}Mine"
    assert refusal(page) == (
        f"workflow{sign}Mine (node {number}) is in the way: it is a group node, which is not looked into; open "
        "the workflow in a newer page, which makes a subgraph of it, or choose Convert to Nodes in its menu, and "
        "save it again"
    )


def test_a_subgraph_in_itself_is_refused():
    page = in_subgraph(to_page(wan(), definitions()), {11})
    inner = page["definitions"]["subgraphs"][0]
    inner["nodes"].append({**copy.deepcopy(page["nodes"][0]), "id": 950, "outputs": [], "title": "Video"})
    assert refusal(page) == "Video (node 900:950) is in the way: it uses the subgraph that it is in; remove it"


def rich():
    """A page with all that pages may hold."""
    page = shown(WIDGETS)
    page["groups"] = [{"id": "abc", "title": "All", "bounding": [0, 0, 10, 10]}]
    page["extra"] = {"linearData": {"inputs": [[8, "seed"], None, []], "outputs": [11, None]},
                     "linkExtensions": [{"id": 1, "parentId": 2}, None],
                     "reroutes": [{"id": 2, "linkIds": [1]}, None, {"id": 3}]}  # fmt: skip
    page["nodes"][0]["properties"] = {"proxyWidgets": [["8", "seed"], ["8"], None, []],
                                      "previewExposures": [{"sourceNodeId": "8"}, None]}  # fmt: skip
    page["nodes"][0]["widgets_values_named"] = {"seed": 3}
    return page


def test_lists_with_odd_entries_do_not_matter():
    page = rich()
    expected, graph = shown(WIDGETS), wan()
    assert [each["id"] for each in extended(page)["groups"]] == ["abc"]
    assert len(extended(page)["nodes"]) == len(extended(expected)["nodes"])
    graph["8"]["_meta"] = "x"
    assert same(extended(graph)) == same(extended(wan()))
    page = to_page(wan(), definitions()) | {"groups": rich()["groups"], "extra": rich()["extra"]}
    assert [each["id"] for each in extended(page)["groups"]] == ["abc", 1]


@pytest.mark.parametrize("seed", range(4))
def test_damage_of_all_that_pages_hold_is_told_in_words(seed):
    whole, chosen, told = rich(), random.Random(seed), []
    for path in chosen.choices(sorted(places(whole), key=str), k=100):
        damaged = copy.deepcopy(whole)
        holder = damaged
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = chosen.choice([None, "x", 7, [1], {}, [[]], [{}]])
        try:
            extend_workflow(parse_workflow(damaged), 2, prompts=["a"])
        except WorkflowError as error:
            told.append(str(error))
    assert len(told) > 10
    assert all(" " in message for message in told)


@pytest.mark.parametrize("form", ["prompt", "page"])
def test_nodes_in_a_circle_are_refused(form):
    graph = changed(wan(), n2={"clip_name": ["5", 0]})
    graph["5"]["inputs"]["text"] = ["2", 0]
    if form == "page":
        graph = to_page(graph, definitions())
    assert "is in the way: it depends on its own output" in refusal(graph, prompts=["a fox"])


def test_two_nodes_of_one_id_are_damage():
    page = to_page(wan(), definitions())
    page["nodes"][0]["id"] = "5"
    with pytest.raises(WorkflowError, match="two nodes with the id 5"):
        parse_workflow(page)


def test_an_output_that_a_node_lacks_does_not_matter():
    graph = changed(FAMILIES["first_and_last"](), n13={"negative": ["23", 7]})
    assert ["23", 7] in [each["inputs"].get("negative") for each in extended(graph).values()]
