"""Third-party model files through the loaders: read as by `vidrd_core`, and accepted by stock nodes."""

import importlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from vidrd_core.io.safetensors import FormatError
from vidrd_core.loading import built_in_models, load, pack
from vidrd_core.models.config import UNet3DConfig, VAEConfig
from vidrd_core.models.formats.unet import write_unet
from vidrd_core.models.formats.vae import write_vae
from vidrd_core.models.load_parts import load_clip_text, save_text_encoder, save_unet
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.sampling import DiffusionConfig, Schedule

from .conftest import BUILT_IN


def test_files_are_found_in_model_folders_and_checkpoints(host, run, tiny, sample):
    """Folders from extra_model_paths.yaml are in the same lists."""
    models = Path(host.folder_paths.models_dir)
    whole = models / "checkpoints" / "mine" / "all.safetensors"
    whole.parent.mkdir(parents=True, exist_ok=True)
    pack("tiny", whole)
    apart = {"diffusion_models": "unet", "vae": "vae", "text_encoders": "text_encoder"}
    for folder, part in apart.items():
        (models / folder).mkdir(exist_ok=True)
        shutil.copy(built_in_models()["tiny"] / f"{part}.safetensors", models / folder / f"my_{part}.safetensors")
    host.folder_paths.filename_list_cache.clear()
    for node, part in (("LoadUNet3D", "unet"), ("LoadTemporalVAE", "vae"), ("LoadTextEncoder", "text_encoder")):
        offered = importlib.import_module("custom_nodes_vidrd.nodes.host.folders").choices(
            next(folder for folder, name in apart.items() if name == part)
        )
        assert offered[0] == BUILT_IN
        for file in (f"my_{part}.safetensors", f"checkpoints/mine{os.sep}all.safetensors"):
            assert file in offered
            (loaded,) = run(node, file=file, **({"weight_dtype": "default"} if part == "unet" else {}))
            if part == "unet":
                assert torch.equal(sample(loaded), sample())


@pytest.fixture
def saved_by_stock_nodes(host, tiny):
    """What the host's own nodes write of the built-in model: files in the folders that the loaders list."""
    merging = importlib.import_module("comfy_extras.nodes_model_merging")
    models, output = Path(host.folder_paths.models_dir), Path(host.folder_paths.get_output_directory())
    merging.CheckpointSave().save(tiny.model, tiny.clip, tiny.vae, "stock/checkpoints")
    merging.ModelSave().save(tiny.model, "stock/diffusion_models")
    merging.VAESave().save(tiny.vae, "stock/vae")
    merging.CLIPSave().save(tiny.clip, "stock/text_encoders")
    for folder in ("checkpoints", "diffusion_models", "vae", "text_encoders"):
        (models / folder).mkdir(exist_ok=True, parents=True)
        (written,) = (output / "stock").glob(f"{folder}*.safetensors")
        shutil.move(written, models / folder / "stock.safetensors")
    host.folder_paths.filename_list_cache.clear()
    return models


def test_what_stock_nodes_save_of_our_model_loads(host, run, tiny, sample, saved_by_stock_nodes):
    prompts = {"prompts": "a red circle moving right", "negative_prompt": ""}
    latent = sample()
    expected = tiny.vae.decode(latent)
    text = run("EncodePrompts", clip=tiny.clip, **prompts)[0][0][0][0]
    for file in ("stock.safetensors", f"checkpoints{os.sep}stock.safetensors".replace(os.sep, "/")):
        (model,) = run("LoadUNet3D", file=file, weight_dtype="default")
        (vae,) = run("LoadTemporalVAE", file=file)
        (clip,) = run("LoadTextEncoder", file=file)
        assert torch.equal(sample(model), latent)
        assert torch.equal(vae.decode(latent), expected)
        assert torch.equal(run("EncodePrompts", clip=clip, **prompts)[0][0][0][0], text)
    for wrong, node, message in (
        ("vae", "LoadUNet3D", "holds a temporal VAE, expected a UNet3D"),
        ("text_encoders", "LoadUNet3D", "holds a text encoder, expected a UNet3D"),
        ("diffusion_models", "LoadTemporalVAE", "holds a UNet3D, expected a temporal VAE"),
        ("vae", "LoadTextEncoder", "holds a temporal VAE, expected a text encoder"),
    ):
        shutil.copy(
            saved_by_stock_nodes / wrong / "stock.safetensors", saved_by_stock_nodes / "checkpoints" / "a.safetensors"
        )
        host.folder_paths.filename_list_cache.clear()
        with pytest.raises(ValueError, match=message):
            run(
                node,
                file="checkpoints/a.safetensors",
                **({"weight_dtype": "default"} if node == "LoadUNet3D" else {}),
            )
    whole = load(saved_by_stock_nodes / "checkpoints" / "stock.safetensors")
    assert (whole.unet.config, whole.diffusion) == (load("tiny").unet.config, load("tiny").diffusion)


