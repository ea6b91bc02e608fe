"""Layers by oneDNN directly: the same as torch's own, on any number of threads."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from vidrd_core.models import kernels, ops
from vidrd_core.models.layers import GEGLU
from vidrd_core.models.unet3d import UNet3D

from ...conftest import UNET, randomise

DTYPES = sorted(kernels.dtypes(), key=str)
NEAR = {torch.float32: 1e-5, torch.bfloat16: 0.03, torch.float16: 0.004}
pytestmark = pytest.mark.skipif(not DTYPES, reason="this processor has no oneDNN")


def near(result, expected, dtype):
    assert result.dtype == dtype
    torch.testing.assert_close(result.double(), expected, rtol=NEAR[dtype], atol=NEAR[dtype])


def random(*shape, dtype=torch.float32):
    return torch.randn(shape).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(40, 24), (3, 17, 24), (2, 3, 40, 24), (7, 24), (1, 1, 24)])
@torch.no_grad()
def test_linear_layers_equal_the_formula(shape, dtype):
    torch.manual_seed(0)
    layer = ops.Linear(24, 20).to(dtype)
    x, plus = random(*shape, dtype=dtype), random(*shape[:-1], 20, dtype=dtype)
    before = plus.clone()
    expected = x.double() @ layer.weight.double().T + layer.bias.double()
    near(layer(x), expected, dtype)
    near(layer(x, plus), expected + plus.double(), dtype)
    torch.testing.assert_close(plus, before, rtol=0, atol=0)
    across = x.transpose(0, -2) if x.ndim > 2 else x[::2]
    near(layer(across), across.double() @ layer.weight.double().T + layer.bias.double(), dtype)
    value, gate = expected.chunk(2, dim=-1)
    near(kernels.gated_linear(x, layer.weight, layer.bias), value * F.gelu(gate), dtype)
    without = kernels.gated_linear(x, layer.weight, None)
    value, gate = (expected - layer.bias.double()).chunk(2, dim=-1)
    near(without, value * F.gelu(gate), dtype)


@torch.no_grad()
def test_products_are_the_same_by_either_library(monkeypatch):
    torch.manual_seed(0)
    layer, gated, x, plus = ops.Linear(24, 20), GEGLU(24, 20), random(3, 17, 24), random(3, 17, 20)
    made = {}
    for way in ("oneDNN", "BLAS"):
        asked = []
        monkeypatch.setattr(kernels, "_ways", {})
        monkeypatch.setattr(kernels, "fastest", lambda what, _, way=way, asked=asked: asked.append(what) or way)
        used = names_of_kernels(lambda: layer(x))
        assert any("mkldnn" in name for name in used) == (way == "oneDNN"), used
        made[way] = layer(x), layer(x, plus.clone()), gated(x)
        assert asked == ["product of 64 20 24, float32"], "one answer serves layers of the same sizes"
    for one, other in zip(*made.values(), strict=True):
        near(one, other.double(), torch.float32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("settings", [{"kernel_size": 3, "padding": 1}, {"kernel_size": 3, "stride": 2, "padding": 1},
                                      {"kernel_size": (3, 1), "padding": (1, 0)}, {"kernel_size": 1}])  # fmt: skip
@torch.no_grad()
def test_convolutions_equal_the_formula(settings, dtype):
    torch.manual_seed(0)
    layer = ops.Conv2d(8, 6, **settings).to(dtype)
    for x in (random(2, 8, 5, 7, dtype=dtype), random(3, 5, 7, 8, dtype=dtype).permute(0, 3, 1, 2)):
        more = {"stride": layer.stride, "padding": layer.padding}
        expected = F.conv2d(x.double(), layer.weight.double(), layer.bias.double(), **more)
        near(layer(x), expected, dtype)
        plus = random(*expected.shape, dtype=dtype)
        before = plus.clone()
        near(layer(x, plus), expected + plus.double(), dtype)
        torch.testing.assert_close(plus, before, rtol=0, atol=0)
        near(layer(x[0]), expected[0], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", ["channels last", "contiguous"])
@pytest.mark.parametrize("settings", [{"kernel_size": 3, "padding": 1}, {"kernel_size": 3, "stride": 2, "padding": 1},
                                      {"kernel_size": (3, 1), "padding": (1, 0)}, {"kernel_size": 1}])  # fmt: skip
@torch.no_grad()
def test_convolutions_of_many_weights_are_the_same_either_way(settings, way, dtype, monkeypatch):
    asked = []
    monkeypatch.setattr(kernels, "_ways", {})
    monkeypatch.setattr(kernels, "fastest", lambda what, ways: asked.append(what) or way)
    torch.manual_seed(0)
    layer = ops.Conv2d(32, 16, **settings).to(dtype)
    x = random(1, 2, 1, 32, dtype=dtype).permute(0, 3, 1, 2)
    assert layer.weight.numel() > kernels.HEAVY * x.numel()
    expected = F.conv2d(x.double(), layer.weight.double(), layer.bias.double(), layer.stride, layer.padding)
    plus = random(*expected.shape, dtype=dtype)
    before = plus.clone()
    near(layer(x), expected, dtype)
    near(layer(x, plus), expected + plus.double(), dtype)
    torch.testing.assert_close(plus, before, rtol=0, atol=0)
    assert layer(x).is_contiguous(memory_format=torch.channels_last)
    assert len(asked) == 1, "it is asked once for a shape"
    layer(random(1, 32, 40, 40, dtype=dtype))
    assert len(asked) == 1, "a convolution of few weights was asked about"


def names_of_kernels(act):
    with profile(activities=[ProfilerActivity.CPU]) as told:
        act()
    return {event.key for event in told.key_averages()}


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@torch.no_grad()
def test_a_single_thread_goes_through_onednn_too(one_thread):
    unet = randomise(UNet3D(replace(UNET, position_features=False, frame_pictures=0)))
    x, text = torch.randn(1, 4, 3, 8, 8), torch.randn(1, 6, 12)
    names = names_of_kernels(lambda: unet(x, torch.tensor([500]), text))
    assert {"mkldnn::_linear_pointwise", "mkldnn::_convolution_pointwise"} <= names
    assert [name for name in names if "slow_conv" in name] == []


def test_a_single_thread_trains_linear_layers_by_products(one_thread):
    x = torch.randn(40, 24, requires_grad=True)
    names = names_of_kernels(lambda: ops.Linear(24, 20)(x).sum().backward())
    assert [name for name in names if "mm" in name or "_linear_pointwise" in name]
    assert [name for name in names if "conv" in name] == []


@torch.no_grad()
def test_a_network_computes_the_same_without_these_functions(monkeypatch):
    unet = randomise(UNet3D(UNET))
    x, text = torch.randn(2, 4, 5, 8, 8), torch.randn(2, 6, 12)
    result = unet(x, torch.tensor([3, 900]), text)
    monkeypatch.setattr(kernels, "dtypes", frozenset)
    assert "mkldnn::_linear_pointwise" not in names_of_kernels(lambda: unet(x, torch.tensor([3, 900]), text))
    torch.testing.assert_close(unet(x, torch.tensor([3, 900]), text), result, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("change", ["gone", "other arguments", "other results"])
def test_another_torch_in_which_they_are_different_does_without(change, monkeypatch):
    def product(x, weight, bias, plus=None):
        if change == "gone":
            raise AttributeError
        if change == "other arguments":
            raise RuntimeError
        return x + 1

    monkeypatch.setattr(kernels, "_product", product)
    assert kernels.dtypes.__wrapped__() == frozenset()
