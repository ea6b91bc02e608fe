"""VAEs in every naming."""

import dataclasses

import pytest
import torch
from diffusers import AutoencoderKL

from vidrd_core.models.checkpoint import FormatError
from vidrd_core.models.config import VAEConfig
from vidrd_core.models.formats.vae import read_vae, write_vae
from vidrd_core.models.vae import TemporalVAE

from ...conftest import randomise

IMAGE = VAEConfig(temp_conv_depth=0)
RELEASED = VAEConfig(joint_norm=True)
SMALL = VAEConfig(block_out_channels=(16, 32, 32), layers_per_block=1, norm_groups=8, joint_norm=True)


@pytest.mark.parametrize(
    ("config", "naming"), [(IMAGE, "diffusers"), (IMAGE, "LDM"), (RELEASED, "VidRD"), (VAEConfig(), "diffusers")]
)
def test_full_size_vaes_are_told_by_their_keys_and_come_back_whole(config, naming):
    with torch.device("meta"):
        state = TemporalVAE(config).state_dict()
    theirs = write_vae(config, state, naming)
    found, tensors = read_vae(theirs)
    assert found == config
    assert {key: t.shape for key, t in tensors.items()} == {key: t.shape for key, t in state.items()}
    again = write_vae(found, tensors, naming)
    assert {key: t.shape for key, t in again.items()} == {key: t.shape for key, t in theirs.items()}


def test_names_are_those_of_stable_diffusions_files():
    with torch.device("meta"):
        theirs = write_vae(IMAGE, TemporalVAE(IMAGE).state_dict(), "LDM")
    for key, shape in {
        "encoder.down.0.downsample.conv.weight": (128, 128, 3, 3),
        "encoder.down.1.block.0.nin_shortcut.weight": (256, 128, 1, 1),
        "encoder.mid.attn_1.q.weight": (512, 512, 1, 1),
        "encoder.norm_out.weight": (512,),
        "decoder.mid.block_1.conv1.weight": (512, 512, 3, 3),
        "decoder.up.0.block.0.nin_shortcut.weight": (128, 256, 1, 1),
        "decoder.up.3.upsample.conv.weight": (512, 512, 3, 3),
        "decoder.conv_out.weight": (3, 128, 3, 3),
        "quant_conv.weight": (8, 8, 1, 1),
    }.items():
        assert tuple(theirs[key].shape) == shape
    assert len(theirs) == 248


@pytest.mark.parametrize("naming", ["diffusers", "LDM", "old"])
@torch.no_grad()
def test_diffusers_autoencoder_is_loaded_as_it_computes(naming):
    theirs = AutoencoderKL(
        block_out_channels=(16, 32), norm_num_groups=8, layers_per_block=1, latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2, scaling_factor=0.3,
    ).eval()  # fmt: skip
    randomise(theirs)
    state, config = theirs.state_dict(), dict(theirs.config)
    if naming == "LDM":
        state = write_vae(read_vae(state, config)[0], read_vae(state, config)[1], naming)
        assert "decoder.up.1.block.0.conv1.weight" in state
    if naming == "old":
        for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            state = {key.replace(f".{new}.", f".{old}."): tensor for key, tensor in state.items()}
    found, tensors = read_vae(state, config)
    ours = TemporalVAE(found).eval()
    ours.load_state_dict(tensors)
    video = torch.rand(1, 3, 2, 16, 16) * 2 - 1
    latents = ours.encode(video)
    for j in range(2):
        expected = theirs.encode(video[:, :, j]).latent_dist.mode() * 0.3
        torch.testing.assert_close(latents[:, :, j], expected, rtol=1e-5, atol=1e-5)
        decoded = theirs.decode(latents[:, :, j] / 0.3).sample
        torch.testing.assert_close(ours.decode(latents)[:, :, j], decoded, rtol=1e-5, atol=1e-4)


@torch.no_grad()
def test_a_decoder_whose_norms_span_the_clip_decodes_in_windows():
    vae = randomise(TemporalVAE(SMALL)).eval()
    latents = torch.randn(1, 4, 12, 4, 4)
    whole = vae.decode(latents)
    torch.testing.assert_close(vae.decode(latents, chunk=12), whole)
    chunks = list(vae.decode_stream(latents.split(4, dim=2)))
    assert [chunk.shape[2] for chunk in chunks] == [4, 4, 4]
    # The first sees 4 after it, the second 4 on either side, the last 4 before it.
    torch.testing.assert_close(chunks[0], vae.decode(latents[:, :, :8])[:, :, :4])
    torch.testing.assert_close(chunks[1], vae.decode(latents)[:, :, 4:8])
    torch.testing.assert_close(chunks[2], vae.decode(latents[:, :, 4:])[:, :, 4:])
    after = list(vae.decode_stream(latents[:, :, 4:].split(4, dim=2), past=latents[:, :, :4]))
    torch.testing.assert_close(after[0], whole[:, :, 4:8])
    alone = TemporalVAE(dataclasses.replace(SMALL, joint_norm=False)).eval()
    alone.load_state_dict(vae.state_dict())
    assert not torch.allclose(alone.decode(latents), whole, atol=1e-3)


def test_what_is_no_vae_of_this_family_is_named():
    with torch.device("meta"):
        state = TemporalVAE(IMAGE).state_dict()
    for keys, message in (
        ({**state, "decoder.time_conv_out.weight": torch.zeros(1)}, "Stable Video Diffusion's VAE"),
        ({key: t for key, t in state.items() if not key.startswith("encoder.")}, "it lacks 'encoder.conv_in"),
    ):
        with pytest.raises(FormatError, match=message):
            read_vae(keys)
    with torch.device("meta"), pytest.raises(ValueError, match="LDM has no name for Temp-Conv"):
        write_vae(VAEConfig(), TemporalVAE(VAEConfig()).state_dict(), "LDM")
