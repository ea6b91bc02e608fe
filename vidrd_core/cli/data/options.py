"""The options that the commands of `vidrd data` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidrd_core.cli.options import named, option

CLIPS, CAMERA, WORDS, LABELS = "Clips", "The camera", "Captions", "Labels"
SCENES, RUNNING = "Scenes", "Running"

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", parser=named, help="The folder to read, with all in it.")]
Output = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="FOLDER", parser=named, help="Where the shards go.", show_default=False),
]
MixFile = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", parser=named, help="A YAML file.", show_default=False)
]
FRAMES = option(CLIPS, help="Frames of a clip (N).")
FPS = option(CLIPS, help="Frames a second of a clip; 0 takes each video's own.")
SIZE = option(CLIPS, help="The shorter side in pixels; the width, with --height.")
HEIGHT = option(CLIPS, help="Height in pixels; what is too long is cut off.", like="by the aspect ratio")
CHOICE = option(
    CLIPS,
    metavar="middle|random|spread|all",
    help="Which clips of a video or scene are taken: the middle one; --clips at random or evenly; all of them.",
)
CLIPS_OF = option(CLIPS, help="How many clips of a video or scene, at most.")
ENLARGE = option(CLIPS, "--enlarge", help="Take what has fewer pixels than a clip, too.", like=False)
CAPTIONS = option(
    WORDS,
    metavar="FILE",
    parser=named,
    like=False,
    help="CSV or JSON lines with columns file_name and caption, for those that have no text file beside them.",
)
CAPTIONER = option(
    WORDS,
    metavar="WHO",
    help="sidecar: text files and --captions. local:FOLDER: an image-text model of transformers. server:ADDRESS: any "
    "OpenAI-compatible one, such as vLLM, with --caption-model.",
)
RECAPTION = option(WORDS, "--recaption", help="Ask the model where there is a caption, too.", like=False)
CAPTION_MODEL = option(WORDS, metavar="NAME", help="The server's model.", like=False)
CAPTION_PROMPT = option(WORDS, metavar="TEXT", help="What the model is asked.", like="to describe it in a sentence")
SEED = option(CLIPS, help="The number that all chance is drawn from.")
RETRY = option(RUNNING, "--retry", help="Try again what was skipped before.", like=False)
WORKERS = option(RUNNING, help="Processes on this machine, or of a local Ray.")
RAY = option(RUNNING, "--ray", help="Run on Ray Data (pip install 'ray\\[data]').", like=False)
RAY_ADDRESS = option(RUNNING, metavar="ADDRESS", help="A cluster's, or auto; implies --ray.", like="one started here")
PER_SHARD = option(RUNNING, help="Files for one shard.", like="256 stills, 128 actions, 16 videos")
