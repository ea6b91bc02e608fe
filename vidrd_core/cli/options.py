"""The options of `vidrd generate` and `vidrd extend`, and what their help says."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Annotated, Any

import typer

VIDEO, SAMPLING, REUSE, MACHINE = "The video", "Sampling a clip", "From clip to clip", "The machine"
STATES, MODELS, PER_CLIP = "Stopping and going on", "The model", "Clip by clip"
RESULT = "The result"


def option(panel: str, *names: str, like: str | bool = True, **details: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, show_default=like, **details)


def named(text: str) -> Path:
    """A path. An empty one, as of a variable that is not set, would mean the working directory."""
    if not text.strip():
        raise typer.BadParameter("it is empty: give a name")
    return Path(text)


def as_state(option: Any) -> Any:
    """The same option where its default is what the state was made with."""
    other = copy.copy(option)
    other.show_default = "as the state"
    return other


OUTPUT = option(
    VIDEO,
    "--output",
    "-o",
    metavar="FILE",
    help="Where the video goes: a name in .mp4, .webm or .gif, or 'folder/' for PNG frames.",
)
CLIPS = option(VIDEO, help="How many clips to make; the last prompt repeats.", like="one for each prompt")
FPS = option(VIDEO, help="Frames shown a second.")
SCALE = option(
    VIDEO,
    help="Enlarge each pixel to a square of this many, so that small frames stay sharp.",
    like="what makes it at least 256 high",
)
TRAVEL = option(
    VIDEO,
    metavar="CLIPS",
    help="How many clips a new prompt takes to come in: their encoded texts are mixed, ever more of the new one. "
    "-1: over the first frames of its first clip.",
)
SEED_PER_CLIP, CFG_PER_CLIP, ALPHA_PER_CLIP = (
    option(
        PER_CLIP,
        metavar="NUMBERS",
        help=f"The {name} of each clip, with commas between: ',,{value}' changes that of the third one alone.",
        like=False,
    )
    for name, value in (("seed", "7"), ("cfg", "4.5"), ("alpha", "1"))
)
SEED = option(SAMPLING, help="The number that all chance is drawn from; the same seed gives the same video.")
STEPS = option(SAMPLING, help="Denoising steps of a clip (T): more takes longer and looks cleaner.")
CFG = option(SAMPLING, help="How closely to follow the prompt (guidance scale); 1 is off.", like="the model's")
SOLVER = option(SAMPLING, metavar="ddim|heun|dpmpp_2m", help="How a step is taken; heun asks the model twice.")
NEGATIVE = option(SAMPLING, help="What the video should not show.")
FRAMES = option(SAMPLING, help="Frames of a clip (N).", like="the model's")
WIDTH = option(SAMPLING, help="Width in pixels before --scale.", like="the model's")
HEIGHT = option(SAMPLING, help="Height in pixels before --scale.", like="the model's")
FOOTAGE_WIDTH = option(SAMPLING, help="Width to which the footage is brought, cropped in the middle.", like="its own")
FOOTAGE_HEIGHT = option(SAMPLING, help="Height to which it is brought.", like="its own")
PRESET = option(
    REUSE,
    metavar="NAME",
    help="Settings by what they are for: paper; 'keep moving', forward with a quarter of the frames; 'loop on "
    "purpose', the same, and the last clip ends where the first began; anchored, with the first clip's colours.",
    like="paper",
)
PROMPT_FRAMES = option(
    REUSE,
    help="Prompt frames (M): how many frames of a clip are led by the clip before. Less than N; 0 is none.",
    like="4, or the preset's",
)
ALPHA = option(
    REUSE,
    help="How much of the old noise the other frames keep: 0 is none, 1 half, 4 nearly all (motion loops).",
    like="4.0, or the preset's",
)
NOISE = option(
    REUSE,
    metavar="pns|fresh|shuffle|lowpass",
    help="Where the other frames' noise comes from: old and new by alpha, as in the paper; all new; old frames in "
    "any order; old at low frequencies alone.",
    like="pns, or the preset's",
)
RELEASE = option(
    REUSE,
    metavar="hard|soft",
    help="soft: when a frame is no longer led its coarse features still are, for as long again, ever less.",
    like="hard, or the preset's",
)
DRIFT = option(
    REUSE,
    "--drift",
    help="How far brightness, colours and contrast are drawn to the first clip's, 0 to 1.",
    like="0.0, or the preset's",
)
LOOP = option(
    REUSE,
    metavar="none|keep|close",
    help="keep: the last clip ends where the first began (with extend: if the state was made so).",
    like="none, or the preset's",
)
BETA = option(
    REUSE,
    like="0.4, or the preset's",
    help="The share of the steps, 0 to 1, in which the first frame follows the old clip; the next prompt frames do "
    "so for less. For mirror alone.",
)
ORDER = option(
    REUSE,
    metavar="mirror|forward",
    help="mirror: a clip begins as the last one run backwards, as in the paper. forward: it begins with the last "
    "one's end, in time order, shown once.",
    like="mirror, or the preset's",
)
APPROXIMATE = option(
    REUSE,
    "--approximate",
    help="Allow other --steps or another --solver than the state's: the prompt frames then follow the old clip "
    "nearly, no more exactly.",
    like=False,
)
MODEL = option(
    MODELS,
    metavar="NAME|FILE|FOLDER",
    help="A built-in model (see 'vidrd models'), or yours: a VidRD, Stable Diffusion 1.x or 2.x, ModelScope or "
    "ZeroScope checkpoint or diffusers folder. What it is its tensors tell.",
)
VAE = option(MODELS, metavar="FILE|FOLDER", help="Another VAE for its latents.", like="the model's")
TEXT_ENCODER = option(
    MODELS,
    metavar="FILE|FOLDER",
    help="Another text encoder, or CLIP's tokenizer for its own.",
    like="the model's",
)
TEMPORAL = option(
    MODELS,
    metavar="FILE",
    help="Layers over time for an image model: without them its frames know nothing of each other.",
    like="the model's",
)
LORA = option(
    MODELS,
    "--lora",
    metavar="FILE[:STRENGTH]",
    help="A LoRA for the model, of strength 1 unless told; more than one may be given.",
    like=False,
)
PREDICTION = option(MODELS, metavar="eps|v", help="What it predicts, if its file does not tell.", like="as told")
SCHEDULE = option(
    MODELS, metavar="scaled_linear|linear", help="Its noise schedule, if its file does not tell.", like="as told"
)
DTYPE = option(MODELS, metavar="float32|float16|bfloat16", help="The numbers that its UNet computes with.")
STORAGE = option(
    MACHINE,
    metavar="float8_e4m3fn|float8_e5m2",
    help="Keep the UNet's weights in 8 bits: half the memory of float16, for a little quality.",
    like="as --dtype",
)
OFFLOAD = option(
    MACHINE,
    metavar="none|parts|blocks",
    help="What waits in main memory while the device computes: parts, all but the part at work; blocks, of the UNet "
    "all but the block at work, which is slower.",
)
TILE = option(
    MACHINE,
    metavar="PIXELS",
    help="Decode frames larger than this in tiles of this size, in less memory.",
    like=False,
)
DEVICE = option(MACHINE, help="What computes: cpu, cuda, cuda:1, mps.")
THREADS = option(MACHINE, help="CPU threads to use; the result may differ in the last bits.", like="all cores")
STATE_DIR = option(
    STATES,
    metavar="DIR",
    help="Keep each finished clip's state in this folder, to go on or to branch from.",
    like=False,
    parser=named,
)

Prompts = Annotated[list[str], typer.Argument(metavar="PROMPT", show_default=False, help="What each clip shows.")]
