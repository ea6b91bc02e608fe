"""Inputs that get nothing: what is missing, muted, bypassed or open is named, with what to do."""

import pytest

from ...workflows.build import in_subgraph, to_page
from ...workflows.stock import definitions
from .graphs import FAMILIES, changed, node, wan
from .test_extend import extended, refusal

TAKEN = [
    *((name, "8", each) for name in ("wan", "sampler_custom") for each in ("model", "positive", "negative")),
    *(("wan", "9", each) for each in ("samples", "vae")),
    *(("custom", "13", each) for each in ("model", "positive", "negative")),
    *(("custom", "8", each) for each in ("noise", "guider", "sampler", "sigmas", "latent_image")),
    *(("with_sound", "18", "audio_vae"), ("with_sound", "16", "av_latent")),
    *(("two_passes", "31", "av_latent"), ("two_passes", "21", "latent")),
]


@pytest.mark.parametrize(("name", "at", "taken"), TAKEN)
def test_an_input_that_gets_nothing_is_named(name, at, taken):
    data = FAMILIES[name]()
    origin, _ = data[at]["inputs"][taken]
    label, kind = f"{data[at]['class_type']} (node {at})", data[origin]["class_type"]

    def said(graph):
        return refusal(graph).removeprefix(f"{label} is in the way: its input {taken} is ")

    def without(mode):
        page = to_page(data, definitions())
        next(each for each in page["nodes"] if str(each["id"]) == origin)["mode"] = mode
        return page

    assert said(without(2)) == f"connected to {kind} (node {origin}), which is muted; unmute it"
    if not any(isinstance(each, list) for each in data[origin]["inputs"].values()):  # nothing that it could pass on
        assert said(without(4)) == f"connected to {kind} (node {origin}), which is bypassed; enable it"
    if name != "two_passes":
        assert said(changed(data, **{f"n{at}": {taken: None}})) == "not connected; connect it"
    gone = changed(data, **{f"n{at}": {taken: ["99", 0]}})
    assert said(gone) == "connected to node 99, which is not in the file; connect it to another one"


def test_a_prompt_needs_the_text_encoder_s_model():
    graph = changed(wan(), n5={"clip": ["99", 0]})
    extended(graph)
    assert "CLIPTextEncode (node 5) is in the way: its input clip is connected to node 99" in refusal(
        graph, prompts=["a fox"]
    )


def test_settings_that_come_from_nowhere_are_named():
    for widget in ("seed", "denoise"):
        said = refusal(changed(wan(), n8={widget: ["99", 0]}))
        assert said.startswith(f"KSampler (node 8) is in the way: its input {widget} is connected to node 99, which")


def test_sound_that_nothing_takes_needs_no_vae():
    graph = changed(FAMILIES["with_sound"](), n18={"audio_vae": ["99", 0]})
    del graph["10"]["inputs"]["audio"]
    extended(graph)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (8, "VAEDecode (node 9) is in the way: its input samples is connected to KSampler (node 8), which"),
        (9, "CreateVideo (node 10) is in the way: its input images is connected to VAEDecode (node 9), which"),
        (10, "SaveVideo (node 11) is in the way: its input video is connected to CreateVideo (node 10), which"),
        (11, "no node saves a video: SaveVideo (node 11)"),
    ],
)
def test_nodes_that_do_not_run_are_named(number, message):
    page = to_page(wan(), definitions())
    (idle,) = [each for each in page["nodes"] if each["id"] == number]
    idle["mode"] = 2
    assert refusal(page) == f"{message} is muted; unmute it"
    idle["mode"] = 4
    if number == 8:
        message = (
            "VAEDecode (node 9) decodes latents of EmptyHunyuanLatentVideo (node 7), expected those of a "
            "sampler: KSampler (node 8)"
        )
    assert refusal(page) == f"{message} is bypassed; enable it"


def test_a_decoder_behind_another_node_is_named():
    graph = changed(wan(), n10={"images": ["12", 0]})
    graph |= {"12": node("ImageScale", image=["9", 0], upscale_method="area", width=64, height=64, crop="disabled")}
    page = to_page(graph, definitions())
    next(each for each in page["nodes"] if each["id"] == 9)["mode"] = 2
    assert refusal(page).startswith("ImageScale (node 12) is in the way: its input image is connected to VAEDecode ")


def test_subgraphs_that_give_nothing_are_named():
    page = in_subgraph(to_page(wan(), definitions()), {11})
    message = "SaveVideo (node 11) is in the way: its input video is connected to"
    page["nodes"][0]["mode"] = 2
    assert refusal(page) == f"{message} Video (node 900), which is muted; unmute it"
    page["nodes"][0] |= {"mode": 4, "title": "A fox"}
    assert refusal(page) == f"{message} Video 'A fox' (node 900), which is bypassed; enable it"
    page["nodes"][0]["mode"] = 0
    (inner,) = page["definitions"]["subgraphs"]
    inner["links"] = [each for each in inner["links"] if each["target_id"] != -20]
    assert refusal(page) == f"{message} output 1 of Video 'A fox' (node 900), which is open inside; connect it there"
    whole = in_subgraph(to_page(wan(), definitions()), set())
    whole["nodes"][0]["mode"] = 2
    assert refusal(whole) == "no node saves a video: Video (node 900) is muted; unmute it"


def test_an_open_input_of_a_subgraph_is_named():
    page = in_subgraph(to_page(wan(), definitions()), {11})
    (inner,) = page["definitions"]["subgraphs"]
    (link,) = [each for each in inner["links"] if (each["target_id"], each["type"]) == (9, "VAE")]
    link |= {"origin_id": -10, "origin_slot": 0}
    inner["inputs"] = [{"id": "x", "name": "vae", "type": "VAE", "linkIds": [link["id"]]}]
    page["nodes"][0]["inputs"] = [{"name": "vae", "type": "VAE", "link": None}]
    assert refusal(page) == (
        "VAEDecode (node 900:9) is in the way: its input vae is connected to the input vae of Video (node 900), "
        "which is not connected; connect it"
    )
