"""Work that goes on in a thread of its own, in order, while the program prepares more of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Generic, TypeVar

T = TypeVar("T")
AHEAD = 2  # calls that wait, so that what is prepared does not pile up


class InBackground(Generic[T]):
    """A context in which calls of a function run in a background thread, one after the other.

    Its end waits until all calls are done, also after an exception or Ctrl-C.

    Args:
        function: What is called. After it has raised an exception it is not called again.
    """

    def __init__(self, function: Callable[[T], object]) -> None:
        self._function = function
        self._waiting: deque[Future[object]] = deque()
        self._failed = False

    def __enter__(self) -> InBackground[T]:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vidrd")
        return self

    def __call__(self, argument: T) -> None:
        """Call the function with this soon. Raises what an earlier call raised."""
        while len(self._waiting) > AHEAD or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._call, argument))

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        """Wait for all calls. Raises what one of them raised, unless another exception ended the context."""
        stopped: KeyboardInterrupt | None = None
        while not all(each.done() for each in self._waiting):
            try:
                wait(self._waiting)
            except KeyboardInterrupt as error:  # what the calls write must be whole
                stopped = error
        self._thread.shutdown()
        if kind is None and stopped:
            raise stopped
        for each in self._waiting if kind is None else ():
            each.result()

    def _call(self, argument: T) -> None:
        if not self._failed:
            self._failed = True
            self._function(argument)
            self._failed = False
