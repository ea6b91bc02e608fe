"""The command `vidrd`. PyTorch is imported by the commands that need it, so that `--help` is quick."""

from __future__ import annotations

import copy
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from vidrd_core.cli_errors import CommandError, InputError, input_checked, is_fault, note, reason

_EXAMPLES = """
[bold]Examples[/bold]

vidrd generate "a red circle moving right" --clips 4 -o long.mp4

vidrd generate "a red circle" "a blue circle" --alpha 1 --state-dir states -o long.mp4

vidrd generate "a red circle" "a blue circle" --alpha 1 --state-dir states -o long.mp4 --resume

vidrd extend states/clip_0001.safetensors "a blue square" -o more.mp4
"""

app = typer.Typer(
    name="vidrd",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EXAMPLES,
)


def _option(panel: str, *names: str, like: str | bool = True, **details: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, show_default=like, **details)


def _as_state(option: Any) -> Any:
    """The same option where its default is what the state was made with."""
    other = copy.copy(option)
    other.show_default = "as the state"
    return other


_VIDEO, _SAMPLING, _REUSE, _MACHINE = "The video", "Sampling a clip", "From clip to clip", "The machine"
_STATES = "Stopping and going on"

_OUTPUT = _option(
    _VIDEO,
    "--output",
    "-o",
    metavar="FILE",
    help="Where the video goes: a name in .mp4, .webm or .gif, or 'folder/' for PNG frames.",
)
_CLIPS = _option(_VIDEO, help="How many clips to make; the last prompt repeats.", like="one for each prompt")
_FPS = _option(_VIDEO, help="Frames shown a second.")
_SCALE = _option(
    _VIDEO,
    help="Enlarge each pixel to a square of this many, so that small frames stay sharp.",
    like="what makes it at least 256 high",
)
_SEED = _option(_SAMPLING, help="The number that all chance is drawn from; the same seed gives the same video.")
_STEPS = _option(_SAMPLING, help="Denoising steps of a clip (T): more takes longer and looks cleaner.")
_CFG = _option(_SAMPLING, help="How closely to follow the prompt (guidance scale); 1 is off.", like="the model's")
_SOLVER = _option(_SAMPLING, metavar="ddim|heun|dpmpp_2m", help="How a step is taken; heun asks the model twice.")
_NEGATIVE = _option(_SAMPLING, help="What the video should not show.")
_FRAMES = _option(_SAMPLING, help="Frames of a clip (N).", like="the model's")
_WIDTH = _option(_SAMPLING, help="Width in pixels before --scale.", like="the model's")
_HEIGHT = _option(_SAMPLING, help="Height in pixels before --scale.", like="the model's")
_PROMPT_FRAMES = _option(
    _REUSE, help="Prompt frames (M): how many frames of a clip are led by the clip before. Less than N; 0 is none."
)
_ALPHA = _option(
    _REUSE, help="How much of the old noise the other frames keep: 0 is none, 1 half, 4 nearly all (motion loops)."
)
_BETA = _option(
    _REUSE,
    help="The share of the steps, 0 to 1, in which the prompt frames repeat the old clip: smoothness at seams.",
)
_ORDER = _option(
    _REUSE,
    metavar="mirror|forward",
    help="mirror: a clip begins as the last one run backwards, as in the paper. forward: the motion goes on.",
)
_MODEL = _option(_MACHINE, metavar="NAME|FOLDER", help="A built-in model (see 'vidrd models') or a model folder.")
_DEVICE = _option(_MACHINE, help="What computes: cpu, cuda, cuda:1, mps.")
_THREADS = _option(_MACHINE, help="CPU threads to use; the result may differ in the last bits.", like="all cores")
_STATE_DIR = _option(
    _STATES,
    metavar="DIR",
    help="Keep each finished clip's state in this folder, to go on or to branch from.",
    like=False,
)

Prompts = Annotated[list[str], typer.Argument(metavar="PROMPT...", show_default=False, help="What each clip shows.")]


