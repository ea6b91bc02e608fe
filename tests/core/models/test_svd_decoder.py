"""SVD's decoder: parity with diffusers' AutoencoderKLTemporalDecoder on the same weights."""

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder

from vidrd_core.models.config import VAEConfig
from vidrd_core.models.vae import TemporalVAE

from ...conftest import randomise

SVD = VAEConfig(block_out_channels=(32, 64), decoder="svd", temp_conv_depth=0, post_quant_conv=False)


@pytest.fixture(scope="module")
def theirs():
    blocks = ["DownEncoderBlock2D"] * 2
    return randomise(
        AutoencoderKLTemporalDecoder(down_block_types=blocks, block_out_channels=(32, 64), layers_per_block=2)
    )


@pytest.fixture(scope="module")
def ours(theirs):
    vae = TemporalVAE(SVD).eval()
    vae.load_state_dict(theirs.state_dict())
    return vae


@pytest.mark.parametrize(("batch", "frames"), [(1, 5), (2, 3), (1, 1)])
@torch.no_grad()
def test_it_decodes_clips_like_diffusers(ours, theirs, batch, frames):
    z = torch.randn(batch, 4, frames, 6, 4, generator=torch.Generator().manual_seed(1))
    mixes = [parameter.item() for name, parameter in theirs.named_parameters() if name.endswith("mix_factor")]
    assert len(mixes) == 8
    assert min(map(abs, mixes)) > 1e-3
    flat = z.transpose(1, 2).flatten(0, 1) / 0.18215
    expected = theirs.decode(flat, num_frames=frames).sample.unflatten(0, (batch, frames)).transpose(1, 2)
    torch.testing.assert_close(ours.decode(z), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_it_encodes_frames_like_diffusers(ours, theirs):
    video = torch.rand(1, 3, 3, 16, 12, generator=torch.Generator().manual_seed(2)) * 2 - 1
    mean, logvar = ours.moments(video)
    for j in range(3):
        posterior = theirs.encode(video[:, :, j]).latent_dist
        torch.testing.assert_close(mean[:, :, j], posterior.mean, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(logvar[:, :, j], posterior.logvar, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_every_frame_depends_on_every_other(ours):
    z = torch.randn(1, 4, 40, 4, 4, generator=torch.Generator().manual_seed(3))
    changed = z.clone()
    changed[:, :, 0] += 1
    assert (ours.decode(z) - ours.decode(changed)).abs().amax(dim=(0, 1, 3, 4)).min() > 0


def test_it_has_the_parameters_of_svd():
    with torch.device("meta"):
        ours = TemporalVAE(VAEConfig(decoder="svd", temp_conv_depth=0, post_quant_conv=False))
        theirs = AutoencoderKLTemporalDecoder(
            down_block_types=["DownEncoderBlock2D"] * 4, block_out_channels=(128, 256, 512, 512), layers_per_block=2
        )
    sizes = {name: p.numel() for name, p in ours.named_parameters()}
    assert sizes == {name: p.numel() for name, p in theirs.named_parameters()}


def test_temp_conv_with_it_is_refused():
    with pytest.raises(ValueError, match="temp_conv_depth is 3, expected 0: SVD's decoder has no Temp-Conv"):
        VAEConfig(decoder="svd")
