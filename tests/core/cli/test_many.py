"""`vidrd generate --prompts-file`: a video for each line, as `vidrd generate` makes each alone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from vidrd_core.models.word_text_encoder import TextEncoder
from vidrd_core.video import read_video

from .helpers import error_line, posix, same_video
from .test_faults import file_size_limit

ROOT = Path(__file__).parents[3]
FAST = ("--steps", 2)
TEXT = "# shapes\na red circle\n\n  a blue circle moving right \na red circle moving\n"


def records(folder) -> list[dict]:
    """The records of a folder, without how long they took."""
    lines = (Path(folder) / "manifest.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]


def files(folder) -> dict[str, bytes]:
    """The content of a folder's videos."""
    skipped = ("manifest.jsonl", ".lock")
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name not in skipped}


@pytest.mark.parametrize("name", ["own", "tiny"])
def test_each_line_of_a_text_is_a_video_as_generate_makes_it(vidrd, folder, tmp_path, name):
    (tmp_path / "prompts.txt").write_text(TEXT)
    model = folder if name == "own" else name
    steps = 2 if name == "own" else 1
    given = ("--steps", steps, "--clips", 2, "--seed", 5)
    code, out, err = vidrd("generate", "--prompts-file", "prompts.txt", *given, "-o", "videos", model=model)
    assert code == 0, err
    assert out.startswith("videos: 3 videos; took")
    assert len(err.splitlines()) == 3
    found = records("videos")
    assert [(each["number"], each["seed"], each["prompts"]) for each in found] == [
        (0, 5, ["a red circle"]),
        (1, 6, ["a blue circle moving right"]),
        (2, 7, ["a red circle moving"]),
    ]
    for each in found:
        assert (each["settings"]["steps"], each["settings"]["clips"], each["frames"], each["batch"]) == (
            steps,
            2,
            16,
            1,
        )
        run = ("generate", *each["prompts"], *given[:-1], each["seed"], "-o", each["file"])
        assert vidrd(*run, model=model)[0] == 0
        assert Path(each["file"]).read_bytes() == (tmp_path / "videos" / each["file"]).read_bytes()
    assert set(files("videos")) == {"000000.mp4", "000001.mp4", "000002.mp4"}


LOOP = ("--preset", "loop on purpose", "--negative", "a blue circle")
CSV = """prompt,seed,Clips,name,cfg,preset,travel,Seed per clip,negative
a red circle,8,3,fox.gif,2,loop on purpose,,,a blue circle
"a red circle
a blue circle",,3,,,,1,"",
a red circle moving,,2,again,,,,",9",
"""


def test_a_row_of_a_table_has_its_own_options(vidrd, tmp_path):
    (tmp_path / "prompts.csv").write_text(CSV)
    run = ("--prompts-file", "prompts.csv", *FAST, "--format", "apng", "--order", "forward", "--batch", 1)
    code, _, err = vidrd("generate", *run, "-o", "videos")
    assert code == 0, err
    alone = {
        "fox.gif": (*("a red circle", "--seed", 8, "--clips", 3, "--cfg", 2), *LOOP),
        "000001.apng": ("a red circle", "a blue circle", "--seed", 1, "--clips", 3, "--travel", 1),
        "again.apng": ("a red circle moving", "--seed", 2, "--clips", 2, "--seed-per-clip", ",9"),
    }
    assert [each["file"] for each in records("videos")] == list(alone)
    for name, given in alone.items():
        assert vidrd("generate", *given, *FAST, "--order", "forward", "-o", name)[0] == 0
        assert Path(name).read_bytes() == (tmp_path / "videos" / name).read_bytes()


