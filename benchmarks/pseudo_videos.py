"""What do pseudo-videos change? A small version of the comparison in the paper's Table 3.

    python benchmarks/pseudo_videos.py -o runs/pseudo_videos             # three seeds, both ways
    python benchmarks/pseudo_videos.py --steps 20 --prompts 4 --seeds 1  # to try it

The image model is the built-in model without its temporal layers. From it a video model is trained as in the clip
stage of its recipe, on few procedural videos, with or without pseudo-videos from procedural stills beside them: with
the same steps and seeds, only the recipe's `pseudo_videos` differs. Each model then makes a clip for each prompt of
the evaluation. What the clips show is recognised (in the paper: IS), and their distribution is compared with that of
procedural clips (in the paper: FVD). A stopped run is resumed: results that exist are kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from vidrd_core.loading import files_of, find, load
from vidrd_core.metrics.frechet import Moments, frechet_distance
from vidrd_core.models.inflate import without_temporal
from vidrd_core.models.load_parts import build_unet, read_unet, save_unet
from vidrd_core.procedural import EVALUATION_SEED, describe, evaluation_scenes, random_scene, recognition, render
from vidrd_core.training.config import load_config
from vidrd_core.training.recipe import Recipe

WAYS = {"without": False, "with": True}
DRAWN = 512  # procedural clips for the distance
PROJECTED = 24  # features of a clip for the distance: fewer than there are clips
AT_ONCE = 14  # prompts


def image_model(folder: Path) -> Path:
    """Write the built-in model's parts, with the UNet's temporal layers left out, and return the folder."""
    parts = files_of(find("tiny"))
    tensors, config, diffusion = read_unet(parts["unet"])
    spatial, flat = without_temporal(tensors, config)
    folder.mkdir(parents=True, exist_ok=True)
    save_unet(build_unet(spatial, flat, parts["unet"]), diffusion, folder / "unet.safetensors")
    for name in ("vae", "text_encoder"):
        (folder / f"{name}.safetensors").write_bytes(parts[name].read_bytes())
    return folder


def recipe(folder: Path, base: Path, pseudo_videos: bool, seed: int, given: argparse.Namespace) -> Path:
    """Write a recipe with the built-in model's clip stage, for few videos and for stills, and return its file."""
    tiny = yaml.safe_load((files("vidrd_core.training") / "configs" / "tiny.yaml").read_text(encoding="utf-8"))
    (stage,) = (stage for stage in tiny["stages"] if stage["name"] == "clip")
    stage |= {"steps": given.steps, "seed": seed, "image_share": 0.0, "sample_every": given.steps, "warmup": 20}
    sources = [
        {"name": "videos", "shapes": {"clips": given.videos, "seed": 11}},
        {"name": "pseudo-videos", "stills": {"clips": 4 * given.videos, "seed": 12}, "weight": given.share},
    ]
    data = {**tiny["data"], "sources": sources, "pseudo_videos": pseudo_videos}
    changed = {"out": str(folder), "init": str(base), "data": data, "stages": [stage]}
    unet = {name: tiny["unet"][name] for name in ("temp_conv_depth", "dropout")}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**changed, "unet": {**unet, "temp_attention": "inside"}}), encoding="utf-8")
    return path


def measure(folder: Path, given: argparse.Namespace) -> dict[str, float]:
    """Sample a clip for each prompt and measure them; shares are in percent."""
    model = load(folder)
    scenes = evaluation_scenes(given.prompts, EVALUATION_SEED)
    clips: list[NDArray[np.uint8]] = []
    for start in range(0, len(scenes), AT_ONCE):
        texts = [describe(scene) for scene in scenes[start : start + AT_ONCE]]
        made = model.generate_many(texts, range(start, start + len(texts)), steps=given.sampling)
        clips += [model.frames(clip) for clip in made]
    right = [
        recognition.compare(recognition.recognize(clip), scene) for clip, scene in zip(clips, scenes, strict=True)
    ]
    rng = np.random.default_rng(7)
    drawn = (render(random_scene(rng, 0.0), clips[0].shape[0], clips[0].shape[1]) for _ in range(DRAWN))
    return {
        "color+shape": 100 * statistics.fmean(each.color and each.shape for each in right),
        "motion": 100 * statistics.fmean(each.motion for each in right),
        "all": 100 * statistics.fmean(each.all for each in right),
        "background flicker": statistics.fmean(map(background_flicker, clips)),
        "Frechet distance": frechet_distance(moments(clips), moments(drawn)),
    }


def background_flicker(clip: NDArray[np.uint8]) -> float:
    """The change of the corners, where no shape is, from frame to frame: root mean square, in levels of 255."""
    corners = np.concatenate([clip[:, y, x] for y in (0, -1) for x in (0, -1)], axis=-1).astype(np.float64)
    return float(np.sqrt(np.square(np.diff(corners, axis=0)).mean()))


def moments(clips: Iterable[NDArray[np.uint8]]) -> Moments:
    """Moments of clips' features: 4 x 4 pixels of the mean frame and of the changes, randomly projected."""
    found, rng = Moments(), np.random.default_rng(3)
    projection: NDArray[np.float64] | None = None
    for clip in clips:
        frames, height, width, _ = clip.shape
        coarse = clip.reshape(frames, 4, height // 4, 4, width // 4, 3).mean((2, 4)) / 255
        features = np.concatenate([coarse.mean(0).ravel(), np.abs(np.diff(coarse, axis=0)).ravel()])
        if projection is None:
            projection = rng.standard_normal((len(features), PROJECTED))
        found.add((features @ projection)[None])
    return found


def compare(out: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Train and measure: a row for each way and seed."""
    base, rows = image_model(out / "image_model"), []
    for seed in range(given.seeds):
        for way, pseudo_videos in WAYS.items():
            folder = out / f"{way}_{seed}"
            known = folder / "measured.json"
            if not known.exists():
                made = Recipe(load_config(recipe(folder, base, pseudo_videos, seed, given))).run()
                known.write_text(json.dumps(measure(made, given)), encoding="utf-8")
            rows.append({"way": way, "seed": seed, **json.loads(known.read_text(encoding="utf-8"))})
    return rows


def report(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of means with minimum and maximum, and of the differences of runs that share a seed."""
    names = [name for name in rows[0] if name not in ("way", "seed")]
    lines = ["| | " + " | ".join(names) + " |", "| --- " * (len(names) + 1) + "|"]
    by_way = {way: [row for row in rows if row["way"] == way] for way in WAYS}
    columns = {
        f"{way} pseudo-videos": [[row[name] for row in found] for name in names] for way, found in by_way.items()
    }
    pairs = list(zip(by_way["with"], by_way["without"], strict=True))
    columns["with less without, by seed"] = [[one[name] - other[name] for one, other in pairs] for name in names]
    for label, values in columns.items():
        spans = [f"{statistics.fmean(c):.2f} ({min(c):.2f} to {max(c):.2f})" for c in values]
        lines.append(f"| {label} | " + " | ".join(spans) + " |")
    return "\n".join(lines)


def main() -> None:
    """Train, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=600, help="of training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--videos", type=int, default=500, help="to train on; there are four times as many stills")
    parser.add_argument("--share", type=float, default=0.5, help="weight of pseudo-videos beside videos")
    parser.add_argument("--prompts", type=int, default=84)
    parser.add_argument("--sampling", type=int, default=15, help="steps of a clip")
    parser.add_argument("-o", "--out", type=Path, help="folder, from which a stopped run is resumed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = compare(given.out or Path(name), given)
    print(report(rows))


if __name__ == "__main__":
    main()
