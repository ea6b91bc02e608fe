"""Workflows whose clips are not all alike: two passes, and pictures for the first or the last clip alone."""

import pytest

from vidrd_core.comfy.extend import extend_workflow
from vidrd_core.comfy.workflow import parse_workflow

from ...workflows.build import in_subgraph, to_page
from ...workflows.files import graphs
from ...workflows.stock import definitions
from .graphs import FAMILIES, changed, node
from .test_extend import check_links, extended, of_type


def test_each_pass_has_its_own_states():
    """What is between the passes stays for the first clip, and is copied for the others."""
    graph = extended(FAMILIES["two_passes"](), 3)
    samplers = {key: each["inputs"] for key, each in graph.items() if each["class_type"] == "SamplerCustomAdvanced"}
    states = {each["inputs"]["latent"][0]: key for key, each in graph.items()
              if each["class_type"] == "VidRD_CollectState"}  # fmt: skip
    written = of_type(graph, "VidRD_WriteClip")
    assert len(samplers) == len(states) == 6
    low = [key for key, each in samplers.items() if each["sigmas"] == ["15", 0]]
    high = [key for key, each in samplers.items() if each["sigmas"] == ["39", 0]]
    assert [each["latent"] for each in written] == [[states[key], 0] for key in high]
    for keys, seed in ((low, 11), (high, 5)):
        previous = None
        for key in keys:
            parts = [graph[samplers[key][name][0]]["inputs"] for name in ("noise", "sampler")]
            assert [each.get("state") for each in parts] == [previous] * 2
            assert parts[0]["seed"] == seed
            previous = [states[key], 1]

    def behind(key, name):
        """The nodes from an input of a second pass to the sampler of the first, [(type, id)], and that one's id."""
        found, origin = [], samplers[key][name][0]
        while origin not in samplers:
            inputs = graph[origin]["inputs"]
            found.append((graph[origin]["class_type"], origin))
            names = ("video_latent", "latent", "samples", "av_latent", "positive")
            origin = next(inputs[each][0] for each in names if each in inputs)
        return found, origin

    kept = ["LTXVConcatAVLatent", "LTXVImgToVideoInplace", "LTXVLatentUpsampler", "LTXVCropGuides",
            "LTXVSeparateAVLatent"]  # fmt: skip
    for number, key in enumerate(high):
        found, origin = behind(key, "latent_image")
        assert origin == low[number]
        assert [kind for kind, _ in found] == [kind for kind in kept if not number or "ImgTo" not in kind]
        assert {int(each) < 40 for _, each in found} == {number == 0}
        assert graph[found[0][1]]["inputs"]["audio_latent"][0] == found[-1][1]
        (_, guider), (_, crop) = behind(key, "guider")[0][:2]
        assert (graph[crop]["class_type"], graph[guider]["inputs"]["cfg"]) == ("LTXVCropGuides", 1.0)
        assert crop == found[-2][1]
    for number, key in enumerate(low):  # the picture begins the first clip alone
        latent = graph[samplers[key]["latent_image"][0]]["inputs"]
        assert latent["video_latent"] == ["21" if number == 0 else "7", 0]
        assert latent["audio_latent"] == ["22", 0]


def test_what_is_told_of_two_passes():
    done = extend_workflow(parse_workflow(FAMILIES["two_passes"]()), 2)
    assert done.samplers == ["SamplerCustomAdvanced (node 8)"]
    nodes_ = "LTXVImgToVideoInplace (node 35), LTXVImgToVideoInplace (node 21)"
    assert done.notes == [f"the first clip alone has the picture of {nodes_}"]


def test_prompts_go_through_both_passes():
    graph = extended(FAMILIES["two_passes"](), 3, prompts=["a fox", "a bear"])
    assert sorted(each["text"] for each in of_type(graph, "CLIPTextEncode")) == ["a bear", "a fox", "ugly"]
    texts = []
    for each in of_type(graph, "SamplerCustomAdvanced"):
        inputs = graph[each["guider"][0]]["inputs"]
        while "text" not in inputs:
            inputs = graph[inputs["positive"][0]]["inputs"]
        texts.append((each["sigmas"][0], inputs["text"]))
    assert sorted(texts) == [("15", "a bear"), ("15", "a bear"), ("15", "a fox"),
                             ("39", "a bear"), ("39", "a bear"), ("39", "a fox")]  # fmt: skip


