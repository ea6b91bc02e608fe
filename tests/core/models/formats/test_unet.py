"""UNets in every format: identified by their tensors alone, and mapped without loss."""

import dataclasses

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet3DConditionModel

from vidrd_core.io.safetensors import FormatError
from vidrd_core.models.config import UNet3DConfig
from vidrd_core.models.formats.naming import detect_naming
from vidrd_core.models.formats.unet import identify_unet, write_unet
from vidrd_core.models.formats.unet_keys import NAMINGS
from vidrd_core.models.unet3d import UNet3D

from ....conftest import randomise

SD2 = UNet3DConfig(temp_conv_depth=0, temp_attention="none")
SD1 = dataclasses.replace(SD2, cross_attention_dim=768, heads=(8, 8, 8, 8), linear_projection=False)
MODELSCOPE = UNet3DConfig(temp_attention="after", transformer_in=True, temporal_for_images=True)
RELEASED = UNet3DConfig(embed_to="stream", released_embedding=True, joint_resnet_norm=True)
WAYS = [
    (SD1, "diffusers", "Stable Diffusion 1.x UNet"),
    (SD1, "LDM", "Stable Diffusion 1.x UNet"),
    (SD2, "diffusers", "Stable Diffusion 2.x UNet"),
    (SD2, "LDM", "Stable Diffusion 2.x UNet"),
    (MODELSCOPE, "diffusers", "ModelScope UNet3D"),
    (MODELSCOPE, "LDM", "ModelScope UNet3D"),
    (RELEASED, "VidRD", "VidRD UNet3D, as released"),
    (UNet3DConfig(), "diffusers", "VidRD UNet3D"),
]


@pytest.mark.parametrize(("config", "naming", "family"), WAYS)
def test_full_size_unets_are_identified_and_map_both_ways(config, naming, family):
    with torch.device("meta"):
        state = UNet3D(config).state_dict()
    theirs = write_unet(config, state, naming)
    assert len(theirs) == len(state)
    assert detect_naming(NAMINGS, theirs).name == naming
    found = identify_unet(theirs)
    assert (found.family, found.config) == (family, config)
    assert {key: t.shape for key, t in found.tensors.items()} == {key: t.shape for key, t in state.items()}
    again = write_unet(found.config, found.tensors, naming)
    assert {key: t.shape for key, t in again.items()} == {key: t.shape for key, t in theirs.items()}


def test_values_stay_with_their_layers_to_ldm_and_back():
    config = dataclasses.replace(
        MODELSCOPE, block_out_channels=(32, 64, 64), attention_levels=(True, True, False), heads=(2, 4, 4),
        norm_groups=8, cross_attention_dim=24,
    )  # fmt: skip
    state = randomise(UNet3D(config)).state_dict()
    found = identify_unet(write_unet(config, state, "LDM"), {"norm_num_groups": 8})
    assert found.config == config
    assert state.keys() == found.tensors.keys()
    assert all(torch.equal(tensor, found.tensors[key]) for key, tensor in state.items())


def test_ldm_names_are_those_of_the_published_files():
    """Names and shapes as the published files have them."""
    with torch.device("meta"):
        sd1 = write_unet(SD1, UNet3D(SD1).state_dict(), "LDM")
        modelscope = write_unet(MODELSCOPE, UNet3D(MODELSCOPE).state_dict(), "LDM")
    for key, shape in {
        "input_blocks.3.0.op.weight": (320, 320, 3, 3),
        "input_blocks.4.0.skip_connection.weight": (640, 320, 1, 1),
        "input_blocks.4.1.proj_in.weight": (640, 640, 1, 1),
        "input_blocks.11.0.out_layers.3.weight": (1280, 1280, 3, 3),
        "middle_block.1.transformer_blocks.0.attn2.to_k.weight": (1280, 768),
        "middle_block.2.emb_layers.1.weight": (1280, 1280),
        "output_blocks.2.1.conv.weight": (1280, 1280, 3, 3),
        "output_blocks.5.2.conv.weight": (1280, 1280, 3, 3),
        "output_blocks.11.1.transformer_blocks.0.ff.net.0.proj.weight": (2560, 320),
        "out.2.weight": (4, 320, 3, 3),
    }.items():
        assert tuple(sd1[key].shape) == shape
    for key, shape in {
        "input_blocks.0.1.proj_in.weight": (512, 320, 1),
        "input_blocks.1.0.temopral_conv.conv1.2.weight": (320, 320, 3, 1, 1),
        "input_blocks.1.0.temopral_conv.conv4.3.weight": (320, 320, 3, 1, 1),
        "input_blocks.1.2.proj_out.weight": (320, 320, 1),
        "input_blocks.3.op.weight": (320, 320, 3, 3),
        "middle_block.2.transformer_blocks.0.attn2.to_k.weight": (1280, 1280),
        "middle_block.3.in_layers.2.weight": (1280, 1280, 3, 3),
        "output_blocks.5.3.conv.weight": (1280, 1280, 3, 3),
    }.items():
        assert tuple(modelscope[key].shape) == shape