def _version(asked: bool) -> None:
    if asked:
        try:
            typer.echo(f"vidrd {metadata.version('vidrd')}")
        except metadata.PackageNotFoundError:
            typer.echo("vidrd (not installed as a package)")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def vidrd(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """Long videos from a model of short clips: each clip reuses the noise and the denoising of the one before.

    Reuse and Diffuse (VidRD, arXiv 2309.03549).
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(epilog=_EXAMPLES)
def generate(
    prompts: Prompts,
    output: Annotated[str, _OUTPUT],
    clips: Annotated[int | None, _CLIPS] = None,
    fps: Annotated[float, _FPS] = 8.0,
    scale: Annotated[int | None, _SCALE] = None,
    prompt_frames: Annotated[int, _PROMPT_FRAMES] = 4,
    alpha: Annotated[float, _ALPHA] = 4.0,
    beta: Annotated[float, _BETA] = 0.4,
    order: Annotated[str, _ORDER] = "mirror",
    seed: Annotated[int, _SEED] = 0,
    steps: Annotated[int, _STEPS] = 50,
    cfg: Annotated[float | None, _CFG] = None,
    solver: Annotated[str, _SOLVER] = "ddim",
    negative: Annotated[str, _NEGATIVE] = "",
    frames: Annotated[int | None, _FRAMES] = None,
    width: Annotated[int | None, _WIDTH] = None,
    height: Annotated[int | None, _HEIGHT] = None,
    state_dir: Annotated[Path | None, _STATE_DIR] = None,
    resume: Annotated[
        bool,
        _option(_STATES, "--resume", help="Go on after the clips in --state-dir, as if never stopped.", like=False),
    ] = False,
    model: Annotated[str, _MODEL] = "tiny",
    device: Annotated[str, _DEVICE] = "cpu",
    threads: Annotated[int | None, _THREADS] = None,
) -> None:
    """Make a long video: one clip for each prompt, or --clips of them.

    Ctrl-C stops after the current step and keeps the finished clips as a video.
    """
    commands = _commands()
    commands.generate(
        prompts,
        clips,
        commands.Machine(model, device, threads),
        _sample(seed, steps, cfg, solver, negative, frames, width, height),
        _reuse(prompt_frames, alpha, beta, order),
        state_dir,
        resume,
        commands.Target(output, fps, scale),
    )


@app.command(epilog=_EXAMPLES)
def extend(
    state: Annotated[Path, typer.Argument(metavar="STATE", help="A clip's state, as --state-dir keeps them.")],
    prompts: Prompts,
    output: Annotated[str, _OUTPUT],
    clips: Annotated[int | None, _CLIPS] = None,
    fps: Annotated[float, _FPS] = 8.0,
    scale: Annotated[int | None, _SCALE] = None,
    prompt_frames: Annotated[int | None, _as_state(_PROMPT_FRAMES)] = None,
    alpha: Annotated[float | None, _as_state(_ALPHA)] = None,
    beta: Annotated[float | None, _as_state(_BETA)] = None,
    order: Annotated[str | None, _as_state(_ORDER)] = None,
    seed: Annotated[int | None, _as_state(_SEED)] = None,
    steps: Annotated[int | None, _as_state(_STEPS)] = None,
    cfg: Annotated[float | None, _as_state(_CFG)] = None,
    solver: Annotated[str | None, _as_state(_SOLVER)] = None,
    negative: Annotated[str | None, _as_state(_NEGATIVE)] = None,
    frames: Annotated[int | None, _as_state(_FRAMES)] = None,
    width: Annotated[int | None, _as_state(_WIDTH)] = None,
    height: Annotated[int | None, _as_state(_HEIGHT)] = None,
    state_dir: Annotated[Path | None, _STATE_DIR] = None,
    save_state: Annotated[
        Path | None, _option(_STATES, metavar="FILE", help="Keep only the newest clip's state, here.", like=False)
    ] = None,
    model: Annotated[str, _MODEL] = "tiny",
    device: Annotated[str, _DEVICE] = "cpu",
    threads: Annotated[int | None, _THREADS] = None,
) -> None:
    """Go on from any clip's state: write the clips that come after it, and only those.

    Steps, solver, frames and size must be the state's; a first clip's state has no settings of
    "From clip to clip", so those are the paper's (4, 4, 0.4, mirror).
    """
    commands = _commands()
    commands.extend(
        state,
        prompts,
        clips,
        commands.Machine(model, device, threads),
        _sample(seed, steps, cfg, solver, negative, frames, width, height),
        _reuse(prompt_frames, alpha, beta, order),
        state_dir,
        save_state,
        commands.Target(output, fps, scale),
    )


@app.command()
def models() -> None:
    """List the built-in models and the words they know."""
    from rich.console import Console

    from vidrd_core.cli_inspect import models_table

    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(models_table(), highlight=False)


@app.command()
def info(
    file: Annotated[Path, typer.Argument(help="A model part or folder, a clip state, a video: any file.")],
) -> None:
    """Say what a file is: its kind, its size, and how it was made."""
    from vidrd_core.cli_inspect import inspect

    with input_checked():
        facts = list(inspect(file))
    width = max(len(name) for name, _ in facts)
    typer.echo(file)
    for name, value in facts:
        typer.echo(f"  {name:{width}}  {value}")


@app.command()
def train(
    config: Annotated[str, typer.Argument(help="A YAML recipe, or the name of a packaged one, like 'tiny'.")],
    stage: Annotated[str | None, typer.Option(help="Run this stage only.", show_default="all, in order")] = None,
) -> None:
    """Train a model by a recipe, in stages. The same command goes on where it was stopped.

    Needs the extra packages of: pip install "vidrd\\[train]"
    """
    from vidrd_core.cli_train import run

    run(config, stage)


def _sample(*values: Any) -> dict[str, Any]:
    names = ("seed", "steps", "cfg", "solver", "negative", "frames", "width", "height")
    return dict(zip(names, values, strict=True))


def _reuse(*values: Any) -> dict[str, Any]:
    return dict(zip(("prompt_frames", "alpha", "beta", "order"), values, strict=True))


def _commands() -> Any:
    from vidrd_core.cli_progress import busy

    with busy("starting"):  # PyTorch and transformers take seconds to import
        from vidrd_core import cli_render
    return cli_render


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code. 2: the input cannot be; 1: a fault of the machine; 130: Ctrl-C."""
    try:
        return app(args=arguments, prog_name="vidrd", standalone_mode=False) or 0
    except KeyboardInterrupt:
        return 130
    except typer.Abort:  # what older versions of Typer make of Ctrl-C
        return 130
    except CommandError as error:
        note(f"error: {error}")
        return error.exit_code
    except Exception as error:
        if hasattr(error, "format_message"):  # the parser's: an unknown option, no number, ...
            context = getattr(error, "ctx", None)
            note(f"error: {error.format_message()} (see {context.command_path if context else 'vidrd'} --help)")
            return 2
        if is_fault(error):
            note(f"error: {reason(error)}")
            return 1
        raise


if __name__ == "__main__":
    sys.exit(main())
