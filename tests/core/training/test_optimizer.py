"""Muon: steps of matrices as PyTorch's, all else as AdamW's, and resumed to the same bits."""

import dataclasses
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vidrd_core.training.config import load_config
from vidrd_core.training.data import RecipeError
from vidrd_core.training.optimizer import make_optimizer
from vidrd_core.training.recipe import Recipe
from vidrd_core.training.stage_config import ImageStageConfig
from vidrd_core.training.trainer import Trainer

from .helpers import RECIPE, STAGE, write_recipe

MUON = ImageStageConfig(name="muon", steps=10, batch_size=1, learning_rate=0.01, optimizer="muon", weight_decay=0.1)


class Small(nn.Module):
    """A layer of each kind that counts."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv_in = nn.Conv2d(4, 6, 3)
        self.wide, self.tall = nn.Linear(24, 8), nn.Linear(8, 24)
        self.conv = nn.Conv2d(6, 8, 3)
        self.token_embedding = nn.Embedding(5, 4)


def trained(model, stage, steps=5):
    """The weights of a model by name after some steps of made-up gradients."""
    optimizer = make_optimizer(dict(model.named_parameters()), stage, torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
        optimizer.zero_grad()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def test_matrices_take_the_steps_of_pytorchs_muon():
    muon = pytest.importorskip("torch.optim", reason="PyTorch is older than its Muon").Muon
    ours, theirs = trained(Small(), MUON), Small()
    names = ("wide.weight", "tall.weight")
    weights = [theirs.get_parameter(name) for name in names]
    optimizer = muon(weights, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    generator, before = torch.Generator().manual_seed(1), [weight.clone() for weight in weights]
    for _ in range(5):
        for parameter in theirs.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    for name, weight, start in zip(names, weights, before, strict=True):
        assert (ours[name] - weight).norm() < 0.02 * (weight - start).norm(), name  # theirs works in bfloat16


def test_a_convolution_counts_as_a_matrix_of_its_outputs():
    class Flat(Small):
        def __init__(self):
            super().__init__()
            self.conv.weight = nn.Parameter(self.conv.weight.detach().flatten(1))

    as_conv, flat = trained(Small(), MUON), trained(Flat(), MUON)
    assert torch.equal(as_conv["conv.weight"].flatten(1), flat["conv.weight"])
    channels_last = trained(Small().to(memory_format=torch.channels_last), MUON)["conv.weight"]
    assert torch.allclose(channels_last, as_conv["conv.weight"], atol=1e-6)


def test_all_else_takes_the_steps_of_adamw():
    muon, adamw = trained(Small(), MUON), trained(Small(), dataclasses.replace(MUON, optimizer="adamw"))
    same = {name for name in muon if torch.allclose(muon[name], adamw[name], atol=1e-6)}
    assert same == set(muon) - {"wide.weight", "tall.weight", "conv.weight"}


def test_every_direction_of_a_matrix_moves_alike():
    """What one in a thousand examples asks for is learned as fast as what all ask for."""
    weight = nn.Parameter(torch.zeros(8, 8))
    optimizer = make_optimizer({"inner.weight": weight}, MUON, torch.device("cpu"))
    weight.grad = torch.diag(torch.tensor([1.0, 1e-3, 0, 0, 0, 0, 0, 0]))
    optimizer.step()
    moved = weight.detach().diagonal().abs()
    assert 0.3 < moved[1] / moved[0] < 3
    assert not moved[2:].any()


def test_factors_of_the_rate_hold_for_matrices_too():
    halved = dataclasses.replace(MUON, rates={"wide": 0.5}, weight_decay=0.0)
    whole = dataclasses.replace(MUON, weight_decay=0.0)
    start = Small().wide.weight.detach()
    moved = [trained(Small(), stage, 1)["wide.weight"] - start for stage in (halved, whole)]
    assert torch.allclose(2 * moved[0], moved[1], atol=1e-7)


def test_gradients_that_overflow_change_nothing():
    weights = {"inner.weight": nn.Parameter(torch.ones(4, 4)), "inner.bias": nn.Parameter(torch.ones(4))}
    optimizer, scaler = make_optimizer(weights, MUON, torch.device("cpu")), torch.amp.GradScaler("cpu")
    scaler.scale(torch.zeros(()))
    for weight in weights.values():
        weight.grad = torch.full_like(weight, float("inf"))
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    assert all((weight == 1).all() for weight in weights.values())


def test_parts_of_matrices_are_refused():
    with pytest.raises(RecipeError, match="stage muon: optimizer muon needs whole matrices: use no FSDP, or adamw"):
        make_optimizer({"inner.weight": nn.Parameter(torch.zeros(8, 8))}, MUON, torch.device("cpu"), sharded=True)


def test_a_resumed_run_ends_in_the_same_bits(tmp_path, monkeypatch):
    stages = [RECIPE["stages"][0], {**RECIPE["stages"][2], "optimizer": "muon", "steps": 4, "checkpoint_every": 2}]
    stages[1] |= {"words_weight": 0.0, "places_weight": 0.0, **{k: v for k, v in STAGE.items() if k == "batch_size"}}
    config = load_config(write_recipe(tmp_path / "recipe.yaml", stages=stages))
    Recipe(config).run()
    weights = tmp_path / "run" / "image" / "unet.safetensors"
    whole = load_file(weights)
    shutil.rmtree(tmp_path / "run" / "image")

    def dying(trainer, method=Trainer.checkpoint):
        method(trainer)
        if trainer.step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "checkpoint", dying)
        with pytest.raises(KeyboardInterrupt):
            Recipe(config).run()
    Recipe(config).run()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in load_file(weights).items())
