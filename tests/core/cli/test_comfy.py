"""`vidrd comfy extend`."""

import json
from pathlib import Path

import pytest

from ..comfy.graphs import changed, same, wan
from ..comfy.test_extend import extended
from .helpers import error_line, posix


@pytest.fixture
def short(tmp_path, monkeypatch):
    """A workflow's file in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("short.json").write_text(json.dumps(wan()))
    return "short.json"


def test_it_writes_a_long_workflow(vidrd, short):
    code, out, err = vidrd(
        "comfy", "extend", short, "--clips", 3, "-M", 2, "--order", "forward", "-o", "deep/long.json"
    )
    assert (code, out, err) == (0, "deep/long.json: 3 clips by KSampler (node 8)\n", "")
    expected = extended(wan(), 3, prompt_frames=2, order="forward")
    assert same(json.loads(Path("deep/long.json").read_text())) == same(expected)


@pytest.mark.parametrize("group", ["comfy", "data"])
def test_a_group_of_commands_alone_shows_its_help(vidrd, group):
    assert vidrd(group) == vidrd(group, "--help")
    assert vidrd(group)[1].startswith(f"Usage: vidrd {group} [OPTIONS] COMMAND ...")


def test_prompts_count_the_clips(vidrd, short):
    assert vidrd("comfy", "extend", short, "--prompt", "a", "--prompt", "b", "-o", "two.json", "-q") == (0, "", "")
    assert same(json.loads(Path("two.json").read_text())) == same(extended(wan(), 2, prompts=["a", "b"]))
    assert vidrd("comfy", "extend", short, "-o", "four.json", "-q")[0] == 0
    assert same(json.loads(Path("four.json").read_text())) == same(extended(wan(), 4))


def test_files_are_not_overwritten_unasked(vidrd, short):
    Path("long.json").write_text("mine")
    message = error_line(*vidrd("comfy", "extend", short, "-o", "long.json"))
    assert "long.json is there already: give another name, or --overwrite" in message
    assert Path("long.json").read_text() == "mine"
    assert vidrd("comfy", "extend", short, "-o", "long.json", "--overwrite")[0] == 0
    assert "VidRD_Extend" in Path("long.json").read_text()


@pytest.mark.parametrize("there", [False, True])
@posix
def test_links_stay_links(vidrd, short, there):
    if there:
        Path("real.json").write_text("mine")
    Path("link.json").symlink_to("real.json")
    assert "link.json is there already" in error_line(*vidrd("comfy", "extend", short, "-o", "link.json"))
    assert Path("real.json").exists() == there
    assert vidrd("comfy", "extend", short, "-o", "link.json", "--overwrite")[0] == 0
    assert Path("link.json").is_symlink()
    assert "VidRD_Extend" in Path("real.json").read_text()


def test_errors_name_the_file_and_the_node(vidrd, short):
    Path("half.json").write_text(json.dumps(changed(wan(), n8={"denoise": 0.5})))
    message = error_line(*vidrd("comfy", "extend", "half.json", "-o", "long.json"))
    assert "half.json: KSampler (node 8) is in the way: its denoise is 0.5" in message
    assert not Path("long.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gone.json", "-o", "x.json"), "gone.json"),
        (("text.json", "-o", "x.json"), "text.json is no JSON file"),
        (("short.json", "-o", "x.mp4"), "--output is x.mp4, expected a file name in .json, as long.json"),
        (("short.json", "-o", ".json"), "--output is .json, expected a file name in .json, as long.json"),
        (("short.json", "-o", "x.json", "--order", "up"), "expected mirror, forward or auto"),
        (("short.json", "-o", "x.json", "--clips", 0), "--clips"),
        (("short.json", "-o", "x.json", "--clips", 1000), "expected 1 to 100"),
        (("short.json", "-o", "x.json", "--clips", 1, "--prompt", "a", "--prompt", "b"), "2 prompts for 1 clips"),
        (("short.json", "-o", "x.json", "-M", 5000), "5000 prompt frames, expected 0 to 1024"),
        (("short.json", "-o", "x.json", "--prompt", "a", "--prompt", "caf\udce9"), "--prompt 2 is no UTF-8 text"),
    ],
)
def test_wrong_input_is_named(vidrd, short, arguments, message):
    Path("text.json").write_text("hello")
    assert message in error_line(*vidrd("comfy", "extend", *arguments))
    assert not Path("x.json").exists()


def test_half_a_character_in_the_file_is_named(vidrd, short):
    Path("half.json").write_text(json.dumps(changed(wan(), n5={"text": "caf\udce9"})))
    message = error_line(*vidrd("comfy", "extend", "half.json", "-o", "long.json"))
    assert "half.json holds half a character, '\\udce9', in a text" in message
    assert [each.name for each in Path().iterdir() if "long" in each.name] == []
