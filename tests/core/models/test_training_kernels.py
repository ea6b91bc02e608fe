"""Layers with gradients on x86 CPUs: torch's own results and gradients, whichever way is taken."""

import copy
import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidrd_core.models import kernels, ops, training_kernels
from vidrd_core.models.layers import GEGLU

pytestmark = pytest.mark.skipif(not kernels.dtypes(), reason="this processor has no oneDNN")


@pytest.fixture
def force(monkeypatch):
    """A function that sets the way to take, and a list of what was asked about."""
    asked = []

    def to(way):
        monkeypatch.setattr(kernels, "_ways", {})

        def fastest(what, ways):
            asked.append(what)
            return way if way in ways else next(iter(ways))

        monkeypatch.setattr(kernels, "fastest", fastest)
        return asked

    return to


def compare(ours, theirs, x):
    """Compare results and all gradients of two modules of the same weights."""
    results = []
    for module in (ours, theirs):
        given = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        out = module(given)
        out.backward(torch.linspace(-1, 1, out.numel()).view(out.shape))
        results.append([out, given.grad, *(parameter.grad for parameter in module.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", ["oneDNN", "BLAS", "convolution"])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers_have_torchs_gradients_by_each_library(way, bias, force):
    asked = force(way)
    torch.manual_seed(0)
    ours = ops.Linear(24, 20, bias=bias)
    theirs = nn.Linear(24, 20, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    for x in (torch.randn(40, 24), torch.randn(3, 17, 24), torch.randn(17, 3, 24).transpose(0, 1)):
        compare(ours, theirs, x)
        for parameter in (*ours.parameters(), *theirs.parameters()):
            parameter.grad = None
    kinds = {re.sub(r" of [\d ]+, float32$", "", what) for what in asked}
    assert kinds == {"product", "product with transpose", "product of rows"}


def test_a_linear_layer_computes_only_the_gradients_that_are_wanted(force):
    asked = force("oneDNN")
    layer = ops.Linear(24, 20).requires_grad_(False)
    x = torch.randn(40, 24, requires_grad=True)
    layer(x).sum().backward()
    assert layer.weight.grad is None
    assert not any("rows" in what for what in asked)
    layer.weight.requires_grad_(True)
    layer(x.detach()).sum().backward()
    assert sum("transpose" in what for what in asked) == 1
    assert layer.bias.grad is None


@pytest.mark.parametrize("way", ["channels last", "contiguous"])
@pytest.mark.parametrize("settings", [{"kernel_size": 3, "padding": 1}, {"kernel_size": 3, "stride": 2, "padding": 1},
                                      {"kernel_size": (3, 1), "padding": (1, 0)}])  # fmt: skip
def test_convolutions_of_many_weights_have_torchs_gradients_either_way(settings, way, force):
    asked = force(way)
    torch.manual_seed(0)
    ours = ops.Conv2d(32, 16, **settings)
    theirs = nn.Conv2d(32, 16, **settings)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(1, 2, 1, 32).permute(0, 3, 1, 2)
    compare(ours, theirs, x)
    assert len(asked) == 1
    assert ours(x).is_contiguous(memory_format=torch.channels_last)


def test_a_convolution_of_few_weights_is_torchs_own(force):
    asked = force("contiguous")
    layer = ops.Conv2d(8, 8, 3, padding=1)
    x = torch.randn(2, 8, 16, 16)
    assert torch.equal(layer(x), F.conv2d(x, layer.weight, layer.bias, padding=1))
    assert asked == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_under_autocast_the_dtype_is_that_of_torchs_own(dtype, force):
    asked = force("contiguous")
    with torch.autocast("cpu", torch.bfloat16):
        linear = ops.Linear(24, 20)(torch.randn(40, 24, dtype=dtype))
        convolved = ops.Conv2d(32, 16, 3, padding=1)(torch.randn(1, 2, 1, 32, dtype=dtype).permute(0, 3, 1, 2))
        gated = GEGLU(24, 20)(torch.randn(40, 24, dtype=dtype))
    for out in (linear, convolved, gated):
        assert out.dtype == torch.bfloat16
        out.sum().backward()
    assert [what for what in asked if "bfloat16" not in what] == []


def test_the_gated_layer_has_torchs_gradients():
    torch.manual_seed(0)
    ours = GEGLU(24, 20)

    class Theirs(nn.Module):
        def __init__(self, proj):
            super().__init__()
            self.proj = proj

        def forward(self, x):
            value, gate = self.proj(x).chunk(2, dim=-1)
            return value * F.gelu(gate)

    compare(ours, Theirs(copy.deepcopy(ours.proj)), torch.randn(3, 17, 24))
    x = torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(training_kernels.gated, (x,))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.93])
def test_dropout_keeps_its_share_and_the_mean(rate):
    layer = ops.Dropout(rate)
    torch.manual_seed(0)
    x = torch.ones(2, 40, 5, 1001).contiguous(memory_format=torch.channels_last).requires_grad_()
    out = layer(x)
    assert out.stride() == x.stride()
    dropped = (out == 0).float().mean().item()
    error = math.sqrt(rate * (1 - rate) / x.numel())  # of a share, one standard deviation
    assert abs(dropped - rate) < 4 * error
    kept = out[out != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - rate)), rtol=1e-3, atol=0)
    out.sum().backward()
    assert torch.equal(x.grad, out)
    flat = (out == 0).float().permute(0, 2, 3, 1).flatten()
    for places in range(4):  # of the four numbers in 64 bits
        assert abs(flat[places::4].mean().item() - rate) < 8 * error
    neighbours = ((flat[1:] - rate) * (flat[:-1] - rate)).mean().item() / (rate * (1 - rate))
    assert abs(neighbours) < 5 / math.sqrt(flat.numel()), "values that lie beside each other are independent"


def test_dropout_follows_the_generator_and_is_off_outside_training():
    layer, x = ops.Dropout(0.3), torch.randn(3, 7)
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        made.append(layer(x))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    assert layer.eval()(x) is x
    assert torch.equal(ops.Dropout(0.0)(x), x)
    assert torch.equal(ops.Dropout(1.0)(x), torch.zeros_like(x))
