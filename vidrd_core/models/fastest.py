"""Which of several ways to compute the same is the fastest on this processor: measured once, and kept in a file.

Ways differ in the last bits, so all processes of a machine have to use the same one: the first to measure decides,
for as long as processor, torch and number of threads stay. The files lie in the folder that `VIDRD_KERNELS` names, by
default in vidrd/kernels under `XDG_CACHE_HOME` or ~/.cache. With `VIDRD_KERNELS=off` the usual ways are taken and
nothing is measured; likewise where the folder cannot be written.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

FOLDER = "VIDRD_KERNELS"  # environment variable
ROUNDS = 7  # of each way, in turns; the fastest round counts
SECONDS = 0.25  # after which no more rounds begin, once there are two
GAIN = 1.1  # another way must be so many times as fast as the usual one
logger = logging.getLogger(__name__)


def fastest(what: str, ways: Mapping[str, Callable[[], Tensor]]) -> str:
    """The name of the fastest way to compute something on this machine.

    Args:
        what: What is computed, with all that the answer may depend on beside processor, torch and threads.
        ways: The ways by name, the usual one first; each computes an example.

    Returns:
        A name of `ways`.
    """
    usual = next(iter(ways))
    file = _file(what)
    if file is None:
        return usual
    found = _kept(file, ways)
    if found is None:
        kept = _keep(file, what, _measured(what, ways))
        found = _kept(file, ways) if kept else None
    return found or usual


def _file(what: str) -> Path | None:
    """Where the answer is kept; None if nothing is to be measured."""
    folder = os.environ.get(FOLDER, "")
    if folder == "off":
        return None
    base = Path(folder) if folder else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "vidrd" / "kernels"
    asked = json.dumps([what, processor(), torch.__version__, torch.get_num_threads()])
    try:
        return base.expanduser() / f"{sha256(asked.encode()).hexdigest()[:16]}.json"
    except RuntimeError:  # no home
        return None


@cache
def processor() -> str:
    """The processor's name and what torch says of its instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    told = [line.split(":", 1) for line in lines if line.startswith(("model name", "vendor_id", "model\t"))]
    named = [value.strip() for _, value in told]
    name = " ".join(dict.fromkeys(named)) or platform.processor() or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def _kept(file: Path, ways: Mapping[str, Callable[[], Tensor]]) -> str | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["fastest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) and found in ways else None


def _measured(what: str, ways: Mapping[str, Callable[[], Tensor]]) -> str:
    taken: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for way in ways.values():
            way()
        until = time.perf_counter() + SECONDS
        for number in range(ROUNDS):
            if number > 1 and time.perf_counter() > until:
                break
            for name, way in ways.items():
                began = time.perf_counter()
                way()
                taken[name].append(time.perf_counter() - began)
    best = {name: min(seconds) for name, seconds in taken.items()}
    usual, found = next(iter(ways)), min(best, key=lambda name: best[name])
    said = ", ".join(f"{name} {1e6 * seconds:.0f} us" for name, seconds in best.items())
    logger.info("%s on %s: %s", what, processor(), said)
    return found if best[usual] > GAIN * best[found] else usual


def _keep(file: Path, what: str, name: str) -> bool:
    """Write an answer, unless another process has: then its answer stays. False if nothing can be written there."""
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"what": what, "processor": processor(), "fastest": name}), encoding="utf-8")
        try:
            os.link(part, file)
        except FileExistsError:
            if _is_unusable(file):
                part.replace(file)
        except OSError:  # a file system without links
            part.replace(file)
        part.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _is_unusable(file: Path) -> bool:
    try:
        return not isinstance(json.loads(file.read_text(encoding="utf-8"))["fastest"], str)
    except (ValueError, KeyError, TypeError):
        return True
