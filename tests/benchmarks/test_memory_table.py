"""The memory that is computed without a device equals what an allocator holds."""

import pytest
import torch
from memory import MIB
from memory_table import FRAMES, LiveTensors, held, network, of_vae

from vidrd_core.metrics.peak_memory import peak_memory_mib
from vidrd_core.models.config import UNet3DConfig, VAEConfig
from vidrd_core.models.unet3d import UNet3D

NARROW = UNet3DConfig(block_out_channels=(64, 128, 128, 128), heads=(2, 4, 4, 4), cross_attention_dim=64)


def test_freed_tensors_are_not_counted():
    before = torch.zeros(2**20)  # 4 MiB
    with LiveTensors() as count:
        first = before + 1
        second = first + 1
        view = second[1:]
        del first, second, view
        kept = before * 2
        del before
    assert count.highest == 8 * MIB
    assert count.now == kept.nbytes == 4 * MIB


@torch.no_grad()
def test_the_count_is_close_to_the_allocators():
    unet = UNet3D(NARROW).eval()
    inputs = torch.randn(2, 4, 4, 32, 32), torch.tensor([1, 1]), torch.randn(2, 77, 64)
    unet(*inputs)
    with LiveTensors() as count:
        unet(*inputs)
    assert count.highest / MIB == pytest.approx(peak_memory_mib(lambda: unet(*inputs)), rel=0.2)


@pytest.mark.slow
@torch.no_grad()
def test_decoding_longer_clips_takes_hardly_more_memory_and_tiles_much_less():
    vae = network(VAEConfig(block_out_channels=(128, 256, 512)), "meta", torch.float32)
    short, long = (of_vae(vae, frames, 512, "meta", None) for frames in (2 * FRAMES[-1], 3 * FRAMES[-1]))
    assert 0 < short <= long <= 1.01 * short
    assert of_vae(vae, FRAMES[-1], 512, "meta", 128) < short / 2


def test_a_large_result_counts():
    assert held(lambda: torch.zeros(2**20, device="meta") + 1, "meta") == 8
