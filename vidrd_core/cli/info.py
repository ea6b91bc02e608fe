"""The commands `vidrd models` (built-in models) and `vidrd info` (what a file is)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from vidrd_core.cli.errors import input_checked
from vidrd_core.cli.settings_options import nonempty_path

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def models(as_json: AsJson = False) -> None:
    """List the built-in models and the words they know."""
    from rich.console import Console

    from vidrd_core.cli.progress import busy

    with busy("reading"):
        from vidrd_core.cli.inspect import built_in, models_table

        found = built_in()
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    Console(width=None if sys.stdout.isatty() else 120).print(models_table(found), highlight=False)


def info(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", parser=nonempty_path, help="A model part or folder, a clip state, a video: any file."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Say what a file is: its kind, its size, and how it was made."""
    from vidrd_core.cli.progress import busy

    with input_checked(), busy("reading"):
        from vidrd_core.cli.inspect import data_of, inspect

        facts = list(inspect(file))
    if as_json:
        typer.echo(json.dumps({"file": str(file), **data_of(facts)}, indent=1, ensure_ascii=False))
        return
    width = max(len(fact.name) for fact in facts)
    typer.echo(file)
    for fact in facts:
        typer.echo(f"  {fact.name:{width}}  {fact.text}")
