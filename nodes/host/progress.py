"""What the page is shown while clips are made: a bar, a line of text, and the clip as it is so far, moving."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.utils
import latent_preview
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from PIL import Image
from server import PromptServer
from torch import Tensor

FRAMES, SIDE = 16, 192  # at most so many frames, and at least so many pixels, in a picture
FRAME_MS = 125


def tell(text: str) -> None:
    """Show a line of text in the node that is running, or in the one that it is a part of."""
    context, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if context is not None and server is not None:
        display = get_progress_state().dynprompt.get_display_node_id(context.node_id)
        server.send_progress_text(text, display)


def place_in_video() -> tuple[int, int]:
    """Which clip of how many the running node makes, (0, 1) if it is no part of Long Video."""
    context = get_executing_context()
    if context is None:
        return 0, 1
    prompt = get_progress_state().dynprompt
    parent = prompt.get_parent_node_id(context.node_id)
    if parent is None:
        return 0, 1
    kind = prompt.get_node(context.node_id)["class_type"]
    parts = [
        each
        for each in prompt.all_node_ids()
        if prompt.get_parent_node_id(each) == parent and prompt.get_node(each)["class_type"] == kind
    ]
    parts.sort(key=lambda name: int(name.rpartition("_")[2]))
    return parts.index(context.node_id), len(parts)


def step_callback(model: Any, steps: int) -> Callable[[int, Tensor, Tensor, int], None]:
    """What the host's samplers call after each step. The bar goes over all clips of Long Video."""
    clip, clips = place_in_video()
    bar = comfy.utils.ProgressBar(clips * steps)
    preview = _previewer(model)
    name = f"clip {clip + 1} of {clips}, " if clips > 1 else ""

    def callback(step: int, x0: Tensor, x: Tensor, total: int) -> None:
        tell(f"{name}step {step + 1} of {steps}")
        bar.update_absolute(min(clip * steps + step + 1, (clip + 1) * steps), clips * steps, preview(x0))

    return callback


class MovingPicture(Image.Image):
    """Frames that the host's server sends as one picture: it has it saved as PNG, and browsers play an APNG."""

    frames: list[Image.Image]

    @classmethod
    def of(cls, frames: list[Image.Image]) -> MovingPicture:
        moving = cls()
        moving.__dict__.update(frames[0].__dict__)
        moving.frames = frames
        return moving

    def save(self, fp: Any, format: str | None = None, **_: Any) -> None:
        first, *others = self.frames
        first.save(fp, "PNG", save_all=True, append_images=others, duration=FRAME_MS, loop=0, compress_level=1)


def _previewer(model: Any) -> Callable[[Tensor], tuple[str, Image.Image, int | None] | None]:
    """Latents [1, C, F, h, w] to what the host's progress bar takes as a picture."""
    latent_format = model.get_model_object("latent_format")
    chosen = latent_preview.get_previewer(model.load_device, latent_format)
    if chosen is not None and type(chosen) is not latent_preview.Latent2RGBPreviewer:
        return lambda x0: chosen.decode_latent_to_preview_image("JPEG", x0)  # a better one that the user chose
    factors = latent_format.latent_rgb_factors
    if factors is None:
        return lambda x0: None
    rgb = chosen or latent_preview.Latent2RGBPreviewer(factors, latent_format.latent_rgb_factors_bias)

    def picture(x0: Tensor) -> tuple[str, Image.Image, int | None] | None:
        count = x0.shape[2]
        shown = range(0, count, -(-count // FRAMES))
        frames = [rgb.decode_latent_to_preview(x0[:1, :, j : j + 1]) for j in shown]
        times = max(1, SIDE // max(frames[0].size))
        size = (frames[0].width * times, frames[0].height * times)
        return "PNG", MovingPicture.of([frame.resize(size, Image.Resampling.NEAREST) for frame in frames]), None

    return picture
