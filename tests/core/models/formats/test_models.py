"""Third-party models: loaded by a path alone, they make what they make in diffusers."""

import dataclasses
import json
import math

import pytest
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKLTemporalDecoder,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from safetensors.torch import save_file

from vidrd_core import load
from vidrd_core.io.safetensors import FormatError
from vidrd_core.models.config import UNet3DConfig
from vidrd_core.models.formats.detect import find_unet, read_part
from vidrd_core.models.formats.text import identify_text
from vidrd_core.models.formats.unet import identify_unet, write_unet
from vidrd_core.models.formats.vae import identify_vae, write_vae
from vidrd_core.models.inflate import save_temporal
from vidrd_core.models.load_parts import load_clip_text
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.reuse import ReuseSettings
from vidrd_core.sampling import DiffusionConfig, Schedule

from ....conftest import randomise
from . import originals

SETTINGS = {"steps": 5, "cfg": 3.0, "frames": 4, "width": 32, "height": 32}


@pytest.fixture
def modelscope(tmp_path):
    return originals.modelscope(tmp_path), tmp_path / "model"


def test_a_text_to_video_pipeline_makes_the_same_latents(modelscope):
    pipeline, folder = modelscope
    ours = load(folder)
    assert (ours.diffusion.frames, ours.diffusion.prediction) == (16, "eps")
    clip = ours.generate("a cat", negative="dull", seed=3, **SETTINGS)
    theirs = originals.run(
        pipeline, clip.state.noise, prompt="a cat", negative_prompt="dull", num_inference_steps=5, guidance_scale=3.0,
        num_frames=4, width=32, height=32,
    )  # fmt: skip
    torch.testing.assert_close(clip.state.latents, theirs, rtol=1e-4, atol=1e-4)
    # and goes on, and is decoded
    following = ours.extend(clip.state, "a dog", ReuseSettings(prompt_frames=2))
    assert ours.frames([clip, following]).shape == (8, 32, 32, 3)


BETAS = [0.0002 + 0.00002 * t for t in range(500)]


