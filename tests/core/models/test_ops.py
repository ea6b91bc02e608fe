"""Layers, attention and in-place operations of the models: the same results as torch's own."""

import dataclasses

import pytest
import torch
from torch import nn

from vidrd_core.models import attention, ops
from vidrd_core.models.attention import FEW, SHORT, sdpa, sliced_attention
from vidrd_core.models.unet3d import UNet3D

from ...conftest import UNET, randomise


def plain_attention(q, k, v, heads):
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    weights = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("shape", [(3, 7, 24), (70, 24), (2, 3, 40, 24), (1, 1, 24)])
def test_linear_equals_torchs_with_its_gradients(shape):
    torch.manual_seed(0)
    ours, theirs = ops.Linear(24, 10), nn.Linear(24, 10)
    ours.load_state_dict(theirs.state_dict())
    x, also = (torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    result, expected = ours(x), theirs(also)
    torch.testing.assert_close(result, expected)
    result.square().sum().backward()
    expected.square().sum().backward()
    for mine, its in ((x, also), (ours.weight, theirs.weight), (ours.bias, theirs.bias)):
        torch.testing.assert_close(mine.grad, its.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kept", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
@torch.no_grad()
def test_weights_of_another_dtype_are_cast_to_the_input(kept):
    torch.manual_seed(0)
    cases = [
        (ops.Linear(8, 8), torch.randn(40, 8)),
        (ops.Conv2d(8, 8, 3, padding=1), torch.randn(2, 8, 5, 5)),
        (ops.GroupNorm(2, 8), torch.randn(2, 8, 5)),
        (ops.LayerNorm(8), torch.randn(2, 8)),
    ]
    for layer, x in cases:
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
        layer.to(kept)
        result = layer(x)
        assert layer.weight.dtype == kept
        assert result.dtype == torch.float32
        torch.testing.assert_close(result, layer.to(torch.float32)(x))


@pytest.mark.parametrize(("batch", "queries", "keys"), [(5, 8, 8), (1, 8, 8), (300, 6, 3), (2, 40, 40), (2, 8, 77)])
@torch.no_grad()
def test_attention_equals_the_formula(batch, queries, keys):
    torch.manual_seed(0)
    q, k, v = (torch.randn(batch, length, 24) for length in (queries, keys, keys))
    expected = plain_attention(q, k, v, 3)
    torch.testing.assert_close(sdpa(q, k, v, 3), expected)
    for softmax in FEW.values():
        torch.testing.assert_close(sliced_attention(q, k, v, 3, 10**9, softmax), expected)
    for scores in (1, 3 * keys, 7 * keys, 3 * keys * queries, 2 * 3 * keys * queries, 10**9):
        torch.testing.assert_close(sliced_attention(q, k, v, 3, scores), expected)


@torch.no_grad()
def test_without_fused_kernels_few_scores_are_held(monkeypatch):
    held = []
    monkeypatch.setattr(attention, "FUSED_DEVICES", ())
    monkeypatch.setattr(attention, "MAX_SCORES", 1000)
    softmax = torch.Tensor.softmax
    monkeypatch.setattr(torch.Tensor, "softmax", lambda x, dim: held.append(x.numel()) or softmax(x, dim))
    q, k, v = (torch.randn(2, 50, 24) for _ in range(3))
    torch.testing.assert_close(sdpa(q, k, v, 3), plain_attention(q, k, v, 3))
    assert len(held) > 17  # one is the formula's own
    assert sorted(held)[-2] <= 1000


def test_short_attention_runs_in_chunks_and_has_gradients(monkeypatch):
    monkeypatch.setattr("vidrd_core.models.attention.CHUNK", 100)
    torch.manual_seed(0)
    inputs = [torch.randn(9, SHORT, 24, requires_grad=True) for _ in range(3)]
    also = [t.detach().clone().requires_grad_() for t in inputs]
    sdpa(*inputs, 3).square().sum().backward()
    plain_attention(*also, 3).square().sum().backward()
    for mine, its in zip(inputs, also, strict=True):
        torch.testing.assert_close(mine.grad, its.grad)


@torch.no_grad()
def test_chunks_equal_the_whole_and_leave_the_input():
    x = torch.randn(7, 5)
    before = x.clone()
    seen = []

    def double(part):
        seen.append(len(part))
        return 2 * part

    for limit, chunks in ((ops.CPU_CHUNK, [7]), (30, [3, 3, 1]), (1, [1] * 7)):
        seen.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ops, "CPU_CHUNK", limit)
            torch.testing.assert_close(ops.in_chunks(x, double, growth=2), 2 * x)
        assert seen == chunks
    torch.testing.assert_close(x, before)


def network(**changes):
    return randomise(UNet3D(dataclasses.replace(UNET, dropout=0.0, **changes)))


@pytest.mark.parametrize("kind", ["inside", "after"])
def test_gradients_and_chunks_make_no_difference(kind, monkeypatch):
    unet = network(temp_attention=kind)
    torch.manual_seed(0)
    x, text = torch.randn(2, 4, 5, 8, 8), torch.randn(2, 6, 12)
    kept = x.clone()
    with_gradients = unet(x, torch.tensor([3, 900]), text)
    assert with_gradients.requires_grad
    for limit in (ops.CPU_CHUNK, 1):
        monkeypatch.setattr(ops, "CPU_CHUNK", limit)
        with torch.no_grad():
            torch.testing.assert_close(unet(x, torch.tensor([3, 900]), text), with_gradients, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x, kept, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["inside", "after"])
def test_gradients_reach_every_weight(kind):
    unet = network(temp_attention=kind)
    unet(torch.randn(1, 4, 3, 8, 8), torch.tensor([500]), torch.randn(1, 6, 12)).square().mean().backward()
    without = [name for name, p in unet.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@torch.no_grad()
def test_channels_last_makes_no_difference(monkeypatch):
    unet = network()
    x, text = torch.randn(1, 4, 5, 8, 8), torch.randn(1, 6, 12)
    result = unet(x, torch.tensor([500]), text)
    monkeypatch.setattr("vidrd_core.models.unet3d.channels_last", lambda x: x.contiguous())
    torch.testing.assert_close(unet(x, torch.tensor([500]), text), result, rtol=1e-5, atol=1e-5)


INSIDE = {"temp_attention": "inside", "joint_resnet_norm": True}
AFTER = {"temp_attention": "after", "transformer_in": True}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("settings", [INSIDE, AFTER])
@torch.no_grad()
def test_features_stay_channels_last_through_the_network(settings, batch):
    """A layer that returned another layout would slow down all that follow."""
    unet, found = network(**settings, position_features=False, frame_pictures=0), {}
    for name, layer in unet.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.GroupNorm)) and name != "conv_in":
            layer.register_forward_pre_hook(lambda _, given, name=name: found.update({name: given[0].stride()}))
    unet(torch.randn(batch, 4, 5, 8, 8), torch.tensor([500]), torch.randn(batch, 6, 12))
    assert len(found) > 40
    # torch takes it for that only if no stride is smaller than one before it in the order C, W, H, B
    assert {name for name, (b, c, h, w) in found.items() if not c == 1 < w <= h <= b} == set()


def test_norms_train_where_their_input_needs_no_gradient():
    """torch's own backward crashes the process there."""
    x = torch.randn(4, 32, 8, 8).to(memory_format=torch.channels_last)
    norm, plain = ops.GroupNorm(8, 32), torch.nn.GroupNorm(8, 32)
    for each, given in ((norm, x), (plain, x.contiguous())):
        each(given).square().sum().backward()
    assert torch.allclose(norm.weight.grad, plain.weight.grad, rtol=1e-5)
