"""What clips reuse, as chosen; clips that are too short for it; workflows that are long already, or saved twice."""

import pytest

from vidrd_core.comfy.definitions import AS_SET, PRESETS
from vidrd_core.comfy.extend import extend_workflow
from vidrd_core.comfy.workflow import parse_workflow
from vidrd_core.presets import AS_SET as OURS_AS_SET
from vidrd_core.presets import PRESETS as OURS

from ...workflows.build import to_page
from ...workflows.stock import definitions
from .graphs import FAMILIES, changed, node, wan
from .test_extend import extended, of_type, refusal

KINDS = ("VidRD_Extend", "VidRD_Noise", "VidRD_Guidance")


def chosen(data, *names, **settings):
    """Values of the nodes that make clips, each one's in turn."""
    long = extended(data, **settings)
    return [[each.get(name) for name in names] for kind in KINDS for each in of_type(long, kind)]


def test_our_record_of_presets_is_theirs():
    assert (OURS_AS_SET, (OURS_AS_SET, *OURS)) == (AS_SET, PRESETS)


@pytest.mark.parametrize("name", ["wan", "custom"])
def test_the_preset_is_that_for_the_model(name):
    data = FAMILIES[name]()
    assert {tuple(each) for each in chosen(data, "preset")} == {("for this model",)}
    kept = chosen(data, "preset", "prompt_frames", "order", prompt_frames=3)
    assert {tuple(each) for each in kept} == {(AS_SET, 3, "auto")}
    kept = chosen(data, "preset", "prompt_frames", "order", order="forward")
    assert {tuple(each) for each in kept} == {(AS_SET, 4, "forward")}
    assert {tuple(each) for each in chosen(data, "preset", preset=AS_SET)} == {(AS_SET,)}
    assert {tuple(each) for each in chosen(data, "preset", preset="anchored")} == {("anchored",)}
    for nodes in (to_page(data, definitions()),):
        types = {each["type"]: each["widgets_values_named"]["preset"] for each in extended(nodes)["nodes"]
                 if each["type"] in KINDS}  # fmt: skip
        assert set(types.values()) == {"for this model"}


@pytest.mark.parametrize("name", ["wan", "custom"])
def test_the_last_clip_closes_the_loop(name):
    made = chosen(FAMILIES[name](), "preset", "loop", preset="loop on purpose")
    for first in range(0, len(made), 3):
        assert [loop for _, loop in made[first : first + 3]] == ["none", "none", "close"]
    assert {preset for preset, _ in made} == {"loop on purpose"}


def test_one_clip_closes_no_loop():
    done = extend_workflow(parse_workflow(wan()), 1, preset="loop on purpose")
    assert done.notes == ["one clip closes no loop, as the preset 'loop on purpose' does: make two clips or more"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "fast"}, "preset is 'fast', expected one of as set here, paper"),
        (
            {"preset": "anchored", "prompt_frames": 2},
            "the preset 'anchored' sets the prompt frames and the order itself",
        ),
        ({"preset": "paper", "order": "mirror"}, "the preset 'paper' sets"),
    ],
)
def test_choices_that_do_not_go_together_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        extended(wan(), **settings)


@pytest.mark.parametrize("page", [False, True])
@pytest.mark.parametrize(
    ("name", "frames", "latents", "label"),
    [
        ("wan", 33, 9, "EmptyHunyuanLatentVideo (node 7)"),
        ("image_to_video", 33, 9, "WanImageToVideo (node 7)"),
        ("two_passes", 97, 13, "EmptyLTXVLatentVideo (node 7)"),
        ("from_a_picture", 97, 13, "LTXVImgToVideo (node 7)"),
    ],
)
def test_prompt_frames_that_clips_have_no_room_for_are_refused(name, frames, latents, label, page):
    data = FAMILIES[name]()
    assert data["7"]["inputs"]["length"] == frames
    data = to_page(data, definitions()) if page else data
    said = refusal(data, prompt_frames=latents - 1)
    assert said.startswith(f"{label} is in the way: its clips have {latents} latents, of which the first one")
    assert said.endswith(f"give -M {latents - 2} or less, or --preset 'for this model'")
    extended(data, prompt_frames=latents - 2)
    extended(data, prompt_frames=0)


def test_a_reference_picture_is_a_latent_more():
    data = FAMILIES["with_reference"]()
    assert "its clips have 10 latents" in refusal(data, prompt_frames=9)
    extended(data, prompt_frames=8)


def test_reversed_latents_are_refused():
    for settings, mend in (
        ({"order": "mirror"}, "give --order forward, or leave it out"),
        ({"preset": "paper"}, "leave it out, or give another preset"),
    ):
        said = refusal(wan(), **settings)
        assert "its latents stand for several frames each" in said
        assert said.endswith(f"; {mend}")
    h3 = wan() | {"7": node("EmptyMiniMaxH3LatentAV", width=512, height=512, length=56)}
    assert "its latents stand for several frames each" in refusal(h3, order="mirror")
    extended(h3, prompt_frames=30)
    frames = changed(wan(), n7={"length": None})
    frames["7"] = node("EmptyLatentImage", width=512, height=512, batch_size=16)  # one latent a frame
    assert {tuple(each) for each in chosen(frames, "order", order="mirror")} == {("mirror",)}


