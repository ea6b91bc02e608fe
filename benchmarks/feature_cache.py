"""What do features kept from call to call save, and what do they cost in quality?

    python benchmarks/feature_cache.py                    # the built-in model, 14 prompts of 4 clips
    python benchmarks/feature_cache.py --calls half       # calls of ModelScope's network at half width

Every prompt is made with each choice in turn, so that other load on the machine slows all equally. The time of a
shown frame is that of the later clips, and its ratio to the paper's order is taken within a prompt. PSNR is that of
the decoded frames against the same order with nothing kept. `--calls` measures single calls of a larger network with
random weights: all of it, without the prompt frames, without the deep levels, and without both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from unet3d import GUIDED, TEXT_WIDTH, TOKENS, WIDTHS, our_unet, their_unet

from vidrd_core import load
from vidrd_core.metrics.seams import seam_ratio
from vidrd_core.models.fastest import processor
from vidrd_core.models.feature_cache import FeatureCache
from vidrd_core.procedural import EVALUATION_SEED, describe, evaluation_scenes
from vidrd_core.procedural.prompt_alignment import prompt_alignment
from vidrd_core.reuse import ReuseSettings

SIDE = 32  # of the latents in --calls
# Order, prompt_interval, deep_interval.
CHOICES = [
    ("mirror", 1, 1),
    ("forward", 1, 1),
    ("forward", 2, 1),
    ("forward", 3, 1),
    ("forward", 5, 1),
    ("forward", 1, 2),
    ("forward", 1, 3),
    ("forward", 2, 2),
    ("forward", 3, 2),
    ("forward", 3, 3),
    ("mirror", 1, 2),
    ("mirror", 2, 2),
    ("mirror", 3, 3),
]


def name_of(choice: tuple[str, int, int]) -> str:
    """A choice in words."""
    order, prompt, deep = choice
    return f"{order}, prompt_interval {prompt}, deep_interval {deep}"


def chains(prompts: int, clips: int, steps: int, share: float) -> dict[str, dict[str, Any]]:
    """Make and measure all prompts with each choice.

    Args:
        prompts: How many.
        clips: Of each video.
        steps: Denoising steps (T).
        share: M / N.

    Returns:
        For each choice the figures that `main` prints.
    """
    model = load("tiny")
    frames = model.diffusion.frames
    found: dict[str, dict[str, list[float]]] = {name_of(choice): {} for choice in CHOICES}
    for number, scene in enumerate(evaluation_scenes(prompts, EVALUATION_SEED)):
        exact: dict[str, Any] = {}
        usual = 0.0
        for order, prompt, deep in CHOICES:
            reuse = ReuseSettings(prompt_frames=round(share * frames), order=order)  # type: ignore[arg-type]
            kept = {"prompt_interval": prompt, "deep_interval": deep}
            made, seconds = [], []
            began = time.perf_counter()
            for clip in model.stream(describe(scene), clips, reuse, steps=steps, seed=number, **kept):
                seconds.append(time.perf_counter() - began)
                made.append(clip)
                began = time.perf_counter()
            shown = frames - reuse.repeated_frames
            each = statistics.median(seconds[1:]) / shown
            usual = usual or each
            video = model.frames(made)
            reference = exact.setdefault(order, video)
            error = np.square(video.astype(float) - reference).mean()
            seams = [frames + shown * k for k in range(clips - 1)]
            figures = {
                "seconds": each,
                "ratio": each / usual,
                "seam": float(np.median(seam_ratio(video, seams))),
                **prompt_alignment(video, scene, frames, reuse.repeated_frames),
                **({"psnr": 10 * np.log10(255**2 / error)} if error else {}),
            }
            for key, value in figures.items():
                found[name_of((order, prompt, deep))].setdefault(key, []).append(float(value))
        print(f"{number + 1} of {prompts}", flush=True)
    return {
        name: {
            "seconds": statistics.median(own["seconds"]),
            "ratio": statistics.median(own["ratio"]),
            "ratio_range": [min(own["ratio"]), max(own["ratio"])],
            **{key: statistics.mean(own[key]) for key in ("seam", "faithful_look", "faithful_motion")},
            "psnr": statistics.mean(own["psnr"]) if "psnr" in own else None,
        }
        for name, own in found.items()
    }


@torch.inference_mode()
def calls(width: int, dtype: torch.dtype, frames: int, rounds: int) -> dict[str, Any]:
    """Time single calls: all, without the first quarter of the frames, without the deep levels, without both.

    Args:
        width: Channels of the first level.
        dtype: What is computed in.
        frames: N.
        rounds: Calls of each, in turns.

    Returns:
        For each the median of its ratio to a call of all, with the lowest and the highest.
    """
    unet = our_unet(their_unet(width), width).to(dtype)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 4, frames, SIDE, SIDE, generator=generator).to(dtype)
    text = torch.randn(GUIDED, TOKENS, TEXT_WIDTH, generator=generator).to(dtype)
    timestep = torch.full((GUIDED,), 500)
    caches = {
        "all": FeatureCache(),
        "without prompt frames": FeatureCache(prompt_interval=10**6),
        "without deep levels": FeatureCache(deep_interval=10**6),
        "without both": FeatureCache(10**6, 10**6),
    }
    for cache in caches.values():
        cache.replay(frames // 4)
        for _ in range(2):
            unet(x, timestep, text, cache=cache)
    taken: dict[str, list[float]] = {name: [] for name in caches}
    for _ in range(rounds):
        for name, cache in caches.items():
            began = time.perf_counter()
            unet(x, timestep, text, cache=cache)
            taken[name].append(time.perf_counter() - began)
    ratios = {
        name: sorted(own / whole for own, whole in zip(seconds, taken["all"], strict=True))
        for name, seconds in taken.items()
    }
    return {name: [statistics.median(own), own[0], own[-1]] for name, own in ratios.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table and its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=14)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--share", type=float, default=0.25, help="M / N")
    parser.add_argument("--calls", choices=sorted(WIDTHS), help="time single calls of ModelScope's network instead")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--frames", type=int, default=8, help="N, with --calls")
    parser.add_argument("--rounds", type=int, default=7, help="with --calls")
    given = parser.parse_args(arguments)
    print(f"{processor()}, {torch.get_num_threads()} threads")
    if given.calls:
        found: Any = calls(WIDTHS[given.calls], getattr(torch, given.dtype), given.frames, given.rounds)
        for name, (median, low, high) in found.items():
            print(f"| {name} | {median:.2f} ({low:.2f} to {high:.2f}) |")
    else:
        found = chains(given.prompts, given.clips, given.steps, given.share)
        for name, own in found.items():
            low, high = own["ratio_range"]
            error = "" if own["psnr"] is None else f"{own['psnr']:.1f}"
            print(
                f"| {name} | {own['seconds']:.3f} | {own['ratio']:.2f} ({low:.2f} to {high:.2f}) | {error} "
                f"| {own['seam']:.2f} | {own['faithful_look']:.2f} | {own['faithful_motion']:.2f} |"
            )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
