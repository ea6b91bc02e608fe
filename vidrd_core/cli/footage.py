"""`vidrd state`: real footage to a state that can be extended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from vidrd_core.cli.errors import input_checked, note
from vidrd_core.cli.progress import busy
from vidrd_core.cli.request import Machine, group, loaded
from vidrd_core.cli.states import StateFile
from vidrd_core.settings import SampleSettings
from vidrd_core.video import read_video

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def run(given: dict[str, Any]) -> None:
    """Make the state. Raises InputError for what cannot be."""
    path, output = given["video"], StateFile(given["output"], "--output")
    with input_checked():
        sample = SampleSettings(**group(SampleSettings, given))
    model = loaded(Machine(**group(Machine, given)))
    with input_checked():
        frames = model.latent_shape(model.complete(sample))[2]
        with busy(f"reading {path}"):
            video = footage(path, frames, sample.width, sample.height)
    if len(video) < frames:
        note(f"{path} has {len(video)} of {frames} frames: the first stands still before, unshown")
    output.prepare()
    settings = {name: value for name, value in vars(sample).items() if name not in ("width", "height")}
    method = given["method"]
    with (
        input_checked(),
        busy(f"finding the {'trajectory' if method == 'inversion' else 'noise'} of {path}"),
    ):
        state = model.state_from_video(video, given["prompt"], method=method, **settings)
    output.save(state)
    taken = f"{len(video)} frame{'s' * (len(video) > 1)} of {path}"
    typer.echo(f"{given['output']}: {taken}; to go on: vidrd extend {given['output']} PROMPT ...")


def footage(path: Path, last: int, width: int | None, height: int | None) -> NDArray[np.uint8]:
    """The last frames of a video, or a picture, uint8 [F, H, W, 3]: of this size, cropped in the middle to fit.

    Raises FileNotFoundError, ValueError for a file that is damaged or neither.
    """
    if path.suffix.lower() in PICTURES and not path.is_dir():
        try:
            with Image.open(path) as picture:
                video = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))[None]
        except UnidentifiedImageError as error:
            raise ValueError(f"{path} is damaged, or no picture") from error
    else:
        video, _ = read_video(path, last)
    size = width or video.shape[2], height or video.shape[1]
    if size == (video.shape[2], video.shape[1]):
        return video
    fitted = [ImageOps.fit(Image.fromarray(frame), size, Image.Resampling.LANCZOS) for frame in video]
    return np.stack([np.asarray(frame) for frame in fitted])
