"""Noise, loss weights and losses against closed forms."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vidrd_core.models.config import VAEConfig
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.sampling import DiffusionConfig, Schedule
from vidrd_core.training.data import RecipeError
from vidrd_core.training.discriminator import VAEWithDiscriminator
from vidrd_core.training.stage_config import ClipStageConfig, TemporalVAEStageConfig
from vidrd_core.training.unet import min_snr_weights, random_noise, random_timesteps
from vidrd_core.training.vae import flicker, psnr, shift_error

COMMON = {"name": "a", "steps": 1, "batch_size": 1, "learning_rate": 1.0}
STAGE = ClipStageConfig(**COMMON)
VAE = VAEConfig(block_out_channels=(8, 8), layers_per_block=1, norm_groups=2, temp_conv_depth=1)


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_min_snr_weighs_the_error_of_x0_by_the_snr_up_to_gamma(prediction):
    schedule = Schedule(DiffusionConfig(prediction=prediction))
    timestep = torch.tensor([0, 100, 400, 700, 999])
    x0, noise = torch.randn(5, 2, 1, 3, 3, dtype=torch.float64), torch.randn(5, 2, 1, 3, 3, dtype=torch.float64)
    noisy, target = schedule.noised(x0, noise, timestep)
    alpha = schedule.alphas_cumprod.double()[timestep].view(-1, 1, 1, 1, 1)
    output = target + 0.1 * torch.randn_like(target)
    found = (noisy - (1 - alpha).sqrt() * output) / alpha.sqrt()
    if prediction == "v":
        found = alpha.sqrt() * noisy - (1 - alpha).sqrt() * output
    snr = (alpha / (1 - alpha)).view(-1)
    of_x0 = snr.clamp(max=5) * (found - x0).square().mean(dim=(1, 2, 3, 4))
    ours = min_snr_weights(timestep, schedule, 5.0) * (output - target).square().mean(dim=(1, 2, 3, 4))
    torch.testing.assert_close(ours, of_x0, rtol=1e-3, atol=1e-9)


def test_offset_noise_is_constant_over_a_clip():
    like, generator = torch.zeros(4000, 2, 2, 2, 2), torch.Generator().manual_seed(0)
    plain = random_noise(like, STAGE, generator)
    assert plain.std() == pytest.approx(1, abs=0.02)
    offset = random_noise(like, dataclasses.replace(STAGE, noise_offset=0.5), generator)
    assert offset.var() == pytest.approx(1.25, abs=0.03)
    places = offset.flatten(2)
    common = (places[..., 0] * places[..., 7]).mean()
    assert common == pytest.approx(0.25, abs=0.03), "0.5 squared is common to any two places"


def test_noisy_timesteps_are_more_frequent_with_a_power_below_1():
    schedule, generator = Schedule(DiffusionConfig()), torch.Generator().manual_seed(0)
    plain = random_timesteps(20000, schedule, STAGE, generator)
    assert (plain.min(), plain.max()) == (0, 999)
    assert plain.float().mean() == pytest.approx(499.5, abs=5)
    noisy = random_timesteps(20000, schedule, dataclasses.replace(STAGE, timestep_power=0.5), generator)
    assert noisy.float().mean() == pytest.approx(1000 * 2 / 3, abs=5)


def test_flicker_is_of_errors_that_change_and_psnr_of_all():
    video = torch.rand(1, 3, 4, 8, 8) - 0.5
    blurred = video + 0.1
    assert psnr(blurred, video) == pytest.approx(26.02, abs=0.01)
    assert flicker(blurred, video) == pytest.approx(0, abs=1e-4)
    trembling = video + 0.1 * torch.tensor([1.0, -1, 1, -1]).view(1, 1, -1, 1, 1)
    assert psnr(trembling, video) == pytest.approx(26.02, abs=0.01)
    assert flicker(trembling, video) == pytest.approx(0.2 * 127.5, rel=1e-3)


def with_losses(**settings):
    torch.manual_seed(0)
    return VAEWithDiscriminator(TemporalVAE(VAE), TemporalVAEStageConfig(**COMMON, **settings))


def test_the_adaptive_weight_makes_the_generator_gradient_as_large_as_the_reconstructions():
    model = with_losses(adversarial_weight=1.0)
    video = torch.rand(1, 3, 2, 32, 32) * 2 - 1
    decoded = model.vae.decode(model.vae.encode(video))
    losses = model.losses(decoded, video)
    last = model.vae.decoder.conv_out.weight
    rec = losses["mse"] + losses["l1"]
    norms = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (rec, losses["generator_loss"])]
    assert norms[1] == pytest.approx(float(norms[0]), rel=0.02)


def test_decoder_and_discriminator_do_not_train_each_other():
    model = with_losses(adversarial_weight=1.0)
    video = torch.rand(1, 3, 2, 32, 32) * 2 - 1
    losses = model.losses(model.vae.decode(model.vae.encode(video)), video)
    discriminators, decoders = list(model.discriminator.parameters()), list(model.vae.decoder.parameters())
    of_generator = torch.autograd.grad(losses["generator_loss"], discriminators, retain_graph=True, allow_unused=True)
    assert all(gradient is None for gradient in of_generator)
    own = torch.autograd.grad(losses["discriminator_loss"], decoders, allow_unused=True)
    assert all(gradient is None for gradient in own)


def test_a_perceptual_network_is_any_torchscript_file(tmp_path):
    class Distance(torch.nn.Module):
        def forward(self, a, b):
            return (a - b).abs().mean(dim=(1, 2, 3))

    path = tmp_path / "distance.pt"
    torch.jit.script(Distance()).save(str(path))
    model = with_losses(perceptual=str(path), perceptual_weight=0.5)
    video = torch.zeros(1, 3, 2, 16, 16)
    losses = model.losses(video + 0.2, video)
    assert losses["perceptual"].item() == pytest.approx(0.1, rel=1e-4)
    assert all("perceptual" not in name for name in model.state_dict())
    with pytest.raises(RecipeError, match="expected a TorchScript file of a network"):
        with_losses(perceptual=str(tmp_path / "none.pt"), perceptual_weight=0.5)


def test_the_discriminator_takes_part_from_its_step_on():
    model = with_losses(adversarial_weight=1.0, adversarial_from=5)
    video = torch.rand(1, 3, 2, 32, 32) * 2 - 1
    decoded = model.vae.decode(model.vae.encode(video))
    assert [("generator_loss" in model.losses(decoded, video, step)) for step in (0, 4, 5)] == [False, False, True]


class Averages:
    """A VAE of which a place is the mean of 4 x 4 pixels: smooth frames come back, and move as their latents do."""

    config = SimpleNamespace(downsampling=4)

    @staticmethod
    def encode(video):
        return F.avg_pool2d(video[:, :, 0], 4)[:, :, None]

    @staticmethod
    def decode_raw(latents):
        return F.interpolate(latents[:, :, 0], scale_factor=4, mode="bicubic", align_corners=False)[:, :, None]


@pytest.mark.parametrize("seed", range(6))
def test_latents_that_move_decode_to_frames_that_move_as_far(seed):
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing="ij")
    frame = torch.stack([(x / 12).sin() * (y / 9).cos(), (x / 15).cos(), (y / 11).sin()])
    video = frame[None, :, None]
    vae = Averages()

    def error(latents):
        return float(shift_error(vae, video, latents, np.random.default_rng(seed)))

    assert error(vae.encode(video)) < 2e-3
    other = vae.encode(video).flip(-1)
    assert error(other) > 0.05, "other latents decode to other frames"
    down, right = np.random.default_rng(seed).integers(-4, 5, 2)
    if max(abs(down), abs(right)) > 1:
        still = vae.encode(video.roll((-int(down), -int(right)), (-2, -1)))
        assert error(still) > 2 * error(vae.encode(video)), "they are moved, and that way"


def test_moved_latents_are_learned_by_encoder_and_decoder():
    vae = TemporalVAE(VAE)
    video = torch.rand(1, 3, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    shift_error(vae, video, vae.moments(video)[0], np.random.default_rng(0)).backward()
    for part in (vae.encoder, vae.decoder):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
