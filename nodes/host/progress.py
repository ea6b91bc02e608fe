"""What the page is shown while clips are made: a bar, a line of text, and the clip as it is so far, moving."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.utils
import latent_preview
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from PIL import Image
from server import PromptServer
from torch import Tensor

from vidrd_core.models.latent_preview import preview_frames
from vidrd_core.video.tensors import to_frames

MANY = ("VidRD_LongVideo", "VidRD_CompareSettings")  # nodes that expand into one for each clip
EVENT = "vidrd.clip"  # what the pack's own script on the page listens to
FRAMES, SIDE = 16, 192  # at most so many frames, and at least so many pixels, in a picture
FRAME_MS = 125

Picture = tuple[str, Image.Image, int | None]


@dataclass(frozen=True)
class Place:
    """Which clip of a node of many the running node makes or writes, from 0; `node` is that node's id."""

    node: str
    clip: int
    clips: int

    def __str__(self) -> str:
        return f"clip {self.clip + 1} of {self.clips}"


def place() -> Place | None:
    """Where the running node is, found among all nodes; None if it is no part of one of many clips."""
    context = get_executing_context()
    if context is None:
        return None
    prompt = get_progress_state().dynprompt
    parent = prompt.get_parent_node_id(context.node_id)
    if parent is None or prompt.get_node(parent)["class_type"] not in MANY:
        return None
    kind = prompt.get_node(context.node_id)["class_type"]
    parts = [
        each
        for each in prompt.all_node_ids()
        if prompt.get_parent_node_id(each) == parent and prompt.get_node(each)["class_type"] == kind
    ]
    parts.sort(key=lambda name: int(name.rpartition("_")[2]))
    return Place(prompt.get_display_node_id(parent), parts.index(context.node_id), len(parts))


def tell(text: str, here: Place | None, **more: Any) -> None:
    """Show a line of text in the running node, or in that of many clips which it is a part of: `here`, of `place`."""
    context, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if context is None or server is None:
        return
    if here is None:
        server.send_progress_text(text, context.node_id)
        return
    server.send_progress_text(f"{here}: {text}", here.node)
    told = {"node": here.node, "clip": here.clip, "clips": here.clips, **more}
    server.send_sync(EVENT, told, server.client_id)


def tell_clips(clips: int) -> None:
    """Show in a node of many clips, which is running, how many it makes; what the host kept is told no more."""
    context, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if context is None or server is None:
        return
    node = get_progress_state().dynprompt.get_display_node_id(context.node_id)
    server.send_progress_text(f"{clips} clip{'s' * (clips > 1)}", node)
    server.send_sync(EVENT, {"node": node, "clip": 0, "clips": clips}, server.client_id)


def step_callback(model: Any, steps: int) -> Callable[[int, Tensor, Tensor, int], None]:
    """What the host's samplers call after each step. The bar goes over all clips of a node."""
    here = place()
    first, total = (here.clip * steps, here.clips * steps) if here else (0, steps)
    bar, preview = comfy.utils.ProgressBar(total), _previewer(model)

    def callback(step: int, x0: Tensor, x: Tensor, count: int) -> None:
        done, picture = min(step + 1, steps), preview(x0)
        # Such a node shows its result where the page would put the picture, and the page cannot do both.
        tell(f"step {done} of {steps}", here, share=done / steps, picture=_as_url(picture) if here else None)
        bar.update_absolute(first + done, total, None if here else picture)

    return callback


class MovingPicture(Image.Image):
    """Frames as one picture: the host's server calls its `save`, which writes an APNG, and browsers play that."""

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


def _previewer(model: Any) -> Callable[[Tensor], Picture | None]:
    """Latents [1, C, F, h, w] to what the host's progress bar takes as a picture."""
    latent_format = model.get_model_object("latent_format")
    chosen = latent_preview.get_previewer(model.load_device, latent_format)
    if chosen is not None and type(chosen) is not latent_preview.Latent2RGBPreviewer:
        return lambda x0: chosen.decode_latent_to_preview_image("JPEG", x0)  # a better one that the user chose
    factors, layers = latent_format.latent_rgb_factors, getattr(latent_format, "look", None)
    if factors is None:
        return lambda x0: None
    rgb = chosen or latent_preview.Latent2RGBPreviewer(factors, latent_format.latent_rgb_factors_bias)

    def frame(latents: Tensor) -> Image.Image:
        if layers is None:
            return rgb.decode_latent_to_preview(latents)
        colours = preview_frames(latents[0].movedim(1, 0).float().cpu(), layers)
        return Image.fromarray(to_frames(colours.movedim(1, 0))[0])

    def picture(x0: Tensor) -> Picture | None:
        if x0.ndim != 5:  # packed with sound
            return None
        count = x0.shape[2]
        shown = range(0, count, -(-count // FRAMES))
        frames = [frame(x0[:1, :, j : j + 1]) for j in shown]
        times = max(1, SIDE // max(frames[0].size))
        size = (frames[0].width * times, frames[0].height * times)
        return "PNG", MovingPicture.of([frame.resize(size, Image.Resampling.NEAREST) for frame in frames]), None

    return picture


def _as_url(picture: Picture | None) -> str | None:
    """A picture as the page takes it in an address."""
    if picture is None:
        return None
    file = io.BytesIO()
    picture[1].save(file, format=picture[0])
    return f"data:image/{picture[0].lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
