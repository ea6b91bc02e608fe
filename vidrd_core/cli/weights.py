"""The commands `vidrd pack` and `vidrd convert`: a model in other files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidrd_core.cli import options as o
from vidrd_core.cli.errors import input_checked, note


def pack(
    model: Annotated[str, typer.Argument(metavar="NAME|FOLDER|FILE", help="The model.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER|FILE",
            parser=o.named,
            help="Where the copy goes; NAME.safetensors: all in one.",
        ),
    ],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is there.")] = False,
    vae: Annotated[str | None, o.VAE] = None,
    text_encoder: Annotated[str | None, o.TEXT_ENCODER] = None,
    temporal: Annotated[str | None, o.TEMPORAL] = None,
    prediction: Annotated[str | None, o.PREDICTION] = None,
    schedule: Annotated[str | None, o.SCHEDULE] = None,
) -> None:
    """Copy a model with its weights in half precision, for shipping; a third-party one with its tokenizer inside."""
    from vidrd_core.cli.progress import busy

    with input_checked(), busy("packing"):
        from vidrd_core.loading import pack

        pack(
            model,
            output,
            overwrite=overwrite,
            vae=vae,
            text_encoder=text_encoder,
            temporal=temporal,
            prediction=prediction,
            schedule=schedule,
        )
    typer.echo(f"{output}: {model} in half precision")


def convert(
    model: Annotated[str, typer.Argument(metavar="NAME|FOLDER|FILE", help="The model.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="diffusers|ldm|vidrd|temporal",
            help="diffusers: a folder for diffusers. ldm: a file with the names of Stable Diffusion's checkpoints. "
            "vidrd: a file of this package. temporal: a file with a UNet's temporal layers alone.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER|FILE", parser=o.named, help="Where it goes."),
    ],
    part: Annotated[str, typer.Option("--part", metavar="unet|vae", help="Which part of the model.")] = "unet",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Write a model's UNet or VAE for other programs, or as a file of this package. No number is changed."""
    from vidrd_core.cli.progress import busy

    with input_checked(), busy("converting"):
        from vidrd_core.convert import convert

        lost = convert(model, output, to, part, overwrite)  # type: ignore[arg-type]
    typer.echo(f"{output}: {part} of {model}, for {to}")
    if lost:
        note(f"the file has no place for {', '.join(lost)}: give it where you load it")
