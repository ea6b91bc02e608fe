"""Small models of ComfyUI's own classes with random weights, of the families in common use, for any CPU."""

import importlib

import pytest
import torch

CONFIGS = {
    "wan": ("WAN21_T2V", {
        "image_model": "wan2.1", "model_type": "t2v", "in_dim": 16, "out_dim": 16, "dim": 24, "num_heads": 2,
        "num_layers": 2, "ffn_dim": 32, "freq_dim": 32, "text_dim": 16, "text_len": 8,
    }),
    "ltxv": ("LTXV", {
        "image_model": "ltxv", "in_channels": 128, "num_attention_heads": 2, "attention_head_dim": 12,
        "cross_attention_dim": 24, "caption_channels": 16, "num_layers": 2,
    }),
    "ltxav": ("LTXAV", {
        "image_model": "ltxav", "in_channels": 128, "num_attention_heads": 2, "attention_head_dim": 16,
        "cross_attention_dim": 32, "audio_num_attention_heads": 2, "audio_attention_head_dim": 8,
        "audio_cross_attention_dim": 16, "audio_in_channels": 128, "caption_channels": 16, "num_layers": 2,
        "connector_attention_head_dim": 8, "connector_num_attention_heads": 2, "connector_num_layers": 1,
    }),
    "h3": ("MiniMaxH3", {
        "image_model": "minimax_h3", "hidden_size": 32, "num_layers": 2, "token_refiner_num_layers": 1,
        "num_attention_heads": 2, "attention_head_dim": 16, "ffn_hidden_size": 32, "text_dim": 16,
        "timestep_input_dim": 16, "time_embed_hidden_size": 32, "time_embed_dim": 16, "rope_inv_freq_len": 2,
    }),
    "hunyuan": ("HunyuanVideo", {
        "image_model": "hunyuan_video", "in_channels": 16, "out_channels": 16, "patch_size": [1, 2, 2],
        "vec_in_dim": 8, "context_in_dim": 16, "hidden_size": 24, "mlp_ratio": 2.0, "num_heads": 2, "depth": 1,
        "depth_single_blocks": 1, "axes_dim": [4, 4, 4], "theta": 256, "qkv_bias": True, "guidance_embed": True,
        "byt5": False, "meanflow": False, "use_cond_type_embedding": False, "vision_in_dim": None,
        "meanflow_sum": False,
    }),
    "kandinsky": ("Kandinsky5", {
        "image_model": "kandinsky5", "in_visual_dim": 16, "out_visual_dim": 16, "in_text_dim": 16, "in_text_dim2": 8,
        "time_dim": 16, "model_dim": 24, "ff_dim": 32, "visual_embed_dim": 132, "num_text_blocks": 1,
        "num_visual_blocks": 2, "axes_dims": [4, 4, 4],
    }),
    "sd15": ("SD15", {
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1, 1],
        "channel_mult": [1, 2], "transformer_depth": [1, 1], "transformer_depth_output": [1, 1, 1, 1],
        "transformer_depth_middle": 1, "context_dim": 16, "num_heads": 2, "use_spatial_transformer": True,
        "use_temporal_attention": False, "adm_in_channels": None, "legacy": False, "use_linear_in_transformer": False,
    }),
}  # fmt: skip
WAN = {  # its relatives: the class, and the parameters that differ
    "wan i2v": ("WAN21_I2V", {"model_type": "i2v", "in_dim": 36}),
    "wan control": ("WAN21_FunControl2V", {"model_type": "i2v", "in_dim": 48}),
    "wan camera": ("WAN21_Camera", {"model_type": "camera", "in_dim": 32}),
    "wan 5b": ("WAN22_T2V", {"in_dim": 48, "out_dim": 48}),
    "wan vace": ("WAN21_Vace", {"model_type": "vace", "vace_layers": 1, "vace_in_dim": 96}),
}
LENGTHS = {"ltxav": 32}  # of texts' numbers, if not 16: half are for video, half for sound
SHAPES = {
    "wan": (1, 16, 8, 4, 4), "ltxv": (1, 128, 8, 3, 3), "hunyuan": (1, 16, 8, 4, 4), "sd15": (8, 4, 8, 8),
    "sd15 v": (8, 4, 8, 8),
}  # fmt: skip