def test_later_clips_do_without_the_picture():
    graph = extended(FAMILIES["from_a_picture"](), 3)
    first, *later = of_type(graph, "SamplerCustomAdvanced")
    assert first["latent_image"] == ["7", 2]
    (empty,) = {tuple(each["latent_image"]) for each in later}
    assert graph[empty[0]]["class_type"] == "EmptyLTXVLatentVideo"
    assert graph[empty[0]]["inputs"] == {"width": 384, "height": 256, "length": 97, "batch_size": 1}
    (guider,) = {tuple(each["guider"]) for each in later}
    assert graph[guider[0]]["inputs"] | {"model": 0} == graph["13"]["inputs"] | {
        "model": 0, "positive": ["5", 0], "negative": ["6", 0],
    }  # fmt: skip
    graph = custom_from_wan22()
    first, *later = of_type(extended(graph), "SamplerCustomAdvanced")
    long = extended(graph)
    assert first["latent_image"] == ["7", 0]
    (copy_,) = {each["latent_image"][0] for each in later}
    assert long[copy_]["inputs"] == {
        name: value for name, value in graph["7"]["inputs"].items() if name != "start_image"
    }


def test_guide_frames_are_for_the_first_and_the_last_clip():
    graph = extended(FAMILIES["first_and_last"](), 3)
    samplers = of_type(graph, "SamplerCustomAdvanced")
    pictures = []
    for each in samplers:
        guider, latent = graph[each["guider"][0]]["inputs"], graph[each["latent_image"][0]]["inputs"]["video_latent"]
        found = {name: [] for name in ("positive", "negative", "latent")}
        for name, origin in (("positive", guider["positive"]), ("negative", guider["negative"]), ("latent", latent)):
            while graph[origin[0]]["class_type"] == "LTXVAddGuide":
                inputs = graph[origin[0]]["inputs"]
                found[name].append((inputs["image"], inputs["frame_idx"]))
                origin = inputs[name]
            assert origin == [{"positive": "5", "negative": "6", "latent": "7"}[name], 0]
        assert found["positive"] == found["negative"] == found["latent"]
        pictures.append(found["latent"])
    assert pictures == [[(["20", 0], 0)], [], [(["21", 0], -1)]]
    assert len(of_type(graph, "LTXVAddGuide")) == 2  # none is left over
    assert len(of_type(graph, "CFGGuider")) == len(of_type(graph, "LTXVConcatAVLatent")) == 3
    assert of_type(graph, "LTXVCropGuides") == []
    done = extend_workflow(parse_workflow(FAMILIES["first_and_last"]()), 2)
    assert done.notes == [
        "the first clip alone has the picture of LTXVAddGuide (node 22)",
        "the last clip alone has the picture of LTXVAddGuide (node 23)",
    ]
    (one,) = of_type(extended(FAMILIES["first_and_last"](), 1), "SamplerCustomAdvanced")
    assert (one["guider"], one["latent_image"]) == (["13", 0], ["25", 0])


def test_a_reference_for_a_lora_guides_each_clip():
    graph = changed(FAMILIES["first_and_last"](), n22={"iclora_parameters": ["30", 0]})
    graph |= {"30": node("GetICLoRAParameters", iclora_model=["4", 0])}
    pictures = [each["image"][0] for each in of_type(extended(graph, 3), "LTXVAddGuide")]
    assert sorted(pictures) == ["20", "21"]  # one node for all clips
    done = extend_workflow(parse_workflow(graph), 2)
    assert done.notes[0] == "every clip gets the same input of LoadImage (node 20)"


def test_a_reference_picture_is_cut_off_the_first_clip():
    graph = extended(FAMILIES["with_reference"](), 3)
    clips = [key for key, each in graph.items() if each["class_type"] == "VidRD_Extend"]
    first, *later = of_type(graph, "VidRD_WriteClip")
    assert first["latent"] == ["21", 0]
    assert graph["21"]["inputs"] == {"samples": [clips[0], 0], "trim_amount": ["7", 3]}
    assert [each["latent"] for each in later] == [[key, 0] for key in clips[1:]]


