"""The command `vidrd evaluate`."""

import json
import re
import shutil

import numpy as np
import pytest
from markupsafe import escape

from vidrd_core.evaluation.runner import read_records
from vidrd_core.io.jsonl import JsonLines
from vidrd_core.metrics import METRICS
from vidrd_core.video import open_video

from ..metrics.test_feature_extractors import Classes, Mean, saved
from ..metrics.test_seams import moving, ping_pong
from .helpers import error_line


@pytest.fixture
def here(tmp_path, vidrd):
    """A working directory with two folders of videos and two networks."""
    for name, videos in (("made", (ping_pong(2), moving(16))), ("real", (moving(16), moving(16, y=0.3)))):
        for number, video in enumerate(videos):
            (tmp_path / name).mkdir(exist_ok=True)
            with open_video(tmp_path / name / f"{number}.mp4", 8.0) as file:
                file.write(video)
    (tmp_path / "made" / "0.txt").write_text("a <red> circle & back")
    (tmp_path / "made" / "torn.mp4").write_text("no video")
    saved(Mean(), tmp_path / "mean.pt")
    saved(Classes(True), tmp_path / "c3d.pt")
    return tmp_path


def result(folder):
    return json.loads((folder / "evaluation.json").read_text())


def test_a_folder_gives_a_json_file_and_a_report(here, vidrd):
    code, out, err = vidrd("evaluate", "made", "-o", "out", "--clip-frames", "8", "--prompt-frames", "4")
    assert code == 0
    assert re.search(r"^flow_jump: \d", out, re.M)
    assert err.splitlines()[-1].endswith("2 videos measured, 1 skipped: out/report.html")
    found = result(here / "out")
    assert found["videos"] == 2
    assert "damaged" in found["skipped_videos"]["torn.mp4"]
    assert found["measures"]["seam_ratio"]["of"] == 2
    page = (here / "out" / "report.html").read_text()
    assert "a &lt;red&gt; circle &amp; back" in page
    assert page.count("data:image/png;base64,") == 2
    assert "<svg" in page
    assert "http" not in re.sub(r'(xmlns(:\w+)?|href|resource)="http[^"]*"', "", page)  # nothing is fetched
    assert not list((here / "out").glob("*.part-*"))


def test_json_alone_is_printed(here, vidrd):
    code, out, err = vidrd("evaluate", "made", "-o", "out", "--clip-frames", "8", "--sheets", "0", "--json")
    assert code == 0
    assert json.loads(out) == result(here / "out")
    assert "2 videos measured, 1 skipped" in err
    assert vidrd("evaluate", "made", "-o", "out", "--clip-frames", "8", "--sheets", "0", "--json")[1] == out


def test_the_page_explains_every_metric(here, vidrd):
    assert vidrd("evaluate", "made", "-o", "out", "--clip-frames", "8", "--sheets", "0")[0] == 0
    page = (here / "out" / "report.html").read_text()
    assert "<th>better" in page
    for name in result(here / "out")["measures"]:
        assert name == "frames" or str(escape(METRICS[name.split()[0]].meaning)) in page, name


def test_fvd_against_a_folder_and_against_its_saved_statistics(here, vidrd):
    networks = ("--fvd", "script:mean.pt", "--network-frames", "4")
    assert vidrd("evaluate", "real", "-o", "same", *networks, "--reference", "real")[0] == 0
    assert result(here / "same")["fvd"]["value"] == pytest.approx(0, abs=1e-6)
    (kept,) = (here / "same").glob("reference_*.safetensors")
    code, out, _ = vidrd("evaluate", "made", "-o", "other", *networks, "--reference", kept)
    assert code == 0
    assert out.startswith("FVD ")
    found = result(here / "other")["fvd"]
    assert found["value"] > 0
    assert found["reference"] == {"network": "script:mean.pt", "clips": 2, "frames": 4, "fps": 8.0}
    assert vidrd("evaluate", "made", "-o", "other", *networks, "--reference", "made")[0] == 0
    assert result(here / "other")["fvd"]["value"] == pytest.approx(0, abs=1e-6)  # by what is named now
    networks = (*networks[:-1], "4000")
    code, _, err = vidrd("evaluate", "made", "-o", "long", *networks, "--reference", "made")
    assert code == 2
    assert err.endswith("error: no video in made has 4000 frames: give others, or fewer by --network-frames\n")


