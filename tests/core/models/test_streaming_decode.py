"""The VAE in windows where norms span frames, in chunks of frames and in tiles of large ones."""

import dataclasses

import numpy as np
import pytest
import torch

from vidrd_core.models.config import CONTEXT, VAEConfig
from vidrd_core.models.tiling import tile_spans
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.reuse import ReuseSettings
from vidrd_core.state import ClipState

from ...conftest import VAE, randomise

SMALL = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_groups": 4}
CONFIGS = {
    "joint": VAEConfig(joint_temp_norm=True, **SMALL),
    "svd": VAEConfig(decoder="svd", temp_conv_depth=0, post_quant_conv=False, **SMALL),
}


@pytest.fixture(params=CONFIGS)
def spanning(request):
    """A VAE whose norms span frames."""
    return randomise(TemporalVAE(CONFIGS[request.param]))


@pytest.fixture(scope="module")
def vae():
    return randomise(TemporalVAE(VAE))


def latents(frames, height=6, width=5):
    return torch.randn(1, 4, frames, height, width, generator=torch.Generator().manual_seed(0))


class Peak:
    """The most values that any layer of a module returns at once."""

    def __init__(self, module):
        self.values = 0
        self.handles = [layer.register_forward_hook(self.see) for layer in module.modules()]

    def see(self, _, __, result):
        self.values = max(self.values, result.numel())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


def test_halos():
    assert (VAEConfig().streams_exactly, VAEConfig().halo) == (True, 36)
    assert (VAEConfig(joint_temp_norm=True).streams_exactly, VAEConfig(joint_temp_norm=True).halo) == (False, CONTEXT)
    assert (CONFIGS["svd"].streams_exactly, CONFIGS["svd"].halo) == (False, CONTEXT)
    image = VAEConfig(joint_temp_norm=True, temp_conv_depth=0)
    assert (image.streams_exactly, image.halo) == (True, 0)


@torch.no_grad()
def test_one_window_equals_the_whole(spanning):
    z = latents(12)
    whole = spanning.decode(z)
    for chunk in (12, 100):
        torch.testing.assert_close(spanning.decode(z, chunk), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.cat(list(spanning.decode_stream([z])), dim=2), whole, rtol=1e-5, atol=1e-5)
    single = spanning.decode(z[:, :, :1])
    torch.testing.assert_close(spanning.decode(z[:, :, :1], 4), single)
    torch.testing.assert_close(next(spanning.decode_stream([z[:, :, :1]])), single)


@torch.no_grad()
def test_windows_nearly_equal_the_whole(spanning):
    z = latents(32)
    whole = spanning.decode(z)
    windows = spanning.decode(z, 8)
    assert windows.shape == whole.shape
    error = (windows - whole).abs().mean() / whole.std()
    apart = torch.cat([spanning.decode(part) for part in z.split(8, dim=2)], dim=2)
    assert 1e-5 < error < 0.02
    assert error < 0.25 * (apart - whole).abs().mean() / whole.std()


@torch.no_grad()
def test_windows_take_constant_memory(spanning):
    peaks = []
    for frames in (20, 60):
        with Peak(spanning.decoder) as peak:
            spanning.decode(latents(frames), 4)
        peaks.append(peak.values)
    with Peak(spanning.decoder) as window:
        spanning.decode(latents(4 + 2 * CONTEXT))
    assert peaks == [window.values] * 2


@torch.no_grad()
def test_frames_are_yielded_as_soon_as_they_are_final(spanning):
    counts = [frames.shape[2] for frames in spanning.decode_stream(latents(24).split(8, dim=2))]
    assert counts == [8 - CONTEXT, 8, 8, CONTEXT]


