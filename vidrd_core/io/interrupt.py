"""Handle Ctrl-C and termination signals so that the current step can be finished."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interrupt:
    """A context in which the first Ctrl-C, SIGTERM or SIGHUP requests a stop and a second Ctrl-C interrupts at once.

    The block reads `requested`, or calls `check`, between its steps. Signals that are ignored stay so, and outside
    the main thread nothing is handled.

    Attributes:
        number: The number of the signal that was received, 0 if none.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed a second time.
    """

    def __init__(self) -> None:
        self.number = 0
        self._old_handlers: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal was received."""
        return self.number != 0

    def receive(self, number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
        """Handle a signal, as `signal.signal` calls it."""
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = self.number or number

    def check(self) -> None:
        """Raise KeyboardInterrupt if a stop was requested."""
        if self.requested:
            raise KeyboardInterrupt

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
                    self._old_handlers[number] = signal.signal(number, self.receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
