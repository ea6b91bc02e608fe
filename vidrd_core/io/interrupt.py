"""A Ctrl-C that lets what is under way be finished."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interrupt:
    """In a `with` block: the first Ctrl-C, SIGTERM or SIGHUP asks to stop, a second Ctrl-C raises KeyboardInterrupt.

    So nothing is cut short by the first one but what looks at `asked`, or calls `check`, between its steps.
    """

    def __init__(self) -> None:
        self.number = 0  # of the signal that came
        self.old: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        return self.number != 0

    def receive(self, number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = self.number or number

    def check(self) -> None:
        """Raise KeyboardInterrupt if it was asked to stop."""
        if self.asked:
            raise KeyboardInterrupt

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:  # nohup and the like mean it
                    self.old[number] = signal.signal(number, self.receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)
