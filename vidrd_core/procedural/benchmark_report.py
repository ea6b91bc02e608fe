"""The records of the benchmark as shares, quartiles, tables and contact sheets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidrd_core.procedural import DIRECTIONS
from vidrd_core.procedural.chain_metrics import TURNS, Record, Video

REAL = "real"  # the "order" of drawn clips that only passed through the VAE: what a perfect sampler would achieve
ORDERS = ("mirror", "forward")
TRAITS: dict[str, tuple[str, ...]] = {
    "color": ("color",),
    "shape": ("shape",),
    "motion": ("motion",),
    "color+shape": ("color", "shape"),
    "all": ("color", "shape", "motion"),
    "background": ("background",),
}
APERIODIC = (*DIRECTIONS, "grow", "shrink")  # motions that do not repeat by themselves
JUMP = 1.25  # a seam ratio above this is a jump: motion that keeps its direction there has started over
SEAM_KINDS = (*TURNS, "jumped")  # "jumped": the direction is kept, but after a jump


def wilson(right: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Compute Wilson's score interval of a proportion.

    Args:
        right: Number of successes.
        of: Number of trials; for 0 the interval is 0 to 1.
        z: Standard errors; 1.96 for 95 %.

    Returns:
        The lower and the upper end, 0 to 1.

    Source:
        Wilson, 1927.
    """
    if of == 0:
        return 0.0, 1.0
    share, slack = right / of, z * z / of
    middle, half = share + slack / 2, z * (share * (1 - share) / of + slack / (4 * of)) ** 0.5
    return max(0.0, (middle - half) / (1 + slack)), min(1.0, (middle + half) / (1 + slack))


def summarize(records: Sequence[Record]) -> dict[str, Any]:
    """Summarize records as counts, shares with 95 % intervals and quartiles.

    Args:
        records: Records of the benchmark.

    Returns:
        A dictionary for JSON: `orders`, `real`, `by_motion`, `by_shape`. Directions (`SEAM_KINDS`) are of prompts
        with straight motion; loopiness leaves out periodic motions.
    """
    orders = [order for order in ORDERS if any(record["order"] == order for record in records)]
    chains = {order: [record for record in records if record["order"] == order] for order in orders}
    firsts = chains[orders[0]] if orders else []
    return {
        "orders": {order: _summary_of(chains[order]) for order in orders},
        "real": real_data_row(records),
        "by_motion": _breakdown(firsts, "motion"),
        "by_shape": _breakdown(firsts, "shape"),
    }


def real_data_row(records: Sequence[Record]) -> dict[str, Any]:
    """The shares of drawn clips that passed through the VAE: the upper bound for a model with that VAE."""
    return _shares([record for record in records if record["order"] == REAL], 0)


