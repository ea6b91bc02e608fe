import os
import signal

if "PYTEST_XDIST_WORKER" in os.environ:  # one thread for each process, and for those that it starts, before torch
    os.environ["OMP_NUM_THREADS"] = "1"
os.environ["VIDRD_KERNELS"] = "off"  # tests compare bits, whatever is fastest here

import pytest
import torch
from torch import nn

from vidrd_core.models.config import TextConfig, UNet3DConfig, VAEConfig
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.models.word_text_encoder import TextEncoder
from vidrd_core.pipeline import VidRD
from vidrd_core.sampling import DiffusionConfig

# Shells and nohup make background jobs ignore these signals, which the tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("SIGTERM", "SIGHUP"):
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Set every parameter to a random value, so that no zero-initialised layer hides an error."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = 0.7 / max(1, parameter[0].numel()) ** 0.5
            is_norm_weight = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_(1 + 0.2 * noise if is_norm_weight else scale * noise)
    return module.eval()


UNET = UNet3DConfig(
    block_out_channels=(8, 16),
    attention_levels=(False, True),
    heads=(2, 2),
    layers_per_block=1,
    cross_attention_dim=12,
    norm_groups=4,
    temp_conv_depth=2,
    text_pooling=True,
    position_features=True,
    frame_embedding=16,
    frame_pictures=2,
)
VAE = VAEConfig(block_out_channels=(4, 8), layers_per_block=1, norm_groups=2, patch_size=2, temp_conv_depth=1)
TEXT = TextConfig(words=("a", "blue", "circle", "moving", "red", "right"), hidden_size=12, heads=2, max_length=8)


@pytest.fixture(scope="session")
def model() -> VidRD:
    """A VidRD model with a few thousand random parameters."""
    parts = randomise(UNet3D(UNET)), randomise(TemporalVAE(VAE), 1), randomise(TextEncoder(TEXT), 2)
    for part in parts:  # as `load` does: torch has other kernels, of other last bits, for weights that have gradients
        part.requires_grad_(False)
    return VidRD(
        *parts,
        DiffusionConfig(prediction="v", frames=8, size=32, cfg=3.0),
    )
