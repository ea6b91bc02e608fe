"""What a state keeps of its clip for people: its prompt, and a small moving picture."""

from __future__ import annotations

import logging
from typing import Any

from comfy_execution.graph_utils import is_link
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from torch import Tensor

from vidrd_core.state_files import preview_of

from .progress import latent_pictures

# Inputs by which a sampler's prompt comes, and those that hold its text, in the order in which they are tried.
_WAYS = ("positive", "guider", "conditioning", "conditioning_to", "conditioning_1", "cond1", "conds")
_TEXTS = ("text", "prompt", "prompts", "positive_prompt", "t5xxl", "text_g", "clip_l", "value", "string")
_FAR = 1000  # nodes


def prompt_of_running_node() -> dict[str, str]:
    """{"prompt": text}, of the node that samples; {} where its text cannot be found in the workflow."""
    context = get_executing_context()
    if context is None:
        return {}
    try:
        text = _text(get_progress_state().dynprompt, context.node_id, context.list_index)
    except Exception as error:  # the workflow's nodes may be of any pack
        logging.debug("VidRD: a clip's prompt is not known: %s", error)
        return {}
    return {"prompt": text} if text else {}


def preview_of_latents(model: Any, latents: Tensor) -> str:
    """A small animated WebP of latents [B, C, N, h, w] of a BaseModel, in base64; "" where none can be drawn."""
    try:
        return preview_of(latent_pictures(model.latent_format)(latents))
    except Exception as error:  # a latent format of another pack; the clip itself is whole
        logging.debug("VidRD: a state gets no picture: %s", error)
        return ""


def _text(graph: Any, node_id: str, index: int | None) -> str:
    """The text at the end of a node's conditioning; entry `index` of a list of prompts."""
    for _ in range(_FAR):
        inputs = graph.get_node(node_id)["inputs"]
        way = next((inputs[name] for name in _WAYS if is_link(inputs.get(name))), None)
        if way is None:
            name, way = next(((name, inputs[name]) for name in _TEXTS if inputs.get(name)), ("", ""))
            if not is_link(way):
                lines = [line.strip() for line in str(way).splitlines() if line.strip()]
                return lines[index] if name == "prompts" and index is not None and index < len(lines) else str(way)
        node_id = way[0]
    return ""