def test_json_lines_and_folders_of_frames(vidrd, tmp_path):
    rows = [{"prompt": ["a red circle", "a blue circle"], "seed": 3}, {"prompt": "a red circle", "name": "v1.2"}]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert vidrd("generate", "--prompts-file", "prompts.jsonl", *FAST, "--format", "png", "-o", "videos")[0] == 0
    assert [(each["file"], each["seed"]) for each in records("videos")] == [("000000/", 3), ("v1.2/", 1)]
    assert vidrd("generate", *rows[0]["prompt"], "--seed", 3, *FAST, "-o", "alone/")[0] == 0
    assert np.array_equal(read_video("videos/000000")[0], read_video("alone")[0])


@pytest.mark.parametrize("name", ["own", "tiny"])
def test_a_video_does_not_depend_on_its_batch(vidrd, folder, tmp_path, name):
    """Bit for bit; and it is nearly the one that is made alone."""
    head, c, d = "prompt,seed,name\n", "a blue circle moving right,3,c\n", "a red circle,4,d\n"
    tables = {"all": f"{head}a red circle,1,a\na blue circle,2,b\n{c}{d}"}
    tables["single"] = tables["grown"] = tables["all"]
    tables["others"] = f"{head}a red circle moving,5,a\na red circle,6,b\n{c}{d}a blue circle,7,e\n"
    model, made = folder if name == "own" else name, {}
    for name, table in tables.items():
        run = ("--prompts-file", "list.csv", "--steps", 1, "--clips", 1 + (model == folder), "--format", "apng")
        lines = table.splitlines(keepends=True)
        for text in ("".join(lines[:2]), table) if name == "grown" else (table,):
            (tmp_path / "list.csv").write_text(text)
            batch = 1 if name == "single" else 3
            assert vidrd("generate", *run, "--batch", batch, "-o", name, model=model)[0] == 0
        made[name] = files(name)
    assert made["grown"] == made["all"]
    assert all(made["others"][name] == made["all"][name] for name in ("c.apng", "d.apng"))
    for name in made["all"]:
        one, other = (read_video(Path(each) / name)[0].astype(int) for each in ("all", "single"))
        assert abs(one - other).max() <= 1


def test_what_is_there_stays_and_new_lines_are_made(vidrd, tmp_path):
    (tmp_path / "prompts.txt").write_text("a red circle\na blue circle\n")
    run = ("generate", "--prompts-file", "prompts.txt", *FAST, "-o", "videos")
    assert vidrd(*run)[0] == 0
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "videos").glob("*.mp4")}
    with (tmp_path / "prompts.txt").open("a") as file:
        file.write("a red circle moving\n")
    (tmp_path / "videos" / "000000.mp4").unlink()
    code, out, err = vidrd(*run)
    assert code == 0
    assert "vidrd: 1 of 3 videos were made before" in err
    assert out.startswith("videos: 3 videos, 1 made before")
    assert [each["number"] for each in records("videos")] == [0, 1, 2]
    assert (tmp_path / "videos" / "000001.mp4").stat().st_mtime_ns == before["000001.mp4"]
    assert vidrd(*run, "--batch", 2)[1].startswith("videos: 3 videos, 3 made before")


OTHERS = [
    ("a red circle\na blue circle moving\n", (), "video 1 (prompts.txt, line 2) was made with prompts ['a blue"),
    (
        "a blue circle\na red circle\n",
        (),
        "video 0 (prompts.txt, line 1) was made with prompts",
    ),
    (
        "a red circle\n",
        (),
        "manifest.jsonl has 2 videos and this list has 1, without number 1: ",
    ),
    (None, ("--steps", 3), "was made with steps 2, and this run has 3: repeat what it was made with, add new"),
    (None, ("--alpha", 1), "was made with alpha 4.0, and this run has 1.0"),
    (None, ("--seed", 1), "was made with seed 0, and this run has 1"),
    (None, ("--fps", 9), "was made with fps 8.0, and this run has 9.0"),
    (None, ("--format", "gif"), "was made with file '000000.mp4', and this run has '000000.gif'"),
    (None, ("--model", "tiny"), "was made with a model with another signature"),
]


