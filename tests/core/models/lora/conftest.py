"""One small model for all tests of adapters."""

import pytest

from vidrd_core import load

from .namings import stable_diffusion


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Our model, and diffusers' UNet and transformers' text encoder with the same weights."""
    folder = tmp_path_factory.mktemp("models") / "sd"
    unet, text = stable_diffusion(folder)
    return load(folder), unet, text


@pytest.fixture
def ours(models):
    yield models[0]
    models[0].unload_loras()
