"""VAEs in every format: identified by their tensors alone, and mapped without loss."""

import math

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

from vidrd_core.io.safetensors import FormatError
from vidrd_core.models.config import VAEConfig
from vidrd_core.models.formats.vae import identify_vae, write_vae
from vidrd_core.models.vae import TemporalVAE

from ....conftest import randomise
from ..released_vae import decode, layout, random_weights

SMALL = {"block_out_channels": (8, 16, 16), "norm_groups": 4}
CONFIGS = {
    "image": VAEConfig(temp_conv_depth=0, **SMALL),
    "without quant convs": VAEConfig(temp_conv_depth=0, quant_conv=False, post_quant_conv=False, **SMALL),
    "svd in diffusers": VAEConfig(decoder="svd", temp_conv_depth=0, post_quant_conv=False, **SMALL),
    "svd": VAEConfig(decoder="svd", temp_conv_depth=0, quant_conv=False, post_quant_conv=False, **SMALL),
    "temp-conv": VAEConfig(temp_conv_depth=2, **SMALL),
    "released": VAEConfig(joint_temp_norm=True, **SMALL),
}
GROUPS = {"norm_num_groups": 4}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def weights(config, seed=0):
    return randomise(TemporalVAE(config), seed).state_dict()


def image_vae(**settings):
    levels = len(settings["block_out_channels"])
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * levels, "up_block_types": ["UpDecoderBlock2D"] * levels}
    return randomise(AutoencoderKL(layers_per_block=2, **blocks, **settings))


