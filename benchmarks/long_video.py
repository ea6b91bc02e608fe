"""Does a long video cost more than a short one? Time, model calls and peak memory of chains of clips.

    python benchmarks/long_video.py                  # the built-in model, chains of 1, 4, 16 and 64 clips
    python benchmarks/long_video.py --model random --quick

Each chain is streamed to a file in a separate process, whose peak resident memory is read at its end. Then clips 1,
2 and 10 are sampled in turn, repeatedly, so that other load on the machine slows all three equally. Every ratio is
between numbers of the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory import peak_memory
from processes import in_a_process

if TYPE_CHECKING:  # the parent process stays small: its memory can count as that of its children
    from vidrd_core.pipeline import Clip, VidRD

PROMPT = "a large red circle moving right on a black background"
LENGTHS, QUICK_LENGTHS = (1, 4, 16, 64), (1, 4, 8)
LATE = 10  # the clip that is compared with clip 2


def load_model(name: str) -> VidRD:
    """Load a model by name or folder; "random" has the built-in model's architecture and random weights."""
    from vidrd_core.loading import load

    return random_model() if name == "random" else load(name)


def random_model() -> VidRD:
    """A model of the built-in model's architecture with random weights."""
    import dataclasses
    from importlib.resources import as_file, files

    import torch

    from vidrd_core.models.unet3d import UNet3D
    from vidrd_core.models.vae import TemporalVAE
    from vidrd_core.models.word_text_encoder import TextEncoder
    from vidrd_core.pipeline import VidRD
    from vidrd_core.procedural import VOCABULARY
    from vidrd_core.training.config import load_config

    with as_file(files("vidrd_core.training") / "configs" / "tiny.yaml") as path:
        config = load_config(path)
    torch.manual_seed(0)
    unet, vae = UNet3D(config.unet), TemporalVAE(config.vae)
    text = TextEncoder(dataclasses.replace(config.text, words=VOCABULARY))
    for part in (unet, vae, text):
        part.eval().requires_grad_(False)
    return VidRD(unet, vae, text, config.diffusion, name="random")


# --- in a separate process ---


class Calls:
    """Counts the calls of a model's UNet; both halves of classifier-free guidance are one call."""

    def __init__(self, model: VidRD) -> None:
        self.count = 0
        model.unet.register_forward_hook(self.add)

    def add(self, *_: Any) -> None:
        """Count a call; a forward hook."""
        self.count += 1


def stream_chain(model: VidRD, clips: int, steps: int, order: str = "mirror") -> dict[str, Any]:
    """Stream a chain of clips to a file and measure it.

    Args:
        model: The model.
        clips: The number of clips.
        steps: T, the denoising steps of a clip.
        order: "mirror" or "forward".

    Returns:
        "clips" and "frames"; "seconds" and UNet "calls" of each clip; "total" seconds, with decoding and writing; MiB
        of resident memory before ("loaded") and at most ("peak").
    """
    from vidrd_core.reuse import ReuseSettings
    from vidrd_core.video import open_video

    calls, loaded, reuse = Calls(model), peak_memory(), ReuseSettings(order=order)
    seconds: list[float] = []
    counts: list[int] = []

    def watched(chain: Iterable[Clip]) -> Iterator[Clip]:
        began, before = time.perf_counter(), calls.count
        for clip in chain:
            seconds.append(time.perf_counter() - began)
            counts.append(calls.count - before)
            yield clip
            began, before = time.perf_counter(), calls.count

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, open_video(Path(folder) / "long.mp4") as writer:
        for frames in model.decode(watched(model.stream(PROMPT, clips, reuse, steps=steps))):
            writer.write(frames)
        shown = writer.frames_written
    total = time.perf_counter() - began
    memory = {"loaded": loaded, "peak": peak_memory()}
    return {"clips": clips, "frames": shown, "seconds": seconds, "calls": counts, "total": total, **memory}


