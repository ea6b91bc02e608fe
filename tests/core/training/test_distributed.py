"""Several processes train on what one does with as many times the gradient accumulation."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import vidrd_core
from vidrd_core.training.config import load_config
from vidrd_core.training.data import RecipeError
from vidrd_core.training.recipe import Recipe

from .helpers import RECIPE, write_recipe

ROOT = str(Path(vidrd_core.__file__).parents[1])


# Accelerate knows FSDP on GPUs alone; PyTorch's own runs on CPUs, too.
SHARDED = """
import sys
from accelerate import PartialState
from accelerate.utils import DistributedType
PartialState(cpu=True)
PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
from vidrd_core import cli
sys.exit(cli.main(["train", *sys.argv[1:]]))
"""


def launched(recipe, processes=2, program=("-m", "vidrd_core.cli", "train"), **environment):
    """`vidrd train` in several processes of this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": ROOT, "CUDA_VISIBLE_DEVICES": "", **environment}
    run = [*command, *program, str(recipe)]
    return subprocess.run(run, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_accumulation(tmp_path):
    stages = RECIPE["stages"]
    one = [{**stage, "accumulation": 2} for stage in stages]
    Recipe(load_config(write_recipe(tmp_path / "one.yaml", out=str(tmp_path / "one"), stages=one))).run()
    result = launched(write_recipe(tmp_path / "two.yaml", out=str(tmp_path / "two"), stages=stages))
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stderr.count("finished: the model is in") == 1
    for stage in stages:
        logs = [tmp_path / name / stage["name"] / "log.jsonl" for name in ("one", "two")]
        curves = [[json.loads(line) for line in log.read_text().splitlines()] for log in logs]
        assert len(curves[0]) == len(curves[1]) == stage["steps"] + 1, "one process alone writes the log"
        for ours, theirs in zip(*curves, strict=True):
            same = {name for name in ours if name != "steps_per_s"}
            assert {n: ours[n] for n in same} == pytest.approx({n: theirs[n] for n in same}, rel=1e-3, abs=2e-3)
    for part in ("vae", "unet", "text_encoder"):
        weights = [load_file(tmp_path / name / "model" / f"{part}.safetensors") for name in ("one", "two")]
        for name, value in weights[0].items():
            if not name.endswith(
                "k_proj.bias"
            ):  # softmax takes it away: its gradient is rounding, which Adam enlarges
                torch.testing.assert_close(value, weights[1][name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_model_sharded_by_fsdp_trains_the_same(tmp_path):
    short = [{**stage, "steps": 1} for stage in RECIPE["stages"]]
    start = write_recipe(tmp_path / "start.yaml", out=str(tmp_path / "start"), stages=short)
    start = Recipe(load_config(start)).run()
    constant = {"final_rate": 1.0, "checkpoint_every": 2, "gradient_checkpointing": True}
    clip, decoder = ({**stage, **constant} for stage in RECIPE["stages"][3:])
    clip["image_share"] = 0.0

    def recipe(name, steps, **changes):
        stages = [{**stage, **changes} for stage in ({**clip, "steps": steps}, decoder)]
        path = tmp_path / f"{name}_{steps}.yaml"
        return write_recipe(path, out=str(tmp_path / name), init=str(start), stages=stages)

    (tmp_path / "sharded.py").write_text(SHARDED)
    fsdp = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    for steps in (2, 4):  # the second run resumes from the first one's checkpoint
        (tmp_path / "sharded" / "clip" / "done").unlink(missing_ok=True)
        result = launched(recipe("sharded", steps), program=[str(tmp_path / "sharded.py")], **fsdp)
        assert result.returncode == 0, result.stderr[-3000:]
    assert "clip: resumed at step 2" in result.stdout
    Recipe(load_config(recipe("single", 4, accumulation=2))).run()
    for part in ("vae", "unet"):
        weights = [load_file(tmp_path / name / "model" / f"{part}.safetensors") for name in ("sharded", "single")]
        assert weights[0].keys() == weights[1].keys()
        for name, value in weights[0].items():
            torch.testing.assert_close(value, weights[1][name], rtol=1e-3, atol=2e-5)


def test_processes_that_do_not_find_each_other_do_not_train(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("vidrd_core.training.distributed.accelerate_settings", dict)
    with pytest.raises(RecipeError, match="2 processes were started, and each would train by itself: start one, or"):
        Recipe(load_config(write_recipe(tmp_path / "recipe.yaml")))
