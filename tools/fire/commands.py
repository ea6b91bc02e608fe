"""The commands that write, each with small input, to be killed and run on bad ground."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


def _footage(folder: Path) -> None:
    _films(folder)
    for number, path in enumerate(sorted((folder / "in").iterdir())):
        (folder / "in" / f"class_{number % 2}").mkdir(exist_ok=True)
        path.rename(folder / "in" / f"class_{number % 2}" / f"{number}_000000_000010.mp4")


def _workflow(folder: Path) -> None:
    from tests.core.comfy.graphs import wan

    (folder / "workflow.json").write_text(json.dumps(wan()))


def _unet(folder: Path) -> None:
    from safetensors.torch import save_file

    from tests.core.models.formats import originals

    save_file(originals.unet_3d().state_dict(), folder / "unet.safetensors")


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
            "data stills by two processes",
            ("data", "stills", "in", "-o", "out", "--size", "16", "--workers", "2", "--per-shard", "2", "-q"),
            prepare=_pictures,
        ),
        Command("data actions", ("data", "actions", "in", "-o", "out", "--size", "64", "-q"), prepare=_footage),
        Command(
            "evaluate",
            ("evaluate", "in", "-o", "out", "-q"),
            prepare=_films,
            varies=("out/*.html",),
            growing=("out/*.jsonl",),
        ),
        Command(
            "evaluate a model",
            ("evaluate", "--prompts", "prompts.txt", "--clips", "2", *FAST, "-o", "out"),
            prepare=_prompts,
            varies=("out/*.html",),
            growing=("out/*.jsonl",),
        ),
        Command(
            "ablate",
            (
                *("ablate", "--prompts", "prompts.txt", "--counts", "2,4", "--alphas", "none", "--betas", "none"),
                *("--videos", "3", "--clips", "2", *FAST, "-o", "out"),
            ),
            prepare=_prompts,
            varies=("out/*.html",),
            growing=("out/*.jsonl",),
        ),
        Command(
            "convert",
            ("convert", "unet.safetensors", "--to", "diffusers", "-o", "unet", "-q"),
            ("convert", "unet.safetensors", "--to", "diffusers", "-o", "unet", "--overwrite", "-q"),
            prepare=_unet,
        ),
        Command(
            "convert to a file",
            ("convert", "unet.safetensors", "--to", "temporal", "-o", "layers.safetensors", "-q"),
            ("convert", "unet.safetensors", "--to", "temporal", "-o", "layers.safetensors", "--overwrite", "-q"),
            prepare=_unet,
        ),
        Command(
            "comfy extend",
            ("comfy", "extend", "workflow.json", "-o", "long.json", "-q"),
            ("comfy", "extend", "workflow.json", "-o", "long.json", "--overwrite", "-q"),
            prepare=_workflow,
        ),
        Command("pack", ("pack", "tiny", "-o", "copy", "-q"), ("pack", "tiny", "-o", "copy", "--overwrite", "-q")),
        Command(
            "pack to a file",
            ("pack", "tiny", "-o", "copy.safetensors", "-q"),
            ("pack", "tiny", "-o", "copy.safetensors", "--overwrite", "-q"),
        ),
    )
    return {command.name: command for command in every}


def import_all() -> None:
    """Import what a run would begin with, so that its forks do not."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import vidrd_core.cli.many
    import vidrd_core.evaluation.runner
    import vidrd_core.pipeline
    import vidrd_core.training.recipe  # noqa: F401


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