def test_other_videos_of_the_same_names_are_refused(here, vidrd):
    shutil.copytree(here / "real", here / "films")
    assert vidrd("evaluate", "films", "-o", "films measured")[0] == 0
    line = error_line(*vidrd("evaluate", "films", "-o", "films measured", "--clip-frames", "4"))
    assert "have changed since it was measured in films measured: choose another folder" in line
    film = next((here / "films").glob("*.mp4"))
    shutil.copy(next((here / "made").glob("*.mp4")), film)
    line = error_line(*vidrd("evaluate", "films", "-o", "films measured"))
    assert line.startswith(f"vidrd: error: {film.name}, its caption or its clips have changed")
    line = error_line(*vidrd("evaluate", "films", "-o", "none", "--clip-frames", "0"))
    assert "frames is 0, expected the 1 or more that a clip has" in line


def test_a_stopped_run_is_resumed_and_other_settings_are_refused(here, vidrd):
    assert vidrd("evaluate", "made", "-o", "out")[0] == 0
    before = result(here / "out")
    lines = (here / "out" / "records_0.jsonl").read_text().splitlines(keepends=True)
    (here / "out" / "records_0.jsonl").write_text("".join(lines[:2]) + lines[2][:20])
    assert vidrd("evaluate", "made", "-o", "out")[0] == 0
    assert result(here / "out") == before
    line = error_line(*vidrd("evaluate", "made", "-o", "out", "--network-frames", "4"))
    assert "holds records of other settings, now network_frames 4 (then 16): choose another folder" in line


def test_two_processes_share_the_videos_and_the_last_one_writes_the_result(here, vidrd, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    code, _, err = vidrd("evaluate", "made", "-o", "out")
    assert code == 0
    assert "2 videos are left to other processes" in err
    assert not (here / "out" / "report.html").exists()
    monkeypatch.setenv("RANK", "0")
    assert vidrd("evaluate", "made", "-o", "out")[0] == 0
    assert result(here / "out")["videos"] == 2


def test_videos_that_a_model_generates_from_prompts(here, vidrd, folder):
    (here / "prompts.txt").write_text("a red circle\n\na blue circle\n")
    given = ("--model", folder, "--prompts", "prompts.txt", "--clips", "2", "--steps", "2", "--order", "forward")
    code, _, _ = vidrd("evaluate", *given, "--videos-per-prompt", "2", "-o", "out")
    assert code == 0
    found = result(here / "out")
    assert (found["videos"], found["settings"]["order"], found["settings"]["steps"]) == (4, "forward", 2)
    assert "batch" not in found["settings"]
    assert vidrd("evaluate", *given, "--batch", "3", "-o", "batched")[0] == 0
    batched = result(here / "batched")
    assert (batched["videos"], batched["settings"]["batch"]) == (2, 3)
    message = "records_0.jsonl holds records of other settings, now batch"
    assert message in error_line(*vidrd("evaluate", *given, "-o", "batched", "--batch", "2"))
    assert "batch is 0, expected 1 or more" in error_line(*vidrd("evaluate", *given, "-o", "none", "--batch", "0"))
    message = "records_0.jsonl holds records of other settings, now dtype 'bfloat16' (then 'absent')"
    assert message in error_line(*vidrd("evaluate", *given, "-o", "batched", "--batch", "3", "--dtype", "bfloat16"))


def test_the_inception_score_needs_enough_videos(here, vidrd):
    for number in range(12):
        (here / "many").mkdir(exist_ok=True)
        with open_video(here / "many" / f"{number}.mp4", 8.0) as file:
            file.write(np.full((16, 16, 16, 3), 20 * number, np.uint8))
    code, out, _ = vidrd("evaluate", "many", "-o", "out", "--classifier", "c3d.pt", "--sheets", "0")
    assert code == 0
    assert re.search(r"^Inception Score 1(\.\d+)? \+- ", out, re.M)
    assert result(here / "out")["inception_score"]["splits"] == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected a folder of VIDEOS, or --prompts or --protocol for a model: give one"),
        (("made", "--prompts", "p.txt"), "expected a folder of VIDEOS, or --prompts or --protocol"),
        (("nowhere",), "there is no folder nowhere"),
        (("empty",), "there are no videos in empty"),
        (("made", "--repeated", "4"), "--repeated needs --clip-frames"),
        (("made", "--clip-frames", "8", "--repeated", "8"), "repeated is 8, expected 0 or more and less than the 8"),
        (("made", "--clip-frames", "0"), "frames is 0, expected the 1 or more that a clip has"),
        (("made", "--fvd", "script:mean.pt"), "--fvd needs --reference"),
        (("made", "--reference", "real"), "--reference is for --fvd: name its network"),
        (("made", "--fvd", "i3d", "--reference", "real"), "the network is 'i3d', expected i3d:FILE"),
        (("made", "--fvd", "i3d:no.pt", "--reference", "real"), "there is no file no.pt"),
        (("made", "--clip", "no"), "there is no folder no"),
        (("made", "--network-frames", "0"), "frames is 0, expected 1 or more"),
        (("--protocol", "ucf1"), "there is no protocol 'ucf1': give a YAML file, or one of ucf101"),
        (("--protocol", "blank.txt"), "blank.txt is no protocol"),
        (("made", "--class-list", "blank.txt"), "--class-list is for --protocol"),
        (("--protocol", "ucf101", "--class-list", "blank.txt"), "blank.txt is no list of videos"),
        (("--prompts", "no.txt"), "no.txt"),
        (("--prompts", "stars.txt"), "does not know 'star'"),
        (("--prompts", "blank.txt"), "there are no prompts in blank.txt: give one a line"),
    ],
)
def test_invalid_input_is_refused_in_one_line(here, vidrd, folder, arguments, message):
    (here / "empty").mkdir()
    (here / "blank.txt").write_text("\n")
    (here / "stars.txt").write_text("a red circle\na blue star\n")
    line = error_line(*vidrd("evaluate", *arguments, "-o", "out", "--model", folder))
    assert message in line
    assert not (here / "out").exists()


