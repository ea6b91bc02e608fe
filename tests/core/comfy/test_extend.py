"""Workflows of one clip become workflows of many, in both of ComfyUI's formats."""

import copy
import json
import random
import re

import pytest

from vidrd_core.comfy.definitions import ADDED, WIDGETS
from vidrd_core.comfy.extend import MAX_CLIPS, extend_workflow
from vidrd_core.comfy.graphs import WorkflowError
from vidrd_core.comfy.page import height_of
from vidrd_core.comfy.workflow import parse_workflow, read_workflow

from ...workflows import slots
from ...workflows.build import in_subgraph, to_page
from ...workflows.convert import to_prompt
from ...workflows.files import ROOT, graphs, nodes, wires
from ...workflows.stock import definitions
from .graphs import FAMILIES, changed, node, same, wan

REUSE = {"prompt_frames": 4, "alpha": 4.0, "beta": 0.4, "order": "auto"}
MORE = {"preset": "for this model", "noise_policy": "pns", "release": "hard", "drift": 0.0, "loop": "none"}


def extended(data, clips=3, **settings):
    """A copy of a workflow as a long one."""
    data = copy.deepcopy(data)
    extend_workflow(parse_workflow(data), clips, **settings)
    return data


def refusal(data, **settings):
    """The message with which a workflow is refused; it is left as it was."""
    before = copy.deepcopy(data)
    with pytest.raises(WorkflowError) as caught:
        extend_workflow(parse_workflow(data), 3, **settings)
    assert data == before
    return str(caught.value)


def of_type(graph, class_type):
    """The inputs of all nodes of a type."""
    return [each["inputs"] for each in graph.values() if each["class_type"] == class_type]


@pytest.mark.parametrize("name", sorted(ADDED))
def test_our_record_of_nodes_is_theirs(name):
    definition = definitions()[name]
    known = list(slots.slots(definition))
    ours = ADDED[name]
    assert [(each.name, each.optional, each.is_widget) for each in ours.inputs] == [
        (each.name, each.optional, each.is_widget) for each in known if each.name != "bit_depth"
    ]
    assert [each.type for each in ours.inputs] == [each.type for each in known]
    outputs = list(zip(definition["output_name"], definition["output"], strict=True))
    assert list(ours.outputs) == [tuple(each) for each in outputs][: len(ours.outputs)]
    if ours.pack == "vidrd":
        assert {each.name: each.default for each in ours.inputs if each.is_widget} == {
            each.name: each.config["default"] for each in known if each.is_widget
        }


@pytest.mark.parametrize("name", sorted(WIDGETS.keys() & definitions().keys() - {"SaveVideo"}))
def test_widgets_are_read_in_the_page_s_order(name):
    ours, theirs = list(WIDGETS[name]), slots.widgets(definitions()[name])
    shorter = min(len(ours), len(theirs))  # versions of ComfyUI append some
    assert shorter or ours == theirs
    assert ours[:shorter] == theirs[:shorter]


def test_a_chain_of_extend_takes_the_place_of_k_sampler():
    expected = wan()
    for key in ("8", "9", "10", "11"):
        del expected[key]
    state, video = {}, {}
    for number in range(3):
        expected[f"clip{number}"] = node(
            "VidRD_Extend", model=["4", 0], positive=["5", 0], negative=["6", 0], latent=["7", 0], seed=82, steps=30,
            cfg=6.5, sampler_name="uni_pc", scheduler="simple", staging="paper", switch_step=0, **REUSE, **MORE,
            **state,
        )  # fmt: skip
        expected[f"write{number}"] = node(
            "VidRD_WriteClip", latent=[f"clip{number}", 0], vae=["3", 0], filename_prefix="video/fox", format="mp4",
            fps=16.0, scale=1, **video,
        )  # fmt: skip
        state, video = {"state": [f"clip{number}", 2]}, {"before": [f"write{number}", 0]}
    assert same(extended(wan())) == same(expected)


