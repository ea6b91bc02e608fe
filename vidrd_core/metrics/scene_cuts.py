"""Scene cuts in a video, found by PySceneDetect: the SCuts metric of StreamingT2V."""

from __future__ import annotations

import logging

from vidrd_core.io import MissingPackageError
from vidrd_core.metrics.seams import Video, check_video

THRESHOLD = 27.0  # the default of PySceneDetect's content detector


def find_scene_cuts(video: Video, threshold: float = THRESHOLD) -> list[int]:
    """Find the scene cuts of a video; their number is SCuts.

    Args:
        video: uint8 [F, H, W, 3].
        threshold: Mean change of hue, saturation and luma at a cut, 0 to 255.

    Returns:
        Index of the first frame of each scene after the first.

    Raises:
        MissingPackageError: PySceneDetect is not installed.

    Source:
        Henschel et al., "StreamingT2V", 2024 (SCuts).
    """
    check_video(video, ())
    try:
        from scenedetect import ContentDetector, FrameTimecode
    except ImportError as error:
        raise MissingPackageError("scene cuts need PySceneDetect: pip install scenedetect-headless") from error
    logging.getLogger("pyscenedetect").setLevel(logging.ERROR)
    detector = ContentDetector(threshold=threshold, min_scene_len=1)
    found = []
    for index, frame in enumerate(video):
        found += detector.process_frame(FrameTimecode(index, fps=24.0), frame[..., ::-1])
    return [int(cut.frame_num) for cut in found]
