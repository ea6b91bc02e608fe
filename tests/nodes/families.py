"""Every video family of ComfyUI, of its own classes: small, with random weights, and its image-to-video nodes."""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from .small_models import CONFIGS, across_frames, build_model

N = 8  # latents of a clip
WAN = CONFIGS["wan"][1]
HUNYUAN = CONFIGS["hunyuan"][1]
HUNYUAN15 = {
    **HUNYUAN, "in_channels": 65, "out_channels": 32, "patch_size": [1, 1, 1], "vec_in_dim": None,
    "vision_in_dim": 16, "guidance_embed": False, "use_cond_type_embedding": True,
}  # fmt: skip
COSMOS = {
    "image_model": "cosmos", "max_img_h": 16, "max_img_w": 16, "max_frames": 16, "in_channels": 16,
    "out_channels": 16, "patch_spatial": 2, "patch_temporal": 1, "concat_padding_mask": True, "model_channels": 24,
    "block_config": "FA-CA-MLP", "num_blocks": 2, "num_heads": 2, "crossattn_emb_channels": 16,
    "pos_emb_cls": "rope3d", "block_x_format": "THWBD", "affline_emb_norm": True, "use_adaln_lora": True,
    "adaln_lora_dim": 8, "extra_per_block_abs_pos_emb": True, "extra_per_block_abs_pos_emb_type": "learnable",
}  # fmt: skip
PREDICT2 = {
    "image_model": "cosmos_predict2", "max_img_h": 16, "max_img_w": 16, "max_frames": 16, "in_channels": 17,
    "out_channels": 16, "patch_spatial": 2, "patch_temporal": 1, "concat_padding_mask": True, "model_channels": 24,
    "num_blocks": 2, "num_heads": 2, "crossattn_emb_channels": 16, "pos_emb_cls": "rope3d", "use_adaln_lora": True,
    "adaln_lora_dim": 8, "mlp_ratio": 2.0,
}  # fmt: skip
COG = {
    "image_model": "cogvideox", "num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 16,
    "out_channels": 16, "time_embed_dim": 16, "text_embed_dim": 16, "num_layers": 2, "sample_width": 4,
    "sample_height": 4, "max_text_seq_length": 8, "use_rotary_positional_embeddings": True,
}  # fmt: skip
SVD = {
    **CONFIGS["sd15"][1], "model_channels": 64, "in_channels": 8, "use_linear_in_transformer": True,
    "adm_in_channels": 768, "use_temporal_attention": True, "use_temporal_resblock": True,
    "num_classes": "sequential", "extra_ff_mix_layer": True, "use_spatial_context": True,
    "merge_strategy": "learned_with_images", "merge_factor": 0.0, "video_kernel_size": [3, 1, 1],
}  # fmt: skip


class Pooled(torch.nn.Module):
    """The simplest encoder that compresses as a video VAE does: means of pixels, mixed into channels."""

    def __init__(self, channels, time, side):
        super().__init__()
        self.time, self.side = time, side
        self.mix = torch.nn.Linear(3, channels)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for tensor in self.parameters():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))

    def encode(self, video, **_):
        if video.ndim == 4:
            small = torch.nn.functional.avg_pool2d(video, self.side)
            return self.mix(small.movedim(1, -1)).movedim(-1, 1)
        groups = [video[:, :, :1], *(video[:, :, 1:].split(self.time, 2) if video.shape[2] > 1 else ())]
        small = torch.cat([each.mean(2, keepdim=True) for each in groups], 2)
        small = torch.nn.functional.avg_pool3d(small, (1, self.side, self.side))
        return self.mix(small.movedim(1, -1)).movedim(-1, 1)


