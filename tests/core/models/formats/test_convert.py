"""Conversions: other programs open what is written and compute the same; there and back nothing is lost."""

import dataclasses

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    DDIMScheduler,
    UNet2DConditionModel,
    UNet3DConditionModel,
)
from safetensors.torch import load_file, save_file

from vidrd_core.convert import WEIGHTS, convert
from vidrd_core.models.config import UNet3DConfig, VAEConfig
from vidrd_core.models.formats.unet import write_unet
from vidrd_core.models.inflate import read_temporal
from vidrd_core.models.load_parts import load_unet, load_vae, read_unet, save_unet, save_vae
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.sampling import DiffusionConfig

from ....conftest import UNET, randomise
from ...cli.helpers import posix
from ...cli.test_faults import file_size_limit
from . import originals

FLAT = UNet3DConfig(
    block_out_channels=(32, 64), attention_levels=(True, False), heads=(4, 8), cross_attention_dim=128,
    layers_per_block=1, norm_groups=32, temp_conv_depth=0, temp_attention="none",
)  # fmt: skip
MODELSCOPE = dataclasses.replace(
    FLAT, heads=(2, 4), temp_conv_depth=4, temp_attention="after", transformer_in=True, temporal_for_images=True
)
WIDE = {"heads": (2, 4), "block_out_channels": (128, 256)}  # heads of 64 channels, as without a config.json
V = DiffusionConfig(prediction="v", schedule="linear", beta_start=0.0001, beta_end=0.02, zero_terminal_snr=True)


def saved(config, path, diffusion=V):
    unet = randomise(UNet3D(config))
    save_unet(unet, diffusion, path)
    return unet


def inputs(frames=3):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 4, frames, 8, 8, generator=generator)
    return x, torch.tensor([501]), torch.randn(1, 7, 128, generator=generator)


@pytest.mark.parametrize(("config", "kind"), [(FLAT, UNet2DConditionModel), (MODELSCOPE, UNet3DConditionModel)])
@torch.no_grad()
def test_diffusers_opens_a_unet_and_computes_the_same(tmp_path, config, kind):
    ours = saved(config, tmp_path / "unet.safetensors")
    convert(tmp_path / "unet.safetensors", tmp_path / "out", "diffusers")
    theirs = kind.from_pretrained(tmp_path / "out").eval()
    x, timestep, text = inputs()
    result = ours(x, timestep, text)
    if kind is UNet3DConditionModel:
        torch.testing.assert_close(theirs(x, timestep, text).sample, result, rtol=1e-5, atol=1e-5)
    else:
        for frame in range(3):
            expected = theirs(x[:, :, frame], timestep, text).sample
            torch.testing.assert_close(result[:, :, frame], expected, rtol=1e-5, atol=1e-5)
    scheduler = DDIMScheduler.from_pretrained(tmp_path / "out" / "scheduler")
    assert (scheduler.config.prediction_type, scheduler.config.rescale_betas_zero_snr) == ("v_prediction", True)
    back, diffusion = load_unet(tmp_path / "out")
    assert back.config == config
    known = ("prediction", "schedule", "beta_end", "zero_terminal_snr")
    assert [getattr(diffusion, name) for name in known] == [getattr(V, name) for name in known]
    same(ours, back)


def same(one, other):
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("config", "first"), [(FLAT, "model.diffusion_model."), (MODELSCOPE, "")])
def test_to_ldm_and_back_loses_nothing(tmp_path, config, first):
    config = dataclasses.replace(config, **WIDE)
    ours = saved(config, tmp_path / "unet.safetensors", DiffusionConfig())
    assert convert(tmp_path / "unet.safetensors", tmp_path / "ldm.safetensors", "ldm") == []
    assert f"{first}input_blocks.0.0.weight" in load_file(tmp_path / "ldm.safetensors")
    convert(tmp_path / "ldm.safetensors", tmp_path / "back.safetensors", "vidrd")
    back, _ = load_unet(tmp_path / "back.safetensors")
    same(ours, back)
    assert back.config == config


