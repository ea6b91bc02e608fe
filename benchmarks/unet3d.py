"""Is our UNet3D faster and smaller than diffusers' UNet3DConditionModel, with the same weights?

    python benchmarks/unet3d.py                       # ModelScope's network at half width, 8 frames
    python benchmarks/unet3d.py --width full --frames 16
    python benchmarks/unet3d.py --device cuda --dtype float16 --width full --compile

Both networks have the same random weights and take turns in one process, on a batch of two as in classifier-free
guidance, so that other load on the machine slows both equally; every ratio is between two consecutive calls. The
machine's peak is the fastest of a few large matrix products, by each kind that torch has, in the same turns. Memory
is what a call allocates beside weights and input: by torch's count, and by the system's in a separate process.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from memory import grown_by
from processes import in_a_process
from torch import Tensor, nn

from vidrd_core.metrics.peak_memory import peak_memory_mib

WIDTHS = {"tenth": 32, "half": 160, "full": 320}  # of the first level
TEXT_WIDTH, TOKENS, GUIDED = 1024, 77, 2
PEAK_SIDE = 2048  # rows and columns of the matrices whose product is the machine's peak


def their_unet(width: int) -> nn.Module:
    """ModelScope's network in diffusers with random weights, also in layers that are zero-initialised."""
    from diffusers import UNet3DConditionModel

    with torch.device("meta"):
        unet = UNet3DConditionModel(
            sample_size=32,
            block_out_channels=widths(width),
            attention_head_dim=head_width(width),
            cross_attention_dim=TEXT_WIDTH,
        )
    unet.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for name, parameter in unet.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5, generator=generator)
        else:
            nn.init.constant_(parameter, float("norm" in name and name.endswith("weight")))
    return unet.eval().requires_grad_(False)


