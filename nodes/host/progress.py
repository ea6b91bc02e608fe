"""Progress on ComfyUI's page while clips are sampled: a bar, a line of text, and an animated preview."""

from __future__ import annotations

import base64
import io
import json
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

from .latent_layout import to_clip_layout

EXPANDING = ("VidRD_LongVideo", "VidRD_CompareSettings")  # nodes that expand into one for each clip
PART = "VidRD_LongVideoPart"  # or into these first, if there are many clips
EVENT = "vidrd.clip"  # the pack's script on the page listens to it
PREVIEW_FRAMES = 16  # at most
PREVIEW_SIDE = 192  # pixels, at least
FRAME_MS = 125

Preview = tuple[str, Image.Image, int | None]
"""What ComfyUI's progress bar takes: a format, a picture, and its largest side in pixels."""


@dataclass(frozen=True)
class ClipPosition:
    """Which clip the running node samples or writes, of a node that expands into several.

    Args:
        node: The id of that node, as the page knows it.
        clip: The clip's number, from 0.
        clips: How many clips there are.
    """

    node: str
    clip: int
    clips: int

    def __str__(self) -> str:
        return f"clip {self.clip + 1} of {self.clips}"


def clip_position() -> ClipPosition | None:
    """The position of the running node; None if it is not a part of one that expands."""
    context = get_executing_context()
    if context is None:
        return None
    prompt = get_progress_state().dynprompt
    parent = prompt.get_parent_node_id(context.node_id)
    if parent is None:
        return None
    if prompt.get_node(parent)["class_type"] == PART:
        parts = [prompt.get_node(each)["inputs"]["clips"] for each in _siblings(prompt, parent)]
        number = int(context.node_id.rpartition("_")[2])
        return ClipPosition(
            prompt.get_display_node_id(parent), number - 1, sum(len(json.loads(each)) for each in parts)
        )
    if prompt.get_node(parent)["class_type"] not in EXPANDING:
        return None
    siblings = _siblings(prompt, context.node_id)
    siblings.sort(key=lambda name: int(name.rpartition("_")[2]))
    return ClipPosition(prompt.get_display_node_id(parent), siblings.index(context.node_id), len(siblings))


def _siblings(prompt: Any, node_id: str) -> list[str]:
    """The nodes of the same kind that a node expanded into together with this one, itself among them."""
    parent, kind = prompt.get_parent_node_id(node_id), prompt.get_node(node_id)["class_type"]
    return [
        each
        for each in prompt.all_node_ids()
        if prompt.get_parent_node_id(each) == parent and prompt.get_node(each)["class_type"] == kind
    ]


def show_status(text: str, position: ClipPosition | None, **more: Any) -> None:
    """Show a line of text on the page.

    Args:
        text: The text.
        position: From `clip_position`: the text is shown in the expanding node, and the pack's script gets an event;
            None shows it in the running node.
        **more: Further entries of the event: "share" of the clip that is done, 0 to 1; "picture", a data URL; "kept",
            whether it is of an earlier run; "thumbnail", the name of a file in ComfyUI's temporary folder.
    """
    context, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if context is None or server is None:
        return
    if position is None:
        server.send_progress_text(text, get_progress_state().dynprompt.get_display_node_id(context.node_id))
        return
    server.send_progress_text(f"{position}: {text}", position.node)
    _send(server, context, position, **more)


def show_output(output: dict[str, Any], position: ClipPosition) -> None:
    """Show what a clip has made, as the page shows a node's output, without it being one of the run's results."""
    context, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if context is not None and server is not None:
        _send(server, context, position, share=1, output=output)


def show_clip_count(clips: int) -> None:
    """Show in the running node, which expands, how many clips it makes: cached ones will not report again."""
    context, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if context is None or server is None:
        return
    node = get_progress_state().dynprompt.get_display_node_id(context.node_id)
    server.send_progress_text(f"{clips} clip{'s' * (clips > 1)}", node)
    _send(server, context, ClipPosition(node, 0, clips))


def _send(server: Any, context: Any, position: ClipPosition, **more: Any) -> None:
    """Send the pack's script an event, which names the run: the page may have another workflow open."""
    event = {"run": context.prompt_id, "node": position.node, "clip": position.clip, "clips": position.clips, **more}
    server.send_sync(EVENT, event, server.client_id)


