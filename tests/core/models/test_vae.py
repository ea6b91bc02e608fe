"""The temporal VAE: exact decoding in chunks, and parity with diffusers' AutoencoderKL."""

import pytest
import torch
from diffusers import AutoencoderKL

from vidrd_core.models.config import VAEConfig
from vidrd_core.models.vae import TemporalVAE

from ...conftest import VAE, randomise


@pytest.fixture(scope="module")
def vae():
    return randomise(TemporalVAE(VAE))


def latents(frames, seed=0):
    return torch.randn(1, 4, frames, 6, 5, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 8, 100])
@pytest.mark.parametrize("frames", [2, 7, 16, 21])
@torch.no_grad()
def test_decoding_in_chunks_equals_the_whole(vae, chunk, frames):
    z = latents(frames)
    torch.testing.assert_close(vae.decode(z, chunk), vae.decode(z), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("depth", [1, 3])
@torch.no_grad()
def test_uneven_chunks_and_past_latents_equal_the_whole(depth):
    vae = randomise(TemporalVAE(VAEConfig(**{**vars(VAE), "temp_conv_depth": depth})))
    z = latents(40)
    whole = vae.decode(z)
    pieces = list(vae.decode_stream(z.split([1, 2, 8, 1, 5, 23], dim=2)))
    torch.testing.assert_close(torch.cat(pieces, dim=2), whole, rtol=1e-5, atol=1e-5)
    halo = vae.config.halo
    start = min(halo + 5, 30)
    late = list(vae.decode_stream([z[:, :, start:33], z[:, :, 33:]], z[:, :, max(0, start - halo) : start]))
    torch.testing.assert_close(torch.cat(late, dim=2), whole[:, :, start:], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_frame_depends_on_its_halo_alone(vae):
    z = latents(21)
    changed = z.clone()
    changed[:, :, 10] += 1
    difference = (vae.decode(z) - vae.decode(changed)).abs().amax(dim=(0, 1, 3, 4))
    reached = [i for i in range(21) if difference[i] > 0]
    assert reached == list(range(10 - vae.config.halo, 10 + vae.config.halo + 1))


@torch.no_grad()
def test_frames_are_yielded_as_soon_as_they_are_final(vae):
    z, counts = latents(24), []
    for frames in vae.decode_stream(z.split(8, dim=2)):
        counts.append(frames.shape[2])
    assert 0 < vae.config.halo < 8
    assert counts[:3] == [8 - vae.config.halo, 8, 8]
    assert sum(counts) == 24


@torch.no_grad()
def test_one_frame_is_an_image(vae):
    z = latents(3)
    single = vae.decode(z[:, :, :1])
    torch.testing.assert_close(single, vae.decode(z[:, :, :1], chunk=1))
    flat = TemporalVAE(VAEConfig(**{**vars(VAE), "temp_conv_depth": 0})).eval()
    flat.load_state_dict({k: v for k, v in vae.state_dict().items() if "temp_convs" not in k})
    (streamed,) = vae.decode_stream([z[:, :, :1]])
    torch.testing.assert_close(streamed, single)
    both = torch.cat(list(vae.decode_stream(z[:, :, :2].split(1, dim=2))), dim=2)
    torch.testing.assert_close(both, vae.decode(z[:, :, :2]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(single, flat.decode(z)[:, :, :1], rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_it_equals_diffusers_autoencoder():
    theirs = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 3, up_block_types=["UpDecoderBlock2D"] * 3,
        block_out_channels=(8, 16, 16), layers_per_block=2, norm_num_groups=4,
    )  # fmt: skip
    randomise(theirs)
    ours = TemporalVAE(VAEConfig(block_out_channels=(8, 16, 16), norm_groups=4)).eval()
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not unexpected
    assert all("temp_convs" in name for name in missing)
    video = torch.rand(1, 3, 4, 32, 24) * 2 - 1
    ours_mean, ours_logvar = ours.moments(video)
    z = ours.encode(video)
    decoded = ours.decode(z)
    for j in range(4):
        posterior = theirs.encode(video[:, :, j]).latent_dist
        torch.testing.assert_close(ours_mean[:, :, j], posterior.mean, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours_logvar[:, :, j], posterior.logvar, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(z[:, :, j], posterior.mean * 0.18215, rtol=1e-5, atol=1e-5)
        expected = theirs.decode(z[:, :, j] / 0.18215).sample
        torch.testing.assert_close(decoded[:, :, j], expected, rtol=1e-5, atol=1e-5)


def test_the_released_decoder_has_the_known_size():
    with torch.device("meta"):
        vae = TemporalVAE(VAEConfig())
    assert round(sum(p.numel() for p in vae.parameters()) / 1e6, 1) == 100.1
    assert len(vae.state_dict()) == 392
    assert round(sum(p.numel() for n, p in vae.named_parameters() if "temp_convs" in n) / 1e6, 1) == 16.4


@torch.no_grad()
def test_an_invalid_size_is_refused(vae):
    with pytest.raises(ValueError, match="33 x 32 pixels; width and height must be multiples of 4"):
        vae.encode(torch.zeros(1, 3, 2, 32, 33))
