"""Clips on their way into a video file, and what is kept of them when something ends it early."""

from __future__ import annotations

import json
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
from vidrd_core.io.interrupt import Interrupt
from vidrd_core.pipeline import VidRD
from vidrd_core.prompt_schedule import PerClip
from vidrd_core.reuse import ReuseSettings
from vidrd_core.sample import Clip
from vidrd_core.sampling import DivergenceError
from vidrd_core.settings import SampleSettings
from vidrd_core.state import ClipState
from vidrd_core.video import VideoWriter, open_video

SMALLEST_HEIGHT = 256  # pixels


@dataclass(frozen=True)
class Plan:
    """A run of which everything but the output has been checked.

    Args:
        model: The model.
        sample: Complete settings.
        reuse: What each clip reuses of the previous one.
        prompts: A prompt for each clip.
        clips: The numbers of the clips that the video shows.
        finished: The states of the first of them, if they were sampled in an earlier run.
        before: The state of the clip before all of them.
        keep: Where states are saved.
        video: The video that is made; without a scale, frames are enlarged to at least `SMALLEST_HEIGHT`.
        approximate: Whether `before` may be of another schedule or solver.
        per_clip: Values of single clips.
    """

    model: VidRD
    sample: SampleSettings
    reuse: ReuseSettings
    prompts: list[str]
    clips: range
    finished: list[Path]
    before: ClipState | None
    keep: StateFolder | StateFile | None
    video: VideoOptions
    approximate: bool = False
    per_clip: PerClip = field(default_factory=dict)

    def open(self) -> VideoWriter:
        """The video file, if it can be written."""
        width, height = self.sample.width or SMALLEST_HEIGHT, self.sample.height or SMALLEST_HEIGHT
        scale = -(-SMALLEST_HEIGHT // height) if self.video.scale is None else self.video.scale
        made_with = {
            "prompts": self.prompts,
            "model": self.model.name,
            **asdict(self.sample),
            **self.reuse.metadata(),
        }
        made_with |= {"per_clip": self.per_clip} if self.per_clip else {}
        return open_video(
            self.video.output,
            self.video.fps,
            scale=scale,
            size=(width, height),
            metadata={"comment": json.dumps({"software": "vidrd", **made_with})},
        )


def render(plan: Plan) -> None:
    """Write the video, a line about it to stdout, and progress to stderr.

    Raises typer.Exit if it was stopped, CommandError for a fault of the machine.
    """
    if plan.keep:
        plan.keep.stay_out_of(plan.video.output)
    with input_checked():
        writer = plan.open()
    sample, known = plan.sample, plan.model.diffusion
    if (sample.frames, sample.width, sample.height) != (known.frames, known.size, known.size):
        trained = f"clips of {known.frames} frames of {known.size} x {known.size}"
        note(f"{plan.model.name} was trained on {trained}; others may come out badly")
    Rendering(plan, writer).run()


class Rendering:
    """One run: clips read back, then sampled, decoded and written until all are done or something ends it."""

    def __init__(self, plan: Plan, writer: VideoWriter) -> None:
        self.plan, self.writer, self.stop = plan, writer, Interrupt()
        self.display = Display(len(plan.clips), len(plan.finished), plan.sample.steps, self.stop)
        self.done = self.made = 0  # clips: of the video, and new ones
        self.in_place = False  # the video bears its name
        self.saved: Path | None = plan.finished[-1] if plan.finished else None  # the newest state
        self.fault: Exception | None = None
        self.started = time.perf_counter()  # sampling

    def run(self) -> None:
        try:
            with self.stop, self.writer:
                self.fill()
            self.in_place = self.writer.frames_written > 0
        except Exception as error:
            if not is_fault(error):
                raise
            self.fault = error
        if self.fault:
            kind = InputError if isinstance(self.fault, DivergenceError) else CommandError
            raise kind("; ".join([reason(self.fault), *self.kept()])) from self.fault
        if self.stop.requested and not (self.in_place and self.done == len(self.plan.clips)):
            note("; ".join(["stopped", *self.kept()]))
            raise typer.Exit(128 + self.stop.number)
        self.report(time.perf_counter() - self.started)

    def fill(self) -> None:
        """Write all frames. Returning closes the video; an exception throws it away."""
        if self.plan.keep:
            self.plan.keep.prepare()
        try:
            with self.display:
                for frames in self.plan.model.decode(self.clips()):
                    self.writer.write(frames)
        except KeyboardInterrupt:  # the second one
            self.stop.number = self.stop.number or signal.SIGINT
        except Exception as error:
            # After a failed write the end of the file is not to be trusted; after a failed decode it is.
            if not out_of_memory(error):
                raise
            self.fault = error

    def clips(self) -> Iterator[ClipState]:
        """All clips of the video, one at a time; a stop or a fault ends them, so that the last frames get decoded."""
        state = self.plan.before
        for path in self.plan.finished:
            with input_checked():
                state = ClipState.load(path)
            self.done += 1
            yield state
        self.started = time.perf_counter()
        if self.done == len(self.plan.clips):
            return
        sampled = self.sampled(state)
        while self.done < len(self.plan.clips) and not self.stop.requested and not self.fault:
            self.display.begin(self.done)
            try:
                clip = next(sampled)
            except KeyboardInterrupt:  # from `on_step`, or from inside PyTorch
                self.stop.number = self.stop.number or signal.SIGINT
                return
            except Exception as error:
                if not (is_fault(error) or isinstance(error, DivergenceError)):
                    raise
                self.fault = error
                return
            self.finish(clip)
            yield clip.state

    def sampled(self, state: ClipState | None) -> Iterator[Clip]:
        """The clips that follow a state."""
        plan = self.plan
        # `stream` takes the prompt of a clip by the clip's number in the whole video.
        before = plan.before.made_with.get("prompt", plan.prompts[0]) if plan.before else ""
        prompts = [before] * plan.clips.start + plan.prompts
        settings = {**asdict(plan.sample), "approximate": plan.approximate, "travel": plan.video.travel}
        settings |= {"per_clip": plan.per_clip, "on_step": self.on_step}
        return plan.model.stream(prompts, plan.clips.stop, plan.reuse, state=state, **settings)

    def on_step(self, step: int, latents: Tensor) -> None:
        self.display.step(step)
        if step + 1 < self.plan.sample.steps:  # after the last one the clip is finished
            self.stop.check()

    def finish(self, clip: Clip) -> None:
        """Save a new clip's state. If that fails this clip is the last one, but the video gets it."""
        self.display.end(self.done, clip.prompt)
        self.done += 1
        self.made += 1
        try:
            self.saved = self.plan.keep.save(clip.state) if self.plan.keep else None
        except OSError as error:
            self.fault = error

    def kept(self) -> Iterator[str]:
        """What is left of a run that ended early, and how to go on."""
        output, total = self.plan.video.output, len(self.plan.clips)
        if self.in_place:
            yield f"{output} has {self.writer.frames_written} frames, from {self.done} of {total} clips"
        elif not self.done:
            yield "no clip was finished, nothing was written"
        elif not self.writer.close_failed:
            yield "no video was kept"
        if self.saved and isinstance(self.plan.keep, StateFolder) and self.plan.clips.start == 0:
            yield "to go on, give the same command with --resume"
        elif self.saved:
            yield f"to go on: vidrd extend {self.saved} PROMPT ..."
        elif self.done < total and self.done:
            yield "with --state-dir a later run can go on where one ended"

    def report(self, seconds: float) -> None:
        frames, fps, total = self.writer.frames_written, self.plan.video.fps, len(self.plan.clips)
        size = f"{total} clip{'s' * (total > 1)}, {frames} frames, {frames / fps:.1f} s at {fps:g} fps"
        before = f", {total - self.made} made before" if self.plan.finished else ""
        pace = f"; took {seconds:.1f} s, {seconds / self.made:.1f} s a clip" if self.made else ""
        say(f"{self.plan.video.output}: {size}{before}{pace}")