def step_callback(model: Any, steps: int) -> Callable[[int, Tensor, Tensor, int], None]:
    """A callback for ComfyUI's samplers that shows progress and previews.

    Args:
        model: The MODEL, whose latent format decides on the preview.
        steps: The steps of one clip; the bar covers all clips of a node.

    Returns:
        `callback(step, x0, x, steps)`, with latents [B, C, N, h, w].
    """
    position = clip_position()
    first, total = (position.clip * steps, position.clips * steps) if position else (0, steps)
    bar, preview = comfy.utils.ProgressBar(total), _previewer(model)

    def callback(step: int, x0: Tensor, x: Tensor, count: int) -> None:
        video = x0.unbind()[0] if getattr(x0, "is_nested", False) else x0  # with sound, on newer hosts
        done, picture = min(step + 1, steps), preview(video)
        # An expanding node shows its result where the page would put the preview, so the pack's script shows that.
        url = _data_url(picture) if position else None
        show_status(f"step {done} of {steps}", position, share=done / steps, picture=url)
        bar.update_absolute(first + done, total, None if position else picture)

    return callback


class AnimatedPreview(Image.Image):
    """An animated picture: ComfyUI's server calls its `save`, which writes an APNG, and browsers play that."""

    frames: list[Image.Image]

    @classmethod
    def of(cls, frames: list[Image.Image]) -> AnimatedPreview:
        """The animation of these frames, of one size."""
        animation = cls()
        animation.__dict__.update(frames[0].__dict__)
        animation.frames = frames
        return animation

    def save(self, fp: Any, format: str | None = None, **_: Any) -> None:
        """Write an APNG, whatever the format."""
        first, *others = self.frames
        first.save(fp, "PNG", save_all=True, append_images=others, duration=FRAME_MS, loop=0, compress_level=1)


def latent_pictures(latent_format: Any) -> Callable[[Tensor], list[Image.Image]]:
    """Make a function that draws latents, roughly.

    Args:
        latent_format: Of the model.

    Returns:
        From latents [B, C, N, h, w] to at most `PREVIEW_FRAMES` pictures of the first clip, one pixel a latent or a
        few; none if the format does not say how.
    """
    factors, layers = latent_format.latent_rgb_factors, getattr(latent_format, "preview_layers", None)
    if factors is None:
        return lambda latents: []
    reshape = getattr(latent_format, "latent_rgb_factors_reshape", None)  # newer hosts
    more = [] if reshape is None else [reshape]
    rgb = latent_preview.Latent2RGBPreviewer(factors, latent_format.latent_rgb_factors_bias, *more)

    def picture(latents: Tensor) -> Image.Image:
        if layers is None:
            return rgb.decode_latent_to_preview(latents)
        colours = preview_frames(latents[0].movedim(1, 0).float().cpu(), layers)
        return Image.fromarray(to_frames(colours.movedim(1, 0))[0])

    def pictures(latents: Tensor) -> list[Image.Image]:
        count = latents.shape[2]
        return [picture(latents[:1, :, j : j + 1]) for j in range(0, count, -(-count // PREVIEW_FRAMES))]

    return pictures


def _previewer(model: Any) -> Callable[[Tensor], Preview | None]:
    """A function from a model's latents to a preview of the first clip, or to None if none can be drawn."""
    latent_format = model.get_model_object("latent_format")
    chosen = latent_preview.get_previewer(model.load_device, latent_format)
    if chosen is not None and type(chosen) is not latent_preview.Latent2RGBPreviewer:
        return lambda x0: chosen.decode_latent_to_preview_image("JPEG", x0)  # TAESD or the like, if the user chose it
    pictures = latent_pictures(latent_format)

    def preview(x0: Tensor) -> Preview | None:
        # Of other dimensions it is packed with audio.
        frames = pictures(to_clip_layout(x0)) if x0.ndim in (4, 5) else []
        if not frames:
            return None
        times = max(1, PREVIEW_SIDE // max(frames[0].size))
        size = (frames[0].width * times, frames[0].height * times)
        return "PNG", AnimatedPreview.of([frame.resize(size, Image.Resampling.NEAREST) for frame in frames]), None

    return preview


def _data_url(picture: Preview | None) -> str | None:
    """A preview as a data URL."""
    if picture is None:
        return None
    file = io.BytesIO()
    picture[1].save(file, format=picture[0])
    return f"data:image/{picture[0].lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
