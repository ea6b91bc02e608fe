"""The losses of a VAE's decoder: reconstruction, perceptual distance, discriminator (as in LDM and VQGAN).

The discriminator is PatchGAN's (Isola et al., arXiv 1611.07004) with a hinge loss; the generator loss has an adaptive
weight that makes its gradient at the decoder's last layer as large as that of the reconstruction (Esser et al., arXiv
2012.09841, equation 7).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.func import functional_call

from vidrd_core.io.os_errors import first_line
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.training.data import RecipeError
from vidrd_core.training.stage_config import VAEStageConfig

MAX_ADAPTIVE_WEIGHT = 1e4


class Discriminator(nn.Module):
    """PatchGAN's: a logit of being real for each patch of an image.

    Args:
        width: Channels of the first layer.
        layers: Layers after it.
    """

    def __init__(self, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for i in range(1, layers + 1):
            before, after = width * min(2 ** (i - 1), 8), width * min(2**i, 8)
            stride = 2 if i < layers else 1
            parts += [nn.Conv2d(before, after, 4, stride, 1, bias=False), nn.GroupNorm(16, after), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*parts, nn.Conv2d(after, 1, 4, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, 1, h, w] of images [B, 3, H, W]."""
        return self.layers(images)


class VAEWithDiscriminator(nn.Module):
    """A VAE with the discriminator that helps to train it, if that has a weight.

    Args:
        vae: The VAE.
        stage: The weights of the losses.

    Raises:
        RecipeError: The perceptual network's file cannot be loaded.
    """

    def __init__(self, vae: TemporalVAE, stage: VAEStageConfig) -> None:
        super().__init__()
        self.vae, self.stage = vae, stage
        self.discriminator = Discriminator() if stage.adversarial_weight else None
        # In a list, so that it is no submodule and in no state dict.
        self.perceptual_network = [_load_perceptual(stage)] if stage.perceptual else []

    def discriminator_parameters(self) -> dict[str, nn.Parameter]:
        """The discriminator's parameters by name; none without one."""
        if self.discriminator is None:
            return {}
        # The prefix is that of earlier versions, whose checkpoints are resumed and whose recipes name it in `rates`.
        return {f"critic.{name}": parameter for name, parameter in self.discriminator.named_parameters()}

    def losses(self, decoded: Tensor, video: Tensor, step: int = 0) -> dict[str, Tensor]:
        """The losses of decoded video, each with its weight.

        Args:
            decoded: [B, 3, F, H, W] in -1 to 1.
            video: What it should be, of the same shape.
            step: Steps done: from `adversarial_from` on the discriminator takes part.

        Returns:
            `mse`, `l1`, and, where they have a weight, `perceptual`, `generator_loss` and `discriminator_loss`.
        """
        losses = {"mse": F.mse_loss(decoded, video), "l1": self.stage.l1_weight * F.l1_loss(decoded, video)}
        images = [rearrange(each, "b c f h w -> (b f) c h w") for each in (decoded, video)]
        if self.perceptual_network:
            network = self.perceptual_network[0].to(decoded.device)
            losses["perceptual"] = self.stage.perceptual_weight * network(*images).float().mean()
        if self.discriminator is not None and step >= self.stage.adversarial_from:
            losses |= self.adversarial_losses(images[0], images[1], torch.stack(list(losses.values())).sum())
        return losses

    def adversarial_losses(self, generated: Tensor, real: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
        """The decoder's loss by the discriminator, and the discriminator's own; neither trains the other network.

        Args:
            generated: Decoded images [B, 3, H, W].
            real: The real ones.
            reconstruction: The sum of the other losses, for the adaptive weight.

        Returns:
            `generator_loss` and `discriminator_loss`; nothing without gradients.
        """
        assert self.discriminator is not None
        if not torch.is_grad_enabled():
            return {}
        frozen = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        generator = -functional_call(self.discriminator, frozen, (generated,)).mean()
        weight = self.adaptive_weight(reconstruction, generator)
        hinge = [
            F.relu(1 + sign * self.discriminator(each)).mean() for sign, each in ((-1, real), (1, generated.detach()))
        ]
        return {
            "generator_loss": self.stage.adversarial_weight * weight * generator,
            "discriminator_loss": 0.5 * (hinge[0] + hinge[1]),
        }

    def adaptive_weight(self, reconstruction: Tensor, generator: Tensor) -> Tensor:
        """Norm of the reconstruction's gradient at the decoder's last layer over that of the generator loss.

        Source: Esser et al., arXiv 2012.09841, equation 7.
        """
        last = self.vae.decoder.conv_out.weight
        if not last.requires_grad:  # Temp-Conv alone is trained: its last one
            last = [p for n, p in self.vae.decoder.named_parameters() if p.requires_grad and p.ndim > 1][-1]
        norms = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (reconstruction, generator)]
        return (norms[0] / (norms[1] + 1e-4)).clamp(0, MAX_ADAPTIVE_WEIGHT).detach()


def _load_perceptual(stage: VAEStageConfig) -> Any:
    """The perceptual network from its file. Raises RecipeError."""
    assert stage.perceptual is not None
    try:
        network = torch.jit.load(Path(stage.perceptual), map_location="cpu").eval()
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        return network
    except (OSError, RuntimeError, ValueError) as error:
        raise RecipeError(
            f"stage {stage.name}: perceptual is {stage.perceptual}, expected a TorchScript file of a network that "
            f"gives the distance of two images, as torch.jit.script makes of LPIPS: {first_line(error)}"
        ) from error
