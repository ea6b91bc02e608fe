"""MODEL, VAE and CLIP with ComfyUI's own nodes."""

import importlib
import inspect

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import vidrd_core

from .conftest import BUILT_IN, PROMPTS


def execute(node, **inputs):
    """Run a node of ComfyUI, of either node API."""
    if hasattr(node, "execute"):
        return node.execute(**inputs)
    return getattr(node(), node.FUNCTION)(**inputs)


@pytest.mark.parametrize(
    ("sampler", "scheduler"),
    [("euler", "normal"), ("dpmpp_2m", "karras"), ("euler_ancestral", "simple"), ("uni_pc", "sgm_uniform")],
)
def test_ksampler_with_samplers_and_schedulers(sample, sampler, scheduler):
    clip = sample(sampler=sampler, scheduler=scheduler)
    assert clip.shape == (1, 4, 8, 16, 16)
    assert clip.isfinite().all()
    assert torch.equal(clip, sample(sampler=sampler, scheduler=scheduler))


def test_ksampler_advanced_in_two_parts_equals_one_run(host, tiny, sample):
    def part(latent, start, end, add):
        made = host.nodes.KSamplerAdvanced().sample(
            tiny.model, add, 7, 4, 2.5, "euler", "normal", tiny.positive[0], tiny.negative, latent, start, end,
            "enable" if end < 4 else "disable",
        )  # fmt: skip
        return made[0]

    whole = part(part(tiny.latent, 0, 2, "enable"), 2, 10000, "disable")["samples"]
    torch.testing.assert_close(whole, sample(), rtol=1e-4, atol=1e-3)


def test_sampler_custom_advanced_with_basic_guider(host, tiny):
    custom = host.nodes_custom_sampler
    (guider,) = [execute(custom.BasicGuider, model=tiny.model, conditioning=tiny.positive[0])[0]]
    sigmas = execute(custom.BasicScheduler, model=tiny.model, scheduler="simple", steps=4, denoise=1.0)[0]
    sampler = host.samplers.sampler_object("euler")
    noise = custom.Noise_RandomNoise(5)
    made = execute(
        custom.SamplerCustomAdvanced,
        noise=noise, guider=guider, sampler=sampler, sigmas=sigmas, latent_image=tiny.latent,
    )  # fmt: skip
    assert made[0]["samples"].shape == (1, 4, 8, 16, 16)


def test_a_clip_equals_that_of_vidrd_core(host, tiny, run):
    model = vidrd_core.load("tiny")
    clip = model.generate(PROMPTS[0], steps=10, seed=1)
    latent = {"samples": clip.latents / 0.18215}
    image = host.nodes.VAEDecode().decode(tiny.vae, latent)[0]
    frames = (image.numpy() * 255).round().astype(int)
    assert image.shape == (8, 64, 64, 3)
    assert np.abs(frames - model.frames(clip)).max() <= 1
    tiled = host.nodes.VAEDecodeTiled().decode(tiny.vae, latent, 64, 16, 16, 8)[0]
    torch.testing.assert_close(tiled, image, rtol=0, atol=0.06)
    back = host.nodes.VAEEncode().encode(tiny.vae, image)[0]["samples"]
    assert back.shape == latent["samples"].shape
    assert torch.corrcoef(torch.stack([back.flatten(), latent["samples"].flatten()]))[0, 1] > 0.95


