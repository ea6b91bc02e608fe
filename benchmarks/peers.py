"""Long-video methods in ComfyUI compared: cost and quality of each, with the same small MODEL.

    COMFYUI_PATH=~/ComfyUI ~/ComfyUI/.venv/bin/python benchmarks/peers.py --pack ~/ComfyUI-AnimateDiff-Evolved
    ... benchmarks/peers.py --quick
    ... benchmarks/peers.py --prompts 0 --lengths 8 512 --methods paper static      # time and memory alone

Run it with the Python of a ComfyUI, which needs this package and its extra "evaluate". All methods make videos of the
same prompts in turn, through ComfyUI's own executor, up to the saved file, from which everything is measured. Then
each makes one video of each length in a separate process, whose memory is measured. Methods whose nodes are not
installed are named and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from memory import grown_by
from processes import in_a_process

ROOT = Path(__file__).parents[1]
LENGTHS, QUICK_LENGTHS = (8, 32, 120, 512), (8, 16)  # not 128: the host's windows cut text of that width, too
WARM_SEED = 2**20  # of no video that is measured: the host makes nothing twice
FIGURES = {
    "dynamic": "videos that move",
    "change": "change from frame to frame",
    "seam_ratio": "seam ratio",
    "worst_step": "worst step",
    "loopiness": "loopiness",
    "faithful_look": "look as in the prompt",
    "faithful_motion": "motion as in the prompt",
}


# --- in a separate process ---


class Made(NamedTuple):
    """A video that was made.

    Args:
        file: Its file.
        seconds: How long it took.
        passed: How many frames the UNet denoised, both halves of guidance counted.
    """

    file: Path
    seconds: float
    passed: int


class Stage:
    """A running ComfyUI with the methods that it has nodes for.

    Args:
        given: The command's arguments.

    Attributes:
        peers: The methods by name.
        absent: What is missing for the other methods, by name.
    """

    def __init__(self, given: argparse.Namespace) -> None:
        from comfyui_host import Host
        from peer_graphs import NODES, PEERS

        self._folder = tempfile.TemporaryDirectory()
        self.steps = given.steps
        self.host = Host(given.comfyui, Path(self._folder.name), [ROOT, *given.pack])
        self.host.nodes.update(NODES)
        lacking = {peer.name: self.missing(peer.needs) for peer in PEERS}
        self.absent = {name: reason for name, reason in lacking.items() if reason}
        self.peers = {peer.name: peer for peer in PEERS if peer.name not in self.absent}
        if given.methods:
            self.peers = {
                name: peer for name, peer in self.peers.items() if any(map(name.__contains__, given.methods))
            }

    def missing(self, needs: dict[str, str]) -> str:
        """The first node or input that ComfyUI lacks of these; "" if none."""
        for node, name in needs.items():
            if node not in self.host.nodes:
                return f"no node {node}"
            if name not in self.host.inputs(node):
                return f"{node} has no input {name}"
        return ""

    def make(self, name: str, frames: int, prompt: str, seed: int, steps: int = 0) -> Made:
        """Make a video by a method; `steps` replaces the command's number of steps."""
        from peer_graphs import CountPasses, Task

        folder = f"{list(self.peers).index(name)}/{time.monotonic_ns()}"
        task = Task(frames, prompt, steps or self.steps, seed, f"{folder}/video")
        graph = self.host.fitting(self.peers[name].graph(task))
        CountPasses.frames, began = 0, time.perf_counter()
        self.host.run(graph)
        seconds = time.perf_counter() - began
        (file,) = (self.host.output / folder).glob("video_*.mp4")
        return Made(file, seconds, CountPasses.frames)


def compare(given: argparse.Namespace) -> dict[str, Any]:
    """All ways in turn, prompt by prompt: seconds, passes and figures of each video."""
    from vidrd_core.procedural import EVALUATION_SEED, describe, evaluation_scenes

    stage, records = Stage(given), []
    for number, scene in enumerate(evaluation_scenes(given.prompts, EVALUATION_SEED)):
        names = list(stage.peers)
        for name in names[number % len(names) :] + names[: number % len(names)]:  # so that none is always the first
            if not number:
                stage.make(name, given.frames, describe(scene), WARM_SEED, steps=1)  # loads the weights
            made = stage.make(name, given.frames, describe(scene), number)
            about = {"name": name, "prompt": describe(scene), "seconds": made.seconds, "passed": made.passed}
            records.append({**about, **figures(made.file, stage.peers[name].reuse, scene)})
    return {"peers": list(stage.peers), "absent": stage.absent, "records": records}


def figures(file: Path, reuse: Any, scene: Any) -> dict[str, float]:
    """The metrics of a video's file."""
    from peer_graphs import FRAMES

    from vidrd_core.metrics import ClipBoundaries, measure_video
    from vidrd_core.procedural.prompt_alignment import prompt_alignment
    from vidrd_core.video import read_video

    video, _ = read_video(file)
    repeated = reuse.repeated_frames
    boundaries = ClipBoundaries.regular(len(video), FRAMES, repeated, reuse.prompt_frames)
    found = measure_video(video, boundaries)
    at_seams = {name: statistics.median(found[name]) for name in ("seam_ratio", "worst_step")}
    loop = max(each for each in found["loopiness"].values() if each is not None)
    aligned = prompt_alignment(video, scene, FRAMES, repeated)
    shown = {"shown": len(video), "dynamic": float(found["dynamic"]), "change": found["change"], "loopiness": loop}
    return {**shown, **at_seams, **aligned}


