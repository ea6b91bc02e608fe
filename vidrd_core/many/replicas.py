"""Make batches of videos on Ray: actors that each load the model once, one for each GPU, or several on CPUs."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from vidrd_core.data.executors import Ray
from vidrd_core.io.os_errors import first_line
from vidrd_core.many.jobs import Batch
from vidrd_core.many.making import Result, make_batch
from vidrd_core.many.runner import CleanUp, Results
from vidrd_core.pipeline import VidRD

TRIES = 2  # of a batch whose worker dies
PATIENCE = 0.2  # seconds between two looks at whether a stop was requested
LONGEST_END = 10.0  # seconds in which a worker that was told to end has ended


class Replica:
    """A model in a worker of Ray.

    Args:
        load: Loads the model.
    """

    def __init__(self, load: Callable[[], VidRD]) -> None:
        self.model = load()

    def process(self) -> tuple[str, int]:
        """The machine's name and the process's number; the model is loaded once this is answered."""
        return socket.gethostname(), os.getpid()

    def make(self, folder: Path, batch: Batch) -> list[Result] | Exception:
        """What became of the videos of a batch, or the error that ended it, which Ray would wrap in its own."""
        try:
            return make_batch(self.model, folder, batch)
        except Exception as error:
            return error


class Replicas:
    """A context of workers of Ray that make batches. All machines must see the folder under the same name.

    Args:
        ray: Where Ray runs.
        load: Loads the model in a worker, where Ray shows a worker with a GPU that one alone.
        workers: How many there are; None for one for each GPU, or one without GPUs.
        use_gpus: Whether GPUs are used where there are any.
        check: Called several times a second; it may raise KeyboardInterrupt.
        on_begin: Called with each batch before it is made.

    Attributes:
        on_gpus: Whether each worker has a GPU.

    Raises:
        ValueError: Ray has fewer GPUs or CPUs than workers are asked for.
        ChildProcessError: A worker cannot load the model.
    """

    def __init__(
        self,
        ray: Ray,
        load: Callable[[], VidRD],
        workers: int | None = None,
        use_gpus: bool = True,
        check: Callable[[], None] = lambda: None,
        on_begin: Callable[[Batch], None] = lambda batch: None,
    ) -> None:
        self.ray, self.load, self.workers, self.use_gpus = ray, load, workers, use_gpus
        self.check, self.on_begin, self.on_gpus = check, on_begin, False
        self._package: Any = None
        self._replicas: dict[Any, Any] = {}  # the workers, and their answers on their processes

    def __enter__(self) -> Replicas:
        """Connect to Ray, start the workers and have them load the model. Raises ValueError, ChildProcessError."""
        with ExitStack() as stack:
            self._package = stack.enter_context(self.ray.session())
            stack.callback(self._end)
            found = self._package.cluster_resources()
            gpus, cpus = int(found.get("GPU", 0)), int(found.get("CPU", 0))
            self.on_gpus = self.use_gpus and gpus > 0
            count = self.workers or (gpus if self.on_gpus else 1)
            if count > (most := min(gpus, cpus) if self.on_gpus else cpus):
                kind = "GPUs with a CPU each" if self.on_gpus else "CPUs"
                raise ValueError(f"workers is {count}, but Ray has {most} {kind}: give at most so many")
            for _ in range(count):
                self._start()
            answers = list(self._replicas.values())
            while answers:
                self.check()
                ready, answers = self._package.wait(answers, timeout=PATIENCE)
                try:
                    self._package.get(ready)
                except self._package.exceptions.RayError as error:
                    raise ChildProcessError(f"a worker of Ray cannot load the model: {_cause(error)}") from error
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *of_error: Any) -> None:
        self._stack.close()

    def make(self, folder: Path, batches: Sequence[Batch], clean_up: CleanUp) -> Results:
        """The results of each batch as they become ready; see `vidrd_core.many.runner.Maker`.

        A batch whose worker dies is tried once more, by another; the videos of one whose second worker dies have a
        ChildProcessError.
        """
        waiting = deque((batch, 1) for batch in batches)
        running: dict[Any, tuple[Any, Batch, int]] = {}
        idle, where = list(self._replicas), folder.resolve()
        try:
            while waiting or running:
                self.check()
                while waiting and idle:
                    (batch, attempt), replica = waiting.popleft(), idle.pop()
                    self.on_begin(batch)
                    running[replica.make.remote(where, batch)] = replica, batch, attempt
                for answer in self._package.wait(list(running), timeout=PATIENCE)[0]:
                    replica, batch, attempt = running.pop(answer)
                    try:
                        results = self._package.get(answer)
                    except self._package.exceptions.RayError as error:
                        self._kill(replica)
                        clean_up(batch.jobs)
                        idle.append(self._start())
                        if attempt < TRIES:
                            waiting.appendleft((batch, attempt + 1))
                            continue
                        died = ChildProcessError(f"a worker of Ray died {TRIES} times ({first_line(error)})")
                        results = [Result(job, error=died) for job in batch.jobs]
                    else:
                        idle.append(replica)
                    if isinstance(results, Exception):
                        raise results
                    yield results
        finally:
            for replica, batch, _ in running.values():  # what was stopped
                self._kill(replica)
                clean_up(batch.jobs)

    def _start(self) -> Any:
        """Start a worker."""
        actor = self._package.remote(Replica).options(num_cpus=1, num_gpus=int(self.on_gpus), max_restarts=0)
        replica = actor.remote(self.load)
        self._replicas[replica] = replica.process.remote()
        return replica

    def _kill(self, replica: Any) -> None:
        """End a worker, and wait until it writes no more; of another machine, until Ray has told it to end."""
        answer = self._replicas.pop(replica)
        with suppress(self._package.exceptions.RayError, ValueError):
            self._package.kill(replica)
        with suppress(self._package.exceptions.RayError):
            machine, number = self._package.get(answer, timeout=0)
            if machine == socket.gethostname():
                _wait_for_end(number)

    def _end(self) -> None:
        """End all workers."""
        for replica in list(self._replicas):
            self._kill(replica)


def _wait_for_end(number: int) -> None:
    """Wait until a process has ended, or `LONGEST_END` has passed."""
    until = time.monotonic() + LONGEST_END
    while os.name == "posix" and time.monotonic() < until:  # elsewhere, to ask would end it
        try:
            os.kill(number, 0)
        except OSError:
            return
        time.sleep(0.02)


def _cause(error: BaseException) -> str:
    """The message of the error in a worker's constructor, which is the last line of Ray's."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
