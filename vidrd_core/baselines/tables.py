"""Tables in Markdown, and contact sheets of all methods side by side, for the docs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vidrd_core.io.atomic import write_text
from vidrd_core.io.pictures import read_picture, save_picture
from vidrd_core.reports.markdown import replace_between

LINE_HEIGHT = 14  # pixels, for a method's name
MAX_WIDTH = 1080  # pixels
COLUMNS = 3  # contact sheets side by side
MARKERS = "<!-- table: made by vidrd_core.baselines.compare -->", "<!-- end of table -->"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in GitHub's Markdown, of columns and rows of cells."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


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


def write_docs(methods: Sequence[str], tables: str, sheets: Path, docs: Path, pictured: dict[str, int]) -> None:
    """Put the tables into `docs`/long_videos.md and draw `docs`/methods_NAME.png.

    Args:
        methods: Names of the methods.
        tables: The tables in Markdown.
        sheets: Folder of the contact sheets.
        docs: Folder of the docs.
        pictured: Index of a prompt by NAME.

    Raises:
        ValueError: The page has no markers for the table.
    """
    page = docs / "long_videos.md"
    write_text(page, replace_between(page, MARKERS, tables))
    for name, index in pictured.items():
        found = [sheets / f"{index:03d}_{file_name(method)}.png" for method in methods]
        if all(sheet.exists() for sheet in found):
            draw_side_by_side(found, methods, docs / f"methods_{name}.png")
