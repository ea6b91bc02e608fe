"""The command `vidrd`. PyTorch is imported by the commands that need it, so that `--help` is quick."""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from vidrd_core import __version__
from vidrd_core.cli import completion
from vidrd_core.cli import options as o
from vidrd_core.cli.comfy import app as comfy
from vidrd_core.cli.cpus import share_cpus
from vidrd_core.cli.data import app as data
from vidrd_core.cli.errors import CommandError, InputError, fail, format_warning, is_fault, reason, set_quiet
from vidrd_core.cli.info import info, models
from vidrd_core.cli.measure_commands import ABLATE, EVALUATE, ablate, evaluate
from vidrd_core.cli.run_file import read_run, write_run
from vidrd_core.cli.settings_options import Group, command, nonempty_path
from vidrd_core.cli.streams import lasting_streams
from vidrd_core.cli.weights import convert, pack

_GENERATE = """vidrd generate "a red circle" "a blue circle" --clips 4 --state-dir kept -o two.mp4
vidrd generate "a red circle" "a blue circle" --clips 4 --state-dir kept -o two.mp4 --resume
vidrd generate "a red circle" --preset "keep moving" -o one.mp4 --save-config run.yaml
vidrd generate --config run.yaml --seed 7 -o other.mp4
vidrd generate --prompts-file prompts.txt -o videos/"""
_EXTEND = 'vidrd extend kept/clip_0001.safetensors "a blue square" -o more.mp4'
_STATE = """vidrd state footage.mp4 "a red circle moving right" --width 64 --height 64 -o footage.safetensors
vidrd extend footage.safetensors "a red circle moving right" --preset "keep moving" --clips 3 -o more.mp4"""