def test_what_changes_the_beginning_of_a_clip_changes_the_first_one():
    """As Kandinsky's template from a picture has it."""
    graph = FAMILIES["image_to_video"]()
    graph["20"] = node("ReplaceVideoLatentFrames", destination=["8", 0], source=["7", 2], index=0)
    graph["21"] = node("NormalizeVideoLatentStart", latent=["20", 0], start_frame_count=4, reference_frame_count=5)
    graph["9"]["inputs"]["samples"] = ["21", 0]
    long = extended(graph, 2)
    clips = [key for key, each in long.items() if each["class_type"] == "VidRD_Extend"]
    first, second = of_type(long, "VidRD_WriteClip")
    assert first["latent"] == ["21", 0]
    assert long["21"]["inputs"]["latent"] == ["20", 0]
    assert long["20"]["inputs"] == {"destination": [clips[0], 0], "source": ["7", 2], "index": 0}
    assert second["latent"] == [clips[1], 0]


def set_by_a_primitive_node(name, number, widget):
    """A page whose own node of that kind sets a widget of a node."""
    page = to_page(FAMILIES[name](), definitions())
    maker = next(each for each in page["nodes"] if each["id"] == number)
    slot = [each["name"] for each in maker["inputs"]].index(widget)
    maker["inputs"][slot]["link"] = 800
    page["links"].append([800, 60, 0, number, slot, "INT"])
    page["nodes"].append({"id": 60, "type": "PrimitiveNode", "pos": [0, 500], "size": [9, 9], "mode": 0,
                          "inputs": [], "outputs": [{"name": "INT", "type": "INT", "links": [800]}],
                          "widgets_values": [832, "fixed"]})  # fmt: skip
    return page


def test_nodes_that_lead_nowhere_now_are_removed():
    def kept(page):
        long = extended(page)
        check_links(long)
        return 60 in [each["id"] for each in long["nodes"]]

    assert not kept(set_by_a_primitive_node("wan", 8, "denoise"))
    assert kept(set_by_a_primitive_node("wan", 8, "steps"))
    page = set_by_a_primitive_node("wan", 7, "width")
    page["nodes"].append({**page["nodes"][-1], "id": 61, "outputs": [{"name": "INT", "type": "INT", "links": []}]})
    assert 61 in [each["id"] for each in extended(page)["nodes"]]  # which led nowhere before


def test_values_of_the_page_s_own_primitive_node_are_known():
    long = extended(set_by_a_primitive_node("with_reference", 7, "width"))
    check_links(long)
    (kept,) = [each for each in long["nodes"] if each["id"] == 60]
    assert kept["outputs"][0]["links"] == [800]


@pytest.mark.parametrize(("name", "node_id"), [("wan", 8), ("custom", 12), ("sampler_custom", 8)])
@pytest.mark.parametrize("control", ["randomize", "increment", "fixed"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_seed_goes_on_changing_between_runs(name, node_id, control, inside):
    page = to_page(FAMILIES[name](), definitions())
    if inside:
        page = in_subgraph(page, {11} & {each["id"] for each in page["nodes"]})
    graph = graphs(page)[-1]
    (values,) = [each["widgets_values"] for each in graph["nodes"] if each["id"] == node_id]
    values[values.index("fixed")] = control
    long = extended(page)
    check_links(long)
    graph = graphs(long)[-1]
    seeds = [each for each in graph["nodes"] if each["type"] == "PrimitiveNode"]
    makers = [each for each in graph["nodes"] if each["type"] in ("VidRD_Extend", "VidRD_Noise")]
    assert {each["widgets_values_named"]["seed"] for each in makers} == {values[values.index(control) - 1]}
    if control == "fixed":
        assert seeds == []
    else:
        assert [each["widgets_values"] for each in seeds] == [[values[values.index(control) - 1], control]]
        assert len(seeds[0]["outputs"][0]["links"]) == len(makers) == 3


def test_a_seed_that_is_shown_is_told_to_be_fixed():
    page = to_page(FAMILIES["wan"](), definitions())
    next(each for each in page["nodes"] if each["id"] == 8)["widgets_values"][1] = "randomize"
    page["extra"] = {"linearData": {"inputs": [[8, "seed"], [8, "steps"]], "outputs": [8, 11]}}
    done = extend_workflow(parse_workflow(page), 2)
    assert done.notes == [
        "the seed of KSampler (node 8) is fixed at 82 now", "the app no longer shows steps of node 8",
        "the app no longer shows the output of node 8",
    ]  # fmt: skip


def custom_from_wan22():
    """The same for Wan 2.2's small model, whose node may do without a picture."""
    graph = FAMILIES["custom"]()
    graph["20"] = node("LoadImage", image="fox.png")
    graph["7"] = node(
        "Wan22ImageToVideoLatent", vae=["3", 0], width=832, height=480, length=33, batch_size=1, start_image=["20", 0]
    )
    return graph
