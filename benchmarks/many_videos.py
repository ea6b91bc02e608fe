"""How many more videos do two Ray workers make than one process, and is one machine's batch worth it?

    python benchmarks/many_videos.py                 # one process of one thread against two workers of one thread
    python benchmarks/many_videos.py --batches 1 8   # one process, all threads: videos one by one, and in batches

Runs take turns. Rates count from the first finished videos to the last one, so that neither Python's start nor Ray's
is in them; videos of both ways are compared byte by byte.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

PROMPT = "a red circle moving right"


def make(folder: Path, given: argparse.Namespace, *options: str, core: int | None = None) -> list[Path]:
    """Make videos by `vidrd generate`, pinned to one core if it is given; return their files, the oldest first."""
    prompts = folder.with_suffix(".txt")
    prompts.write_text(f"{PROMPT}\n" * given.videos)
    command = [sys.executable, "-m", "vidrd_core.cli", "generate", "--prompts-file", str(prompts), "-o", f"{folder}/"]
    command += ["--clips", str(given.clips), "--steps", str(given.steps), "--quiet", *options]
    pin = (lambda: os.sched_setaffinity(0, {core})) if core is not None else None
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=pin)
    return sorted(folder.glob("*.mp4"), key=lambda path: path.stat().st_mtime_ns)


def rate(times: Sequence[float], at_once: int) -> float:
    """Videos a second, from when the first `at_once` of them were finished to when the last one was."""
    if len(times) <= at_once:
        raise ValueError(f"there are {len(times)} videos, expected more than the {at_once} that are made at once")
    return (len(times) - at_once) / (times[-1] - times[at_once - 1])


def rate_of(files: Sequence[Path], at_once: int) -> float:
    """The same of files."""
    return rate([path.stat().st_mtime_ns / 1e9 for path in files], at_once)


def compare(
    ways: dict[str, Callable[[Path], list[Path]]], at_once: dict[str, int], rounds: int
) -> dict[str, list[float]]:
    """Run all ways in turns; the rates of each. Raises ValueError if the first two differ in a byte."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds):
        with tempfile.TemporaryDirectory() as place:
            made = {}
            for name in list(ways) if turn % 2 else list(ways)[::-1]:
                files = made[name] = ways[name](Path(place) / name.replace(" ", "_"))
                rates[name].append(rate_of(files, at_once[name]))
            if "two workers" in made:
                pairs = zip(*(sorted(files) for files in made.values()), strict=True)
                if unequal := [one.name for one, other in pairs if one.read_bytes() != other.read_bytes()]:
                    raise ValueError(f"{', '.join(unequal)} differ")
        print(
            ", ".join(f"{name} {values[-1]:.3f} videos a second" for name, values in rates.items()), file=sys.stderr
        )
    return rates


def report(rates: dict[str, list[float]]) -> str:
    """The ratios of each way to the first."""
    first, *others = rates
    lines = [f"{first}: {statistics.median(rates[first]):.3f} videos a second"]
    for name in others:
        ratios = sorted(b / a for a, b in zip(rates[first], rates[name], strict=True))
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f} in {len(ratios)} rounds"
        lines.append(f"{name}: {statistics.median(ratios):.2f} times as many ({spread})")
    return "\n".join(lines)


def main() -> None:
    """Measure and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--videos", type=int, default=24)
    parser.add_argument("--clips", type=int, default=1)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", help="compare sizes of batches in one process instead")
    given = parser.parse_args()
    ways: dict[str, Callable[[Path], list[Path]]]
    if given.batches:
        ways = {f"batch {n}": lambda path, n=n: make(path, given, "--batch", str(n)) for n in given.batches}  # type: ignore[misc]
        at_once = {f"batch {n}": n for n in given.batches}
    else:
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [None]
        alone = ("--batch", "1", "--threads", "1")
        ways = {
            "one process": lambda path: make(path, given, *alone, core=cores[0]),
            "two workers": lambda path: make(path, given, *alone, "--ray", "--workers", "2"),
        }
        at_once = {"one process": 1, "two workers": 2}
    print(report(compare(ways, at_once, given.rounds)))


if __name__ == "__main__":
    main()
