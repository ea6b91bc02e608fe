"""Contact Sheet, and Compare Settings: a grid over M, alpha and beta."""

import pytest
import torch

from .graphs import CLIP, chain

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


def test_each_combination_is_a_row_from_one_first_clip(execute):
    ran, errors, refused = execute(comparison())
    assert (errors, refused) == ([], {})
    assert sorted(sampled(ran)) == [f"clip_{number}" for number in range(1, 6)]
    assert set(execute.server.shown) >= {f"compare.0.0.sheet_{row}_2" for row in (1, 2, 3, 4)}
    ran, errors, _ = execute(comparison(alpha_values="1, 4, 0"))
    assert errors == []
    assert len(sampled(ran)) == 2 < 6, "what was made stays made"


def test_rows_hold_the_same_clips_as_a_chain_of_extend(execute, host, pack):
    sheets = []
    original = pack["VidRD_ContactSheet"].execute.__func__

    def kept(cls, images, label, height, same_row, rows=()):
        sheets.append((label, same_row, images))
        return original(cls, images, label, height, same_row, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack["VidRD_ContactSheet"], "execute", classmethod(kept))
        _, errors, _ = execute(comparison(seed=11, prompt_frames_values="2", alpha_values="4", order="forward"))
    assert errors == []
    assert [(label, same) for label, same, _ in sheets] == [
        ("M 2, alpha 4, beta 0.4", same) for same in (False, True)
    ]
    graph = chain(2)
    for k in range(2):
        graph[f"clip{k}"]["inputs"] |= {
            "seed": 11,
            "prompt_frames": 2,
            "order": "forward",
            "positive": ["positive", 0],
        }
        graph[f"save{k}"]["inputs"]["filename_prefix"] = "compared/f"
    seen = []
    save = host.nodes.NODE_CLASS_MAPPINGS["SaveImage"].save_images
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            host.nodes.NODE_CLASS_MAPPINGS["SaveImage"], "save_images",
            lambda self, images, *given, **named: seen.append(images) or save(self, images, *given, **named),
        )  # fmt: skip
        execute(graph)
    assert len(seen[1]) == len(sheets[1][2]) == 6
    assert torch.equal(seen[1], sheets[1][2])


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