def test_a_custom_sampler_gets_noise_guidance_and_state():
    graph = extended(FAMILIES["custom"](), 2, prompt_frames=2, order="forward")
    (first, second), guided = of_type(graph, "VidRD_Noise"), of_type(graph, "VidRD_Guidance")
    assert [each["seed"] for each in (first, second)] == [11, 11]
    assert "state" not in first
    samplers = of_type(graph, "SamplerCustomAdvanced")
    assert [each["sigmas"] for each in samplers] == [["15", 0]] * 2
    assert [each["guider"] for each in samplers] == [["13", 0]] * 2
    for number, each in enumerate(samplers):
        assert graph[each["noise"][0]]["inputs"] == (first, second)[number]
        assert graph[each["sampler"][0]]["inputs"] == guided[number]
    states = of_type(graph, "VidRD_CollectState")
    assert second["state"] == guided[1]["state"]
    assert graph[second["state"][0]]["inputs"] == states[0]
    assert second["state"][1] == 1
    assert {each["prompt_frames"] for each in (first, second, *guided)} == {2}
    assert {each["order"] for each in (first, second, *guided)} == {"forward"}
    assert "12" not in graph


def test_sampler_custom_gets_a_guider():
    graph = extended(FAMILIES["sampler_custom"](), 2)
    assert of_type(graph, "CFGGuider") == [
        {"model": ["4", 0], "positive": ["5", 0], "negative": ["6", 0], "cfg": 3.0}
    ]
    assert [each["seed"] for each in of_type(graph, "VidRD_Noise")] == [12, 12]
    assert of_type(graph, "SamplerCustom") == []
    assert [(each["format"], each["fps"]) for each in of_type(graph, "VidRD_WriteClip")] == [("webm", 24.0)] * 2


def test_an_advanced_k_sampler_and_a_webp():
    graph = extended(FAMILIES["image_to_video"]())
    clips, written = of_type(graph, "VidRD_Extend"), of_type(graph, "VidRD_WriteClip")
    assert {(each["seed"], each["steps"], each["positive"][0], each["latent"][1]) for each in clips} == {
        (5, 20, "7", 2)
    }
    assert {(each["format"], each["fps"], each["filename_prefix"]) for each in written} == {("webp", 12.0, "fox")}


def test_sound_is_decoded_by_its_vae():
    graph = extended(FAMILIES["with_sound"]())
    assert {tuple(each["audio_vae"]) for each in of_type(graph, "VidRD_WriteClip")} == {("17", 0)}
    assert {each["class_type"] for each in graph.values()} & {"LTXVSeparateAVLatent", "LTXVAudioVAEDecode"} == set()


def test_sound_from_elsewhere_stays():
    graph = FAMILIES["custom"]() | {"20": node("LoadAudio", audio="song.mp3")}
    long = extended(changed(graph, n10={"audio": ["20", 0]}))
    (joined,) = of_type(long, "CreateVideo")
    assert joined["audio"] == ["20", 0]
    parts = long[joined["images"][0]]
    assert parts["class_type"] == "GetVideoComponents"
    last = parts["inputs"]["video"][0]
    assert all(each.get("before") != [last, 0] for each in of_type(long, "VidRD_WriteClip"))


def test_nodes_after_the_decoder_get_all_frames():
    graph = wan() | {
        "12": node("ImageScale", image=["9", 0], upscale_method="area", width=64, height=64, crop="disabled")
    }
    data = changed(graph, n10={"images": ["12", 0]})
    long = extended(data)
    (scaled,) = of_type(long, "ImageScale")
    assert long[scaled["image"][0]]["class_type"] == "GetVideoComponents"
    assert of_type(long, "SaveVideo") == [wan()["11"]["inputs"]]
    assert {each["fps"] for each in of_type(long, "VidRD_WriteClip")} == {16.0}
    done = extend_workflow(parse_workflow(copy.deepcopy(data)), 3)
    assert done.notes == ["ImageScale (node 12): works on all frames of the long video together, as written"]


