"""What saves the videos of a workflow gives way to Decode & Write Clip, or stays, and is told of."""

import copy

import pytest

from vidrd_core.comfy.extend import extend_workflow
from vidrd_core.comfy.workflow import parse_workflow

from ...workflows.build import in_subgraph, to_page
from ...workflows.convert import to_prompt
from ...workflows.stock import definitions
from .graphs import FAMILIES, changed, node, wan
from .test_extend import check_links, extended, of_type, refusal

UNKNOWN = node("ComfyMathExpression", expression="a / 2")


def notes(data, **settings):
    """What is told of a long workflow."""
    return extend_workflow(parse_workflow(copy.deepcopy(data)), 3, **settings).notes


def vhs(**inputs):
    """Wan's workflow, saved by VideoHelperSuite."""
    graph = wan()
    del graph["11"]
    graph["10"] = node("VHS_VideoCombine", **{
        "images": ["9", 0], "frame_rate": 16.0, "loop_count": 0, "filename_prefix": "film",
        "format": "video/h264-mp4", "pingpong": False, "save_output": True, **inputs,
    })  # fmt: skip
    return graph


@pytest.mark.parametrize(
    ("name", "ours"),
    [("video/h264-mp4", "mp4"), ("image/gif", "gif"), ("image/webp", "webp"), ("video/webm", "webm"),
     ("video/av1-webm", "webm"), ("video/ffmpeg-gif", "gif"), ("video/ProRes", "mp4")],
)  # fmt: skip
def test_the_format_of_video_helper_suite_is_taken(name, ours):
    written = of_type(extended(vhs(format=name)), "VidRD_WriteClip")
    assert {(each["format"], each["filename_prefix"], each["fps"]) for each in written} == {(ours, "film", 16.0)}
    told = [f"VHS_VideoCombine (node 10) saves {name}, which Decode & Write Clip does not: mp4 is written"]
    assert notes(vhs(format=name)) == (told if "ProRes" in name else [])


def test_what_is_lost_of_video_helper_suite_is_told():
    said = "VHS_VideoCombine (node 10) is lost: the long video"
    assert notes(vhs(pingpong=True)) == [f"pingpong of {said} is written forwards alone"]
    assert notes(vhs(save_output=False)) == [f"save_output of {said} goes to the output folder"]
    graph = vhs() | {"12": node("VHS_PruneOutputs", filenames=["10", 0], options="all")}
    assert notes(graph) == [
        "VHS_PruneOutputs (node 12): disconnected, as Decode & Write Clip does not give the file names of "
        "VHS_VideoCombine (node 10)"
    ]
    assert "filenames" not in extended(graph)["12"]["inputs"]


