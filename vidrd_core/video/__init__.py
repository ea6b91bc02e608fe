"""Reading and writing videos: a streaming writer, concatenation without encoding, a reader, and contact sheets.

The kind of a video follows from its path: `.mp4` (H.264), `.webm` (VP9), `.gif`, `.webp`, `.apng`, or a folder of
`frame_000000.png` files. Frames are RGB, uint8 [F, H, W, 3]. While it is written, a video is beside its target as
`name.part-xxxxxx.mp4`; it takes the final name on `close()`: whatever has the final name is complete.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vidrd_core.video.reader import DEFAULT_FPS, read_video

if TYPE_CHECKING:
    from vidrd_core.video.join import Piece, join_videos
    from vidrd_core.video.sheet import contact_sheet
    from vidrd_core.video.writer import VideoWriter, open_video

__all__ = [
    "DEFAULT_FPS",
    "Piece",
    "VideoWriter",
    "contact_sheet",
    "join_videos",
    "open_video",
    "read_video",
]

_HOMES = {
    "Piece": "join",
    "VideoWriter": "writer",
    "contact_sheet": "sheet",
    "join_videos": "join",
    "open_video": "writer",
}


def __getattr__(name: str) -> Any:
    # Imported when first asked for: they need torch, whose import takes longer than reading most videos.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
