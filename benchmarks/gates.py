"""Has a small model of the drawn world learned what words mean, and does noise decide which instance it draws?

    python benchmarks/gates.py runs/world              # 36 captions, 3 noises each
    python benchmarks/gates.py runs/world --captions 12 --steps 10
    python benchmarks/gates.py runs/world --captions 0 # what words mean to it alone, in a minute

Words mean something if the loss is higher with another word in a caption's place. Clips are generated and read out by
program. Drawn clips, passed through the model's VAE, show what the read-out makes of what should be perfect. Spreads
are within a caption, over its noises, in units of what the world itself has.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidrd_core.io.atomic import write_json
from vidrd_core.loading import load
from vidrd_core.pipeline import VidRD
from vidrd_core.procedural import EVALUATION_SEED, world
from vidrd_core.procedural.datasets import WorldData
from vidrd_core.procedural.world.alignment import alignment
from vidrd_core.procedural.world.captions import Wanted, sentence, wanted_of
from vidrd_core.procedural.world.motion import torus_distance
from vidrd_core.procedural.world.readout import Readout, circular_distance, circular_mean, read_out
from vidrd_core.procedural.world.things import HUE_SLACK
from vidrd_core.sampling import Schedule
from vidrd_core.video import contact_sheet
from vidrd_core.video.tensors import to_frames, to_video

SWAPS = {
    "opposite": (("left", "right"), ("up", "down")),
    "across": (("left", "up"), ("right", "down")),
    "color": (("red", "green"), ("blue", "yellow")),
    "shape": (("circle", "square"), ("ring", "cross"), ("star", "triangle")),
}
SNRS = (1 / 3000, 1 / 600, 1 / 150, 1 / 50, 1 / 16, 1 / 4)  # of latents; the first is nearly noise alone
DRIFTS = ("drift left", "drift right", "drift up", "drift down")
SAID = ("color", "shape", "motion", "ground", "all")
SEARCHED = 12  # drawn clips among which one has a word of each swap
EVEN_PLACES = 0.3826  # mean distance of two places on a torus of side 1


def shares(wanted: Sequence[Wanted], found: Sequence[Readout]) -> dict[str, float]:
    """The shares of clips that show what their captions say."""
    matched = [alignment(one, other) for one, other in zip(wanted, found, strict=True)]
    return {
        word: float(np.mean([getattr(m, word) for m in matched]))
        for word in ("color", "shape", "motion", "ground", "all")
    }


def spread(found: Sequence[Readout]) -> dict[str, float]:
    """How far the instances of one caption differ, as a share of how far those of the world do."""
    seen = [each for each in found if each.visible.all()]
    pairs = [(a, b) for i, a in enumerate(seen) for b in seen[i + 1 :]]
    if not pairs:
        return {}
    hues = [circular_distance(*(circular_mean(r.hue, 360.0) for r in pair), 360.0) for pair in pairs]
    places = [world_distance(a, b) for a, b in pairs]
    return {
        "hue": float(np.mean(hues)) / (2 * HUE_SLACK / 3),  # the mean distance of two even values
        "place": float(np.mean(places)) / EVEN_PLACES,
        "pattern": float(np.mean([a.pattern != b.pattern for a, b in pairs])) / (1 - 1 / len(world.PATTERNS)),
    }


def world_distance(one: Readout, other: Readout) -> float:
    """The distance of two things' places in the first frame, on the torus."""
    return float(torus_distance(one.position[0], other.position[0]))


def mean_distance(pairs: Iterable[tuple[Readout, Readout]]) -> float:
    """The mean distance of pairs of things of which all frames could be read; NaN without any."""
    found = [world_distance(a, b) for a, b in pairs if a.visible.all() and b.visible.all()]
    return float(np.mean(found)) if found else math.nan


