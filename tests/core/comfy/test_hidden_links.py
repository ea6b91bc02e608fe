"""Reroutes, and setters and getters of KJNodes: links that pages resolve before they send a workflow."""

import pytest

from vidrd_core.comfy.extend import extend_workflow
from vidrd_core.comfy.graphs import WorkflowError
from vidrd_core.comfy.workflow import parse_workflow

from ...workflows.build import by_way_of, in_subgraph, to_page
from ...workflows.convert import to_prompt
from ...workflows.stock import definitions
from .graphs import FAMILIES, same
from .test_extend import WAYS, check_links, extended, refusal

KINDS = ("Reroute", "SetNode")


def sent(page):
    """What does not depend on ids of the prompt that a page sends, as far as it leads to a video."""
    prompt = to_prompt(page, definitions())
    waiting, reached = [key for key, each in prompt.items() if each["class_type"] == "VidRD_WriteClip"], {}
    while waiting:
        key = waiting.pop()
        reached[key] = prompt[key]
        waiting += [each[0] for each in prompt[key]["inputs"].values() if isinstance(each, list)]
    return same(reached)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FAMILIES)
def test_they_change_nothing(name, kind):
    page = to_page(FAMILIES[name](), definitions())
    prompts = [] if name in ("image_to_video", "from_a_picture", "with_reference") else ["a fox", "a bear"]
    expected = sent(extended(page, prompts=prompts))
    for link in range(len(page["links"])):
        long = extended(by_way_of(page, link, kind), prompts=prompts)
        check_links(long)
        assert sent(long) == expected, page["links"][link]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FAMILIES)
def test_none_is_left_that_leads_nowhere(name, kind):
    page = to_page(FAMILIES[name](), definitions())
    for link in range(len(page["links"])):
        long = extended(by_way_of(page, link, kind))
        nodes = {each["id"]: each for each in long["nodes"]}
        origins = {each[1] for each in long["links"]}
        got = any(each["type"] == "GetNode" and number in origins for number, each in nodes.items())
        for number, each in nodes.items():
            if each["type"] in (*KINDS, "GetNode"):
                assert number in origins or (each["type"] == "SetNode" and got), page["links"][link]


@pytest.mark.parametrize("kind", [*KINDS, "bypassed"])
def test_the_seed_behind_one_is_taken(kind):
    page = to_page(FAMILIES["custom"](), definitions())
    link = next(place for place, each in enumerate(page["links"]) if each[1] == 12)
    page = by_way_of(page, link, kind)
    if kind == "bypassed":
        page["nodes"][-1]["mode"] = 4
    long = extended(page)
    seeds = {each["widgets_values_named"]["seed"] for each in long["nodes"] if each["type"] == "VidRD_Noise"}
    assert seeds == {11}
    assert kind == "bypassed" or "RandomNoise" not in {each["type"] for each in long["nodes"]}


@pytest.mark.parametrize("name", ["two samplers in a row", "sigmas", "noise", "a pass without noise"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_hides_behind_one(name, kind):
    graph, message = WAYS[name]
    page = to_page(graph, definitions())
    for link in range(len(page["links"])):
        assert refusal(by_way_of(page, link, kind)).startswith(message), page["links"][link]


def test_getters_of_what_is_the_same_for_all_clips_stay():
    page = to_page(FAMILIES["wan"](), definitions())
    for link, (_, origin, *_) in enumerate(page["links"]):
        done = extend_workflow(parse_workflow(long := by_way_of(page, link, "SetNode")), 2)
        kinds = {each["type"] for each in long["nodes"]}
        assert ("GetNode" in kinds) == (origin not in (8, 9, 10)), origin
        assert done.notes == (
            ["GetNode (node 5001): links take their place, as what they get differs between clips"]
            if origin in (8, 9, 10) else []
        )  # fmt: skip


def test_a_getter_in_a_subgraph():
    page = to_page(FAMILIES["wan"](), definitions())
    expected = sent(extended(in_subgraph(page, {11})))
    for link, (*_, target, _, _) in enumerate(page["links"]):
        if target != 11:
            assert sent(extended(in_subgraph(by_way_of(page, link, "SetNode"), {11}))) == expected


def test_a_getter_without_a_setter_gets_nothing():
    page = to_page(FAMILIES["wan"](), definitions())
    link = next(place for place, each in enumerate(page["links"]) if each[1] == 7)
    page = by_way_of(page, link, "SetNode")
    next(each for each in page["nodes"] if each["type"] == "SetNode")["widgets_values"] = ["another"]
    with pytest.raises(WorkflowError, match="latent_image is not connected"):
        extend_workflow(parse_workflow(page), 2)
