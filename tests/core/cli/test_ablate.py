"""The command `vidrd ablate`."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import vidrd_core
from vidrd_core.cli.measuring import process_device
from vidrd_core.evaluation.runner import read_records
from vidrd_core.models.load_parts import save_text_encoder, save_unet, save_vae
from vidrd_core.models.word_text_encoder import TextEncoder
from vidrd_core.procedural import world
from vidrd_core.video import open_video

from ...conftest import TEXT
from ..metrics.test_feature_extractors import Mean, saved
from ..metrics.test_seams import moving
from .helpers import error_line

VARIED = ("--alphas", "0,4", "--counts", "0,2,4", "--betas", "none", "--clips", "2", "--steps", "1")


@pytest.fixture
def here(tmp_path, vidrd):
    (tmp_path / "prompts.txt").write_text("a red circle\n\na blue circle moving right\n")
    return tmp_path


def test_points_give_figures_a_report_and_a_conclusion(here, vidrd, folder):
    given = ("--model", folder, "--prompts", "prompts.txt", "--videos", "3", *VARIED)
    code, out, err = vidrd("ablate", "-o", "out", *given)
    assert code == 0, err
    assert err.splitlines()[-1] == "vidrd: 4 points of 3 videos: out/report.html"
    by_count, by_alpha = out.splitlines()
    assert by_count.startswith("M from 0 to 4 (alpha 4, beta 0.4): the paper's trend, the more is reused the better")
    assert by_alpha.startswith("alpha from 0 to 4 (M 4, beta 0.4): ")
    found = json.loads((here / "out" / "ablation.json").read_text())
    assert [each["statement"] for each in found["sweeps"]] == [by_count, by_alpha]
    assert found["sweeps"][0]["videos"] == [3, 3, 3]
    assert {record["text"] for record in read_records(here / "out")} == {"a red circle", "a blue circle moving right"}
    page = (here / "out" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert page.count("<svg") == 1
    assert "seam_error" in page
    before = (here / "out" / "records_0.jsonl").read_bytes()
    assert vidrd("ablate", "-o", "out", *given)[0] == 0
    assert (here / "out" / "records_0.jsonl").read_bytes() == before, "nothing is made again"
    line = error_line(*vidrd("ablate", "-o", "out", *given, "--seed", "1"))
    assert "holds records of other settings, now seed 1 (then 0)" in line


def test_frames_across_the_last_seam_are_compared_with_a_reference(here, vidrd, folder):
    (here / "real").mkdir()
    for number in range(3):
        with open_video(here / "real" / f"{number}.mp4", 8.0) as file:
            file.write(moving(8, y=0.1 * number))
    saved(Mean(), here / "mean.pt")
    given = ("--model", folder, "--prompts", "prompts.txt", "--videos", "4", *VARIED)
    code, out, _ = vidrd("ablate", "-o", "out", *given, "--fvd", "script:mean.pt", "--reference", "real")
    assert code == 0
    assert "Metrics: fvd " in out
    (by_count, _) = json.loads((here / "out" / "ablation.json").read_text())["sweeps"]
    assert len(by_count["figures"]["fvd"]) == 3
    few = [*given, "--fvd", "script:mean.pt", "--reference", "real"]
    few[few.index("--videos") + 1] = "2"
    line = error_line(*vidrd("ablate", "-o", "few", *few))
    assert "videos is 2, expected 3 or more: FVD's intervals leave one out of two or more" in line
    assert not (here / "few").exists()


def test_of_the_drawn_world_identity_and_position_are_read(here, vidrd, model):
    config = replace(TEXT, words=world.VOCABULARY, max_length=20)
    (here / "world").mkdir()
    save_unet(model.unet, model.diffusion, here / "world" / "unet.safetensors")
    save_vae(model.vae, here / "world" / "vae.safetensors")
    save_text_encoder(TextEncoder(config), here / "world" / "text_encoder.safetensors")
    code, out, err = vidrd("ablate", "-o", "out", "--model", "world", "--videos", "3", *VARIED)
    assert code == 0, err
    assert "FVD" not in err
    for record in read_records(here / "out"):
        assert world.parse(record["text"])
        assert len(record["identity_kept"]) == len(record["position_error"]) == 1
        assert len(record["faithful_motion"]) == 1, "the first clip is the same at each point"
    assert "Continuity: identity_kept 0 to 0, no change for certain" in out
    assert "fvd" in json.loads((here / "out" / "ablation.json").read_text())["sweeps"][0]["figures"]
    assert "Moved by more than 5 standard errors: " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "is no model of drawn clips: give --prompts for it"),
        (("--videos", "1"), "videos is 1, expected 2 or more"),
        (("--prompts", "no.txt"), "no.txt"),
        (("--prompts", "prompts.txt", "--alphas", "much"), "alpha takes 'much', expected numbers separated"),
        (("--prompts", "prompts.txt", "--alphas", "4,1"), "alpha takes [4.0, 1.0], expected two or more values that"),
        (("--prompts", "prompts.txt", "--alphas", "-1,1"), "alpha is -1.0, expected a number from 0"),
        (("--prompts", "prompts.txt", "--counts", "0,8"), "prompt_frames (M) is 8, expected less than the 8 frames"),
        (("--prompts", "prompts.txt", "--clips", "1"), "clips is 1, expected 2 or more"),
        (("--prompts", "prompts.txt", "--alphas", "none", "--betas", "none", "--counts", "none"), "nothing is"),
        (("--fvd", "script:mean.pt"), "--fvd needs --reference"),
    ],
)
def test_invalid_options_are_refused_in_one_line(here, vidrd, folder, arguments, message):
    assert message in error_line(*vidrd("ablate", "-o", "out", "--model", folder, *arguments))
    assert not (here / "out").exists()


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    assert process_device("cuda") == "cuda"
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert [process_device(name) for name in ("cuda", "cpu", "cuda:1")] == ["cuda:3", "cpu", "cuda:1"]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["evaluate", "ablate"])
def test_processes_of_accelerate_share_the_work(here, folder, command):
    """The last one to finish writes the result."""
    given = ["--model", folder, "--prompts", "prompts.txt", "--clips", "2", "--steps", "1", "-o", "out"]
    given += {"evaluate": ["--videos-per-prompt", "3"], "ablate": ["--videos", "3", *VARIED]}[command]
    launch = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no"]  # fmt: skip
    root = str(Path(vidrd_core.__file__).parents[1])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    run = [sys.executable, "-m", *launch, "-m", "vidrd_core.cli", command, *map(str, given)]
    done = subprocess.run(run, cwd=here, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    names = [record["name"] for record in read_records(here / "out")]
    assert len(names) == len(set(names)) == {"evaluate": 6, "ablate": 12}[command]
    shares = [len(path.read_text().splitlines()) - 1 for path in sorted((here / "out").glob("records_*.jsonl"))]
    assert shares == [len(names) / 2] * 2
    assert (here / "out" / {"evaluate": "evaluation.json", "ablate": "ablation.json"}[command]).exists()