def test_decoding_in_chunks_equals_decoding_at_once(host, tiny):
    latent = torch.randn(1, 4, 21, 8, 8, generator=torch.manual_seed(0))
    image = host.nodes.VAEDecode().decode(tiny.vae, {"samples": latent})[0]
    inner = tiny.vae.first_stage_model.vae
    at_once = inner.decode(latent * 0.18215)[0].permute(1, 2, 3, 0)
    torch.testing.assert_close(image, (at_once / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-5)


def test_text_features_equal_those_of_vidrd_core_and_can_be_weighted(host, tiny):
    def encode(text):
        return host.nodes.CLIPTextEncode().encode(tiny.clip, text)[0]

    plain = encode(PROMPTS[0])[0][0]
    assert torch.equal(plain, vidrd_core.load("tiny").text_encoder.encode([PROMPTS[0]]))
    heavy = encode("a (red:1.3) circle moving right")[0][0]
    changed = (heavy - plain).abs().amax(dim=2)[0] > 1e-5
    assert changed.nonzero().flatten().tolist() == [2]  # after the start, "a" and "red"
    empty = encode("")[0][0]
    torch.testing.assert_close(heavy[0, 2], empty[0, 2] + 1.3 * (plain[0, 2] - empty[0, 2]))
    with pytest.raises(ValueError, match="this model does not know 'dragon'; it knows: "):
        encode("a (dragon:1.2)")
    both = host.nodes.ConditioningCombine().combine(encode(PROMPTS[0]), encode(PROMPTS[1]))[0]
    assert len(both) == 2


def test_conditioning_combine_samples(host, tiny, sample):
    both = host.nodes.ConditioningCombine().combine(*tiny.positive)[0]
    assert (sample(positive=both) - sample()).abs().max() > 0.01


def test_a_kohya_lora_patches_and_unpatches(host, tiny, sample, tmp_path):
    plain = sample()
    key = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    weight = tiny.model.model.diffusion_model.get_submodule(key).weight
    generator = torch.manual_seed(0)
    name = "lora_unet_" + key.replace(".", "_")
    lora = {
        f"{name}.lora_down.weight": torch.randn(2, weight.shape[1], generator=generator),
        f"{name}.lora_up.weight": torch.randn(weight.shape[0], 2, generator=generator),
        f"{name}.alpha": torch.tensor(2.0),
    }
    patched, _ = host.sd.load_lora_for_models(tiny.model, tiny.clip, lora, 1.0, 1.0)
    assert list(patched.patches) == [f"diffusion_model.{key}.weight"]
    assert (sample(patched) - plain).abs().max() > 0.01
    assert torch.equal(sample(), plain)


NAMINGS = {
    "diffusers": ("unet.{}.lora_A.weight", "unet.{}.lora_B.weight"),
    "peft": ("base_model.model.{}.lora_A.weight", "base_model.model.{}.lora_B.weight"),
    "before peft": ("unet.{}.lora.down.weight", "unet.{}.lora.up.weight"),
    "kohya": ("lora_unet_{_}.lora_down.weight", "lora_unet_{_}.lora_up.weight"),
}


@pytest.mark.parametrize("naming", NAMINGS)
def test_a_lora_of_any_naming_equals_that_of_vidrd_core(host, tiny, sample, tmp_path, naming):

    generator = torch.manual_seed(0)
    block, lora = "down_blocks.1.attentions.0.transformer_blocks.0", {}
    for name in (
        f"{block}.attn1.to_q",
        f"{block}.attn2.to_out.0",
        f"{block}.ff.net.0.proj",
        "mid_block.resnets.0.conv1",
    ):
        weight = tiny.model.model.diffusion_model.get_submodule(name).weight
        shapes = (2, *weight.shape[1:]), (weight.shape[0], 2, *[1] * (weight.ndim - 2))
        for key, shape in zip(NAMINGS[naming], shapes, strict=True):
            key = key.replace("{_}", name.replace(".", "_")).format(name)
            lora[key] = 0.3 * torch.randn(shape, generator=generator)
    save_file(lora, tmp_path / "lora.safetensors")
    ours = vidrd_core.load("tiny")
    plain = [tensor.clone() for tensor in ours.unet.state_dict().values()]
    ours.load_lora(tmp_path / "lora.safetensors", 0.8)
    changed = [name for name, tensor in zip(ours.unet.state_dict(), plain, strict=True)
               if not torch.equal(ours.unet.state_dict()[name], tensor)]  # fmt: skip
    patched, _ = host.sd.load_lora_for_models(tiny.model, None, lora, 0.8, 0.0)
    assert sorted(patched.patches) == sorted(f"diffusion_model.{name}" for name in changed)
    assert len(changed) == 4
    calculate = importlib.import_module("comfy.lora").calculate_weight
    for name in changed:
        key = f"diffusion_model.{name}"
        weight = tiny.model.model.state_dict()[key].clone()
        merged = calculate(patched.patches[key], weight, key)
        torch.testing.assert_close(merged, ours.unet.state_dict()[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["LoHa", "LoKr", "full"])
def test_lycoris_adapters_equal_those_of_vidrd_core(host, tiny, tmp_path, kind):
    generator = torch.manual_seed(0)
    name, norm = "lora_unet_mid_block_resnets_0_conv1", "lora_unet_mid_block_resnets_0_norm1"
    out, width, *kernel = tiny.model.model.diffusion_model.mid_block.resnets[0].conv1.weight.shape
    shapes = {
        "LoHa": {
            f"{name}.hada_w{n}_{side}": shape
            for n in (1, 2)
            for side, shape in (("a", (out, 2)), ("b", (2, width * 9)))
        },
        "LoKr": {
            f"{name}.lokr_w1": (2, 4),
            f"{name}.lokr_w2_a": (out // 2, 2),
            f"{name}.lokr_w2_b": (2, width // 4 * 9),
        },
        "full": {
            f"{name}.diff": (out, width, *kernel),
            f"{name}.diff_b": (out,),
            f"{norm}.w_norm": (width,),
            f"{norm}.b_norm": (width,),
        },
    }[kind]
    lora = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    lora |= {} if kind == "full" else {f"{name}.alpha": torch.tensor(3.0)}
    save_file(lora, tmp_path / "lora.safetensors")
    ours = vidrd_core.load("tiny")
    ours.load_lora(tmp_path / "lora.safetensors", 0.8)
    patched, _ = host.sd.load_lora_for_models(tiny.model, None, lora, 0.8, 0.0)
    assert len(patched.patches) == (4 if kind == "full" else 1)
    calculate = importlib.import_module("comfy.lora").calculate_weight
    for key, patches in patched.patches.items():
        merged = calculate(patches, tiny.model.model.state_dict()[key].clone(), key)
        expected = ours.unet.state_dict()[key.removeprefix("diffusion_model.")]
        torch.testing.assert_close(merged, expected, rtol=1e-5, atol=1e-5)


def test_context_windows(host, tiny, sample):
    windows = importlib.import_module("comfy_extras.nodes_context_windows").ContextWindowsManualNode
    known = inspect.signature(windows.execute).parameters
    settings = {
        "context_length": 8, "context_overlap": 4, "context_schedule": "standard_static", "context_stride": 1,
        "closed_loop": False, "fuse_method": "pyramid", "dim": 2, "freenoise": False,
    }  # fmt: skip
    model = windows.execute(model=tiny.model, **{k: v for k, v in settings.items() if k in known})[0]
    clip = sample(model, {"samples": torch.zeros(1, 4, 12, 16, 16)})
    assert clip.shape == (1, 4, 12, 16, 16)


def test_patches_of_another_clone_are_ignored(host, tiny, run):
    """Clones of a MODEL share its weights, and the patches of the one that is loaded."""
    other = tiny.model.clone()
    other.add_object_patch("latent_format", importlib.import_module("comfy.latent_formats").SD15())
    importlib.import_module("comfy.model_management").load_models_gpu([other])
    assert tiny.model.model.latent_format is other.object_patches["latent_format"]
    layout_of = importlib.import_module("custom_nodes_vidrd.nodes.host.latent_layout").layout_of
    assert layout_of(tiny.model).frame_dim == 2
    assert layout_of(other).frame_dim == 0


@pytest.mark.parametrize("dtype", ["fp8_e4m3fn", "fp8_e5m2"])
def test_fp8_weights_are_cast_when_used(run, sample, dtype):
    (model,) = run("LoadUNet3D", file=BUILT_IN, weight_dtype=dtype)
    assert model.model.diffusion_model.conv_in.weight.dtype.itemsize == 1
    clip, plain = sample(model), sample()
    assert torch.corrcoef(torch.stack([clip.flatten(), plain.flatten()]))[0, 1] > 0.8


def test_a_video_is_created_and_saved(host, tiny, sample, tmp_path):
    video = importlib.import_module("comfy_extras.nodes_video")
    image = host.nodes.VAEDecode().decode(tiny.vae, {"samples": sample()})[0]
    created = execute(video.CreateVideo, images=image, fps=8.0)[0]
    created.save_to(str(tmp_path / "clip.mp4"))
    frames, _ = importlib.import_module("vidrd_core.video").read_video(tmp_path / "clip.mp4")
    assert frames.shape == (8, 64, 64, 3)


def test_partially_loaded_weights(tiny, sample):
    """As with little memory: ComfyUI casts the other weights when they are used."""
    plain, model = sample(), tiny.model.clone()
    model.detach()
    model.partially_load(model.load_device, model.model_size() // 3)
    assert 0 < model.loaded_size() < model.model_size()
    cast = [m for m in model.model.diffusion_model.modules() if getattr(m, "comfy_cast_weights", False)]
    assert len(cast) > 10
    x, sigma = torch.randn(1, 4, 8, 16, 16, generator=torch.manual_seed(0)), torch.tensor([5.0])
    context = tiny.positive[0][0][0]
    part = model.model.apply_model(x, sigma, c_crossattn=context)
    model.detach()
    model.partially_load(model.load_device, 10**12)
    assert torch.equal(part, model.model.apply_model(x, sigma, c_crossattn=context))
    model.detach()
    assert torch.equal(sample(), plain)


def test_decoding_falls_back_to_tiles_when_out_of_memory(host, tiny, monkeypatch):
    latent = torch.randn(1, 4, 8, 16, 16, generator=torch.manual_seed(0))
    whole = host.nodes.VAEDecode().decode(tiny.vae, {"samples": latent})[0]
    decode, sizes = type(tiny.vae.first_stage_model).decode, []

    def short_of_memory(self, z, **options):
        sizes.append(z.shape[-1])
        if len(sizes) == 1:
            raise importlib.import_module("comfy.model_management").OOM_EXCEPTION("out of memory")
        return decode(self, z, **options)

    monkeypatch.setattr(type(tiny.vae.first_stage_model), "decode", short_of_memory)
    tiled = host.nodes.VAEDecode().decode(tiny.vae, {"samples": latent})[0]
    assert len(sizes) > 1
    assert tiled.shape == whole.shape
    torch.testing.assert_close(tiled, whole, rtol=0, atol=0.1)


def test_model_and_vae_can_be_copied_to_another_gpu(tiny):
    for patcher in (tiny.model, tiny.vae.patcher):
        if not hasattr(patcher, "deepclone_multigpu"):
            pytest.skip("this host runs on one GPU")
        copy = patcher.deepclone_multigpu(torch.device("cpu"))
        for name, tensor in patcher.model.state_dict().items():
            assert torch.equal(copy.model.state_dict()[name], tensor)


def test_a_deep_copy_of_the_model_samples_alike(tiny, sample):
    """As the host's training node makes one."""
    if "force_deepcopy" not in inspect.signature(tiny.model.clone).parameters:
        pytest.skip("this host makes no deep copies")
    copy = tiny.model.clone(force_deepcopy=True)
    assert copy.model is not tiny.model.model
    assert torch.equal(sample(copy), sample())
