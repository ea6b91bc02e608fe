"""The records of `score` as shares, quartiles and tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vidrd_core.procedural import DIRECTIONS
from vidrd_core.procedural.chain_metrics import TURNS, Record

REAL = "real"  # the "order" of drawn clips that only passed through the VAE: what a perfect sampler would reach
ORDERS = ("mirror", "forward")
TRAITS: dict[str, tuple[str, ...]] = {
    "color": ("color",),
    "shape": ("shape",),
    "motion": ("motion",),
    "color+shape": ("color", "shape"),
    "all": ("color", "shape", "motion"),
    "background": ("background",),
}
LOOPLESS = (*DIRECTIONS, "grow", "shrink")  # motions that do not repeat by themselves
JUMP = 1.25  # a seam ratio above this is a jump: what keeps its direction beyond it has started anew
WAYS = (*TURNS, "jumped")  # "jumped": the direction is kept, but beyond a jump


def wilson(right: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share; z = 1.96 is 95 %. Of nothing, it is 0 to 1."""
    if of == 0:
        return 0.0, 1.0
    share, slack = right / of, z * z / of
    middle, half = share + slack / 2, z * (share * (1 - share) / of + slack / (4 * of)) ** 0.5
    return max(0.0, (middle - half) / (1 + slack)), min(1.0, (middle + half) / (1 + slack))


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """Counts, shares with Wilson's 95 % interval and quartiles, for JSON: `orders`, `real`, `by_motion`, `by_shape`.

    Directions (`WAYS`) are those of prompts that move straight. Loopiness leaves out what repeats by itself.
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
    """The shares of drawn clips that went through the VAE and were read out: no model of that VAE can do better."""
    return _shares([record for record in records if record["order"] == REAL], 0)


def _summary_of(chains: list[Record]) -> dict[str, Any]:
    clips = min(len(record["clips"]) for record in chains)
    shown = sorted({1, max(1, clips // 2), max(1, clips - 1), clips})
    straight = [way for record in chains if record["motion"] in DIRECTIONS for way in _ways(record)]
    loops = [record["loopiness"] for record in chains if record["motion"] in LOOPLESS]
    kinds = {
        "one way": [record for record in chains if record["motion"] in LOOPLESS],
        "comes back": [record for record in chains if record["motion"] not in LOOPLESS],
    }
    return {
        "clips": {str(clip): _shares(chains, clip - 1) for clip in shown},
        **_seams(chains),
        "by_kind": {kind: _seams(group) for kind, group in kinds.items() if group},
        "directions": {way: straight.count(way) / len(straight) for way in WAYS if straight},
        "straight_seams": len(straight),
        "loop_period": chains[0]["loop_period"],
        "loopiness": _quartiles(value for value in loops if value is not None),
        "first_clip_seconds": _quartiles(record["seconds"][0] for record in chains),
        "later_clip_seconds": _quartiles(value for record in chains for value in record["seconds"][1:]),
        "decode_clip_seconds": _quartiles(record["decode_seconds"] / len(record["clips"]) for record in chains),
        "threads": sorted({record["threads"] for record in chains}),
    }


def _ways(record: Record) -> list[str]:
    """What a straight motion does at each seam."""
    pairs = zip(record["turns"], record["seam_ratio"], strict=True)
    return ["jumped" if turn == "kept" and ratio > JUMP else turn for turn, ratio in pairs]


def _seams(chains: Sequence[Record]) -> dict[str, Any]:
    return {
        name: _quartiles(value for record in chains for value in record[name])
        for name in ("seam_ratio", "worst_step", "mirror_score")
    }


def _shares(records: Sequence[Record], clip: int) -> dict[str, Any]:
    """For each trait, in how many records that clip has it right."""
    shares = {}
    for trait, parts in TRAITS.items():
        right = sum(all(record["clips"][clip]["right"][part] for part in parts) for record in records)
        low, high = wilson(right, len(records))
        share = right / len(records) if records else None
        shares[trait] = {"right": right, "of": len(records), "share": share, "low": low, "high": high}
    return shares


def _quartiles(values: Iterable[float]) -> dict[str, Any]:
    known = list(values)
    low, median, high = np.quantile(known, (0.25, 0.5, 0.75)).tolist() if known else (None,) * 3
    return {"low": low, "median": median, "high": high, "of": len(known)}


def _breakdown(firsts: Sequence[Record], key: str) -> dict[str, Any]:
    """Of the first clips of each motion or shape: the shares that are right, and what it was read as, most first."""
    rows = {}
    for word in sorted({record[key] for record in firsts}):
        group = [record for record in firsts if record[key] == word]
        firsts_read = (record["clips"][0] for record in group)
        read = Counter(word if clip["right"][key] else clip[key] for clip in firsts_read)  # two may come in any order
        rows[word] = {**_shares(group, 0), "read_as": dict(read.most_common())}
    return rows


def table(summary: dict[str, Any]) -> str:
    """A summary as tables in GitHub's markdown."""
    rows = [("drawn clips through the VAE", summary["real"])] if summary["real"]["all"]["of"] else []
    for order, result in summary["orders"].items():
        rows += [(f"{order}, clip {clip}", shares) for clip, shares in result["clips"].items()]
    lines = ["Read out right, in % (95 % interval):", ""]
    lines += _rows(["", *TRAITS, "clips"], [[name, *map(_percent, _traits(s)), s["all"]["of"]] for name, s in rows])
    lines += [
        "",
        "Mirror order turns motion back at each seam: clips read as the reverse motion count as wrong. In forward "
        "order a clip begins with the last M frames of the one before: where the motion starts anew inside a clip, "
        "it is read as unclear. Of straight motions: kept, reversed, ... at a seam; jumped is kept after a jump.",
        "",
    ]
    head = ["", "seam ratio", "worst step near a seam", "mirror score", "loopiness", *(f"{way} %" for way in WAYS)]
    head += ["s first clip", "s later clip", "s decoding"]
    body = []
    for order, r in summary["orders"].items():
        spans = [_span(r[name]) for name in ("seam_ratio", "worst_step", "mirror_score", "loopiness")]
        spans[3] += f" at {r['loop_period']} frames"
        ways = [f"{100 * r['directions'][way]:.0f}" if r["directions"] else "" for way in WAYS]
        seconds = [_span(r[f"{name}_seconds"]) for name in ("first_clip", "later_clip", "decode_clip")]
        body.append([order, *spans, *ways, *seconds])
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
            wrong = [f"{read} {count}" for read, count in shares["read_as"].items() if read != word]
            body.append(
                [word, *(f"{100 * s['share']:.0f}" for s in _traits(shares)), shares["all"]["of"], ", ".join(wrong)]
            )
        lines += _rows([key, *TRAITS, "clips", "read as (wrongly)"], body)
    return "\n".join(lines) + "\n"


def _traits(shares: dict[str, Any]) -> list[dict[str, Any]]:
    return [shares[trait] for trait in TRAITS]


def _percent(share: dict[str, Any]) -> str:
    return f"{100 * share['share']:.0f} ({100 * share['low']:.0f}-{100 * share['high']:.0f})"


def _span(spread: dict[str, Any]) -> str:
    low, median, high = (spread[name] for name in ("low", "median", "high"))
    return "" if median is None else f"{median:.2f} ({low:.2f} to {high:.2f})"


def _rows(head: Sequence[Any], body: Sequence[Sequence[Any]]) -> list[str]:
    return ["| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *body)]