@pytest.mark.parametrize("name", ["wan", "custom", "sampler_custom"])
def test_prompts_for_each_clip(name):
    graph = extended(FAMILIES[name](), 3, prompts=["a fox", "a bear"])
    texts = {key: each["inputs"] for key, each in graph.items() if each["class_type"] == "CLIPTextEncode"}
    assert sorted(each["text"] for each in texts.values()) == ["a bear", "a fox", "ugly"]
    assert {tuple(each["clip"]) for each in texts.values()} == {("2", 0)}
    makers = of_type(graph, "VidRD_Extend") or [
        graph[each["guider"][0]]["inputs"] for each in of_type(graph, "SamplerCustomAdvanced")
    ]
    assert [texts[each["positive"][0]]["text"] for each in makers] == ["a fox", "a bear", "a bear"]
    assert {each["cfg"] for each in makers} == {6.5 if name == "wan" else 4.0 if name == "custom" else 3.0}


@pytest.mark.parametrize("name", ["wan", "custom", "sampler_custom"])
def test_prompts_in_the_page_s_format(name):
    """A guider that is added for all clips goes again, if each clip has one of its own."""
    page = extended(to_page(FAMILIES[name](), definitions()), 3, prompts=["a fox", "a bear"])
    check_links(page)
    filled = to_prompt(to_page(FAMILIES[name](), definitions()), definitions())
    assert same(to_prompt(page, definitions())) == same(extended(filled, 3, prompts=["a fox", "a bear"]))


def test_prompts_need_a_plain_encoder():
    said = refusal(FAMILIES["image_to_video"](), prompts=["a fox"])
    assert said.startswith("WanImageToVideo (node 7) is in the way of --prompt: ")


@pytest.mark.parametrize("name", FAMILIES)
def test_both_formats_and_subgraphs_become_the_same(name):
    prompt, known = FAMILIES[name](), definitions()
    page = to_page(prompt, known)
    filled = to_prompt(page, known)
    expected = same(extended(filled))
    assert same(to_prompt(extended(page), known)) == expected
    if "11" in prompt:
        inside = in_subgraph(page, {11})
        assert same(to_prompt(inside, known)) == same(filled)
        assert same(to_prompt(extended(inside), known)) == expected


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("inside", [False, True])
def test_the_page_s_links_and_places_are_right(name, inside):
    page = to_page(FAMILIES[name](), definitions())
    if inside:
        page = in_subgraph(page, {11} & {node["id"] for node in page["nodes"]})
    page["groups"] = [{"id": 1, "title": "All", "bounding": [0, -50, 4000, 300], "color": "#fff", "flags": {}}]
    long = extended(page)
    check_links(long)
    changed_graph = graphs(long)[-1]
    *before, group = changed_graph["groups"]
    assert group["title"] == "VidRD: 3 clips"
    left, top, width, height = group["bounding"]
    new = [each for each in changed_graph["nodes"] if each["type"] in ADDED and "cnr_id" in each["properties"]]
    assert len(new) >= 6
    for each in new:
        x, y = each["pos"]
        assert left < x < x + each["size"][0] < left + width
        assert top < y < y + each["size"][1] < top + height
    for one in new:
        for other in (each for each in changed_graph["nodes"] if each is not one):
            assert apart(one, other), (one["type"], other["type"])
    assert all(before_group["bounding"][1] + before_group["bounding"][3] <= top for before_group in before)


def test_nodes_have_room_for_their_pictures():
    text = (ROOT / "web" / "js" / "reuse_map.js").read_text(encoding="utf-8")
    high, low, margin = map(int, re.search(r"HEIGHT = (\d+), LOW = (\d+), MARGIN = (\d+)", text).groups())
    kinds = set(re.search(r"const NODES = \[(.*)\]", text)[1].replace('"', "").split(", ")) & ADDED.keys()
    assert kinds == {"VidRD_Extend", "VidRD_Noise", "VidRD_Guidance"}
    for kind in kinds:
        widgets, sockets = ADDED[kind].widgets, [each for each in ADDED[kind].inputs if not each.is_widget]
        plain = 40 + 22 * max(len(sockets), len(ADDED[kind].outputs)) + 26 * len(widgets)
        assert height_of(kind) == plain + (high if "beta" in widgets else low) + 2 * margin


def apart(one, other):
    """Whether two nodes do not cover each other."""
    return any(
        a["pos"][axis] + a["size"][axis] <= b["pos"][axis] for a, b in ((one, other), (other, one)) for axis in (0, 1)
    )


