"""Reading and writing videos: a streaming writer, concatenation without encoding, a reader, and contact sheets.

The kind of a video follows from its path: `.mp4` (H.264), `.webm` (VP9), `.gif`, `.webp`, `.apng`, or a folder of
`frame_000000.png` files. Frames are RGB, uint8 [F, H, W, 3]. While it is written, a video is beside its target as
`name.part-xxxxxx.mp4`; it takes the final name on `close()`: whatever has the final name is complete.
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