def test_a_lora_stays_in_what_stock_nodes_save(host, run, tiny, sample):
    merging = importlib.import_module("comfy_extras.nodes_model_merging")
    patched = tiny.model.clone()
    name = "diffusion_model.conv_in.weight"
    patched.add_patches({name: (torch.full_like(tiny.model.model_state_dict()[name], 0.05),)})
    merging.ModelSave().save(patched, "stock_patched/a")
    (written,) = (Path(host.folder_paths.get_output_directory()) / "stock_patched").glob("*.safetensors")
    shutil.move(written, Path(host.folder_paths.models_dir) / "diffusion_models" / "patched.safetensors")
    host.folder_paths.filename_list_cache.clear()
    (model,) = run("LoadUNet3D", file="patched.safetensors", weight_dtype="default")
    torch.testing.assert_close(sample(model), sample(patched), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(sample(model), sample(), atol=0.01)


def test_a_checkpoint_without_the_part_is_refused(host, run):
    path = Path(host.folder_paths.models_dir) / "checkpoints" / "other.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"a": torch.zeros(2)}, path)
    host.folder_paths.filename_list_cache.clear()
    with pytest.raises(ValueError, match=r"other\.safetensors holds no known part of a model .* expected a VAE"):
        run("LoadTemporalVAE", file="checkpoints/other.safetensors")


@torch.no_grad()
def test_a_stable_diffusion_checkpoint_loads(host, run):
    """In LDM's names, with random weights: outputs equal `vidrd_core`'s, and stock nodes accept it."""
    config = UNet3DConfig(
        block_out_channels=(64, 128), attention_levels=(True, False), heads=(1, 2), cross_attention_dim=64,
        layers_per_block=1, temp_conv_depth=0, temp_attention="none",
    )  # fmt: skip
    torch.manual_seed(0)
    unet = UNet3D(config).eval()
    decoder = TemporalVAE(VAEConfig(block_out_channels=(32, 64), layers_per_block=1, temp_conv_depth=0)).eval()
    tensors = {f"model.diffusion_model.{key}": t for key, t in write_unet(config, unet.state_dict(), "LDM").items()}
    vae_tensors = write_vae(decoder.config, decoder.state_dict(), "ldm")
    tensors |= {f"first_stage_model.{key}": t for key, t in vae_tensors.items()}
    path = Path(host.folder_paths.models_dir) / "checkpoints" / "sd.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    host.folder_paths.filename_list_cache.clear()
    (model,) = run("LoadUNet3D", file="checkpoints/sd.safetensors", weight_dtype="default")
    (vae,) = run("LoadTemporalVAE", file="checkpoints/sd.safetensors")
    x, t, text = torch.randn(1, 4, 3, 8, 8), torch.tensor([501]), torch.randn(1, 7, 64)
    ours = model.model.diffusion_model(x, t, text)
    torch.testing.assert_close(ours, unet(x, t, text), rtol=1e-4, atol=1e-4)
    latent = {"samples": torch.zeros(1, 4, 3, 8, 8)}
    prompt = [[text, {}]]
    clip = host.nodes.KSampler().sample(model, 7, 2, 2.5, "euler", "normal", prompt, prompt, latent, 1.0)[0]
    frames = host.nodes.VAEDecode().decode(vae, clip)[0]
    video = decoder.decode(clip["samples"] * 0.18215)[0].movedim(0, -1) / 2 + 0.5
    torch.testing.assert_close(frames, video.clamp(0, 1), rtol=1e-3, atol=1e-3)


def test_the_clip_of_a_checkpoint_equals_that_of_vidrd_core(host, run):
    """ViT-L/14 with random weights at its full size, as ComfyUI knows no other."""
    torch.manual_seed(0)
    sd1 = CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, hidden_act="quick_gelu"
    )
    theirs = {key.removeprefix("text_model."): t for key, t in CLIPTextModel(sd1).state_dict().items()}
    tensors = {f"cond_stage_model.transformer.text_model.{key}": t.contiguous() for key, t in theirs.items()}
    path = Path(host.folder_paths.models_dir) / "checkpoints" / "sd_text.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    host.folder_paths.filename_list_cache.clear()
    (clip,) = run("LoadTextEncoder", file="checkpoints/sd_text.safetensors")
    core = load_clip_text(path, Path(sys.modules["comfy.sd1_clip"].__file__).parent / "sd1_tokenizer")
    for prompt in ("a fox in the snow, at dawn", ""):
        read = host.nodes.CLIPTextEncode().encode(clip, prompt)[0][0][0]
        torch.testing.assert_close(read, core.encode([prompt]), rtol=0, atol=0.02)  # ComfyUI's is float16
    path.unlink()


