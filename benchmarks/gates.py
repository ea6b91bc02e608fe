"""Has a small model of the drawn world learned what words mean, and does noise decide which instance it draws?

    python benchmarks/gates.py runs/world              # 36 captions, 3 noises each
    python benchmarks/gates.py runs/world --captions 12 --steps 10

Clips are generated and read out by program. Drawn clips, passed through the model's VAE, show what the read-out makes
of what should be perfect. Spreads are within a caption, over its noises, in units of what the world itself has.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidrd_core.io.atomic import write_json
from vidrd_core.loading import load
from vidrd_core.pipeline import VidRD
from vidrd_core.procedural import EVALUATION_SEED, world
from vidrd_core.procedural.world.alignment import alignment
from vidrd_core.procedural.world.captions import Wanted, sentence, wanted_of
from vidrd_core.procedural.world.motion import torus_distance
from vidrd_core.procedural.world.readout import Readout, circular_distance, circular_mean, read_out
from vidrd_core.procedural.world.things import HUE_SLACK
from vidrd_core.video import contact_sheet
from vidrd_core.video.tensors import to_frames, to_video

SAID = ("color", "shape", "motion", "ground", "all")
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


def measure(model: VidRD, given: argparse.Namespace) -> dict[str, Any]:
    """Generate and read out all clips."""
    instances = world.evaluation_instances(given.captions, EVALUATION_SEED)
    wanted = [wanted_of(each) for each in instances]
    drawn = np.stack([world.render(each) for each in instances])
    decoded = to_frames(model.vae.decode(model.vae.encode(to_video(drawn))))
    error = float(np.mean((drawn.astype(np.float64) - decoded) ** 2))
    clips, found = [], []
    for one in wanted:
        row = []
        for seed in range(given.noises):
            settings = {"steps": given.steps, "seed": seed, **({"cfg": given.cfg} if given.cfg is not None else {})}
            row.append(model.frames(model.generate(sentence(one), **settings)))
        clips.append(row)
        found.append([read_out(clip) for clip in row])
    spreads = [spread(row) for row in found]
    by_noise = [
        world_distance(a, b)
        for column in zip(*found, strict=True)
        for a, b in itertools.pairwise(column)
        if a.visible.all() and b.visible.all()
    ]
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
        "place_of_same_noise": float(np.mean(by_noise)) / EVEN_PLACES,
        "motions": {motion: float(np.mean(matched)) for motion, matched in motions.items()},
    }


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
    lines += ["", "motion as the caption says: " + ", ".join(f"{m} {v:.2f}" for m, v in result["motions"].items())]
    return "\n".join(lines)


def main() -> None:
    """Measure and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", help="a folder, or the name of a model")
    parser.add_argument("--captions", type=int, default=36)
    parser.add_argument("--noises", type=int, default=3, help="clips of each caption")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--cfg", type=float, help="guidance scale; the model's by default")
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet of one clip a caption there")
    parser.add_argument("-o", "--out", type=Path, help="also write all numbers there, as JSON")
    given = parser.parse_args()
    result = measure(load(given.model), given)
    if given.out:
        write_json(given.out, json.loads(json.dumps(result)))
    print(report(result))


if __name__ == "__main__":
    main()