def our_unet(theirs: nn.Module, width: int) -> nn.Module:
    """This package's network with the same tensors."""
    from vidrd_core.models.config import UNet3DConfig
    from vidrd_core.models.load_parts import build_unet

    config = UNet3DConfig(
        block_out_channels=widths(width),
        heads=tuple(each // head_width(width) for each in widths(width)),
        cross_attention_dim=TEXT_WIDTH,
        temp_attention="after",
        transformer_in=True,
        temporal_for_images=True,
    )
    return build_unet(theirs.state_dict(), config, Path("random weights")).requires_grad_(False)


def widths(width: int) -> tuple[int, ...]:
    """The channels of each level."""
    return (width, 2 * width, 4 * width, 4 * width)


def head_width(width: int) -> int:
    """The channels of an attention head."""
    return max(8, width // 5)


def product_work(x: Any, second: Any, third: Any, *_: Any, out_shape: Any, **more: Any) -> int:
    """The operations of a linear layer or convolution; what is added to the result comes before the weight."""
    weight = third if third and len(third) > 1 else second  # a bias has one dimension
    return 2 * math.prod(out_shape) * math.prod(weight[1:])


ONEDNN_WORK = {
    torch.ops.mkldnn._linear_pointwise: product_work,
    torch.ops.mkldnn._convolution_pointwise: product_work,
}
Call = Callable[[], Tensor]


def calls(given: argparse.Namespace) -> dict[str, Call]:
    """A UNet call of each network, as for a step with guidance."""
    torch.set_num_threads(given.threads or torch.get_num_threads())
    theirs = their_unet(WIDTHS[given.width])
    ours = our_unet(theirs, WIDTHS[given.width])
    place: dict[str, Any] = {"device": given.device, "dtype": getattr(torch, given.dtype)}
    theirs.to(**place), ours.to(**place)
    generator = torch.Generator().manual_seed(1)
    shape = (GUIDED, 4, given.frames, given.size // 8, given.size // 8)
    x = torch.randn(shape, generator=generator).to(**place)
    text = torch.randn(GUIDED, TOKENS, TEXT_WIDTH, generator=generator).to(**place)
    timestep = torch.full((GUIDED,), 500, device=given.device)
    made = {"diffusers": lambda: theirs(x, timestep, text).sample, "ours": lambda: ours(x, timestep, text)}
    if given.compile:
        compiled = torch.compile(ours), torch.compile(theirs)
        made["ours compiled"] = lambda: compiled[0](x, timestep, text)
        made["diffusers compiled"] = lambda: compiled[1](x, timestep, text).sample
    return made


def products(given: argparse.Namespace) -> dict[str, Call]:
    """Large matrix products: through BLAS, and as a conv, which may be from another library."""
    place: dict[str, Any] = {"device": given.device, "dtype": getattr(torch, given.dtype)}
    a, b = (torch.randn(PEAK_SIDE, PEAK_SIDE).to(**place) for _ in range(2))
    pixels = a.view(1, PEAK_SIDE, 1, PEAK_SIDE).permute(0, 3, 1, 2)
    return {"matmul": lambda: a @ b, "conv": lambda: nn.functional.conv2d(pixels, b[:, :, None, None])}


def seconds(call: Call, device: str) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    call()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - began


@torch.inference_mode()
def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Measure everything except resident memory."""
    from torch.utils.flop_counter import FlopCounterMode

    networks, peaks = calls(given), products(given)
    outputs = {name: call() for name, call in networks.items()}  # also a warm-up
    spread = outputs["diffusers"].float().std()
    off = {name: float((out - outputs["diffusers"]).float().abs().max() / spread) for name, out in outputs.items()}
    work = {}
    for name in ("diffusers", "ours"):
        with FlopCounterMode(display=False, custom_mapping=ONEDNN_WORK) as counter:
            networks[name]()
        work[name] = counter.get_total_flops()
    rounds, products_taken = [], []
    for turn in range(given.rounds):
        names = list(networks) if turn % 2 else list(networks)[::-1]
        rounds.append({name: seconds(networks[name], given.device) for name in names})
        products_taken += [seconds(call, given.device) for call in peaks.values() for _ in range(3)]
    peak = 2 * PEAK_SIDE**3 / min(products_taken)
    memory = {name: peak_memory_mib(networks[name]) for name in networks}
    return {"off": off, "work": work, "rounds": rounds, "peak": peak, "memory": memory}


@torch.inference_mode()
def resident(given: argparse.Namespace) -> dict[str, float | None]:
    """The peak growth of this process's resident memory in a call, in MiB."""
    call = calls(given)[given.part]
    return {given.part: grown_by(call)}


def report(found: dict[str, Any]) -> str:
    """A Markdown table, and the ratios to diffusers."""
    lines = ["| | s a call | MiB of tensors | MiB resident | TFLOP | share of the peak | off |"]
    lines += ["| --- " * 7 + "|"]
    for name in found["memory"]:
        taken = statistics.median(turn[name] for turn in found["rounds"])
        work = found["work"][name.split()[0]]
        system = found["resident"].get(name)
        row = [name, f"{taken:.3f}", f"{found['memory'][name]:.0f}", "" if system is None else f"{system:.0f}"]
        row += [f"{work / 1e12:.2f}", f"{work / taken / found['peak']:.0%}", f"{found['off'][name]:.1e}"]
        lines.append("| " + " | ".join(row) + " |")
    lines += ["", f"the machine's peak: {found['peak'] / 1e9:.0f} GFLOP/s"]
    for name in [name for name in found["memory"] if name != "diffusers"]:
        ratios = sorted(turn["diffusers"] / turn[name] for turn in found["rounds"])
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f} in {len(ratios)} rounds"
        lines.append(f"{name}: {statistics.median(ratios):.2f} times as fast as diffusers ({spread})")
        lines.append(f"{name}: {found['memory'][name] / found['memory']['diffusers']:.2f} of its memory for tensors")
    before, after = (found["resident"].get(name) for name in ("diffusers", "ours"))
    if before and after:
        lines.append(f"ours: {after / before:.2f} of its resident memory")
    return "\n".join(lines)


def main() -> None:
    """Run all parts and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--width", choices=WIDTHS, default="half", help="of the network; full is ModelScope's")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=256, help="pixels along a side")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--compile", action="store_true", help="also with torch.compile")
    parser.add_argument("-o", "--out", type=Path, help="also write all numbers there, as JSON")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # the network whose resident memory is measured
    given = parser.parse_args()
    if given.part:
        print(json.dumps(resident(given)))
        return
    found = measure(given)
    found["resident"] = {}
    if given.device == "cpu":
        for name in ("diffusers", "ours"):
            found["resident"] |= in_a_process(__file__, *sys.argv[1:], "--part", name)
    where = torch.cuda.get_device_name() if given.device.startswith("cuda") else f"{platform.processor()} CPU"
    what = f"{given.width} width, {given.frames} frames of {given.size} x {given.size}, {given.dtype}"
    print(f"{what}, {where}, {torch.get_num_threads()} threads\n\n{report(found)}")
    if given.out:
        settings = {name: str(value) for name, value in vars(given).items()}
        given.out.write_text(json.dumps({"settings": settings, **found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