@pytest.mark.parametrize(
    ("kind", "solver", "settings", "steps"),
    [
        (DDIMScheduler, "ddim", {"set_alpha_to_one": False}, 5),
        (DDIMScheduler, "ddim", {"set_alpha_to_one": False}, 7),
        (DDIMScheduler, "ddim", {"steps_offset": 0}, 6),
        (DDIMScheduler, "ddim", {"clip_sample": True}, 5),
        (DDIMScheduler, "ddim", {"clip_sample": True, "clip_sample_range": 0.6, "set_alpha_to_one": False}, 5),
        (DDIMScheduler, "ddim", {"clip_sample": True, "timestep_spacing": "linspace"}, 6),
        (DDIMScheduler, "ddim", {"clip_sample": True, "set_alpha_to_one": False, "steps_offset": 0}, 5),
        (DDIMScheduler, "ddim", {"clip_sample": True, "prediction_type": "v_prediction"}, 5),
        (DDIMScheduler, "ddim", {"timestep_spacing": "trailing"}, 5),
        (DDIMScheduler, "ddim", {"timestep_spacing": "trailing", "set_alpha_to_one": False}, 7),
        (DDIMScheduler, "ddim", {"timestep_spacing": "linspace"}, 6),
        (DDIMScheduler, "ddim", {"timestep_spacing": "linspace", "set_alpha_to_one": False}, 3),
        (DDIMScheduler, "ddim", {"trained_betas": BETAS, "num_train_timesteps": 500}, 5),
        (DDIMScheduler, "ddim", {"trained_betas": BETAS[::-1], "num_train_timesteps": 500}, 5),
        (DDIMScheduler, "ddim", {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}, 5),
        (DDIMScheduler, "ddim", {"beta_schedule": "linear", "prediction_type": "v_prediction"}, 8),
        (DPMSolverMultistepScheduler, "dpmpp_2m", {}, 6),
        (DPMSolverMultistepScheduler, "dpmpp_2m", {"final_sigmas_type": "sigma_min"}, 6),
        (DPMSolverMultistepScheduler, "dpmpp_2m", {"final_sigmas_type": "sigma_min"}, 16),
        (DPMSolverMultistepScheduler, "dpmpp_2m", {"timestep_spacing": "trailing"}, 7),
        (DPMSolverMultistepScheduler, "dpmpp_2m", {"timestep_spacing": "leading"}, 7),
        (UniPCMultistepScheduler, "unipc", {"final_sigmas_type": "sigma_min"}, 6),
        (UniPCMultistepScheduler, "unipc", {"timestep_spacing": "leading"}, 7),
        (HeunDiscreteScheduler, "heun", {"timestep_spacing": "leading"}, 3),
        (HeunDiscreteScheduler, "heun", {"timestep_spacing": "linspace", "clip_sample": True}, 3),
    ],
)
@torch.no_grad()
def test_the_scheduler_file_is_followed_as_in_diffusers(kind, solver, settings, steps, tmp_path):
    pipeline = originals.modelscope(tmp_path, kind, **settings)
    ours = load(tmp_path / "model")
    clip = ours.generate("a cat", seed=3, **{**SETTINGS, "steps": steps, "solver": solver})
    theirs = originals.run(
        pipeline, clip.state.noise, prompt="a cat", negative_prompt="", num_inference_steps=steps, guidance_scale=3.0,
        num_frames=4, width=32, height=32,
    )  # fmt: skip
    torch.testing.assert_close(clip.state.latents, theirs, rtol=1e-4, atol=2e-4)
    # The next clip replays it, and a state of it can be inverted.
    following = ours.extend(clip.state, "a cat", ReuseSettings(prompt_frames=3, beta=1.0))
    torch.testing.assert_close(following.latents[:, :, 0], clip.latents[:, :, -1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"beta_schedule": "sigmoid"}, "beta_schedule is 'sigmoid', expected linear or scaled_linear or squared"),
        ({"prediction_type": "sample"}, "prediction_type is 'sample', expected epsilon or v_prediction"),
        ({"timestep_spacing": "random"}, "timestep_spacing is 'random', expected leading or trailing or linspace"),
        ({"final_sigmas_type": "half"}, "final_sigmas_type is 'half', expected zero or sigma_min"),
        ({"trained_betas": [0.1, 0.2, 1.5]}, "trained_betas has a value that is not between 0 and 1"),
        ({"trained_betas": "linear"}, "trained_betas is 'linear', expected a list of numbers"),
        ({"trained_betas": 5}, "trained_betas is 5, expected a list of numbers"),
        (
            {"clip_sample": True, "clip_sample_range": -1.0},
            "clip_sample_range is -1.0, expected a finite number of 0 or more",
        ),
        ({"thresholding": True}, "thresholding is True, expected False"),
        ({"use_karras_sigmas": True}, "use_karras_sigmas is True, expected False"),
        ({"rescale_betas_zero_snr": True, "prediction_type": "epsilon"}, "zero_terminal_snr is for models that"),
        ({"num_train_timesteps": 0}, "train_steps is 0, expected 1 to 100000"),
        ({"num_train_timesteps": "many"}, "train_steps is 'many', expected a whole number"),
        ({"beta_start": "low"}, "beta_start is 'low', expected a number"),
        ({"steps_offset": 1000}, "steps_offset is 1000, expected 0 to 999"),
        ({"set_alpha_to_one": "no"}, "set_alpha_to_one is 'no', expected true or false"),
    ],
)
def test_a_scheduler_that_is_not_supported_is_refused_by_name(setting, message, modelscope):
    path = modelscope[1] / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **setting}))
    with pytest.raises(FormatError, match=message):
        load(modelscope[1])


def test_v_prediction_and_zero_terminal_snr_are_read_from_the_scheduler(tmp_path):
    pipeline = originals.modelscope(
        tmp_path, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
    )
    ours = load(tmp_path / "model")
    assert (ours.diffusion.prediction, ours.diffusion.zero_terminal_snr) == ("v", True)
    clip = ours.generate("a cat", seed=3, **SETTINGS)
    theirs = originals.run(
        pipeline, clip.state.noise, prompt="a cat", negative_prompt="", num_inference_steps=5, guidance_scale=3.0,
        num_frames=4, width=32, height=32,
    )  # fmt: skip
    # Its noise level is 4096, not infinite: so much, relative to noise of 1, is left of x0.
    torch.testing.assert_close(clip.state.latents, theirs, rtol=1e-3, atol=1e-3)
    assert load(tmp_path / "model", prediction="eps", zero_terminal_snr=False).diffusion.prediction == "eps"
    with pytest.raises(ValueError, match="zero_terminal_snr is for models that predict v"):
        load(tmp_path / "model", prediction="eps")
    with pytest.raises(TypeError, match="expected fields of DiffusionConfig, which are prediction, schedule"):
        load(tmp_path / "model", predict="v")


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear"])
def test_zero_terminal_snr_is_diffusers(schedule):
    theirs = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule=schedule, rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )  # fmt: skip
    ours = Schedule(DiffusionConfig(prediction="v", schedule=schedule, zero_terminal_snr=True))
    torch.testing.assert_close(ours.alphas_cumprod, theirs.alphas_cumprod, rtol=1e-4, atol=1e-6)
    for steps in (7, 50, 1000):
        theirs.set_timesteps(steps)
        expected = ours.table[theirs.timesteps]
        torch.testing.assert_close(ours.sigmas(steps)[:-1], expected)


