"""The commands that measure: `vidrd evaluate` and `vidrd ablate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidrd_core.cli import ablate_options as a
from vidrd_core.cli import evaluate_options as e
from vidrd_core.cli import options as o

EVALUATE = """vidrd evaluate videos/ -o measured

vidrd evaluate --model tiny --prompts prompts.txt --clips 4 --preset "keep moving" -o measured

vidrd evaluate videos/ --fvd i3d:i3d_torchscript.pt --reference real/ -o measured

accelerate launch --multi_gpu -m vidrd_core.cli evaluate --model mine/ --device cuda --protocol ucf101
--class-list trainlist01.txt --clips 2 --fvd i3d:i3d.pt --reference UCF-101/ --classifier c3d.pt -o ucf101"""
ABLATE = """vidrd ablate -o ablation --steps 10 --solver dpmpp_2m

vidrd ablate --model zeroscope/ --prompts prompts.txt --videos 50 --alphas 0,1,4 --counts none --betas none -o alphas

torchrun --nproc_per_node 2 -m vidrd_core.cli ablate -o ablation"""


def evaluate(
    output: Annotated[
        Path,
        o.option(o.RESULT, "--output", "-o", metavar="DIR", parser=o.named, help="Where the result goes, a folder."),
    ],
    videos: Annotated[
        Path | None,
        typer.Argument(metavar="VIDEOS", parser=o.named, help="A folder of videos.", show_default=False),
    ] = None,
    captions: Annotated[Path | None, e.CAPTIONS] = None,
    clip_frames: Annotated[int | None, e.CLIP_FRAMES] = None,
    repeated: Annotated[int, e.REPEATED] = 0,
    prompts: Annotated[Path | None, e.PROMPTS] = None,
    protocol: Annotated[str | None, e.PROTOCOL] = None,
    class_list: Annotated[Path | None, e.CLASS_LIST] = None,
    clips: Annotated[int, e.CLIPS] = 4,
    videos_per_prompt: Annotated[int, e.VIDEOS_PER_PROMPT] = 1,
    fvd: Annotated[str | None, e.FVD] = None,
    reference: Annotated[Path | None, e.REFERENCE] = None,
    classifier: Annotated[Path | None, e.CLASSIFIER] = None,
    clip: Annotated[Path | None, e.CLIP] = None,
    network_frames: Annotated[int | None, e.NETWORK_FRAMES] = None,
    sheets: Annotated[int, e.SHEETS] = 12,
    json: Annotated[bool, e.JSON] = False,
    preset: Annotated[str | None, o.PRESET] = None,
    prompt_frames: Annotated[int | None, o.PROMPT_FRAMES] = None,
    alpha: Annotated[float | None, o.ALPHA] = None,
    beta: Annotated[float | None, o.BETA] = None,
    order: Annotated[str | None, o.ORDER] = None,
    noise: Annotated[str | None, o.NOISE] = None,
    release: Annotated[str | None, o.RELEASE] = None,
    drift: Annotated[float | None, o.DRIFT] = None,
    seed: Annotated[int, o.SEED] = 0,
    steps: Annotated[int, o.STEPS] = 50,
    cfg: Annotated[float | None, o.CFG] = None,
    solver: Annotated[str, o.SOLVER] = "ddim",
    negative: Annotated[str, o.NEGATIVE] = "",
    frames: Annotated[int | None, o.FRAMES] = None,
    width: Annotated[int | None, o.WIDTH] = None,
    height: Annotated[int | None, o.HEIGHT] = None,
    model: Annotated[str, o.MODEL] = "tiny",
    vae: Annotated[str | None, o.VAE] = None,
    text_encoder: Annotated[str | None, o.TEXT_ENCODER] = None,
    temporal: Annotated[str | None, o.TEMPORAL] = None,
    lora: Annotated[list[str] | None, o.LORA] = None,
    prediction: Annotated[str | None, o.PREDICTION] = None,
    schedule: Annotated[str | None, o.SCHEDULE] = None,
    dtype: Annotated[str, o.DTYPE] = "float32",
    storage: Annotated[str | None, o.STORAGE] = None,
    offload: Annotated[str, o.OFFLOAD] = "none",
    tile: Annotated[int | None, o.TILE] = None,
    device: Annotated[str, o.DEVICE] = "cpu",
    threads: Annotated[int | None, o.THREADS] = None,
) -> None:
    """Measure a folder of videos, or videos that a model generates from prompts: a JSON file and an HTML report.

    Seams, loops, drift, motion and flicker need no weights; for FVD, Inception Score and CLIPSIM name networks.
    The same command resumes a stopped run. Needs: pip install -e ".\\[evaluate]"
    """
    given = locals()
    from vidrd_core.cli.progress import busy

    with busy("starting"):
        from vidrd_core.cli.evaluate import run
    run(given)


def ablate(
    output: Annotated[
        Path,
        o.option(o.RESULT, "--output", "-o", metavar="DIR", parser=o.named, help="Where the result goes, a folder."),
    ],
    counts: Annotated[str, a.COUNTS] = "",
    alphas: Annotated[str, a.ALPHAS] = "",
    betas: Annotated[str, a.BETAS] = "",
    prompts: Annotated[Path | None, a.PROMPTS] = None,
    videos: Annotated[int, a.VIDEOS] = 200,
    clips: Annotated[int, a.CLIPS] = 3,
    fvd: Annotated[str | None, e.FVD] = None,
    reference: Annotated[Path | None, e.REFERENCE] = None,
    classifier: Annotated[Path | None, e.CLASSIFIER] = None,
    clip: Annotated[Path | None, e.CLIP] = None,
    network_frames: Annotated[int | None, a.NETWORK_FRAMES] = None,
    sheets: Annotated[int, a.SHEETS] = 1,
    preset: Annotated[str | None, o.PRESET] = None,
    prompt_frames: Annotated[int | None, o.PROMPT_FRAMES] = None,
    alpha: Annotated[float | None, o.ALPHA] = None,
    beta: Annotated[float | None, o.BETA] = None,
    order: Annotated[str | None, o.ORDER] = None,
    noise: Annotated[str | None, o.NOISE] = None,
    release: Annotated[str | None, o.RELEASE] = None,
    drift: Annotated[float | None, o.DRIFT] = None,
    seed: Annotated[int, o.SEED] = 0,
    steps: Annotated[int, o.STEPS] = 50,
    cfg: Annotated[float | None, o.CFG] = None,
    solver: Annotated[str, o.SOLVER] = "ddim",
    negative: Annotated[str, o.NEGATIVE] = "",
    frames: Annotated[int | None, o.FRAMES] = None,
    width: Annotated[int | None, o.WIDTH] = None,
    height: Annotated[int | None, o.HEIGHT] = None,
    model: Annotated[str, o.MODEL] = "tiny",
    vae: Annotated[str | None, o.VAE] = None,
    text_encoder: Annotated[str | None, o.TEXT_ENCODER] = None,
    temporal: Annotated[str | None, o.TEMPORAL] = None,
    lora: Annotated[list[str] | None, o.LORA] = None,
    prediction: Annotated[str | None, o.PREDICTION] = None,
    schedule: Annotated[str | None, o.SCHEDULE] = None,
    dtype: Annotated[str, o.DTYPE] = "float32",
    storage: Annotated[str | None, o.STORAGE] = None,
    offload: Annotated[str, o.OFFLOAD] = "none",
    tile: Annotated[int | None, o.TILE] = None,
    device: Annotated[str, o.DEVICE] = "cpu",
    threads: Annotated[int | None, o.THREADS] = None,
) -> None:
    """Vary M, alpha and beta, each alone, as the paper does: figures with intervals, plots, and conclusions.

    Every point generates the same videos, so that they are compared one by one. The same command resumes a stopped
    run. Needs: pip install -e ".\\[evaluate]"
    """
    given = locals()
    from vidrd_core.cli.progress import busy

    with busy("starting"):
        from vidrd_core.cli.ablate import run
    run(given)
