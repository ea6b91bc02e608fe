"""The options that the commands of `vidrd data` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidrd_core.cli.options import panel_option
from vidrd_core.cli.settings_options import nonempty_path

CLIPS, CAMERA, WORDS, LABELS = "Clips", "The camera", "Captions", "Labels"
SCENES, RUNNING = "Scenes", "Running"

Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", parser=nonempty_path, help="The folder to read, with all in it.")
]
Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="FOLDER", parser=nonempty_path, help="Where the shards go.", show_default=False
    ),
]
MixFile = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="FILE", parser=nonempty_path, help="A YAML file.", show_default=False),
]
FRAMES = panel_option(CLIPS, help="Frames of a clip (N).")
FPS = panel_option(CLIPS, help="Frames a second of a clip; 0 takes each video's own.")
SIZE = panel_option(CLIPS, help="The shorter side in pixels; the width, with --height.")
HEIGHT = panel_option(CLIPS, help="Height in pixels; what is too long is cut off.", default="by the aspect ratio")
CHOICE = panel_option(
    CLIPS,
    metavar="middle|random|spread|all",
    help="Which clips of a video or scene are taken: the middle one; --clips at random or evenly; all of them.",
)
CLIPS_OF = panel_option(CLIPS, help="How many clips of a video or scene, at most.")
ENLARGE = panel_option(CLIPS, "--enlarge", help="Take what has fewer pixels than a clip, too.", default=False)
CAPTIONS = panel_option(
    WORDS,
    metavar="FILE",
    parser=nonempty_path,
    default=False,
    help="CSV or JSON lines with columns file_name and caption, for those that have no text file beside them.",
)
CAPTIONER = panel_option(
    WORDS,
    metavar="WHO",
    help="sidecar: text files and --captions. local:FOLDER: an image-text model of transformers. server:ADDRESS: any "
    "OpenAI-compatible one, such as vLLM, with --caption-model.",
)
RECAPTION = panel_option(WORDS, "--recaption", help="Ask the model where there is a caption, too.", default=False)
CAPTION_MODEL = panel_option(WORDS, metavar="NAME", help="The server's model.", default=False)
CAPTION_PROMPT = panel_option(
    WORDS, metavar="TEXT", help="What the model is asked.", default="to describe it in a sentence"
)
SEED = panel_option(CLIPS, help="The number that all chance is drawn from.")
RETRY = panel_option(RUNNING, "--retry", help="Try again what was skipped before.", default=False)
WORKERS = panel_option(RUNNING, help="Processes on this machine, or of a local Ray.")
RAY = panel_option(RUNNING, "--ray", help="Run on Ray Data (pip install 'ray[data]').", default=False)
RAY_ADDRESS = panel_option(
    RUNNING, metavar="ADDRESS", help="A cluster's, or auto; implies --ray.", default="one started here"
)
PER_SHARD = panel_option(RUNNING, help="Files for one shard.", default="256 stills, 128 actions, 16 videos")
