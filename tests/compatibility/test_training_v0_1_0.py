"""What training of version 0.1.0 wrote: a stopped run, and the settings that later runs are compared with."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from vidrd_core.data.actions import Actions
from vidrd_core.data.captioners.local import LocalModel
from vidrd_core.data.captioners.server import Server
from vidrd_core.data.captions import Sidecar
from vidrd_core.data.long_videos import LongVideos
from vidrd_core.data.runner import settings_of
from vidrd_core.data.stills import Stills
from vidrd_core.training.config import load_config
from vidrd_core.training.recipe import Recipe
from vidrd_core.training.stage_config import STAGE_CONFIGS, read_stage

WRITTEN = Path(__file__).parent / "v0_1_0"
SHAPING = json.loads((WRITTEN / "training" / "shaping.json").read_text())


def test_a_stopped_run_is_resumed(tmp_path, monkeypatch, capsys):
    """It ends in what a run without a stop ends in; nearly, for processors round in their own ways."""
    folder = shutil.copytree(WRITTEN / "training", tmp_path / "stopped")
    monkeypatch.chdir(folder)
    resumed = Recipe(load_config(Path("recipe.yaml"))).run()
    assert "vae: resumed at step 4\n" in capsys.readouterr().out, "and no setting counts as changed"
    steps = [json.loads(line)["step"] for line in Path("run/vae/log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6, 6]
    tensors = load_file(resumed / "vae.safetensors")
    (tmp_path / "straight").mkdir()
    monkeypatch.chdir(tmp_path / "straight")
    shutil.copy(folder / "recipe.yaml", "recipe.yaml")
    straight = load_file(Recipe(load_config(Path("recipe.yaml"))).run() / "vae.safetensors")
    assert tensors.keys() == straight.keys()
    for name, value in straight.items():
        torch.testing.assert_close(tensors[name], value, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("recipe", SHAPING)
def test_the_settings_that_a_run_is_compared_with_are_the_same(recipe):
    """Each setting of a stage that is left has the name and value that checkpoints and finished stages have."""
    stages = yaml.safe_load((WRITTEN / "recipes" / f"{recipe}.yaml").read_text())["stages"]
    for stage in map(read_stage, stages):
        before, now = SHAPING[recipe][stage.name], stage.shaping()
        assert {name: before[name] for name in now} == now
        gone = {name for name in before if name not in now}
        others = {field for kind in STAGE_CONFIGS.values() for field in kind.__dataclass_fields__}
        assert gone <= others - set(type(stage).__dataclass_fields__), "what is left out belongs to other tasks"


def test_the_settings_of_data_folders_are_the_same():
    folder = Path("folder")
    stages = {
        "videos": LongVideos(folder, Sidecar()),
        "videos_server": LongVideos(folder, Server("http://x/v1", "llava")),
        "stills_local": Stills(folder, LocalModel(Path("m"))),
        "actions": Actions(folder, "ucf101"),
    }
    written = json.loads((WRITTEN / "training" / "datasets.json").read_text())
    assert {name: settings_of(stage) for name, stage in stages.items()} == written
