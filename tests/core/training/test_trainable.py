"""Each preset trains exactly the parameters that it names; a LoRA file fits the model that it was trained on."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from vidrd_core.loading import load
from vidrd_core.models.formats.unet_keys import is_temporal
from vidrd_core.models.inflate import read_temporal
from vidrd_core.models.load_parts import load_text_encoder, load_unet
from vidrd_core.training.config import load_config
from vidrd_core.training.recipe import Recipe
from vidrd_core.training.trainer import Trainer

from .helpers import RECIPE, STAGE, write_recipe

CLIP = {"name": "clip", "task": "clip", "steps": 3, **STAGE, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A model of all parts, its temporal layers trained a little, so that none is at zero."""
    path = write_recipe(tmp_path_factory.mktemp("start") / "recipe.yaml")
    return Recipe(load_config(path)).run()


def trained(start, tmp_path, **changes):
    recipe = write_recipe(tmp_path / "recipe.yaml", init=str(start), stages=[{**CLIP, **changes}])
    return Recipe(load_config(recipe)).run()


def changed(before, after, load_part, file):
    old, new = (load_part(folder / file) for folder in (before, after))
    old, new = (part[0] if isinstance(part, tuple) else part for part in (old, new))
    assert old.state_dict().keys() == new.state_dict().keys()
    return {name for name, value in old.state_dict().items() if not torch.equal(value, new.state_dict()[name])}


NAMED = {
    "paper": lambda name: is_temporal(name) or "frame_" in name or ".attn1." in name or ".attn2." in name,
    "temporal": lambda name: is_temporal(name) or "frame_" in name,
    "lora": lambda name: ".attn1.to_" in name or ".attn2.to_" in name or ".temp_attn.to_" in name,
    "all": lambda name: True,
}


@pytest.mark.parametrize("preset", NAMED)
def test_a_preset_trains_exactly_what_it_names(start, tmp_path, preset):
    folder = trained(start, tmp_path, train=preset)
    unet = changed(start, folder, load_unet, "unet.safetensors")
    every = set(load_unet(start / "unet.safetensors")[0].state_dict())
    named = {name for name in every if NAMED[preset](name)}
    if preset == "lora":  # biases are not low-rank
        named = {name for name in named if name.endswith("weight")}
    assert unet == named, (sorted(unet - named)[:5], sorted(named - unet)[:5])
    text = changed(start, folder, load_text_encoder, "text_encoder.safetensors")
    assert bool(text) == (preset == "all")
    assert (start / "vae.safetensors").read_bytes() == (folder / "vae.safetensors").read_bytes()


def test_a_lora_on_its_own_is_the_merged_model(start, tmp_path):
    folder = trained(start, tmp_path, train="lora", lora_rank=4)
    file = tmp_path / "run" / "clip" / "lora.safetensors"
    tensors = load_file(file)
    assert {tensor.shape[0] for name, tensor in tensors.items() if "lora_A" in name} == {4}
    assert all(name.startswith("unet.") for name in tensors)
    with_lora, merged, before = load(start), load(folder), load(start)
    with_lora.load_lora(file)
    made = [model.generate("a red circle", steps=2).latents for model in (with_lora, merged, before)]
    torch.testing.assert_close(made[0], made[1], rtol=1e-4, atol=1e-4)
    assert (made[0] - made[2]).abs().max() > 1e-3, "it does something"


def test_temporal_layers_are_a_file_of_their_own_as_well(start, tmp_path):
    folder = trained(start, tmp_path, train="temporal")
    temporal, _ = read_temporal(folder / "temporal.safetensors")
    whole = load_file(folder / "unet.safetensors")
    assert temporal.keys() == {name for name in whole if is_temporal(name)}
    assert all(torch.equal(value, whole[name]) for name, value in temporal.items())
    assert load(start, temporal=folder / "temporal.safetensors").generate("a red circle", steps=1) is not None


def test_gradient_checkpointing_is_the_same_to_the_last_bit(start, tmp_path):
    weights = []
    for name, on in (("without", False), ("with", True)):
        (tmp_path / name).mkdir()
        folder = trained(start, tmp_path / name, train="paper", gradient_checkpointing=on)
        weights.append((folder / "unet.safetensors").read_bytes())
    assert weights[0] == weights[1]
    stage = {**RECIPE["stages"][-1], "gradient_checkpointing": True}
    recipe = write_recipe(tmp_path / "vae.yaml", out=str(tmp_path / "vae"), init=str(start), stages=[stage])
    assert (Recipe(load_config(recipe)).run() / "vae.safetensors").exists()


def test_gradient_checkpointing_recomputes_blocks(start, tmp_path, monkeypatch):
    from vidrd_core.models.temporal import TemporalConv

    calls = []
    forward = TemporalConv.activate
    monkeypatch.setattr(TemporalConv, "activate", lambda self, *given: calls.append(1) or forward(self, *given))
    step, counts = Trainer.train_step, []

    def counted(self):
        before = len(calls)
        losses = step(self)
        counts.append(len(calls) - before)
        return losses

    monkeypatch.setattr(Trainer, "train_step", counted)
    for on in (False, True):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        trained(start, tmp_path, train="temporal", gradient_checkpointing=on, steps=1)
    assert counts[1] == 2 * counts[0]
