"""Kill each command at random moments, run it again, and compare: `python -m tools.fire.kills --count 200`.

Each command runs once undisturbed. Then, in a new copy of its folder, it is killed (SIGKILL) at a random moment of
the time that it took. Every file that has its final name by then must be whole; the same command is run again, and
must end with the files of the undisturbed run, bit for bit, and none besides. For Unix: processes are forks of this
one, so that a run does not begin with its imports.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from tools.fire.commands import Command, commands, import_all, run, start


def killed(folder: Path, arguments: Sequence[str], seconds: float) -> bool:
    """Run a command and kill it after a time; whether it had not ended by then."""
    process = start(folder, arguments)
    time.sleep(seconds)
    found, _ = os.waitpid(process, os.WNOHANG)
    if not found:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    return not found


def files(folder: Path) -> dict[str, str]:
    """Digests of the files under a folder, and "" for folders."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


def is_temporary(name: str) -> bool:
    """Whether a name says that what has it is not finished."""
    last = name.rsplit("/", 1)[-1]
    hidden = any(part.startswith(".") for part in name.split("/"))
    return ".part-" in name or last.endswith((".partial", ".at")) or last == "digests.jsonl" or hidden


def faults(command: Command, after: dict[str, str], before: dict[str, str], whole: bool) -> Iterator[str]:
    """What is wrong with the files of a run, beside those of the undisturbed one; `whole`: it came to its end."""
    for name, digest in after.items():
        if any(fnmatch(name, pattern) for pattern in command.varies):
            continue
        if name not in before:
            if whole or not is_temporary(name):
                yield f"{name} is left over" if whole else f"{name} has a final name, and no run makes it"
        elif digest != before[name] and (whole or not any(fnmatch(name, each) for each in command.growing)):
            yield f"{name} differs"
    if whole:
        yield from (
            f"{name} is missing"
            for name in before
            if name not in after and not any(fnmatch(name, pattern) for pattern in command.varies)
        )


@contextlib.contextmanager
def run_undisturbed(command: Command) -> Iterator[tuple[Path, Path, float]]:
    """A context with a folder that is ready for a command, one in which it has run, and the seconds that it took."""
    with tempfile.TemporaryDirectory(prefix="vidrd_fire_") as scratch:
        ready, undisturbed = Path(scratch) / "ready", Path(scratch) / "undisturbed"
        ready.mkdir()
        command.prepare(ready)
        shutil.copytree(ready, undisturbed)
        yield ready, undisturbed, run(undisturbed, command.arguments)


def tried(command: Command, count: int, seed: int) -> list[str]:
    """Kill a command at random moments: a text for each fault."""
    rng, found = np.random.default_rng(seed), list[str]()
    with run_undisturbed(command) as (ready, undisturbed, seconds):
        before = files(undisturbed)
        moments, hits = rng.uniform(0, seconds, count), 0
        for number, moment in enumerate(moments):
            folder = ready.with_name("killed")
            shutil.copytree(ready, folder)
            try:
                hit = killed(folder, command.arguments, moment)
                hits += hit
                wrong = list(faults(command, files(folder), before, whole=not hit))
                run(folder, command.again or command.arguments)
                wrong += [f"then {each}" for each in faults(command, files(folder), before, whole=True)]
            except RuntimeError as error:
                wrong = [str(error)]
            if wrong:
                found.append(f"{command.name}, kill {number} at {moment:.3f} s: {'; '.join(wrong)}")
                print(found[-1], flush=True)
            shutil.rmtree(folder)
    print(f"| {command.name} | {count} | {hits} | {seconds:.2f} | {len(found)} |", flush=True)
    return found


def main() -> None:
    """Read the options, kill, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="kills of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", choices=sorted(commands()), default=list(commands()))
    options = parser.parse_args()
    import_all()

    print("| command | kills | before its end | seconds | faults |\n| - | - | - | - | - |", flush=True)
    found = [fault for name in options.commands for fault in tried(commands()[name], options.count, options.seed)]
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