def whole_checkpoint(tmp_path):
    """A Stable Diffusion checkpoint in one file, with LDM's names, and the diffusers models that it is made from."""
    # As in the large ones, norms have 32 groups and heads 64 channels: a checkpoint shows neither.
    unet = originals.unet_2d(heads=[1, 2], linear=True, widths=(64, 128), groups=32)
    vae, words = originals.vae(widths=(32, 64), groups=32), originals.tokenizer(tmp_path / "words")
    text = originals.text_encoder(len(words))
    prefix = "cond_stage_model.transformer.text_model."
    found, vae_found = (
        identify_unet(unet.state_dict(), dict(unet.config)),
        identify_vae(vae.state_dict(), dict(vae.config)),
    )
    names = text.state_dict()
    tensors = {
        **{f"model.diffusion_model.{key}": t for key, t in write_unet(found.config, found.tensors, "LDM").items()},
        **{f"first_stage_model.{key}": t for key, t in write_vae(*vae_found, "ldm").items()},
        **{prefix + key.removeprefix("text_model."): t for key, t in names.items()},
        "alphas_cumprod": Schedule(DiffusionConfig(schedule="linear")).alphas_cumprod,
        "model_ema.decay": torch.zeros(1),
    }
    return {key: tensor.contiguous() for key, tensor in tensors.items()}, unet, text


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear"])
def test_the_noise_schedule_is_told_from_a_checkpoint_in_any_precision(tmp_path, schedule, zero, dtype):
    tensors, _, _ = whole_checkpoint(tmp_path)
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": schedule}
    tensors["alphas_cumprod"] = DDIMScheduler(**betas, rescale_betas_zero_snr=zero).alphas_cumprod
    tensors = {key: tensor.to(dtype) for key, tensor in tensors.items()}
    torch.save({"state_dict": tensors}, tmp_path / "a.ckpt")
    _, diffusion = find_unet(tmp_path / "a.ckpt")
    assert (diffusion.schedule, diffusion.zero_terminal_snr) == (schedule, zero)
    assert diffusion.prediction == ("v" if zero else "eps")


def test_a_noise_schedule_that_is_not_known_is_told(tmp_path):
    tensors, _, _ = whole_checkpoint(tmp_path)
    tensors["alphas_cumprod"] = DDIMScheduler(beta_start=0.0015, beta_end=0.0195).alphas_cumprod
    torch.save({"state_dict": tensors}, tmp_path / "a.ckpt")
    with pytest.warns(UserWarning, match="trained with a noise schedule that is not known"):
        _, diffusion = find_unet(tmp_path / "a.ckpt")
    assert diffusion.schedule == "scaled_linear"


def test_a_whole_checkpoint_is_split_by_its_names(tmp_path):
    tensors, unet, text = whole_checkpoint(tmp_path)
    torch.save({"state_dict": tensors, "global_step": 7}, tmp_path / "a.ckpt")
    found, diffusion = find_unet(tmp_path / "a.ckpt")
    assert found.naming == "LDM"
    assert diffusion.schedule == "linear"  # by its alphas_cumprod
    assert found.tensors.keys() == identify_unet(unet.state_dict()).tensors.keys()
    encoder = load_clip_text(tmp_path / "a.ckpt", tmp_path / "words")
    tokens = encoder.tokenize(["a cat"])
    torch.testing.assert_close(encoder.encode(["a cat"]), text(tokens).last_hidden_state)
    vae, _ = read_part(tmp_path / "a.ckpt", "vae")
    assert identify_vae(vae)[0].block_out_channels == (32, 64)
    with pytest.raises(FileNotFoundError, match="there is no CLIP tokenizer in"):
        load_clip_text(tmp_path / "a.ckpt", tmp_path)


