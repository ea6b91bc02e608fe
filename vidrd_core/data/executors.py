"""Where the parts of a stage are processed: in this process, in several, or on a Ray cluster."""

from __future__ import annotations

import logging
import socket
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from vidrd_core.io import MissingPackageError
from vidrd_core.io.isolated import CrashError, Isolated
from vidrd_core.io.os_errors import first_line

Part = TypeVar("Part")
Result = TypeVar("Result")


class Executor(Protocol):
    """Runs a function on parts."""

    def map(self, work: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[Result]:
        """The results as they become ready, in any order."""


class InProcess:
    """In this process, one after the other."""

    def map(self, work: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[Result]:
        """The results, in order."""
        return map(work, parts)


class WorkerDiedError(ChildProcessError):
    """A process died while it worked on a part."""


@dataclass(frozen=True)
class Processes:
    """In other processes of this machine, so that a file that crashes its decoder costs one of those alone.

    Args:
        workers: How many.
    """

    workers: int = 1

    def map(self, work: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[Result]:
        """The results as they become ready. Raises WorkerDiedError if a process dies."""
        processes = [Isolated() for _ in range(max(1, min(self.workers, len(parts))))]
        free = SimpleQueue[Isolated]()
        for process in processes:
            free.put(process)

        def call(part: Part) -> Result:
            process = free.get()
            try:
                return process(work, part)
            finally:
                free.put(process)

        pool = ThreadPoolExecutor(len(processes))
        try:
            waiting, running = iter(parts), set[Future[Result]]()
            for part in waiting:
                running.add(pool.submit(call, part))
                if len(running) > 2 * self.workers:
                    running, results = _next_results(running)
                    yield from results
            while running:
                running, results = _next_results(running)
                yield from results
        except CrashError as error:
            raise WorkerDiedError(f"a worker {error}: {_CONTINUE}") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:  # do not wait for what is running
                process.close()
            pool.shutdown()


def _next_results(running: set[Future[Result]]) -> tuple[set[Future[Result]], list[Result]]:
    """Wait for the first results; what is still running, and the results."""
    done, left = wait(running, return_when=FIRST_COMPLETED)
    return left, [future.result() for future in done]


def in_order(executor: Executor, work: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[Result]:
    """Results in the order of the parts; those that are ready early wait."""
    early: dict[int, Result] = {}
    turn = 0
    for number, result in executor.map(_Numbered(work), list(enumerate(parts))):
        early[number] = result
        while turn in early:
            yield early.pop(turn)
            turn += 1


@dataclass(frozen=True)
class _Numbered:
    work: Callable[[Any], Any]

    def __call__(self, part: tuple[int, Any]) -> tuple[int, Any]:
        return part[0], self.work(part[1])


@dataclass(frozen=True)
class Ray:
    """On Ray Data. All machines must see the folders under the same names.

    Args:
        address: A cluster's address, or "auto"; None starts one on this machine.
        workers: CPUs of the one that is started here.
    """

    address: str | None = None
    workers: int | None = None

    def check(self) -> None:
        """Look for Ray before anything is written.

        Raises:
            MissingPackageError: It, or what it needs, is missing.
            ValueError: The address is none, or nobody answers there; Ray itself would try for ever.
        """
        _ray()
        if self.address is None or self.address in NAMED_ADDRESSES:
            return
        scheme, _, rest = self.address.rpartition("://")
        if scheme not in ("", "ray"):
            return  # of another service
        try:
            place = urlsplit(f"//{rest}")
            host, port = place.hostname, place.port or (CLIENT_PORT if scheme else None)
        except ValueError:
            host = port = None
        if not host or not port:
            raise ValueError(f"the address of Ray is {self.address!r}, expected HOST:PORT, ray://HOST:PORT or auto")
        try:
            socket.create_connection((host, port), timeout=PATIENCE).close()
        except OSError as error:
            raise ValueError(
                f"no Ray answers at {self.address} ({error}): start it there with `ray start --head`, or leave the "
                "address out for one on this machine"
            ) from error

    def map(self, work: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[Result]:
        """The results as they become ready.

        Args:
            work: The function.
            parts: Its arguments.

        Yields:
            A result for each part, in any order.

        Raises:
            MissingPackageError: Ray is missing.
            WorkerDiedError: Ray or a worker of it fails.
            Exception: What the function raises, as in this process.
        """
        if not parts:
            return
        with self.session() as ray:
            try:
                ray.data.DataContext.get_current().enable_progress_bars = False
                rows = ray.data.from_items([{"part": part} for part in parts], override_num_blocks=len(parts))
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Ray 2.60 announces that this argument goes in 2.64
                    made = rows.map(_RowWork(work), max_retries=CRASHES)
                for row in made.iter_rows():
                    outcome: _Outcome = row["outcome"]
                    if outcome.error is not None:
                        raise outcome.error from RuntimeError(f"in a worker of Ray:\n{outcome.trace}")
                    yield outcome.result
            except ray.exceptions.RayError as error:
                raise WorkerDiedError(f"a worker of Ray failed ({first_line(error)}): {_CONTINUE}") from error

    @contextmanager
    def session(self) -> Iterator[Any]:
        """A context that connects to Ray, or starts it.

        Yields:
            The package ray.

        Raises:
            MissingPackageError: Ray is missing.
        """
        ray = _ray()
        started = not ray.is_initialized()
        if started:
            ray.init(address=self.address, num_cpus=None if self.address else self.workers, **_SILENT)
        try:
            yield ray
        finally:
            if started:
                ray.shutdown()


_CONTINUE = "run the same command again to continue after the complete shards"
NAMED_ADDRESSES = ("auto", "local")
CLIENT_PORT = 10001  # of ray:// without one
PATIENCE = 5.0  # seconds for an answer
CRASHES = 2  # of a worker, after which its part is not tried again; Ray Data would try for ever
_SILENT: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}


def _ray() -> Any:
    """The package ray, with Ray Data, which prints nothing: its errors are raised. Raises MissingPackageError."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingPackageError(
            f"Ray is missing ({error}): pip install 'ray[data]', or use --workers for this machine"
        ) from error
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # its other handler writes Ray's own log file
            handler.setLevel(logging.CRITICAL)
    return ray


@dataclass(frozen=True)
class _Outcome:
    """The result of a part, or the error that it raised, which Ray would wrap in errors of its own."""

    result: Any = None
    error: Exception | None = None
    trace: str = ""


@dataclass(frozen=True)
class _RowWork:
    work: Callable[[Any], Any]

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"outcome": _Outcome(self.work(row["part"]))}
        except Exception as error:
            return {"outcome": _Outcome(error=error, trace=traceback.format_exc())}
