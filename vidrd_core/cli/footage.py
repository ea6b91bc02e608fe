"""`vidrd state`: make a clip state from a real video or image, which `vidrd extend` can continue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from vidrd_core.cli.errors import InputError, input_checked, note, say
from vidrd_core.cli.options import MachineOptions, ModelOptions
from vidrd_core.cli.progress import busy
from vidrd_core.cli.request import load_model
from vidrd_core.cli.states import StateFile
from vidrd_core.io.isolated import CrashError, reading
from vidrd_core.io.pictures import PICTURE_SUFFIXES, PictureError, read_picture
from vidrd_core.settings import SampleSettings
from vidrd_core.video import read_video
from vidrd_core.video.animation_reader import frame_count

IMAGE_SUFFIXES = tuple(suffix for suffix in PICTURE_SUFFIXES if suffix != ".gif")  # that is a video here


def run(
    path: Path,
    prompt: str,
    output: Path,
    method: str,
    given: dict[str, Any],
    model: ModelOptions,
    machine: MachineOptions,
) -> None:
    """Make the state. Raises InputError.

    Args:
        path: A video, a folder of PNG frames, or an image.
        prompt: What it shows.
        output: The state's file.
        method: How its trajectory is found, as in `VidRD.state_from_video`.
        given: The fields of `SampleSettings` that were given.
        model: The model.
        machine: What it computes on.
    """
    target = StateFile(output, "--output")
    with input_checked():
        sample = SampleSettings(**given)
    loaded = load_model(model, machine)
    with input_checked():
        frames = loaded.latent_shape(loaded.complete(sample))[2]
        with busy(f"reading {path}"):
            try:
                video = reading(read_footage, path, frames, sample.width, sample.height)
            except CrashError as error:
                raise InputError(f"{path} {error}: convert it, as to an MP4 of H.264") from error
    if len(video) < frames:
        note(f"{path} has {len(video)} of {frames} frames: the first one is repeated before the others, not shown")
    target.prepare()
    settings = {name: value for name, value in vars(sample).items() if name not in ("width", "height")}
    with (
        input_checked(),
        busy(f"finding the {'trajectory' if method == 'inversion' else 'noise'} of {path}"),
    ):
        state = loaded.state_from_video(video, prompt, method=method, **settings)  # type: ignore[arg-type]
    target.save(state)
    taken = f"{len(video)} frame{'s' * (len(video) > 1)} of {path}"
    say(f"{output}: {taken}; to continue: vidrd extend {output} PROMPT ...")


def read_footage(path: Path, last: int, width: int | None, height: int | None) -> NDArray[np.uint8]:
    """Read the last frames of a video, or an image as one frame, and resize them.

    Args:
        path: A video, also an animated picture, a folder of PNG frames, or an image.
        last: The largest number of frames.
        width: Width in pixels; by default the footage's.
        height: Height in pixels; by default the footage's.

    Returns:
        uint8 [F, H, W, 3]; frames of another aspect ratio are cropped in the middle.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or neither a video nor an image.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir() and frame_count(path) == 1:
        try:
            video = read_picture(path)[None]
        except PictureError as error:
            raise ValueError(f"{path} {error}") from error
    else:
        video, _ = read_video(path, last)
    size = width or video.shape[2], height or video.shape[1]
    if size == (video.shape[2], video.shape[1]):
        return video
    fitted = [ImageOps.fit(Image.fromarray(frame), size, Image.Resampling.LANCZOS) for frame in video]
    return np.stack([np.asarray(frame) for frame in fitted])