@torch.no_grad()
def test_past_latents_are_context(spanning):
    z = latents(24)
    whole = spanning.decode(z)[:, :, 12:]
    errors = []
    for past in (z[:, :, 12 - CONTEXT : 12], z[:, :, :12], None, z[:, :, :0]):
        late = torch.cat(list(spanning.decode_stream(z[:, :, 12:].split(6, dim=2), past)), dim=2)
        assert late.shape == whole.shape
        errors.append(float((late - whole)[:, :, 0].abs().mean()))
    assert errors[0] == errors[1] < 0.5 * errors[2]
    assert errors[2] == errors[3]


def test_clips_are_decoded_with_their_neighbours_as_context(model, spanning):
    model = dataclasses.replace(model, vae=spanning)
    clips = list(model.stream("a red circle", 3, ReuseSettings(prompt_frames=2), steps=2, seed=7))
    assert [clip.state.past.shape[2] for clip in clips] == [0, CONTEXT, CONTEXT]
    streamed = [len(frames) for frames in model.decode(clips)]
    assert streamed == [8 - CONTEXT, 8, 8, CONTEXT]
    whole = model.frames(clips).astype(int)
    late = np.abs(model.frames(clips[2]) - whole[16:]).mean()
    alone = ClipState(**{**vars(clips[2].state), "past": clips[2].state.past[:, :, :0]})
    assert late < 0.5 * np.abs(model.frames(alone) - whole[16:]).mean()


