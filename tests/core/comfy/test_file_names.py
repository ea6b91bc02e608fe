"""Values of nodes in names of files: the page fills them in, from the nodes that are there then."""

import pytest

from vidrd_core.comfy.extend import extend_workflow
from vidrd_core.comfy.workflow import parse_workflow

from ...workflows.build import in_subgraph, to_page
from ...workflows.files import nodes
from ...workflows.stock import definitions
from .graphs import FAMILIES, changed, node, wan
from .test_extend import of_type
from .test_saving import notes


def saved_as(name, data=None, at=11, inside=False):
    """A page whose video is saved under a name."""
    page = to_page(changed(data or wan(), **{f"n{at}": {"filename_prefix": name}}), definitions())
    return in_subgraph(page, {11}) if inside else page


def written(page):
    """The name under which the long video is written, and what is told."""
    done = extend_workflow(parse_workflow(page), 3)
    names = set()
    for each in nodes(page):
        if each["type"] == "VidRD_WriteClip":
            names.add(each["widgets_values_named"]["filename_prefix"])
            assert each["widgets_values_named"]["filename_prefix"] in each["widgets_values"]
    (name,) = names
    return name, done.notes


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("%KSampler.seed%", "%VidRD_Extend.seed%"),
        ("%KSampler.steps%-%KSampler.cfg%", "%VidRD_Extend.steps%-%VidRD_Extend.cfg%"),
        ("%CreateVideo.fps%", "%VidRD_WriteClip.fps%"),
        ("%Create Video.fps%", "%VidRD_WriteClip.fps%"),
        ("%Empty Hunyuan Latent Video.width%", "%Empty Hunyuan Latent Video.width%"),
        ("%EmptyHunyuanLatentVideo.width%", "%EmptyHunyuanLatentVideo.width%"),
        ("%date:yyyy-MM-dd%/%width%", "%date:yyyy-MM-dd%/%width%"),
        ("%My Node.seed%", "%My Node.seed%"),
    ],
)
def test_values_of_nodes_that_give_way_are_those_of_the_new_ones(before, after, inside):
    assert written(saved_as(f"films/{before} %", inside=inside)) == (f"films/{after} %", [])


def test_custom_samplers_and_titles():
    page = saved_as("%Start.noise_seed% %CFGGuider.cfg%", FAMILIES["custom"]())
    next(each for each in page["nodes"] if each["id"] == 12)["title"] = "Start"
    assert written(page) == ("%VidRD_Noise.seed% %CFGGuider.cfg%", [])
    page = saved_as("%SamplerCustom.cfg%", FAMILIES["sampler_custom"](), at=10)
    assert written(page)[0] == "%CFGGuider.cfg%"


def test_a_value_that_nothing_has_now_is_told():
    for asked, gone in (
        ("%KSampler.denoise%", "KSampler (node 8)"),
        ("%CreateVideo.bit_depth%", "CreateVideo (node 10)"),
    ):
        said = f"{asked} in the name of a file has no value now, as {gone} gave way"
        assert written(saved_as(asked)) == (asked, [said])


def test_another_node_of_the_name_does_not_take_its_place():
    """Of a picture with another seed, as the page would find that sampler now."""
    graph = wan() | {
        "30": node("EmptyLatentImage", width=832, height=480, batch_size=1),
        "31": node("KSampler", **{**wan()["8"]["inputs"], "latent_image": ["30", 0], "seed": 5}),
        "32": node("VAEDecode", samples=["31", 0], vae=["3", 0]),
        "33": node("SaveImage", images=["32", 0], filename_prefix="%KSampler.seed% %KSampler.denoise%"),
    }
    page = saved_as("%KSampler.seed%", graph)
    assert written(page)[0] == "%VidRD_Extend.seed%"
    (kept,) = [each for each in page["nodes"] if each["type"] == "SaveImage"]
    assert kept["widgets_values"] == ["%VidRD_Extend.seed% %KSampler.denoise%"]


def test_two_samplers_of_one_type_are_told_apart():
    """By the page's rule the name means the first one; all new nodes of a name must have that value."""
    graph = wan()
    graph |= {str(int(key) + 20): each for key, each in changed(wan(), n8={"seed": 5}).items() if int(key) > 7}
    for key, name in (("28", None), ("29", "samples"), ("30", "images"), ("31", "video")):
        if name:
            graph[key]["inputs"][name] = [str(int(key) - 1), 0]
    page = saved_as("%KSampler.seed% %KSampler.steps%", graph)
    done = extend_workflow(parse_workflow(page), 2)
    names = {each["widgets_values"][0] for each in page["nodes"] if each["type"] == "VidRD_WriteClip"}
    assert names == {"%KSampler.seed% %VidRD_Extend.steps%", "video/fox"}
    assert done.notes == ["%KSampler.seed% in the name of a file has no value now, as KSampler (node 8) gave way"]


def test_the_api_format_is_left_alone():
    graph = changed(wan(), n11={"filename_prefix": "%KSampler.seed%"})
    assert notes(graph) == []
    extend_workflow(parse_workflow(graph), 2)
    assert {each["filename_prefix"] for each in of_type(graph, "VidRD_WriteClip")} == {"%KSampler.seed%"}


def test_a_muted_subgraph_in_itself_does_not_matter():
    page = saved_as("%KSampler.seed%", inside=True)
    (inner,) = page["definitions"]["subgraphs"]
    inner["nodes"].append({"id": 950, "type": inner["id"], "pos": [0, 0], "size": [9, 9], "mode": 2, "inputs": [],
                           "outputs": []})  # fmt: skip
    assert written(page)[0] == "%VidRD_Extend.seed%"
