"""What each command does on bad ground, as a table: `python -m tools.fire.conditions`.

Signals, output streams that are gone, disks that are read-only, full or limited, and two runs at once. In each case
files with final names must be whole: those of the undisturbed run, or a video of its first frames. Then the same
command is run again on good ground and must end as the undisturbed one. Disks are mounted for it, which needs root on
Linux; without, these cases are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from tools.fire.commands import Command, commands, import_all, run, start
from tools.fire.kills import files, is_temporary, run_undisturbed

SECONDS = 60.0  # after which a command that goes on is said to hang
PAGE = 4096  # bytes
CLOSE = 3.0  # levels, on average
SHARE = 0.5  # of the bytes that it needs


@dataclass(frozen=True)
class Run:
    """How a command ended.

    Args:
        code: Its exit code; negative for a signal, None if it hung.
        text: The last line that it printed.
    """

    code: int | None
    text: str


def waited(folder: Path, process: int) -> Run:
    """Wait for a process."""
    begun = time.monotonic()
    while time.monotonic() - begun < SECONDS:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            lines = folder.with_suffix(".stderr").read_text(errors="replace").strip().splitlines()
            return Run(os.waitstatus_to_exitcode(status), lines[-1] if lines else "")
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return Run(None, "hangs")


Ground = Callable[[Path, Command, float, int], list[Run]]
"""Runs a command in a folder, given the seconds and bytes that it takes undisturbed; how each process ended."""


def signalled(number: signal.Signals) -> Ground:
    """A signal in the middle of a run."""

    def ground(folder: Path, command: Command, seconds: float, _size: int) -> list[Run]:
        process = start(folder, command.arguments)
        time.sleep(seconds * 0.6)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
        return [waited(folder, process)]

    return ground


def closed(*descriptors: int) -> Ground:
    """Output streams that nobody reads."""

    def ground(folder: Path, command: Command, _seconds: float, _size: int) -> list[Run]:
        def broken() -> None:
            for descriptor in descriptors:
                reader, writer = os.pipe()
                os.dup2(writer, descriptor)
                os.close(reader)

        arguments = tuple(each for each in command.arguments if each != "-q")
        return [waited(folder, start(folder, arguments, broken))]

    return ground


def limited(folder: Path, command: Command, _seconds: float, size: int) -> list[Run]:
    """Files may not grow over a limit."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(size * SHARE), int(size * SHARE)))

    return [waited(folder, start(folder, command.arguments, limit))]