def test_the_contents_of_an_unsuitable_file_are_named(tmp_path):
    lora, nothing, vae = tmp_path / "lora.safetensors", tmp_path / "nothing.safetensors", tmp_path / "vae.safetensors"
    save_file({"lora_unet_a.lora_down.weight": torch.zeros(1)}, lora)
    save_file({"a": torch.zeros(1), "b": torch.zeros(1)}, nothing)
    save_file(originals.vae().state_dict(), vae)
    for path, message in (
        (lora, "lora.safetensors holds a LoRA, expected a UNet in one of these formats: LDM .Stable Diffusion"),
        (nothing, r"holds no known part of a model \(2 tensors: a, b\)"),
        (vae, "vae.safetensors holds a VAE, expected a UNet"),
    ):
        with pytest.raises(FormatError, match=message):
            load(path)
    with pytest.raises(FileNotFoundError, match="there is no model"):
        load(tmp_path / "gone")
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match=r"is not a whole model: it lacks unet\.safetensors"):
        load(folder)


@torch.no_grad()
def test_svds_decoder_decodes_the_latents_of_another_model(modelscope, tmp_path):
    theirs = randomise(
        AutoencoderKLTemporalDecoder(
            block_out_channels=(32, 64), layers_per_block=2, latent_channels=4,
            down_block_types=["DownEncoderBlock2D"] * 2,
        )
    ).eval()  # fmt: skip
    theirs.save_pretrained(tmp_path / "svd")
    ours = load(modelscope[1], vae=tmp_path / "svd")
    clip = ours.generate("a cat", **SETTINGS)
    latents = clip.state.latents
    frames = latents.transpose(1, 2).flatten(0, 1) / 0.18215
    expected = theirs.decode(frames, num_frames=4).sample.movedim(1, -1).clamp(-1, 1)
    shown = torch.from_numpy(ours.frames(clip)).float() / 127.5 - 1
    torch.testing.assert_close(shown, expected, rtol=0, atol=1 / 127)


def test_open_clip_is_transformers_clip_without_its_last_layer(tmp_path):
    words = originals.tokenizer(tmp_path / "words")
    text = originals.text_encoder(len(words))
    inside = {key.removeprefix("text_model."): tensor for key, tensor in text.state_dict().items()}
    theirs = {
        "model.token_embedding.weight": inside["embeddings.token_embedding.weight"],
        "model.positional_embedding": inside["embeddings.position_embedding.weight"],
        "model.ln_final.weight": inside["final_layer_norm.weight"],
        "model.ln_final.bias": inside["final_layer_norm.bias"],
        "model.text_projection": torch.zeros(2, 2),
        "model.logit_scale": torch.zeros(()),
    }
    for layer in range(3):
        ours, its = f"encoder.layers.{layer}", f"model.transformer.resblocks.{layer}"
        for last in ("weight", "bias"):
            qkv = [inside[f"{ours}.self_attn.{name}_proj.{last}"] for name in "qkv"]
            theirs[f"{its}.attn.in_proj_{last}"] = torch.cat(qkv)
            for there, here in (
                ("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"), ("attn.out_proj", "self_attn.out_proj"),
                ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2"),
            ):  # fmt: skip
                theirs[f"{its}.{there}.{last}"] = inside[f"{ours}.{here}.{last}"]
    settings, tensors = identify_text(theirs)
    assert (settings.layers, settings.activation) == (2, "gelu")
    assert {f"encoder.layers.{i}" for i in (0, 1)} == {k.rsplit(".", 2)[0][:16] for k in tensors if "layers" in k}
    for key, tensor in tensors.items():
        torch.testing.assert_close(tensor, inside[key])