def across_frames(apply, given):
    """A minimal motion module: each frame in a batch depends on the others."""
    out = apply(given["input"], given["timestep"], **given["c"])
    parts = out.chunk(len(given["cond_or_uncond"]))
    return torch.cat([part + 0.3 * part.roll(1, 0) for part in parts])


def build_model(kind, unet, v_prediction=False):
    """A MODEL of a class of `comfy.supported_models` with random weights."""
    supported = importlib.import_module("comfy.supported_models")
    patcher, management = (importlib.import_module(f"comfy.{each}") for each in ("model_patcher", "model_management"))
    if unet.get("image_model") == "hunyuan_video":  # whose parameters differ from version to version
        known = importlib.import_module("comfy.ldm.hunyuan_video.model").HunyuanVideoParams.__dataclass_fields__
        unet = {key: value for key, value in unet.items() if key == "image_model" or key in known}
    if not hasattr(supported, kind):
        pytest.skip(f"this host has no {kind}")
    config = getattr(supported, kind)(dict(unet))
    config.set_inference_dtype(torch.float32, None)
    model_type = importlib.import_module("comfy.model_base").ModelType
    if v_prediction:
        config.model_type = lambda state_dict, prefix="": model_type.V_PREDICTION
    model = config.get_model({}, "", device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for key, tensor in model.diffusion_model.state_dict().items():
            if tensor.is_floating_point():
                level = 1.0 if key.endswith(("norm.weight", "norm_q.weight", "norm_k.weight")) else 0.15
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * level)
    return patcher.ModelPatcher(model, management.get_torch_device(), management.unet_offload_device())


def small_model(name):
    """A MODEL, its conditioning, positive and negative, and an empty latent."""
    base = name.split()[0]
    kind, unet = CONFIGS[base]
    if name in WAN:
        kind, unet = WAN[name][0], {**unet, **WAN[name][1]}
    patched = build_model(kind, unet, name.endswith(" v"))
    if base == "sd15":
        patched.set_model_unet_function_wrapper(across_frames)
    generator = torch.Generator().manual_seed(8)
    conds = []
    for _ in range(2):
        text = torch.randn(1, 8, LENGTHS.get(base, 16), generator=generator)
        more = {"attention_mask": torch.ones(1, 8)} if base == "ltxv" else {}
        conds.append([[text, {"pooled_output": torch.randn(1, 8, generator=generator), **more}]])
    return patched, *conds, {"samples": torch.zeros(SHAPES.get(base, SHAPES["ltxv"]))}


def small_vae(host, channels=16, factor=4):
    """Wan 2.1's VAE, narrow, with random weights, as ComfyUI's VAE; `factor` frames are one latent, 4 or 8."""
    wan = importlib.import_module("comfy.ldm.wan.vae").WanVAE(
        dim=8, z_dim=channels, dim_mult=[1, 1, 1, 1], num_res_blocks=1, attn_scales=[],
        temperal_downsample=[factor == 8, True, True], dropout=0.0,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in wan.state_dict().items():
            level = 1.0 if name.endswith("gamma") else 2.0 / max(1, tensor[0].numel()) ** 0.5
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(torch.ones_like(tensor) if name.endswith("gamma") else noise * level)
    vae = host.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})
    vae.first_stage_model = wan.eval().to(vae.vae_dtype)
    vae.latent_channels, vae.latent_dim, vae.output_channels = channels, 3, 3
    vae.upscale_ratio, vae.upscale_index_formula = (lambda a: max(0, (a - 1) * factor + 1), 8, 8), (factor, 8, 8)
    vae.downscale_ratio, vae.downscale_index_formula = (
        (lambda a: max(0, (a + factor - 1) // factor), 8, 8),
        (factor, 8, 8),
    )
    management = importlib.import_module("comfy.model_management")
    vae.patcher = importlib.import_module("comfy.model_patcher").ModelPatcher(
        vae.first_stage_model, load_device=vae.device, offload_device=management.vae_offload_device()
    )
    return vae


def image_vae(host):
    """Stable Diffusion's small VAE with random weights, as ComfyUI's VAE."""
    taesd = importlib.import_module("comfy.taesd.taesd").TAESD()
    generator = torch.Generator().manual_seed(0)
    return host.sd.VAE(
        sd={name: torch.randn(each.shape, generator=generator) * 0.1 for name, each in taesd.state_dict().items()}
    )
