"""Small workflows in the API format, of the families that templates have."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any


def wan() -> dict[str, Any]:
    """Text to video by one KSampler, with a LoRA."""
    return {
        "1": node("UNETLoader", unet_name="wan.safetensors", weight_dtype="default"),
        "2": node("CLIPLoader", clip_name="umt5.safetensors", type="wan", device="default"),
        "3": node("VAELoader", vae_name="wan_vae.safetensors"),
        "4": node("LoraLoaderModelOnly", model=["1", 0], lora_name="film.safetensors", strength_model=0.7),
        "5": node("CLIPTextEncode", text="a fox", clip=["2", 0]),
        "6": node("CLIPTextEncode", text="ugly", clip=["2", 0]),
        "7": node("EmptyHunyuanLatentVideo", width=832, height=480, length=33, batch_size=1),
        "8": node(
            "KSampler", model=["4", 0], positive=["5", 0], negative=["6", 0], latent_image=["7", 0], seed=82,
            steps=30, cfg=6.5, sampler_name="uni_pc", scheduler="simple", denoise=1.0,
        ),
        "9": node("VAEDecode", samples=["8", 0], vae=["3", 0]),
        "10": node("CreateVideo", images=["9", 0], fps=16.0),
        "11": node("SaveVideo", video=["10", 0], filename_prefix="video/fox", format="auto", codec="auto"),
    }  # fmt: skip


def image_to_video() -> dict[str, Any]:
    """The same from a picture, by KSamplerAdvanced, to an animated WebP."""
    graph = wan()
    graph["12"] = node("LoadImage", image="fox.png")
    graph["7"] = node(
        "WanImageToVideo", positive=["5", 0], negative=["6", 0], vae=["3", 0], width=832, height=480, length=33,
        batch_size=1, start_image=["12", 0],
    )  # fmt: skip
    graph["8"] = node(
        "KSamplerAdvanced", model=["4", 0], positive=["7", 0], negative=["7", 1], latent_image=["7", 2],
        noise_seed=5, add_noise="enable", steps=20, cfg=3.5, sampler_name="euler", scheduler="simple",
        start_at_step=0, end_at_step=10000, return_with_leftover_noise="disable",
    )  # fmt: skip
    graph["10"] = node(
        "SaveAnimatedWEBP", images=["9", 0], filename_prefix="fox", fps=12.0, lossless=False, quality=90,
        method="default",
    )  # fmt: skip
    del graph["11"]
    return graph


def custom() -> dict[str, Any]:
    """Text to video by SamplerCustomAdvanced."""
    graph = wan()
    graph["8"] = node(
        "SamplerCustomAdvanced", noise=["12", 0], guider=["13", 0], sampler=["14", 0], sigmas=["15", 0],
        latent_image=["7", 0],
    )  # fmt: skip
    graph["12"] = node("RandomNoise", noise_seed=11)
    graph["13"] = node("CFGGuider", model=["4", 0], positive=["5", 0], negative=["6", 0], cfg=4.0)
    graph["14"] = node("KSamplerSelect", sampler_name="euler")
    graph["15"] = node("BasicScheduler", model=["4", 0], scheduler="beta", steps=20, denoise=1.0)
    return graph


def sampler_custom() -> dict[str, Any]:
    """The same by SamplerCustom, decoded in tiles, to WebM."""
    graph = custom()
    graph["8"] = node(
        "SamplerCustom", model=["4", 0], add_noise=True, noise_seed=12, cfg=3.0, positive=["5", 0],
        negative=["6", 0], sampler=["14", 0], sigmas=["15", 0], latent_image=["7", 0],
    )  # fmt: skip
    graph["9"] = node(
        "VAEDecodeTiled", samples=["8", 0], vae=["3", 0], tile_size=512, overlap=64, temporal_size=64,
        temporal_overlap=8,
    )  # fmt: skip
    graph["10"] = node("SaveWEBM", images=["9", 0], filename_prefix="fox", codec="vp9", fps=24.0, crf=30.0)
    del graph["11"], graph["12"], graph["13"]
    return graph


def with_sound() -> dict[str, Any]:
    """Picture and sound by SamplerCustomAdvanced, separated before they are decoded."""
    graph = custom()
    graph["16"] = node("LTXVSeparateAVLatent", av_latent=["8", 1])
    graph["9"]["inputs"]["samples"] = ["16", 0]
    graph["17"] = node("VAELoader", vae_name="sound.safetensors")
    graph["18"] = node("LTXVAudioVAEDecode", samples=["16", 1], audio_vae=["17", 0])
    graph["10"]["inputs"]["audio"] = ["18", 0]
    return graph


def two_passes() -> dict[str, Any]:
    """Picture and sound from a picture in two passes, as LTX-2's templates have it."""
    graph = with_sound()
    graph["7"] = node("EmptyLTXVLatentVideo", width=384, height=256, length=97, batch_size=1)
    graph["20"] = node("LoadImage", image="fox.png")
    graph["21"] = node(
        "LTXVImgToVideoInplace", vae=["3", 0], image=["20", 0], latent=["7", 0], strength=0.7, bypass=False
    )
    graph["22"] = node("LTXVEmptyLatentAudio", audio_vae=["17", 0], frames_number=97, frame_rate=25, batch_size=1)
    graph["23"] = node("LTXVConcatAVLatent", video_latent=["21", 0], audio_latent=["22", 0])
    graph["24"] = node("LTXVConditioning", positive=["5", 0], negative=["6", 0], frame_rate=25.0)
    graph["13"]["inputs"] |= {"positive": ["24", 0], "negative": ["24", 1]}
    first = graph["8"]["inputs"] | {"latent_image": ["23", 0]}
    graph["30"] = node("SamplerCustomAdvanced", **first)
    graph["31"] = node("LTXVSeparateAVLatent", av_latent=["30", 0])
    graph["32"] = node("LTXVCropGuides", positive=["24", 0], negative=["24", 1], latent=["31", 0])
    graph["33"] = node("LatentUpscaleModelLoader", model_name="ltx-2-spatial-upscaler-x2-1.0.safetensors")
    graph["34"] = node("LTXVLatentUpsampler", samples=["32", 2], upscale_model=["33", 0], vae=["3", 0])
    graph["35"] = node(
        "LTXVImgToVideoInplace", vae=["3", 0], image=["20", 0], latent=["34", 0], strength=1.0, bypass=False
    )
    graph["36"] = node("LTXVConcatAVLatent", video_latent=["35", 0], audio_latent=["31", 1])
    graph["37"] = node("CFGGuider", model=["4", 0], positive=["32", 0], negative=["32", 1], cfg=1.0)
    graph["38"] = node("RandomNoise", noise_seed=5)
    graph["39"] = node("ManualSigmas", sigmas="0.909375, 0.725, 0.421875, 0.0")
    graph["8"]["inputs"] |= {
        "noise": ["38", 0], "guider": ["37", 0], "sigmas": ["39", 0], "latent_image": ["36", 0],
    }  # fmt: skip
    return graph


