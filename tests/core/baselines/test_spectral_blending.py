"""FreeLong's temporal attention."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from vidrd_core.baselines.base import count_denoised_frames
from vidrd_core.baselines.spectral_blending import FreeLong, SpectralBlend, blended, low_pass, near_attention
from vidrd_core.models.attention import fused_attention
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.settings import SampleSettings

from ...conftest import randomise

TEXT = "a red circle"


@pytest.fixture(scope="module")
def sample(model):
    return model.complete(SampleSettings(seed=3, steps=2))


def wave(*counts):
    """A cosine [8, 6, 4] with as many periods over frames, height and width."""
    axes = np.meshgrid(*(np.arange(size) / size for size in (8, 6, 4)), indexing="ij")
    phase = sum(count * axis for count, axis in zip(counts, axes, strict=True))
    return torch.from_numpy(np.cos(2 * np.pi * phase)).float()


@pytest.mark.parametrize("counts", [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 1, 0), (4, 3, 2)])
def test_a_wave_comes_from_either_stream_by_its_frequency(counts):
    """The share that the paper's filter of D0 = 0.25 takes from the global stream; 1 is the highest frequency."""
    frequency = [2 * count / size for count, size in zip(counts, (8, 6, 4), strict=True)]
    share = math.exp(-sum(f**2 for f in frequency) / (2 * 0.25**2))
    torch.testing.assert_close(blended(wave(*counts), torch.zeros(8, 6, 4)), share * wave(*counts))
    torch.testing.assert_close(blended(torch.zeros(8, 6, 4), wave(*counts)), (1 - share) * wave(*counts))


def test_streams_that_agree_stay_as_they_are():
    x = torch.randn(2, 3, 8, 6, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(blended(x, x), x)
    assert low_pass((8, 6, 4)).max() == 1


def test_a_frame_attends_to_near_ones_alone():
    q, k, v = torch.randn(3, 1, 9, 4, generator=torch.Generator().manual_seed(0)).unbind()
    found = near_attention(q, k, v, 2, reach=2)
    for i in range(9):
        near = slice(max(0, i - 2), i + 3)
        torch.testing.assert_close(found[:, i : i + 1], fused_attention(q[:, i : i + 1], k[:, near], v[:, near], 2))


@pytest.fixture(params=["inside", "after"])
def any_model(request, model):
    """Models with VidRD's temporal attention, and with ModelScope's."""
    config = replace(model.unet.config, temp_attention=request.param)
    return replace(model, unet=randomise(UNet3D(config)))


def test_when_all_frames_are_near_the_model_is_as_it_was(any_model):
    x = torch.randn(2, any_model.unet.config.in_channels, 6, 8, 12, generator=torch.Generator().manual_seed(0))
    text = torch.cat([any_model.text_encoder.encode([each]) for each in (TEXT, "a blue circle")])

    def prediction():
        return any_model.unet(x, torch.tensor(500), text)

    with torch.no_grad():
        plain = prediction()
        for blend in (False, True):
            with SpectralBlend((8, 12), 6).applied(any_model, blend):
                torch.testing.assert_close(prediction(), plain, rtol=1e-4, atol=1e-4)
            with SpectralBlend((8, 12), 1).applied(any_model, blend):
                assert (prediction() - plain).abs().max() > 1e-3
        assert torch.equal(prediction(), plain)


def test_all_frames_cost_one_pass_and_far_ones_matter_while_streams_are_blended(model, sample):
    with count_denoised_frames(model) as count:
        made = FreeLong().generate(model, TEXT, 3, sample)
    assert made.video.shape[0] == 24
    assert count[0] == 24 * sample.steps * 2
    assert (FreeLong(0.0).generate(model, TEXT, 3, sample).video != made.video).any()
    assert (FreeLong(freenoise=False).generate(model, TEXT, 3, sample).video != made.video).any()
    assert (FreeLong(continue_positions=True).generate(model, TEXT, 3, sample).video != made.video).any()
