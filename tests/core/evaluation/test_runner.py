"""The evaluation of a folder's or a model's videos: resumed, shared by processes, summarized."""

import json
import os
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest

import vidrd_core
from vidrd_core import ReuseSettings
from vidrd_core.evaluation.runner import Networks, evaluate, flatten, read_records, summarize
from vidrd_core.evaluation.videos import ClipLayout, GenerationSettings, from_folder, from_model
from vidrd_core.metrics.feature_extractors import FeatureExtractor
from vidrd_core.metrics.fvd import feature_statistics
from vidrd_core.video import open_video

from ..metrics.test_seams import moving, ping_pong

MEAN = FeatureExtractor("mean", lambda videos: videos.mean((2, 3)).reshape(len(videos), -1) / 255)
SURE = FeatureExtractor("sure", lambda videos: np.eye(4)[videos[:, 0, 0, 0, 0] // 64])
NETWORKS = Networks(fvd=MEAN, classifier=SURE, frames=4)


def write(path, video, **metadata):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_video(path, 8.0, metadata=metadata or None) as file:
        file.write(video)


@pytest.fixture
def folder(tmp_path):
    """Three videos, a PNG folder, and a damaged one."""
    films = tmp_path / "films"
    for number, color in enumerate(("red", "green", "blue")):
        write(films / f"{color}.mp4", moving(16, color=color, y=0.3 + 0.2 * number))
        (films / f"{color}.txt").write_text(f"a {color} circle moving right")
    write(films / "deep" / "frames", moving(16, color="white"))
    (films / "bad.mp4").write_text("no video")
    return films


def records(out):
    return {record["name"]: record for record in read_records(out)}


def test_videos_of_a_folder_are_found_with_their_captions(folder):
    subjects = from_folder(folder, ClipLayout(8))
    assert [each.name for each in subjects] == ["bad.mp4", "blue.mp4", "deep/frames", "green.mp4", "red.mp4"]
    shown = subjects[-1].load()
    assert (shown.text, shown.fps, shown.boundaries.seams) == ("a red circle moving right", 8.0, (8,))
    assert subjects[2].load().text == ""


def test_videos_by_vidrd_contain_their_layout_and_prompt(tmp_path):
    made = {"software": "vidrd", "prompts": ["a red circle"], "frames": 8, "prompt_frames": 2, "order": "forward"}
    write(tmp_path / "made.mp4", moving(20), comment=json.dumps(made))
    (subject,) = from_folder(tmp_path)
    shown = subject.load()
    assert (shown.text, shown.boundaries.seams, shown.boundaries.window) == ("a red circle", (8, 14), 3)
    assert subject.load().boundaries == shown.boundaries


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
def test_names_and_texts_that_are_no_utf8_are_recorded(folder, tmp_path):
    (folder / "green.txt").write_bytes(b"caf\xe9")
    shutil.copy(folder / "green.mp4", os.fsencode(folder) + b"/bad\xff.mp4")
    (folder / "up").symlink_to(folder, target_is_directory=True)
    evaluate(from_folder(folder), tmp_path / "out", NETWORKS)
    found = {name: record["reason"] for name, record in records(tmp_path / "out").items() if "reason" in record}
    assert found.keys() == {"bad.mp4", "green.mp4", r"bad\udcff.mp4", "up"}
    assert "green.txt, line 1 is no UTF-8 text" in found["green.mp4"]
    assert found[r"bad\udcff.mp4"].endswith("has a name that is no UTF-8: rename it")
    assert found["up"].endswith("is a link to a folder that it is in: remove it")


def test_every_video_has_a_record_and_the_damaged_one_a_reason(folder, tmp_path):
    evaluate(from_folder(folder), tmp_path / "out", NETWORKS)
    found = records(tmp_path / "out")
    assert len(found) == 5
    assert "damaged" in found["bad.mp4"]["reason"]
    assert found["red.mp4"]["text"] == "a red circle moving right"
    total = summarize(found.values(), NETWORKS)
    assert (total["videos"], total["skipped"]) == (4, 1)
    assert total["measures"]["dynamic"] == {
        "mean": 1, "std": 0, "low": 1, "median": 1, "high": 1, "of": 4
    }  # fmt: skip


def test_a_run_is_resumed_by_any_number_of_processes(folder, tmp_path):
    whole, parts, seen = tmp_path / "whole", tmp_path / "parts", []
    subjects = from_folder(folder, ClipLayout(8))
    evaluate(subjects, whole, NETWORKS)
    evaluate(subjects[:2], parts, NETWORKS)
    with (parts / "records_0.jsonl").open("a") as file:
        file.write('{"name": "green.mp4", "te')  # killed
    for process in (0, 1):
        evaluate(
            subjects, parts, NETWORKS, process=process, processes=2,
            on_record=lambda subject, *_: seen.append(subject.name),
        )  # fmt: skip
    evaluate(subjects, parts, NETWORKS)
    assert sorted(set(seen)) == ["deep/frames", "green.mp4", "red.mp4"]
    assert records(parts) == records(whole)
    assert summarize(read_records(parts), NETWORKS) == summarize(read_records(whole), NETWORKS)


def test_records_of_other_settings_are_refused(folder, tmp_path):
    subjects = from_folder(folder)[:1]
    evaluate(subjects, tmp_path / "out", NETWORKS, {"folder": "films"})
    with pytest.raises(ValueError, match=r"holds records of other settings, now network_frames 8 \(then 4\)"):
        evaluate(subjects, tmp_path / "out", Networks(fvd=MEAN, classifier=SURE, frames=8), {"folder": "films"})
    with pytest.raises(ValueError, match="holds records of other settings, now folder"):
        evaluate(subjects, tmp_path / "out", NETWORKS)


def test_fvd_and_inception_score_are_computed_from_records(folder, tmp_path):
    evaluate(from_folder(folder), tmp_path / "out", NETWORKS)
    own = [each.load().video[None, :4] for each in from_folder(folder) if each.name != "bad.mp4"]
    same = feature_statistics(own, MEAN, "mean", 8.0)
    total = summarize(read_records(tmp_path / "out"), NETWORKS, same, splits=2)
    assert total["fvd"]["value"] == pytest.approx(0, abs=1e-6)
    assert total["fvd"]["of"] == {"network": "mean", "clips": 4, "frames": 4, "fps": 8.0}
    assert total["inception_score"] == {"mean": 1, "std": 0, "splits": 2, "videos": 4}
    other = feature_statistics([video // 2 for video in own], MEAN, "mean", 8.0)
    assert summarize(read_records(tmp_path / "out"), NETWORKS, other)["fvd"]["value"] > 0.01


def test_a_video_too_short_for_the_networks_is_skipped_with_its_reason(folder, tmp_path):
    evaluate(from_folder(folder), tmp_path / "out", Networks(fvd=MEAN, frames=20))
    assert records(tmp_path / "out")["red.mp4"]["reason"].startswith("it has 16 frames, the networks are given 20")


def test_a_metric_that_older_records_lack_is_summarized_over_the_others():
    common = {"text": "", "fps": 8.0, "width": 64, "height": 64, "seams": [], "features": {}}
    old = {"name": "old", **common, "speed": 1.0}
    new = {"name": "new", **common, "speed": 3.0, "identity": {"mean": 0.5}}
    found = summarize([old, new], Networks())["measures"]
    assert (found["speed"]["mean"], found["speed"]["of"]) == (2, 2)
    assert (found["identity mean"]["mean"], found["identity mean"]["of"]) == (0.5, 1)


def test_each_number_at_a_seam_counts():
    record = {"name": "a", "speed": 2.0, "seam_ratio": [1.0, None, 3.0], "drift": {"contrast": {"slope": 0.5}}}
    assert list(flatten(record)) == [
        ("speed", 2.0), ("seam_ratio", 1.0), ("seam_ratio", 3.0), ("drift contrast slope", 0.5)
    ]  # fmt: skip


def test_a_model_and_prompts(tmp_path):
    model = vidrd_core.load("tiny")
    reuse = ReuseSettings(prompt_frames=2, order="forward")
    making = GenerationSettings(clips=2, videos_per_prompt=2, reuse=reuse, sample={"steps": 2, "seed": 7})
    subjects = from_model(model, ["a red circle moving right", "a blue star"], making)
    assert [each.name for each in subjects] == ["000000", "000001", "000002", "000003"]
    shown = subjects[3].load()
    expected = model.frames(model.stream("a blue star", 2, reuse, steps=2, seed=10))
    np.testing.assert_array_equal(shown.video, expected)
    assert (shown.text, shown.boundaries.seams, shown.boundaries.window) == ("a blue star", (8,), 3)
    evaluate(subjects, tmp_path, Networks())
    assert {len(record["seam_ratio"]) for record in read_records(tmp_path)} == {1}
    told = [{name for name in record if name.startswith("faithful")} for record in read_records(tmp_path)]
    assert told == [{"faithful_look", "faithful_motion"}] * 4


def test_a_video_of_a_batch_does_not_depend_on_the_others(model):
    """Nor on where a run was stopped."""
    prompts = ["a red circle", "a blue circle moving right", "a red circle moving"]
    making = GenerationSettings(2, 2, sample={"steps": 2, "seed": 7}, batch=3)
    singly = [source.load().video.astype(int) for source in from_model(model, prompts, replace(making, batch=1))]
    for share, later in ((slice(None), 4), (slice(1, None, 2), 1)):
        processes = share.step or 1
        videos = [source.load().video for source in from_model(model, prompts, making, processes)[share]]
        resumed = from_model(model, prompts, making, processes)[share][later:]
        for source, video in zip(resumed, videos[later:], strict=True):
            np.testing.assert_array_equal(source.load().video, video)
        for video, alone in zip(videos, singly[share], strict=True):
            np.testing.assert_allclose(video.astype(int), alone, atol=1)


def test_mirrored_videos_differ_from_continuing_ones(tmp_path):
    write(tmp_path / "v" / "mirror.mp4", ping_pong(4))
    write(tmp_path / "v" / "on.mp4", moving(32, reach=0.6, x=0.2))
    evaluate(from_folder(tmp_path / "v", ClipLayout(8)), tmp_path / "out")
    found = records(tmp_path / "out")
    assert min(found["mirror.mp4"]["flow_jump"]) > 150
    assert max(found["on.mp4"]["flow_jump"]) < 30


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda tmp_path: from_folder(tmp_path / "no"), "there is no folder"),
        (lambda tmp_path: from_folder(tmp_path), "there are no videos in"),
        (lambda _: from_model(None, [], GenerationSettings()), "there are no prompts: give one a line"),
        (lambda _: GenerationSettings(clips=0), "clips is 0, expected 1 or more"),
        (lambda _: Networks(frames=0), "frames is 0, expected 1 or more"),
    ],
)
def test_invalid_input_is_refused(tmp_path, broken, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        broken(tmp_path)


def test_two_runs_do_not_measure_into_one_folder(folder, tmp_path):
    sources, seen = from_folder(folder), []

    def again(*_):
        if not seen:
            seen.append(1)
            with pytest.raises(ValueError, match=r"another run measures into .*: wait for it"):
                evaluate(sources, tmp_path / "out")
            evaluate(sources[1:2], tmp_path / "out", process=1, processes=2)  # one of several that share the work

    evaluate(sources, tmp_path / "out", on_record=again)
    assert seen
    assert len({record["name"] for record in read_records(tmp_path / "out")}) == len(sources)
