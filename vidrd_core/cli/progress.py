"""Progress on stderr while clips are sampled: two bars on a terminal, elsewhere one line per clip."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from vidrd_core.cli.errors import is_quiet, note
from vidrd_core.io.interrupt import Interrupt

if TYPE_CHECKING:
    from typing_extensions import Self

    from vidrd_core.many.jobs import Batch, Job
    from vidrd_core.many.making import Result

_WHOLE_RUN = 30 * 24 * 3600.0  # seconds: clips may take hours, and the time left follows from their mean pace


def busy(text: str) -> AbstractContextManager[object]:
    """A context that shows a spinner with a text on a terminal, and nothing elsewhere."""
    console = Console(stderr=True)
    return console.status(escape(text)) if is_interactive(console) else nullcontext()


def is_interactive(console: Console) -> bool:
    """Whether to draw progress that moves: on a terminal, without --quiet."""
    return console.is_terminal and not console.is_dumb_terminal and not is_quiet()


class ProgressBars:
    """A context that shows bars on stderr on a terminal; elsewhere `bars` is None.

    Args:
        *columns: What rich's Progress shows.
        speed_estimate_period: Seconds over which the time left is estimated.
    """

    def __init__(self, *columns: ProgressColumn, speed_estimate_period: float = 30.0) -> None:
        console = Console(stderr=True)
        self.bars: Progress | None = None
        if is_interactive(console):
            self.bars = Progress(
                *columns, console=console, transient=True, speed_estimate_period=speed_estimate_period
            )

    def __enter__(self) -> Self:
        if self.bars:
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bars:
            self.bars.stop()


class Display(ProgressBars):
    """A context that shows the progress of a run; clips and steps are numbered from 0.

    Args:
        clips: The number of clips of the video.
        done: How many of them were sampled in an earlier run.
        steps: T, the denoising steps of a clip.
        stop: Whether a stop was requested, which is shown.
    """

    def __init__(self, clips: int, done: int, steps: int, stop: Interrupt) -> None:
        self.clips, self.steps, self.stop = clips, steps, stop
        self.started = time.perf_counter()
        super().__init__(*_columns_of_two_bars(stop), speed_estimate_period=_WHOLE_RUN)
        if self.bars:
            self.clip_bar = self.bars.add_task("clips", total=clips, completed=done)
            self.step_bar = self.bars.add_task("steps", total=steps)

    def begin(self, clip: int) -> None:
        """Show that a clip is about to be sampled."""
        self.clip, self.started = clip, time.perf_counter()
        if self.bars:
            self.bars.reset(self.step_bar, description=f"steps of clip {clip + 1}")

    def step(self, step: int) -> None:
        """Show that a step of this clip is done."""
        if self.bars:
            self.bars.update(self.step_bar, completed=step + 1)
            # Whole clips alone would leave the time left of a short run unknown until its end.
            self.bars.update(self.clip_bar, completed=self.clip + (step + 1) / self.steps)

    def end(self, clip: int, prompt: str) -> None:
        """Show that a clip is finished."""
        if self.bars:
            self.bars.update(self.clip_bar, completed=clip + 1)
        else:
            note(f"clip {clip + 1} of {self.clips} took {time.perf_counter() - self.started:.1f} s: {prompt}")


def _columns_of_two_bars(stop: Interrupt) -> tuple[ProgressColumn, ...]:
    """What two bars, of a whole and of its part, show beside each other, with the time left."""
    left = TextColumn("left")
    return (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        left,
        StopNotice(stop),
    )


class VideosDisplay(ProgressBars):
    """A context that shows the progress of many videos: two bars on a terminal, elsewhere a line for each.

    Args:
        stop: Whether a stop was requested, which is shown.
    """

    def __init__(self, stop: Interrupt) -> None:
        self.stop, self.total, self.done = stop, 0, 0
        self.batch: list[Job] = []
        super().__init__(*_columns_of_two_bars(stop), speed_estimate_period=_WHOLE_RUN)

    def start(self, total: int, pending: int) -> None:
        """Show how many videos there are, and how many of them are to be made."""
        self.total, self.done = total, total - pending
        if self.done:
            note(f"{self.done} of {total} videos were made before")
        if self.bars and pending:
            self.video_bar = self.bars.add_task("videos", total=total, completed=self.done)
            self.step_bar = self.bars.add_task("steps", total=None)

    def begin(self, batch: Batch) -> None:
        """Show that a batch is about to be made."""
        self.batch = batch.jobs

    def step(self, clip: int, step: int) -> None:
        """Show that a step of clip `clip` of a batch is done, and stop before the next one if that was requested."""
        clips, steps = self.batch[0].clips, self.batch[0].sample.steps
        if self.bars:
            many = f" of {len(self.batch)} videos" if len(self.batch) > 1 else ""
            name = f"steps of clip {clip + 1} of {clips}{many}"
            self.bars.update(self.step_bar, total=steps, completed=step + 1, description=name)
            share = (clip + (step + 1) / steps) / clips
            self.bars.update(self.video_bar, completed=self.done + len(self.batch) * share)
        self.stop.check()

    def end(self, result: Result) -> None:
        """Show what became of a video."""
        self.done += result.error is None
        if self.bars:
            self.bars.update(self.video_bar, completed=self.done)
        elif result.error is None:
            prompts = ", ".join(dict.fromkeys(result.job.prompts))
            note(f"video {self.done} of {self.total} took {result.seconds:.1f} s: {result.job.file}: {prompts}")

    def left(self, folder: str) -> str:
        """What a run that ended early has done, and how to go on."""
        return f"{self.done} of {self.total} videos are in {folder}; the same command makes the others"


class StopNotice(ProgressColumn):
    """A notice that a stop was requested; the bars redraw themselves, so the signal handler need not write."""

    def __init__(self, stop: Interrupt) -> None:
        super().__init__(Column(no_wrap=True))
        self.stop = stop

    def render(self, task: Task) -> Text:
        """The notice, beside the bar of the clips."""
        return Text("stopping (Ctrl-C again: at once)" if self.stop.requested and task.id else "")