def test_settings_that_ldms_file_cannot_store_are_returned(tmp_path):
    """How it denoises, where alphas_cumprod does not show it; networks unlike any published one are refused."""
    for number, (diffusion, expected) in enumerate(
        (
            (DiffusionConfig(prediction="v"), ["prediction=v"]),
            (DiffusionConfig(schedule="linear"), []),
            (DiffusionConfig(prediction="v", zero_terminal_snr=True), []),
            (V, ["prediction=v", "schedule=linear", "beta_start=0.0001", "beta_end=0.02", "zero_terminal_snr=True"]),
        )
    ):
        saved(dataclasses.replace(FLAT, **WIDE), tmp_path / f"{number}.safetensors", diffusion)
        target = tmp_path / f"ldm{number}.safetensors"
        assert convert(tmp_path / f"{number}.safetensors", target, "ldm") == expected
        read = read_unet(target)[2]
        lost = {entry.partition("=")[0] for entry in expected}
        known = {"prediction", "schedule", "beta_start", "beta_end", "zero_terminal_snr"} - lost
        assert {name: getattr(read, name) for name in known} == {name: getattr(diffusion, name) for name in known}
    saved(dataclasses.replace(FLAT, **{**WIDE, "heads": (8, 8)}), tmp_path / "heads.safetensors")
    with pytest.raises(ValueError, match="do not show heads: no published model is like this"):
        convert(tmp_path / "heads.safetensors", tmp_path / "out.safetensors", "ldm")
    originals.vae().save_pretrained(tmp_path / "vae")  # its norms have 8 groups
    with pytest.raises(ValueError, match=r"do not show all settings: no published .*norm_groups, 32"):
        convert(tmp_path / "vae", tmp_path / "out.safetensors", "ldm", "vae")
    assert not list(tmp_path.glob("*out*"))


def test_a_diffusers_folder_becomes_our_file(tmp_path):
    theirs = originals.unet_3d()
    theirs.save_pretrained(tmp_path / "theirs")
    convert(tmp_path / "theirs", tmp_path / "ours.safetensors", "vidrd")
    ours, _ = load_unet(tmp_path / "ours.safetensors")
    x, timestep, text = inputs()
    with torch.no_grad():
        torch.testing.assert_close(ours(x, timestep, text), theirs(x, timestep, text).sample, rtol=1e-5, atol=1e-5)
    convert(tmp_path / "ours.safetensors", tmp_path / "again", "diffusers")
    again = UNet3DConditionModel.from_pretrained(tmp_path / "again")
    same(theirs, again)


def test_temporal_layers_are_written_alone(tmp_path):
    ours = saved(UNET, tmp_path / "unet.safetensors")
    convert(tmp_path / "unet.safetensors", tmp_path / "layers.safetensors", "temporal")
    tensors, settings = read_temporal(tmp_path / "layers.safetensors")
    assert settings["temp_attention"] == "inside"
    assert tensors
    assert all(torch.equal(tensor, ours.state_dict()[name]) for name, tensor in tensors.items())


def test_vaes_go_to_diffusers_and_ldm_and_back(tmp_path):
    theirs = originals.vae(widths=(32, 64), groups=32)
    theirs.save_pretrained(tmp_path / "vae")
    for number, to in enumerate(("vidrd", "ldm", "diffusers")):
        convert(tmp_path / "vae", tmp_path / f"{number}{'' if to == 'diffusers' else '.safetensors'}", to, "vae")
    same(theirs, AutoencoderKL.from_pretrained(tmp_path / "2"))
    first, *others = map(load_vae, (tmp_path / name for name in ("vae", "0.safetensors", "1.safetensors", "2")))
    for other in others:
        assert other.config == first.config
        same(first, other)
    assert any(key.startswith("encoder.down.") for key in load_file(tmp_path / "1.safetensors"))


VAES = {
    "without quant convs": {"quant_conv": False, "post_quant_conv": False},
    "shifted": {"latents_mean": (0.1,), "latents_std": (1 / 0.3,)},
    "by channel": {"latents_mean": (0.1, 0.2, 0.3, 0.4), "latents_std": (1.0, 2.0, 3.0, 4.0)},
}


@pytest.mark.parametrize("settings", VAES.values(), ids=VAES)
@torch.no_grad()
def test_vaes_with_other_settings_go_to_diffusers(tmp_path, settings):
    config = VAEConfig(block_out_channels=(32, 64), layers_per_block=1, temp_conv_depth=0, **settings)
    ours = randomise(TemporalVAE(config))
    save_vae(ours, tmp_path / "vae.safetensors")
    convert(tmp_path / "vae.safetensors", tmp_path / "out", "diffusers", "vae")
    theirs, loaded = AutoencoderKL.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert (list(loaded["missing_keys"]), list(loaded["unexpected_keys"])) == ([], [])
    same(ours, theirs)
    assert load_vae(tmp_path / "out").config == config


@pytest.mark.parametrize("quant_conv", [True, False])
@torch.no_grad()
def test_svds_decoder_goes_to_diffusers(tmp_path, quant_conv):
    """Its own checkpoints have no conv after the encoder, where diffusers' class has one."""
    config = VAEConfig(
        block_out_channels=(32, 64), decoder="svd", temp_conv_depth=0, quant_conv=quant_conv, post_quant_conv=False
    )
    ours = randomise(TemporalVAE(config))
    save_vae(ours, tmp_path / "vae.safetensors")
    convert(tmp_path / "vae.safetensors", tmp_path / "out", "diffusers", "vae")
    theirs, loaded = AutoencoderKLTemporalDecoder.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert (list(loaded["missing_keys"]), list(loaded["unexpected_keys"])) == ([], [])
    if quant_conv:
        same(ours, load_vae(tmp_path / "out"))
    video = torch.rand(1, 3, 2, 16, 16, generator=torch.manual_seed(0)) * 2 - 1
    latents = theirs.encode(video[0].movedim(1, 0)).latent_dist.mode()
    torch.testing.assert_close(ours.encode(video)[0].movedim(1, 0), latents * 0.18215, rtol=1e-5, atol=1e-5)