@pytest.mark.parametrize("chunk", [1, 3, 5, 100])
@torch.no_grad()
def test_encoding_in_chunks_equals_the_whole(vae, chunk):
    video = torch.rand(2, 3, 5, 16, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with Peak(vae.encoder) as peak:
        parts = vae.encode(video, chunk)
    with Peak(vae.encoder) as one:
        vae.encode(video[:, :, :1])
    torch.testing.assert_close(parts, vae.encode(video), rtol=1e-5, atol=1e-6)
    assert peak.values == one.values * min(chunk, 5)


@pytest.mark.parametrize("config", [VAE, *CONFIGS.values()], ids=["alone", *CONFIGS])
@torch.no_grad()
def test_tiles_nearly_equal_the_whole_away_from_seams(config):
    vae = randomise(TemporalVAE(config))
    side = config.downsampling
    z = latents(2, 48, 40)
    whole = vae.decode(z)
    tiled = vae.decode(z, tile=32 * side)
    assert tiled.shape == whole.shape
    rows, columns = (torch.ones(length * side, dtype=torch.bool) for length in z.shape[-2:])
    for kept, length in ((rows, 48), (columns, 40)):
        (_, end), (start, _) = tile_spans(length, 32)  # two tiles a side; the overlap, and as far as the convs reach
        kept[(start - 6) * side : (end + 6) * side] = False
    error = (tiled - whole).abs()[..., rows, :][..., columns] / whole.std()
    assert error.numel() > 1000
    assert error.mean() < 0.02
    assert error.max() < 0.2
    torch.testing.assert_close(vae.encode(tiled, tile=32 * side).shape, z.shape)


@torch.no_grad()
def test_encoding_in_tiles_nearly_equals_the_whole(vae):
    video = torch.rand(1, 3, 2, 192, 160, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = vae.encode(video)
    tiled = vae.encode(video, tile=128)
    assert tiled.shape == whole.shape
    assert not torch.equal(tiled, whole)
    assert (tiled - whole).abs().mean() < 0.02 * whole.std()


@pytest.mark.parametrize("size", [(8, 8), (8, 3), (1, 8)])
@torch.no_grad()
def test_a_frame_within_one_tile_is_unchanged(vae, size):
    z = latents(3, *size)
    tile = 8 * VAE.downsampling
    video = vae.decode(z)
    assert torch.equal(vae.decode(z, tile=tile), video)
    assert torch.equal(vae.encode(video, tile=tile), vae.encode(video))


@pytest.mark.parametrize("config", [VAE, *CONFIGS.values()], ids=["alone", *CONFIGS])
@torch.no_grad()
def test_a_constant_image_has_no_seams(config):
    vae = randomise(TemporalVAE(config))
    for layer in vae.modules():  # no layer depends on the zero padding at the borders
        if isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (3, 3):
            layer.weight[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
    side = config.downsampling
    z = torch.tensor([1.0, -2.0, 0.5, 1.5]).view(1, 4, 1, 1, 1).expand(1, 4, 3, 21, 13)
    picture = vae.decode(z, tile=8 * side)
    first = picture[..., :side, :side].repeat(1, 1, 1, 21, 13)
    torch.testing.assert_close(picture, first, rtol=1e-4, atol=1e-4)
    assert picture.abs().amin(dim=(0, 2, 3, 4)).max() > 0.05


@pytest.mark.parametrize("chunk", [None, 2])
@torch.no_grad()
def test_tiles_bound_the_memory(vae, chunk):
    tile = 8 * VAE.downsampling
    with Peak(vae.decoder) as one:
        vae.decode(latents(5, 8, 8), chunk)
    with Peak(vae.decoder) as large:
        video = vae.decode(latents(5, 24, 40), chunk, tile)
    assert large.values <= one.values
    with Peak(vae.encoder) as one:
        vae.encode(video[..., :tile, :tile], chunk)
    with Peak(vae.encoder) as large:
        vae.encode(video, chunk, tile)
    assert large.values <= one.values


@torch.no_grad()
def test_tiles_and_chunks_combine(vae):
    z = latents(9, 16, 12)
    tile = 8 * VAE.downsampling
    torch.testing.assert_close(vae.decode(z, 4, tile), vae.decode(z, tile=tile), rtol=1e-5, atol=1e-5)
    video = vae.decode(z)
    torch.testing.assert_close(vae.encode(video, 4, tile), vae.encode(video, tile=tile), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_stream_in_tiles_equals_the_whole_in_tiles(vae):
    z, tile = latents(9, 16, 12), 8 * VAE.downsampling
    whole = vae.decode(z, tile=tile)
    for sizes in ((9,), (2, 3, 4), (1,) * 9):
        streamed = torch.cat(list(vae.decode_stream(z.split(sizes, dim=2), tile=tile)), dim=2)
        torch.testing.assert_close(streamed, whole, rtol=1e-5, atol=1e-5)
    later = list(vae.decode_stream([z[:, :, 6:]], z[:, :, :6], tile))
    torch.testing.assert_close(torch.cat(later, dim=2), whole[:, :, 6:], rtol=1e-5, atol=1e-5)
    assert list(vae.decode_stream([], tile=tile)) == []
    small = torch.cat(list(vae.decode_stream(z.split(4, dim=2), tile=4 * tile)), dim=2)
    torch.testing.assert_close(small, vae.decode(z, chunk=4))


@torch.no_grad()
def test_a_stream_in_tiles_takes_constant_memory(vae):
    held = []
    for frames in (12, 48):
        with Peak(vae.decoder) as peak:
            for _ in vae.decode_stream((latents(1, 16, 12) for _ in range(frames)), tile=8 * VAE.downsampling):
                pass
        held.append(peak.values)
    assert held[1] == held[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tile": 30}, "tile is 30, expected a multiple of 4 pixels, 16 or more"),
        ({"tile": 12}, "tile is 12, expected a multiple of 4 pixels, 16 or more"),
        ({"tile": 0}, "tile is 0, expected a multiple of 4 pixels, 16 or more"),
        ({"chunk": 0}, "chunk is 0, expected 1 or more"),
        ({"chunk": -1}, "chunk is -1, expected 1 or more"),
    ],
)
def test_invalid_chunks_and_tiles_are_refused(vae, settings, message):
    with pytest.raises(ValueError, match=message):
        vae.decode(latents(3), **settings)
    with pytest.raises(ValueError, match=message):
        vae.encode(torch.zeros(1, 3, 3, 16, 16), **settings)
    with pytest.raises(ValueError, match="33 x 32 pixels; width and height must be multiples of 4"):
        vae.encode(torch.zeros(1, 3, 2, 32, 33), tile=16)
