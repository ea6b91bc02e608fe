"""What a comparison shows: its tables, and sheets of all methods beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidrd_core.procedural.chain_metrics import Record

LINE = 14  # px, for a method's name
WIDEST = 1080  # px
ACROSS = 3  # sheets of methods beside each other
MARKS = "<!-- table: made by vidrd_core.baselines.compare -->", "<!-- end of table -->"


def table(comparison: dict[str, Any]) -> str:
    """Markdown."""
    columns = (
        "method, at its best setting", "colour + shape, clip 1, last", "motion, from any moment on",
        "from its start on", "straight ones' direction", "direction kept", "seam ratio", "straight / others",
        "worst step", "loop at 2N", "colour drift", "dynamic", "calls", "MiB, 8 and 32 clips",
    )  # fmt: skip
    by_clip = (
        "color+shape by clip", "motion from any moment by clip", "motion by clip", "as told by clip",
    )  # fmt: skip
    head = "| " + " | ".join(columns) + " |"
    lines = [head, "|" + " --- |" * (head.count("|") - 1)]
    for row in comparison["methods"]:
        first_last = [f"{row[name][0]:.0f}, {row[name][-1]:.0f}" for name in by_clip]
        m, q, p = row["seam_ratio"]
        lines.append(
            f"| {row['method']}: {row['setting']} | " + " | ".join(first_last)
            + f" | {row['turns'].get('kept', 0):.0f} | {m:.2f} ({q:.2f} to {p:.2f})"
            f" | {row['seam_ratio, straight'][0]:.2f} / {row['seam_ratio, others'][0]:.2f}"
            f" | {row['worst_step'][0]:.2f} | {row['loop_2N']:.2f} | {row['drift']:.4f} | {row['dynamic']:.4f}"
            f" | {row['calls']:.2f} | {', '.join(f'{mib:.0f}' for mib in row['memory'])} |"
        )  # fmt: skip
    return "\n".join(lines) + "\n"


def by_clip(comparison: dict[str, Any]) -> str:
    """Markdown: how faithful each clip is to its caption."""
    rows = comparison["methods"]
    clips = range(1, len(rows[0]["motion by clip"]) + 1)
    lines = [
        f"| colour + shape / motion in clip | {' | '.join(map(str, clips))} |",
        "|" + " --- |" * (len(clips) + 1),
    ]
    for row in rows:
        pairs = zip(row["color+shape by clip"], row["motion from any moment by clip"], strict=True)
        lines.append(f"| {row['method']} | {' | '.join(f'{each:.0f} / {motion:.0f}' for each, motion in pairs)} |")
    return "\n".join(lines) + "\n"


def file_name(method: str) -> str:
    """A method's part of the names of its sheets."""
    return "".join(c if c.isalnum() else "_" for c in method)


def draw(video: Any, frames: int, record: Record, text: str, path: Path) -> None:
    """One video, a row for what each clip adds, with what was read out of it."""
    from vidrd_core.video import contact_sheet  # needs PyAV

    added = (len(video) - frames) // max(1, len(record["clips"]) - 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.split(video, range(frames, len(video), added))
    labels = [" ".join(clip[word] for word in ("color", "shape", "motion")) for clip in record["clips"]]
    labels[0] = f"{text} - {labels[0]}"
    contact_sheet(rows, path, labels)


def beside(sheets: Sequence[Path], names: Sequence[str], path: Path) -> None:
    """Put sheets beside each other, under the methods' names."""
    from PIL import Image, ImageDraw

    pictures = [Image.open(sheet).convert("RGB") for sheet in sheets]
    width, height = (max(side) for side in zip(*(picture.size for picture in pictures), strict=True))
    height += LINE
    rows = -(-len(pictures) // ACROSS)
    whole = Image.new("RGB", (width * min(ACROSS, len(pictures)), height * rows), "#101018")
    pen = ImageDraw.Draw(whole)
    for index, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        left, top = index % ACROSS * width, index // ACROSS * height
        pen.text((left + 4, top + 2), name, "#ffb0a0")
        whole.paste(picture, (left, top + LINE))
    if whole.width > WIDEST:
        whole = whole.resize((WIDEST, round(whole.height * WIDEST / whole.width)), Image.Resampling.LANCZOS)
    whole.quantize(128).save(path, optimize=True)


def write_docs(comparison: dict[str, Any], sheets: Path, docs: Path, pictured: dict[str, int]) -> None:
    """Put the tables into `docs`/long_videos.md and draw `docs`/methods_NAME.png of the prompts numbered there.

    Raises ValueError if the page has no place for the table.
    """
    page = docs / "long_videos.md"
    text = page.read_text(encoding="utf-8")
    if not all(mark in text for mark in MARKS):
        raise ValueError(f"{page} has no place for the table: put lines {MARKS[0]} and {MARKS[1]} where it belongs")
    before, rest = text.split(MARKS[0], 1)
    after = rest.split(MARKS[1], 1)[1]
    tables = f"{table(comparison)}\n{by_clip(comparison)}"
    page.write_text(f"{before}{MARKS[0]}\n{tables}{MARKS[1]}{after}", encoding="utf-8", newline="\n")
    methods = [row["method"] for row in comparison["methods"]]
    for name, index in pictured.items():
        found = [sheets / f"{index:03d}_{file_name(method)}.png" for method in methods]
        if all(sheet.exists() for sheet in found):
            beside(found, methods, docs / f"methods_{name}.png")
