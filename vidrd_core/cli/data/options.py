"""The options of the commands of `vidrd data`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from vidrd_core.cli.settings_options import Group, Shape, nonempty_path

CLIPS, CAMERA, CAPTIONS, LABELS = "Clips", "The camera", "Captions", "Labels"
SCENES, RUNNING = "Scenes", "Running"


@dataclass(frozen=True)
class ImageOptions:
    """What is made of images.

    Args:
        images: No camera: each image is a clip of one frame.
    """

    images: bool = False


@dataclass(frozen=True)
class CaptionOptions:
    """Where captions come from.

    Args:
        captions: CSV, TSV or JSON lines with columns file_name and caption; it wins over NAME.txt beside a file.
        captioner: sidecar: --captions, else text files; local:FOLDER: an image-text model of transformers;
            server:ADDRESS: any OpenAI-compatible server, such as vLLM.
        caption_model: The model on the server.
        caption_prompt: The question for the model.
        recaption: Also caption files that have a caption.
    """

    captions: Path | None = None
    captioner: str = "sidecar"
    caption_model: str | None = None
    caption_prompt: str | None = None
    recaption: bool = False


@dataclass(frozen=True)
class LabelOptions:
    """Videos with labels.

    Args:
        layout: How files and folders are named.
        table: Kinetics' CSV (label, youtube_id, time_start, time_end, split), or UCF-101's list of videos.
        split: The split of Kinetics' CSV to take.
        template: A caption with {label} in it; with several, each video gets one at random.
        descriptions: Captions for some labels: CSV, TSV or JSON lines with columns label and caption.
    """

    layout: Literal["kinetics", "ucf101"] = "kinetics"
    table: Path | None = None
    split: str | None = None
    template: list[str] | None = None
    descriptions: Path | None = None


@dataclass(frozen=True)
class RunOptions:
    """How a stage runs.

    Args:
        retry: Try files again that were skipped before.
        workers: Processes on this machine, or of a local Ray.
        ray: Run on Ray Data (pip install 'ray[data]').
        ray_address: A cluster's address, or auto; implies --ray.
        per_shard: Files for each shard.
        quiet: Print nothing but errors.
    """

    retry: bool = False
    workers: int = 1
    ray: bool = False
    ray_address: str | None = None
    per_shard: int | None = None
    quiet: bool = False


SHAPES = {
    "frames": Shape("N"),
    "fps": Shape("RATE"),
    "size": Shape("PIXELS"),
    "height": Shape("PIXELS", default="by the aspect ratio"),
    "clips": Shape("COUNT"),
    "enlarge": Shape(names=("--enlarge",)),
    "images": Shape(names=("--images",)),
    "zoom": Shape("FACTOR"),
    "pan": Shape("WIDTHS"),
    "captions": Shape("FILE"),
    "captioner": Shape("WHO"),
    "caption_model": Shape("NAME"),
    "caption_prompt": Shape("TEXT", default="to describe it in a sentence"),
    "recaption": Shape(names=("--recaption",)),
    "table": Shape("FILE"),
    "split": Shape("NAME", default="all of it"),
    "template": Shape("TEXT", default="'a video of {label}' and two more"),
    "descriptions": Shape("FILE"),
    "threshold": Shape("VALUE", default="3 adaptive, 27 content, 0.5 transnetv2"),
    "margin": Shape("SECONDS"),
    "longest": Shape("SECONDS"),
    "least": Shape("SECONDS"),
    "black": Shape("LEVEL"),
    "motion": Shape("LEVELS"),
    "retry": Shape(names=("--retry",)),
    "workers": Shape("COUNT"),
    "ray": Shape(names=("--ray",)),
    "ray_address": Shape("ADDRESS", default="one started here"),
    "per_shard": Shape("COUNT", default="256 stills, 128 actions, 16 videos"),
    "quiet": Shape(names=("--quiet", "-q")),
}
_HERE = "vidrd_core.cli.data.options"
CLIP_GROUP = Group("vidrd_core.data.clip_sampling:ClipSettings", CLIPS, partial=True)
STILL_CLIP_GROUP = Group("vidrd_core.data.clip_sampling:ClipSettings", CLIPS, partial=True, leave_out=("choice",))
CAMERA_GROUP = Group(
    "vidrd_core.data.pseudo_video:CameraSettings", CAMERA, partial=True, leave_out=("frames", "width", "height")
)
SCENE_GROUP = Group("vidrd_core.data.scene_detection:SceneSettings", SCENES, partial=True)
MOTION_GROUP = Group(
    "vidrd_core.data.motion_filter:MotionFilterSettings", SCENES, partial=True, leave_out=("black_share",)
)
IMAGE_GROUP = Group(f"{_HERE}:ImageOptions", CAMERA)
CAPTION_GROUP = Group(f"{_HERE}:CaptionOptions", CAPTIONS)
LABEL_GROUP = Group(f"{_HERE}:LabelOptions", LABELS)
RUN_GROUP = Group(f"{_HERE}:RunOptions", RUNNING)

Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", parser=nonempty_path, help="The folder to read, with its subfolders.")
]
Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER",
        parser=nonempty_path,
        help="The folder of shards to write.",
        show_default=False,
    ),
]
MixFile = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="FILE", parser=nonempty_path, help="A YAML file.", show_default=False),
]
