"""The HTML report of an evaluation: one self-contained file with its plots and contact sheets."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment

from vidrd_core.io import MissingPackageError
from vidrd_core.metrics.registry import BETTER, METRICS, metric_of

HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ title }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .25em .8em; border-bottom: 1px solid #ddd }
td.n { text-align: right; font-variant-numeric: tabular-nums } th { text-align: left; vertical-align: bottom }
td.m { color: #666; font-size: 13px } img, svg { max-width: 100%; height: auto } h2 { margin-top: 2em }
figure { margin: 1em 0 } figcaption { color: #666; font-size: 13px } .big { font-size: 22px }
</style>
<h1>{{ title }}</h1>
"""
VIDEOS = """{% for label, data in sheets %}<figure><img src="data:image/png;base64,{{ data }}" alt="{{ label }}">
<figcaption>{{ label }}</figcaption></figure>
{% endfor %}
"""
TEMPLATE = (
    HEAD
    + """<p>{{ summary.videos }} videos{% if summary.skipped %}, {{ summary.skipped }} skipped{% endif %}.
{%- for name, value in header.items() if value not in ("", None) %} {{ name }}: {{ value }}.{% endfor %}</p>
{% if note %}<p><strong>{{ note }}</strong></p>{% endif %}
{% if summary.fvd %}<p class="big">FVD {{ number(summary.fvd.value) }}</p>
<p>of {{ describe(summary.fvd.of) }}, against {{ describe(summary.fvd.reference) }}.</p>{% endif %}
{% if summary.inception_score %}<p class="big">Inception Score {{ number(summary.inception_score.mean) }} ±
{{ number(summary.inception_score.std) }}</p><p>of {{ summary.inception_score.videos }} videos in
{{ summary.inception_score.splits }} splits.</p>{% endif %}
<h2>Metrics</h2>
<p>A still video has perfect consistency: read it beside <em>dynamic</em> and <em>speed</em>.</p>
<table><tr><th><th>mean<th>std<th>median<th>quartiles<th>of<th>better<th></tr>
{% for name, row in rows %}<tr><td>{{ name }}<td class="n">{{ number(row.mean) }}<td class="n">{{ number(row.std) }}
<td class="n">{{ number(row.median) }}<td class="n">{{ number(row.low) }} to {{ number(row.high) }}
<td class="n">{{ row.of }}<td>{{ better(name) }}<td class="m">{{ meaning(name) }}</tr>
{% endfor %}</table>
<h2>Distributions</h2>
{{ plots }}
{% if sheets %}<h2>Videos</h2>{% endif %}
"""
    + VIDEOS
    + """{% if skipped %}<h2>Skipped</h2><table>
{% for name, reason in skipped %}<tr><td>{{ name }}<td>{{ reason }}</tr>
{% endfor %}</table>{% endif %}
</html>
"""
)


def evaluation_page(
    title: str,
    header: Mapping[str, Any],
    summary: Mapping[str, Any],
    values: Mapping[str, Sequence[float]],
    sheets: Sequence[tuple[str, Path]] = (),
    skipped: Sequence[tuple[str, str]] = (),
    note: str = "",
) -> str:
    """Render the report of an evaluation.

    Args:
        title: Title of the page.
        header: The settings of the evaluation.
        summary: What `evaluation.runner.summarize` returns.
        values: The values of each figure, for histograms.
        sheets: Label and PNG file of each contact sheet.
        skipped: Name and reason of each video that was skipped.
        note: A remark for the top of the page.

    Returns:
        One self-contained HTML page, with its plots as SVG and its contact sheets embedded.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    rows = sorted(summary["measures"].items(), key=lambda row: _position(row[0]))
    given = {"title": title, "header": header, "summary": summary, "rows": rows, "skipped": skipped, "note": note}
    return render_page(TEMPLATE, histograms(values), sheets, **given)


def render_page(template: str, plots: str, sheets: Sequence[tuple[str, Path]], **given: Any) -> str:
    """Fill in a page.

    Args:
        template: A Jinja template that shows `plots`, `sheets` and other variables.
        plots: SVG.
        sheets: Label and PNG file of each contact sheet, which are embedded.
        **given: Other variables of the template.

    Returns:
        The HTML page; variables other than `plots` are escaped in it.
    """
    environment = Environment(autoescape=True, trim_blocks=True)
    environment.globals |= {
        "number": format_number,
        "describe": describe_source,
        "meaning": meaning,
        "better": better_values,
    }
    pictures = [(label, base64.b64encode(path.read_bytes()).decode()) for label, path in sheets]
    text = environment.from_string(template).render(plots="\0", sheets=pictures, **given)
    return text.replace("\0", plots)  # SVG must not be escaped


def histograms(values: Mapping[str, Sequence[float]]) -> str:
    """A histogram of each figure that varies, as one SVG. Raises MissingPackageError without matplotlib."""
    shown = [name for name in sorted(values, key=_position) if len(values[name]) > 1 and len(set(values[name])) > 1]
    if not shown:
        return "<p>Too few videos for plots.</p>"
    columns = 4
    lines = -(-len(shown) // columns)
    figure = new_figure(3 * columns, 2.2 * lines)
    for place, name in enumerate(shown):
        axes = figure.add_subplot(lines, columns, place + 1)
        axes.hist(np.asarray(values[name]), bins=min(30, max(5, len(values[name]) // 5)), color="#4a7")
        axes.axvline(float(np.median(values[name])), color="#333", linewidth=1)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
    return figure_to_svg(figure)


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure, sizes in inches. Raises MissingPackageError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("plots need matplotlib: pip install matplotlib") from error
    return Figure(figsize=(width, height), layout="constrained")


def figure_to_svg(figure: Any) -> str:
    """A matplotlib figure as an SVG element; equal figures give equal text."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return file.getvalue()[file.getvalue().index("<svg") :]


def meaning(name: str) -> str:
    """What the metric of a figure measures; "" if it is in no registry."""
    metric = metric_of(name)
    return metric.meaning if metric else ""


def better_values(name: str) -> str:
    """Which values of a figure are better, as in "higher"; "" for neither."""
    metric = metric_of(name)
    return BETTER[metric.better] if metric else ""


def format_number(value: float) -> str:
    """A number with four significant digits."""
    return f"{value:.4g}"


def describe_source(about: Mapping[str, Any]) -> str:
    """What feature statistics were computed from, in words."""
    clips = f"{about['clips']} videos" if about["clips"] else "statistics"
    frames = f" of {about['frames']} frames" if about["frames"] else ""
    fps = f" at {about['fps']:g} frames per second" if about["fps"] else ""
    return f"{clips}{frames}{fps}" + (f" by {about['network']}" if about["network"] else "")


def _position(name: str) -> tuple[int, str]:
    """Where a figure stands in tables: in the order of the registry, unknown ones last."""
    head = name.split()[0]
    return (list(METRICS).index(head) if head in METRICS else len(METRICS), name)