@pytest.mark.parametrize("own", [False, True])
def test_a_clip_ends_at_the_layer_that_its_config_says(host, run, own):
    """`num_hidden_layers` below the number of layers, as models trained with CLIP skip have it."""
    torch.manual_seed(0)
    theirs = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12))
    path = Path(host.folder_paths.models_dir) / "text_encoders" / "skip.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in theirs.state_dict().items()}, path)
    config = {"architectures": ["CLIPTextModel"], "num_attention_heads": 12, "num_hidden_layers": 11}
    path.with_name("config.json").write_text(json.dumps(config))
    core = load_clip_text(path, Path(sys.modules["comfy.sd1_clip"].__file__).parent / "sd1_tokenizer")
    if own:
        save_text_encoder(core, path)
    host.folder_paths.filename_list_cache.clear()
    (clip,) = run("LoadTextEncoder", file="skip.safetensors")
    read = host.nodes.CLIPTextEncode().encode(clip, "a fox")[0][0][0]
    torch.testing.assert_close(read, core.encode(["a fox"]), rtol=0, atol=0.02)  # ComfyUI's is float16
    whole = host.nodes.CLIPTextEncode().encode(host.nodes.CLIPSetLastLayer().set_last_layer(clip, -1)[0], "a fox")
    assert own or (whole[0][0][0] - read).abs().max() > 0.1
    path.with_name("config.json").write_text(json.dumps({**config, "hidden_act": "gelu"}))
    if not own:
        with pytest.raises(
            FormatError, match=r"config\.json say activation gelu, expected quick_gelu: ComfyUI's CLIP of"
        ):
            run("LoadTextEncoder", file="skip.safetensors")
    path.unlink()
    path.with_name("config.json").unlink()


@pytest.mark.parametrize(
    "diffusion",
    [
        {},
        {"schedule": "linear"},
        {"schedule": "squaredcos_cap_v2"},
        {"trained_betas": tuple(0.0002 + 0.00002 * t for t in range(500)), "train_steps": 500},
        {"prediction": "v", "zero_terminal_snr": True},
    ],
    ids=["scaled_linear", "linear", "squaredcos", "trained betas", "zero terminal SNR"],
)
def test_noise_levels_are_those_of_vidrd_core(host, pack, diffusion, tmp_path):
    """From the file's own settings, whatever ComfyUI's list of schedules holds."""
    config = UNet3DConfig(
        block_out_channels=(32, 64), attention_levels=(True, False), heads=(2, 4), layers_per_block=1, norm_groups=8,
        cross_attention_dim=24,
    )  # fmt: skip
    settings = DiffusionConfig(**diffusion)
    save_unet(UNet3D(config), settings, tmp_path / "unet.safetensors")
    loaded = importlib.import_module("custom_nodes_vidrd.nodes.host.model").load_model(tmp_path / "unet.safetensors")
    found = loaded.get_model_object("model_sampling").sigmas
    last = -1 if settings.zero_terminal_snr else None  # each of the two has a noise level of its own for "infinite"
    torch.testing.assert_close(found.cpu()[:last], Schedule(settings).table[:last], rtol=2e-4, atol=1e-5)
