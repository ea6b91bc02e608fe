"""`vidrd train` as a user runs it: what it prints on a terminal, elsewhere, as JSON, and not at all."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vidrd_core

from ..training.helpers import RECIPE, write_recipe
from .helpers import error_line, posix

pytest.importorskip("accelerate")

STAGE = {**RECIPE["stages"][0], "steps": 4, "log_every": 2}


def recipe(folder, **changes):
    return str(write_recipe(folder / "recipe.yaml", stages=[{**STAGE, **changes}]))


def plain_lines(out):
    """The log lines that a stage prints, as a dict of each."""
    return [json.loads(line.removeprefix("vae: ")) for line in out.splitlines() if line.startswith("vae: {")]


def test_without_a_terminal_there_are_plain_lines(tmp_path, vidrd):
    code, out, err = vidrd("train", recipe(tmp_path))
    assert code == 0
    lines = plain_lines(out)
    assert [line["step"] for line in lines] == [2, 4, 4]
    assert {"step", "mse", "l1", "kl", "steps_per_s"} == lines[0].keys()
    assert "psnr" in lines[2]
    assert err == f"vidrd: finished: the model is in {tmp_path}/run/model\n"
    log = [json.loads(line) for line in (tmp_path / "run/vae/log.jsonl").read_text().splitlines()]
    assert [line.keys() for line in log] == [line.keys() for line in lines]


def test_json_lines_are_all_there_is_on_stdout(tmp_path, vidrd):
    path = recipe(tmp_path, evaluate_every=2)
    config = Path(path).read_text().replace("frames: 4\n  size: 32", "frames: 4\n  held_out: 0.2\n  size: 32", 1)
    Path(path).write_text(config)
    code, out, err = vidrd("train", path, "--json")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert {tuple(line) for line in lines} == {("stage", "step", "steps", "losses", "metrics", "seconds", "eta")}
    assert [(line["stage"], line["step"], line["steps"]) for line in lines] == [
        ("vae", step, 4) for step in (2, 2, 4, 4, 4)
    ]
    trained, held_out, *_, sampled = lines
    assert trained["losses"].keys() == {"mse", "l1", "kl"}
    assert trained["metrics"].keys() == {"steps_per_s"}
    assert held_out["losses"].keys() == {"held_out_mse", "held_out_l1", "held_out_kl"}
    assert (sampled["losses"], sampled["metrics"].keys()) == ({}, {"psnr"} | sampled["metrics"].keys())
    assert 0 < trained["seconds"] < lines[-1]["seconds"]
    assert trained["eta"] == pytest.approx(2 / trained["metrics"]["steps_per_s"], abs=0.2, rel=0.2)
    assert lines[-1]["eta"] == 0
    assert err.splitlines()[-1].startswith("vidrd: finished: the model is in ")


def test_json_keeps_messages_for_stderr(tmp_path, vidrd):
    path = Path(recipe(tmp_path))
    path.write_text(path.read_text().replace("frames: 4\n", "frames: 4\n  held_out: 0.5\n", 1))
    assert vidrd("train", str(path), "--json")[0] == 0
    for name in ("done", "model"):
        (tmp_path / "run/vae" / name).unlink(missing_ok=True)
    write_recipe(path, stages=[{**STAGE, "steps": 6}])
    code, out, err = vidrd("train", str(path), "--json")
    assert code == 0
    assert all(json.loads(line)["step"] in (4, 6) for line in out.splitlines())
    assert "vidrd: vae: resumed at step 4, now with " in err
    assert "steps 6 (then 4)" in err


def test_quiet_prints_errors_only(tmp_path, vidrd):
    assert vidrd("train", recipe(tmp_path), "--quiet") == (0, "", "")
    assert (tmp_path / "run/model/vae.safetensors").exists()
    message = "stage vae is finished, and now has steps 5 (then 4): undo that"
    assert message in error_line(*vidrd("train", recipe(tmp_path, steps=5), "--quiet"))
    assert "steps is 0, expected at least 1" in error_line(*vidrd("train", recipe(tmp_path, steps=0), "--json"))


def test_quiet_and_json_print_json_only(tmp_path, vidrd):
    code, out, err = vidrd("train", recipe(tmp_path), "--json", "--quiet")
    assert (code, err) == (0, "")
    assert [json.loads(line)["step"] for line in out.splitlines()] == [2, 4, 4]


def on_a_terminal(arguments, stdout_too):
    """Run the command with stderr, and maybe stdout, on a pseudo-terminal; what is on the terminal, and on stdout."""
    import pty

    leader, follower = pty.openpty()
    environment = {
        **os.environ, "PYTHONPATH": str(Path(vidrd_core.__file__).parents[1]), "TERM": "xterm-256color",
        "COLUMNS": "120", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "vidrd_core.cli", *arguments], env=environment, stdin=follower, stderr=follower,
        stdout=follower if stdout_too else subprocess.PIPE,
    )  # fmt: skip
    os.close(follower)
    shown = b""
    while True:
        try:
            data = os.read(leader, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            break
        if not data:
            break
        shown += data
    os.close(leader)
    out = "" if stdout_too else process.stdout.read().decode()
    assert process.wait(60) == 0, shown.decode()
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()), out


@posix
@pytest.mark.parametrize("stdout_too", [True, False], ids=["all", "stderr"])
def test_a_terminal_shows_stage_steps_loss_pace_and_time_left(tmp_path, stdout_too):
    shown, out = on_a_terminal(["train", recipe(tmp_path, steps=12)], stdout_too)
    bars = [line for line in re.split(r"[\r\n]+", shown) if line.startswith("vae ")]
    assert bars, shown
    assert re.search(r"vae .* 0/12 steps .*-:--:-- left", bars[0])
    assert re.search(r"vae .* 12/12 steps loss \d+\.?\d*(e-\d+)?, [\d.e+]+ steps/s 0:00:00 left", bars[-1]), bars[-1]
    assert f"finished: the model is in {tmp_path}/run/model" in " ".join(shown.split())
    assert '{"step"' not in shown, "the log is in its file"
    steps = [2, 4, 6, 8, 10, 12, 12]
    assert [line["step"] for line in plain_lines(out)] == ([] if stdout_too else steps), (
        "kept by whoever redirects it"
    )
    log = (tmp_path / "run/vae/log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == steps


@posix
def test_a_terminal_shows_messages_above_the_bar(tmp_path, vidrd):
    assert vidrd("train", recipe(tmp_path), "--quiet")[0] == 0
    (tmp_path / "run/vae/done").unlink()
    shown, _ = on_a_terminal(["train", recipe(tmp_path, steps=6)], True)
    before, _, after = shown.partition("vae: resumed at step 4, now with steps 6 (then 4)")
    assert after
    assert "4/6 steps" not in before
    assert "6/6 steps" in after
