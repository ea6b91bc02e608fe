"""Sizes that files claim are compared with what they hold before anything is made of them."""

import tracemalloc

import pytest
import torch

from vidrd_core.io import safetensors
from vidrd_core.io.configs import to_dict
from vidrd_core.io.safetensors import FormatError
from vidrd_core.models.claimed_sizes import check_buildable
from vidrd_core.models.config import UNet3DConfig, VAEConfig
from vidrd_core.models.load_parts import (
    load_text_encoder,
    load_unet,
    load_vae,
    save_text_encoder,
    save_unet,
    save_vae,
)
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.models.word_text_encoder import TextEncoder
from vidrd_core.sampling import DiffusionConfig

from ...conftest import TEXT, UNET, VAE


@pytest.fixture
def files(tmp_path):
    """The file of each part and what loads it."""
    save_unet(UNet3D(UNET), DiffusionConfig(), tmp_path / "unet.safetensors")
    save_vae(TemporalVAE(VAE), tmp_path / "vae.safetensors")
    save_text_encoder(TextEncoder(TEXT), tmp_path / "text.safetensors")
    return {
        "unet": (tmp_path / "unet.safetensors", load_unet),
        "vae": (tmp_path / "vae.safetensors", load_vae),
        "text": (tmp_path / "text.safetensors", load_text_encoder),
    }


def with_config(path, key="config", **changes):
    kind = safetensors.describe(path)["kind"]
    tensors, details = safetensors.read(path, kind)
    details[key] = {**details[key], **changes}
    safetensors.write(path, tensors, **details)


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("unet", {"layers_per_block": 10**9}, r"claims layers_per_block 1000000000, more than it has tensors"),
        ("unet", {"temp_conv_depth": 10**12}, "claims temp_conv_depth"),
        ("unet", {"cross_attention_dim": 2**63}, "claims cross_attention_dim"),
        ("unet", {"in_channels": 10**15}, "claims in_channels"),
        ("unet", {"in_channels": -4}, "sizes with which it cannot be built"),
        ("unet", {"temp_conv_depth": -1}, "temp_conv_depth is -1, expected 0 or more"),
        ("vae", {"temp_conv_depth": -1}, "temp_conv_depth is -1, expected 0 or more"),
        ("unet", {"dropout": 12.0}, "dropout is 12.0, expected 0 to less than 1"),
        ("vae", {"block_out_channels": [4 * 10**9, 8 * 10**9]}, "claims block_out_channels"),
        ("vae", {"patch_size": 0}, "patch_size is 0, expected 1 or more"),
        ("vae", {"patch_size": 10**6}, "claims patch_size|cannot be built|does not fit"),
        ("vae", {"latent_channels": 10**9}, "claims latent_channels"),
        ("vae", {"latents_std": [float("nan")]}, "latents_mean and latents_std are .* expected finite numbers"),
        ("vae", {"latents_std": [0.0]}, "deviations above 0"),
        ("text", {"max_length": 10**12}, "claims max_length"),
        ("text", {"layers": 10**9}, "claims layers"),
        ("text", {"hidden_size": 2**40}, "claims hidden_size"),
    ],
)
def test_claims_are_refused_before_they_are_allocated(files, part, changes, message):
    path, load = files[part]
    load(path)
    with_config(path, **changes)
    tracemalloc.start()
    with pytest.raises(FormatError, match=message):
        load(path)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    "changes", [{"train_steps": 10**9}, {"frames": 10**9}, {"size": 10**9}, {"cfg": float("inf")}]
)
def test_diffusion_settings_have_limits(files, changes):
    path, load = files["unet"]
    with_config(path, "diffusion", **changes)
    with pytest.raises(FormatError, match=f"{next(iter(changes))} is .*, expected"):
        load(path)


def test_models_of_recipes_have_limits():
    check_buildable(UNet3D, UNET)
    check_buildable(TemporalVAE, VAEConfig())
    for change in ({"layers_per_block": 1001}, {"cross_attention_dim": 2**21}):
        with pytest.raises(ValueError, match=f"a UNet3D has {next(iter(change))} .*, expected at most"):
            check_buildable(UNet3D, UNet3DConfig(**{**to_dict(UNET), **change}))


def test_what_is_loaded_computes_what_was_saved(files):
    for path, load in files.values():
        loaded = load(path)
        module = loaded[0] if isinstance(loaded, tuple) else loaded
        kind = safetensors.describe(path)["kind"]
        tensors, _ = safetensors.read(path, kind)
        state = module.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in tensors.items())
        assert not any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers()))
