"""`vidrd data` as a user runs it."""

import sys

import pytest
import yaml

from vidrd_core.data.shards import Shards

from ..data.media import moving, write_still, write_video
from .helpers import error_line


@pytest.fixture
def here(tmp_path, vidrd):
    """A working directory with images, videos and labelled videos."""
    for i in range(3):
        write_still(tmp_path / "pictures" / f"{i}.png", seed=i, caption=f"picture {i}")
    write_still(tmp_path / "pictures" / "silent.png", seed=9)
    film = write_video(tmp_path / "films" / "a.mp4", moving(2))
    film.with_suffix(".txt").write_text("a yellow square")
    write_video(tmp_path / "actions" / "juggling balls" / "abc.mp4", moving(2, seed=3))
    (tmp_path / "words.csv").write_text("label,caption\njuggling balls,a person juggles\n")
    return tmp_path


SMALL = ("--size", "32", "--frames", "4")


def test_folders_become_shards_and_shards_a_mix(here, vidrd):
    code, out, err = vidrd("data", "stills", "pictures", "-o", "s/pictures", *SMALL, "--zoom", "2")
    assert (code, out) == (0, "")
    assert err.splitlines()[-1] == (
        "vidrd: 3 clips made, 1 skipped, in 1 new shards ('vidrd data show s/pictures' says why)"
    )
    code, _, err = vidrd("data", "stills", "pictures", "-o", "s/pictures", *SMALL, "--zoom", "2")
    assert err == "vidrd: 0 clips made, 0 skipped, in 0 new shards; 4 of 4 were done before\n"
    assert vidrd("data", "videos", "films", "-o", "s/films", *SMALL)[0] == 0
    command = ("data", "actions", "actions", "-o", "s/actions", "--descriptions", "words.csv", *SMALL)
    assert vidrd(*command)[0] == 0
    assert [s.caption for s in Shards(here / "s/actions").samples] == ["a person juggles"]
    code, out, err = vidrd("data", "show", "s/pictures", "-o", "sheet.png")
    assert (here / "sheet.png").stat().st_size > 1000
    assert "s/pictures: 3 clips of 3 files" in out
    assert "silent.png: has no caption" in out
    message = "sheet.xyz is no name of an image: expected one that ends in .png, .jpg"
    assert message in error_line(*vidrd("data", "show", "s/pictures", "-o", "sheet.xyz"))
    code, out, err = vidrd("data", "mix", "s/pictures", "s/films=2", "s/actions=1", "-o", "mix.yaml")
    assert code == 0
    assert "50.0%" in out
    mixture = yaml.safe_load((here / "mix.yaml").read_text())
    assert [(source["shards"], source["weight"]) for source in mixture["sources"]] == [
        (str(here / "s/pictures"), 1), (str(here / "s/films"), 2), (str(here / "s/actions"), 1),
    ]  # fmt: skip
    code, out, _ = vidrd("data", "mix", "s/pictures", "s/films=2", "--no-pseudo-videos", "-o", "without.yaml")
    assert [source["shards"] for source in yaml.safe_load((here / "without.yaml").read_text())["sources"]] == [
        str(here / "s/films")
    ]


