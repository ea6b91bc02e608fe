"""The table of metrics in the docs."""

from pathlib import Path

import pytest

from vidrd_core.metrics import METRICS
from vidrd_core.reports import markdown

PAGE = Path(__file__).parents[3] / "docs" / "measuring.md"


def test_the_docs_are_current():
    """Otherwise run `python -m vidrd_core.reports.markdown`."""
    markdown.main([str(PAGE), "--check"])


def test_the_table_has_a_row_per_metric():
    rows = markdown.metrics_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(METRICS)
    assert {row.count("|") for row in rows} == {6}


def test_an_outdated_page_is_reported_and_updated(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{markdown.MARKERS[0]}\nold\n{markdown.MARKERS[1]}\nafter\n")
    with pytest.raises(SystemExit, match=r"is not current: run python -m vidrd_core\.reports\.markdown"):
        markdown.main([str(page), "--check"])
    markdown.main([str(page)])
    markdown.main([str(page), "--check"])
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("\nafter\n")
    page.write_text("nothing\n")
    with pytest.raises(SystemExit, match="has no place for the table: add the lines <!-- metrics"):
        markdown.main([str(page)])