def check_links(workflow, twice=0):
    """Links and nodes agree at both ends, and ids are unique in the file, but for those it had twice."""
    ids = [each["id"] for graph in graphs(workflow) for each in graph["nodes"]]
    assert len(set(ids)) == len(ids) - twice
    for graph in graphs(workflow):
        by_id = {each["id"]: each for each in graph["nodes"]}
        told = {wire.id: wire for wire in wires(graph)}
        assert len(told) == len(graph["links"])
        leaving, arriving = [], []
        for each in by_id.values():
            for slot, output in enumerate(each["outputs"]):
                leaving += [(number, each["id"], slot) for number in output["links"] or []]
            for slot, socket in enumerate(each["inputs"]):
                arriving += [(socket["link"], each["id"], slot)] * (socket.get("link") is not None)
        for slot, socket in enumerate(graph.get("inputs", [])):
            leaving += [(number, -10, slot) for number in socket["linkIds"]]
        for slot, output in enumerate(graph.get("outputs", [])):
            arriving += [(number, -20, slot) for number in output["linkIds"]]
        assert sorted(leaving) == sorted((w.id, w.origin_id, w.origin_slot) for w in told.values())
        assert sorted(arriving) == sorted((w.id, w.target_id, w.target_slot) for w in told.values())
        assert workflow["last_node_id"] >= max(by_id)
        assert workflow["last_link_id"] >= max(told, default=0)


def test_values_that_come_from_nodes_stay_connected():
    """As a seed that a subgraph or a primitive node sets."""
    graph = FAMILIES["custom"]() | {"20": node("PrimitiveInt", value=99), "21": node("PrimitiveInt", value=12)}
    data = changed(graph, n12={"noise_seed": ["20", 0]}, n10={"fps": ["21", 0]})
    page = to_page(data, definitions())
    next(each for each in page["nodes"] if each["id"] == 12)["widgets_values"][0] = 77
    page = extended(page)
    for each in (each for each in page["nodes"] if each["type"] == "VidRD_Noise"):
        assert each["widgets_values_named"]["seed"] == each["widgets_values"][0] == 77  # as it was saved
    long = to_prompt(page, definitions())
    assert {tuple(each["seed"]) for each in of_type(long, "VidRD_Noise")} == {("20", 0)}
    assert {tuple(each["fps"]) for each in of_type(long, "VidRD_WriteClip")} == {("21", 0)}


@pytest.mark.parametrize(("name", "node_id", "widget"), [("wan", 8, "seed"), ("custom", 12, "noise_seed")])
def test_a_seed_that_a_subgraph_shows_is_still_one_for_all_clips(name, node_id, widget):
    page = in_subgraph(to_page(FAMILIES[name](), definitions()), {11})
    shown = [[str(node_id), widget], [str(node_id), "control_after_generate"], ["5", "text"], ["9", "tile_size"]]
    page["nodes"][0]["properties"] = {"proxyWidgets": shown}
    long = extended(page)
    check_links(long)
    (seed,) = [each for each in nodes(long) if each["type"] == "PrimitiveInt"]
    assert seed["widgets_values"] == [FAMILIES[name]()[str(node_id)]["inputs"][widget]]
    assert long["nodes"][0]["properties"]["proxyWidgets"] == [
        [str(seed["id"]), "value"], [str(seed["id"]), "control_after_generate"], ["5", "text"],
    ]  # fmt: skip
    sent = to_prompt(long, definitions())
    makers = of_type(sent, "VidRD_Extend") or of_type(sent, "VidRD_Noise")
    assert {each["seed"][0] for each in makers} == {f"900:{seed['id']}"}


def test_muted_and_bypassed_nodes_are_no_obstacle():
    graph = wan() | {
        "12": node("SaveWEBM", images=["9", 0], filename_prefix="x", codec="vp9", fps=24.0, crf=30.0),
        "13": node("KSampler", **{**wan()["8"]["inputs"], "latent_image": ["8", 0]}),
    }
    page = to_page(graph, definitions())
    for each in page["nodes"]:
        each["mode"] = {12: 2, 13: 4}.get(each["id"], 0)
    long = extended(page)
    check_links(long)
    assert same(to_prompt(long, definitions())) == same(
        to_prompt(extended(to_page(wan(), definitions())), definitions())
    )
    assert {each["type"] for each in nodes(long)} >= {"SaveWEBM", "KSampler"}