def test_another_list_and_other_settings_are_refused(vidrd, tmp_path):
    (tmp_path / "prompts.txt").write_text("a red circle\na blue circle\n")
    run = ("generate", "--prompts-file", "prompts.txt", *FAST, "-o", "videos")
    assert vidrd(*run)[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "videos").iterdir()}
    for text, given, message in OTHERS:
        (tmp_path / "prompts.txt").write_text(text or "a red circle\na blue circle\n")
        assert message in error_line(*vidrd(*run, *given))
        assert {path.name: path.read_bytes() for path in (tmp_path / "videos").iterdir()} == before


ROWS = {
    "word": ("prompt\na red circle\na dog\na cat\n", "line 3: this model does not know 'dog'"),
    "others": ("prompt\na dog\na red circle\na cat\n", " (and 1 more, in line 4); nothing was sampled"),
    "negative seed": ("prompt,seed\na red circle,-1\n", "line 2: seed is -1, expected a whole number, 0 or more"),
    "no number": ("prompt,seed\na red circle,x\n", "line 2: seed is 'x', expected a whole number"),
    "cfg": ("prompt,cfg\na red circle,2e6\n", "line 2: cfg is 2000000.0, expected a number from -1000 to 1000"),
    "clips": ("prompt,clips\na red circle,0\n", "line 2: clips is 0, expected 1 to 1000000"),
    "solver": ("prompt,solver\na red circle,none\n", "line 2: solver is 'none', expected one of ddim"),
    "preset": ("prompt,preset\na red circle,none\n", "line 2: "),
    "fps": ("prompt,fps\na red circle,0\n", "line 2: fps must be from 0.01 to 1000, got 0.0"),
    "width": ("prompt,width\na red circle,31\n", "line 2: width is 31, expected a multiple of"),
    "per clip": ("prompt,seed-per-clip\na red circle,\"1,2\"\n", "line 2: seed_per_clip has 2 entries"),
    "empty": ("prompt,seed\n,1\n", "line 2: prompt 1 has no words (''): say what the clip shows"),
    "column": ("prompt,stepz\na red circle,1\n", "line 2 has a column stepz (did you mean steps?), expected"),
    "model": ("prompt,model\na red circle,tiny\n", "line 2 has a column model"),
    "no column": ("text,seed\na red circle,1\n", "line 2 has a column text"),
    "no prompt": ("name,seed\na red circle,1\n", "line 2 has no column prompt, expected one beside name, seed"),
    "two": ("prompt,anchor,drift\na red circle,1,1\n", "line 2 has anchor in two columns, one of them drift"),
    "same name": ("prompt,name\na red circle,A\na red circle,a\n", "line 3: a.mp4 is the file of prompts.csv"),
    "path": ("prompt,name\na red circle,../a\n", "line 2: name is '../a', expected one that a file can have"),
    "device": ("prompt,name\na red circle,NUL\n", "line 2: name is 'NUL', expected one that a file can have"),
    "long": ("prompt,name\na red circle," + 84 * "\u5706" + "\n", "name of 256 bytes: at most 255"),
    "no rows": ("prompt,name\n", "prompts.csv has no lines below its first"),
}  # fmt: skip


@pytest.mark.parametrize("case", ROWS)
def test_a_bad_row_is_reported_before_anything_is_sampled(vidrd, tmp_path, case):
    text, message = ROWS[case]
    (tmp_path / "prompts.csv").write_text(text, encoding="utf-8")
    assert message in error_line(*vidrd("generate", "--prompts-file", "prompts.csv", *FAST, "-o", "videos"))
    assert os.listdir() == ["prompts.csv"]