def pooled_vae(host, channels, time, side):
    """`Pooled` as ComfyUI's VAE; `time` is 0 for one of images."""
    vae = host.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})
    vae.first_stage_model = Pooled(channels, time, side).eval().to(vae.vae_dtype)
    vae.latent_channels, vae.latent_dim, vae.output_channels = channels, 3 if time else 2, 3
    if time:
        vae.upscale_ratio, vae.upscale_index_formula = (
            (lambda a: max(0, (a - 1) * time + 1), side, side),
            (time, side, side),
        )
        vae.downscale_ratio, vae.downscale_index_formula = (
            (lambda a: max(0, (a + time - 1) // time), side, side),
            (time, side, side),
        )
    else:
        vae.upscale_ratio = vae.downscale_ratio = side
    management, patcher = (importlib.import_module(f"comfy.{each}") for each in ("model_management", "model_patcher"))
    vae.patcher = patcher.ModelPatcher(
        vae.first_stage_model, load_device=vae.device, offload_device=management.vae_offload_device()
    )
    return vae


def node(module, name):
    """A node of the host, as a function of its inputs that gives its outputs."""
    found = getattr(importlib.import_module(module), name)
    if hasattr(found, "GET_SCHEMA"):
        known = inspect.signature(found.execute).parameters  # older ones take less
        return lambda **given: found.execute(**{key: each for key, each in given.items() if key in known}).args
    made = found()
    return lambda **given: getattr(made, found.FUNCTION)(**given)


@dataclass
class Family:
    """A video family.

    Args:
        kind: The class of `comfy.supported_models`.
        unet: Its network's settings.
        shape: Of its empty latent.
        time: Frames that each latent after the first decodes to; 0: frames are in the batch.
        side: Pixels that a latent covers.
        image: Makes clips of a picture: from the family, the built parts and the picture, inputs of Extend.
        always: As `image`, but needed for any clip.
        cfg: The guidance scale.
        sampler: The sampler.
        model: Changes the built MODEL.
    """

    kind: str
    unet: dict[str, Any]
    shape: tuple[int, ...] = (1, 16, N, 4, 4)
    time: int = 4
    side: int = 8
    image: Callable[..., dict[str, Any]] | None = None
    always: Callable[..., dict[str, Any]] | None = None
    cfg: float = 3.0
    sampler: str = "euler"
    model: Callable[[Any], None] = field(default=lambda patched: None)

    @property
    def size(self) -> dict[str, int]:
        """Width, height and frames of a clip, as the host's nodes want them."""
        return {"width": self.side * self.shape[-1], "height": self.side * self.shape[-2], "length": self.frames}

    @property
    def frames(self) -> int:
        """Of a clip."""
        return (self.shape[2] - 1) * self.time + 1 if self.time else self.shape[0]


def from_node(module, name, outputs=("positive", "negative", "latent"), picture="start_image", conds=True, **more):
    """An `image` that takes what a node makes of a start image."""

    def image(family, built, pictures):
        given = {"positive": built.positive, "negative": built.negative} if conds else {}
        given |= {"vae": built.vae, **family.size, "batch_size": 1, picture: pictures, **more}
        return dict(zip(outputs, node(f"comfy_extras.{module}", name)(**given), strict=False))

    return image


def wan_image(name, picture="start_image", **more):
    return from_node("nodes_wan", name, picture=picture, **more)


def hunyuan_image(kind):
    def image(family, built, pictures):
        make = node("comfy_extras.nodes_hunyuan", "HunyuanImageToVideo")
        given = {"vae": built.vae, **family.size, "batch_size": 1, "guidance_type": kind, "start_image": pictures}
        positive, latent = make(positive=built.positive, **given)
        negative, _ = make(positive=built.negative, **given)
        return {"positive": positive, "negative": negative, "latent": latent}

    return image


def concat_image(family, built, pictures):
    """For families of which the host has no node of their own: the picture's latents beside the noise."""
    helpers = importlib.import_module("node_helpers")
    values = {"concat_latent_image": built.vae.encode(pictures)}
    conds = {name: helpers.conditioning_set_values(getattr(built, name), values) for name in ("positive", "negative")}
    return {**conds, "latent": built.latent}


def svd_image(family, built, pictures):
    generator = torch.Generator().manual_seed(11)
    seen = torch.randn(1, 16, generator=generator) + pictures.mean()
    vision = SimpleNamespace(encode_image=lambda _: SimpleNamespace(image_embeds=seen))
    size = {"width": family.size["width"], "height": family.size["height"], "video_frames": family.frames}
    make = node("comfy_extras.nodes_video_model", "SVD_img2vid_Conditioning")
    given = {"motion_bucket_id": 127, "fps": 6, "augmentation_level": 0.0, "vae": built.vae, "init_image": pictures}
    made = make(clip_vision=vision, **size, **given)
    return dict(zip(("positive", "negative", "latent"), made, strict=True))


def seedvr_image(family, built, pictures):
    make = node("comfy_extras.nodes_seedvr", "SeedVR2Conditioning")
    latent = {"samples": built.vae.encode(pictures.expand(family.frames, -1, -1, -1))}
    positive, negative = make(model=built.model, vae_conditioning=latent)
    return {"positive": positive, "negative": negative, "latent": built.latent}


def sr_image(family, built, pictures):
    make = node("comfy_extras.nodes_hunyuan", "HunyuanVideo15SuperResolution")
    low = built.vae.encode(pictures.expand(family.frames, -1, -1, -1))
    given = {"positive": built.positive, "negative": built.negative, "vae": built.vae, "noise_augmentation": 0.7}
    positive, negative, _ = make(latent={"samples": low}, start_image=pictures, **given)
    return {"positive": positive, "negative": negative, "latent": built.latent}


def ltxav_image(family, built, pictures):
    video, audio = built.latent["samples"].unbind()
    lt = "comfy_extras.nodes_lt"
    (begun,) = node(lt, "LTXVImgToVideoInplace")(
        vae=built.vae, image=pictures, latent={"samples": video}, strength=1.0
    )
    (latent,) = node(lt, "LTXVConcatAVLatent")(video_latent=begun, audio_latent={"samples": audio})
    return {"positive": built.positive, "negative": built.negative, "latent": latent}


def h3_image(family, built, pictures):
    make = node("comfy_extras.nodes_minimax_h3", "MiniMaxH3AddGuide")
    guided = {
        name: make(positive=getattr(built, name), latent=built.latent, frame_idx=0, vae=built.vae, image=pictures)[0]
        for name in ("positive", "negative")
    }
    return {**guided, "latent": built.latent}


def void_image(family, built, pictures):
    make = node("comfy_extras.nodes_void", "VOIDInpaintConditioning")
    mask = torch.zeros(family.frames, family.size["height"], family.size["width"])
    mask[:, : family.size["height"] // 2] = 1
    given = {"positive": built.positive, "negative": built.negative, "vae": built.vae, **family.size, "batch_size": 1}
    made = make(video=pictures.expand(family.frames, -1, -1, -1), quadmask=mask, **given)
    return dict(zip(("positive", "negative", "latent"), made, strict=True))


def ar_image(family, built, pictures):
    make = node("comfy_extras.nodes_ar_video", "ARVideoI2V")
    model, latent = make(model=built.model, vae=built.vae, start_image=pictures, **family.size, batch_size=1)
    return {"model": model, "positive": built.positive, "negative": built.negative, "latent": latent}


def humo_image(family, built, pictures):
    """With sound: without it, the host's node makes conditioning that its model does not take."""
    generator = torch.Generator().manual_seed(31)
    heard = [torch.randn(1, 2 * family.frames, 1280, generator=generator) for _ in range(33)]
    sound = {"encoded_audio_all_layers": heard, "audio_samples": 640 * family.frames}
    return wan_image("WanHuMoImageToVideo", "ref_image", audio_encoder_output=sound)(family, built, pictures)


def motion_module(patched):
    patched.set_model_unet_function_wrapper(across_frames)


def wan(kind, model_type="t2v", in_dim=16, image=None, **more):
    sizes = {key: value for key, value in more.items() if key not in Family.__dataclass_fields__}
    rest = {key: value for key, value in more.items() if key in Family.__dataclass_fields__}
    return Family(kind, {**WAN, "model_type": model_type, "in_dim": in_dim, **sizes}, image=image, **rest)


scail_image = from_node(
    "nodes_scail", "WanSCAILToVideo", picture="reference_image", pose_strength=1.0, pose_start=0.0, pose_end=1.0,
    video_frame_offset=0, previous_frame_count=5,
)  # fmt: skip
LATENT = {"outputs": ("latent",), "conds": False}
FAMILIES = {
    "Wan 2.1 T2V, 2.2 T2V A14B": wan("WAN21_T2V"),
    "Wan 2.1 I2V, 2.2 I2V A14B": wan("WAN21_I2V", "i2v", 36, wan_image("WanImageToVideo")),
    "Wan 2.1 and 2.2 Fun Control": wan("WAN21_FunControl2V", "i2v", 48, wan_image("WanFunControlToVideo")),
    "Wan 2.1 Fun Camera": wan(
        "WAN21_Camera", "camera", 32, wan_image("WanCameraImageToVideo"), in_dim_control_adapter=24
    ),
    "Wan 2.2 Fun Camera": wan(
        "WAN22_Camera", "camera_2.2", 36, wan_image("WanCameraImageToVideo"), in_dim_control_adapter=24
    ),
    "Wan 2.1 VACE": wan(
        "WAN21_Vace", "vace", image=wan_image("WanVaceToVideo", "reference_image", strength=1.0),
        vace_layers=2, vace_in_dim=96,
    ),
    "Wan 2.1 HuMo": wan("WAN21_HuMo", "humo", image=humo_image),
    "Wan 2.1 FlowRVS": wan("WAN21_FlowRVS", "flow_rvs"),
    "Wan 2.1 SCAIL": wan("WAN21_SCAIL", "scail", 20, scail_image),
    "Wan 2.1 SCAIL-2": wan("WAN21_SCAIL2", "scail2", 20, scail_image),
    "Wan 2.1 causal": wan("WAN21_CausalAR_T2V"),
    "Wan 2.1 causal, sampler ar_video": wan("WAN21_CausalAR_T2V", sampler="ar_video", image=ar_image, cfg=1.0),
    "Wan 2.2 TI2V 5B": wan(
        "WAN22_T2V", in_dim=48, out_dim=48, shape=(1, 48, N, 4, 4), side=16,
        image=from_node("nodes_wan", "Wan22ImageToVideoLatent", **LATENT),
    ),
    "Wan 2.2 S2V": wan(
        "WAN22_S2V", "s2v", image=wan_image("WanSoundImageToVideo", "ref_image"), audio_dim=16, num_audio_token=2,
        audio_inject_layers=[0, 1], cond_dim=16,
    ),
    "Wan 2.2 Animate": wan(
        "WAN22_Animate", "animate", 36,
        wan_image("WanAnimateToVideo", "reference_image", continue_motion_max_frames=5, video_frame_offset=0),
        motion_encoder_dim=512,
    ),
    "Wan Animate 2": wan(
        "WAN_Animate2", "animate2", 36, wan_image("WanAnimate2ToVideo", "reference_image", video_frame_offset=0)
    ),
    "Wan 2.2 WanDancer": wan("WAN22_WanDancer", "wandancer", 36, from_node("nodes_wandancer", "WanDancerVideo")),
    "LTX-Video": Family("LTXV", CONFIGS["ltxv"][1], (1, 128, N, 3, 3), 8, 32, from_node(
        "nodes_lt", "LTXVImgToVideo", picture="image", strength=1.0), cfg=1.0),
    "LTX-2": Family("LTXAV", CONFIGS["ltxav"][1], (1, 128, N, 3, 3), 8, 32, ltxav_image, cfg=1.0),
    "MiniMax H3": Family("MiniMaxH3", CONFIGS["h3"][1], (1, 24, 12, 4, 4), 4, 16, h3_image, cfg=1.0),
    "Hunyuan Video": Family("HunyuanVideo", HUNYUAN, image=hunyuan_image("v2 (replace)")),
    "Hunyuan Video I2V": Family(
        "HunyuanVideoI2V", {**HUNYUAN, "in_channels": 33}, image=hunyuan_image("v1 (concat)")
    ),
    "Hunyuan Video SkyReels I2V": Family(
        "HunyuanVideoSkyreelsI2V", {**HUNYUAN, "in_channels": 32}, image=concat_image
    ),
    "Hunyuan Video 1.5": Family(
        "HunyuanVideo15", HUNYUAN15, (1, 32, N, 4, 4), 4, 16, from_node("nodes_hunyuan", "HunyuanVideo15ImageToVideo")
    ),
    "Hunyuan Video 1.5 SR": Family(
        "HunyuanVideo15_SR_Distilled", {**HUNYUAN15, "in_channels": 98}, (1, 32, N, 4, 4), 4, 16, sr_image
    ),
    "Kandinsky 5": Family("Kandinsky5", {
        "image_model": "kandinsky5", "in_visual_dim": 16, "out_visual_dim": 16, "in_text_dim": 16, "in_text_dim2": 8,
        "time_dim": 16, "model_dim": 128, "ff_dim": 32, "visual_embed_dim": 132, "num_text_blocks": 1,
        "num_visual_blocks": 2,
    }, image=from_node("nodes_kandinsky5", "Kandinsky5ImageToVideo")),
    "Cosmos 1 T2V": Family("CosmosT2V", COSMOS, time=8),
    "Cosmos 1 I2V": Family(
        "CosmosI2V", {**COSMOS, "in_channels": 17}, time=8,
        image=from_node("nodes_cosmos", "CosmosImageToVideoLatent", **LATENT),
    ),
    "Cosmos Predict2 I2V": Family(
        "CosmosI2VPredict2", PREDICT2, image=from_node("nodes_cosmos", "CosmosPredict2ImageToVideoLatent", **LATENT)
    ),
    "Mochi": Family("GenmoMochi", {
        "image_model": "mochi_preview", "depth": 2, "num_heads": 2, "hidden_size_x": 24, "hidden_size_y": 16,
        "mlp_ratio_x": 512.0, "mlp_ratio_y": 2.0, "in_channels": 12, "t5_feat_dim": 16, "t5_token_length": 8,
        "use_t5": True, "learn_sigma": False, "qk_norm": True, "qkv_bias": False, "out_bias": True, "attn_drop": 0.0,
    }, (1, 12, N, 4, 4), 6),
    "CogVideoX": Family("CogVideoX_T2V", COG),
    "CogVideoX I2V": Family("CogVideoX_I2V", {**COG, "in_channels": 32}, image=concat_image),
    "CogVideoX Inpaint (VOID)": Family("CogVideoX_Inpaint", {**COG, "in_channels": 48}, image=void_image),
    "SeedVR2": Family("SeedVR2", {
        "image_model": "seedvr2", "norm_eps": 1e-5, "num_layers": 2, "mlp_type": "swiglu", "vid_dim": 24,
        "txt_in_dim": 5120, "heads": 2, "head_dim": 12, "mm_layers": 1, "qk_bias": False, "rope_dim": 12,
    }, image=seedvr_image, always=seedvr_image),
    "Stable Video Diffusion": Family("SVD_img2vid", SVD, (N, 4, 4, 4), 0, 8, svd_image),
    "Stable Diffusion 1.5 (AnimateDiff)": Family(
        "SD15", CONFIGS["sd15"][1], (N, 4, 4, 4), 0, 8, model=motion_module
    ),
}  # fmt: skip
IMAGES = {
    "HunyuanImage21Refiner": "refines one picture",
    "CosmosT2IPredict2": "makes one picture",
    "QwenImage": "makes pictures",
    "JoyImage": "makes pictures",
    "Krea2": "makes pictures",
    "Anima": "makes pictures",
}


def build(host, name):
    """A family's MODEL, VAE, conditionings and empty latent."""
    family = FAMILIES[name]
    supported = importlib.import_module("comfy.supported_models")
    if not hasattr(supported, family.kind):
        pytest.skip(f"this host has no {family.kind}")
    model = build_model(family.kind, dict(family.unet))
    family.model(model)
    generator = torch.Generator().manual_seed(13)
    length = 32 if family.kind == "LTXAV" else 16
    conds = []
    for _ in range(2):
        more = {"pooled_output": torch.randn(1, 8, generator=generator)}
        if family.kind in ("LTXV", "LTXAV", "GenmoMochi"):
            more["attention_mask"] = torch.ones(
                1, 8, dtype=torch.long if family.kind == "GenmoMochi" else torch.float
            )
        conds.append([[torch.randn(1, 8, length, generator=generator), more]])
    samples = torch.zeros(family.shape)
    if family.kind in ("LTXAV", "MiniMaxH3"):
        sound = (1, 8, 57, 16) if family.kind == "LTXAV" else (1, 32, 2, 65)
        samples = importlib.import_module("comfy.nested_tensor").NestedTensor([samples, torch.zeros(sound)])
    channels = family.shape[1]
    built = SimpleNamespace(
        model=model, vae=pooled_vae(host, channels, family.time, family.side), positive=conds[0], negative=conds[1],
        latent={"samples": samples}, family=family, name=name,
    )  # fmt: skip
    if family.always:
        for key, value in family.always(family, built, pictures(family)[0]).items():
            setattr(built, key, value)
    return built


def pictures(family):
    """Two pictures of the family's size."""
    generator = torch.Generator().manual_seed(17)
    size = (2, 1, family.size["height"], family.size["width"], 3)
    return torch.rand(size, generator=generator)