WAYS = {
    "two samplers in a row": (
        wan() | {"12": node("KSampler", **{**wan()["8"]["inputs"], "latent_image": ["8", 0]}),
                 "9": node("VAEDecode", samples=["12", 0], vae=["3", 0])},
        "KSampler (node 12) is in the way: it goes on with the latents of KSampler (node 8)",
    ),
    "a part of the steps": (
        changed(FAMILIES["image_to_video"](), n8={"start_at_step": 10}), "KSamplerAdvanced (node 8) is in the way"
    ),
    "denoise": (changed(wan(), n8={"denoise": 0.5}), "KSampler (node 8) is in the way: its denoise is 0.5"),
    "denoise of the schedule": (
        changed(FAMILIES["custom"](), n15={"denoise": 0.5}), "BasicScheduler (node 15) is in the way"
    ),
    "sigmas": (
        changed(FAMILIES["custom"](), n8={"sigmas": ["20", 0]})
        | {"20": node("SplitSigmas", sigmas=["15", 0], step=5)},
        "SplitSigmas (node 20) is in the way",
    ),
    "noise": (FAMILIES["custom"]() | {"12": node("DisableNoise")}, "DisableNoise (node 12) is in the way"),
    "a film that guides": (
        FAMILIES["first_and_last"]() | {"20": node("LoadVideo", file="film.mp4")},
        "LTXVAddGuide (node 22) is in the way: it guides each clip by the same film",
    ),
    "several guides in one node": (
        FAMILIES["first_and_last"]() | {"23": node("LTXVAddGuideMulti", **{
            name: each for name, each in FAMILIES["first_and_last"]()["23"]["inputs"].items() if name != "image"
        })},
        "LTXVAddGuideMulti (node 23) is in the way: it adds several pictures",
    ),
    "a place that is not known": (
        changed(FAMILIES["first_and_last"](), n22={"frame_idx": ["40", 0]})
        | {"40": node("ComfyMathExpression", expression="a")},
        "LTXVAddGuide (node 22) is in the way: the place of its picture is not known",
    ),
    "frames replaced in the middle": (
        changed(wan(), n9={"samples": ["20", 0]})
        | {"20": node("ReplaceVideoLatentFrames", destination=["8", 0], source=["7", 0], index=3)},
        "ReplaceVideoLatentFrames (node 20) is in the way: it changes latents in the middle",
    ),
    "given sound": (
        changed(FAMILIES["two_passes"](), n23={"audio_latent": ["40", 0]})
        | {"40": node("LTXVAudioVAEEncode", audio=["41", 0], audio_vae=["17", 0]),
           "41": node("LoadAudio", audio="song.mp3")},
        "LTXVAudioVAEEncode (node 40) is in the way: it gives each clip the same sound",
    ),
    "a pass without noise": (
        FAMILIES["two_passes"]() | {"38": node("DisableNoise")},
        "SamplerCustomAdvanced (node 8) is in the way: it goes on with the latents of SamplerCustomAdvanced",
    ),
    "frames in between": (
        changed(FAMILIES["two_passes"](), n33={"model_name": "ltx-2-temporal-upscaler-x2-1.0.safetensors"}),
        "LTXVLatentUpsampler (node 34) is in the way: it changes the number of frames between two passes",
    ),
    "latents joined in between": (
        changed(FAMILIES["two_passes"](), n35={"latent": ["40", 0]})
        | {"40": node("LatentConcat", samples1=["34", 0], samples2=["34", 0])},
        "LatentConcat (node 40) is in the way: it changes the latents between two passes",
    ),
    "decoded in between": (
        changed(FAMILIES["two_passes"](), n37={"positive": ["40", 0]})
        | {"40": node("WanImageToVideo", positive=["32", 0], vae=["3", 0], start_image=["41", 0]),
           "41": node("VAEDecode", samples=["31", 0], vae=["3", 0])},
        "VAEDecode (node 41) is in the way: SamplerCustomAdvanced (node 8) depends on what it decodes",
    ),
    "latents": (
        changed(wan(), n9={"samples": ["12", 0]})
        | {"12": node("LatentConcat", samples1=["8", 0], samples2=["7", 0])},
        "LatentConcat (node 12) is in the way: it changes the latents",
    ),
    "another maker": (
        changed(wan(), n11={"video": ["12", 0]}) | {"12": node("KlingVideoNode", prompt="a fox")},
        "KlingVideoNode (node 12) is in the way: the video of SaveVideo (node 11) comes from it",
    ),
    "reference": (
        changed(FAMILIES["image_to_video"](), n9={"samples": ["20", 0]})
        | {"20": node("TrimVideoLatent", samples=["8", 0], trim_amount=1)},
        "TrimVideoLatent (node 20) is in the way",
    ),
    "no video": ({"1": node("LoadImage", image="a.png")}, "no node saves a video"),
}  # fmt: skip


