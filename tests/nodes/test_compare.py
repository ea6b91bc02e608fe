"""Contact Sheet, and Compare Settings: a grid over M, alpha and beta."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vidrd_core.procedural import world

from .graphs import CLIP, chain, frames_of
from .small_models import small_model, small_vae
from .test_video import written

SAMPLING = {name: CLIP[name] for name in ("steps", "cfg", "seed", "sampler_name", "scheduler")}


def comparison(**changes):
    """A graph of one Compare Settings with a preview."""
    graph = {key: node for key, node in chain(1).items() if not key.startswith(("clip", "see", "save"))}
    inputs = {
        "model": ["model", 0], "positive": ["positive", 0], "negative": ["negative", 0], "latent": ["empty", 0],
        "vae": ["vae", 0], **SAMPLING, "prompt_frames_values": "2, 4", "alpha_values": "1,4", "beta_values": "0.4",
        "order": "mirror", "clips": 2, "height": 32, **changes,
    }  # fmt: skip
    return {**graph, "compare": {"class_type": "VidRD_CompareSettings", "inputs": inputs}}


def sampled(ran):
    return [name.rpartition(".")[2] for name in ran if "clip_" in name]


def test_rows_grow_clip_by_clip(run):
    clips = [torch.rand(frames, 16, 24, 3) for frames in (4, 3, 4)]
    sheet, rows, text = run("ContactSheet", images=clips[0], label="one", height=16, same_row=False)
    assert text == "one"
    wider, rows, text = run("ContactSheet", images=clips[1], label="", height=16, same_row=True, rows=rows)
    assert wider.shape[2] > sheet.shape[2]
    assert text.startswith("one: seam ratio ")
    taller, rows, text = run("ContactSheet", images=clips[2], label="two", height=16, same_row=False, rows=rows)
    assert taller.shape[1] > wider.shape[1]
    assert [len(row.video) for row in rows] == [7, 4]
    assert text.splitlines()[1] == "two"
    larger, *_ = run("ContactSheet", images=clips[0], label="one", height=64, same_row=False)
    assert larger.shape[1] > sheet.shape[1] + 40
    with pytest.raises(ValueError, match="there is no row to append to"):
        run("ContactSheet", images=clips[0], label="", height=16, same_row=True)
    with pytest.raises(ValueError, match="clips of one row are 24 x 16 and 8 x 8 pixels, expected one size"):
        run("ContactSheet", images=torch.rand(2, 8, 8, 3), label="", height=16, same_row=True, rows=rows)


def test_rows_of_drawn_clips_tell_whether_they_show_the_same(run, tiny):
    instance = world.random_instance(np.random.default_rng(4), ["drift right"])
    video = torch.from_numpy(world.render(instance, 14)).float() / 255
    given = {"model": tiny.model, "positive": tiny.positive[0], "negative": tiny.negative, "latent": tiny.latent}
    given |= {"steps": 1, "cfg": 1.0, "seed": 3, "scheduler": "ddim_uniform", "sampler_name": "euler"}
    _, _, state = run("Extend", **given, prompt_frames=2, alpha=4.0, beta=0.4, order="mirror")
    state = replace(state, made_with={**state.made_with, "prompt": world.describe(instance)})
    row = {"label": "M 2", "height": 64, "same_row": False}
    _, rows, _ = run("ContactSheet", images=video[:8], **row, state=state)
    _, _, text = run("ContactSheet", images=video[8:], **{**row, "same_row": True}, rows=rows)
    assert text.endswith("identity kept 1 of 1, position error 0.0")
    _, text, *_ = run("SeamReport", images=video[:8], clip_frames=0, repeated_frames=0, prompt_frames=0, state=state)
    assert "8 frames, 1 clips" in text


def test_each_combination_is_a_row_from_one_first_clip(execute):
    ran, errors, refused = execute(comparison())
    assert (errors, refused) == ([], {})
    assert sorted(sampled(ran)) == [f"clip_{number}" for number in range(1, 6)]
    assert set(execute.server.shown) >= {f"compare.0.0.sheet_{row}_2" for row in (1, 2, 3, 4)}
    ran, errors, _ = execute(comparison(alpha_values="1, 4, 0"))
    assert errors == []
    assert len(sampled(ran)) == 2 < 6, "what was made stays made"


def test_rows_hold_the_frames_that_are_written_of_a_chain(execute, output, pack):
    sheets, prompts = [], []
    original = pack["VidRD_ContactSheet"].execute.__func__

    def kept(cls, images, label, height, same_row, rows=(), state=None):
        sheets.append((label, same_row, images))
        prompts.append(state and state.made_with["prompt"])
        return original(cls, images, label, height, same_row, rows, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack["VidRD_ContactSheet"], "execute", classmethod(kept))
        _, errors, _ = execute(comparison(seed=11, prompt_frames_values="2", alpha_values="4", order="forward"))
    assert errors == []
    assert [(label, same) for label, same, _ in sheets] == [
        ("M 2, alpha 4, beta 0.4", same) for same in (False, True)
    ]
    assert prompts == [comparison()["positive"]["inputs"]["text"], None], "by which drawn clips are read"
    own = {"seed": 11, "prompt_frames": 2, "order": "forward", "positive": ["positive", 0]}
    _, errors, _ = execute(written(2, "png", "compared", {"clip0": own, "clip1": own}, scale=1))
    assert errors == []
    frames = torch.from_numpy(frames_of(output / "compared" / "v_00001_"))
    assert len(frames) == 8 + 6
    assert torch.equal(frames[8:], (sheets[1][2] * 255).round().to(torch.uint8))


def test_later_clips_are_decoded_after_those_before_them(run, host):
    model, positive, negative, _ = small_model("wan")
    vae = small_vae(host)
    (latent,) = run("EmptyClip", width=32, height=32, frames=29, vae=vae)
    clip = {"model": model, "positive": positive, "negative": negative, "latent": latent}
    given = {"seed": 3, "steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple"}
    reuse = {"prompt_frames": 3, "alpha": 2.0, "beta": 0.4, "order": "auto"}
    first, _, state = run("Extend", **clip, **given, **reuse)
    second, _, _ = run("Extend", **clip, **given, **reuse, state=state)
    shown = torch.cat([run("DecodeNewFrames", latent=each, vae=vae)[0] for each in (first, second)])
    whole = vae.decode(torch.cat([first["samples"], second["samples"]], dim=2)).reshape(-1, 32, 32, 3)
    assert shown.shape == whole.shape == (45, 32, 32, 3)
    assert (shown - whole.clamp(0, 1)).abs().max() < 3 / 255


def test_what_is_no_clip_or_not_the_vaes_is_refused(run, tiny, host):
    twice = {"samples": torch.cat([tiny.latent["samples"]] * 2)}
    with pytest.raises(ValueError, match="the latent holds 2 clips side by side"):
        run("DecodeNewFrames", latent=twice, vae=tiny.vae)
    with pytest.raises(ValueError, match="channels"):
        run("DecodeNewFrames", latent=tiny.latent, vae=small_vae(host))


def test_a_sheet_that_would_be_too_large_is_refused(run):
    with pytest.raises(ValueError, match="million pixels, expected 134 at most: give a smaller height than 1024"):
        run("ContactSheet", images=torch.rand(2, 8, 2048, 3), label="", height=1024, same_row=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"prompt_frames_values": "2.5"},
            "prompt_frames_values is '2.5', expected whole numbers separated by commas",
        ),
        ({"alpha_values": "much"}, "alpha_values is 'much', expected numbers separated by commas, such as 2, 4"),
        ({"beta_values": " , "}, "beta_values is empty, expected one number or more"),
        ({"beta_values": "2"}, "beta is 2.0, expected a number from 0 to 1"),
        ({"prompt_frames_values": "8"}, "prompt_frames (M) is 8, expected less than the 8 frames"),
        ({"alpha_values": "0,1,2,3,4,5,6", "prompt_frames_values": "1,2,3,4,5,6"}, "there are 42 combinations"),
    ],
)
def test_invalid_values_are_reported(execute, changes, message):
    _, errors, refused = execute(comparison(**changes))
    reported = " ".join(error["exception_message"] for error in errors) + str(refused)
    assert message in reported


def test_choices_are_checked_before_anything_runs(pack):
    node = pack["VidRD_CompareSettings"]
    assert node.validate_inputs(order="forward", noise_policy="pns") is True
    assert "order is 'up'" in node.validate_inputs(order="up")
