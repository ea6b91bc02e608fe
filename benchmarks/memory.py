"""How much memory a process, and a piece of work, takes at most."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vidrd_core.metrics.peak_memory import MIB

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory() -> float:
    """The most memory that this process ever had resident, in MiB."""
    if STATUS.exists():  # getrusage would count what the parent had when it forked
        return _status("VmHWM")
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / MIB
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (MIB if sys.platform == "darwin" else 1024)


def grown_by(work: Callable[[], Any]) -> float | None:
    """By how many MiB a piece of work makes resident memory grow at most; None where the system cannot tell."""
    try:
        FORGET.write_text("5", encoding="ascii")  # the highest mark begins anew, at what is resident now
    except OSError:
        return None
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(name: str) -> float:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024
