"""Ways to a long video in ComfyUI, as graphs over the built-in MODEL: Reuse & Diffuse clip by clip, and windows.

Windows are over all frames at once, whose predictions are averaged where they overlap: the host's own, and those of
AnimateDiff-Evolved, which takes frames for a batch of pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from vidrd_core.presets import preset
from vidrd_core.reuse import ReuseSettings

Graph = dict[str, Any]
TINY = "tiny (built in)"
FRAMES, SIDE = 8, 64  # of the built-in model's clips
OVERLAP = FRAMES // 4
SAMPLING = {"cfg": 2.5, "sampler_name": "dpmpp_2m", "scheduler": "ddim_uniform"}


@dataclass(frozen=True)
class Task:
    """A video to be made, of this many frames or a few more."""

    frames: int
    prompt: str
    steps: int
    seed: int
    name: str  # of its file


@dataclass(frozen=True)
class Peer:
    """A way to a long video: what it adds to a graph of the model's parts, and how its clips or windows lie.

    `reuse` tells how many frames of each are the last ones of the one before. `needs` are a host's nodes, and for
    each the input without which it is too old.
    """

    name: str
    nodes: Callable[[Task], Graph]
    reuse: ReuseSettings
    needs: Mapping[str, str] = field(default_factory=dict)

    def graph(self, task: Task) -> Graph:
        return {**model_parts(), **self.nodes(task)}


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def clips_for(frames: int, repeated: int) -> int:
    """How many clips it takes to show so many frames."""
    return 1 + max(0, math.ceil((frames - FRAMES) / (FRAMES - repeated)))


def model_parts() -> Graph:
    return {
        "unet": node("VidRD_LoadUNet3D", file=TINY, weight_dtype="default"),
        "model": node(CountPasses.NAME, model=["unet", 0]),
        "vae": node("VidRD_LoadTemporalVAE", file=TINY),
        "clip": node("VidRD_LoadTextEncoder", file=TINY),
    }


def reuse_and_diffuse(name: str) -> Callable[[Task], Graph]:
    """VidRD Long Video by a preset."""
    repeated = preset(name, FRAMES).repeated_frames

    def nodes(task: Task) -> Graph:
        return {
            "empty": node("VidRD_EmptyClip", width=SIDE, height=SIDE, frames=FRAMES, vae=["vae", 0]),
            "video": node(
                "VidRD_LongVideo", model=["model", 0], clip=["clip", 0], vae=["vae", 0], latent=["empty", 0],
                prompts=task.prompt, negative_prompt="", clips=clips_for(task.frames, repeated), seed=task.seed,
                steps=task.steps, **SAMPLING, prompt_frames=4, alpha=4.0, beta=0.4, order="auto", preset=name,
                filename_prefix=task.name, format="mp4", fps=8.0, scale=1,
                seed_per_clip="", cfg_per_clip="", alpha_per_clip="",
            ),
        }  # fmt: skip

    return nodes


def context_windows(schedule: str, freenoise: bool = False) -> Callable[[Task], Graph]:
    """The host's own windows."""

    def nodes(task: Task) -> Graph:
        windows = node(
            "ContextWindowsManual", model=["model", 0], context_length=FRAMES, context_overlap=OVERLAP,
            context_schedule=schedule, context_stride=1, closed_loop=False, fuse_method="pyramid", dim=2,
            freenoise=freenoise,
        )  # fmt: skip
        return {"windows": windows, **at_once(task, ["windows", 0], ["empty", 0], ["sampled", 0])}

    return nodes


def animatediff_evolved(noise: str) -> Callable[[Task], Graph]:
    """AnimateDiff-Evolved's windows without a motion model of its own."""

    def nodes(task: Task) -> Graph:
        return {
            "options": node(
                "ADE_StandardStaticContextOptions", context_length=FRAMES, context_overlap=OVERLAP,
                fuse_method="pyramid",
            ),
            "settings": node(
                "ADE_AnimateDiffSamplingSettings", batch_offset=0, noise_type=noise, seed_gen="comfy", seed_offset=0
            ),
            "batch model": node(FramesAsBatch.NAME, model=["model", 0]),
            "windows": node(
                "ADE_UseEvolvedSampling", model=["batch model", 0], beta_schedule="use existing",
                context_options=["options", 0], sample_settings=["settings", 0],
            ),
            "batch": node(ClipToBatch.NAME, latent=["empty", 0]),
            "frames": node(BatchToClip.NAME, latent=["sampled", 0]),
            **at_once(task, ["windows", 0], ["batch", 0], ["frames", 0]),
        }  # fmt: skip

    return nodes