def test_a_name_can_be_as_long_as_a_files(vidrd, tmp_path):
    (tmp_path / "prompts.csv").write_text(f"prompt,name\na red circle,{251 * 'a'}\n")
    code, _, errors = vidrd("generate", "--prompts-file", "prompts.csv", *FAST, "-o", "videos")
    assert code == 0, errors
    assert f"{251 * 'a'}.mp4" in os.listdir("videos")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("a red circle", "--prompts-file", "p.txt"), "prompts and --prompts-file are both given: choose one"),
        (("a red circle", "--batch", 2), "--batch is for many videos: give a --prompts-file, too"),
        (("a red circle", "--ray"), "--ray is for many videos"),
        (("--prompts-file", "none.txt"), "cannot use none.txt: No such file or directory"),
        (("--prompts-file", "empty.txt"), "there are no prompts in empty.txt: give one a line"),
        (("--prompts-file", "p.txt", "--batch", 0), "batch is 0, expected 1 to 1024"),
        (("--prompts-file", "p.txt", "--workers", 2), "--workers is for --ray"),
        (("--prompts-file", "p.txt", "--seed", -1), "seed is -1, expected a whole number, 0 or more"),
        (
            ("--prompts-file", "p.txt", "--format", "avi"),
            "format is 'avi', expected one of mp4, webm",
        ),
        (("--prompts-file", "p.txt", "--resume"), "--state-dir and --resume are for one video"),
        (("--prompts-file", "p.txt", "-o", "p.txt"), "p.txt is a file: with --prompts-file give a folder"),
        (
            ("--prompts-file", "p.txt", "-o", "no/videos"),
            "cannot use no/videos: No such file or directory",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(vidrd, tmp_path, given, message):
    (tmp_path / "p.txt").write_text("a red circle\n")
    (tmp_path / "empty.txt").write_text("# nothing\n\n")
    assert message in error_line(*vidrd("generate", *FAST, "-o", "videos", *given))
    assert sorted(os.listdir()) == ["empty.txt", "p.txt"]


def test_files_of_others_are_not_replaced(vidrd, tmp_path):
    (tmp_path / "prompts.txt").write_text("a red circle\n")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "000000.mp4").write_text("film")
    run = ("generate", "--prompts-file", "prompts.txt", *FAST, "-o", "videos")
    assert "000000.mp4 is there already, and there is no manifest.jsonl that lists it" in error_line(*vidrd(*run))
    assert (tmp_path / "videos" / "000000.mp4").read_text() == "film"
    (tmp_path / "videos" / "000000.mp4").rename(tmp_path / "videos" / "film.mp4")
    with FileLock(tmp_path / "videos" / ".lock"):
        assert "another run writes to videos: wait for it" in error_line(*vidrd(*run))
    (tmp_path / "videos" / "manifest.jsonl").write_text("[1]\n")
    assert "manifest.jsonl is not a list of videos" in error_line(*vidrd(*run))
    (tmp_path / "videos" / "manifest.jsonl").unlink()
    assert vidrd(*run)[0] == 0
    assert (tmp_path / "videos" / "film.mp4").read_text() == "film"


def test_a_video_that_diverges_costs_itself_alone(vidrd, model, tmp_path):
    """Its word is encoded as NaN; it is in a batch with the others."""
    (tmp_path / "prompts.txt").write_text("a red circle\na blue circle\na red circle moving\n")
    run = ("generate", "--prompts-file", "prompts.txt", *FAST, "--clips", 2, "--format", "apng", "--batch", 3)
    encode, blue = TextEncoder.forward, model.text_encoder.word_ids["blue"]

    def damaged(self, tokens):
        has_word = (tokens == blue).any(dim=1)[:, None, None]
        return encode(self, tokens).masked_fill(has_word, torch.nan)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TextEncoder, "forward", damaged)
        line = error_line(*last_line(vidrd(*run, "-o", "videos")))
    assert "1 of 3 videos could not be made; prompts.txt, line 2: the clip came out as no finite numbers" in line
    assert [each["number"] for each in records("videos")] == [0, 2]
    assert vidrd(*run, "-o", "whole")[0] == 0
    assert set(files("videos")) == {"000000.apng", "000002.apng"}
    for name in files("videos"):
        assert same_video(tmp_path / "videos" / name, tmp_path / "whole" / name)


