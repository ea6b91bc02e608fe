"""The tables of a comparison, and contact sheets of all methods side by side, for the docs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidrd_core.io.atomic import write_text
from vidrd_core.io.pictures import read_picture, save_picture
from vidrd_core.reports.markdown import replace_between

LINE_HEIGHT = 14  # pixels, for a method's name
MAX_WIDTH = 1080  # pixels
COLUMNS = 3  # contact sheets side by side
MARKERS = "<!-- table: made by vidrd_core.baselines.compare -->", "<!-- end of table -->"


def table(comparison: dict[str, Any]) -> str:
    """The table of methods in Markdown."""
    columns = (
        "method, at its best setting", "colour + shape, clip 1, last", "motion, from any moment on",
        "from its start on", "straight ones' direction", "direction kept", "seam ratio", "straight / others",
        "worst step", "loop at 2N", "colour drift", "dynamic", "calls", "MiB, 8 and 32 clips",
    )  # fmt: skip
    by_clip = (
        "color+shape by clip", "motion from any moment by clip", "motion by clip", "direction by clip",
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
    """The table of prompt alignment clip by clip, in Markdown."""
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
    """A method's part of the file names of its contact sheets."""
    return "".join(c if c.isalnum() else "_" for c in method)


def draw_side_by_side(sheets: Sequence[Path], names: Sequence[str], path: Path) -> None:
    """Draw contact sheets side by side, under the methods' names.

    Args:
        sheets: Their files.
        names: The names.
        path: The picture.
    """
    from PIL import Image, ImageDraw

    pictures = [Image.fromarray(read_picture(sheet)) for sheet in sheets]
    width, height = (max(side) for side in zip(*(picture.size for picture in pictures), strict=True))
    height += LINE_HEIGHT
    rows = -(-len(pictures) // COLUMNS)
    whole = Image.new("RGB", (width * min(COLUMNS, len(pictures)), height * rows), "#101018")
    pen = ImageDraw.Draw(whole)
    for index, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        left, top = index % COLUMNS * width, index // COLUMNS * height
        pen.text((left + 4, top + 2), name, "#ffb0a0")
        whole.paste(picture, (left, top + LINE_HEIGHT))
    if whole.width > MAX_WIDTH:
        whole = whole.resize((MAX_WIDTH, round(whole.height * MAX_WIDTH / whole.width)), Image.Resampling.LANCZOS)
    save_picture(whole.quantize(128), path, optimize=True)


def write_docs(comparison: dict[str, Any], sheets: Path, docs: Path, pictured: dict[str, int]) -> None:
    """Put the tables into `docs`/long_videos.md and draw `docs`/methods_NAME.png.

    Args:
        comparison: The comparison.
        sheets: Folder of the contact sheets.
        docs: Folder of the docs.
        pictured: Index of a prompt by NAME.

    Raises:
        ValueError: The page has no markers for the table.
    """
    page = docs / "long_videos.md"
    tables = f"{table(comparison)}\n{by_clip(comparison)}"
    write_text(page, replace_between(page, MARKERS, tables))
    methods = [row["method"] for row in comparison["methods"]]
    for name, index in pictured.items():
        found = [sheets / f"{index:03d}_{file_name(method)}.png" for method in methods]
        if all(sheet.exists() for sheet in found):
            draw_side_by_side(found, methods, docs / f"methods_{name}.png")
