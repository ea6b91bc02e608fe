"""`vidrd train`: find a recipe, run it and show its progress."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from vidrd_core.cli.completion import RECIPES
from vidrd_core.cli.errors import CommandError, InputError, input_checked, note, reason
from vidrd_core.cli.progress import is_interactive
from vidrd_core.io.atomic import write_bytes

if TYPE_CHECKING:  # PyTorch and Accelerate are imported by `run` alone
    from vidrd_core.training.progress import LogLine, Progress

_WHOLE_STAGE = 30 * 24 * 3600.0  # seconds: the time left is by the mean pace of the stage


def run(config: str, stage: str | None, as_json: bool = False, quiet: bool = False) -> None:
    """Run a recipe's stages, or one of them.

    Args:
        config: A YAML file, or the name of a packaged recipe.
        stage: The name of the one stage to run.
        as_json: Print a JSON line to stdout for each line of a stage's log, and nothing else there.
        quiet: Report errors only.

    Raises:
        InputError: The recipe or its data are invalid, or a package is missing.
        CommandError: Training diverged.
    """
    path = _recipe(config)
    try:
        from vidrd_core.data.manifests import DataError
        from vidrd_core.io.safetensors import FormatError
        from vidrd_core.models.word_text_encoder import UnknownWordError
        from vidrd_core.training.array_cache import StaleCacheError
        from vidrd_core.training.config import load_config
        from vidrd_core.training.data import RecipeError
        from vidrd_core.training.recipe import Recipe

        with input_checked():
            recipe = load_config(path)
    except ModuleNotFoundError as error:
        if error.name not in ("accelerate", "filelock", "yaml"):
            raise
        raise InputError(
            f"training needs {error.name}, which is missing: pip install -e '.[train]' in this package's folder"
        ) from error
    from accelerate import PartialState

    try:
        progress = _progress(as_json, quiet)
        folder = Recipe(recipe, workers=os.cpu_count() or 1, progress=progress).run(stage)
        main = PartialState().is_main_process
        PartialState().destroy_process_group()
    except (RecipeError, StaleCacheError, FormatError, DataError, UnknownWordError) as error:
        raise InputError(reason(error)) from error
    except FloatingPointError as error:
        raise CommandError(reason(error)) from error
    except KeyboardInterrupt:
        if not quiet:
            note("stopped; run the same command again to resume from the last checkpoint")
        raise
    if main and not quiet:
        note(f"finished: the model is in {folder}")


def save(config: str, target: Path) -> None:
    """Copy a recipe to a file that can be edited. Raises InputError if that exists."""
    with input_checked():
        if target.exists():
            raise FileExistsError(f"{target} is there already: choose another name")
        write_bytes(target, _recipe(config).read_bytes())
    note(f"the recipe is in {target}: name your own model, data and folders there, then 'vidrd train {target}'")


def _recipe(name: str) -> Path:
    """A recipe's file. Raises InputError."""
    path = Path(name)
    if path.is_file():
        return path
    packaged = {file.stem: file for file in sorted(RECIPES.glob("*.yaml"))}
    if name not in packaged:
        raise InputError(f"there is no recipe {name!r}: give a YAML file, or one of {', '.join(packaged)}")
    return packaged[name]


def _progress(as_json: bool, quiet: bool) -> Progress:
    """What reports: JSON or nothing where that is asked for, a bar on a terminal, plain lines elsewhere."""
    from vidrd_core.training.progress import PlainProgress

    if as_json:
        return JsonProgress(quiet)
    if quiet:
        return QuietProgress()
    console = Console(stderr=True)
    return BarProgress(console) if is_interactive(console) else PlainProgress()


class QuietProgress:
    """Reports nothing."""

    def message(self, text: str) -> None:
        """Ignore a message."""

    def begin(self, stage: str, step: int, steps: int) -> None:
        """Ignore a stage's begin."""

    def step(self, step: int, losses: dict[str, float]) -> None:
        """Ignore a step."""

    def log(self, line: LogLine) -> None:
        """Ignore a log line."""

    def end(self) -> None:
        """Ignore a stage's end."""


class JsonProgress(QuietProgress):
    """Log lines as JSON on stdout: stage, step, steps, losses, metrics, seconds, eta; messages on stderr.

    Args:
        quiet: Leave the messages out.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def message(self, text: str) -> None:
        """Print a message to stderr."""
        if not self.quiet:
            note(text)

    def log(self, line: LogLine) -> None:
        """Print a log line to stdout; numbers that are not finite are null."""
        values: dict[str, Any] = {
            "stage": line.stage,
            "step": line.step,
            "steps": line.steps,
            "losses": {name: _finite(value) for name, value in line.losses.items()},
            "metrics": {name: _finite(value) for name, value in line.metrics.items()},
            "seconds": round(line.seconds, 3),
            "eta": None if line.eta is None else round(line.eta, 1),
        }
        print(json.dumps(values, allow_nan=False), flush=True)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


class BarProgress(QuietProgress):
    """A progress bar on a terminal: stage, steps, loss, steps a second, time left. Messages appear above it.

    Log lines are printed only where stdout is not the terminal, as someone keeps it in a file.

    Args:
        console: The terminal.
    """

    def __init__(self, console: Console) -> None:
        from vidrd_core.training.progress import PlainProgress

        self.console = console
        self.lines = None if sys.stdout.isatty() else PlainProgress()
        self.bars: Bars | None = None

    def message(self, text: str) -> None:
        """Print a message above the bar."""
        self.console.print(escape(text), highlight=False, soft_wrap=True)

    def begin(self, stage: str, step: int, steps: int) -> None:
        """Show the bar of a stage."""
        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self.console,
            transient=True,
            redirect_stdout=False,
            speed_estimate_period=_WHOLE_STAGE,
        )
        self.task = self.bars.add_task(escape(stage), total=steps, completed=step, figures="")
        self.bars.start()

    def step(self, step: int, losses: dict[str, float]) -> None:
        """Advance the bar."""
        assert self.bars is not None
        speed = self.bars.tasks[0].speed
        pace = f", {speed:.3g} steps/s" if speed else ""
        self.bars.update(self.task, completed=step, figures=f"loss {sum(losses.values()):.4g}{pace}")

    def log(self, line: LogLine) -> None:
        """Print a log line to stdout, unless that is a terminal."""
        if self.lines:
            self.lines.log(line)

    def end(self) -> None:
        """Remove the bar."""
        if self.bars:
            self.bars.stop()
            self.bars = None
