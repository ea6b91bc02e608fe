"""The command `vidrd`. PyTorch is imported by the commands that need it, so that `--help` is quick."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from vidrd_core.cli import options as o
from vidrd_core.cli.data import app as data
from vidrd_core.cli.errors import CommandError, is_fault, note, reason
from vidrd_core.cli.info import info, models
from vidrd_core.cli.measure_commands import ABLATE, EVALUATE, ablate, evaluate
from vidrd_core.cli.weights import convert, pack

_GENERATE = """vidrd generate "a red circle moving right" --clips 4 -o long.mp4

vidrd generate "a red circle" "a blue circle" --state-dir kept -o two.mp4

vidrd generate "a red circle" "a blue circle" --state-dir kept -o two.mp4 --resume"""
_EXTEND = 'vidrd extend kept/clip_0001.safetensors "a blue square" -o more.mp4'
_STATE = """vidrd state footage.mp4 "a red circle moving right" --width 64 --height 64 -o footage.safetensors

vidrd extend footage.safetensors "a red circle moving right" --preset "keep moving" --clips 3 -o more.mp4"""
_TITLE = "[bold]Examples[/bold]\n\n"

app = typer.Typer(
    name="vidrd",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"{_TITLE}{_GENERATE}\n\n{_EXTEND}",
)


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


@app.command(epilog=_TITLE + _GENERATE)
def generate(
    prompts: o.Prompts,
    output: Annotated[str, o.OUTPUT],
    clips: Annotated[int | None, o.CLIPS] = None,
    fps: Annotated[float, o.FPS] = 8.0,
    scale: Annotated[int | None, o.SCALE] = None,
    travel: Annotated[int, o.TRAVEL] = 0,
    preset: Annotated[str | None, o.PRESET] = None,
    prompt_frames: Annotated[int | None, o.PROMPT_FRAMES] = None,
    alpha: Annotated[float | None, o.ALPHA] = None,
    beta: Annotated[float | None, o.BETA] = None,
    order: Annotated[str | None, o.ORDER] = None,
    noise: Annotated[str | None, o.NOISE] = None,
    release: Annotated[str | None, o.RELEASE] = None,
    drift: Annotated[float | None, o.DRIFT] = None,
    loop: Annotated[str | None, o.LOOP] = None,
    seed: Annotated[int, o.SEED] = 0,
    steps: Annotated[int, o.STEPS] = 50,
    cfg: Annotated[float | None, o.CFG] = None,
    solver: Annotated[str, o.SOLVER] = "ddim",
    negative: Annotated[str, o.NEGATIVE] = "",
    frames: Annotated[int | None, o.FRAMES] = None,
    width: Annotated[int | None, o.WIDTH] = None,
    height: Annotated[int | None, o.HEIGHT] = None,
    seed_per_clip: Annotated[str, o.SEED_PER_CLIP] = "",
    cfg_per_clip: Annotated[str, o.CFG_PER_CLIP] = "",
    alpha_per_clip: Annotated[str, o.ALPHA_PER_CLIP] = "",
    state_dir: Annotated[Path | None, o.STATE_DIR] = None,
    resume: Annotated[
        bool,
        o.option(o.STATES, "--resume", help="Go on after the clips in --state-dir, as if never stopped.", like=False),
    ] = False,
    model: Annotated[str, o.MODEL] = "tiny",
    vae: Annotated[str | None, o.VAE] = None,
    text_encoder: Annotated[str | None, o.TEXT_ENCODER] = None,
    temporal: Annotated[str | None, o.TEMPORAL] = None,
    lora: Annotated[list[str] | None, o.LORA] = None,
    prediction: Annotated[str | None, o.PREDICTION] = None,
    schedule: Annotated[str | None, o.SCHEDULE] = None,
    dtype: Annotated[str, o.DTYPE] = "float32",
    storage: Annotated[str | None, o.STORAGE] = None,
    offload: Annotated[str, o.OFFLOAD] = "none",
    tile: Annotated[int | None, o.TILE] = None,
    device: Annotated[str, o.DEVICE] = "cpu",
    threads: Annotated[int | None, o.THREADS] = None,
) -> None:
    """Make a long video: one clip for each prompt, or --clips of them.

    Ctrl-C stops after the current step and keeps the finished clips as a video.
    """
    given = locals()
    commands = _commands()
    commands.generate(commands.request(given), state_dir, resume)


@app.command(epilog=_TITLE + _EXTEND)
def extend(
    state: Annotated[
        Path, typer.Argument(metavar="STATE", parser=o.named, help="A clip's state, as --state-dir keeps them.")
    ],
    prompts: o.Prompts,
    output: Annotated[str, o.OUTPUT],
    clips: Annotated[int | None, o.CLIPS] = None,
    fps: Annotated[float, o.FPS] = 8.0,
    scale: Annotated[int | None, o.SCALE] = None,
    travel: Annotated[int, o.TRAVEL] = 0,
    preset: Annotated[str | None, o.as_state(o.PRESET)] = None,
    prompt_frames: Annotated[int | None, o.as_state(o.PROMPT_FRAMES)] = None,
    alpha: Annotated[float | None, o.as_state(o.ALPHA)] = None,
    beta: Annotated[float | None, o.as_state(o.BETA)] = None,
    order: Annotated[str | None, o.as_state(o.ORDER)] = None,
    noise: Annotated[str | None, o.as_state(o.NOISE)] = None,
    release: Annotated[str | None, o.as_state(o.RELEASE)] = None,
    drift: Annotated[float | None, o.as_state(o.DRIFT)] = None,
    loop: Annotated[str | None, o.as_state(o.LOOP)] = None,
    approximate: Annotated[bool, o.APPROXIMATE] = False,
    seed: Annotated[int | None, o.as_state(o.SEED)] = None,
    steps: Annotated[int | None, o.as_state(o.STEPS)] = None,
    cfg: Annotated[float | None, o.as_state(o.CFG)] = None,
    solver: Annotated[str | None, o.as_state(o.SOLVER)] = None,
    negative: Annotated[str | None, o.as_state(o.NEGATIVE)] = None,
    frames: Annotated[int | None, o.as_state(o.FRAMES)] = None,
    width: Annotated[int | None, o.as_state(o.WIDTH)] = None,
    height: Annotated[int | None, o.as_state(o.HEIGHT)] = None,
    seed_per_clip: Annotated[str, o.SEED_PER_CLIP] = "",
    cfg_per_clip: Annotated[str, o.CFG_PER_CLIP] = "",
    alpha_per_clip: Annotated[str, o.ALPHA_PER_CLIP] = "",
    state_dir: Annotated[Path | None, o.STATE_DIR] = None,
    save_state: Annotated[
        Path | None,
        o.option(
            o.STATES, metavar="FILE", help="Keep only the newest clip's state, here.", like=False, parser=o.named
        ),
    ] = None,
    model: Annotated[str, o.MODEL] = "tiny",
    vae: Annotated[str | None, o.VAE] = None,
    text_encoder: Annotated[str | None, o.TEXT_ENCODER] = None,
    temporal: Annotated[str | None, o.TEMPORAL] = None,
    lora: Annotated[list[str] | None, o.LORA] = None,
    prediction: Annotated[str | None, o.PREDICTION] = None,
    schedule: Annotated[str | None, o.SCHEDULE] = None,
    dtype: Annotated[str, o.DTYPE] = "float32",
    storage: Annotated[str | None, o.STORAGE] = None,
    offload: Annotated[str, o.OFFLOAD] = "none",
    tile: Annotated[int | None, o.TILE] = None,
    device: Annotated[str, o.DEVICE] = "cpu",
    threads: Annotated[int | None, o.THREADS] = None,
) -> None:
    """Go on from any clip's state: write the clips that come after it, and only those.

    Frames and size must be the state's, so must steps and solver unless --approximate is given.
    """
    given = locals()
    commands = _commands()
    commands.extend(commands.request(given), state, state_dir, save_state, approximate)


@app.command()
def train(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A YAML recipe, or a packaged one's name: tiny, video, ...")
    ],
    stage: Annotated[str | None, typer.Option(help="Run this stage only.", show_default="all, in order")] = None,
    save_as: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=o.named,
            help="Write the recipe to a file for editing, and stop.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print a JSON line for each log line to stdout: stage, step, losses, time left."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Report errors only.")] = False,
) -> None:
    """Train a model by a recipe, in stages. Run the same command again to resume where it was stopped.

    On several GPUs or machines: accelerate launch -m vidrd_core.cli train CONFIG. Needs: pip install -e ".\\[train]"
    """
    from vidrd_core.cli.train import run, save

    if save_as:
        save(config, save_as)
    else:
        run(config, stage, as_json, quiet)


@app.command(epilog=_TITLE + _STATE)
def state(
    video: Annotated[
        Path, typer.Argument(metavar="VIDEO", parser=o.named, help="A video, a folder of PNG frames, or a picture.")
    ],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", show_default=False, help="What it shows.")],
    output: Annotated[
        Path,
        o.option(
            o.VIDEO,
            "--output",
            "-o",
            metavar="FILE",
            parser=o.named,
            help="Where the state goes, a .safetensors file.",
        ),
    ],
    method: Annotated[
        str,
        o.option(
            o.SAMPLING,
            metavar="inversion|noise",
            help="How its denoising is found: DDIM backwards, with three model calls a step, or by adding noise, "
            "with none.",
        ),
    ] = "inversion",
    seed: Annotated[int, o.SEED] = 0,
    steps: Annotated[int, o.STEPS] = 50,
    cfg: Annotated[float | None, o.CFG] = None,
    solver: Annotated[str, o.SOLVER] = "ddim",
    negative: Annotated[str, o.NEGATIVE] = "",
    frames: Annotated[int | None, o.FRAMES] = None,
    width: Annotated[int | None, o.FOOTAGE_WIDTH] = None,
    height: Annotated[int | None, o.FOOTAGE_HEIGHT] = None,
    model: Annotated[str, o.MODEL] = "tiny",
    vae: Annotated[str | None, o.VAE] = None,
    text_encoder: Annotated[str | None, o.TEXT_ENCODER] = None,
    temporal: Annotated[str | None, o.TEMPORAL] = None,
    lora: Annotated[list[str] | None, o.LORA] = None,
    prediction: Annotated[str | None, o.PREDICTION] = None,
    schedule: Annotated[str | None, o.SCHEDULE] = None,
    dtype: Annotated[str, o.DTYPE] = "float32",
    storage: Annotated[str | None, o.STORAGE] = None,
    offload: Annotated[str, o.OFFLOAD] = "none",
    tile: Annotated[int | None, o.TILE] = None,
    device: Annotated[str, o.DEVICE] = "cpu",
    threads: Annotated[int | None, o.THREADS] = None,
) -> None:
    """Make a state of real footage, from its last frames, so that 'vidrd extend' goes on with it."""
    given = locals()
    from vidrd_core.cli.progress import busy

    with busy("starting"):
        from vidrd_core.cli.footage import run
    run(given)


app.command(epilog=_TITLE + EVALUATE)(evaluate)
app.command(epilog=_TITLE + ABLATE)(ablate)
app.add_typer(data)
app.command()(models)
app.command()(info)
app.command()(pack)
app.command()(convert)


def _commands() -> Any:
    from vidrd_core.cli.progress import busy

    with busy("starting"):  # PyTorch and transformers take seconds to import
        from vidrd_core.cli import request as render
    return render


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code. 2: the input cannot be; 1: a fault of the machine; 130: Ctrl-C."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a prompt or name may not fit a Windows console
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
