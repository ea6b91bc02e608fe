"""`vidrd data`: from folders of images and videos to captioned clips for training."""

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
    help="Make captioned clips of images and videos, as shards for training. Run again, a command does what is new.",
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
    fps: Annotated[float, o.panel_option(d.CLIPS, help="Frames a second of the clips.")] = 8.0,
    clips: Annotated[int, o.panel_option(d.CLIPS, help="Clips of each image.")] = 1,
    enlarge: Annotated[bool, d.ENLARGE] = False,
    images: Annotated[
        bool,
        o.panel_option(d.CAMERA, "--images", help="No camera: each image is a clip of one frame.", default=False),
    ] = False,
    zoom: Annotated[float, o.panel_option(d.CAMERA, help="Largest zoom factor.")] = 1.3,
    pan: Annotated[
        float, o.panel_option(d.CAMERA, help="Largest distance that the camera pans, in widths of the view.")
    ] = 0.15,
    direction: Annotated[
        str, o.panel_option(d.CAMERA, metavar="in|out|random", help="Direction of the zoom.")
    ] = "random",
    easing: Annotated[
        str, o.panel_option(d.CAMERA, metavar="linear|smooth", help="smooth: the camera starts and ends at rest.")
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
    """Make pseudo-videos of images by zoom and pan, or clips of one frame.

    The caption of NAME.jpg is the text of NAME.txt beside it.
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
            help="A caption with {label} in it; with several, each video gets one at random.",
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
    """Make clips of an action-recognition dataset, Kinetics or UCF-101; labels become captions."""
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
            help="What detects scenes: adaptive and content (PySceneDetect), a network, or nothing.",
        ),
    ] = "adaptive",
    threshold: Annotated[
        float | None,
        o.panel_option(d.SCENES, help="The detector's threshold.", default="3 adaptive, 27 content, 0.5 transnetv2"),
    ] = None,
    margin: Annotated[float, o.panel_option(d.SCENES, help="Seconds left out at both ends of a scene.")] = 0.0,
    longest: Annotated[
        float, o.panel_option(d.SCENES, help="Seconds; longer scenes are split, each part with a caption of its own.")
    ] = 60.0,
    least: Annotated[float, o.panel_option(d.SCENES, help="Seconds; shorter scenes are dropped.")] = 1.0,
    black: Annotated[float, o.panel_option(d.SCENES, help="Level, of 255, below which a frame is black.")] = 20.0,
    motion: Annotated[
        float,
        o.panel_option(
            d.SCENES, help="Least mean change of pixels in 1/8 s, in levels of 255; 0 keeps static scenes."
        ),
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
    """Make clips of the scenes of videos; short, black and static scenes are dropped, the others captioned."""
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
            help="An image file for a contact sheet of clips.",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Clips on the contact sheet.")] = 12,
) -> None:
    """Show what a folder of shards contains, and why the rest was skipped."""
    from vidrd_core.cli.data.show import show as run

    run(folder, output, rows)


@app.command(cls=o.Command)
def mix(
    sources: Annotated[
        list[str], typer.Argument(metavar="FOLDER[=WEIGHT]...", help="Folders of shards; weights are 1 by default.")
    ],
    output: d.MixFile,
    pseudo_videos: Annotated[bool, typer.Option(help="Train on pseudo-videos as well.")] = True,
    draws: Annotated[int, typer.Option(help="Draws for which to show how often each clip is seen.")] = 100_000,
) -> None:
    """Make a mixture of folders of shards, by weights, for 'vidrd train'."""
    from vidrd_core.cli.data.mix import mix as run

    run(sources, output, pseudo_videos, draws)
