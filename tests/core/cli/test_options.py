"""Options generated from settings dataclasses, in help pages, run files and completion."""

import json
import os
import subprocess
import sys
from dataclasses import MISSING, fields
from importlib import import_module

import pytest
import typer
import yaml

from vidrd_core import cli
from vidrd_core.cli import evaluate_options, options
from vidrd_core.cli.completion import models
from vidrd_core.cli.settings_options import REQUIRED, Group, argument_docs, read_fields, solver_names
from vidrd_core.loading import built_in_models
from vidrd_core.presets import PRESETS
from vidrd_core.sampling import SOLVERS

from .helpers import PROMPTS, error_line, same_state

GROUPS = [each for module in (options, evaluate_options) for each in vars(module).values() if isinstance(each, Group)]


def page(*names: str, columns: int = 100) -> str:
    """The help of a command."""
    environment = {**os.environ, "COLUMNS": str(columns)}
    run = [sys.executable, "-m", "vidrd_core.cli", *names, "--help"]
    return subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.settings)
def test_fields_parsed_from_source_equal_those_of_the_class(group):
    module, _, name = group.settings.partition(":")
    kind = getattr(import_module(module), name)
    read = read_fields(module, name)
    assert [each.name for each in read] == [each.name for each in fields(kind)]
    for each, real in zip(read, fields(kind), strict=True):
        assert each.default == (REQUIRED if real.default is MISSING else real.default)
        assert each.help.endswith("."), each.name
    assert group.fields


def test_solvers_are_listed_by_their_decorator():
    assert solver_names() == tuple(SOLVERS)


def test_help_is_the_first_sentence_of_an_argument():
    lines = ["Args:", "    one: First (a, b) of two. Second.", "    two: A thing", "        in two lines; 0 to 1."]
    docs = argument_docs("\n".join(["A summary.", "", *lines, "", "Raises:", "    ValueError: No."]))
    assert docs == {"one": "First (a, b) of two.", "two": "A thing in two lines; 0 to 1."}


def test_the_help_of_generate_is_short_and_without_types():
    text = page("generate")
    assert len(text.splitlines()) <= 116
    for word in ("<int>", "<float>", "<str>", "INTEGER", "FLOAT", "TEXT", "[default: None]", "--drift"):
        assert word not in text
    for field in (each for group in (options.SAMPLE_GROUP, options.REUSE_GROUP) for each in group.fields):
        assert f"--{field.name.replace('_', '-')}" in text
    order = [text.index(f"\n{panel}:") for panel in ("The video", "Each clip", "From clip to clip", "The machine")]
    assert order == sorted(order)


def test_defaults_of_zero_are_shown():
    text = " ".join(page("generate").split())
    for option in ("--travel CLIPS", "--seed SEED", "--anchor SHARE"):
        assert "[default: 0]" in text.partition(f" {option} ")[2].partition(" --")[0], option
    assert "[default: 0]" in " ".join(page("evaluate").split()).partition("--repeated ")[2].partition(" --")[0]


@pytest.mark.parametrize("name", ["pack", "convert"])
def test_what_is_required_comes_before_other_options(name):
    text = page(name)
    required, options_of_all = (
        text.partition("\nThe result:\n")[2].split("\n\n")[0],
        text.partition("\nOptions:\n")[2],
    )
    assert required.count("Required.") == text.count("Required.")
    assert "--overwrite" in required
    assert [line.split()[0] for line in options_of_all.splitlines()] == ["-q,", "-h,"]
    assert "The machine" not in text


def test_every_command_explains_each_of_its_options():
    def walk(command, path):
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, [*path, name])
        for parameter in command.params:
            assert parameter.help, (path, parameter.name)

    walk(typer.main.get_command(cli.app), [])


def test_a_renamed_option_is_an_alias(vidrd):
    for name in ("--anchor", "--drift"):
        run = ("--steps", 2, name, 0.5, "--state-dir", name.strip("-"), "-o", f"{name.strip('-')}.gif")
        assert vidrd("generate", *PROMPTS, *run)[0] == 0
    assert same_state("anchor/clip_0001.safetensors", "drift/clip_0001.safetensors")


def test_both_names_of_an_option_are_refused(vidrd):
    for given in (("--drift", 0.3, "--anchor", 0.2), ("--anchor=0.2", "--drift=0.3")):
        line = error_line(*vidrd("generate", *PROMPTS, *given, "-o", "x.gif"))
        assert "error: --anchor and --drift are one option: give one of them" in line
    assert vidrd("generate", "--steps", 1, "--anchor", 0.2, "-o", "x.gif", "--", "a red circle")[0] == 0