def moved_latents_error(model: VidRD, frames: np.ndarray) -> float:
    """How far latents of things that moved by half a place are from latents that moved, in units of their spread.

    Args:
        model: The model.
        frames: Single frames of the world, which is a torus [B, 1, S, S, 3].

    Returns:
        The root mean square of the difference; 0 where latents move as frames do.
    """
    half = model.vae.config.downsampling // 2
    with torch.no_grad():
        before, after = (
            model.vae.encode(to_video(each))[:, :, 0] for each in (frames, np.roll(frames, half, axis=3))
        )
    waves = torch.fft.rfft(before, dim=-1)
    turn = torch.exp(-2j * math.pi * torch.arange(waves.shape[-1]) * 0.5 / before.shape[-1])
    moved = torch.fft.irfft(waves * turn, n=before.shape[-1], dim=-1)
    spread = (before - before.mean((2, 3), keepdim=True)).std()
    return float((moved - after).square().mean().sqrt() / spread)


def swap_costs(model: VidRD, clips: int) -> dict[str, list[tuple[float, float]]]:
    """How much higher the loss is with another word in a caption's place, at each of `SNRS`.

    Args:
        model: The model.
        clips: Drawn clips of things that drift, of one noise each.

    Returns:
        For each of `SWAPS`, the share by which the mean loss grows, and its standard error.
    """
    data = WorldData(clips=SEARCHED * clips, motions=DRIFTS, seed=EVALUATION_SEED)
    schedule, costs = Schedule(model.diffusion), {}
    ratios = schedule.alphas_cumprod / (1 - schedule.alphas_cumprod)
    positions = torch.arange(data.frames)[None]
    for name, pairs in SWAPS.items():
        other = {word: swapped for pair in pairs for word, swapped in (pair, pair[::-1])}
        captions = ((i, data.plain(i).split()) for i in range(data.clips))
        chosen = list(itertools.islice(((i, words) for i, words in captions if other.keys() & {*words}), clips))
        said = [" ".join(words) for _, words in chosen]
        swapped = [" ".join(other.get(word, word) for word in words) for _, words in chosen]
        x = model.vae.encode(to_video(np.stack([data.frames_of(i) for i, _ in chosen])))
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        costs[name] = []
        for snr in SNRS:
            timestep = torch.full((len(x),), min(int((ratios > snr).sum()), len(ratios) - 1))
            noised, target = schedule.noised(x, noise, timestep)
            made = (
                model.unet(noised, timestep, model.text_encoder.encode(texts), positions.expand(len(x), -1))
                for texts in (said, swapped)
            )
            losses = [(each - target).square().flatten(1).mean(1) for each in made]
            grown = (losses[1] - losses[0]) / losses[0].mean()
            costs[name].append((float(grown.mean()), float(grown.std() / len(x) ** 0.5)))
    return costs


def measure(model: VidRD, given: argparse.Namespace) -> dict[str, Any]:
    """Generate and read out all clips."""
    instances = world.evaluation_instances(given.captions, EVALUATION_SEED)
    wanted = [wanted_of(each) for each in instances]
    drawn = np.stack([world.render(each) for each in instances])
    decoded = to_frames(model.vae.decode(model.vae.encode(to_video(drawn))))
    error = float(np.mean((drawn.astype(np.float64) - decoded) ** 2))
    clips, found = [], []
    settings = {"steps": given.steps, **({"cfg": given.cfg} if given.cfg is not None else {})}

    def clip(one: Wanted, seed: int) -> np.ndarray:
        return model.frames(model.generate(sentence(one), seed=seed, **settings))

    for one in wanted:
        row = [clip(one, seed) for seed in range(given.noises)]
        clips.append(row)
        found.append([read_out(each) for each in row])
    spreads = [spread(row) for row in found]
    by_noise = mean_distance(pair for column in zip(*found, strict=True) for pair in itertools.pairwise(column))
    others = [replace(one, motion=other.motion) for one, other in itertools.pairwise(wanted)]
    by_motion = mean_distance((row[0], read_out(clip(one, 0))) for one, row in zip(others, found, strict=False))
    motions: dict[str, list[bool]] = {}
    for one, row in zip(wanted, found, strict=True):
        motions.setdefault(one.motion, []).extend(alignment(one, each).motion for each in row)
    if given.sheet:
        contact_sheet([row[0] for row in clips], given.sheet, labels=[sentence(one) for one in wanted])
    return {
        "psnr": 10 * math.log10(255**2 / error),
        "moved latents": moved_latents_error(model, drawn[:, :1]),
        "drawn": shares(wanted, [read_out(clip) for clip in decoded]),
        "generated": shares([one for one in wanted for _ in range(given.noises)], [r for row in found for r in row]),
        "videos": given.captions * given.noises,
        "spread": {
            name: float(np.mean([each[name] for each in spreads if each])) for name in ("hue", "place", "pattern")
        },
        "place_of_same_noise": by_noise / EVEN_PLACES,
        "place_in_other_motion": by_motion / EVEN_PLACES,
        "motions": {motion: float(np.mean(matched)) for motion, matched in motions.items()},
    }