def test_half_precision_stays_half_precision(tmp_path):
    unet = randomise(UNet3D(dataclasses.replace(MODELSCOPE, **WIDE))).half()
    save_unet(unet, DiffusionConfig(), tmp_path / "unet.safetensors")
    for to in ("vidrd", "ldm", "diffusers", "temporal"):
        convert(tmp_path / "unet.safetensors", tmp_path / f"{to}.safetensors", to)
    files = [tmp_path / f"{to}.safetensors" for to in ("vidrd", "ldm", "temporal")]
    for file in (*files, tmp_path / "diffusers.safetensors" / WEIGHTS):
        assert {tensor.dtype for tensor in load_file(file).values()} == {torch.float16}
        assert file.stat().st_mode == (tmp_path / "unet.safetensors").stat().st_mode


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("tiny", "out", "diffusers"), "diffusers has no network with position_features: convert to vidrd"),
        (("tiny", "out", "diffusers", "vae"), "diffusers has no VAE with VidRD's Temp-Conv"),
        (("tiny", "out.safetensors", "temporal", "vae"), "taken out of UNets"),
        (("tiny", "out", "ldm"), r"give a name that ends in \.safetensors"),
        (("tiny", "out", "onnx"), "expected unet or vae, to diffusers, ldm, vidrd, temporal"),
        (("flat.safetensors", "out.safetensors", "temporal"), "the UNet has no temporal layers"),
        (("vidrd.safetensors", "out", "diffusers"), "Temp-Conv and Temp-Attn as VidRD has them"),
        (("tiny", "flat.safetensors", "vidrd"), "is there already: add --overwrite"),
        (("none", "out", "diffusers"), "there is no model 'none'"),
    ],
)
def test_invalid_conversions_are_refused_and_leave_nothing(tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    saved(FLAT, tmp_path / "flat.safetensors")
    saved(dataclasses.replace(FLAT, temp_conv_depth=4, temp_attention="inside"), tmp_path / "vidrd.safetensors")
    before = sorted(tmp_path.iterdir())
    with pytest.raises((ValueError, OSError), match=message):
        convert(*given)
    assert sorted(tmp_path.iterdir()) == before


def test_only_written_files_are_overwritten_and_only_on_request(tmp_path):
    config = dataclasses.replace(FLAT, **WIDE)
    unet = randomise(UNet3D(config))
    tensors = {f"model.diffusion_model.{k}": t for k, t in write_unet(config, unet.state_dict(), "LDM").items()}
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, tmp_path / "sd.safetensors")
    out = tmp_path / "out"
    convert(tmp_path / "sd.safetensors", out, "diffusers")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"out already holds config\.json, scheduler/.*: add --overwrite"):
        convert(tmp_path / "sd.safetensors", out, "diffusers")
    (out / WEIGHTS).write_bytes(b"")
    convert(tmp_path / "sd.safetensors", out, "diffusers", overwrite=True)
    assert read_unet(out)[0].keys() == unet.state_dict().keys()
    convert(out, out, "diffusers", overwrite=True)  # onto itself
    assert all(torch.equal(tensor, read_unet(out)[0][key]) for key, tensor in unet.state_dict().items())
    assert (out / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "sd.safetensors"]


@posix
@pytest.mark.parametrize("to", ["diffusers", "ldm", "vidrd", "temporal"])
def test_a_full_disk_leaves_the_old_files(tmp_path, to):
    saved(dataclasses.replace(MODELSCOPE, **WIDE), tmp_path / "unet.safetensors", DiffusionConfig())
    target = tmp_path / ("out" if to == "diffusers" else "out.safetensors")
    old = target / WEIGHTS if to == "diffusers" else target
    old.parent.mkdir(exist_ok=True)
    old.write_bytes(b"old")
    before = sorted(tmp_path.rglob("*"))
    with file_size_limit(20_000), pytest.raises(OSError, match=r"cannot write .*out.*: the file would be larger"):
        convert(tmp_path / "unet.safetensors", target, to, overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before
    assert old.read_bytes() == b"old"


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_the_advice_for_what_other_programs_do_not_have_can_be_followed(tmp_path, part):
    for to in ("ldm", "diffusers"):
        with pytest.raises(ValueError, match="convert to vidrd instead"):
            convert("tiny", tmp_path / "a.safetensors", to, part)
    convert("tiny", tmp_path / "a.safetensors", "vidrd", part)
