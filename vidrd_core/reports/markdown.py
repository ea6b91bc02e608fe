"""Tables in Markdown pages, between markers: `python -m vidrd_core.reports.markdown` writes the table of metrics.

The table in `docs/measuring.md` is made from the registry of metrics. With `--check` the command only reports whether
the page is current.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vidrd_core.io.atomic import write_text
from vidrd_core.metrics.registry import BETTER, METRICS

PAGE = Path("docs/measuring.md")
COMMAND = "python -m vidrd_core.reports.markdown"
MARKERS = f"<!-- metrics: made by {COMMAND} -->", "<!-- end of metrics -->"


def metrics_table() -> str:
    """The registry of metrics as a table in GitHub's Markdown, a row per metric."""
    lines = ["| metric | what it measures | unit or range | better | needs |", "| --- | --- | --- | --- | --- |"]
    for metric in METRICS.values():
        needs = ", ".join((*metric.needs, *([f"`{metric.package}`"] if metric.package else [])))
        lines.append(f"| `{metric.name}` | {metric.meaning} | {metric.unit} | {BETTER[metric.better]} | {needs} |")
    return "\n".join(lines) + "\n"


def replace_between(page: Path, markers: tuple[str, str], content: str) -> str:
    """Replace the content between two markers of a page; its file stays as it is.

    Args:
        page: A text file.
        markers: The lines before and after the content.
        content: The new content, which ends with a line break.

    Returns:
        The new text of the page.

    Raises:
        ValueError: The page lacks a marker.
    """
    text = page.read_text(encoding="utf-8")
    if not all(marker in text for marker in markers):
        raise ValueError(f"{page} has no place for the table: add the lines {markers[0]} and {markers[1]}")
    before, rest = text.split(markers[0], 1)
    after = rest.split(markers[1], 1)[1]
    return f"{before}{markers[0]}\n{content}{markers[1]}{after}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the table of metrics into a page, or check that it is current."""
    parser = argparse.ArgumentParser(description="Write the table of metrics into a Markdown page.")
    parser.add_argument("page", type=Path, nargs="?", default=PAGE)
    parser.add_argument("--check", action="store_true", help="exit with 1 if the page is not current")
    given = parser.parse_args(arguments)
    try:
        text = replace_between(given.page, MARKERS, metrics_table())
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    if not given.check:
        write_text(given.page, text)
    elif text != given.page.read_text(encoding="utf-8"):
        sys.exit(f"error: the table in {given.page} is not current: run {COMMAND}")


if __name__ == "__main__":
    main()
