"""`vidrd data mix`: a mixture of folders of shards, by weights."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from vidrd_core.cli.errors import InputError, input_checked, note


def mix(sources: list[str], output: Path, pseudo_videos: bool, draws: int) -> None:
    """Write a mixture's YAML file and print the shares of its sources.

    Args:
        sources: FOLDER or FOLDER=WEIGHT, each once.
        output: The YAML file.
        pseudo_videos: Whether clips made from stills are trained on.
        draws: Draws for which the table shows how often each clip is seen.

    Raises:
        InputError: A folder has no shards, a weight is invalid, or PyYAML is missing.
    """
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise InputError("a mixture needs yaml, which is missing: pip install pyyaml") from error
    from vidrd_core.data.records import PSEUDO
    from vidrd_core.data.shards import Shards
    from vidrd_core.io.atomic import write_text
    from vidrd_core.training.datasets import shares

    weights: dict[str, float] = {}
    with input_checked():
        for text in sources:
            folder, _, weight = text.rpartition("=") if "=" in text else (text, "", "1")
            if folder in weights:
                raise ValueError(f"{folder} is given twice: give it once, and its weight as in {folder}=2")
            try:
                weights[folder] = float(weight)
            except ValueError as error:
                raise ValueError(f"{text} has the weight {weight!r}, expected a number as in {folder}=2") from error
        clips = {}
        for folder in weights:
            kinds = [sample.facts["kind"] for sample in Shards(Path(folder)).samples]
            clips[folder] = len(kinds) if pseudo_videos else sum(kind != PSEUDO for kind in kinds)
        used = {folder: weight for folder, weight in weights.items() if clips[folder] or pseudo_videos}
        mixture = shares({folder: clips[folder] for folder in used}, used)
        names = distinct([Path(s.name).resolve() for s in mixture])
        entries = [
            {"name": name, "shards": str(Path(s.name).resolve()), "weight": s.weight}
            for name, s in zip(names, mixture, strict=True)
        ]
        text = yaml.safe_dump({"pseudo_videos": pseudo_videos, "sources": entries}, sort_keys=False)
        write_text(output, text)
    table = Table("source", "clips", "weight", "share", f"seen in {draws} draws")
    for s in mixture:
        table.add_row(s.name, str(s.clips), f"{s.weight:g}", f"{s.share:.1%}", f"{s.visits(draws):.1f} times each")
    Console(width=None if Console().is_terminal else 120).print(table, highlight=False)
    note(f"the mixture is in {output}: name it in a recipe's data, mix: {output}")


def distinct(folders: list[Path]) -> list[str]:
    """The folders' names, each with as many of its parent folders as make them distinct."""
    depth = 1
    names = [folder.name for folder in folders]
    while len(set(names)) < len(names) and depth < max(len(folder.parts) for folder in folders):
        depth += 1
        names = ["/".join(folder.parts[-depth:]) for folder in folders]
    return names