@pytest.mark.parametrize("name", WAYS)
def test_a_refusal_names_the_node_in_the_way(name):
    graph, message = WAYS[name]
    assert refusal(graph).startswith(message)


def test_it_tells_the_title_of_a_node():
    graph = changed(wan(), n8={"denoise": 0.5})
    graph["8"]["_meta"] = {"title": "Second pass"}
    assert refusal(graph).startswith("KSampler 'Second pass' (node 8) is in the way")
    page = to_page(graph, definitions())
    assert refusal(in_subgraph(page, {11})).startswith("KSampler 'Second pass' (node 900:8) is in the way")


def test_settings_are_checked():
    with pytest.raises(ValueError, match=f"expected 1 to {MAX_CLIPS}"):
        extended(wan(), MAX_CLIPS + 1)
    with pytest.raises(ValueError, match="3 prompts for 2 clips"):
        extended(wan(), 2, prompts=["a", "b", "c"])


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"nodes": [1], "links": []}', '{"1": {"class_type": 3}}', '{"nodes": [{}]}']
)
def test_a_file_that_is_no_workflow_is_named(text, tmp_path):
    path = tmp_path / "odd.json"
    path.write_text(text)
    with pytest.raises(WorkflowError, match=r"odd\.json is "):
        read_workflow(path)


def places(data, path=()):
    """The paths of all values in a file."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from places(value, (*path, key))


@pytest.mark.parametrize("form", ["prompt", "page", "subgraph"])
def test_damage_is_told_in_words(form):
    """Wherever a value is missing or of another type, there is a message, or it does not matter."""
    whole = FAMILIES["with_sound"]()
    if form != "prompt":
        whole = to_page(whole, definitions())
    if form == "subgraph":
        whole = in_subgraph(whole, {11})
    chosen, refused = random.Random(5), []
    for path in chosen.choices(sorted(places(whole), key=str), k=250):
        damaged = copy.deepcopy(whole)
        holder = damaged
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = chosen.choice([None, "x", 7, [1], {}])
        try:
            extend_workflow(parse_workflow(damaged), 2)
        except WorkflowError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert all(" " in message for message in refused)


def test_links_that_lead_nowhere_are_dropped():
    """Saved workflows have such links; the page drops them, too."""
    page = to_page(wan(), definitions())
    page["links"] += [[77, 8, 0, 999, 0, "LATENT"], [78, 999, 0, 8, 0, "MODEL"], [79, 8, 0, 9, 99, "LATENT"]]
    expected = extended(to_page(wan(), definitions()))
    assert same(to_prompt(extended(page), definitions())) == same(to_prompt(expected, definitions()))


def test_the_rest_of_the_file_stays():
    page = to_page(wan(), definitions())
    page["extra"] = {"ds": {"scale": 1}, "linearData": {"inputs": [[8, "seed"], [5, "text"]], "outputs": [11]}}
    page["nodes"].append({"id": 50, "type": "MarkdownNote", "pos": [0, 500], "size": [9, 9], "mode": 0,
                          "widgets_values": ["hello"]})  # fmt: skip
    long = json.loads(json.dumps(extended(page)))
    assert long["extra"]["ds"] == {"scale": 1}
    (seed,) = [each for each in long["nodes"] if each["type"] == "PrimitiveInt"]
    (written,) = [each for each in long["nodes"] if each.get("title") == "Write, clip 3"]
    assert seed["widgets_values"][0] == 82
    assert long["extra"]["linearData"] == {"inputs": [[seed["id"], "value"], [5, "text"]], "outputs": [written["id"]]}
    kept = {each["id"]: each for each in long["nodes"]}
    for each in page["nodes"]:
        if each["id"] in (1, 2, 50):
            assert (
                kept[each["id"]].items() >= {k: v for k, v in each.items() if k not in ("order", "outputs")}.items()
            )


def two_experts(**changes):
    """The video from a picture, of which a second model takes the last steps; `changes` are the second sampler's."""
    data = FAMILIES["image_to_video"]()
    first = data["8"]["inputs"]
    second = {**first, "model": ["low", 0], "latent_image": ["8", 0], "add_noise": "disable", "start_at_step": 7}
    second |= {"end_at_step": 10000, "return_with_leftover_noise": "disable", **changes}
    first |= {"end_at_step": 7, "return_with_leftover_noise": "enable"}
    data |= {
        "low": node("UNETLoader", unet_name="low.safetensors", weight_dtype="default"),
        "99": node("KSamplerAdvanced", **second),
    }
    data["9"]["inputs"]["samples"] = ["99", 0]
    return data