def full(folder: Path, command: Command, _seconds: float, size: int) -> list[Run]:
    """A disk that is full before the run ends."""
    pages = sum(-(-path.stat().st_size // PAGE) for path in folder.rglob("*") if path.is_file())
    with mounted(folder, f"size={pages * PAGE + int(size * SHARE) // PAGE * PAGE}"):
        return [waited(folder, start(folder, command.arguments))]


def read_only(folder: Path, command: Command, _seconds: float, _size: int) -> list[Run]:
    """A disk on which nothing can be written."""
    with mounted(folder, "size=64m", "remount,ro"):
        return [waited(folder, start(folder, command.arguments))]


def twice(folder: Path, command: Command, _seconds: float, _size: int) -> list[Run]:
    """Two runs at once."""
    processes = [start(folder, command.arguments), start(folder, command.arguments)]
    return [waited(folder, process) for process in processes]


@contextmanager
def mounted(folder: Path, options: str, then: str = "") -> Iterator[None]:
    """A context in which a folder is a disk of its own, with its files; what is written is there afterwards."""
    kept = folder.with_name(f"{folder.name}.kept")
    folder.rename(kept)
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        if then:
            subprocess.run(["mount", "-o", then, str(folder)], check=True)
        yield
        shutil.rmtree(kept)
        shutil.copytree(folder, kept)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()
        kept.rename(folder)


GROUNDS: dict[str, Ground] = {
    "SIGINT": signalled(signal.SIGINT),
    "SIGTERM": signalled(signal.SIGTERM),
    "SIGHUP": signalled(signal.SIGHUP),
    "stderr gone": closed(2),
    "stdout and stderr gone": closed(1, 2),
    "limited": limited,
    "full disk": full,
    "read-only": read_only,
    "two runs": twice,
}
MOUNTED = ("full disk", "read-only")


def judged(command: Command, folder: Path, undisturbed: Path) -> tuple[str, list[str]]:
    """What there is of a command's files, in words, and what is wrong with them."""
    before, after = files(undisturbed), files(folder)
    made = [name for name, digest in before.items() if digest and not _varies(command, name)]
    there = [name for name in made if after.get(name) == before[name]]
    shorter, wrong = False, []
    for name, digest in after.items():
        if not digest or name in there or _varies(command, name) or is_temporary(name):
            continue
        if any(fnmatch(name, each) for each in command.growing):
            continue
        found, expected = (_frames(each / name) for each in (folder, undisturbed))
        if found is None or expected is None or len(found) > len(expected):
            wrong.append(f"{name} is no file of the undisturbed run")
        elif np.array_equal(found, expected):  # an MP4 for whose index there was no room
            there.append(name)
        elif np.abs(found.astype(int) - expected[: len(found)]).mean() <= CLOSE:
            shorter = True  # its last frames are decoded without those that follow
        else:
            wrong.append(f"{name} is no beginning of the undisturbed run's")
    text = "all" if len(there) == len(made) else f"{len(there)} of {len(made)} files"
    return text + (", a shorter video" if shorter else ""), wrong


def _varies(command: Command, name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in command.varies)


def _frames(path: Path) -> Any:
    """The frames of a video, or of a folder's picture; None for another file, a damaged one, or none."""
    from vidrd_core.io.pictures import read_picture
    from vidrd_core.video import read_video

    if not path.is_file() or path.suffix not in (".mp4", ".webm", ".png"):
        return None
    try:
        return read_picture(path)[None] if path.suffix == ".png" else read_video(path)[0]
    except ValueError:
        return None


def tried(command: Command, grounds: list[str]) -> tuple[list[str], list[str]]:
    """A cell of the table for each case, and the faults."""
    cells, faults = [], []
    with run_undisturbed(command) as (ready, undisturbed, seconds):
        before, kept = files(ready), files(undisturbed)
        made = [path for path in undisturbed.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in made if path.relative_to(undisturbed).as_posix() not in before)
        largest = max(path.stat().st_size for path in made)
        for name in grounds:
            folder = ready.with_name("tried")
            shutil.copytree(ready, folder)
            ends = GROUNDS[name](folder, command, seconds, largest if name == "limited" else size)
            there, wrong = judged(command, folder, undisturbed)
            if any(end.code is None for end in ends):
                wrong.append("it hangs")
            if any("Traceback" in folder.with_suffix(".stderr").read_text(errors="replace") for _ in ends):
                wrong.append("it ends in a traceback")
            try:
                run(folder, command.again or command.arguments)
                after, others = judged(command, folder, undisturbed)
                wrong += [f"then {each}" for each in others] + ([] if after == "all" else [f"then there are {after}"])
            except RuntimeError as error:
                wrong.append(f"then {error}")
            left = [each for each in files(folder) if is_temporary(each) and each not in kept]
            wrong += [f"{each} is left over" for each in left]
            codes = " and ".join(str(end.code) for end in ends)
            cells.append(f"{codes}: {there}")
            print(f"{command.name}, {name}: {codes}, {there}; {ends[0].text[:200]}", flush=True)
            faults += [f"{command.name}, {name}: {each}" for each in wrong]
            print("".join(f"  fault: {each}\n" for each in wrong), end="", flush=True)
            shutil.rmtree(folder)
    return cells, faults


def main() -> None:
    """Read the options, try, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", nargs="+", choices=sorted(commands()), default=list(commands()))
    parser.add_argument("--grounds", nargs="+", choices=sorted(GROUNDS), default=list(GROUNDS))
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells have background jobs ignore
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    import_all()

    grounds = [
        name for name in options.grounds if name not in MOUNTED or (sys.platform == "linux" and not os.geteuid())
    ]
    rows, faults = [["command", *grounds], ["-"] * (1 + len(grounds))], []
    for name in options.commands:
        cells, found = tried(commands()[name], grounds)
        rows.append([name, *cells])
        faults += found
    assert threading.active_count() == 1  # forks of threads would hang
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))
    print(f"{len(faults)} faults", *faults, sep="\n")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
