"""Options that several commands of `vidrd data` have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidrd_core.cli.options import panel_option
from vidrd_core.cli.settings_options import nonempty_path

CLIPS, CAMERA, WORDS, LABELS = "Clips", "The camera", "Captions", "Labels"
SCENES, RUNNING = "Scenes", "Running"

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
FRAMES = panel_option(CLIPS, help="Frames of a clip (N).")
FPS = panel_option(CLIPS, help="Frames a second of a clip; 0 takes each video's own rate.")
SIZE = panel_option(CLIPS, help="Shorter side in pixels; with --height, the width.")
HEIGHT = panel_option(
    CLIPS, help="Height in pixels; clips are cropped from the middle.", default="by the aspect ratio"
)
CHOICE = panel_option(
    CLIPS,
    metavar="middle|random|spread|all",
    help="Which clips of a video or scene are taken: the middle one, --clips random or evenly spread ones, or all.",
)
CLIPS_OF = panel_option(CLIPS, help="At most so many clips of each video or scene.")
ENLARGE = panel_option(CLIPS, "--enlarge", help="Also use files with fewer pixels than a clip.", default=False)
CAPTIONS = panel_option(
    WORDS,
    metavar="FILE",
    parser=nonempty_path,
    default=False,
    help="CSV or JSON lines with columns file_name and caption, for files without a text file beside them.",
)
CAPTIONER = panel_option(
    WORDS,
    metavar="WHO",
    help="sidecar: text files and --captions. local:FOLDER: an image-text model of transformers. server:ADDRESS: any "
    "OpenAI-compatible server, such as vLLM, with --caption-model.",
)
RECAPTION = panel_option(WORDS, "--recaption", help="Also caption files that have a caption.", default=False)
CAPTION_MODEL = panel_option(WORDS, metavar="NAME", help="The model on the server.", default=False)
CAPTION_PROMPT = panel_option(
    WORDS, metavar="TEXT", help="The question for the model.", default="to describe it in a sentence"
)
SEED = panel_option(CLIPS, help="Seed of everything random.")
RETRY = panel_option(RUNNING, "--retry", help="Try files again that were skipped before.", default=False)
WORKERS = panel_option(RUNNING, help="Processes on this machine, or of a local Ray.")
RAY = panel_option(RUNNING, "--ray", help="Run on Ray Data (pip install 'ray[data]').", default=False)
RAY_ADDRESS = panel_option(
    RUNNING, metavar="ADDRESS", help="A cluster's address, or auto; implies --ray.", default="one started here"
)
PER_SHARD = panel_option(RUNNING, help="Files for each shard.", default="256 stills, 128 actions, 16 videos")