def test_a_run_is_saved_and_repeated_from_its_file(vidrd, tmp_path):
    given = (*PROMPTS, "--clips", 3, "--steps", 2, "--alpha", 1, "--order", "forward", "--per-clip-none")[:-1]
    assert vidrd("generate", *given, "-o", "one.gif", "--state-dir", "one", "--save-config", "run.yaml")[0] == 0
    kept = yaml.safe_load((tmp_path / "run.yaml").read_text())
    assert kept["prompts"] == PROMPTS
    assert (kept["alpha"], kept["order"], kept["steps"]) == (1.0, "forward", 2)
    again = ("--config", "run.yaml", "-o", "two.gif", "--state-dir", "two", "--seed", 0)
    assert vidrd("generate", *again)[0] == 0
    for index in range(3):
        name = f"clip_{index:04d}.safetensors"
        assert same_state(tmp_path / "one" / name, tmp_path / "two" / name)
    assert (
        vidrd("generate", "a red circle", "--config", "run.yaml", "-o", "three.gif", "--state-dir", "three")[0] == 0
    )
    assert len(list((tmp_path / "three").iterdir())) == 3


def test_zeros_are_saved_and_read(vidrd, tmp_path):
    zeros = {"prompt-frames": 0, "alpha": 0.0, "beta": 0.0, "anchor": 0.0, "seed": 0, "cfg": 0.0, "travel": 0}
    given = [part for name, value in zeros.items() for part in (f"--{name}", value)]
    run = (*PROMPTS, "--steps", 2, *given, "-o", "one.gif", "--state-dir", "one", "--save-config", "run.yaml")
    assert vidrd("generate", *run)[0] == 0
    kept = yaml.safe_load((tmp_path / "run.yaml").read_text())
    assert {name: kept.get(name) for name in zeros} == zeros
    assert vidrd("generate", "--config", "run.yaml", "-o", "two.gif", "--state-dir", "two")[0] == 0
    for name in ("clip_0000.safetensors", "clip_0001.safetensors"):
        assert same_state(tmp_path / "one" / name, tmp_path / "two" / name)


def test_a_run_file_leaves_quiet_to_the_command_line(vidrd, tmp_path):
    run = ("--steps", 1, "-o", "one.gif")
    assert vidrd("generate", "a red circle", *run, "--quiet", "--save-config", "run.yaml") == (0, "", "")
    text = (tmp_path / "run.yaml").read_text()
    assert "quiet" not in text
    (tmp_path / "run.yaml").write_text(f"{text}quiet: true\n")  # as 0.2.0 wrote it
    code, out, _ = vidrd("generate", "--config", "run.yaml")
    assert code == 0
    assert out.startswith("one.gif: 1 clip")


