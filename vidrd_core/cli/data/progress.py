"""What is seen while a stage runs: a bar on a terminal, a line a shard elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vidrd_core.cli.errors import note
from vidrd_core.cli.progress import is_interactive
from vidrd_core.data.runner import Report


class Bar:
    """Counts what was found, then what was worked on."""

    def __init__(self, name: str) -> None:
        self.name, self.shards = name, 0
        self.bars: Progress | None = None
        console = Console(stderr=True)
        if is_interactive(console):
            columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            self.bars = Progress(*columns, console=console, transient=True)
            self.task = self.bars.add_task(name, total=None)

    def update(self, report: Report, todo: int) -> None:
        """The state of the run, and how many records there are to do, 0 while that is not known."""
        if self.bars:
            told = f"{self.name}: {report.made} made, {report.skipped} skipped" if todo else f"{self.name}: looking"
            self.bars.update(
                self.task, description=told, total=todo or None, completed=report.worked if todo else report.found
            )
        elif report.shards > self.shards:
            self.shards = report.shards
            note(f"{report.worked} of {todo} files: {report.made} clips made, {report.skipped} skipped")

    def __enter__(self) -> Bar:
        if self.bars:
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bars:
            self.bars.stop()
