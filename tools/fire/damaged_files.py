"""Read thousands of damaged files, each within limits: `python -m tools.fire.damaged_files --count 20000`.

Each file is damaged from a seed and its number, and read in a worker process. A failure is a worker that dies or
takes too long or too much memory, an error that the reader does not declare, or one that other code raised through
it, and nonsense that was accepted. `--only NUMBER` reads one again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tools.fire.damages import damaged

SECONDS = 10.0  # of a processor, for a file
BUSY = 6  # how many times as long it may take, where other programs run, too
BYTES = 2 * 1024**3
PACKAGE = os.sep + "vidrd_core" + os.sep
OUTCOMES = ("read", "refused", "undeclared", "nonsense", "hang", "memory", "crash")


# --- in the worker ---


def work() -> None:
    """Read the files that stdin names, and say on stdout what came of each."""
    from tools.fire.loaders import kinds

    known, answers = kinds(), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        name, path = json.loads(line)
        answers.write(json.dumps(read(known[name], Path(path))) + "\n")
        answers.flush()


def read(kind: Any, path: Path) -> tuple[str, str]:
    """Read a file of a kind: the outcome, and the error's text."""
    from tools.fire.loaders import NonsenseError

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            kind.read(path)
    except NonsenseError as error:
        return "nonsense", str(error)
    except kind.declared as error:
        if raised_here(error):
            return "refused", f"{type(error).__name__}: {error}"
        return "undeclared", "".join(traceback.format_exception(error)[-4:])
    except BaseException as error:
        return "undeclared", "".join(traceback.format_exception(error)[-4:])
    return "read", ""


def raised_here(error: BaseException) -> bool:
    """Whether the package raised an error itself, or it is the system's about a file."""
    frames = traceback.extract_tb(error.__traceback__)
    return PACKAGE in frames[-1].filename or (isinstance(error, OSError) and error.errno is not None)


# --- in the process that drives it ---


class Worker:
    """A process that reads files, started again after it failed."""

    def __init__(self, scratch: str = tempfile.gettempdir()) -> None:
        self.process: Any = None
        self.scratch = scratch

    def read(self, kind: str, path: Path) -> tuple[str, str]:
        """Have a file read: the outcome, and the error's text."""
        if self.process is None:
            command = [sys.executable, "-m", "tools.fire.damaged_files", "--work"]
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "TMPDIR": self.scratch},  # one that is killed leaves its own there
            )
            self.wait_for(kind, Path(os.devnull), 300.0)  # its imports, and the models that it needs
        return self.wait_for(kind, path, SECONDS)

    def wait_for(self, kind: str, path: Path, seconds: float) -> tuple[str, str]:
        """What the worker answers within a time; it is ended if it does not, or takes too much memory."""
        import selectors

        self.process.stdin.write(json.dumps([kind, str(path)]) + "\n")
        self.process.stdin.flush()
        begun, before, most = time.monotonic(), _worked(self.process.pid), 0
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            while True:
                answered = ready.select(0.05)
                most = max(most, _resident(self.process.pid))
                outcome = ""
                if answered:
                    line = self.process.stdout.readline()
                    if line:
                        found, text = json.loads(line)
                        return found, text
                    outcome = "crash"
                elif most > BYTES:
                    outcome = "memory"
                elif _worked(self.process.pid) - before > seconds or time.monotonic() - begun > BUSY * seconds:
                    outcome = "hang"
                if outcome:
                    self.end()
                    return outcome, f"{most / 2**30:.1f} GB, {time.monotonic() - begun:.1f} s"

    def end(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def _worked(process: int) -> float:
    """Seconds of processors that a process has used; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0


def _resident(process: int) -> int:
    """Bytes of memory that a process has; 0 where the system does not say."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


Case = tuple[int, str, Path, str, str]
"""A damaged copy of a sample: its number, its kind, where it is, of which file, and what was done."""


def cases(samples: Path, names: Sequence[str], seed: int, numbers: Sequence[int]) -> Iterator[Case]:
    """Damaged copies of samples, each as long as it is the last one."""
    originals = {name: sorted((samples / name).iterdir()) for name in names}
    for number in numbers:
        rng = np.random.default_rng([seed, number])
        kind = names[number % len(names)]
        original = originals[kind][rng.integers(len(originals[kind]))]
        with tempfile.TemporaryDirectory(prefix="vidrd_fire_") as folder:
            copy = Path(folder) / original.name
            if original.is_dir():
                shutil.copytree(original, copy)
                files = sorted(path for path in copy.rglob("*") if path.is_file())
                target = files[rng.integers(len(files))]
            else:
                shutil.copyfile(original, copy)
                target = copy
            data, done = damaged(target.read_bytes(), target.name, rng)
            target.write_bytes(data)
            yield number, kind, copy, str(target.relative_to(folder)), done


def run(names: Sequence[str], seed: int, numbers: Sequence[int], keep: Path | None = None) -> list[dict[str, Any]]:
    """Read damaged files.

    Args:
        names: The kinds.
        seed: Of the damage.
        numbers: The numbers of the files.
        keep: A folder for those that fail.

    Returns:
        A record of each: "number", "kind", "file", "damage", "outcome" and "text".
    """
    from tools.fire.loaders import kinds

    known, records = kinds(), []
    with tempfile.TemporaryDirectory(prefix="vidrd_fire_samples_") as folder:
        samples, worker = Path(folder) / "samples", Worker(folder)
        samples.mkdir()
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():  # libraries show their progress
            warnings.simplefilter("ignore")
            for name in names:
                (samples / name).mkdir()
                known[name].make(samples / name)
        for name in names:
            for path in sorted((samples / name).iterdir()):
                if (found := worker.read(name, path))[0] != "read":
                    sys.exit(f"error: the undamaged {path.name} of {name}: {' '.join(found)}")
        for number, kind, path, file, done in cases(samples, names, seed, numbers):
            outcome, text = worker.read(kind, path)
            records.append(
                {"number": number, "kind": kind, "file": file, "damage": done, "outcome": outcome, "text": text}
            )
            if outcome not in ("read", "refused"):
                print(f"{number} {kind} {file} [{done}] {outcome}: {text}", flush=True)
                if keep is not None:
                    target = keep / str(number)
                    shutil.rmtree(target, ignore_errors=True)
                    shutil.copytree(path.parent, target)
        worker.end()
    return records


def table(records: Sequence[dict[str, Any]]) -> str:
    """The counts of each kind, as a table of Markdown."""
    counts = {kind: Counter() for kind in dict.fromkeys(each["kind"] for each in records)}  # type: ignore[var-annotated]
    for each in records:
        counts[each["kind"]][each["outcome"]] += 1
    rows = [["kind", "files", *OUTCOMES], ["-"] * (2 + len(OUTCOMES))]
    rows += [[kind, str(sum(found.values())), *(str(found[o]) for o in OUTCOMES)] for kind, found in counts.items()]
    every = sum(counts.values(), Counter())
    rows.append(["all", str(sum(every.values())), *(str(every[outcome]) for outcome in OUTCOMES)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Read the options, the files, and print the table."""
    from tools.fire.loaders import kinds

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="how many files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=sorted(kinds()), default=list(kinds())[:-1])
    parser.add_argument("--only", type=int, help="the number of one file")
    parser.add_argument("--keep", type=Path, help="a folder for the files that fail")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work()
        return
    numbers = range(options.count) if options.only is None else [options.only]
    records = run(options.kinds, options.seed, numbers, options.keep)
    print(table(records))
    if any(each["outcome"] not in ("read", "refused") for each in records):
        sys.exit(1)


if __name__ == "__main__":
    main()
