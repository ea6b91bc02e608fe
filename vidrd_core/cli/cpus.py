"""How PyTorch's threads share the processor with other programs: set by the command before PyTorch is imported."""

from __future__ import annotations

import math
import os
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")
SPINS = "2000"


def share_cpus() -> None:
    """Let waiting threads sleep, and use no more of them than a container may; what the user has set stays.

    By default a thread of OpenMP (libgomp) that waits for the others keeps its core busy for milliseconds. Beside
    other programs the one that it waits for then gets no core, and everything takes several times as long. `SPINS`
    turns of waiting, some microseconds, cost little on an idle machine and spare that.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    allowed = cpus_of_group()
    if allowed is not None and allowed < usable_cpus():
        os.environ.setdefault("OMP_NUM_THREADS", str(allowed))


def usable_cpus() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpus_of_group() -> int | None:
    """How many cores' time the process's control group (Linux: of a container, a service) may use, rounded up.

    Returns:
        1 or more, or None without a limit.
    """
    found = [quota for folder in _groups() if (quota := _quota(folder)) is not None]
    return max(1, math.ceil(min(found))) if found else None


def _groups() -> list[Path]:
    """The folders of the process's group and of those above it, whose limits hold as well."""
    try:
        lines = OWN_GROUP.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    found = []
    for line in lines:
        number, controllers, name = (*line.split(":", 2), "", "")[:3]
        if number == "0" and not controllers:  # version 2
            base = GROUPS
        elif "cpu" in controllers.split(","):  # version 1
            base = GROUPS / "cpu"
        else:
            continue
        group = base / name.lstrip("/")
        found += [base, *(each for each in (group, *group.parents) if base in each.parents)]
    return found


def _quota(folder: Path) -> float | None:
    """The cores' time that a group may use; None without a limit."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period")
            )
        limit = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max" among them
        return None
    return limit if limit > 0 else None
