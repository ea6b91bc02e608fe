"""Kinetics' and UCF-101's layouts, and captions of their labels."""

from dataclasses import replace

import pytest

from vidrd_core.data.actions import Actions
from vidrd_core.data.captions import Templates, words_of
from vidrd_core.data.clip_sampling import ClipSettings
from vidrd_core.data.manifests import manifests
from vidrd_core.data.records import Record, Skipped
from vidrd_core.data.runner import run
from vidrd_core.data.shards import Shards
from vidrd_core.evaluation.protocols import class_counts, load_protocol

from .media import moving, numbered, write_video

CLIPS = ClipSettings(frames=4, size=32)


def listed(stage):
    return {
        (each.record.source if isinstance(each, Skipped) else each.source).split("/")[-1]: each
        for each in stage.find()
    }


def test_ucf101_labels_come_from_file_names(tmp_path):
    for name in ("ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01", "YoYo/v_YoYo_g02_c03", "YoYo/v_YoYo_g02_c04"):
        write_video(tmp_path / f"{name}.avi", moving(1, seed=len(name) + int(name[-1])), codec="mpeg4")
    write_video(tmp_path / "other.avi", moving(1), codec="mpeg4")
    found = listed(Actions(tmp_path, "ucf101", clips=CLIPS))
    assert found["v_ApplyEyeMakeup_g01_c01.avi"].label == "apply eye makeup"
    assert found["v_YoYo_g02_c03.avi"].label == "yo yo"
    assert "has no label in its name" in found["other.avi"].reason
    (tmp_path / "trainlist01.txt").write_text("YoYo/v_YoYo_g02_c03.avi 101\n\n")
    chosen = Actions(tmp_path, "ucf101", clips=CLIPS, table=tmp_path / "trainlist01.txt")
    assert list(listed(chosen)) == ["v_YoYo_g02_c03.avi"]
    (tmp_path / "trainlist01.txt").write_text("YoYo/v_YoYo_g02_c03.avi 101\nYoYo/v_YoYo_g09_c09.avi 101\n")
    with pytest.warns(UserWarning, match=r"1 of the 2 files in .*trainlist01\.txt are not in .*v_YoYo_g09_c09\.avi"):
        assert list(listed(chosen)) == ["v_YoYo_g02_c03.avi"]
    (tmp_path / "classInd.txt").write_text("1 ApplyEyeMakeup\n101 YoYo\n")
    with pytest.raises(ValueError, match=r"none of the 4 videos in .* is in .*classInd\.txt: expected"):
        listed(replace(chosen, table=tmp_path / "classInd.txt"))
    (tmp_path / "trainlist01.txt").write_text("YoYo/v_YoYo_g02_c03.avi 101\n")
    report = run(chosen, tmp_path / "out")
    assert (report.made, report.skipped) == (1, 0)
    assert Shards(tmp_path / "out").samples[0].caption in ("a video of yo yo", "a clip that shows yo yo", "yo yo")


def test_a_class_of_ucf101_is_the_same_in_files_folders_and_lists(tmp_path):
    names = ("v_HandStandPushups_g01_c01.avi", "v_HandstandPushups_g02_c01.avi", "v_HandstandWalking_g01_c01.avi")
    for name in names:
        (tmp_path / "HandstandPushups" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "HandstandPushups" / name).touch()
    table = tmp_path / "trainlist01.txt"
    table.write_text(
        "HandstandPushups/v_HandstandPushups_g01_c01.avi 37\nHandstandPushups/v_HandStandPushups_g02_c01.avi 37\n"
    )
    found = listed(Actions(tmp_path, "ucf101", table=table))
    assert {name: found[name].label for name in found} == dict.fromkeys(names[:2], "handstand pushups")
    described = Templates(("{label}",), (("hand stand pushups", ("push-ups on two hands",)),))
    assert described(found[names[0]], []) == "push-ups on two hands"
    ucf = load_protocol("ucf101")
    table.write_text(
        "\ufeffHandStandPushups/v_HandStandPushups_g01_c01.avi\nHANDSTANDPUSHUPS/a.avi\nYoYo/a.avi\n", "utf-8"
    )
    texts = replace(ucf, videos=3).texts(class_counts(table))
    assert texts == [ucf.prompts["HandstandPushups"]] * 2 + [ucf.prompts["YoYo"]]


def test_kinetics_labels_come_from_folders(tmp_path):
    write_video(tmp_path / "playing guitar" / "abc_000002_000012.mp4", moving(1))
    write_video(tmp_path / "loose.mp4", moving(1, seed=1))
    found = listed(Actions(tmp_path, "kinetics"))
    assert found["abc_000002_000012.mp4"].label == "playing guitar"
    assert "is in no folder named by a label" in found["loose.mp4"].reason


