"""Placement of a model: storage in fp8, offloading and casting give the same results within the expected memory."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from vidrd_core import load
from vidrd_core.model import STORAGE, Placement, device_of, store
from vidrd_core.models.offload import BlockOffload, blocks_of
from vidrd_core.pipeline import VidRD

PROMPT = "a red circle moving right"


def inputs():
    generator = torch.Generator().manual_seed(0)
    x, text = torch.randn(1, 4, 3, 8, 8, generator=generator), torch.randn(1, 6, 12, generator=generator)
    return x, torch.tensor([500]), text


@pytest.mark.parametrize("dtype", [getattr(torch, name) for name in STORAGE])
@torch.no_grad()
def test_fp8_storage_takes_a_quarter_and_computes_in_dtype(model, dtype):
    unet, before = copy.deepcopy(model.unet), model.unet(*inputs())
    store(unet, dtype)
    kept = {name: module.weight.dtype for name, module in unet.named_modules() if isinstance(module, nn.Linear)}
    assert kept["time_embedding.linear_1"] == torch.float32
    others = [kind for name, kind in kept.items() if not name.startswith("time_embedding")]
    assert set(others) == {dtype}
    after = unet(*inputs())
    assert after.dtype == torch.float32
    assert 0 < (after - before).std() / before.std() < 0.3
    # The same as with weights that are rounded beforehand: nothing but the rounding is lost.
    rounded = copy.deepcopy(model.unet)
    rounded.load_state_dict({name: tensor.float() for name, tensor in unet.state_dict().items()})
    torch.testing.assert_close(after, rounded(*inputs()))


def test_weights_out_of_the_range_of_fp8_are_refused(model):
    unet = copy.deepcopy(model.unet)
    with torch.no_grad():
        unet.mid_block.resnets[0].conv1.weight[0] = 500
    with pytest.raises(ValueError, match=r"mid_block.resnets.0.conv1.weight goes up to 500, .*e4m3fn to 448"):
        store(unet, torch.float8_e4m3fn)
    assert "float8" not in str({tensor.dtype for tensor in unet.state_dict().values()})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"offload": "blocks"}, "main memory while a device computes"),
        ({"offload": "some"}, "expected one of none, parts, blocks"),
        ({"storage": torch.int8}, "expected one of float8_e4m3fn, float8_e5m2"),
        ({"tile": 7}, "tile is 7, expected a multiple of 4 pixels, 16 or more"),
    ],
)
def test_invalid_placements_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        load("tiny", **settings)


def test_a_state_can_be_extended_in_another_precision(tmp_path):
    whole, small = load("tiny"), load("tiny", dtype=torch.bfloat16, storage=torch.float8_e4m3fn)
    assert small.signature == whole.signature
    assert small.dtype == torch.bfloat16
    first = whole.generate(PROMPT, steps=2)
    following = small.extend(first.state, PROMPT)
    expected = whole.extend(first.state, PROMPT)
    # The first frame follows the old clip in the first step, whatever the weights.
    assert following.latents.isfinite().all()
    assert 0 < (following.latents - expected.latents).std() / expected.latents.std() < 0.5


class Watched(BlockOffload):
    """Block offloading that loads copies, as on another device, and counts how many are loaded at once."""

    def __init__(self, unet):
        self.most = self.brought = 0
        super().__init__(unet, torch.device("cpu"))

    def copy_to_device(self, tensor):
        self.brought += 1
        self.most = max(self.most, len(self.originals))
        return tensor.clone()


@torch.no_grad()
def test_blocks_are_loaded_one_at_a_time(model):
    unet = copy.deepcopy(model.unet)
    before, home = unet(*inputs()), {name: tensor.data_ptr() for name, tensor in unet.state_dict().items()}
    watched = Watched(unet)
    for call in range(3):
        torch.testing.assert_close(unet(*inputs()), before, rtol=0, atol=0)
        # From the second call on the next block is there when its turn comes: no more than two at once.
        assert watched.most == (1 if call == 0 else 2)
    assert watched.brought > 3 * len(list(blocks_of(unet)))
    waiting = list(watched.originals)  # for the next call
    assert len(waiting) <= 1
    away = {f"{name}.{inner}" for name, block in unet.named_modules() if block in waiting
            for inner, _ in block.named_parameters()}  # fmt: skip
    assert {n: t.data_ptr() for n, t in unet.state_dict().items() if n not in away} == {
        n: place for n, place in home.items() if n not in away
    }


def test_every_weight_is_in_exactly_one_block(model):
    inside = [parameter for block in blocks_of(model.unet) for parameter in block.parameters()]
    assert len(inside) == len(set(inside)) == len(list(model.unet.parameters()))


@torch.no_grad()
def test_a_block_that_fails_is_offloaded(model):
    unet = copy.deepcopy(model.unet)
    home = {name: tensor.data_ptr() for name, tensor in unet.mid_block.resnets[0].state_dict().items()}
    Watched(unet)
    unet.mid_block.resnets[0].conv1.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        unet(*inputs())
    assert {n: t.data_ptr() for n, t in unet.mid_block.resnets[0].state_dict().items()} == home


def test_parts_are_on_the_device_one_at_a_time(model, monkeypatch):
    moves = []
    model = dataclasses.replace(model)
    for name in ("unet", "vae", "text_encoder"):
        part = getattr(model, name)
        monkeypatch.setattr(part, "to", lambda device, name=name: moves.append((name, str(device))), raising=False)
    # There is one device here: it plays both.
    model.placement = Placement(torch.device("cpu", 0))
    object.__setattr__(model.placement, "offload", "parts")
    clips = list(model.stream(["a red circle", "a blue circle"], steps=1))
    there = [move for move in moves if move[1] == "cpu:0"]
    assert there == [("text_encoder", "cpu:0"), ("unet", "cpu:0")] * 2
    moves.clear()
    list(model.decode(clips))
    assert moves[-1] == ("vae", "cpu:0")
    assert ("unet", "cpu") in moves


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("offload", ["parts", "blocks"])
def test_offloading_on_a_gpu_gives_the_same_result(offload):
    whole, away = load("tiny", "cuda"), load("tiny", "cuda", offload=offload)
    clip, other = (model.generate(PROMPT, steps=3) for model in (whole, away))
    torch.testing.assert_close(other.latents, clip.latents, rtol=0, atol=0)
    assert (away.frames(other) == whole.frames(clip)).all()
    assert next(away.unet.parameters()).device.type == "cpu"


def test_to_moves_and_casts_or_reports_why_it_cannot(model):
    parts = (copy.deepcopy(part) for part in (model.unet, model.vae, model.text_encoder))
    moved = VidRD(*parts, model.diffusion)
    signature = moved.signature
    assert moved.to("cpu", torch.bfloat16) is moved
    assert (moved.device.type, moved.dtype, moved.signature) == ("cpu", torch.bfloat16, signature)
    assert moved.generate("a red circle", steps=2).latents.isfinite().all()
    assert moved.to("auto").device == device_of("auto")
    with pytest.raises(ValueError, match="device is 'gpu', expected auto, cpu, cuda"):
        moved.to("gpu")
    with pytest.raises(ValueError, match="device is 'meta', which cannot be used here: give cpu"):
        moved.to("meta")
    assert moved.to(torch.float32).dtype == torch.float32
    assert moved.to("cpu").dtype == torch.float32
    with pytest.raises(ValueError, match=r"device is torch.float32 and dtype is torch.float16, expected one type"):
        moved.to(torch.float32, torch.float16)
    moved.place(Placement(storage=torch.float8_e4m3fn))
    with pytest.raises(ValueError, match="was loaded with storage or offload"):
        moved.to("cpu")


def test_load_takes_auto_and_reports_arguments_and_devices_that_there_are_not():
    assert load("tiny", device="auto").device == device_of("auto")
    with pytest.raises(ValueError, match="device is 'gpu', expected auto, cpu, cuda"):
        load("tiny", "gpu")
    with pytest.raises(TypeError, match=r"^load has no argument devise \(did you mean device\?\): "):
        load("tiny", devise="cpu")
    with pytest.raises(TypeError, match=r"^load has no argument step_offset \(did you mean steps_offset\?\): "):
        load("nothing", step_offset=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_there_is_not_is_reported(model):
    for use in (lambda: load("tiny", "cuda"), lambda: dataclasses.replace(model).to("cuda")):
        with pytest.raises(ValueError, match="device is 'cuda', which cannot be used here: give cpu"):
            use()
