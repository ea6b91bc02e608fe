"""Values that a node gives the nodes that it expands into: ComfyUI's caches know such a value by its name."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from vidrd_core.state import ClipState


class NamedValue(str):
    """A value as an input of a node in a graph: to ComfyUI it is text, which tells it from all other values.

    Args:
        name: The text.
        value: The value, for `value_of`.
        made_of: The text for clips that are kept on disk, by default the same.
    """

    value: Any
    made_of: str

    def __new__(cls, name: str, value: Any, made_of: str = "") -> NamedValue:
        named = super().__new__(cls, name)
        named.value, named.made_of = value, made_of or name
        return named


def value_of(given: Any) -> Any:
    """The value that a node was given, by its name or itself."""
    return given.value if isinstance(given, NamedValue) else given


def name_of_state(state: ClipState) -> str:
    """The name of a state: by what it holds."""
    return f"state {state.fingerprint}"


def name_of_video(video: Any) -> tuple[str, Any, str]:
    """What `NamedValue` needs of a `GrowingVideo`.

    Args:
        video: The video.

    Returns:
        Its name, by its files; the video; and a text that stays if the same clips are written elsewhere.
    """
    files = [str(video.path), *(str(piece.path) for piece in video.pieces)]
    settings = video.settings
    written = [settings.kind, settings.fps, settings.scale]
    made_of = [*written, *(video.keys.get(piece.path) or str(piece.path) for piece in video.pieces)]
    # The prefix is that of the whole video, which names its file.
    return f"video {_digest([settings.prefix, *written, *files])}", video, f"video {_digest(made_of)}"


def _digest(words: list[Any]) -> str:
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:32]
