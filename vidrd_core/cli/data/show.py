"""`vidrd data show`: what shards contain, why the rest was skipped, and a contact sheet of some clips."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import typer

from vidrd_core.cli.errors import InputError, input_checked, note
from vidrd_core.data.manifests import manifests
from vidrd_core.data.shards import Shards
from vidrd_core.video import contact_sheet

EXAMPLES = 3  # of each reason


def show(folder: Path, output: Path | None, rows: int) -> None:
    """Print counts and reasons.

    Args:
        folder: A folder of shards.
        output: An image file for a contact sheet of clips.
        rows: How many clips that shows.

    Raises:
        InputError: There are no shards, or the image cannot be written.
    """
    with input_checked():
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
        lines = [line for _, _, found in manifests(folder) for line in found]
    if not lines:
        raise InputError(f"{folder} holds no shards: make some with 'vidrd data stills', 'actions' or 'videos'")
    if output:
        draw(folder, output, rows)
    made = [line for line in lines if "key" in line]
    useful = {line["origin"] for line in made}
    kinds = Counter(line["kind"] for line in made)
    sizes = Counter(f"{line['width']} x {line['height']}, {line['frames']} frames" for line in made)
    typer.echo(f"{folder}: {len(made)} clips of {len(useful)} files")
    for title, counts in (("kind", kinds), ("size", sizes)):
        for name, count in counts.most_common(8):
            typer.echo(f"  {title}  {count:7}  {name}")
    skipped: dict[str, list[str]] = {}
    for line in lines:
        if "reason" in line:
            at = f" ({line['start']:.1f} to {line['stop']:.1f} s)" if line.get("stop") else ""
            skipped.setdefault(re.sub(r"[\d.]+(?= (s|pixels|x|of|frames)\b)", "..", line["reason"]), []).append(
                f"{line['source']}{at}: {line['reason']}"
            )
    for reasons in sorted(skipped.values(), key=len, reverse=True):
        typer.echo(f"  skipped  {len(reasons)}")
        for text in reasons[:EXAMPLES]:
            typer.echo(f"    {text}")


def draw(folder: Path, output: Path, rows: int) -> None:
    """Write a contact sheet of clips spread evenly over the shards."""
    with input_checked():
        samples = Shards(folder).samples
        chosen = [samples[i] for i in np.unique(np.linspace(0, len(samples) - 1, rows).astype(int))]
        contact_sheet([s.frames() for s in chosen], output, [s.caption for s in chosen])
    note(f"{len(chosen)} clips are in {output}")