@torch.no_grad()
def test_temporal_layers_go_on_any_checkpoint(tmp_path):
    flat = originals.unet_2d(heads=[2, 4], linear=True)
    spatial = identify_unet(flat.state_dict(), dict(flat.config))
    config = dataclasses.replace(spatial.config, temp_conv_depth=4, temp_attention="inside")
    trained = randomise(UNet3D(config)).eval()
    save_temporal(trained, tmp_path / "temporal.safetensors")
    words = originals.tokenizer(tmp_path / "sd" / "tokenizer")
    originals.text_encoder(len(words)).save_pretrained(tmp_path / "sd" / "text_encoder")
    originals.vae().save_pretrained(tmp_path / "sd" / "vae")
    flat.save_pretrained(tmp_path / "sd" / "unet")
    image, video = load(tmp_path / "sd"), load(tmp_path / "sd", temporal=tmp_path / "temporal.safetensors")
    x, t, text = torch.randn(1, 4, 3, 8, 8), torch.tensor([7]), torch.randn(1, 6, originals.TEXT_WIDTH)
    state = {**trained.state_dict(), **spatial.tensors}
    trained.load_state_dict(state)
    torch.testing.assert_close(video.unet(x, t, text), trained(x, t, text))
    for j in range(3):
        expected = flat(x[:, :, j], t, text).sample
        torch.testing.assert_close(image.unet(x, t, text)[:, :, j], expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(FormatError, match="has no temporal layers: it holds a UNet"):
        load(tmp_path / "sd", temporal=tmp_path / "sd")
    other = UNet3D(dataclasses.replace(config, block_out_channels=(64, 64), heads=(4, 4)))
    save_temporal(other, tmp_path / "wide.safetensors")
    with pytest.raises(FormatError, match=r"is for another UNet, of other widths.* \[64\], expected \[32\]"):
        load(tmp_path / "sd", temporal=tmp_path / "wide.safetensors")


@torch.no_grad()
def test_the_released_temporal_layers_match_a_plain_implementation():
    """Plain implementations: Temp-Conv after the ResNet, Temp-Attn between cross-attention and feed-forward."""
    config = UNet3DConfig(
        block_out_channels=(32, 64), attention_levels=(True, False), heads=(2, 4), layers_per_block=1, norm_groups=8,
        cross_attention_dim=24, embed_to="stream", released_embedding=True, joint_resnet_norm=True,
    )  # fmt: skip
    unet = randomise(UNet3D(config)).eval()
    released = write_unet(config, unet.state_dict(), "VidRD")
    found = identify_unet(released, {"norm_num_groups": 8, "attention_head_dim": [2, 4]})
    assert found.config == config
    b, f, c, side = 2, 3, 32, 4

    x = torch.randn(b, c, f, side, side)
    h, at = x, "down_blocks.0.temp_convs.0.convs."
    for norm, conv in ((0, 3), (4, 7), (8, 11), (12, 15)):
        h = F.silu(F.group_norm(h, 8, released[f"{at}{norm}.weight"], released[f"{at}{norm}.bias"], eps=1e-5))
        h = F.conv3d(h, released[f"{at}{conv}.weight"], released[f"{at}{conv}.bias"], padding=(1, 0, 0))
    frames = x.transpose(1, 2).flatten(0, 1)
    ours = unet.down_blocks[0].temp_convs[0](frames, f).unflatten(0, (b, f)).transpose(1, 2)
    torch.testing.assert_close(ours, x + h, rtol=1e-5, atol=1e-5)

    at, width, heads = "down_blocks.0.attentions.0.transformer_blocks.0.", 32, 2
    stream = torch.randn(b, side * side, f, width)
    embedding = torch.tensor(
        [[wave(j / 10000 ** (2 * k / width)) for k in range(width // 2) for wave in (math.sin, math.cos)]
         for j in range(f)]
    )  # fmt: skip
    moved = stream + embedding
    normed = F.layer_norm(moved, (width,), released[f"{at}temp_norm.weight"], released[f"{at}temp_norm.bias"])
    q, k, v = (
        (normed @ released[f"{at}temp_attn.to_{name}.weight"].T).unflatten(-1, (heads, -1)).transpose(2, 3)
        for name in "qkv"
    )
    weights = (q @ k.transpose(-1, -2) / 16**0.5).softmax(-1)
    mixed = (weights @ v).transpose(2, 3).flatten(-2)
    out = moved + mixed @ released[f"{at}temp_attn.to_out.0.weight"].T + released[f"{at}temp_attn.to_out.0.bias"]
    block = unet.down_blocks[0].attentions[0].transformer_blocks[0]
    ours = block.attend_over_frames(stream.transpose(1, 2).flatten(0, 1), f).unflatten(0, (b, f)).transpose(1, 2)
    torch.testing.assert_close(ours, out, rtol=1e-5, atol=1e-5)


def open_clip_names(state):
    """The inverse of OpenCLIP's conversion, with one more layer, which Stable Diffusion 2.x does not read."""
    state = {key.removeprefix("text_model."): tensor for key, tensor in state.items()}
    layers = 1 + max(int(key.split(".")[2]) for key in state if key.startswith("encoder.layers."))
    stems = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj",
             "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}  # fmt: skip
    found = {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"], "ln_final.bias": state["final_layer_norm.bias"],
        "text_projection": torch.eye(4), "logit_scale": torch.ones(()), "visual.proj": torch.ones(4, 4),
        "visual.transformer.resblocks.0.attn.in_proj_weight": torch.ones(12, 4),
    }  # fmt: skip
    for layer in range(layers + 1):
        ours, theirs = f"encoder.layers.{min(layer, layers - 1)}", f"transformer.resblocks.{layer}"
        for kind in ("weight", "bias"):
            parts = [state[f"{ours}.self_attn.{name}_proj.{kind}"] for name in "qkv"]
            found[f"{theirs}.attn.in_proj_{kind}"] = torch.cat(parts)
            found |= {f"{theirs}.{new}.{kind}": state[f"{ours}.{old}.{kind}"] for old, new in stems.items()}
    return found


@pytest.mark.parametrize("named", [True, False])
@torch.no_grad()
def test_modelscopes_own_folder_loads_whole(named, tmp_path):
    # ModelScope's DDIM goes from t to max(t - 1000 / T, 0) by the table alone.
    pipeline = originals.modelscope(tmp_path, set_alpha_to_one=False)
    # As in the published files, norms have 32 groups, heads 64 channels, and the text encoder the real GELU.
    unet = originals.unet_3d(widths=(64, 128), heads=64, groups=32)
    vae = originals.vae(widths=(32, 64), groups=32)
    pipeline.text_encoder.config.hidden_act = "gelu"
    text = randomise(type(pipeline.text_encoder)(pipeline.text_encoder.config)).eval()
    found = identify_unet(unet.state_dict(), dict(unet.config))
    files = {
        "text2video_pytorch_model.pth": write_unet(found.config, found.tensors, "LDM"),
        "VQGAN_autoencoder.pth": {
            "state_dict": write_vae(*identify_vae(vae.state_dict(), dict(vae.config)), "ldm"), "epoch": 3,
        },
        "open_clip_pytorch_model.bin": open_clip_names(text.state_dict()),
    }  # fmt: skip
    folder = tmp_path / "damo"
    folder.mkdir()
    names = {name: f"renamed_{name}" if named else name for name in files}
    for name, tensors in files.items():
        torch.save(tensors, folder / names[name])
    arguments = {"max_frames": 12}
    if named:
        unet_file, vae_file, clip_file = names.values()
        arguments |= {"ckpt_unet": unet_file, "ckpt_autoencoder": vae_file, "ckpt_clip": clip_file}
    model = {"type": "latent-text-to-video-synthesis", "model_args": arguments,
             "model_cfg": {"num_timesteps": 1000, "mean_type": "eps", "temporal_attention": "True"}}  # fmt: skip
    (folder / "configuration.json").write_text(json.dumps({"framework": "pytorch", "model": model}))
    ours = load(folder, text_encoder=tmp_path / "model" / "tokenizer")
    assert (ours.diffusion.frames, ours.diffusion.schedule) == (12, "scaled_linear")
    clip = ours.generate("a cat", negative="dull", seed=3, **SETTINGS)
    pipeline.unet, pipeline.text_encoder, pipeline.vae = unet, text, vae
    theirs = originals.run(
        pipeline, clip.state.noise, prompt="a cat", negative_prompt="dull", num_inference_steps=5, guidance_scale=3.0,
        num_frames=4, width=32, height=32,
    )  # fmt: skip
    torch.testing.assert_close(clip.state.latents, theirs, rtol=1e-4, atol=1e-4)
    model["model_cfg"]["mean_type"] = "x0"
    (folder / "configuration.json").write_text(json.dumps({"model": model}))
    with pytest.raises(FormatError, match="says mean_type 'x0', expected 'eps' or 'v'"):
        load(folder, text_encoder=tmp_path / "model" / "tokenizer")
