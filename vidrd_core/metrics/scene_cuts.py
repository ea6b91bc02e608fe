"""Scene cuts in a video, by PySceneDetect: StreamingT2V's SCuts (Henschel et al., 2024)."""

from __future__ import annotations

import logging

from vidrd_core.metrics.flow import MissingError
from vidrd_core.metrics.seams import Video, check

THRESHOLD = 27.0  # PySceneDetect's own, of its content detector


def scene_cuts(video: Video, threshold: float = THRESHOLD) -> list[int]:
    """The first frame of each scene after the first, in a video uint8 [F, H, W, 3]; their number is SCuts.

    `threshold` is how much hue, saturation and luma change at a cut, of 255.
    Raises MissingError without PySceneDetect.
    """
    check(video, ())
    try:
        from scenedetect import ContentDetector, FrameTimecode
    except ImportError as error:
        raise MissingError("scene cuts need PySceneDetect: pip install scenedetect-headless") from error
    logging.getLogger("pyscenedetect").setLevel(logging.ERROR)
    detector = ContentDetector(threshold=threshold, min_scene_len=1)
    found = []
    for number, frame in enumerate(video):
        found += detector.process_frame(FrameTimecode(number, fps=24.0), frame[..., ::-1])
    return [int(cut.frame_num) for cut in found]
