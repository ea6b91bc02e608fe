"""Reconstruction guidance, and clean-frame conditioning: forward order with a changed denoiser.

Both hold new frames to the prompt frames by wrapping the denoiser of every clip but the first.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vidrd_core.baselines.base import LongVideo, LongVideoMethod
from vidrd_core.pipeline import VidRD
from vidrd_core.reuse import ReuseSettings
from vidrd_core.sample import Clip
from vidrd_core.sampling import Denoise
from vidrd_core.settings import SampleSettings


@dataclass(frozen=True)
class WrappedDenoiser(LongVideoMethod):
    """Reuse and Diffuse with a wrapper around the denoiser of every clip but the first.

    Args:
        reuse: What a clip reuses from the one before.
    """

    reuse: ReuseSettings

    @abstractmethod
    def wrap(self, denoise: Denoise, known: Tensor) -> Denoise:
        """Wrap the model's denoiser.

        Args:
            denoise: The model's denoiser, `denoise(x, sigma) -> x0`, x [1, C, N, h, w].
            known: Clean latents [1, C, M, h, w] of the prompt frames.

        Returns:
            The denoiser to use in its place.
        """

    def generate(self, model: VidRD, text: str, clips: int, sample: SampleSettings) -> LongVideo:
        """See `LongVideoMethod.generate`."""
        return LongVideo(model.frames(self._clips(model, text, clips, sample)), self.reuse)

    def _clips(self, model: VidRD, text: str, clips: int, sample: SampleSettings) -> Iterator[Clip]:
        """The clips, one by one."""
        clip = model.generate(text, self.reuse, **vars(sample))
        yield clip
        plain = model.denoiser
        for _ in range(1, clips):
            known = clip.state.latents[:, :, -self.reuse.prompt_frames :].to(model.device)
            model.denoiser = lambda *given, known=known: self.wrap(plain(*given), known)  # type: ignore[method-assign]
            try:
                clip = model.extend(clip.state, text, self.reuse, **vars(sample))
            finally:
                model.denoiser = plain  # type: ignore[method-assign]
            yield clip


@dataclass(frozen=True)
class ReconstructionGuidance(WrappedDenoiser):
    """Forward order with reconstruction guidance.

    The predictions of new frames descend the gradient of the squared error between the model's own predictions of the
    prompt frames, which are replayed as usual, and their clean latents.

    Args:
        reuse: What a clip reuses from the one before.
        weight: Guidance weight w_r, from 0; 0 is plain forward order.

    Source:
        Ho et al., "Video Diffusion Models", 2022, 3.1, equation 7.
    """

    weight: float = 1.0

    def wrap(self, denoise: Denoise, known: Tensor) -> Denoise:
        """See `WrappedDenoiser.wrap`."""
        count = self.reuse.prompt_frames

        def guided(x: Tensor, sigma: Tensor) -> Tensor:
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                x0 = denoise(x, sigma)
                error = (x0[:, :, :count] - known).square().sum()
                (gradient,) = torch.autograd.grad(error, x)
            x0 = x0.detach()
            # The paper's weight is w alpha / 2 with z = alpha x, that is w / 2 in the x of these solvers.
            x0[:, :, count:] -= self.weight / 2 * gradient[:, :, count:]
            return x0

        return guided


@dataclass(frozen=True)
class CleanFrameConditioning(WrappedDenoiser):
    """Forward order where the network is given the prompt frames without noise, as some models are trained to."""

    def wrap(self, denoise: Denoise, known: Tensor) -> Denoise:
        """See `WrappedDenoiser.wrap`."""
        count = self.reuse.prompt_frames

        def clean(x: Tensor, sigma: Tensor) -> Tensor:
            x = x.clone()
            x[:, :, :count] = known * (1 + sigma**2).sqrt()  # the denoiser scales its input to variance 1
            x0 = denoise(x, sigma)
            x0[:, :, :count] = known
            return x0

        return clean
