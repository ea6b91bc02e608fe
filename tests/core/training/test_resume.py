"""Resuming a run: changed settings are reported, impossible ones refused, lost evaluations and samples made."""

import dataclasses
import json

import pytest
from PIL import Image

from vidrd_core.data.captions import Sidecar
from vidrd_core.data.clip_sampling import ClipSettings
from vidrd_core.data.runner import run
from vidrd_core.data.stills import Stills
from vidrd_core.models.load_parts import load_text_encoder
from vidrd_core.training.checkpoints import CheckpointError
from vidrd_core.training.config import load_config
from vidrd_core.training.data import RecipeError
from vidrd_core.training.recipe import Recipe
from vidrd_core.training.trainer import Trainer

from ..data.media import write_still
from .helpers import RECIPE, write_recipe
from .test_trainer import STAGE, OneNumber

EVERY = {"evaluate_every": 2, "sample_every": 2, "checkpoint_every": 2}


class Evaluated(OneNumber):
    """It has held-out data, and writes a sample."""

    held_out = True

    def sample(self, model, folder, step):
        Image.new("RGB", (4, 4)).save(folder / f"sample_{step:06d}.png")
        return {"seen": step}


def stopped(folder, at, monkeypatch, name="checkpoint", stage=STAGE, **given):
    """A run that dies right after a checkpoint, or whatever method of that name, of a step."""
    method = getattr(Trainer, name)

    def dying(self):
        method(self)
        if self.step == at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, name, dying)
        with pytest.raises(KeyboardInterrupt):
            Trainer(Evaluated(), dataclasses.replace(stage, **EVERY), folder, **given).run()


def entries(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("at", [4, 12])
def test_a_lost_evaluation_and_sample_are_made(tmp_path, monkeypatch, at):
    stopped(tmp_path, at, monkeypatch)
    assert not (tmp_path / f"sample_{at:06d}.png").exists()
    Trainer(Evaluated(), dataclasses.replace(STAGE, **EVERY), tmp_path).run()
    assert len(list(tmp_path.glob("sample_*.png"))) == 6
    steps = [entry["step"] for entry in entries(tmp_path) if "held_out_loss" in entry]
    assert steps == [2, 4, 6, 8, 10, 12]


def test_an_existing_evaluation_is_not_made_again(tmp_path, monkeypatch):
    stopped(tmp_path, 4, monkeypatch, "sample")
    Trainer(Evaluated(), dataclasses.replace(STAGE, **EVERY), tmp_path).run()
    assert [entry["step"] for entry in entries(tmp_path) if "held_out_loss" in entry] == [2, 4, 6, 8, 10, 12]


def test_changed_settings_are_reported(tmp_path, monkeypatch, capsys):
    stopped(tmp_path, 4, monkeypatch, settings={"data.mix": "a.yaml", "learning_rate": 0.1})
    now = {"data.mix": "b.yaml", "learning_rate": 0.1}
    Trainer(Evaluated(), dataclasses.replace(STAGE, **EVERY), tmp_path, settings=now).run()
    assert "one: resumed at step 4, now with data.mix 'b.yaml' (then 'a.yaml')\n" in capsys.readouterr().out


def test_other_trained_parameters_cannot_be_resumed(tmp_path, monkeypatch):
    stopped(tmp_path, 4, monkeypatch)
    other = dataclasses.replace(STAGE, **EVERY, train="temporal")
    with pytest.raises(RecipeError, match="was stopped at step 4 of train: all, and now has temporal: undo that, or"):
        Trainer(Evaluated(), other, tmp_path).run()


@pytest.mark.parametrize("name", ["optimizer.bin", "custom_checkpoint_0.pkl"])
def test_a_damaged_checkpoint_raises(tmp_path, monkeypatch, name):
    stopped(tmp_path, 4, monkeypatch)
    file = tmp_path / "checkpoint_000004" / name
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(
        CheckpointError, match=r"checkpoint_000004 is damaged: .*; delete .* to train this stage again"
    ):
        Trainer(Evaluated(), dataclasses.replace(STAGE, **EVERY), tmp_path).run()


def test_a_finished_stage_with_another_init_is_refused(tmp_path):
    first = Recipe(load_config(write_recipe(tmp_path / "first.yaml"))).run()
    stage = {**RECIPE["stages"][3], "steps": 1}
    path = write_recipe(tmp_path / "r.yaml", out=str(tmp_path / "next"), init=str(first), stages=[stage])
    Recipe(load_config(path)).run()
    write_recipe(path, out=str(tmp_path / "next"), init="tiny", stages=[stage])
    config = dataclasses.replace(load_config(path), init=None)
    with pytest.raises(RecipeError, match=r"stage \w+ is finished, and now has .*init None \(then '"):
        Recipe(config).run()


def test_unknown_words_in_prompts_raise_before_training(tmp_path):
    path = write_recipe(tmp_path / "r.yaml", samples={"prompts": ["a red horse"]})
    with pytest.raises(ValueError, match="does not know 'horse'"):
        Recipe(load_config(path)).run()
    assert not (tmp_path / "run" / "captions" / "latest.json").exists()


def test_unknown_words_in_captions_raise_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr("vidrd_core.training.latent_statistics.MEASURED", 128)
    write_still(tmp_path / "pictures" / "a.png", 64, 64, caption="a red zebra")
    run(Stills(tmp_path / "pictures", Sidecar(), ClipSettings(frames=4, size=32)), tmp_path / "shards")
    data = {**RECIPE["data"], "sources": [{"shards": str(tmp_path / "shards")}]}
    path = write_recipe(tmp_path / "r.yaml", data=data)
    with pytest.raises(
        ValueError, match=r"the caption of .*a\.png, 'a red zebra': .* does not know 'zebra'; it knows"
    ):
        Recipe(load_config(path)).run()


@pytest.mark.slow
def test_a_recipe_may_name_its_own_words(tmp_path):
    data = {**RECIPE["data"], "sources": [{"shards": str(tmp_path / "shards")}]}
    write_still(tmp_path / "pictures" / "a.png", 64, 64, caption="A striped zebra")
    run(Stills(tmp_path / "pictures", Sidecar(), ClipSettings(frames=4, size=32)), tmp_path / "shards")
    changes = {"text": {**RECIPE["text"], "words": ["a", "striped", "zebra"]}, "samples": {"prompts": ["a zebra"]}}
    stages = [RECIPE["stages"][0], {**RECIPE["stages"][2], "steps": 1, "places_weight": 0.0}]
    path = write_recipe(tmp_path / "r.yaml", data=data, stages=stages, **changes)
    model = load_text_encoder(Recipe(load_config(path)).run() / "text_encoder.safetensors")
    assert model.config.words == ("a", "striped", "zebra")
    assert model.tokenize(["a zebra"])[0, :4].tolist() == [0, 2, 4, 1]


def test_of_two_runs_in_one_folder_the_second_is_refused(tmp_path):
    path = write_recipe(tmp_path / "r.yaml")
    recipe = Recipe(load_config(path))
    with (
        recipe.locked(),
        pytest.raises(RecipeError, match=r"another run trains in .*: wait for it, or choose another"),
    ):
        Recipe(load_config(path)).run()
    assert not recipe.model.exists()


def test_rates_that_fit_no_parameter_are_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"no trained parameter has '\.atn1\.' in its name, as rates expect"):
        Trainer(OneNumber(), dataclasses.replace(STAGE, rates={".atn1.": 0.1}), tmp_path)
