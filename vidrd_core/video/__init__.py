"""Frames to files and back: a writer that streams, pieces joined, a reader, and a contact sheet.

The path tells the kind: `.mp4` (H.264), `.webm` (VP9), `.gif`, or a folder of `frame_000000.png` files.
Frames are RGB, uint8 [F, H, W, 3]. A video grows beside its target, as `name.part-xxxxxx.mp4`, and takes the
final name on `close()`, so whatever bears the final name is complete.
"""

from vidrd_core.video.join import Piece, join_videos
from vidrd_core.video.reader import DEFAULT_FPS, read_video
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