def from_a_picture() -> dict[str, Any]:
    """A picture begins the latents of a model that needs none."""
    graph = custom()
    graph["20"] = node("LoadImage", image="fox.png")
    graph["7"] = node(
        "LTXVImgToVideo", positive=["5", 0], negative=["6", 0], vae=["3", 0], image=["20", 0], width=384,
        height=256, length=97, batch_size=1, strength=1.0,
    )  # fmt: skip
    graph["13"]["inputs"] |= {"positive": ["7", 0], "negative": ["7", 1]}
    graph["8"]["inputs"]["latent_image"] = ["7", 2]
    return graph


def first_and_last() -> dict[str, Any]:
    """Picture and sound from a first and a last frame, which guide the clip."""
    graph = with_sound()
    graph["7"] = node("EmptyLTXVLatentVideo", width=384, height=256, length=97, batch_size=1)
    graph["20"] = node("LoadImage", image="first.png")
    graph["21"] = node("LoadImage", image="last.png")
    graph["22"] = node(
        "LTXVAddGuide", positive=["5", 0], negative=["6", 0], vae=["3", 0], latent=["7", 0], image=["20", 0],
        frame_idx=0, strength=0.7,
    )  # fmt: skip
    graph["23"] = node(
        "LTXVAddGuide", positive=["22", 0], negative=["22", 1], vae=["3", 0], latent=["22", 2], image=["21", 0],
        frame_idx=-1, strength=0.7,
    )  # fmt: skip
    graph["24"] = node("LTXVEmptyLatentAudio", audio_vae=["17", 0], frames_number=97, frame_rate=25, batch_size=1)
    graph["25"] = node("LTXVConcatAVLatent", video_latent=["23", 2], audio_latent=["24", 0])
    graph["8"]["inputs"]["latent_image"] = ["25", 0]
    graph["13"]["inputs"] |= {"positive": ["23", 0], "negative": ["23", 1]}
    graph["26"] = node("LTXVCropGuides", positive=["23", 0], negative=["23", 1], latent=["16", 0])
    graph["9"]["inputs"]["samples"] = ["26", 2]
    return graph


def with_reference() -> dict[str, Any]:
    """Wan VACE with a reference picture, of which the first latent is cut off."""
    graph = wan()
    graph["20"] = node("LoadImage", image="fox.png")
    graph["7"] = node(
        "WanVaceToVideo", positive=["5", 0], negative=["6", 0], vae=["3", 0], width=832, height=480, length=33,
        batch_size=1, strength=1.0, reference_image=["20", 0],
    )  # fmt: skip
    graph["8"]["inputs"] |= {"positive": ["7", 0], "negative": ["7", 1], "latent_image": ["7", 2]}
    graph["21"] = node("TrimVideoLatent", samples=["8", 0], trim_amount=["7", 3])
    graph["9"]["inputs"]["samples"] = ["21", 0]
    return graph


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """A node of a prompt."""
    return {"class_type": class_type, "inputs": inputs}


def same(graph: dict[str, Any]) -> list[str]:
    """What is equal for graphs that differ in their ids, titles and order alone."""
    known: dict[str, str] = {}

    def described(key: str) -> str:
        if key not in known:
            inputs = {
                name: [described(value[0]), value[1]] if isinstance(value, list) else value
                for name, value in sorted(graph[key]["inputs"].items())
            }
            text = json.dumps([graph[key]["class_type"], inputs], sort_keys=True)
            known[key] = f"{graph[key]['class_type']} {hashlib.sha256(text.encode()).hexdigest()}"
        return known[key]

    return sorted(described(key) for key in graph)


MAKERS = (
    *(wan, image_to_video, custom, sampler_custom, with_sound, two_passes, from_a_picture, first_and_last),
    with_reference,
)
FAMILIES = {each.__name__: each for each in MAKERS}


def changed(graph: dict[str, Any], **changes: dict[str, Any]) -> dict[str, Any]:
    """A copy with other inputs of nodes: {n8: {input: value}}; None takes an input out."""
    graph = copy.deepcopy(graph)
    for key, inputs in changes.items():
        given = graph[key[1:]]["inputs"]
        given |= inputs
        for name in [name for name, value in inputs.items() if value is None]:
            del given[name]
    return graph
