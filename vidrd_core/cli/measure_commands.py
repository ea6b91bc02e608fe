"""The commands that measure: `vidrd evaluate` and `vidrd ablate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vidrd_core.cli import evaluate_options as e
from vidrd_core.cli import options as o
from vidrd_core.cli.errors import set_quiet
from vidrd_core.cli.settings_options import command, nonempty_path

EVALUATE = """vidrd evaluate videos/ -o measured
vidrd evaluate --model tiny --prompts prompts.txt --clips 4 --preset "keep moving" -o measured
vidrd evaluate videos/ --fvd i3d:i3d_torchscript.pt --reference real/ -o measured
accelerate launch --multi_gpu -m vidrd_core.cli evaluate --model mine/ --device cuda --protocol ucf101
    --class-list trainlist01.txt --clips 2 --fvd i3d:i3d.pt --reference UCF-101/ --classifier c3d.pt -o ucf101"""
ABLATE = """vidrd ablate -o ablation --steps 10 --solver dpmpp_2m
vidrd ablate --model zeroscope/ --prompts prompts.txt --videos 50 --alphas 0,1,4 --counts none --betas none -o alphas
torchrun --nproc_per_node 2 -m vidrd_core.cli ablate -o ablation"""
Output = Annotated[
    Path,
    o.panel_option(
        o.RESULT,
        "--output",
        "-o",
        metavar="FOLDER",
        parser=nonempty_path,
        help="Where the result goes.",
        default=False,
    ),
]
_NO_LOOP = o.Group(o.REUSE_GROUP.settings, o.REUSE, partial=True, leave_out=("warmup_latents", "loop"))


@command(
    shapes={**o.SHAPES, **e.EVALUATE_SHAPES},
    folder=e.FOLDER_GROUP,
    made=e.MADE_GROUP,
    networks=e.NETWORK_GROUP,
    result=e.RESULT_GROUP,
    preset=o.PRESET_GROUP,
    reuse=_NO_LOOP,
    sample=o.SAMPLE_GROUP,
    model=o.MODEL_GROUP,
    machine=o.MACHINE_GROUP,
    report=o.REPORT_GROUP,
)
def evaluate(
    output: Output,
    folder: e.FolderOptions,
    made: e.MadeOptions,
    networks: Any,
    result: e.ResultOptions,
    preset: o.PresetOptions,
    reuse: dict[str, Any],
    sample: dict[str, Any],
    model: o.ModelOptions,
    machine: o.MachineOptions,
    report: o.ReportOptions,
    videos: Annotated[
        Path | None,
        typer.Argument(metavar="VIDEOS", parser=nonempty_path, help="A folder of videos.", show_default=False),
    ] = None,
) -> None:
    """Measure a folder of videos, or videos that a model generates from prompts: a JSON file and an HTML report.

    Seams, loops, drift, motion and flicker need no weights; FVD, Inception Score and CLIPSIM need networks that you
    provide. The same command resumes a run that was stopped. Needs: pip install -e ".[evaluate]"
    """
    set_quiet(report.quiet)
    from vidrd_core.cli.progress import busy

    with busy("starting"):
        from vidrd_core.cli.evaluate import EvaluateRequest, run
    run(EvaluateRequest(output, videos, folder, made, networks, result, preset.preset, reuse, sample, model, machine))


@command(
    shapes={**o.SHAPES, **e.ABLATE_SHAPES},
    sweep=e.SWEEP_GROUP,
    networks=e.NETWORK_GROUP,
    preset=o.PRESET_GROUP,
    reuse=_NO_LOOP,
    sample=o.SAMPLE_GROUP,
    model=o.MODEL_GROUP,
    machine=o.MACHINE_GROUP,
    report=o.REPORT_GROUP,
)
def ablate(
    output: Output,
    sweep: e.SweepOptions,
    networks: Any,
    preset: o.PresetOptions,
    reuse: dict[str, Any],
    sample: dict[str, Any],
    model: o.ModelOptions,
    machine: o.MachineOptions,
    report: o.ReportOptions,
) -> None:
    """Vary M, alpha and beta, each alone, as the paper does: figures with intervals, plots, and what they show.

    Every point makes the same videos, so that they are compared in pairs. The same command resumes a run that was
    stopped. Needs: pip install -e ".[evaluate]"
    """
    set_quiet(report.quiet)
    from vidrd_core.cli.progress import busy

    with busy("starting"):
        from vidrd_core.cli.ablate import AblateRequest, run
    run(AblateRequest(output, sweep, networks, preset.preset, reuse, sample, model, machine))