def test_two_experts_become_one_extend_a_clip():
    plain, both = (of_type(extended(data), "VidRD_Extend") for data in (FAMILIES["image_to_video"](), two_experts()))
    assert len(both) == 3
    for one, two in zip(plain, both, strict=True):
        ours = {name: value for name, value in two.items() if name not in ("model_low_noise", "switch_step", "state")}
        assert ours == {name: value for name, value in one.items() if name not in ("switch_step", "state")}
        assert (two["model_low_noise"], two["switch_step"]) == (["low", 0], 7)


def test_the_words_on_two_experts_name_what_differs():
    words = "; two experts would need the same "
    assert refusal(two_experts(cfg=1.0)).endswith(f"{words}cfg (1.0; cfg of the first is 3.5)")
    assert refusal(two_experts(start_at_step=8, negative=["5", 0])).endswith(
        f"{words}negative, start_at_step (8; end_at_step of the first is 7)"
    )
    assert words not in refusal(two_experts(add_noise="enable"))


@pytest.mark.parametrize(("at", "idle"), [(0, "8"), (20, "99"), (25, "99")])
def test_two_experts_take_steps_each(at, idle):
    data = two_experts(start_at_step=at)
    data["8"]["inputs"]["end_at_step"] = at
    assert refusal(data).startswith(
        f"KSamplerAdvanced (node {idle}) is in the way: it takes no steps, as end_at_step of KSamplerAdvanced "
        f"(node 8) is {at}, expected 1 to 19; set it"
    )


@pytest.mark.parametrize(
    ("sampler", "seed", "told"),
    [
        ("dpmpp_2m_sde", 9, True),
        ("lcm", 9, True),
        ("euler_ancestral", 9, True),
        ("euler", 9, False),
        ("lcm", 5, False),
    ],
)
def test_a_seed_that_is_dropped_is_told(sampler, seed, told):
    data = two_experts(sampler_name=sampler, noise_seed=seed)
    data["8"]["inputs"]["sampler_name"] = sampler
    notes = extend_workflow(parse_workflow(data), 2).notes
    line = (
        f"the noise that {sampler} adds in the last steps is of the seed of KSamplerAdvanced (node 8), not of "
        f"KSamplerAdvanced (node 99) ({seed})"
    )
    assert (line in notes) == told


@pytest.mark.parametrize("changes", [{"start_at_step": 8}, {"add_noise": "enable"}, {"cfg": 1.0}, {"end_at_step": 9}])
def test_samplers_that_are_no_two_experts_are_refused(changes):
    assert "(node 99) is in the way: it goes on with the latents of KSamplerAdvanced" in refusal(
        two_experts(**changes)
    )
