"""Temporal layers: put on, taken off, and refused where they belong to another UNet."""

import dataclasses

import pytest
import torch
from safetensors.torch import save_file

from vidrd_core.io import safetensors
from vidrd_core.io.safetensors import TEMPORAL_LAYERS, FormatError
from vidrd_core.models.config import UNet3DConfig
from vidrd_core.models.formats.unet import write_unet
from vidrd_core.models.formats.unet_keys import is_temporal
from vidrd_core.models.inflate import read_temporal, save_temporal, with_temporal, without_temporal, write_temporal
from vidrd_core.models.load_parts import build_unet, load_unet, save_unet
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.sampling import DiffusionConfig

from ....conftest import randomise

FLAT = UNet3DConfig(
    block_out_channels=(32, 64), attention_levels=(True, False), heads=(2, 4), layers_per_block=1, norm_groups=8,
    cross_attention_dim=24, temp_conv_depth=0, temp_attention="none",
)  # fmt: skip
BUILDS = {
    "ours": {"temp_conv_depth": 4, "temp_attention": "inside"},
    "released": {
        "temp_conv_depth": 4, "temp_attention": "inside", "embed_to": "stream", "released_embedding": True,
        "joint_resnet_norm": True,
    },
    "modelscope": {
        "temp_conv_depth": 4, "temp_attention": "after", "transformer_in": True, "temporal_for_images": True,
    },
    "Temp-Conv alone": {"temp_conv_depth": 2},
}  # fmt: skip


def unet(**settings):
    return randomise(UNet3D(dataclasses.replace(FLAT, **settings)), seed=len(settings)).eval()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.safetensors"


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
@torch.no_grad()
def test_temporal_layers_come_off_and_go_on_again(build, path):
    video = unet(**build)
    spatial, flat = without_temporal(video.state_dict(), video.config)
    assert flat == FLAT
    save_temporal(video, path)
    whole, config = with_temporal(spatial, flat, path)
    assert config == video.config
    assert whole.keys() == video.state_dict().keys()
    assert all(torch.equal(tensor, whole[key]) for key, tensor in video.state_dict().items())
    frames = torch.randn(1, 4, 3, 8, 8)
    alone = build_unet(spatial, flat, path)(frames, torch.tensor([7]), torch.zeros(1, 2, 24))
    for j in range(3):
        one = build_unet(spatial, flat, path)(frames[:, :, [j]], torch.tensor([7]), torch.zeros(1, 2, 24))
        torch.testing.assert_close(alone[:, :, [j]], one)


def test_they_are_read_from_whole_unets_and_from_their_own_files(path):
    video, other = unet(**BUILDS["released"]), unet(**BUILDS["ours"])
    theirs = write_unet(video.config, video.state_dict(), "VidRD")
    temporal = {key: tensor for key, tensor in theirs.items() if "temp_" in key}
    for tensors in (theirs, temporal, {f"unet.{key}": tensor for key, tensor in theirs.items()}):
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
        whole, config = with_temporal(other.state_dict(), other.config, path)
        assert config == video.config
        for key, tensor in whole.items():
            assert torch.equal(tensor, (video if is_temporal(key) else other).state_dict()[key])


WRONG = {
    "other widths": (
        {"block_out_channels": (64, 64), "heads": (4, 4)},
        r"of another shape \(.* \[64\], expected \[32\]",
    ),
    "deeper": ({"layers_per_block": 2}, r"unexpected \(down_blocks.0.attentions.1"),
    "more levels": (
        {"block_out_channels": (32, 64, 64), "attention_levels": (True, False, False), "heads": (2, 4, 4)},
        r"unexpected \(down_blocks.2.temp_convs.0",
    ),
    "other heads": ({"heads": (4, 4)}, r"attention heads \(4, 4\) for \(2, 4\)"),
}


@pytest.mark.parametrize(("settings", "message"), WRONG.values(), ids=WRONG)
def test_those_of_another_unet_are_refused(settings, message, path):
    base = unet()
    save_temporal(unet(**BUILDS["ours"], **settings), path)
    with pytest.raises(FormatError, match=f"a.safetensors is for another UNet, of other widths.*{message}"):
        with_temporal(base.state_dict(), FLAT, path)


def test_a_file_of_temporal_layers_is_no_unet(path):
    save_temporal(unet(**BUILDS["ours"]), path)
    with pytest.raises(FormatError, match=r"holds temporal layers alone, which go on an image model .* a UNet3D"):
        load_unet(path)


def test_files_without_temporal_layers_are_refused(path):
    base = unet()
    with pytest.raises(ValueError, match="the UNet has no temporal layers: give a ModelScope"):
        save_temporal(base, path)
    assert not path.exists()
    save_unet(base, DiffusionConfig(), path)
    with pytest.raises(FormatError, match="has no temporal layers: its UNet is one of images"):
        with_temporal(base.state_dict(), FLAT, path)
    save_file({f"model.diffusion_model.{k}": t for k, t in base.state_dict().items()}, path)
    with pytest.raises(FormatError, match="has no temporal layers: it holds a UNet"):
        with_temporal(base.state_dict(), FLAT, path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        with_temporal(base.state_dict(), FLAT, path.with_name("gone.safetensors"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (None, "it lacks settings"),
        (1.5, "it lacks settings"),
        ({"temp_conv_depth": 4}, "it lacks settings"),
        ("wrong", "temp_attention is 'up'"),
    ],
)
def test_a_damaged_description_is_refused(settings, message, path):
    video = unet(**BUILDS["ours"])
    write_temporal(video.state_dict(), video.config, path)
    tensors, details = safetensors.read(path, TEMPORAL_LAYERS)
    settings = {**details["settings"], "temp_attention": "up"} if settings == "wrong" else settings
    safetensors.write(path, tensors, TEMPORAL_LAYERS, settings=settings)
    with pytest.raises(FormatError, match=f"the description in .*a.safetensors is not whole.*{message}"):
        with_temporal(unet().state_dict(), FLAT, path)


def test_a_configuration_that_is_no_mapping_is_refused(path):
    base = unet()
    safetensors.write(path, base.state_dict(), "UNet3D", config=1.5, diffusion={})
    with pytest.raises(FormatError, match=r"not whole: config is 1\.5, expected a mapping"):
        load_unet(path)


def test_temporal_layers_that_are_not_finite_are_refused_with_their_file(path):
    video = unet(**BUILDS["ours"])
    tensors = {key: tensor.clone() for key, tensor in video.state_dict().items()}
    name = next(key for key in tensors if is_temporal(key))
    tensors[name].view(-1)[0] = torch.nan
    write_temporal(tensors, video.config, path)
    for read in (read_temporal, lambda path: with_temporal(unet().state_dict(), FLAT, path)):
        with pytest.raises(FormatError, match=rf"a\.safetensors: the weights {name} hold numbers that"):
            read(path)