@pytest.mark.parametrize(("linear", "heads"), [(False, 4), (True, [2, 4, 4])])
@torch.no_grad()
def test_diffusers_2d_unets_compute_the_same(linear, heads):
    flat = UNet2DConditionModel(
        sample_size=16, block_out_channels=(32, 64, 64), cross_attention_dim=24, norm_num_groups=8,
        down_block_types=["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        attention_head_dim=heads, use_linear_projection=linear,
    ).eval()  # fmt: skip
    randomise(flat)
    found = identify_unet(flat.state_dict(), dict(flat.config))
    ours = UNet3D(found.config).eval()
    ours.load_state_dict(found.tensors)
    x, t, text = torch.randn(2, 4, 3, 16, 16), torch.tensor([7, 901]), torch.randn(2, 6, 24)
    result = ours(x, t, text)
    for j in range(3):
        torch.testing.assert_close(result[:, :, j], flat(x[:, :, j], t, text).sample, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_diffusers_3d_unets_compute_the_same():
    theirs = UNet3DConditionModel(
        sample_size=16, block_out_channels=(32, 64, 64), cross_attention_dim=24, norm_num_groups=8,
        down_block_types=["CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D"],
        up_block_types=["UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D"], attention_head_dim=16,
    )  # fmt: skip
    randomise(theirs)
    # The channels of a head are in its first temporal layer, so config.json is needed for the norms alone.
    found = identify_unet(theirs.state_dict(), {"norm_num_groups": 8})
    ours = UNet3D(found.config).eval()
    ours.load_state_dict(found.tensors)
    for frames in (1, 3):
        x, t, text = torch.randn(2, 4, frames, 16, 16), torch.tensor([7, 901]), torch.randn(2, 6, 24)
        torch.testing.assert_close(ours(x, t, text), theirs(x, t, text).sample, rtol=1e-5, atol=1e-5)


def test_unsuitable_networks_are_named():
    with torch.device("meta"):
        state = UNet3D(SD2).state_dict()
        video = UNet3D(UNet3DConfig()).state_dict()
    for keys, message in (
        ({**state, "add_embedding.linear_1.weight": torch.zeros(1)}, "this is a UNet of Stable Diffusion XL"),
        ({"down_blocks.0.motion_modules.0.norm.weight": torch.zeros(1)}, "AnimateDiff motion module"),
        ({key: t for key, t in state.items() if not key.startswith("conv_in")}, "it has no conv_in"),
        ({key: t for key, t in video.items() if "temp" in key}, "these are temporal layers alone"),
        ({key: t for key, t in state.items() if "mid_block.attentions" not in key}, "it lacks 'mid_block.attentions"),
    ):
        with pytest.raises(FormatError, match=message):
            identify_unet(keys)
    narrow = dataclasses.replace(SD2, block_out_channels=(32, 32, 32, 32), heads=(1, 1, 1, 1), cross_attention_dim=24)
    with torch.device("meta"):
        state = UNet3D(narrow).state_dict()
    with pytest.raises(FormatError, match="do not show how many attention heads there are"):
        identify_unet(state)


def test_layers_without_a_name_in_the_format_are_refused():
    with torch.device("meta"):
        for config, naming in ((UNet3DConfig(), "LDM"), (MODELSCOPE, "VidRD")):
            with pytest.raises(ValueError, match="has no name for"):
                write_unet(config, UNet3D(config).state_dict(), naming)


@pytest.mark.parametrize(
    "name",
    ["conv_in.weight", "down_blocks.0.resnets.0.conv1.weight",
     "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(), (0,), (4,)])
def test_weights_without_dimensions_are_refused(name, shape):
    with torch.device("meta"):
        state = write_unet(SD2, UNet3D(SD2).state_dict(), "diffusers")
    state[name] = torch.empty(shape, device="meta")
    with pytest.raises(FormatError):
        identify_unet(state)