@pytest.mark.parametrize("page", [False, True])
def test_frames_with_a_latent_each_need_no_warm_up(page):
    def of(kind, **inputs):
        data = wan() | {
            "7": node(kind, width=512, height=512, **inputs),
            "12": node("VidRD_LoadTemporalVAE", file="tiny"),
        }
        return to_page(data, definitions()) if page else data

    for each in (of("EmptyLatentImage", batch_size=8), of("VidRD_EmptyClip", frames=8, vae=["12", 0])):
        assert refusal(each, prompt_frames=8).endswith(
            "its clips have 8 latents: 8 prompt frames are too many; give -M 7 or less, or --preset 'for this model'"
        )
        extended(each, prompt_frames=7, order="mirror")
        extended(each, preset="paper")
    assert refusal(of("EmptyLatentImage", batch_size=1)).endswith(
        "have 1 latents, expected 2 or more; make them longer"
    )
    for frames in (2, 3):
        data = of("VidRD_EmptyClip", frames=frames)
        extended(data)
        if frames == 2:
            assert "expected 3 or more" in refusal(data, preset="loop on purpose")
        else:
            extended(data, preset="loop on purpose")
    extended(of("VidRD_EmptyClip", frames=5, vae=["3", 0]), prompt_frames=8)  # a VAE that may compress time


@pytest.mark.parametrize("page", [False, True])
def test_several_videos_at_once_are_refused(page):
    repeated = wan() | {"12": node("RepeatLatentBatch", samples=["7", 0], amount=2)}
    repeated["8"]["inputs"]["latent_image"] = ["12", 0]
    clip = changed(repeated, n12={"amount": 3}) | {"7": node("VidRD_EmptyClip", width=64, height=64, frames=8)}
    for data, label, number, name in (
        (changed(wan(), n7={"batch_size": 2}), "EmptyHunyuanLatentVideo (node 7)", 2, "batch_size"),
        (changed(FAMILIES["image_to_video"](), n7={"batch_size": 4}), "WanImageToVideo (node 7)", 4, "batch_size"),
        (repeated, "RepeatLatentBatch (node 12)", 2, "amount"),
        (clip, "RepeatLatentBatch (node 12)", 3, "amount"),
    ):
        assert refusal(to_page(data, definitions()) if page else data) == (
            f"{label} is in the way: it makes {number} videos at once ({name}), and clips go on from one; set its "
            f"{name} to 1"
        )
    frames = repeated | {"7": node("EmptyLatentImage", width=512, height=512, batch_size=4)}  # 8 in all
    extended(frames, prompt_frames=6)


def test_clips_that_are_too_short_for_any_preset_are_refused():
    assert refusal(changed(wan(), n7={"length": 5})).endswith("have 2 latents, expected 3 or more; make them longer")
    said = refusal(changed(wan(), n7={"length": 9}), preset="loop on purpose")
    assert said.endswith("have 3 latents, expected 4 or more; make them longer")
    extended(changed(wan(), n7={"length": 9}))


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_what_is_long_already_is_told_so(name):
    long = extended(FAMILIES[name]())
    assert "VidRD_WriteClip" in (said := refusal(long))
    assert said.endswith("is in the way: it writes a long video already; run this on the original workflow")


def test_a_long_video_that_is_saved_again_is_told_so():
    long = extended(wan())
    last = [key for key, each in long.items() if each["class_type"] == "VidRD_WriteClip"][-1]
    long |= {
        "70": node("GetVideoComponents", video=[last, 0]),
        "71": node("ImageUpscale", images=["70", 0]),
        "72": node("CreateVideo", images=["71", 0], fps=16.0),
        "73": node("SaveVideo", video=["72", 0], filename_prefix="x", format="auto", codec="auto"),
    }
    assert "it writes a long video already" in refusal(long)


def test_an_earlier_pass_that_is_saved_is_named():
    data = FAMILIES["two_passes"]()
    data |= {
        "50": node("VAEDecode", samples=["31", 0], vae=["3", 0]),
        "51": node("CreateVideo", images=["50", 0], fps=25.0),
        "52": node("SaveVideo", video=["51", 0], filename_prefix="low", format="auto", codec="auto"),
    }
    assert refusal(data) == (
        "SaveVideo (node 52) is in the way: it saves what SamplerCustomAdvanced (node 30) makes, of which "
        "SamplerCustomAdvanced (node 8) makes the next pass; bypass or delete it, and keep the video of the last pass"
    )
    del data["52"]
    extend_workflow(parse_workflow(data), 2)