SHORT = """
name: Two circles
status: Not run here.
videos: 3
network_frames: 8
prompts:
  Left: a blue circle moving right
  Right: a red circle moving right
"""


def test_a_protocol_samples_the_classes_of_a_list(here, vidrd, folder):
    (here / "short.yaml").write_text(SHORT)
    (here / "list.txt").write_text("Right/v_1.avi 2\nLeft/v_1.avi 1\nRight/v_2.avi 2\n")
    given = ("--model", folder, "--clips", "2", "--steps", "1", "--protocol", "short.yaml")
    code, _, err = vidrd("evaluate", *given, "--class-list", "list.txt", "-o", "out")
    assert code == 0
    assert "vidrd: Two circles: Not run here." in err
    found = [record["text"] for record in read_records(here / "out")]
    assert found == ["a blue circle moving right"] + ["a red circle moving right"] * 2
    assert result(here / "out")["settings"]["protocol"] == "Two circles"
    assert "<strong>Not run here.</strong>" in (here / "out" / "report.html").read_text()
    (here / "list.txt").write_text("Up/v_1.avi 2\n")
    line = error_line(*vidrd("evaluate", *given, "--class-list", "list.txt", "-o", "other"))
    assert "Two circles has no prompt for Up; it has 2 classes" in line


def test_a_sheet_is_there_before_its_record(here, vidrd, monkeypatch):
    """A video with a record is not read again, so that a sheet which a kill prevented would never be made."""
    append, sheets = JsonLines.append, []

    def noted(file, record):
        sheets.append([path.name for path in sorted((here / "out").glob("sheets/*"))])
        append(file, record)

    monkeypatch.setattr(JsonLines, "append", noted)
    assert vidrd("evaluate", "made", "-o", "out")[0] == 0
    assert sheets[:3] == [[], ["0.mp4.png"], ["0.mp4.png", "1.mp4.png"]]  # of the header, then of the records


def test_each_video_has_a_sheet_whatever_its_name(here, vidrd):
    film = (here / "real" / "0.mp4").read_bytes()
    for name in ("deep/b.mp4", "deep_b.mp4", f"{251 * 'a'}.mp4"):
        path = here / "named" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(film)
    code, _, err = vidrd("evaluate", "named", "-o", "result")
    assert code == 0, err
    assert len(list((here / "result" / "sheets").iterdir())) == 3
