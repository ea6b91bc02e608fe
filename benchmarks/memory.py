"""The peak resident memory of a process and of a function call."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vidrd_core.metrics.peak_memory import MIB

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory() -> float:
    """The peak resident memory of this process so far, in MiB."""
    if STATUS.exists():  # getrusage would count what the parent had when it forked
        return _status("VmHWM")
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / MIB
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (MIB if sys.platform == "darwin" else 1024)


def grown_by(work: Callable[[], Any]) -> float | None:
    """The peak growth of resident memory while a function runs.

    Args:
        work: The function.

    Returns:
        MiB; None where the system does not report it (other than Linux).
    """
    try:
        RESET.write_text("5", encoding="ascii")  # resets the peak to what is resident now
    except OSError:
        return None
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(name: str) -> float:
    """A value of /proc/self/status in MiB."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024
