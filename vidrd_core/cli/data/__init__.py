"""`vidrd data`: from folders of images and videos to captioned clips for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vidrd_core.cli import options as o
from vidrd_core.cli.data import options as d
from vidrd_core.cli.errors import set_quiet
from vidrd_core.cli.settings_options import command, nonempty_path

_EPILOG = """vidrd data videos films/ -o shards/films --captioner server:http://localhost:8000/v1 \\
    --caption-model llava
vidrd data actions kinetics/ --table train.csv -o shards/kinetics --workers 8
vidrd data stills pictures/ -o shards/pseudo
vidrd data mix shards/films=2 shards/kinetics=1 shards/pseudo=0.5 -o mix.yaml"""

app = typer.Typer(
    name="data",
    help="Make captioned clips of images and videos, as shards for training. Run again, a command does what is new.",
    callback=o.show_help,
    invoke_without_command=True,
    rich_markup_mode=None,
    cls=o.Commands,
    epilog=_EPILOG,
)


@app.command(cls=o.Command)
@command(
    shapes=d.SHAPES,
    clips=d.STILL_CLIP_GROUP,
    images=d.IMAGE_GROUP,
    camera=d.CAMERA_GROUP,
    captions=d.CAPTION_GROUP,
    run=d.RUN_GROUP,
)
def stills(
    folder: d.Folder,
    output: d.Output,
    clips: dict[str, Any],
    images: d.ImageOptions,
    camera: dict[str, Any],
    captions: d.CaptionOptions,
    run: d.RunOptions,
) -> None:
    """Make pseudo-videos of images: clips of a camera that zooms and pans over them.

    The caption of NAME.jpg is that of --captions, else the text of NAME.txt beside it.
    """
    set_quiet(run.quiet)
    from vidrd_core.cli.data import stages

    stages.stills(folder, output, clips, None if images.images else camera, captions, run)


@app.command(cls=o.Command)
@command(shapes=d.SHAPES, labels=d.LABEL_GROUP, clips=d.CLIP_GROUP, run=d.RUN_GROUP)
def actions(
    folder: d.Folder, output: d.Output, labels: d.LabelOptions, clips: dict[str, Any], run: d.RunOptions
) -> None:
    """Make clips of action recognition videos, Kinetics or UCF-101, with captions from their labels."""
    set_quiet(run.quiet)
    from vidrd_core.cli.data import stages

    stages.actions(folder, output, labels, clips, run)


@app.command(cls=o.Command)
@command(
    shapes=d.SHAPES,
    scenes=d.SCENE_GROUP,
    motion_filter=d.MOTION_GROUP,
    clips=d.CLIP_GROUP,
    captions=d.CAPTION_GROUP,
    run=d.RUN_GROUP,
)
def videos(
    folder: d.Folder,
    output: d.Output,
    scenes: dict[str, Any],
    motion_filter: dict[str, Any],
    clips: dict[str, Any],
    captions: d.CaptionOptions,
    run: d.RunOptions,
) -> None:
    """Make clips of the scenes of videos; short, black and static ones are dropped, the others captioned."""
    set_quiet(run.quiet)
    from vidrd_core.cli.data import stages

    stages.videos(folder, output, scenes, motion_filter, clips, captions, run)


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