def last_line(result):
    """What a command printed, with the last line of its stderr alone."""
    code, out, err = result
    return code, out, err.splitlines(keepends=True)[-1]


@posix
def test_a_full_disk_leaves_the_finished_videos(vidrd, tmp_path):
    (tmp_path / "prompts.csv").write_text("prompt,scale\na red circle,1\na red circle,16\n")
    run = ("generate", "--prompts-file", "prompts.csv", *FAST, "--format", "apng", "-o", "videos")
    assert vidrd(*run[:-1], "whole")[0] == 0
    small, large = (len(each) for _, each in sorted(files("whole").items()))
    with file_size_limit((small + large) // 2):
        line = error_line(*last_line(vidrd(*run)), expected=1)
    assert "000001.apng" in line
    assert "1 of 2 videos are in videos; the same command makes the others" in line
    assert set(files("videos")) == {"000000.apng"}
    assert vidrd(*run)[0] == 0
    assert len(records("videos")) == 2


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_keeps_the_finished_videos(vidrd, monkeypatch, tmp_path, times):
    from vidrd_core.cli.progress import VideosDisplay

    original = VideosDisplay.step

    def pressed(self, clip, step):
        if self.done == 1 and (clip, step) == (1, 0):
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        original(self, clip, step)

    (tmp_path / "prompts.txt").write_text(TEXT)
    run = ("generate", "--prompts-file", "prompts.txt", *FAST, "--clips", 2, "-o", "videos")
    with monkeypatch.context() as patch:
        patch.setattr(VideosDisplay, "step", pressed)
        code, out, err = vidrd(*run)
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == "vidrd: stopped; 1 of 3 videos are in videos; the same command makes the others"
    assert set(files("videos")) == {"000000.mp4"}
    assert len(records("videos")) == 1
    assert vidrd(*run)[0] == 0
    assert set(files("videos")) == {"000000.mp4", "000001.mp4", "000002.mp4"}


@posix
def test_a_killed_run_is_resumed_as_if_it_had_not_been(vidrd, folder, tmp_path):
    prompts = ["a red circle", "a blue circle", "a red circle moving"]
    lines = [f"{prompt},{frames}" for frames in (8, 6) for prompt in prompts]
    (tmp_path / "prompts.csv").write_text("\n".join(["prompt,frames", *lines]))
    given = ["--prompts-file", "prompts.csv", "--steps", "3", "--clips", "2", "--batch", "2", "--dtype", "float32"]
    run = [sys.executable, "-m", "vidrd_core.cli", "generate", *given, "--model", str(folder), "--threads", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*run, "--scale", "1", "-o", "killed"], env=environment, stderr=subprocess.PIPE)
    manifest, deadline = tmp_path / "killed" / "manifest.jsonl", time.monotonic() + 60
    while not (manifest.exists() and manifest.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert len(list((tmp_path / "killed").glob("*.mp4"))) < 6
    with manifest.open("a") as file:
        file.write('{"number": 5, "fi')  # as a kill within a write leaves it
    (tmp_path / "killed" / "000005.part-0123ab.mp4").touch()
    assert vidrd("generate", *given, "-o", "killed")[0] == 0
    assert vidrd("generate", *given, "-o", "undisturbed")[0] == 0
    assert records("killed") == records("undisturbed")
    assert files("killed") == files("undisturbed")
    assert len(files("killed")) == 6


def test_a_run_file_takes_a_prompts_file(vidrd, tmp_path):
    (tmp_path / "prompts.txt").write_text("a red circle\n")
    given = ("generate", "--prompts-file", "prompts.txt", *FAST, "-o", "one", "--save-config", "run.yaml")
    assert vidrd(*given)[0] == 0
    assert vidrd("generate", "--config", "run.yaml", "-o", "two")[0] == 0
    assert files("one") == files("two")
    assert vidrd("generate", "--config", "run.yaml", "-o", "one", "--quiet") == (0, "", "")
