"""Noise, weights and losses against what they should be."""

import dataclasses

import pytest
import torch

from vidrd_core.models.config import VAEConfig
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.sampling import DiffusionConfig, Schedule
from vidrd_core.training.data import RecipeError
from vidrd_core.training.discriminator import Judged
from vidrd_core.training.stage_config import StageConfig
from vidrd_core.training.unet import drawn_noise, drawn_timesteps, loss_weights
from vidrd_core.training.vae import flicker, psnr

STAGE = StageConfig("a", "clip", steps=1, batch_size=1, learning_rate=1.0)
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
    ours = loss_weights(timestep, schedule, 5.0) * (output - target).square().mean(dim=(1, 2, 3, 4))
    torch.testing.assert_close(ours, of_x0, rtol=1e-3, atol=1e-9)


def test_offset_noise_is_alike_in_all_of_a_clip():
    like, generator = torch.zeros(4000, 2, 2, 2, 2), torch.Generator().manual_seed(0)
    plain = drawn_noise(like, STAGE, generator)
    assert plain.std() == pytest.approx(1, abs=0.02)
    offset = drawn_noise(like, dataclasses.replace(STAGE, noise_offset=0.5), generator)
    assert offset.var() == pytest.approx(1.25, abs=0.03)
    places = offset.flatten(2)
    common = (places[..., 0] * places[..., 7]).mean()
    assert common == pytest.approx(0.25, abs=0.03), "0.5 squared is common to any two places"


def test_noisy_timesteps_come_more_often_with_a_power_below_1():
    schedule, generator = Schedule(DiffusionConfig()), torch.Generator().manual_seed(0)
    plain = drawn_timesteps(20000, schedule, STAGE, generator)
    assert (plain.min(), plain.max()) == (0, 999)
    assert plain.float().mean() == pytest.approx(499.5, abs=5)
    noisy = drawn_timesteps(20000, schedule, dataclasses.replace(STAGE, timestep_power=0.5), generator)
    assert noisy.float().mean() == pytest.approx(1000 * 2 / 3, abs=5)


def test_flicker_is_of_errors_that_change_and_psnr_of_all():
    video = torch.rand(1, 3, 4, 8, 8) - 0.5
    blurred = video + 0.1
    assert psnr(blurred, video) == pytest.approx(26.02, abs=0.01)
    assert flicker(blurred, video) == pytest.approx(0, abs=1e-4)
    trembling = video + 0.1 * torch.tensor([1.0, -1, 1, -1]).view(1, 1, -1, 1, 1)
    assert psnr(trembling, video) == pytest.approx(26.02, abs=0.01)
    assert flicker(trembling, video) == pytest.approx(0.2 * 127.5, rel=1e-3)


def judged(**changes):
    torch.manual_seed(0)
    stage = dataclasses.replace(STAGE, task="vae_temporal", **changes)
    return Judged(TemporalVAE(VAE), stage)


def test_the_critics_weight_makes_its_gradient_as_large_as_the_reconstructions():
    model = judged(adversarial_weight=1.0)
    video = torch.rand(1, 3, 2, 32, 32) * 2 - 1
    decoded = model.vae.decode(model.vae.encode(video))
    losses = model.losses(decoded, video)
    last = model.vae.decoder.conv_out.weight
    rec = losses["mse"] + losses["l1"]
    norms = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (rec, losses["fooled"])]
    assert norms[1] == pytest.approx(float(norms[0]), rel=0.02)


def test_decoder_and_critic_do_not_train_each_other():
    model = judged(adversarial_weight=1.0)
    video = torch.rand(1, 3, 2, 32, 32) * 2 - 1
    losses = model.losses(model.vae.decode(model.vae.encode(video)), video)
    critics, decoders = list(model.critic.parameters()), list(model.vae.decoder.parameters())
    fooled = torch.autograd.grad(losses["fooled"], critics, retain_graph=True, allow_unused=True)
    assert all(gradient is None for gradient in fooled)
    own = torch.autograd.grad(losses["critic"], decoders, allow_unused=True)
    assert all(gradient is None for gradient in own)


def test_a_perceptual_network_is_any_torchscript_file(tmp_path):
    class Distance(torch.nn.Module):
        def forward(self, a, b):
            return (a - b).abs().mean(dim=(1, 2, 3))

    path = tmp_path / "distance.pt"
    torch.jit.script(Distance()).save(str(path))
    model = judged(perceptual=str(path), perceptual_weight=0.5)
    video = torch.zeros(1, 3, 2, 16, 16)
    losses = model.losses(video + 0.2, video)
    assert losses["perceptual"].item() == pytest.approx(0.1, rel=1e-4)
    assert all("perceive" not in name for name in model.state_dict())
    with pytest.raises(RecipeError, match="expected a TorchScript file of a network"):
        judged(perceptual=str(tmp_path / "none.pt"), perceptual_weight=0.5)


def test_the_critic_joins_in_at_its_step():
    model = judged(adversarial_weight=1.0, adversarial_from=5)
    video = torch.rand(1, 3, 2, 32, 32) * 2 - 1
    decoded = model.vae.decode(model.vae.encode(video))
    assert [("fooled" in model.losses(decoded, video, step)) for step in (0, 4, 5)] == [False, False, True]