def one_length(given: argparse.Namespace) -> dict[str, float | None]:
    """Make one video by one method: its frames, seconds, passes, and the peak growth of this process in MiB."""
    from vidrd_core.video import read_video

    stage, prompt = Stage(given), "a large red circle moving right on a black background"
    stage.make(given.part, 8, prompt, WARM_SEED, steps=1)
    done: list[Made] = []
    grown = grown_by(lambda: done.append(stage.make(given.part, given.frames, prompt, 2)))
    (made,) = done
    shown = len(read_video(made.file)[0])
    return {"shown": shown, "seconds": made.seconds, "passed": made.passed, "grown": grown}


# --- in the parent process ---


def report(found: dict[str, Any]) -> str:
    """Markdown tables of metrics by method and of time and memory by length, and the ratios to the first method."""
    peers = found["peers"]
    tables = _of_videos(found) if found["records"] else []
    lines = [*tables, *(f"{name}: left out, {why}" for name, why in found["absent"].items())]
    lengths = sorted({each["frames"] for each in found["lengths"]})
    at = {(each["name"], each["frames"]): each for each in found["lengths"]}
    for title, cell in (("MiB more at most", _grown), ("s a shown frame", _seconds)):
        lines += ["", *_table_head([f"{title}, video of", *(f"{length} frames" for length in lengths)])]
        lines += [_row([name, *(cell(at[name, length]) for length in lengths)]) for name in peers]
    return "\n".join(lines)


def _of_videos(found: dict[str, Any]) -> list[str]:
    """The lines on the videos that are compared prompt by prompt."""
    peers, records = found["peers"], found["records"]
    by = {name: [record for record in records if record["name"] == name] for name in peers}
    head = ["", "calls a shown frame", "s a shown frame", *FIGURES.values()]
    lines = [*_table_head(head)]
    for name in peers:
        calls = by[name][0]["passed"] / found["clip"] / 2 / by[name][0]["shown"]
        row = [name, f"{calls:.2f}", f"{statistics.median(_pace(by[name])):.3f}"]
        lines.append(_row([*row, *(_mean([record[figure] for record in by[name]]) for figure in FIGURES)]))
    lines.append("")
    for name in peers[1:]:
        ratios = sorted(b / a for a, b in zip(_pace(by[peers[0]]), _pace(by[name]), strict=True))
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f} in {len(ratios)} videos"
        lines.append(f"seconds a shown frame, {name} / {peers[0]}: {statistics.median(ratios):.2f} ({spread})")
    return lines


def _table_head(cells: Sequence[str]) -> list[str]:
    return [_row(cells), _row(["---"] * len(cells))]


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _pace(records: Iterable[dict[str, Any]]) -> list[float]:
    return [record["seconds"] / record["shown"] for record in records]


def _mean(values: Sequence[float]) -> str:
    """The mean with its 95 % confidence interval."""
    if len(values) < 2:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ± {1.96 * statistics.stdev(values) / len(values) ** 0.5:.2f}"


def _grown(each: dict[str, Any]) -> str:
    if "failed" in each:
        return "failed"
    return "" if each["grown"] is None else f"{each['grown']:.0f}"


def _seconds(each: dict[str, Any]) -> str:
    return "failed" if "failed" in each else f"{_pace([each])[0]:.3f}"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    known = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    known.add_argument("--comfyui", type=Path, default=os.environ.get("COMFYUI_PATH"), help="its checkout")
    known.add_argument("--pack", type=Path, action="append", default=[], help="another pack's folder")
    known.add_argument(
        "--prompts", type=int, default=14, help="videos of each method; 0 measures time and memory by length alone"
    )
    known.add_argument("--methods", nargs="+", default=[], help="words of their names; without it all of them")
    known.add_argument("--frames", type=int, default=64, help="of these videos")
    known.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="frames, for time and memory")
    known.add_argument("--steps", type=int, default=10)
    known.add_argument("--quick", action="store_true", help="few short videos of few steps")
    known.add_argument("-o", "--out", type=Path, help="also write all numbers there, as JSON")
    known.add_argument("--part", help=argparse.SUPPRESS)  # "compare", or the name of a method
    return known


def main() -> None:
    """Run all parts and print the report; with --part, run one part and print its result as JSON."""
    given = parser().parse_args()
    if given.comfyui is None or not (given.comfyui / "main.py").is_file():
        parser().error(
            f"--comfyui or COMFYUI_PATH is {given.comfyui}, expected the folder that ComfyUI's main.py is in"
        )
    for pack in given.pack:
        if not (pack / "__init__.py").is_file():
            parser().error(f"--pack is {pack}, expected the folder of a pack, with its __init__.py")
    if given.quick:
        given.prompts, given.frames, given.lengths, given.steps = 2, 24, QUICK_LENGTHS, 2
    if given.part:
        result = compare(given) if given.part == "compare" else one_length(given)
        print(f"\n{json.dumps(result)}")
        return
    from peer_graphs import FRAMES

    packs = [word for pack in given.pack for word in ("--pack", pack)]
    chosen = ("--methods", *given.methods) if given.methods else ()
    shared = ("--comfyui", given.comfyui, *packs, *chosen, "--steps", given.steps, "--prompts", given.prompts)
    found = {"clip": FRAMES, **in_a_process(__file__, *shared, "--frames", given.frames, "--part", "compare")}
    found["lengths"] = []
    for frames, name in product(given.lengths, found["peers"]):
        write(given, found)
        try:
            made = in_a_process(__file__, *shared, "--frames", frames, "--part", name)
        except SystemExit as error:
            made = {"failed": str(error)}
        found["lengths"].append({"name": name, "frames": frames, **made})
    write(given, found)
    print(f"{given.prompts} videos of {given.frames} frames, {given.steps} steps\n\n{report(found)}")


def write(given: argparse.Namespace, found: dict[str, Any]) -> None:
    """Write the results so far to the output file, if one was given."""
    if given.out:
        given.out.write_text(json.dumps({"steps": given.steps, **found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