def test_a_run_file_takes_older_names_text_with_numbers_and_null(vidrd, tmp_path):
    (tmp_path / "run.yaml").write_text(
        "prompts: a red circle\nsteps: '1'\ndrift: 3e-1\nseed_per_clip: 7\ncfg: null\nlora: []\n"
    )
    run = ("--config", "run.yaml", "-o", "one.gif", "--state-dir", "one", "--save-config", "again.yaml")
    assert vidrd("generate", *run)[0] == 0
    kept = yaml.safe_load((tmp_path / "again.yaml").read_text())
    assert (kept["prompts"], kept["steps"], kept["anchor"], kept["seed-per-clip"]) == (["a red circle"], 1, 0.3, "7")
    assert "cfg" not in kept


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompts: [a red circle]\nstep: 3", "run.yaml has no option step (did you mean steps?)"),
        ("prompt_frame: 3", "run.yaml has no option prompt-frame (did you mean prompt-frames?)"),
        ("[1, 2]", "run.yaml holds [1, 2], expected names of options with values"),
        ("# nothing\n", "run.yaml is empty, expected names of options with values"),
        ("a: [", "run.yaml, line 1 is not YAML:"),
        (b"negative: \xff", "run.yaml is not YAML: byte 10 is not UTF-8 text"),
        ("steps: many", "run.yaml: steps is 'many', expected a whole number\n"),
        ("steps: true", "run.yaml: steps is True, expected a whole number\n"),
        ("seed: 1.5", "run.yaml: seed is 1.5, expected a whole number\n"),
        ("alpha: much", "run.yaml: alpha is 'much', expected a number\n"),
        ("prompt_frames: [1]", "run.yaml: prompt-frames is [1], expected a whole number\n"),
        ("negative: no", "run.yaml: negative is False, expected text\n"),
        ("state-dir: ''", "run.yaml: state-dir is '': it is empty: give a name"),
        ("prompts: {a: 1}", "run.yaml: prompts is {'a': 1}, expected a list of texts\n"),
        ("prompts: 5", "run.yaml: prompts is 5, expected a list of texts\n"),
        ("prompts: [a red circle, 5]", "run.yaml: prompts is 5, expected text\n"),
        ("prompts: []", "run.yaml: prompts is an empty list, expected one text or more\n"),
        ("prompts: a red circle\nsteps: 0", "steps is 0, expected a whole number, 1 or more"),
        ("resume: true", "run.yaml has resume, which belongs on the command line: remove it from the file"),
        ("config: other.yaml", "run.yaml has config, which belongs on the command line"),
        ("save_config: other.yaml", "run.yaml has save_config, which belongs on the command line"),
        ("steps: 2\nseed: 1\nsteps: 3", "run.yaml, line 3: steps is given twice, first in line 1"),
        ("prompt_frames: 2\nprompt-frames: 3", "run.yaml has prompt_frames and prompt-frames, which are one option"),
        ("drift: 0.1\nanchor: 0.2", "run.yaml has drift and anchor, which are one option: remove one of them"),
    ],
)
def test_a_bad_run_file_is_refused(vidrd, tmp_path, text, message):
    (tmp_path / "run.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert message in error_line(*vidrd("generate", "--config", "run.yaml", "-o", "long.gif"))
    assert os.listdir() == ["run.yaml"]


def test_a_refused_run_saves_no_file(vidrd, tmp_path):
    line = error_line(*vidrd("generate", *PROMPTS, "--cfg", 1e6, "-o", "x.gif", "--save-config", "run.yaml"))
    assert "cfg is 1000000.0" in line
    assert os.listdir() == []


def test_quiet_prints_errors_alone(vidrd):
    assert vidrd("generate", *PROMPTS, "--steps", 2, "-o", "long.gif", "--quiet") == (0, "", "")
    assert vidrd("pack", "tiny", "-o", "copy.safetensors", "--quiet") == (0, "", "")
    assert "steps is 0" in error_line(*vidrd("generate", *PROMPTS, "--steps", 0, "-o", "long.gif", "-q"))


def test_json(vidrd, whole):
    code, out, err = vidrd("models", "--json")
    assert (code, err) == (0, "")
    (tiny, *_) = json.loads(out)
    assert (tiny["name"], tiny["frames"], tiny["size"]) == ("tiny", 8, 64)
    assert "circle" in tiny["words"]
    code, out, _ = vidrd("info", whole / "states" / "clip_0001.safetensors", "--json")
    assert code == 0
    assert json.loads(out)["kind"] == "clip state of clip 1 (the first one is 0)"


def completed(monkeypatch, capsys, *words, shell="bash"):
    """What a shell completes the last word to."""
    monkeypatch.setenv("_VIDRD_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS", " ".join(["vidrd", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", " ".join(["vidrd", *words]))
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        cli.main([])
    return [line for line in capsys.readouterr().out.splitlines() if line]


def test_choices_are_completed(monkeypatch, capsys):
    assert completed(monkeypatch, capsys, "generate", "--order", "f") == ["forward"]


def test_completion_does_not_wait_for_pytorch():
    words = {"_VIDRD_COMPLETE": "complete_bash", "COMP_WORDS": "vidrd generate --preset p", "COMP_CWORD": "3"}
    code = (
        "import sys; from vidrd_core import cli; sys.argv = ['vidrd']\n"
        "try: cli.main([])\nfinally: print('torch' in sys.modules)"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, env={**os.environ, **words}, capture_output=True, text=True)
    assert done.stdout.split() == ["paper", "False"]


def test_older_names_are_not_completed(monkeypatch, capsys):
    assert completed(monkeypatch, capsys, "generate", "--dr") == []
    assert completed(monkeypatch, capsys, "generate", "--an") == ["--anchor"]
    both = ("--drift", "1", "--anchor", "1")
    assert completed(monkeypatch, capsys, "generate", *both, "--stat") == ["--state-dir"]
    assert set(completed(monkeypatch, capsys, "pack", "--q")) == {"--quiet"}


def test_presets_are_completed_as_the_shell_inserts_them(monkeypatch, capsys):
    words = ("generate", "--preset", "")
    found = completed(monkeypatch, capsys, *words)
    assert found == ["paper", r"keep\ moving", r"loop\ on\ purpose", "anchored", r"for\ this\ model"]
    assert completed(monkeypatch, capsys, "extend", "s", "--preset", "k", shell="fish") == ["keep moving"]
    assert tuple(completed(monkeypatch, capsys, *words, shell="fish")) == PRESETS


def test_models_and_recipes_are_completed(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("trained", "other", ".hidden"):
        (tmp_path / name).mkdir()
    for name in ("t5.safetensors", "t.txt", "two.yaml"):
        (tmp_path / name).touch()
    for words in (["generate", "--model"], ["pack"], ["convert"]):
        assert completed(monkeypatch, capsys, *words, "t") == ["tiny", "t5.safetensors", "trained/"]
        assert completed(monkeypatch, capsys, *words, "oth") == [], "the shell completes paths itself"
    assert completed(monkeypatch, capsys, "train", "t") == ["tiny", "tiny_prompted", "trained/", "two.yaml"]
    assert completed(monkeypatch, capsys, "train", "v") == ["video"]
    assert [each for each in models("") if each in built_in_models()] == list(built_in_models())
    assert "other/" in models("")
    assert ".hidden/" not in models("")
