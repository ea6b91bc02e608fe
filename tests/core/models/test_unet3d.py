"""UNet3D against closed forms and diffusers' own networks on the same weights."""

import dataclasses
import itertools
import math

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet3DConditionModel

from vidrd_core.models.config import UNet3DConfig
from vidrd_core.models.temporal import TemporalConv
from vidrd_core.models.tiny_conditioning import (
    PICTURE_WAVES,
    POSITION_WAVES,
    FramePictures,
    FramePositions,
    position_features,
)
from vidrd_core.models.unet3d import UNet3D

from ...conftest import UNET, randomise

SD = UNet3DConfig(
    block_out_channels=(32, 64, 64),
    attention_levels=(True, True, False),
    heads=(2, 4, 4),
    cross_attention_dim=24,
    norm_groups=8,
    dropout=0.0,
)

RELEASED_EMBEDDING = {"embed_to": "stream", "released_embedding": True}


def inputs(frames=5, text_dim=24, size=16):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, frames, size, size, generator=generator)
    return x, torch.tensor([7, 901]), torch.randn(2, 6, text_dim, generator=generator)


def diffusers_2d(linear):
    blocks = ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"]
    return UNet2DConditionModel(
        sample_size=16, block_out_channels=(32, 64, 64), down_block_types=blocks,
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        attention_head_dim=[2, 4, 4], cross_attention_dim=24, norm_num_groups=8, use_linear_projection=linear,
    ).eval()  # fmt: skip


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("temp_attention", ["inside", "after"])
@torch.no_grad()
def test_a_freshly_inflated_model_equals_the_2d_model_frame_by_frame(linear, temp_attention):
    flat = randomise(diffusers_2d(linear))
    config = dataclasses.replace(
        SD, linear_projection=linear, temp_attention=temp_attention, transformer_in=temp_attention == "after"
    )
    ours = UNet3D(config).eval()
    missing, unexpected = ours.load_state_dict(flat.state_dict(), strict=False)
    assert not unexpected
    assert all("temp" in name or "transformer_in" in name for name in missing)
    x, t, text = inputs()
    result = ours(x, t, text)
    for j in range(x.shape[2]):
        torch.testing.assert_close(result[:, :, j], flat(x[:, :, j], t, text).sample, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_our_modelscope_equals_diffusers_unet3d():
    blocks = ["CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D"]
    theirs = UNet3DConditionModel(
        sample_size=16, block_out_channels=(32, 64, 64), down_block_types=blocks,
        up_block_types=["UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D"],
        attention_head_dim=16, cross_attention_dim=24, norm_num_groups=8,
    )  # fmt: skip
    randomise(theirs)
    ours = UNet3D(
        dataclasses.replace(SD, temp_attention="after", transformer_in=True, temporal_for_images=True)
    ).eval()
    state = theirs.state_dict()
    ours.load_state_dict(state)
    x, t, text = inputs()
    torch.testing.assert_close(ours(x, t, text), theirs(x, t, text).sample, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_one_frame_is_an_image():
    ours = randomise(UNet3D(UNET))
    flat = UNet3D(
        dataclasses.replace(UNET, temp_attention="none", temp_conv_depth=0, frame_embedding=0, frame_pictures=0)
    ).eval()
    flat.load_state_dict({k: v for k, v in ours.state_dict().items() if k in flat.state_dict()})
    x, t, text = inputs(frames=1, text_dim=12)
    torch.testing.assert_close(ours(x, t, text), flat(x, t, text))
    x2 = x.expand(-1, -1, 2, -1, -1)
    assert not torch.allclose(ours(x2, t, text)[:, :, 0], flat(x2, t, text)[:, :, 0], atol=1e-3)


@torch.no_grad()
def test_every_setting_changes_the_result():
    x, t, text = inputs(text_dim=12)
    base = randomise(UNet3D(UNET))(x, t, text)
    stream = randomise(UNet3D(dataclasses.replace(UNET, embed_to="stream")))(x, t, text)
    for change in ({"embed_to": "stream"}, RELEASED_EMBEDDING, {"joint_resnet_norm": True}, {"heads": (2, 4)}):
        other = randomise(UNet3D(dataclasses.replace(UNET, **change)))(x, t, text)
        assert not torch.allclose(base, other, atol=1e-4), change
        assert change == {"embed_to": "stream"} or not torch.allclose(stream, other, atol=1e-4), change


@torch.no_grad()
def test_position_features_are_the_waves_of_the_dct():
    across, down = position_features(16, 24).split(POSITION_WAVES)
    torch.testing.assert_close(across, across[:, :1].expand_as(across))
    torch.testing.assert_close(down, down[..., :1].expand_as(down))
    for waves, length in ((across[:, 0], 24), (down[..., 0], 16)):
        torch.testing.assert_close(waves @ waves.T, length / 2 * torch.eye(POSITION_WAVES), rtol=0, atol=1e-4)
        torch.testing.assert_close(waves.sum(1), torch.zeros(POSITION_WAVES), rtol=0, atol=1e-5)
    # Places are shares of the frame: at twice the resolution each one is the mean of its two halves, almost.
    halved = position_features(32, 48).unflatten(2, (24, 2)).mean(3)[:POSITION_WAVES, ::2]
    torch.testing.assert_close(halved, across, rtol=0.04, atol=1e-3)


@torch.no_grad()
def test_frame_positions_are_sums_of_waves():
    paint = FramePositions(hidden=3, width=2)
    places = position_features(6, 5)
    frame_features = torch.randn(2, 4, 3)
    assert not paint(frame_features, places).any()
    randomise(paint)
    weights = paint.linear(frame_features).reshape(8, 2, 2 * POSITION_WAVES)
    expected = torch.stack([sum(w[:, k, None, None] * places[k] for k in range(len(places))) for w in weights])
    torch.testing.assert_close(paint(frame_features, places), expected)


@torch.no_grad()
def test_frame_pictures_are_sums_of_products_of_waves():
    paint = FramePictures(hidden=3, channels=2, width=5)
    frame_features = torch.randn(2, 4, 3)
    assert not paint(frame_features, 6, 7).any()
    randomise(paint)
    weights = paint.linear(torch.nn.functional.silu(paint.hidden(frame_features))).reshape(
        8, 2, PICTURE_WAVES, PICTURE_WAVES
    )
    expected = torch.zeros(8, 2, 6, 7)
    for y, x, j, i in itertools.product(range(6), range(7), range(PICTURE_WAVES), range(PICTURE_WAVES)):
        wave = math.cos(math.pi * j * (y + 0.5) / 6) * math.cos(math.pi * i * (x + 0.5) / 7)
        expected[:, :, y, x] += weights[:, :, j, i] * wave
    torch.testing.assert_close(paint(frame_features, 6, 7), paint.out(expected), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_frame_positions_are_counted_by_default_and_matter():
    unet = randomise(UNet3D(UNET))
    x, t, text = inputs(frames=3, text_dim=12)
    counted = unet(x, t, text, torch.arange(3).expand(2, 3))
    torch.testing.assert_close(unet(x, t, text), counted)
    assert not torch.allclose(unet(x, t, text, torch.tensor([[5, 6, 7]] * 2)), counted, atol=1e-3)


@pytest.mark.parametrize("size", [8, 12, 10])
@pytest.mark.parametrize("frames", [1, 2, 9])
@torch.no_grad()
def test_other_sizes_and_frame_counts_work(size, frames):
    x, t, text = inputs(frames, 12, size)
    assert randomise(UNet3D(UNET))(x, t, text).shape == x.shape


@torch.no_grad()
def test_clips_of_a_batch_are_independent():
    unet = randomise(UNet3D(UNET))
    x, t, text = inputs(text_dim=12)
    both = unet(x, t, text)
    for i in range(2):
        torch.testing.assert_close(
            both[i : i + 1], unet(x[i : i + 1], t[i : i + 1], text[i : i + 1]), rtol=1e-4, atol=1e-5
        )


@torch.no_grad()
def test_temp_conv_is_a_conv3d_and_loads_its_weights():
    ours = TemporalConv(8, groups=2, depth=2)
    randomise(ours)
    conv = torch.nn.Conv3d(8, 8, (3, 1, 1), padding=(1, 0, 0))
    x = torch.randn(2, 8, 5, 3, 4)
    ours.load_state_dict({"conv1.2.weight": conv.weight, "conv1.2.bias": conv.bias}, strict=False)
    result = ours.conv1[2](x.flatten(3)).unflatten(3, (3, 4))
    torch.testing.assert_close(result, conv(x), rtol=1e-5, atol=1e-6)


def test_full_size_models_have_the_known_parameter_counts():
    with torch.device("meta"):
        vidrd = UNet3D(UNet3DConfig())
        modelscope = UNet3D(UNet3DConfig(temp_attention="after", transformer_in=True))
        sd21 = UNet3D(UNet3DConfig(temp_attention="none", temp_conv_depth=0))
    counts = [round(sum(p.numel() for p in m.parameters()) / 1e6, 1) for m in (vidrd, modelscope, sd21)]
    assert counts == [1182.4, 1411.2, 865.9]
    assert len(vidrd.state_dict()) == 1150
    block = "down_blocks.0.attentions.0.transformer_blocks.0"
    assert {f"{block}.temp_norm.weight", f"{block}.temp_attn.to_q.weight"} <= set(vidrd.state_dict())


def test_config_is_validated():
    with pytest.raises(ValueError, match="heads has 2 entries, block_out_channels has 4"):
        UNet3DConfig(heads=(5, 10))
