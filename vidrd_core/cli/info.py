"""The commands `vidrd models` (built-in models) and `vidrd info` (what a file is)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vidrd_core.cli import options as o
from vidrd_core.cli.errors import input_checked


def models() -> None:
    """List the built-in models and the words they know."""
    from rich.console import Console

    from vidrd_core.cli.progress import busy

    with busy("reading"):
        from vidrd_core.cli.inspect import models_table

        table = models_table()
    Console(width=None if sys.stdout.isatty() else 120).print(table, highlight=False)


def info(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", parser=o.named, help="A model part or folder, a clip state, a video: any file."
        ),
    ],
) -> None:
    """Say what a file is: its kind, its size, and how it was made."""
    from vidrd_core.cli.progress import busy

    with input_checked(), busy("reading"):
        from vidrd_core.cli.inspect import inspect

        facts = list(inspect(file))
    width = max(len(name) for name, _ in facts)
    typer.echo(file)
    for name, value in facts:
        typer.echo(f"  {name:{width}}  {value}")
