"""The HTML report of an ablation: the effect of each setting in words, plots and tables, with videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vidrd_core.evaluation.ablation_analysis import FIGURES
from vidrd_core.metrics.registry import METRICS
from vidrd_core.reports.html import HEAD, VIDEOS, figure_to_svg, new_figure, render_page

MEANINGS = {
    **{name: metric.meaning for name, metric in METRICS.items()},
    "fvd": "Frechet distance to the reference, of frames across the last seam",
    "inception_score": "Inception Score of the same frames",
    "worst_step": "largest step of the clip after a seam over the median step",
}
TEMPLATE = (
    HEAD
    + """<p>
{%- for name, value in header.items() if value not in ("", None) %}{{ name }}: {{ value }}. {% endfor %}</p>
{% if note %}<p><strong>{{ note }}</strong></p>{% endif %}
{% for each in sweeps %}<p>{{ each.statement }}</p>
{% endfor %}
<h2>Figures</h2>
<p>Means with 95 % intervals over the videos.</p>
{{ plots }}
{% for each in sweeps %}<h2>{{ each.setting }}</h2>
<p>{{ each.fixed }}; {{ each.videos | min }} videos a point or more. The change is from the first value to the last,
taken video by video, with its 95 % interval; the correlation is Spearman's, of the points.</p>
<table><tr><th>{% for value in each["values"] %}<th>{{ number(value) }}{% endfor %}<th>change<th>correlation<th></tr>
{% for name, points in each.figures.items() %}<tr><td>{{ name }}
{% for point in points %}<td class="n">{{ number(point.value) }}{% endfor %}
<td class="n">{{ number(each.trends[name].change) }} ({{ number(each.trends[name].low) }} to
{{ number(each.trends[name].high) }})<td class="n">{{ "%.2f" | format(each.trends[name].correlation) }}
<td class="m">{{ meanings.get(name, "") }}</tr>
{% endfor %}</table>
{% endfor %}
{% if sheets %}<h2>Videos</h2>{% endif %}
"""
    + VIDEOS
    + "</html>\n"
)


def ablation_page(
    title: str,
    header: Mapping[str, Any],
    sweeps: Sequence[Mapping[str, Any]],
    sheets: Sequence[tuple[str, Path]] = (),
    note: str = "",
) -> str:
    """Render the report of an ablation.

    Args:
        title: Title of the page.
        header: The settings of the ablation.
        sweeps: What `evaluation.ablation_analysis.analyze` returns.
        sheets: Label and PNG file of each contact sheet.
        note: A remark for the top of the page.

    Returns:
        One self-contained HTML page, with its plots as SVG and its contact sheets embedded.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    names = [name for name in FIGURES if any(name in each["figures"] for each in sweeps)]
    plots = figure_to_svg(plot_figures(sweeps, names))
    given = {"title": title, "header": header, "sweeps": sweeps, "note": note, "meanings": MEANINGS}
    return render_page(TEMPLATE, plots, sheets, **given)


def plot_figures(sweeps: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Any:
    """Plot figures (rows) over settings (columns), with their 95 % intervals.

    Args:
        sweeps: What `evaluation.ablation_analysis.analyze` returns.
        names: The figures to plot.

    Returns:
        A matplotlib figure.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    figure = new_figure(3.6 * len(sweeps), 1.9 * len(names))
    grid = figure.subplots(len(names), len(sweeps), squeeze=False, sharey="row")
    for row, name in zip(grid, names, strict=True):
        row[0].set_ylabel(name, fontsize=9)
        for axes, each in zip(row, sweeps, strict=True):
            points = each["figures"].get(name, [])
            places = range(len(points))
            for place, point in zip(places, points, strict=True):
                axes.plot([place, place], [point["low"], point["high"]], color="#9bb")
            axes.plot(places, [point["value"] for point in points], "o-", color="#276", markersize=4)
            axes.set_xticks(list(places), [f"{value:g}" for value in each["values"]] if points else [], fontsize=8)
            axes.tick_params(axis="y", labelsize=8)
            if name == names[-1]:
                axes.set_xlabel(f"{each['setting']} ({each['fixed']})", fontsize=9)
    return figure
