"""Options that several commands of `vidrd data` have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidrd_core.cli.options import named, option

CLIPS, CAMERA, WORDS, LABELS = "Clips", "The camera", "Captions", "Labels"
SCENES, RUNNING = "Scenes", "Running"

Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", parser=named, help="The folder to read, with its subfolders.")
]
Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="FOLDER", parser=named, help="The folder of shards to write.", show_default=False
    ),
]
MixFile = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", parser=named, help="A YAML file.", show_default=False)
]
FRAMES = option(CLIPS, help="Frames of a clip (N).")
FPS = option(CLIPS, help="Frames a second of a clip; 0 takes each video's own rate.")
SIZE = option(CLIPS, help="Shorter side in pixels; with --height, the width.")
HEIGHT = option(CLIPS, help="Height in pixels; clips are cropped from the middle.", like="by the aspect ratio")
CHOICE = option(
    CLIPS,
    metavar="middle|random|spread|all",
    help="Which clips of a video or scene are taken: the middle one, --clips random or evenly spread ones, or all.",
)
CLIPS_OF = option(CLIPS, help="At most so many clips of each video or scene.")
ENLARGE = option(CLIPS, "--enlarge", help="Also use files with fewer pixels than a clip.", like=False)
CAPTIONS = option(
    WORDS,
    metavar="FILE",
    parser=named,
    like=False,
    help="CSV or JSON lines with columns file_name and caption, for files without a text file beside them.",
)
CAPTIONER = option(
    WORDS,
    metavar="WHO",
    help="sidecar: text files and --captions. local:FOLDER: an image-text model of transformers. server:ADDRESS: any "
    "OpenAI-compatible server, such as vLLM, with --caption-model.",
)
RECAPTION = option(WORDS, "--recaption", help="Also caption files that have a caption.", like=False)
CAPTION_MODEL = option(WORDS, metavar="NAME", help="The model on the server.", like=False)
CAPTION_PROMPT = option(
    WORDS, metavar="TEXT", help="The question for the model.", like="to describe it in a sentence"
)
SEED = option(CLIPS, help="Seed of everything random.")
RETRY = option(RUNNING, "--retry", help="Try files again that were skipped before.", like=False)
WORKERS = option(RUNNING, help="Processes on this machine, or of a local Ray.")
RAY = option(RUNNING, "--ray", help="Run on Ray Data (pip install 'ray\\[data]').", like=False)
RAY_ADDRESS = option(
    RUNNING, metavar="ADDRESS", help="A cluster's address, or auto; implies --ray.", like="one started here"
)
PER_SHARD = option(RUNNING, help="Files for each shard.", like="256 stills, 128 actions, 16 videos")