def test_kinetics_csv_gives_segments_and_missing_videos(tmp_path):
    videos = tmp_path / "videos"
    write_video(videos / "a" / "abc_000002_000003.mp4", moving(1))
    write_video(videos / "whole-1_x.mp4", numbered(48))
    (videos / "wrongly named.mp4").touch()
    table = tmp_path / "train.csv"
    table.write_text(
        "label,youtube_id,time_start,time_end,split\n"
        'playing guitar,abc,2,3,train\n"jumping, high",whole-1_x,1,2,train\n'
        "running,zzz,1,3,train\nrunning,whole-1_x,0,1,test\n"
    )
    stage = Actions(videos, "kinetics", Templates(("{label}",)), CLIPS, table)
    report = run(stage, tmp_path / "out")
    assert (report.found, report.made, report.skipped) == (5, 3, 2)
    samples = {s.caption: s for s in Shards(tmp_path / "out").samples}
    assert samples.keys() == {"playing guitar", "jumping, high", "running"}
    level = {caption: (sample.frames().mean() - 20) / 4 for caption, sample in samples.items()}
    assert level["running"] == pytest.approx(12, abs=2)
    assert level["jumping, high"] == pytest.approx(36, abs=2)
    skipped, unnamed = [line for _, _, found in manifests(tmp_path / "out") for line in found if "reason" in line]
    assert skipped["source"] == "zzz (1 to 3 s)"
    assert skipped["reason"].startswith("is in the table, but no video of it is in")
    assert unnamed["source"].endswith("wrongly named.mp4")
    assert unnamed["reason"] == f"is in no line of {table}"
    train = Actions(videos, "kinetics", table=table, split="train")
    assert len(list(train.find())) == 4
    with pytest.raises(ValueError, match=r"no line of .*train.csv is of the split 'val'; its splits are test, train"):
        run(Actions(videos, "kinetics", table=table, split="val"), tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,youtube_id\nrunning,abc\n", "line 2 lacks time_start, time_end, expected Kinetics' columns"),
    ],
)
def test_another_table_than_kinetics_csv_is_refused(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        run(Actions(tmp_path, "kinetics", table=tmp_path / "t.csv"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_lines_that_say_nothing_are_recorded(tmp_path):
    lines = "running,abc,soon,3\nrunning,abc,,3\nrunning,abc,nan,3\nrunning,abc,5,3\n"
    (tmp_path / "t.csv").write_text(f"label,youtube_id,time_start,time_end\n{lines}")
    run(Actions(tmp_path, "kinetics", table=tmp_path / "t.csv"), tmp_path / "out")
    found = [line for _, _, found in manifests(tmp_path / "out") for line in found]
    assert [(line["source"].rpartition(", ")[2], line["reason"]) for line in found] == [
        ("line 2", "has times that are no numbers of seconds: could not convert string to float: 'soon'"),
        ("line 3", "has no time_start"),
        ("line 4", "goes from nan to 3 s, expected a start before an end"),
        ("line 5", "goes from 5 to 3 s, expected a start before an end"),
    ]


def test_invalid_layouts_and_splits_are_refused(tmp_path):
    with pytest.raises(ValueError, match="layout is 'sports1m', expected one of kinetics, ucf101"):
        Actions(tmp_path, "sports1m")
    with pytest.raises(ValueError, match="split is 'train', and only Kinetics' CSV has splits"):
        Actions(tmp_path, "kinetics", split="train")


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("playing_guitar", "playing guitar"),
        ("YoYo", "yo yo"),
        ("TaiChi", "tai chi"),
        ("RockClimbingIndoor", "rock climbing indoor"),
        ("using a TVRemote", "using a tv remote"),
    ],
)
def test_labels_become_words(label, words):
    assert words_of(label) == words


def test_a_video_always_gets_the_same_of_several_templates():
    templates = Templates(("one {label}", "two {label}"), (("yo yo", ("a child plays",)),))
    said = {templates(Record("a", label="run", digest=str(i)), []) for i in range(20)}
    assert said == {"one run", "two run"}
    record = Record("a", label="run", digest="x")
    assert templates(record, []) == templates(record, [])
    assert templates(Record("a", label="yo yo", digest="x"), []) == "a child plays"


@pytest.mark.parametrize("template", ["no braces", "{label} {other}", "{label", "{0}"])
def test_templates_without_a_label_are_refused(template):
    with pytest.raises(ValueError, match="the template"):
        Templates((template,))
