"""The commands `vidrd pack` and `vidrd convert`: a model in other files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidrd_core.cli import completion
from vidrd_core.cli import options as o
from vidrd_core.cli.errors import input_checked, note, say, set_quiet
from vidrd_core.cli.settings_options import Group, command, nonempty_path

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A built-in model's name, a file or a folder.",
        autocompletion=completion.models,
    ),
]
Overwrite = Annotated[bool, o.panel_option(o.RESULT, "--overwrite", help="Replace what is there.")]
_PARTS = Group(o.MODEL_GROUP.settings, o.MODEL, partial=True, leave_out=("model", "lora", "dtype"))
_REPORT = Group(o.REPORT_GROUP.settings, o.REST)


@command(shapes=o.SHAPES, parts=_PARTS, report=_REPORT)
def pack(
    model: Model,
    output: Annotated[
        Path,
        o.panel_option(
            o.RESULT,
            "--output",
            "-o",
            metavar="FOLDER|FILE",
            parser=nonempty_path,
            help="Where the copy goes; NAME.safetensors: all in one.",
        ),
    ],
    parts: dict[str, str],
    report: o.ReportOptions,
    overwrite: Overwrite = False,
) -> None:
    """Copy a model with its weights in half precision, for sharing.

    A copy of a third-party model holds everything that it needs, its tokenizer included.
    """
    set_quiet(report.quiet)
    from vidrd_core.cli.progress import busy

    with input_checked(), busy("packing"):
        from vidrd_core.loading import pack

        pack(model, output, overwrite=overwrite, **parts)  # type: ignore[arg-type]
    say(f"{output}: {model} in half precision")


@command(shapes=o.SHAPES, report=_REPORT)
def convert(
    model: Model,
    to: Annotated[
        str,
        o.panel_option(
            o.RESULT,
            "--to",
            metavar="diffusers|ldm|vidrd|temporal",
            help="diffusers: a folder for diffusers. ldm: a file with Stable Diffusion's own names. vidrd: a file of "
            "this package. temporal: a file with a UNet's temporal layers alone.",
        ),
    ],
    output: Annotated[
        Path,
        o.panel_option(
            o.RESULT, "--output", "-o", metavar="FOLDER|FILE", parser=nonempty_path, help="Where it goes."
        ),
    ],
    report: o.ReportOptions,
    part: Annotated[
        str, o.panel_option(o.RESULT, "--part", metavar="unet|vae", help="Which part of the model.")
    ] = "unet",
    overwrite: Overwrite = False,
) -> None:
    """Write a model's UNet or VAE for other programs, or as a file of this package; no value changes."""
    set_quiet(report.quiet)
    from vidrd_core.cli.progress import busy

    with input_checked(), busy("converting"):
        from vidrd_core.convert import convert

        missing = convert(model, output, to, part, overwrite)  # type: ignore[arg-type]
    say(f"{output}: {part} of {model}, for {to}")
    if missing:
        note(f"the file has no place for {', '.join(missing)}: give it where you load it")
