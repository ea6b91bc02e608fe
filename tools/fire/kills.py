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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

PATIENCE = 300.0  # seconds that a run may take
FAST = ("--steps", "2", "--threads", "1", "-q")
RECIPE = """
out: run
data: {frames: 4, size: 16, sources: [{name: shapes, shapes: {clips: 8, frames: 4, size: 16}}]}
vae: {block_out_channels: [8, 8], layers_per_block: 1, norm_groups: 4, temp_conv_depth: 1}
unet:
  block_out_channels: [8, 8]
  attention_levels: [false, true]
  heads: [1, 1]
  layers_per_block: 1
  cross_attention_dim: 8
  norm_groups: 4
  temp_conv_depth: 1
  dropout: 0.0
text: {hidden_size: 8, layers: 1, heads: 1, max_length: 20}
diffusion: {prediction: v, frames: 4, size: 16, cfg: 2.0}
samples: {steps: 2, clips: 2}
stages:
  - {name: vae, task: vae, steps: 6, batch_size: 2, learning_rate: 1.0e-3, checkpoint_every: 2, sample_every: 3}
  - {name: clip, task: clip, train: all, steps: 6, batch_size: 2, learning_rate: 1.0e-3, checkpoint_every: 2,
     sample_every: 3, log_every: 1}
"""


@dataclass(frozen=True)
class Command:
    """A command that is killed.

    Args:
        name: Its name.
        arguments: Its arguments.
        again: Its arguments after a kill; by default the same.
        prepare: Makes what it needs in a folder.
        varies: Patterns of files whose content depends on the clock, and those of which a run keeps the newest.
        growing: Patterns of files that are whole up to their last complete line.
    """

    name: str
    arguments: tuple[str, ...]
    again: tuple[str, ...] = ()
    prepare: Callable[[Path], None] = lambda folder: None
    varies: tuple[str, ...] = ()
    growing: tuple[str, ...] = ()


def _pictures(folder: Path) -> None:
    from PIL import Image

    (folder / "in").mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        pixels = rng.integers(0, 255, (48, 64, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "in" / f"{number}.png")
        (folder / "in" / f"{number}.txt").write_text(f"picture {number}")


def _film(folder: Path) -> None:
    from vidrd_core.video import open_video

    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    with open_video(folder / "film.mp4") as video:
        video.write(np.stack([np.roll(noise, 3 * j, 1) for j in range(16)]))


def _films(folder: Path) -> None:
    (folder / "in").mkdir()
    for number in range(4):
        _film(folder)
        (folder / "film.mp4").rename(folder / "in" / f"{number}.mp4")


def _state(folder: Path) -> None:
    run(folder, ["generate", "a red circle", *FAST, "--state-dir", "kept", "-o", "first.mp4"])


def _recipe(folder: Path) -> None:
    (folder / "recipe.yaml").write_text(RECIPE)


def _prompts(folder: Path) -> None:
    (folder / "prompts.txt").write_text("a red circle\na blue square\na green star\n")


def commands() -> dict[str, Command]:
    """All commands by their names."""
    kept = ("--state-dir", "kept")
    long = ("generate", "a red circle", "--clips", "4", *FAST)
    every = (
        Command("generate", (*long, *kept, "-o", "v.mp4"), (*long, *kept, "-o", "v.mp4", "--resume")),
        Command("generate to frames", (*long, *kept, "-o", "v/"), (*long, *kept, "-o", "v/", "--resume")),
        Command("generate without states", (*long, "-o", "v.mp4")),
        Command(
            "generate many",
            ("generate", "--prompts-file", "prompts.txt", "--clips", "2", *FAST, "-o", "many"),
            prepare=_prompts,
            varies=("many/manifest.jsonl",),
        ),
        Command(
            "extend",
            (
                "extend",
                "kept/clip_0000.safetensors",
                "a blue square",
                "--clips",
                "3",
                "--threads",
                "1",
                "-q",
                "-o",
                "v.mp4",
            ),
            prepare=_state,
        ),
        Command(
            "state",
            ("state", "film.mp4", "a red circle", *FAST, "-o", "s.safetensors"),
            prepare=_film,
        ),
        Command(
            "train",
            ("train", "recipe.yaml", "-q"),
            prepare=_recipe,
            varies=("run/*/log.jsonl", "run/*/checkpoint_*", "run/*/latest.json"),
        ),
        Command("data stills", ("data", "stills", "in", "-o", "out", "--size", "16", "-q"), prepare=_pictures),
        Command(
            "data videos",
            ("data", "videos", "in", "-o", "out", "--size", "64", "--captioner", "sidecar", "-q"),
            prepare=_films,
        ),
        Command(
            "evaluate",
            ("evaluate", "in", "-o", "out", "-q"),
            prepare=_films,
            varies=("out/*.html",),
            growing=("out/*.jsonl",),
        ),
        Command("pack", ("pack", "tiny", "-o", "copy", "-q"), ("pack", "tiny", "-o", "copy", "--overwrite", "-q")),
        Command(
            "pack to a file",
            ("pack", "tiny", "-o", "copy.safetensors", "-q"),
            ("pack", "tiny", "-o", "copy.safetensors", "--overwrite", "-q"),
        ),
    )
    return {command.name: command for command in every}


def start(folder: Path, arguments: Sequence[str], first: Callable[[], None] = lambda: None) -> int:
    """Start a command as a fork of this process in a folder, which calls `first`; the process."""
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        return process
    code = 70
    with contextlib.suppress(BaseException):
        os.chdir(folder)
        for name, number in (("stdout", 1), ("stderr", 2)):
            os.dup2(os.open(folder.with_suffix(f".{name}"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        from vidrd_core.cli import main

        first()
        sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
        code = main(list(arguments))
    os._exit(code)


def run(folder: Path, arguments: Sequence[str]) -> float:
    """Run a command to its end; the seconds that it took. Raises RuntimeError if it fails or takes too long."""
    begun, process = time.monotonic(), start(folder, arguments)
    while time.monotonic() - begun < PATIENCE:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            if status:
                text = folder.with_suffix(".stderr").read_text(errors="replace")[-500:]
                raise RuntimeError(f"{' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}: {text}")
            return time.monotonic() - begun
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    raise RuntimeError(f"{' '.join(arguments)} took over {PATIENCE:.0f} s")


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


def import_all() -> None:
    """Import what a run would begin with, so that its forks do not."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import vidrd_core.cli.many
    import vidrd_core.evaluation.runner
    import vidrd_core.pipeline
    import vidrd_core.training.recipe  # noqa: F401


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
