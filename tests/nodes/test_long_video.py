"""Long Video: many clips from one node, each cached on its own."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .graphs import CLIP, chain, frames_of
from .test_video import written

PROMPTS = ["a red circle moving right", "a blue star spinning", "a green square growing"]


def long_video(prompts=(), clips=0, prefix="long", **changes):
    """A graph of one Long Video."""
    graph = {key: node for key, node in chain(1).items() if key in ("model", "vae", "text", "empty")}
    video = {
        "model": ["model", 0], "clip": ["text", 0], "vae": ["vae", 0], "latent": ["empty", 0],
        "prompts": "\n".join(prompts or PROMPTS), "negative_prompt": "", "clips": clips, **CLIP,
        "filename_prefix": f"{prefix}/v", "format": "mp4", "fps": 8.0, "scale": 2,
        "seed_per_clip": "", "cfg_per_clip": "", "alpha_per_clip": "", **changes,
    }  # fmt: skip
    return {**graph, "long": {"class_type": "VidRD_LongVideo", "inputs": video}}


def clips_in(ran):
    """The numbers of the clips that were sampled."""
    return [int(name.rpartition("_")[2]) for name in ran if "clip_" in name]


def written_in(ran):
    return [int(name.rpartition("_")[2]) for name in ran if "write_" in name]


def test_the_video_equals_that_of_a_chain_of_extend_and_write(execute, output):
    ran, errors, refused = execute(long_video(clips=4))
    assert (errors, refused) == ([], {})
    assert clips_in(ran) == written_in(ran) == [1, 2, 3, 4]
    frames = frames_of(output / "long" / "v_00001_.mp4")
    assert frames.shape == (8 + 3 * 4, 128, 128, 3)
    graph = chain(4)
    for k, prompt in enumerate([*PROMPTS, PROMPTS[-1]]):
        graph[f"prompt{k}"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["text", 0], "text": prompt}}
        graph[f"clip{k}"]["inputs"]["positive"] = [f"prompt{k}", 0]
        graph |= {
            f"save{k}": {
                "class_type": "VidRD_WriteClip",
                "inputs": {
                    "latent": [f"clip{k}", 0], "vae": ["vae", 0], "filename_prefix": "chained/v", "format": "mp4",
                    "fps": 8.0, "scale": 2, **({"before": [f"save{k - 1}", 0]} if k else {}),
                },
            }
        }  # fmt: skip
        del graph[f"see{k}"]
    execute(graph)
    assert np.array_equal(frames_of(output / "chained" / "v_00001_.mp4"), frames)
    # One result of the run, the whole video.
    execute(long_video(clips=4, fps=9.0))
    assert set(execute.server.shown) == {"long.0.0.write_4"}
    (shown,) = execute.server.shown.values()
    assert [each["filename"] for each in shown["images"]] == ["v_00002_.mp4"]
    assert shown["vidrd_said"] == ["v_00002_.mp4: 20 frames, 2.2 s"]


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"seed_per_clip": ",,7"}, [3, 4, 5, 6]),
        ({"cfg_per_clip": " , , 3.5"}, [3, 4, 5, 6]),
        ({"alpha_per_clip": "\n\n\n1"}, [4, 5, 6]),
        ({"prompts": [*PROMPTS[:2], "a white ring bouncing"]}, [3, 4, 5, 6]),
        ({"clips": 7}, [7]),
        ({"fps": 12.0}, []),
        ({"scale": 3}, []),
        ({"filename_prefix": "elsewhere/v"}, []),
        ({"clips": 4}, []),
    ],
)
def test_only_changed_clips_run_again(execute, change, again):
    execute(long_video(clips=6, prefix="change"))
    assert clips_in(execute(long_video(clips=6, prefix="change"))[0]) == []
    ran, errors, refused = execute(long_video(**{"clips": 6, "prefix": "change", **change}))
    assert (errors, refused) == ([], {})
    assert clips_in(ran) == again
    written = {7: [6, 7], 4: [4]}  # the last clip is the result of a run: which one is that has changed
    assert written_in(ran) == written.get(change.get("clips"), again or list(range(1, 7)))
    assert len(execute.server.shown) == 1


def test_it_extends_a_state_and_a_video(execute, output):
    graph = long_video(PROMPTS[:2], prefix="on")
    more = long_video([PROMPTS[2]], 2, prefix="on")["long"]
    more["inputs"] |= {"state": ["long", 1], "before": ["long", 0]}
    _, errors, refused = execute({**graph, "more": more})
    assert (errors, refused) == ([], {})
    execute(long_video([*PROMPTS[:2], PROMPTS[2], PROMPTS[2]], prefix="at_once"))
    frames = frames_of(output / "on" / "v_00001_.mp4")
    assert np.array_equal(frames, frames_of(output / "at_once" / "v_00001_.mp4"))


def test_invalid_inputs_are_refused_before_a_clip_is_sampled(execute):
    for changes, message in (
        ({"prompts": [" "]}, "there is no prompt: write at least one line"),
        ({"clips": 2}, "clips is 2, but there are 3 prompts: raise it, or set it to 0 for one clip per prompt"),
        (
            {"seed_per_clip": "1,2,3,4"},
            "seed_per_clip has 4 entries, but clips are 3: take some out, or make more clips",
        ),
        ({"seed_per_clip": "1.5"}, "seed_per_clip has '1.5' for clip 1, expected a whole number from 0 to"),
        ({"cfg_per_clip": ",x"}, "cfg_per_clip has 'x' for clip 2, expected a number from 0 to 100"),
        ({"alpha_per_clip": "-1"}, "alpha_per_clip has '-1' for clip 1, expected a number from 0 to 1000"),
        ({"cfg_per_clip": "101"}, "cfg_per_clip has '101' for clip 1, expected a number from 0 to 100"),
        ({"prompts": ["a star"] * 501}, "there are 501 clips, expected 500 at most"),
        ({"order": "back"}, "'back'"),  # by the host or, where it does not check choices, by the node
        ({"filename_prefix": "../v"}, "leads out of the output folder"),
        ({"format": "gif", "fps": 60.0}, "fps is 60, expected at most 50 for a GIF: lower it, or choose mp4 or webm"),
    ):
        ran, errors, refused = execute(long_video(**changes))
        assert clips_in(ran) == []
        assert message in str(refused) + str(errors)
        assert sum(len(node["errors"]) for node in refused.values()) <= 1


def test_an_error_in_a_clip_keeps_the_previous_clips(execute, output):
    _, errors, _ = execute(long_video([PROMPTS[0], "a dragon"], prefix="fault"))
    assert "this model does not know 'dragon'" in errors[0]["exception_message"]
    assert len(frames_of(output / "fault" / "v_00001_.mp4")) == 8


def test_progress_bar_text_and_preview(execute, host, page, monkeypatch):
    bars, pictures = [], []

    def hook(value, total, picture, node_id=None, **_):
        bars.append((value, total))
        pictures.append(picture)

    monkeypatch.setattr(host.utils, "PROGRESS_BAR_HOOK", hook)
    monkeypatch.setattr(host.utils, "PROGRESS_THROTTLE_MIN_INTERVAL", 0, raising=False)  # new hosts skip some
    execute(long_video(clips=2, prompts=[PROMPTS[0]], prefix="told"))
    steps = [[f"clip {k} of 2: step {step} of 3" for step in (1, 2, 3)] for k in (1, 2)]
    written = ["clip 1 of 2: written, 8 frames, 1.0 s", "clip 2 of 2: written, 12 frames, 1.5 s"]
    assert [text for _, text in page.texts] == ["2 clips", *steps[0], written[0], *steps[1], written[1]]
    assert {node for node, _ in page.texts} == {"long"}
    assert [bar for bar in bars if bar[1] == 6] == [(k, 6) for k in range(1, 7)]
    assert {(event, data["run"]) for event, data in page.sent} == {("vidrd.clip", "id")}
    assert [(data["clip"], round(3 * data.get("share", 0))) for _, data in page.sent] == [
        (0, 0), (0, 1), (0, 2), (0, 3), (0, 3), (0, 3), (1, 1), (1, 2), (1, 3), (1, 3),
    ]  # fmt: skip
    (growing,) = [data["output"] for _, data in page.sent if "output" in data]
    assert growing["vidrd_said"] == ["v_00001_.mp4: 8 frames, 1.0 s"]
    (shown,), temporary = growing["images"], Path(host.folder_paths.get_temp_directory())
    assert (shown["type"], len(frames_of(temporary / shown["subfolder"] / shown["filename"]))) == ("temp", 8)
    kind, _, data = page.sent[1][1]["picture"].partition(";base64,")
    assert kind == "data:image/png"
    assert moving(importlib.import_module("base64").b64decode(data)) == (8, (192, 192))
    # A node of its own shows the picture as other samplers do.
    execute(chain(1))
    kind, picture, largest = next(each for each in pictures if each)
    assert (kind, largest) == ("PNG", None)
    file = importlib.import_module("io").BytesIO()
    picture.save(file, format="PNG", quality=95, compress_level=1)
    assert moving(file.getvalue()) == (8, (192, 192))
    assert page.texts[-1] == ("clip0", "step 3 of 3")


def test_each_clip_has_a_thumbnail_of_its_first_new_frame(execute, host, page, output):
    graph = long_video(prefix="seen", format="png", scale=2)
    graph["empty"]["inputs"] |= {"width": 128, "height": 64}
    assert execute(graph)[1:] == ([], {})
    told = [(data["clip"], data["thumbnail"]) for _, data in page.sent if "thumbnail" in data]
    assert [clip for clip, _ in told] == [0, 1, 2]
    names = [name for _, name in told]
    assert execute.server.shown["long.0.0.write_3"]["vidrd_thumbnails"] == names
    folder, frames = Path(host.folder_paths.get_temp_directory()), frames_of(output / "seen" / "v_00001_")
    for name, frame in zip(names, frames[[0, 8, 12]], strict=True):
        with Image.open(folder / name) as thumbnail:
            assert (thumbnail.format, thumbnail.size) == ("JPEG", (96, 48))
            small = Image.fromarray(frame[::2, ::2]).resize((96, 48), Image.Resampling.BICUBIC)
            assert np.abs(np.asarray(thumbnail.convert("RGB")).astype(int) - np.asarray(small)).mean() < 4
    # Only what changed is told again, but the result is of all clips; a node of its own makes none.
    page.sent.clear()
    execute({**graph, "long": {**graph["long"], "inputs": {**graph["long"]["inputs"], "seed_per_clip": ",,5"}}})
    (new,) = [data["thumbnail"] for _, data in page.sent if "thumbnail" in data]
    assert execute.server.shown["long.0.0.write_3"]["vidrd_thumbnails"] == [*names[:2], new]
    execute(written(1, prefix="alone"))
    assert "vidrd_thumbnails" not in execute.server.shown["write0"]


def moving(data):
    """The number of frames of a picture, and its size."""
    from io import BytesIO

    picture = Image.open(BytesIO(data))
    return picture.n_frames, picture.size


def test_a_new_prompt_fades_in_over_clips(execute, output):
    """In the first clip of a new prompt both are mixed half and half, as by ConditioningAverage."""
    ran, errors, refused = execute(long_video(PROMPTS[:2], clips=3, prefix="travel", travel=1))
    assert (errors, refused) == ([], {})
    assert [name.rpartition(".")[2].split("_")[-2:] for name in ran if "travel_" in name] == [["travel", "2"]]
    ran, errors, refused = execute(long_video(PROMPTS[:2], clips=3, prefix="over_frames", travel=-1))
    assert (errors, refused) == ([], {})
    assert [name.rpartition(".")[2] for name in ran if "clip_" in name] == ["clip_2", "clip_3"]
    execute(long_video(PROMPTS[:2], clips=3, prefix="not_travelled"))
    paths = [next((output / name).iterdir()) for name in ("travel", "over_frames", "not_travelled")]
    travelled, over_frames, at_once = (frames_of(path).astype(int) for path in paths)
    for faded in (travelled, over_frames):
        assert np.abs(faded[:8] - at_once[:8]).mean() < 1
        assert np.abs(faded[8:12] - at_once[8:12]).mean() > 1


@pytest.mark.parametrize(
    ("preset", "loop"), [("loop on purpose", "none"), ("keep moving", "keep"), ("keep moving", "close")]
)
def test_a_loop_ends_with_its_first_frames(execute, output, preset, loop):
    _, errors, refused = execute(long_video(PROMPTS[:1], clips=3, prefix=f"loop_{loop}", preset=preset, loop=loop))
    assert (errors, refused) == ([], {})
    (path,) = (output / f"loop_{loop}").iterdir()
    frames = frames_of(path).astype(int)
    assert len(frames) == 8 + 6 + 4
    changes = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    assert np.abs(frames[0] - frames[-1]).mean() < 2 * changes.max()


def test_one_more_clip_closes_a_loop(execute, output):
    given = {"preset": "keep moving", "positive": ["positive", 0]}
    execute(long_video(PROMPTS[:1], clips=2, prefix="closed_whole", preset="keep moving", loop="close", format="png"))
    graph = {
        key: node for key, node in chain(1, clip0={**given, "loop": "keep"}).items() if key not in ("see0", "save0")
    }
    for state, expected in ((["clip0", 2], True), (None, False)):
        graph |= long_video(PROMPTS[:1], prefix="closed", preset="keep moving", loop="close", format="png")
        graph["long"]["inputs"] |= {"state": state} if state else {}
        _, errors, _ = execute(graph)
        told = [error["exception_message"] for error in errors]
        if expected:
            assert told == []
        else:
            assert "a video of one clip cannot end as it began: make 2 clips or more" in told[0]
    (whole,), (closed,) = ((output / name).iterdir() for name in ("closed_whole", "closed"))
    assert np.array_equal(frames_of(closed), frames_of(whole)[-len(frames_of(closed)) :])


def test_a_video_that_goes_on_keeps_its_own_format_and_rate(execute, output):
    graph = long_video(PROMPTS[:1], prefix="goes_on")
    more = long_video(PROMPTS[1:2], format="gif", fps=60.0)["long"]
    more["inputs"] |= {"state": ["long", 1], "before": ["long", 0]}
    _, errors, refused = execute({**graph, "more": more})
    assert (errors, refused) == ([], {})
    assert [path.suffix for path in (output / "goes_on").iterdir()] == [".mp4"]
    kinds = {name.partition(".")[0]: said["images"][0]["type"] for name, said in execute.server.shown.items()}
    assert kinds == {"long": "temp", "more": "output"}, "a video that is replaced is shown as it was"


def test_what_cannot_be_written_is_refused_before_a_clip_is_sampled(execute):
    twice = {"class_type": "RepeatLatentBatch", "inputs": {"samples": ["empty", 0], "amount": 2}}
    for changes, message in (
        ({"latent": ["twice", 0]}, "the latent holds 2 clips side by side, expected one"),
        ({"audio_vae": ["vae", 0]}, "audio_vae is wired, but the latent holds no sound"),
    ):
        ran, errors, _ = execute({**long_video(PROMPTS[:2], prefix="checked", **changes), "twice": twice})
        assert message in errors[0]["exception_message"]
        assert clips_in(ran) == []


def test_a_loop_that_has_no_room_to_close_is_refused_with_the_first_clip(execute):
    ran, errors, _ = execute(long_video(PROMPTS[:1], clips=3, prefix="no_room", loop="close"))
    assert "as many at its end, to close the loop: give a smaller M" in errors[0]["exception_message"]
    assert [name.rpartition(".")[2] for name in ran if "clip_" in name] == ["clip_1"]