def take_turns(model: VidRD, repeats: int, steps: int) -> dict[str, Any]:
    """Sample clips 1, 2 and LATE in turn; a first round only warms up.

    Args:
        model: The model.
        repeats: Rounds.
        steps: T, the denoising steps of a clip.

    Returns:
        "rounds": for each round, the seconds of each clip by its number.
    """
    states = [clip.state for clip in model.stream(PROMPT, LATE - 1, steps=steps)]
    makers = {
        1: lambda: model.generate(PROMPT, steps=steps),
        2: lambda: model.extend(states[0], PROMPT),
        LATE: lambda: model.extend(states[-1], PROMPT),
    }
    rounds = []
    for turn in range(repeats + 1):
        taken = {}
        order = list(makers) if turn % 2 else list(makers)[::-1]
        for clip in order:
            began = time.perf_counter()
            makers[clip]()
            taken[clip] = time.perf_counter() - began
        rounds.append(taken)
    return {"rounds": rounds[1:]}


# --- in the parent process ---


def report(chains: list[dict[str, Any]], rounds: list[dict[str, float]]) -> str:
    """A Markdown table of the chains, and the ratios."""
    head = ["clips", "frames", "s in all", "s clip 1", "s later clip", "s decode + write a clip", "calls a clip"]
    head += ["s a shown frame", "calls a shown frame", "MiB loaded", "MiB peak"]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    for chain in chains:
        later = f"{statistics.median(chain['seconds'][1:]):.2f}" if chain["clips"] > 1 else ""
        other = (chain["total"] - sum(chain["seconds"])) / chain["clips"]
        calls = ", ".join(map(str, sorted(set(chain["calls"]))))
        row = [chain["clips"], chain["frames"], f"{chain['total']:.1f}", f"{chain['seconds'][0]:.2f}", later]
        row += [f"{other:.2f}", calls, f"{chain['total'] / chain['frames']:.3f}"]
        row += [f"{sum(chain['calls']) / chain['frames']:.3f}", f"{chain['loaded']:.0f}", f"{chain['peak']:.0f}"]
        lines.append("| " + " | ".join(map(str, row)) + " |")
    short, long = chains[1], chains[-1]
    grown = [chain["peak"] - chain["loaded"] for chain in (short, long)]
    lengths = f"{long['clips']} clips / {short['clips']} clips"
    lines += ["", f"peak memory, {lengths}: {long['peak'] / short['peak']:.3f}"]
    lines += [f"peak memory above the loaded model, {lengths}: {grown[1] / max(grown[0], 1e-9):.3f}"]
    for name, over, under in ((f"clip {LATE} / clip 2", LATE, 2), ("marginal clip (2) / first clip", 2, 1)):
        ratios = sorted(taken[str(over)] / taken[str(under)] for taken in rounds)
        spread = f"{ratios[0]:.3f} to {ratios[-1]:.3f} in {len(ratios)} rounds"
        lines.append(f"seconds, {name}: {statistics.median(ratios):.3f} ({spread})")
    return "\n".join(lines)


def main() -> None:
    """Run all parts and print the report; with --part, run one part and print its result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="tiny", help='a built-in name, a folder of parts, or "random"')
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--repeats", type=int, default=9, help="rounds of clips 1, 2 and 10")
    parser.add_argument("--order", choices=("mirror", "forward"), default="mirror", help="of the clips' frames")
    parser.add_argument("--quick", action="store_true", help="short chains of few steps")
    parser.add_argument("-o", "--out", type=Path, help="also write all numbers there, as JSON")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # clips of a chain, or "turns"
    given = parser.parse_args()
    if given.part:
        model = load_model(given.model)
        turns = given.part == "turns"
        result = take_turns(model, given.repeats, given.steps) if turns else None
        print(json.dumps(result or stream_chain(model, int(given.part), given.steps, given.order)))
        return
    lengths = QUICK_LENGTHS if given.quick else LENGTHS
    steps, repeats = (min(given.steps, 5), min(given.repeats, 5)) if given.quick else (given.steps, given.repeats)
    shared = ("--model", given.model, "--steps", steps, "--repeats", repeats, "--order", given.order)
    chains = [in_a_process(__file__, *shared, "--part", clips) for clips in lengths]
    rounds = in_a_process(__file__, *shared, "--part", "turns")["rounds"]
    print(f"{given.model}, {steps} steps, {given.order} order\n\n{report(chains, rounds)}")
    if given.out:
        numbers = {"model": given.model, "steps": steps, "chains": chains, "rounds": rounds}
        given.out.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