app = typer.Typer(
    name="vidrd",
    cls=o.Commands,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"{_GENERATE}\n{_EXTEND}",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"vidrd {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def vidrd(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Long videos from short-clip models: each clip reuses the noise and the denoising of the one before.

    Reuse and Diffuse (VidRD, arXiv 2309.03549).
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(cls=o.Command, epilog=_GENERATE)
@command(
    shapes=o.SHAPES,
    video=o.VIDEO_GROUP,
    sample=o.SAMPLE_GROUP,
    preset=o.PRESET_GROUP,
    reuse=o.REUSE_GROUP,
    per_clip=o.PER_CLIP_GROUP,
    states=o.STATE_GROUP,
    resuming=o.RESUME_GROUP,
    many=o.MANY_GROUP,
    model=o.MODEL_GROUP,
    machine=o.MACHINE_GROUP,
    report=o.REPORT_GROUP,
)
def generate(
    context: typer.Context,
    video: o.VideoOptions,
    sample: dict[str, Any],
    preset: o.PresetOptions,
    reuse: dict[str, Any],
    per_clip: o.PerClipOptions,
    states: o.StateOptions,
    resuming: o.ResumeOptions,
    many: o.ManyOptions,
    model: o.ModelOptions,
    machine: o.MachineOptions,
    report: o.ReportOptions,
    prompts: o.PromptsOrFile = None,
    config: Annotated[
        Path | None,
        o.panel_option(
            o.STATES,
            metavar="FILE",
            parser=nonempty_path,
            callback=read_run,
            is_eager=True,
            default=False,
            help="Take prompts and options from a YAML file; those given here override it.",
        ),
    ] = None,
    save_config: Annotated[
        Path | None,
        o.panel_option(
            o.STATES,
            metavar="FILE",
            parser=nonempty_path,
            default=False,
            help="Write this run's prompts and options to a file for --config.",
        ),
    ] = None,
) -> None:
    """Make a long video: one clip for each prompt, or --clips of them; or, with --prompts-file, many videos.

    Ctrl-C stops after the current step and keeps the finished clips as a video, or the finished videos.
    """
    if not prompts and many.prompts_file is None:
        raise InputError("Missing argument 'PROMPT': what each clip shows, or a --prompts-file")
    if many.prompts_file is None and (given := many_alone(many)):
        raise InputError(f"--{given} is for many videos: give a --prompts-file, too")
    if many.prompts_file is not None and (states.state_dir or resuming.resume):
        raise InputError(
            "--state-dir and --resume are for one video: with --prompts-file the same command goes on by itself"
        )
    commands = _commands(report.quiet)
    wanted = commands.Request(prompts or [], video, model, machine, sample, reuse, preset.preset, per_clip)
    save = (lambda: write_run(context, save_config)) if save_config else (lambda: None)
    if many.prompts_file is not None:
        from vidrd_core.cli.many import generate_many

        return generate_many(wanted, many, context, save)
    commands.generate(wanted, states.state_dir, resuming.resume, save)


def many_alone(many: o.ManyOptions) -> str:
    """An option that is given and has no meaning for one video, "" for none."""
    others = asdict(replace(many, prompts_file=None))
    default = asdict(o.ManyOptions())
    return next((name.replace("_", "-") for name in others if others[name] != default[name]), "")


def _as_state(group: Group) -> Group:
    """The same group where every default is the setting with which the state was made."""
    return Group(group.settings, group.panel, partial=True, leave_out=group.leave_out, defaults=o.AS_STATE)


@app.command(cls=o.Command, epilog=_EXTEND)
@command(
    shapes=o.SHAPES,
    video=o.VIDEO_GROUP,
    sample=_as_state(o.SAMPLE_GROUP),
    preset=Group(o.PRESET_GROUP.settings, o.REUSE, defaults=o.AS_STATE),
    reuse=_as_state(o.REUSE_GROUP),
    approximate=o.APPROXIMATE_GROUP,
    per_clip=o.PER_CLIP_GROUP,
    states=o.STATE_GROUP,
    saving=o.SAVE_STATE_GROUP,
    model=o.MODEL_GROUP,
    machine=o.MACHINE_GROUP,
    report=o.REPORT_GROUP,
)
def extend(
    state: Annotated[
        Path, typer.Argument(metavar="STATE", parser=nonempty_path, help="A clip's state, as --state-dir keeps them.")
    ],
    prompts: o.Prompts,
    video: o.VideoOptions,
    sample: dict[str, Any],
    preset: o.PresetOptions,
    reuse: dict[str, Any],
    approximate: o.ApproximateOptions,
    per_clip: o.PerClipOptions,
    states: o.StateOptions,
    saving: o.SaveStateOptions,
    model: o.ModelOptions,
    machine: o.MachineOptions,
    report: o.ReportOptions,
) -> None:
    """Extend a video from any clip's state: write the clips that come after it, and only those.

    Frames and size must be the state's, and so must steps and solver unless --approximate is given.
    """
    commands = _commands(report.quiet)
    wanted = commands.Request(prompts, video, model, machine, sample, reuse, preset.preset, per_clip)
    commands.extend(wanted, state, states.state_dir, saving.save_state, approximate.approximate)


@app.command(cls=o.Command)
def train(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG",
            help="A YAML recipe, or a packaged one's name: tiny, video, ...",
            autocompletion=completion.recipes,
        ),
    ],
    stage: Annotated[
        str | None, typer.Option(metavar="NAME", help="Run this stage only.", show_default="all, in order")
    ] = None,
    save_as: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=nonempty_path,
            help="Write the recipe to a file for editing, and stop.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print a JSON line for each log line to stdout: stage, step, losses, time left."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Train a model by a recipe, in stages. Run the same command again to resume where it was stopped.

    On several GPUs or machines: accelerate launch -m vidrd_core.cli train CONFIG. Needs: pip install -e ".[train]"
    """
    from vidrd_core.cli.train import run, save

    if save_as:
        save(config, save_as)
    else:
        run(config, stage, as_json, quiet)


@app.command(cls=o.Command, epilog=_STATE)
@command(
    shapes={
        **o.SHAPES,
        "width": o.Shape("PIXELS", default="the footage's"),
        "height": o.Shape("PIXELS", default="the footage's"),
    },
    sample=o.SAMPLE_GROUP,
    model=o.MODEL_GROUP,
    machine=o.MACHINE_GROUP,
    report=o.REPORT_GROUP,
)
def state(
    video: Annotated[
        Path,
        typer.Argument(metavar="VIDEO", parser=nonempty_path, help="A video, a folder of PNG frames, or a picture."),
    ],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", show_default=False, help="What it shows.")],
    output: Annotated[
        Path,
        o.panel_option(
            o.VIDEO,
            "--output",
            "-o",
            metavar="FILE",
            parser=nonempty_path,
            help="Where the state goes, a .safetensors file.",
        ),
    ],
    sample: dict[str, Any],
    model: o.ModelOptions,
    machine: o.MachineOptions,
    report: o.ReportOptions,
    method: Annotated[
        str,
        o.panel_option(
            o.CLIP,
            metavar="inversion|noise",
            help="How its denoising trajectory is found: DDIM inversion, with three model calls a step, or added "
            "noise, with none.",
        ),
    ] = "inversion",
) -> None:
    """Make a state from real footage, of its last frames, so that 'vidrd extend' can continue it."""
    set_quiet(report.quiet)
    from vidrd_core.cli.progress import busy

    with busy("starting"):
        from vidrd_core.cli.footage import run
    run(video, prompt, output, method, sample, model, machine)


app.command(cls=o.Command, epilog=EVALUATE)(evaluate)
app.command(cls=o.Command, epilog=ABLATE)(ablate)
app.add_typer(data)
app.add_typer(comfy)
app.command(cls=o.Command)(models)
app.command(cls=o.Command)(info)
app.command(cls=o.Command)(pack)
app.command(cls=o.Command)(convert)


def _commands(quiet: bool) -> Any:
    set_quiet(quiet)
    from vidrd_core.cli.progress import busy

    with busy("starting"):  # PyTorch takes seconds to import
        from vidrd_core.cli import request
    return request


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: By default those of the process.

    Returns:
        The exit code: 0; 2 for input that is not valid; 1 for a failure of the machine; 130 for Ctrl-C.
    """
    try:
        with lasting_streams():
            return _main(arguments)
    except OSError as error:  # what was printed cannot be written, as to a full disk
        with suppress(OSError):  # nor can this be
            fail(f"error: {reason(error)}")
        return 1


def _main(arguments: list[str] | None) -> int:
    set_quiet(False)
    share_cpus()
    warnings.formatwarning = format_warning
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a prompt or name may not fit a Windows console
    try:
        return app(args=arguments, prog_name="vidrd", standalone_mode=False) or 0
    except KeyboardInterrupt:
        return 130
    except typer.Abort:  # what older versions of Typer make of Ctrl-C
        return 130
    except CommandError as error:
        fail(f"error: {error}")
        return error.exit_code
    except Exception as error:
        if hasattr(error, "format_message"):  # the parser's: an unknown option, no number, ...
            context = getattr(error, "ctx", None)
            fail(f"error: {error.format_message()} (see {context.command_path if context else 'vidrd'} --help)")
            return 2
        if is_fault(error):
            fail(f"error: {reason(error)}")
            return 1
        raise