@pytest.mark.parametrize(
    ("name", "at", "settings", "lines"),
    [
        ("wan", 10, {"bit_depth": 10}, ["bit_depth of CreateVideo (node 10) is lost: 8 bits are written"]),
        ("wan", 10, {"bit_depth": 8}, []),
        ("wan", 11, {"format": "mkv"}, ["format of SaveVideo (node 11) is lost: mp4 is written"]),
        ("wan", 11, {"format": "webm", "codec": "vp9"}, []),
        ("wan", 11, {"codec": "av1"}, ["codec of SaveVideo (node 11) is lost: mp4 is written as H.264, webm as VP9"]),
        (
            "image_to_video", 10, {"lossless": True},
            ["lossless of SaveAnimatedWEBP (node 10) is lost: above 256 x 256 pixels the quality is 95"],
        ),
        (
            "sampler_custom", 10, {"codec": "av1"},
            ["tile_size of VAEDecodeTiled (node 9) is lost: a clip is decoded whole, or in ComfyUI's own tiles where "
             "memory is short",
             "codec of SaveWEBM (node 10) is lost: VP9 is written",
             "crf of SaveWEBM (node 10) is lost: up to 256 x 256 pixels it is 12, and 20 above"],
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("page", [False, True])
def test_settings_that_are_lost_are_told(name, at, settings, lines, page):
    data = changed(FAMILIES[name](), **{f"n{at}": settings})
    if page:
        data = to_page(data, definitions())
        if "bit_depth" in settings:  # which the page of the recorded version lacks
            next(each for each in data["nodes"] if each["id"] == at)["widgets_values"][1:] = settings.values()
    told = notes(data)
    assert [each for each in told if " is lost: " in each] == lines


def test_the_encoding_that_newer_pages_choose_is_told_as_lost():
    said = "of SaveVideo (node 11) is lost: quality and colours are those of Decode & Write Clip"
    chosen = {"format.codec": "h264", "format.codec.encoding": "re-encode", "format.codec.encoding.crf": 10.0}
    assert notes(changed(wan(), n11=chosen)) == [f"format.codec.encoding {said}"]
    page = to_page(wan(), definitions())
    saver = next(each for each in page["nodes"] if each["id"] == 11)
    saver["widgets_values"] = ["fox", "mp4", "h264", "re-encode", 10.0, "sRGB", "auto"]
    assert notes(page) == [f"encoding {said}"]
    saver["widgets_values"] = ["fox", "auto", "auto", "h264"]  # the last one is a codec that is not shown
    assert notes(page) == []


def test_settings_that_nodes_compute_are_told_as_lost():
    graph = changed(wan(), n10={"bit_depth": ["20", 0]}) | {"20": UNKNOWN}
    assert notes(graph) == ["bit_depth of CreateVideo (node 10) is lost: 8 bits are written"]
    graph["20"] = node("PrimitiveInt", value=8)
    assert notes(graph) == []


def test_a_whole_frame_rate_becomes_a_number():
    graph = vhs(frame_rate=["12", 0]) | {"12": node("PrimitiveInt", value=12)}
    assert {each["fps"] for each in of_type(extended(graph), "VidRD_WriteClip")} == {12.0}
    assert notes(graph) == ["the frame rate of PrimitiveInt (node 12) is set as a number, 12: it is no FLOAT"]
    graph["12"] = node("PrimitiveFloat", value=12.5)
    assert {tuple(each["fps"]) for each in of_type(extended(graph), "VidRD_WriteClip")} == {("12", 0)}


def test_a_frame_rate_of_another_type_is_refused():
    page = to_page(FAMILIES["image_to_video"](), definitions())
    saver = next(each for each in page["nodes"] if each["id"] == 10)
    saver |= {"type": "VHS_VideoCombine", "widgets_values": {"frame_rate": 8, "format": "image/gif"}}
    page["nodes"].append({"id": 60, "type": "GetFrameRate", "pos": [0, 0], "size": [9, 9], "mode": 0, "inputs": [],
                          "outputs": [{"name": "fps", "type": "INT", "links": [700]}]})  # fmt: skip
    saver["inputs"].append({"name": "frame_rate", "type": "FLOAT", "widget": {"name": "frame_rate"}, "link": 700})
    page["links"].append([700, 60, 0, 10, len(saver["inputs"]) - 1, "INT"])
    assert refusal(page).startswith("GetFrameRate (node 60) is in the way: it gives VHS_VideoCombine (node 10)")


def test_one_saver_gives_way_and_others_stay():
    graph = wan() | {"12": node("SaveVideo", video=["10", 0], filename_prefix="two", format="auto", codec="auto")}
    long = extended(graph)
    assert {each["filename_prefix"] for each in of_type(long, "VidRD_WriteClip")} == {"video/fox"}
    (kept,) = of_type(long, "SaveVideo")
    assert kept["filename_prefix"] == "two"
    assert long[kept["video"][0]]["_meta"]["title"] == "Write, clip 3"
    assert notes(graph) == [
        "SaveVideo (node 12): saves the long video, too, which Decode & Write Clip writes as video/fox"
    ]


def with_a_made_name():
    """A subgraph whose video is saved outside, under a name that a node makes."""
    page = in_subgraph(to_page(wan(), definitions()), {11})
    saver = page["nodes"][1]
    page["nodes"].append({"id": 960, "type": "StringConcatenate", "pos": [0, 0], "size": [9, 9], "mode": 0,
                          "inputs": [], "outputs": [{"name": "STRING", "type": "STRING", "links": [2500]}],
                          "widgets_values": ["films/", "night", ""]})  # fmt: skip
    slot = [each["name"] for each in saver["inputs"]].index("filename_prefix")
    saver["inputs"][slot]["link"] = 2500
    page["links"].append([2500, 960, 0, 11, slot, "STRING"])
    return page | {"last_node_id": 960, "last_link_id": 2500}


def test_a_saver_whose_name_cannot_be_taken_stays():
    page = with_a_made_name()
    long = extended(page)
    check_links(long)
    assert {each["type"] for each in long["nodes"]} >= {"SaveVideo", "StringConcatenate"}
    assert notes(page) == [
        "SaveVideo (node 11): saves the long video, too, which Decode & Write Clip writes as vidrd/video"
    ]
    graph = wan() | {"12": node("StringConcatenate", string_a="films/", string_b="night", delimiter="")}
    graph = changed(graph, n11={"filename_prefix": ["12", 0]})  # beside the decoder it can be
    assert {tuple(each["filename_prefix"]) for each in of_type(extended(graph), "VidRD_WriteClip")} == {("12", 0)}
    assert of_type(extended(graph), "SaveVideo") == notes(graph) == []


def used_twice(name):
    """Two uses of a subgraph, whose videos are saved outside: the second one's as `name`."""
    page = in_subgraph(to_page(wan(), definitions()), {11})
    use, saver = copy.deepcopy(page["nodes"])
    use["outputs"][0]["links"] = [2600]
    saver["inputs"][0]["link"] = 2600
    saver["widgets_values"][0] = name
    page["nodes"] += [use | {"id": 960}, saver | {"id": 961}]
    page["links"].append([2600, 960, 0, 961, 0, "VIDEO"])
    return page | {"last_node_id": 961, "last_link_id": 2600}


@pytest.mark.parametrize("name", ["two", "video/fox"])
def test_savers_of_a_subgraph_that_is_used_twice(name):
    page = used_twice(name)
    long = extended(page)
    check_links(long)
    sent = to_prompt(long, definitions())
    assert len(of_type(sent, "VidRD_WriteClip")) == 6
    if name == "two":
        assert sorted(each["filename_prefix"] for each in of_type(sent, "SaveVideo")) == ["two", "video/fox"]
        assert notes(page) == [
            "SaveVideo (node 11), SaveVideo (node 961): saves the long video, too, which Decode & Write Clip writes "
            "as vidrd/video"
        ]
    else:
        assert of_type(sent, "SaveVideo") == notes(page) == []
        assert {each["filename_prefix"] for each in of_type(sent, "VidRD_WriteClip")} == {name}


def test_a_use_of_a_subgraph_that_saves_nothing_does_not_begin_to():
    page = used_twice("two")
    page["nodes"][-1]["mode"] = 2
    assert refusal(page) == (
        "Video (node 960) is in the way: it uses the same subgraph as Video (node 900), and would write its video, "
        "too, which nothing saves now; mute or delete it, or unpack it (Unpack Subgraph)"
    )
    page["nodes"][-2]["mode"] = 2
    sent = to_prompt(extended(page), definitions())
    assert len(of_type(sent, "VidRD_WriteClip")) == 3
    del page["nodes"][-2:], page["links"][-1]
    assert sent == to_prompt(extended(page), definitions())


def test_what_gets_the_last_clip_alone_is_told():
    graph = FAMILIES["with_sound"]() | {
        "40": node("VAEDecode", samples=["16", 0], vae=["3", 0]),
        "41": node("SaveImage", images=["40", 0], filename_prefix="frames"),
        "42": node("SaveLatent", samples=["8", 0], filename_prefix="latents"),
    }
    assert notes(graph) == ["the latents of the last clip alone go to SaveLatent (node 42), VAEDecode (node 40)"]


@pytest.mark.parametrize(
    ("name", "at", "widget"),
    [("wan", "n8", "denoise"), ("custom", "n15", "denoise"), ("image_to_video", "n8", "start_at_step"),
     ("image_to_video", "n8", "end_at_step"), ("image_to_video", "n8", "add_noise"),
     ("sampler_custom", "n8", "add_noise")],
)  # fmt: skip
def test_a_setting_that_is_not_known_is_refused(name, at, widget):
    graph = changed(FAMILIES[name](), **{at: {widget: ["50", 0]}}) | {"50": UNKNOWN}
    kind = graph[at[1:]]["class_type"]
    assert refusal(graph).startswith(
        f"{kind} (node {at[1:]}) is in the way: ComfyMathExpression (node 50) sets its {widget} when"
    )


def test_unknown_steps_matter_where_the_last_one_is_given():
    graph = changed(FAMILIES["image_to_video"](), n8={"steps": ["50", 0]}) | {"50": UNKNOWN}
    assert {tuple(each["steps"]) for each in of_type(extended(graph), "VidRD_Extend")} == {("50", 0)}
    assert "sets its steps when the workflow runs" in refusal(changed(graph, n8={"end_at_step": 20}))


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [("SDTurboScheduler", {"model": ["4", 0], "steps": 4}), ("GITSScheduler", {"coeff": 1.2, "steps": 10}),
     ("AlignYourStepsScheduler", {"model_type": "SVD", "steps": 10}),
     ("OptimalStepsScheduler", {"model_type": "Wan", "steps": 10})],
)  # fmt: skip
def test_each_schedule_that_leaves_out_steps_is_refused(kind, inputs):
    graph = FAMILIES["custom"]() | {"15": node(kind, **inputs, denoise=0.5)}
    assert refusal(graph).startswith(f"{kind} (node 15) is in the way: its denoise is below 1")
    assert "denoise is 0, expected 1" in refusal(changed(wan(), n8={"denoise": 0.0}))


@pytest.mark.parametrize("name", ["with_sound", "two_passes", "first_and_last"])
def test_sound_that_is_not_decoded_is_no_part_of_what_is_written(name):
    graph = FAMILIES[name]()
    del graph["18"], graph["10"]["inputs"]["audio"]
    long = extended(graph)
    written = of_type(long, "VidRD_WriteClip")
    assert len(written) == 3
    states = []
    for each in written:
        assert "audio_vae" not in each
        assert each["latent"][1] == 0
        separated = long[each["latent"][0]]
        assert separated["class_type"] == "LTXVSeparateAVLatent"
        states.append(separated["inputs"]["av_latent"][0])
    assert {long[each]["class_type"] for each in states} == {"VidRD_CollectState"}
    assert len(set(states)) == 3


def test_latents_of_minimax_h3_hold_sound_of_their_own():
    graph = FAMILIES["custom"]()
    graph["7"] = node(
        "MiniMaxH3ImageToVideo", clip=["2", 0], vae=["3", 0], prompt="a fox", width=64, height=64, length=56
    )
    graph = changed(graph, n8={"latent_image": ["7", 1]})
    assert len(of_type(extended(graph), "LTXVSeparateAVLatent")) == 3
    graph |= {
        "17": node("VAELoader", vae_name="sound"),
        "18": node("VAEDecodeAudio", samples=["8", 0], vae=["17", 0]),
    }
    long = extended(changed(graph, n10={"audio": ["18", 0]}))
    assert of_type(long, "LTXVSeparateAVLatent") == []
    assert {tuple(each["audio_vae"]) for each in of_type(long, "VidRD_WriteClip")} == {("17", 0)}


def test_pictures_alone_are_written_without_sound():
    graph = FAMILIES["two_passes"]()
    graph["10"] = node("SaveAnimatedWEBP", images=["9", 0], filename_prefix="fox", fps=24.0, lossless=False,
                       quality=80, method="default")  # fmt: skip
    del graph["11"]
    long = extended(graph)
    assert {(each["format"], "audio_vae" in each) for each in of_type(long, "VidRD_WriteClip")} == {("webp", False)}
    assert of_type(long, "LTXVAudioVAEDecode") == []
    page = to_page(graph, definitions())
    check_links(extended(page))
    graph["50"] = node("SaveAudioMP3", audio=["18", 0], filename_prefix="sound", quality="V0")
    assert refusal(graph).startswith(
        "SaveAudioMP3 (node 50) is in the way: it takes the sound, which SaveAnimatedWEBP (node 10) does not save"
    )
    graph["10"] = node("SaveWEBM", images=["9", 0], filename_prefix="fox", codec="vp9", fps=24.0, crf=30.0)
    long = extended(graph)
    assert {tuple(each["audio_vae"]) for each in of_type(long, "VidRD_WriteClip")} == {("17", 0)}
    parts = long[long["50"]["inputs"]["audio"][0]]
    assert parts["class_type"] == "GetVideoComponents"


def test_a_picture_that_the_workflow_makes_is_the_same_for_all_clips():
    graph = FAMILIES["image_to_video"]() | {
        "30": node("EmptyLatentImage", width=832, height=480, batch_size=1),
        "31": node("KSampler", **wan()["8"]["inputs"] | {"latent_image": ["30", 0]}),
        "12": node("VAEDecode", samples=["31", 0], vae=["3", 0]),
    }
    assert notes(graph) == ["every clip gets the same input of VAEDecode (node 12)"]


@pytest.mark.parametrize("mode", [2, 4])
def test_muted_nodes_that_took_the_frames_are_told(mode):
    page = to_page(wan() | {"50": node("SaveImage", images=["9", 0], filename_prefix="frames")}, definitions())
    next(each for each in page["nodes"] if each["id"] == 50)["mode"] = mode
    assert notes(page) == ["SaveImage (node 50): disconnected from the frames, as it does not run"]