def at_once(task: Task, model: list[Any], latent: list[Any], sampled: list[Any]) -> Graph:
    """All frames sampled, decoded and saved by the host's nodes."""
    return {
        "empty": node("VidRD_EmptyClip", width=SIDE, height=SIDE, frames=task.frames, vae=["vae", 0]),
        "positive": node("CLIPTextEncode", clip=["clip", 0], text=task.prompt),
        "negative": node("CLIPTextEncode", clip=["clip", 0], text=""),
        "sampled": node(
            "KSampler", model=model, positive=["positive", 0], negative=["negative", 0], latent_image=latent,
            seed=task.seed, steps=task.steps, **SAMPLING, denoise=1.0,
        ),
        "images": node("VAEDecode", samples=sampled, vae=["vae", 0]),
        "created": node("CreateVideo", images=["images", 0], fps=8.0),
        "video": node(
            "SaveVideo", video=["created", 0], filename_prefix=task.name, format="mp4", codec="h264"
        ),
    }  # fmt: skip


WINDOWS = ReuseSettings(OVERLAP, 0.0, order="forward")
EVOLVED = {"ADE_UseEvolvedSampling": "context_options"}
PEERS = (
    *(Peer(f"Reuse & Diffuse, {name}", reuse_and_diffuse(name), preset(name, FRAMES))
      for name in ("paper", "keep moving")),
    Peer("context windows, static", context_windows("standard_static"), WINDOWS),
    Peer("context windows, uniform", context_windows("standard_uniform"), WINDOWS),
    Peer("context windows, static, FreeNoise", context_windows("standard_static", freenoise=True), WINDOWS,
         {"ContextWindowsManual": "freenoise"}),
    Peer("AnimateDiff-Evolved, static", animatediff_evolved("default"), WINDOWS, EVOLVED),
    Peer("AnimateDiff-Evolved, static, FreeNoise", animatediff_evolved("FreeNoise"), WINDOWS, EVOLVED),
)  # fmt: skip


# --- nodes of this benchmark alone ---


class CountPasses:
    """A MODEL as it is, whose frames are counted as they pass: `frames` since it was last set to 0."""

    NAME, RETURN_TYPES, FUNCTION, CATEGORY = "Peers_CountPasses", ("MODEL",), "execute", ""
    frames = 0

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"model": ("MODEL",)}}

    def execute(self, model: Any) -> tuple[Any]:
        model.model.diffusion_model.register_forward_pre_hook(self.count)
        return (model,)

    @classmethod
    def count(cls, _: Any, given: tuple[Any, ...]) -> None:
        cls.frames += given[0].shape[0] * given[0].shape[2]


class FramesAsBatch(CountPasses):
    """A MODEL that takes a clip's frames for a batch of pictures [F, C, H, W], as AnimateDiff has them."""

    NAME = "Peers_FramesAsBatch"

    def execute(self, model: Any) -> tuple[Any]:
        import comfy.latent_formats

        model = model.clone()
        model.add_object_patch("latent_format", comfy.latent_formats.SD15())
        model.set_model_unet_function_wrapper(self.call)
        return (model,)

    @staticmethod
    def call(apply_model: Callable[..., Any], given: dict[str, Any]) -> Any:
        pictures, halves = given["input"], len(given["cond_or_uncond"])
        frames = len(pictures) // halves
        clips = pictures.unflatten(0, (halves, frames)).transpose(1, 2)
        told = {
            name: value[::frames] if isinstance(value, torch.Tensor) else value for name, value in given["c"].items()
        }
        return apply_model(clips, given["timestep"][::frames], **told).transpose(1, 2).flatten(0, 1)


class ClipToBatch:
    """A clip's latents [1, C, F, H, W] as a batch of pictures [F, C, H, W]."""

    NAME, RETURN_TYPES, FUNCTION, CATEGORY = "Peers_ClipToBatch", ("LATENT",), "execute", ""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"latent": ("LATENT",)}}

    def execute(self, latent: dict[str, Any]) -> tuple[dict[str, Any]]:
        return ({"samples": latent["samples"][0].transpose(0, 1)},)


class BatchToClip(ClipToBatch):
    """The way back."""

    NAME = "Peers_BatchToClip"

    def execute(self, latent: dict[str, Any]) -> tuple[dict[str, Any]]:
        return ({"samples": latent["samples"].transpose(0, 1)[None]},)


NODES = {each.NAME: each for each in (CountPasses, FramesAsBatch, ClipToBatch, BatchToClip)}