def cost_table(costs: dict[str, list[tuple[float, float]]]) -> str:
    """A Markdown table of `swap_costs`, in percent."""
    lines = ["| loss with another word, signal to noise | " + " | ".join(f"1/{1 / snr:.0f}" for snr in SNRS) + " |"]
    lines.append("| --- " * (len(SNRS) + 1) + "|")
    for name, row in costs.items():
        lines.append(f"| {name} | " + " | ".join(f"{100 * v:+.2f} ± {100 * e:.2f} %" for v, e in row) + " |")
    return "\n".join([*lines, ""])


def report(result: dict[str, Any]) -> str:
    """Markdown tables."""
    error = {name: math.sqrt(v * (1 - v) / result["videos"]) for name, v in result["generated"].items()}
    lines = ["| shown as the caption says | color | shape | motion | ground | all |", "| --- " * 6 + "|"]
    drawn = " | ".join(f"{result['drawn'][name]:.2f}" for name in SAID)
    lines.append(f"| drawn, through the VAE ({result['psnr']:.1f} dB) | {drawn} |")
    made = " | ".join(f"{result['generated'][name]:.2f} ± {error[name]:.2f}" for name in SAID)
    lines.append(f"| generated ({result['videos']} clips) | {made} |")
    lines += ["", f"latents moved by half a place are off by {result['moved latents']:.2f} of their spread"]
    lines += ["", "| spread over noises / the world's | hue | place | pattern |", "| --- " * 4 + "|"]
    lines.append(
        "| one caption | " + " | ".join(f"{result['spread'][n]:.2f}" for n in ("hue", "place", "pattern")) + " |"
    )
    lines.append(f"| one noise, other captions | | {result['place_of_same_noise']:.2f} | |")
    lines.append(f"| one noise, another motion | | {result['place_in_other_motion']:.2f} | |")
    lines += ["", "motion as the caption says: " + ", ".join(f"{m} {v:.2f}" for m, v in result["motions"].items())]
    return "\n".join(lines)


def main() -> None:
    """Measure and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", help="a folder, or the name of a model")
    parser.add_argument("--captions", type=int, default=36, help="0: generate no clips")
    parser.add_argument("--noises", type=int, default=3, help="clips of each caption")
    parser.add_argument("--swaps", type=int, default=48, help="drawn clips for the cost of other words")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--cfg", type=float, help="guidance scale; the model's by default")
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet of one clip a caption there")
    parser.add_argument("-o", "--out", type=Path, help="also write all numbers there, as JSON")
    given = parser.parse_args()
    model = load(given.model)
    with torch.no_grad():
        costs = swap_costs(model, given.swaps)
    print(cost_table(costs), flush=True)
    result = measure(model, given) if given.captions else {}
    if given.out:
        write_json(given.out, json.loads(json.dumps({**result, "costs of swaps": costs})))
    if result:
        print(report(result))


if __name__ == "__main__":
    main()
