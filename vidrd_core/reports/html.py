"""An evaluation as one HTML page, with its plots and contact sheets inside: nothing else is needed to show it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment

from vidrd_core.metrics.flow import MissingError

MEANINGS = {
    "dynamic": "share of videos that move: in a quarter of the steps by 6 pixels of 256 or more (VBench's rule)",
    "speed": "how fast the fastest twentieth of the pixels is, in 256ths of the shorter side a step",
    "change": "mean absolute change from frame to frame, 0 to 1",
    "frame_consistency": "cosine of neighbouring frames' features; 1 for stillness",
    "subject_consistency": "the same, to the first frame, too; 1 for stillness",
    "temporal_flickering": "1 less the mean change; of use for scenes that stand still alone",
    "scene_cuts": "cuts a video, by PySceneDetect",
    "faithful_look": "share of clips that show the colour and the shape that their prompt says, read by program",
    "faithful_motion": "share of clips that move as their prompt says",
    "clipsim": "cosine of CLIP's features of frames and prompt",
    "seam_ratio": "change across a seam over the median inside clips; 1 is perfect, 0 a doubled frame, more a jump",
    "worst_step": "largest change from a seam on, over the same",
    "flow_jump": "degrees by which motion turns at a seam; 0 goes on, 180 turns back",
    "mirror_score": "how much more a clip is like the one before run backwards than like that clip itself",
    "loopiness": "how much more alike frames so many apart are than the trend; 0 where nothing comes round",
    "drift": "of brightness, contrast, saturation, sharpness: slope a clip, change from first clip to last",
}
FIRST = tuple(MEANINGS)
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
<p>of {{ told(summary.fvd.of) }}, against {{ told(summary.fvd.reference) }}.</p>{% endif %}
{% if summary.inception_score %}<p class="big">Inception Score {{ number(summary.inception_score.mean) }} ±
{{ number(summary.inception_score.std) }}</p><p>of {{ summary.inception_score.videos }} videos in
{{ summary.inception_score.splits }} splits.</p>{% endif %}
<h2>Measures</h2>
<p>Stillness wins consistency: read it beside <em>dynamic</em> and <em>speed</em>.</p>
<table><tr><th><th>mean<th>std<th>median<th>quartiles<th>of<th></tr>
{% for name, row in rows %}<tr><td>{{ name }}<td class="n">{{ number(row.mean) }}<td class="n">{{ number(row.std) }}
<td class="n">{{ number(row.median) }}<td class="n">{{ number(row.low) }} to {{ number(row.high) }}
<td class="n">{{ row.of }}<td class="m">{{ meaning(name) }}</tr>
{% endfor %}</table>
<h2>Spread</h2>
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


def page(
    title: str,
    header: Mapping[str, Any],
    summary: Mapping[str, Any],
    values: Mapping[str, Sequence[float]],
    sheets: Sequence[tuple[str, Path]] = (),
    skipped: Sequence[tuple[str, str]] = (),
    note: str = "",
) -> str:
    """The page: what was measured, a table, plots of `values` by measure, pictures, and what was skipped.

    Raises MissingError without matplotlib.
    """
    rows = sorted(summary["measures"].items(), key=lambda row: _place(row[0]))
    given = {"title": title, "header": header, "summary": summary, "rows": rows, "skipped": skipped, "note": note}
    return filled(TEMPLATE, histograms(values), sheets, **given)


def filled(template: str, plots: str, sheets: Sequence[tuple[str, Path]], **given: Any) -> str:
    """A page's template with its SVG, its pictures, and what else it is given."""
    environment = Environment(autoescape=True, trim_blocks=True)
    environment.globals |= {"number": number, "told": told, "meaning": meaning}
    pictures = [(label, base64.b64encode(path.read_bytes()).decode()) for label, path in sheets]
    text = environment.from_string(template).render(plots="\0", sheets=pictures, **given)
    return text.replace("\0", plots)  # which is no text to be escaped


def histograms(values: Mapping[str, Sequence[float]]) -> str:
    """A histogram of each measure, as one SVG. Raises MissingError without matplotlib."""
    shown = [name for name in sorted(values, key=_place) if len(values[name]) > 1 and len(set(values[name])) > 1]
    if not shown:
        return "<p>Too few videos for plots.</p>"
    columns = 4
    lines = -(-len(shown) // columns)
    figure = drawing(3 * columns, 2.2 * lines)
    for place, name in enumerate(shown):
        axes = figure.add_subplot(lines, columns, place + 1)
        axes.hist(np.asarray(values[name]), bins=min(30, max(5, len(values[name]) // 5)), color="#4a7")
        axes.axvline(float(np.median(values[name])), color="#333", linewidth=1)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
    return svg(figure)


def drawing(width: float, height: float) -> Any:
    """An empty figure of matplotlib's, inches. Raises MissingError without it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingError("plots need matplotlib: pip install matplotlib") from error
    return Figure(figsize=(width, height), layout="constrained")


def svg(figure: Any) -> str:
    """A figure as SVG for a page; the same figure always as the same text."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return file.getvalue()[file.getvalue().index("<svg") :]


def meaning(name: str) -> str:
    """What a measure says, by the first word of its name."""
    return MEANINGS.get(name.split()[0], "")


def number(value: float) -> str:
    """Four digits."""
    return f"{value:.4g}"


def told(about: Mapping[str, Any]) -> str:
    """What statistics are of, in words."""
    clips = f"{about['clips']} videos" if about["clips"] else "statistics"
    frames = f" of {about['frames']} frames" if about["frames"] else ""
    fps = f" at {about['fps']:g} a second" if about["fps"] else ""
    return f"{clips}{frames}{fps}" + (f" by {about['network']}" if about["network"] else "")


def _place(name: str) -> tuple[int, str]:
    head = name.split()[0]
    return (FIRST.index(head) if head in FIRST else len(FIRST), name)
