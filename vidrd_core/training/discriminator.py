"""What a decoder's pictures are judged by: distance, a perceptual network, a critic (LDM's and VQGAN's losses).

The critic is PatchGAN's (Isola et al., 2017), with a hinge loss; its weight adapts so that its gradient at the
decoder's last layer is as large as that of the reconstruction (Esser et al., 2021, equation 7).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.func import functional_call

from vidrd_core.models.vae import TemporalVAE
from vidrd_core.training.data import RecipeError
from vidrd_core.training.stage_config import StageConfig

LARGEST = 1e4  # of the adaptive weight


class Critic(nn.Module):
    """Says of patches of pictures [B, 3, H, W] how real they look."""

    def __init__(self, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for i in range(1, layers + 1):
            before, after = width * min(2 ** (i - 1), 8), width * min(2**i, 8)
            stride = 2 if i < layers else 1
            parts += [nn.Conv2d(before, after, 4, stride, 1, bias=False), nn.GroupNorm(16, after), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*parts, nn.Conv2d(after, 1, 4, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.layers(pictures)


class Judged(nn.Module):
    """A VAE with the critic that helps it, if that has a weight."""

    def __init__(self, vae: TemporalVAE, stage: StageConfig) -> None:
        super().__init__()
        self.vae, self.stage = vae, stage
        self.critic = Critic() if stage.adversarial_weight else None
        self.perceive = [_perceptual(stage)] if stage.perceptual else []  # in a list: not a part of the model

    def of_critic(self) -> dict[str, nn.Parameter]:
        """Its parameters, by name."""
        return {f"critic.{n}": p for n, p in self.critic.named_parameters()} if self.critic is not None else {}

    def losses(self, decoded: Tensor, video: Tensor, step: int = 0) -> dict[str, Tensor]:
        """What is wrong with decoded video [B, 3, F, H, W] in -1 .. 1, by name, each with its weight.

        The critic joins in at the stage's step `adversarial_from`.
        """
        losses = {"mse": F.mse_loss(decoded, video), "l1": self.stage.l1_weight * F.l1_loss(decoded, video)}
        pictures = [rearrange(each, "b c f h w -> (b f) c h w") for each in (decoded, video)]
        if self.perceive:
            network = self.perceive[0].to(decoded.device)
            losses["perceptual"] = self.stage.perceptual_weight * network(*pictures).float().mean()
        if self.critic is not None and step >= self.stage.adversarial_from:
            losses |= self.judged(pictures[0], pictures[1], torch.stack(list(losses.values())).sum())
        return losses

    def judged(self, made: Tensor, real: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
        """The loss of the decoder by the critic, and that of the critic; neither trains the other."""
        assert self.critic is not None
        if not torch.is_grad_enabled():
            return {}
        held = {name: p.detach() for name, p in self.critic.named_parameters()}
        fooled = -functional_call(self.critic, held, (made,)).mean()
        weight = self.adaptive(reconstruction, fooled)
        own = [F.relu(1 + sign * self.critic(each)).mean() for sign, each in ((-1, real), (1, made.detach()))]
        return {"fooled": self.stage.adversarial_weight * weight * fooled, "critic": 0.5 * (own[0] + own[1])}

    def adaptive(self, reconstruction: Tensor, fooled: Tensor) -> Tensor:
        """The gradient of the reconstruction at the decoder's last layer over that of the critic's judgement."""
        last = self.vae.decoder.conv_out.weight
        if not last.requires_grad:  # Temp-Conv alone is trained: its last one
            last = [p for n, p in self.vae.decoder.named_parameters() if p.requires_grad and p.ndim > 1][-1]
        norms = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (reconstruction, fooled)]
        return (norms[0] / (norms[1] + 1e-4)).clamp(0, LARGEST).detach()


def _perceptual(stage: StageConfig) -> Any:
    """A network from a file. Raises RecipeError."""
    assert stage.perceptual is not None
    try:
        network = torch.jit.load(Path(stage.perceptual), map_location="cpu").eval()
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        return network
    except (OSError, RuntimeError, ValueError) as error:
        raise RecipeError(
            f"stage {stage.name}: perceptual is {stage.perceptual}, expected a TorchScript file of a network that "
            f"gives the distance of two pictures, as torch.jit.script makes of LPIPS: {str(error).splitlines()[0]}"
        ) from error