@pytest.mark.parametrize("naming", ["diffusers", "ldm"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_to_a_format_and_back_loses_nothing(config, naming):
    if naming == "ldm" and config.temp_conv_depth:
        with pytest.raises(ValueError, match="no names for Temp-Conv"):
            write_vae(config, weights(config), naming)
        return
    state = weights(config)
    foreign = write_vae(config, state, naming)
    found, tensors = identify_vae(foreign, GROUPS)
    assert found == config
    assert same(tensors, state)
    assert same(write_vae(found, tensors, naming), foreign)
    TemporalVAE(found).load_state_dict(tensors)


@pytest.mark.parametrize(
    "settings", [{}, {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}]
)
def test_diffusers_autoencoders_are_read_and_written(settings):
    theirs = image_vae(
        block_out_channels=(8, 16), norm_num_groups=4, scaling_factor=0.5, shift_factor=0.1, **settings
    )
    config, tensors = identify_vae(theirs.state_dict(), dict(theirs.config))
    assert (config.block_out_channels, config.layers_per_block, config.norm_groups) == ((8, 16), 2, 4)
    assert (config.latents_mean, config.latents_std) == ((0.1,), (2.0,))
    assert config.quant_conv == ("use_quant_conv" not in settings)
    vae = TemporalVAE(config).eval()
    vae.load_state_dict(tensors)
    z = torch.randn(1, config.latent_channels, 1, 4, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(vae.decode(z)[:, :, 0], theirs.decode(z[:, :, 0] / 0.5 + 0.1).sample)
    assert same(write_vae(config, tensors, "diffusers"), theirs.state_dict())


def test_latent_statistics_by_channel_are_read_from_diffusers():
    state = write_vae(CONFIGS["image"], weights(CONFIGS["image"]), "diffusers")
    config = {**GROUPS, "scaling_factor": 0.5, "latents_mean": [1, 2, 3, 4], "latents_std": [4, 3, 2, 1]}
    found, _ = identify_vae(state, config)
    assert (found.latents_mean, found.latents_std) == ((1, 2, 3, 4), (8, 6, 4, 2))


def test_old_attention_names_are_read():
    state = write_vae(CONFIGS["image"], weights(CONFIGS["image"]), "diffusers")
    new = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for name, tensor in state.items():
        layer = next((layer for layer in new if f".attentions.0.{layer}." in name), None)
        old[name.replace(layer, new[layer]) if layer else name] = tensor
    assert len(old.keys() - state.keys()) == 16
    assert same(identify_vae(old, GROUPS)[1], state)


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
def test_ldm_names_are_those_that_diffusers_converts(prefix):
    theirs = image_vae(block_out_channels=(32, 64, 64))
    state = theirs.state_dict()
    ldm = {prefix + name: tensor for name, tensor in write_vae(*identify_vae(state), "ldm").items()}
    assert same(convert_ldm_vae_checkpoint(ldm, dict(theirs.config)), state)
    config, tensors = identify_vae({**ldm, "model.diffusion_model.out.2.bias": torch.zeros(4)} if prefix else ldm)
    assert config == VAEConfig(block_out_channels=(32, 64, 64), temp_conv_depth=0)
    assert same(tensors, state)


def test_leftovers_of_training_are_ignored():
    config = CONFIGS["image"]
    state = write_vae(config, weights(config), "ldm")
    left = {
        "loss.logvar": torch.zeros(1),
        "loss.discriminator.main.0.weight": torch.zeros(2),
        "model_ema.decay": None,
    }
    assert identify_vae({**state, **left}, GROUPS)[0] == config


def sgm_decoder(levels, layers):
    """The names in the decoder of Stable Video Diffusion's checkpoint, without weight and bias."""

    def resnet(name):
        for layer in ("norm1", "conv1", "norm2", "conv2"):
            yield f"{name}.{layer}"
        for layer in ("in_layers.0", "in_layers.2", "out_layers.0", "out_layers.3"):
            yield f"{name}.time_stack.{layer}"

    yield from ("conv_in", "norm_out", "conv_out", "conv_out.time_mix_conv")
    yield from (f"mid.attn_1.{layer}" for layer in ("norm", "q", "k", "v", "proj_out"))
    for name in ("mid.block_1", "mid.block_2"):
        yield from resnet(name)
    for level in range(levels):
        for layer in range(layers + 1):
            yield from resnet(f"up.{level}.block.{layer}")
        if level:
            yield f"up.{level}.upsample.conv"


def test_svd_is_read_and_written_as_in_its_checkpoint():
    theirs = randomise(
        AutoencoderKLTemporalDecoder(
            down_block_types=["DownEncoderBlock2D"] * 3, block_out_channels=(32, 64, 64), layers_per_block=2
        )
    ).state_dict()
    config, tensors = identify_vae(theirs)
    assert config == VAEConfig(
        block_out_channels=(32, 64, 64), decoder="svd", temp_conv_depth=0, post_quant_conv=False
    )
    assert same(write_vae(config, tensors, "diffusers"), theirs)
    ldm = write_vae(config, tensors, "ldm")
    resnets = [f"mid.block_{i}" for i in (1, 2)] + [f"up.{i}.block.{j}" for i in range(3) for j in range(3)]
    names = {f"{name}.{kind}" for name in sgm_decoder(3, 2) for kind in ("weight", "bias")}
    names |= {f"{name}.mix_factor" for name in resnets}
    names |= {f"up.0.block.0.nin_shortcut.{kind}" for kind in ("weight", "bias")}
    assert {name.removeprefix("decoder.") for name in ldm if name.startswith("decoder.")} == names
    for name, of_theirs in (
        ("up.2.block.1.time_stack.in_layers.2.weight", "up_blocks.0.resnets.1.temporal_res_block.conv1.weight"),
        ("up.0.block.0.time_stack.out_layers.0.bias", "up_blocks.2.resnets.0.temporal_res_block.norm2.bias"),
        ("up.0.block.0.nin_shortcut.weight", "up_blocks.2.resnets.0.spatial_res_block.conv_shortcut.weight"),
        ("mid.block_2.mix_factor", "mid_block.resnets.1.time_mixer.mix_factor"),
        ("conv_out.time_mix_conv.weight", "time_conv_out.weight"),
    ):
        assert torch.equal(ldm[f"decoder.{name}"], theirs[f"decoder.{of_theirs}"])
    assert ldm["decoder.mid.attn_1.q.weight"].shape == (64, 64, 1, 1)
    assert same(identify_vae({f"first_stage_model.{name}": tensor for name, tensor in ldm.items()})[1], tensors)


def test_every_tensor_of_the_released_vae_is_read_once():
    shapes = layout(prefix="vae.")
    foreign = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    config, tensors = identify_vae({**foreign, "unet.conv_in.bias": torch.empty(320)})
    assert config == VAEConfig(joint_temp_norm=True)
    assert len(tensors) == len(shapes) == 392
    assert sum(tensor.numel() for tensor in tensors.values()) == sum(map(math.prod, shapes.values())) == 100_059_495
    for name in list(shapes)[::50]:
        with pytest.raises(FormatError, match="1 missing"):
            identify_vae({other: tensor for other, tensor in foreign.items() if other != name})


@pytest.mark.parametrize("frames", [5, 1])
@torch.no_grad()
def test_the_released_vae_matches_a_plain_implementation(frames):
    foreign = random_weights(layout((8, 16), prefix="vae."))
    config, tensors = identify_vae(foreign, GROUPS)
    vae = TemporalVAE(config).eval()
    vae.load_state_dict(tensors)
    z = torch.randn(frames, 4, 6, 4, generator=torch.Generator().manual_seed(1))
    plain = {name.removeprefix("vae."): tensor for name, tensor in foreign.items()}
    expected = decode(plain, z / 0.18215, 4, blocks=2)
    torch.testing.assert_close(vae.decode(z.transpose(0, 1)[None])[0].transpose(0, 1), expected, rtol=1e-5, atol=1e-5)
    alone = TemporalVAE(VAEConfig(**{**vars(config), "joint_temp_norm": False})).eval()
    alone.load_state_dict(tensors)
    difference = (alone.decode(z.transpose(0, 1)[None])[0].transpose(0, 1) - expected).abs().max()
    assert difference > 1e-2 if frames > 1 else difference < 1e-5


def without(state, *names):
    return {name: tensor for name, tensor in state.items() if name not in names}


STATE = write_vae(CONFIGS["image"], weights(CONFIGS["image"]), "diffusers")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "this looks like no known VAE"),
        ({"model.diffusion_model.out.0.bias": torch.zeros(1)}, "this looks like a UNet"),
        ({"text_model.embeddings.position_ids": torch.zeros(1)}, "this looks like a text encoder"),
        ({"taesd_decoder.1.weight": torch.zeros(1)}, "this looks like TAESD"),
        ({"decoder.middle.0.residual.0.gamma": torch.zeros(1)}, "this looks like a VAE that compresses time"),
        (
            without(
                STATE, "encoder.conv_in.weight", "decoder.conv_in.bias", "quant_conv.bias", "decoder.conv_out.bias"
            ),
            r"Stable Diffusion's VAE \(diffusers names\), but not whole: 4 missing \(encoder.conv_in.weight, "
            r"decoder.conv_in.bias, decoder.conv_out.bias, ...\)$",
        ),
        ({**STATE, "extra": torch.zeros(1)}, r"not whole: 1 unexpected \(extra\)"),
        (
            {**STATE, "decoder.conv_in.bias": torch.zeros(7)},
            r"of another shape \(decoder.conv_in.bias \[7\], expected \[16\]",
        ),
        (
            {**STATE, "decoder.up_blocks.0.resnets.0.conv1.conv.weight": torch.zeros(1)},
            "this looks like a VAE that compresses time: 1 unexpected",
        ),
    ],
)
def test_other_networks_and_incomplete_vaes_are_refused(tensors, message):
    with pytest.raises(FormatError, match=message):
        identify_vae(tensors, GROUPS)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "has 8, expected a multiple of norm_groups, 32; give its own config.json"),
        ({"norm_num_groups": "4"}, "norm_num_groups is '4', expected a number"),
        ({**GROUPS, "scaling_factor": True}, "scaling_factor is True, expected a number"),
        ({**GROUPS, "scaling_factor": 0}, "scaling_factor is 0.0, expected more than 0"),
        ({**GROUPS, "latents_mean": 0.5, "latents_std": 1}, "latents_mean is 0.5, expected a list of numbers"),
        ({**GROUPS, "latents_mean": [1, 2], "latents_std": [1, 2]}, "latents_mean has 2 entries: give 1 or 4"),
    ],
)
def test_invalid_configs_are_refused(config, message):
    with pytest.raises(FormatError, match=message):
        identify_vae(STATE, config)


def test_latents_of_other_models_need_a_config():
    config = VAEConfig(temp_conv_depth=0, latent_channels=16, **SMALL)
    with pytest.raises(FormatError, match=r"latents of 16 channels need a scaling_factor; give its own config.json"):
        identify_vae(write_vae(config, weights(config), "ldm"), GROUPS)


def test_vaes_that_a_format_cannot_store_are_refused():
    config = CONFIGS["image"]
    with pytest.raises(ValueError, match="naming is 'keras', expected one of VidRD, diffusers, LDM"):
        write_vae(config, STATE, "keras")
    with pytest.raises(ValueError, match="patch_size is 2, expected 1"):
        write_vae(VAEConfig(patch_size=2, temp_conv_depth=0, **SMALL), STATE, "diffusers")
    with pytest.raises(FormatError, match=r"tensors and settings are not of one VAE: 1 missing \(quant_conv.bias\)"):
        write_vae(config, without(STATE, "quant_conv.bias"), "ldm")
