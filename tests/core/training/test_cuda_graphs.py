"""CUDA graphs: on a GPU the same results as without, elsewhere nothing changes."""

import json

import pytest
import torch

from vidrd_core.training.config import load_config
from vidrd_core.training.cuda_graphs import capture
from vidrd_core.training.recipe import Recipe

from .helpers import RECIPE, write_recipe

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def trained(folder, captured):
    """The losses of a recipe of all stages, and its model."""
    folder.mkdir()
    stages = [{**stage, "steps": 12, "cuda_graphs": captured} for stage in RECIPE["stages"]]
    recipe = load_config(write_recipe(folder / "recipe.yaml", stages=stages))
    Recipe(recipe).run()
    lines = {
        stage["name"]: (folder / "run" / stage["name"] / "log.jsonl").read_text().splitlines() for stage in stages
    }
    return {
        (name, entry["step"], key): value
        for name, entries in lines.items()
        for entry in map(json.loads, entries)
        for key, value in entry.items()
        if "steps_per_s" in entry and key not in ("step", "steps_per_s")
    }


@needs_gpu
def test_training_with_cuda_graphs_has_the_same_losses(tmp_path, monkeypatch):
    used = []
    monkeypatch.setattr("vidrd_core.training.trainer.capture", lambda model: (used.append(model), capture(model)))
    plain, captured = trained(tmp_path / "plain", False), trained(tmp_path / "captured", True)
    assert len(used) == 5
    assert plain.keys() == captured.keys()
    for key, loss in plain.items():
        assert captured[key] == pytest.approx(loss, rel=0.02, abs=1e-4), key


@needs_gpu
def test_gradients_with_cuda_graphs_are_the_same(tmp_path):
    from vidrd_core import load

    model = load("tiny", "cuda").unet.train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("attn" in name or "temp" in name)
    kinds = [(2, 8), (3, 1), (2, 8)]

    def gradients():
        found, generator = [], torch.Generator("cuda").manual_seed(0)
        for batch, frames in kinds:
            x = torch.randn((batch, 4, frames, 16, 16), generator=generator, device="cuda")
            text = torch.randn((batch, 32, 128), generator=generator, device="cuda")
            timestep = torch.full((batch,), 500, device="cuda")
            model.zero_grad()
            model(x, timestep, text).square().mean().backward()
            own = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
            found.append({name: grad for name, grad in own.items() if grad.any()})
        return found

    plain = gradients()
    capture(model)
    for before, after in zip(plain, gradients(), strict=True):
        assert before.keys() == after.keys()
        for name, gradient in before.items():
            torch.testing.assert_close(after[name], gradient, rtol=0.01, atol=1e-3 * float(gradient.abs().max()))


def test_without_a_gpu_nothing_is_captured():
    layer = torch.nn.Linear(2, 2)
    capture(layer)
    assert "forward" not in layer.__dict__


@pytest.mark.parametrize(
    "other", [{"accumulation": 2}, {"gradient_checkpointing": True}, {"adversarial_weight": 0.1}]
)
def test_settings_that_exclude_cuda_graphs_are_refused(tmp_path, other):
    stages = [{**RECIPE["stages"][0], "cuda_graphs": True, **other}]
    with pytest.raises(ValueError, match="cuda_graphs is on, with gradient_checkpointing, accumulation or"):
        load_config(write_recipe(tmp_path / "recipe.yaml", stages=stages))
