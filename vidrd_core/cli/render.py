"""Run `vidrd generate` and `extend`: sample, decode and write clips, and keep what is done on a stop or an error."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import typer
from torch import Tensor

from vidrd_core.cli.errors import CommandError, InputError, input_checked, is_fault, note, out_of_memory, reason, say
from vidrd_core.cli.options import VideoOptions
from vidrd_core.cli.progress import Display
from vidrd_core.cli.states import StateFile, StateFolder
from vidrd_core.io.background import InBackground
from vidrd_core.io.interrupt import Interrupt
from vidrd_core.many.making import open_generated
from vidrd_core.pipeline import VidRD
from vidrd_core.prompt_schedule import PerClip
from vidrd_core.reuse import ReuseSettings
from vidrd_core.sample import Clip
from vidrd_core.sampling import DivergenceError
from vidrd_core.settings import SampleSettings
from vidrd_core.state import ClipState
from vidrd_core.video import VideoWriter

MIN_HEIGHT = 256  # pixels, to which smaller frames are enlarged


@dataclass(frozen=True)
class Plan:
    """A run whose settings have all been checked, except for the output.

    Args:
        model: The model.
        sample: How clips are sampled, without fields that are None.
        reuse: What each clip reuses of the previous one.
        prompts: A prompt for each clip.
        clips: The indices of the clips that the video shows.
        finished: The state files of the first of these clips, if they were sampled in an earlier run.
        previous: The state of the clip before the first of them.
        states: Where states are saved.
        video: The output; without a scale, frames are enlarged to at least `MIN_HEIGHT`.
        approximate: Whether `previous` may be of another schedule or solver.
        per_clip: Values of single clips.
    """

    model: VidRD
    sample: SampleSettings
    reuse: ReuseSettings
    prompts: list[str]
    clips: range
    finished: list[Path]
    previous: ClipState | None
    states: StateFolder | StateFile | None
    video: VideoOptions
    approximate: bool = False
    per_clip: PerClip = field(default_factory=dict)

    def open(self) -> VideoWriter:
        """Open the video for writing. Raises ValueError or OSError."""
        return open_generated(
            self.model.name,
            self.prompts,
            self.sample,
            self.reuse,
            self.per_clip,
            self.video.output,
            self.video.fps,
            scale_of(self.video, self.sample),
            keep_on=(KeyboardInterrupt, OSError),
        )


def scale_of(video: VideoOptions, sample: SampleSettings) -> int:
    """How many times frames are enlarged: as asked for, or to at least `MIN_HEIGHT`."""
    return -(-MIN_HEIGHT // (sample.height or MIN_HEIGHT)) if video.scale is None else video.scale


def render(plan: Plan) -> None:
    """Make and write a video, with progress on stderr and a summary on stdout.

    Args:
        plan: The run.

    Raises:
        typer.Exit: The run was stopped by a signal; the exit code is 128 + its number.
        InputError: The output cannot be written, or a clip came out with NaN or infinity.
        CommandError: The disk or the memory is full.
    """
    if plan.states:
        plan.states.check_output(plan.video.output)
    with input_checked():
        writer = plan.open()
    sample, trained = plan.sample, plan.model.diffusion
    if (sample.frames, sample.width, sample.height) != (trained.frames, trained.size, trained.size):
        known = f"clips of {trained.frames} frames of {trained.size} x {trained.size}"
        note(f"{plan.model.name} was trained on {known}; others may come out badly")
    Rendering(plan, writer).run()


class Rendering:
    """One run: clips are read from their states or sampled, then decoded and written, until all are done or it stops.

    Args:
        plan: The run.
        writer: The open output.
    """

    def __init__(self, plan: Plan, writer: VideoWriter) -> None:
        self.plan, self.writer, self.stop = plan, writer, Interrupt()
        self.display = Display(len(plan.clips), len(plan.finished), plan.sample.steps, self.stop)
        self.done = self.sampled = 0  # clips that are done, and those of them that this run sampled
        self.complete = False  # the video has its final name
        self.saved: Path | None = plan.finished[-1] if plan.finished else None  # the newest state file
        self.error: Exception | None = None
        self.started = time.perf_counter()  # when sampling started

    def run(self) -> None:
        """Make the video and print the summary. Raises as `render`."""
        try:
            with self.stop, self.writer:
                self.write_frames()
            self.complete = self.writer.frames_written > 0
        except Exception as error:
            if not is_fault(error):
                raise
            self.error = error
            kept = self.writer.closed and not self.writer.close_failed
            self.complete = isinstance(error, OSError) and kept and self.writer.frames_written > 0
        if self.error:
            kind = InputError if isinstance(self.error, DivergenceError) else CommandError
            raise kind("; ".join([reason(self.error), *self.kept()])) from self.error
        if self.stop.requested and not (self.complete and self.done == len(self.plan.clips)):
            note("; ".join(["stopped", *self.kept()]))
            raise typer.Exit(128 + self.stop.number)
        self.report(time.perf_counter() - self.started)

    def write_frames(self) -> None:
        """Write all frames. After a return the video is closed and kept; after an exception it is discarded."""
        if self.plan.states:
            self.plan.states.prepare()
        try:
            # Frames are encoded while the next clip is sampled.
            with self.display, InBackground(self.writer.write) as write:
                for frames in self.plan.model.decode(self.clips()):
                    write(frames)
        except KeyboardInterrupt:  # the second one
            self.stop.number = self.stop.number or signal.SIGINT
        except Exception as error:
            # After a failed write the end of the file may be damaged; after a failed decode it is not.
            if not (out_of_memory(error) or isinstance(error, DivergenceError)):
                raise
            self.error = error

    def clips(self) -> Iterator[ClipState]:
        """The state of each clip; a stop or an error ends the iteration; the last frames are still decoded."""
        state = self.plan.previous
        for path in self.plan.finished:
            with input_checked():
                state = ClipState.load(path)
            self.done += 1
            yield state
        self.started = time.perf_counter()
        if self.done == len(self.plan.clips):
            return
        clips = self.sample(state)
        while self.done < len(self.plan.clips) and not self.stop.requested and not self.error:
            self.display.begin(self.done)
            try:
                clip = next(clips)
            except KeyboardInterrupt:  # from `on_step`, or from inside PyTorch
                self.stop.number = self.stop.number or signal.SIGINT
                return
            except Exception as error:
                if not (is_fault(error) or isinstance(error, DivergenceError)):
                    raise
                self.error = error
                return
            self.finish(clip)
            yield clip.state

    def sample(self, state: ClipState | None) -> Iterator[Clip]:
        """Sample the clips that follow a state."""
        plan = self.plan
        # `stream` takes the prompt of a clip by its index in the whole video.
        first = plan.previous.made_with.get("prompt", plan.prompts[0]) if plan.previous else ""
        prompts = [first] * plan.clips.start + plan.prompts
        settings = {**asdict(plan.sample), "approximate": plan.approximate, "travel": plan.video.travel}
        settings |= {"per_clip": plan.per_clip, "on_step": self.on_step}
        return plan.model.stream(prompts, plan.clips.stop, plan.reuse, state=state, **settings)

    def on_step(self, step: int, latents: Tensor) -> None:
        """Show a step, and stop before the next one if that was requested."""
        self.display.step(step)
        if step + 1 < self.plan.sample.steps:  # after the last one the clip is finished
            self.stop.check()

    def finish(self, clip: Clip) -> None:
        """Save a new clip's state. If that fails, this clip is the last one; the video still shows it."""
        self.display.end(self.done, clip.prompt)
        self.done += 1
        self.sampled += 1
        try:
            self.saved = self.plan.states.save(clip.state) if self.plan.states else None
        except OSError as error:
            self.error = error

    def kept(self) -> Iterator[str]:
        """What is left of a run that ended early, and how to continue."""
        output, total = self.plan.video.output, len(self.plan.clips)
        if self.complete:
            shows = "frames, from" if self.writer.is_whole else "frames of the first"
            yield f"{output} has {self.writer.frames_written} {shows} {self.done} of {total} clips"
        elif not self.done:
            yield "no clip was finished, nothing was written"
        elif not self.writer.close_failed:
            yield "no video was kept"
        if self.saved and isinstance(self.plan.states, StateFolder) and self.plan.clips.start == 0:
            yield "to continue, repeat the command with --resume"
        elif self.saved:
            yield f"to continue: vidrd extend {self.saved} PROMPT ..."
        elif self.done and not (self.complete and self.writer.is_whole and self.done == total):
            yield "with --state-dir a run can be resumed"

    def report(self, seconds: float) -> None:
        """Print the summary; sampling took `seconds`."""
        frames, fps, total = self.writer.frames_written, self.plan.video.fps, len(self.plan.clips)
        size = f"{total} clip{'s' * (total > 1)}, {frames} frames, {frames / fps:.1f} s at {fps:g} fps"
        before = f", {total - self.sampled} sampled before" if self.plan.finished else ""
        pace = f"; took {seconds:.1f} s, {seconds / self.sampled:.1f} s a clip" if self.sampled else ""
        say(f"{self.plan.video.output}: {size}{before}{pace}")
