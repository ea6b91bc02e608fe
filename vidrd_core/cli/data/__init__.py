"""`vidrd data`: folders of pictures and videos to captioned clips for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidrd_core.cli import options as o
from vidrd_core.cli.data import options as d
from vidrd_core.cli.settings_options import nonempty_path

_EPILOG = """vidrd data videos films/ -o shards/films --captioner server:http://localhost:8000/v1 \\
    --caption-model llava
vidrd data actions kinetics/ --table train.csv -o shards/kinetics --workers 8
vidrd data stills pictures/ -o shards/pseudo
vidrd data mix shards/films=2 shards/kinetics=1 shards/pseudo=0.5 -o mix.yaml"""

app = typer.Typer(
    name="data",
    help="Make captioned clips of pictures and videos, as shards to train on. Run again, each does what is new.",
    no_args_is_help=True,
    rich_markup_mode=None,
    cls=o.Commands,
    epilog=_EPILOG,
)


@app.command(cls=o.Command)
def stills(
    folder: d.Folder,
    output: d.Output,
    frames: Annotated[int, d.FRAMES] = 8,
    size: Annotated[int, d.SIZE] = 256,
    height: Annotated[int | None, d.HEIGHT] = None,
    fps: Annotated[float, o.panel_option(d.CLIPS, help="Frames a second that clips are shown at.")] = 8.0,
    clips: Annotated[int, o.panel_option(d.CLIPS, help="How many clips to make of a picture.")] = 1,
    enlarge: Annotated[bool, d.ENLARGE] = False,
    images: Annotated[
        bool,
        o.panel_option(d.CAMERA, "--images", help="No camera: each picture is a clip of one frame.", default=False),
    ] = False,
    zoom: Annotated[float, o.panel_option(d.CAMERA, help="How many times as close the camera comes, at most.")] = 1.3,
    pan: Annotated[float, o.panel_option(d.CAMERA, help="How far it goes at most, in views.")] = 0.15,
    direction: Annotated[str, o.panel_option(d.CAMERA, metavar="in|out|random", help="Where it zooms.")] = "random",
    easing: Annotated[
        str, o.panel_option(d.CAMERA, metavar="linear|smooth", help="smooth: it starts and ends at rest.")
    ] = "linear",
    captions: Annotated[Path | None, d.CAPTIONS] = None,
    captioner: Annotated[str, d.CAPTIONER] = "sidecar",
    caption_model: Annotated[str | None, d.CAPTION_MODEL] = None,
    caption_prompt: Annotated[str | None, d.CAPTION_PROMPT] = None,
    recaption: Annotated[bool, d.RECAPTION] = False,
    seed: Annotated[int, d.SEED] = 0,
    retry: Annotated[bool, d.RETRY] = False,
    workers: Annotated[int, d.WORKERS] = 1,
    ray: Annotated[bool, d.RAY] = False,
    ray_address: Annotated[str | None, d.RAY_ADDRESS] = None,
    per_shard: Annotated[int | None, d.PER_SHARD] = None,
) -> None:
    """Pictures -> pseudo-videos: clips of a camera that zooms and pans over them, or images.

    The caption of NAME.jpg is what NAME.txt beside it says.
    """
    given = locals()
    from vidrd_core.cli.data import stages

    stages.stills(given)


@app.command(cls=o.Command)
def actions(
    folder: d.Folder,
    output: d.Output,
    layout: Annotated[
        str, o.panel_option(d.LABELS, metavar="kinetics|ucf101", help="How files and folders are named.")
    ] = "kinetics",
    table: Annotated[
        Path | None,
        o.panel_option(
            d.LABELS,
            metavar="FILE",
            parser=nonempty_path,
            default=False,
            help="Kinetics' CSV (label, youtube_id, time_start, time_end, split), or UCF-101's list of videos, like "
            "trainlist01.txt.",
        ),
    ] = None,
    split: Annotated[
        str | None, o.panel_option(d.LABELS, help="The split of Kinetics' CSV to take.", default="all of it")
    ] = None,
    template: Annotated[
        list[str] | None,
        o.panel_option(
            d.LABELS,
            metavar="TEXT",
            help="A caption with {label} in it; one of several is drawn for each video.",
            default="'a video of {label}' and two more",
        ),
    ] = None,
    descriptions: Annotated[
        Path | None,
        o.panel_option(
            d.LABELS,
            metavar="FILE",
            parser=nonempty_path,
            default=False,
            help="Captions for some labels: CSV or JSON lines with columns label and caption.",
        ),
    ] = None,
    frames: Annotated[int, d.FRAMES] = 8,
    fps: Annotated[float, d.FPS] = 8.0,
    size: Annotated[int, d.SIZE] = 256,
    height: Annotated[int | None, d.HEIGHT] = None,
    choice: Annotated[str, d.CHOICE] = "middle",
    clips: Annotated[int, d.CLIPS_OF] = 1,
    enlarge: Annotated[bool, d.ENLARGE] = False,
    seed: Annotated[int, d.SEED] = 0,
    retry: Annotated[bool, d.RETRY] = False,
    workers: Annotated[int, d.WORKERS] = 1,
    ray: Annotated[bool, d.RAY] = False,
    ray_address: Annotated[str | None, d.RAY_ADDRESS] = None,
    per_shard: Annotated[int | None, d.PER_SHARD] = None,
) -> None:
    """Videos of action recognition, Kinetics or UCF-101, -> clips; their labels become captions."""
    given = locals()
    from vidrd_core.cli.data import stages

    stages.actions(given)


@app.command(cls=o.Command)
def videos(
    folder: d.Folder,
    output: d.Output,
    detector: Annotated[
        str,
        o.panel_option(
            d.SCENES,
            metavar="adaptive|content|transnetv2|none",
            help="What finds the scenes: PySceneDetect's two, a network, or nothing.",
        ),
    ] = "adaptive",
    threshold: Annotated[
        float | None,
        o.panel_option(d.SCENES, help="Of the detector.", default="3 adaptive, 27 content, 0.5 transnetv2"),
    ] = None,
    margin: Annotated[float, o.panel_option(d.SCENES, help="Seconds left out at both ends of a scene.")] = 0.0,
    longest: Annotated[
        float, o.panel_option(d.SCENES, help="Seconds; a longer scene is parted, each part captioned by itself.")
    ] = 60.0,
    least: Annotated[float, o.panel_option(d.SCENES, help="Seconds; shorter scenes are dropped.")] = 1.0,
    black: Annotated[float, o.panel_option(d.SCENES, help="Level of 255 below which a frame is black.")] = 20.0,
    motion: Annotated[
        float,
        o.panel_option(d.SCENES, help="Levels of 255 by which pixels must change in 1/8 s; 0 keeps what is static."),
    ] = 0.5,
    frames: Annotated[int, d.FRAMES] = 8,
    fps: Annotated[float, d.FPS] = 8.0,
    size: Annotated[int, d.SIZE] = 256,
    height: Annotated[int | None, d.HEIGHT] = None,
    choice: Annotated[str, d.CHOICE] = "middle",
    clips: Annotated[int, d.CLIPS_OF] = 1,
    enlarge: Annotated[bool, d.ENLARGE] = False,
    captions: Annotated[Path | None, d.CAPTIONS] = None,
    captioner: Annotated[str, d.CAPTIONER] = "sidecar",
    caption_model: Annotated[str | None, d.CAPTION_MODEL] = None,
    caption_prompt: Annotated[str | None, d.CAPTION_PROMPT] = None,
    recaption: Annotated[bool, d.RECAPTION] = False,
    seed: Annotated[int, d.SEED] = 0,
    retry: Annotated[bool, d.RETRY] = False,
    workers: Annotated[int, d.WORKERS] = 1,
    ray: Annotated[bool, d.RAY] = False,
    ray_address: Annotated[str | None, d.RAY_ADDRESS] = None,
    per_shard: Annotated[int | None, d.PER_SHARD] = None,
) -> None:
    """Videos -> clips of their scenes; what is short, black or static is dropped, the rest captioned."""
    given = locals()
    from vidrd_core.cli.data import stages

    stages.videos(given)


@app.command(cls=o.Command)
def show(
    folder: d.Folder,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            parser=nonempty_path,
            help="A picture of some clips.",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="How many clips the picture shows.")] = 12,
) -> None:
    """Say what a folder of shards holds, and why the rest was skipped."""
    from vidrd_core.cli.data.show import show as run

    run(folder, output, rows)


@app.command(cls=o.Command)
def mix(
    sources: Annotated[
        list[str], typer.Argument(metavar="FOLDER[=WEIGHT]...", help="Folders of shards; a weight is 1 unless told.")
    ],
    output: d.MixFile,
    pseudo_videos: Annotated[bool, typer.Option(help="Train on pseudo-videos, too.")] = True,
    draws: Annotated[int, typer.Option(help="Of how many clips to say how often each is seen.")] = 100_000,
) -> None:
    """Put folders of shards together, by weights, for 'vidrd train'."""
    from vidrd_core.cli.data.mix import mix as run

    run(sources, output, pseudo_videos, draws)