def test_single_images_and_several_clips_of_a_file(here, vidrd):
    assert vidrd("data", "stills", "pictures", "-o", "images", "--images", *SMALL)[0] == 0
    assert {s.facts["kind"] for s in Shards(here / "images").samples} == {"image"}
    assert vidrd("data", "stills", "pictures", "-o", "many", "--clips", "3", *SMALL)[0] == 0
    assert len(Shards(here / "many")) == 9
    several = ("--choice", "all", "--detector", "none", "--workers", "2", "--per-shard", "1")
    assert vidrd("data", "videos", "films", "-o", "all", *several, *SMALL)[0] == 0
    assert len(Shards(here / "all")) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("stills", "nowhere", "-o", "s"), "there is no folder nowhere"),
        (("stills", "words.csv", "-o", "s"), "words.csv is a file, expected a folder"),
        (("stills", "empty", "-o", "s"), "there are no pictures in empty"),
        (("stills", "pictures", "-o", "s", "--zoom", "9"), "zoom is 9.0, expected a number from 1 to 8"),
        (("stills", "pictures", "-o", "s", "--size", "60"), "size is 60, expected a multiple of 8"),
        (("stills", "pictures", "-o", "s", "--captioner", "me"), "captioner is 'me', expected sidecar, local:FOLDER"),
        (("videos", "films", "-o", "s", "--captioner", "server:http://x"), "a server needs --caption-model"),
        (("videos", "films", "-o", "s", "--caption-model", "m"), "--caption-model is for a server"),
        (("videos", "films", "-o", "s", "--caption-prompt", "p"), "--caption-prompt is for a model"),
        (("videos", "films", "-o", "s", "--workers", "0"), "workers is 0, expected 1 or more"),
        (("videos", "films", "-o", "s", "--per-shard", "0"), "per-shard is 0, expected 1 or more"),
        (("actions", "actions", "-o", "s", "--template", "hello"), "the template 'hello' must have {label}"),
        (("actions", "actions", "-o", "s", "--table", "no.csv"), "no.csv"),
        (("actions", "actions", "-o", "s", "--descriptions", "pictures/0.txt"), "has no lines below its first"),
        (("videos", "films", "-o", "s", "--captioner", "local:none", "--size", "32"), "there is no folder none"),
        (("show", "empty"), "empty holds no shards"),
        (("show", "nowhere"), "there is no folder nowhere"),
        (("mix", "empty", "-o", "m.yaml"), "empty holds no clips: make them by 'vidrd data'"),
        (("videos", "films", "-o", "s", "--longest", "0.5"), "--longest is 0.5 s, expected --least, 1 s, or more"),
        (("mix", "s", "s=2", "-o", "m.yaml"), "s is given twice: give it once, and its weight as in s=2"),
        (("mix", "s=much", "-o", "m.yaml"), "s=much has the weight 'much', expected a number as in s=2"),
    ],
)
def test_invalid_input_is_refused_in_one_line(here, vidrd, arguments, message):
    (here / "empty").mkdir()
    line = error_line(*vidrd("data", *arguments))
    assert message in line
    assert not (here / "s").exists()


def test_folders_of_the_same_name_have_distinct_names_in_a_mixture():
    from pathlib import Path

    from vidrd_core.cli.data.mix import distinct

    folders = [Path("/d") / name for name in ("films/shards", "kinetics/shards")]
    assert distinct(folders) == ["films/shards", "kinetics/shards"]
    assert distinct([Path("/d/a"), Path("/d/b")]) == ["a", "b"]


@pytest.mark.parametrize("package", ["ray", "ray.data"])
def test_missing_ray_is_one_line_and_nothing_is_written(here, vidrd, monkeypatch, package):
    if package != "ray":
        pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setitem(sys.modules, package, None)
    line = error_line(*vidrd("data", "videos", "films", "-o", "out", *SMALL, "--ray"))
    assert "Ray is missing (" in line
    assert line.endswith("): pip install 'ray[data]', or use --workers for this machine\n")
    assert not (here / "out").exists()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('a.mp4,"a square', "t.csv, line 2: its quotation mark is never closed"),
        ("a.mp4,caf\xe9", "t.csv, line 2 is no UTF-8 text: save the file as UTF-8"),
        (f"a.mp4,{'x' * 200_000}", "t.csv, line 2: it has a field of more than 131,072 characters"),
    ],
)
def test_odd_tables_are_one_line_and_nothing_is_written(here, vidrd, row, message):
    (here / "t.csv").write_bytes(f"file_name,caption\n{row}\n".encode("latin-1"))
    for command in (("data", "videos", "films"), ("evaluate", "films")):
        assert message in error_line(*vidrd(*command, "-o", "out", "--captions", "t.csv"))
        assert not (here / "out").exists()
