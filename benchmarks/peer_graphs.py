"""Long-video methods in ComfyUI, as graphs with the built-in MODEL: Reuse & Diffuse, and context windows.

Context windows denoise all frames of a video together and average predictions where windows overlap: ComfyUI's own,
and those of AnimateDiff-Evolved, which takes the frames as a batch of images.
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
    """A video to make.

    Args:
        frames: Its frames, or a few less than it gets.
        prompt: What it shows.
        steps: Denoising steps.
        seed: The seed of its noise.
        name: The prefix of its file.
    """

    frames: int
    prompt: str
    steps: int
    seed: int
    name: str


@dataclass(frozen=True)
class Peer:
    """A long-video method.

    Args:
        name: Its name in reports.
        nodes: The nodes that it adds to a graph of the model's parts, for a task.
        reuse: How its clips or windows overlap, as reuse settings.
        needs: The ComfyUI nodes that it needs, each with an input that older versions lack.
    """

    name: str
    nodes: Callable[[Task], Graph]
    reuse: ReuseSettings
    needs: Mapping[str, str] = field(default_factory=dict)

    def graph(self, task: Task) -> Graph:
        """The whole graph for a task, in API format."""
        return {**model_parts(), **self.nodes(task)}


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    """A node of a graph in API format."""
    return {"class_type": kind, "inputs": inputs}


def clips_for(frames: int, repeated: int) -> int:
    """The number of clips that show `frames` frames, if each repeats `repeated` frames of the previous one."""
    return 1 + max(0, math.ceil((frames - FRAMES) / (FRAMES - repeated)))


def model_parts() -> Graph:
    """The nodes that load the built-in model."""
    return {
        "unet": node("VidRD_LoadUNet3D", file=TINY, weight_dtype="default"),
        "model": node(CountPasses.NAME, model=["unet", 0]),
        "vae": node("VidRD_LoadTemporalVAE", file=TINY),
        "clip": node("VidRD_LoadTextEncoder", file=TINY),
    }


def reuse_and_diffuse(name: str) -> Callable[[Task], Graph]:
    """The node VidRD Long Video with a preset."""
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
    """ComfyUI's own context windows."""

    def nodes(task: Task) -> Graph:
        windows = node(
            "ContextWindowsManual", model=["model", 0], context_length=FRAMES, context_overlap=OVERLAP,
            context_schedule=schedule, context_stride=1, closed_loop=False, fuse_method="pyramid", dim=2,
            freenoise=freenoise,
        )  # fmt: skip
        return {"windows": windows, **at_once(task, ["windows", 0], ["empty", 0], ["sampled", 0])}

    return nodes


def animatediff_evolved(noise: str) -> Callable[[Task], Graph]:
    """AnimateDiff-Evolved's context windows, without a motion model."""

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
    """The nodes that sample, decode and save all frames together, ComfyUI's own."""
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


# --- nodes for this benchmark ---


class CountPasses:
    """A node that counts the frames that a MODEL denoises: `frames`, since it was last set to 0."""

    NAME, RETURN_TYPES, FUNCTION, CATEGORY = "Peers_CountPasses", ("MODEL",), "execute", ""
    frames = 0

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The inputs, in ComfyUI's form."""
        return {"required": {"model": ("MODEL",)}}

    def execute(self, model: Any) -> tuple[Any]:
        """Register the count."""
        model.model.diffusion_model.register_forward_pre_hook(self.count)
        return (model,)

    @classmethod
    def count(cls, _: Any, given: tuple[Any, ...]) -> None:
        """Count the frames of a call; a forward pre-hook."""
        cls.frames += given[0].shape[0] * given[0].shape[2]


class FramesAsBatch(CountPasses):
    """A node for a MODEL that takes the frames of a clip as a batch of images [F, C, H, W], as AnimateDiff does."""

    NAME = "Peers_FramesAsBatch"

    def execute(self, model: Any) -> tuple[Any]:
        """Wrap the model's calls."""
        import comfy.latent_formats

        model = model.clone()
        model.add_object_patch("latent_format", comfy.latent_formats.SD15())
        model.set_model_unet_function_wrapper(self.call)
        return (model,)

    @staticmethod
    def call(apply_model: Callable[..., Any], given: dict[str, Any]) -> Any:
        """Reshape a batch of images to clips for the model, and its prediction back."""
        images, halves = given["input"], len(given["cond_or_uncond"])
        frames = len(images) // halves
        clips = images.unflatten(0, (halves, frames)).transpose(1, 2)
        conditioning = {
            name: value[::frames] if isinstance(value, torch.Tensor) else value for name, value in given["c"].items()
        }
        return apply_model(clips, given["timestep"][::frames], **conditioning).transpose(1, 2).flatten(0, 1)


class ClipToBatch:
    """A node that converts a clip's latents [1, C, F, H, W] to a batch of images [F, C, H, W]."""

    NAME, RETURN_TYPES, FUNCTION, CATEGORY = "Peers_ClipToBatch", ("LATENT",), "execute", ""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The inputs, in ComfyUI's form."""
        return {"required": {"latent": ("LATENT",)}}

    def execute(self, latent: dict[str, Any]) -> tuple[dict[str, Any]]:
        """Convert the latents."""
        return ({"samples": latent["samples"][0].transpose(0, 1)},)


class BatchToClip(ClipToBatch):
    """A node that converts a batch of images [F, C, H, W] to a clip's latents [1, C, F, H, W]."""

    NAME = "Peers_BatchToClip"

    def execute(self, latent: dict[str, Any]) -> tuple[dict[str, Any]]:
        """Convert the latents."""
        return ({"samples": latent["samples"].transpose(0, 1)[None]},)


NODES = {each.NAME: each for each in (CountPasses, FramesAsBatch, ClipToBatch, BatchToClip)}