def _summary_of(chains: list[Record]) -> dict[str, Any]:
    """The summary of the chains of one order."""
    clips = min(len(record["clips"]) for record in chains)
    shown = sorted({1, max(1, clips // 2), max(1, clips - 1), clips})
    straight = [kind for record in chains if record["motion"] in DIRECTIONS for kind in _seam_kinds(record)]
    loops = [record["loopiness"] for record in chains if record["motion"] in APERIODIC]
    kinds = {
        "one way": [record for record in chains if record["motion"] in APERIODIC],
        "comes back": [record for record in chains if record["motion"] not in APERIODIC],
    }
    return {
        "clips": {str(clip): _shares(chains, clip - 1) for clip in shown},
        **_seams(chains),
        "by_kind": {kind: _seams(group) for kind, group in kinds.items() if group},
        "directions": {kind: straight.count(kind) / len(straight) for kind in SEAM_KINDS if straight},
        "straight_seams": len(straight),
        "loop_period": chains[0]["loop_period"],
        "loopiness": _quartiles(value for value in loops if value is not None),
        "first_clip_seconds": _quartiles(record["seconds"][0] for record in chains),
        "later_clip_seconds": _quartiles(value for record in chains for value in record["seconds"][1:]),
        "decode_clip_seconds": _quartiles(record["decode_seconds"] / len(record["clips"]) for record in chains),
        "threads": sorted({record["threads"] for record in chains}),
    }


def _seam_kinds(record: Record) -> list[str]:
    """What a straight motion does at each seam."""
    pairs = zip(record["turns"], record["seam_ratio"], strict=True)
    return ["jumped" if turn == "kept" and ratio > JUMP else turn for turn, ratio in pairs]


def _seams(chains: Sequence[Record]) -> dict[str, Any]:
    """Quartiles of the metrics of seams."""
    return {
        name: _quartiles(value for record in chains for value in record[name])
        for name in ("seam_ratio", "worst_step", "mirror_score")
    }


def _shares(records: Sequence[Record], clip: int) -> dict[str, Any]:
    """For each trait, in how many records that clip matches its prompt."""
    shares = {}
    for trait, parts in TRAITS.items():
        right = sum(all(record["clips"][clip]["right"][part] for part in parts) for record in records)
        low, high = wilson(right, len(records))
        share = right / len(records) if records else None
        shares[trait] = {"right": right, "of": len(records), "share": share, "low": low, "high": high}
    return shares


def _quartiles(values: Iterable[float]) -> dict[str, Any]:
    """Quartiles and number of values."""
    known = list(values)
    low, median, high = np.quantile(known, (0.25, 0.5, 0.75)).tolist() if known else (None,) * 3
    return {"low": low, "median": median, "high": high, "of": len(known)}


def _breakdown(firsts: Sequence[Record], key: str) -> dict[str, Any]:
    """The shares of first clips of each motion or shape that are right, and what it was recognized as."""
    rows = {}
    for word in sorted({record[key] for record in firsts}):
        group = [record for record in firsts if record[key] == word]
        first_clips = (record["clips"][0] for record in group)
        # Of two sprites the words may come in either order.
        found = Counter(word if clip["right"][key] else clip[key] for clip in first_clips)
        rows[word] = {**_shares(group, 0), "read_as": dict(found.most_common())}
    return rows


def table(summary: dict[str, Any]) -> str:
    """A summary as tables in GitHub's Markdown."""
    rows = [("drawn clips through the VAE", summary["real"])] if summary["real"]["all"]["of"] else []
    for order, result in summary["orders"].items():
        rows += [(f"{order}, clip {clip}", shares) for clip, shares in result["clips"].items()]
    lines = ["Recognized as prompted, in % (95 % interval):", ""]
    lines += _rows(["", *TRAITS, "clips"], [[name, *map(_percent, _traits(s)), s["all"]["of"]] for name, s in rows])
    lines += [
        "",
        "Mirror order reverses motion at each seam: clips recognized as the reverse motion count as wrong. In "
        "forward order a clip begins with the last M frames of the one before: where the motion starts over inside "
        "a clip, it is unclear. Of straight motions: kept, reversed, ... at a seam; jumped is kept after a jump.",
        "",
    ]
    head = [
        "",
        "seam ratio",
        "worst step near a seam",
        "mirror score",
        "loopiness",
        *(f"{kind} %" for kind in SEAM_KINDS),
    ]
    head += ["s first clip", "s later clip", "s decoding"]
    body = []
    for order, r in summary["orders"].items():
        spans = [_span(r[name]) for name in ("seam_ratio", "worst_step", "mirror_score", "loopiness")]
        spans[3] += f" at {r['loop_period']} frames"
        kinds = [f"{100 * r['directions'][kind]:.0f}" if r["directions"] else "" for kind in SEAM_KINDS]
        seconds = [_span(r[f"{name}_seconds"]) for name in ("first_clip", "later_clip", "decode_clip")]
        body.append([order, *spans, *kinds, *seconds])
    lines += ["Median (quartiles); 1 is a perfect seam ratio:", "", *_rows(head, body)]
    lines += ["", "Seams of motions that go one way (straight, growing, shrinking) and of those that come back:", ""]
    body = [
        [f"{order}, {kind}", *(_span(spreads[name]) for name in ("seam_ratio", "worst_step"))]
        for order, r in summary["orders"].items()
        for kind, spreads in r["by_kind"].items()
    ]
    lines += _rows(["", "seam ratio", "worst step near a seam"], body)
    for key in ("motion", "shape"):
        lines += ["", f"Clip 1 by {key}, right in %:", ""]
        body = []
        for word, shares in summary[f"by_{key}"].items():
            wrong = [f"{other} {count}" for other, count in shares["read_as"].items() if other != word]
            body.append(
                [word, *(f"{100 * s['share']:.0f}" for s in _traits(shares)), shares["all"]["of"], ", ".join(wrong)]
            )
        lines += _rows([key, *TRAITS, "clips", "recognized as (wrongly)"], body)
    return "\n".join(lines) + "\n"


def _traits(shares: dict[str, Any]) -> list[dict[str, Any]]:
    """The shares of all traits in their order."""
    return [shares[trait] for trait in TRAITS]


def _percent(share: dict[str, Any]) -> str:
    """Format a share and its interval, as in "93 (88-97)"."""
    return f"{100 * share['share']:.0f} ({100 * share['low']:.0f}-{100 * share['high']:.0f})"


def _span(spread: dict[str, Any]) -> str:
    """Format quartiles, as in "1.02 (0.97 to 1.10)"; "" without values."""
    low, median, high = (spread[name] for name in ("low", "median", "high"))
    return "" if median is None else f"{median:.2f} ({low:.2f} to {high:.2f})"


def _rows(head: Sequence[Any], body: Sequence[Sequence[Any]]) -> list[str]:
    """The lines of a table."""
    return ["| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *body)]


def draw_chain(video: Video, frames: int, record: Record, path: Path) -> None:
    """Draw a contact sheet of a chain, a row per clip, with what was recognized in it.

    Args:
        video: uint8 [F, H, W, 3].
        frames: Frames of a clip (N); the rows of later clips are the frames that these add.
        record: The chain's record, with its `text` and `clips`.
        path: The picture; its folder is made.
    """
    from vidrd_core.video import contact_sheet  # needs PyAV

    added = (len(video) - frames) // max(1, len(record["clips"]) - 1)
    rows = np.split(video, range(frames, len(video), max(1, added)))  # a single clip adds none
    labels = [" ".join(clip[word] for word in ("color", "shape", "motion")) for clip in record["clips"]]
    labels[0] = f"{record['text']} - {labels[0]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(rows, path, labels)
