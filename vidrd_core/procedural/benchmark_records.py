"""Files of records, a line of JSON each, which a stopped run goes on with; the first line says what they are of."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from vidrd_core.io.digests import weights_digest
from vidrd_core.pipeline import VidRD
from vidrd_core.procedural.benchmark_report import REAL
from vidrd_core.procedural.chain_metrics import Record

FORMAT = 2


def read_records(path: Path) -> tuple[dict[str, Any], list[Record]]:
    """The header (model and settings) and the records of a file, by prompt; an unfinished last line is left out."""
    whole = Path(path).read_text(encoding="utf-8").rpartition("\n")[0]
    lines = [json.loads(line) for line in whole.splitlines()]
    if not lines or lines[0].get("format") != FORMAT:
        raise ValueError(f"{path} does not begin as records of format {FORMAT} do")
    order = [*lines[0]["orders"], REAL]
    return lines[0], sorted(lines[1:], key=lambda record: (record["prompt"], order.index(record["order"])))


def header_of(model: VidRD, settings: Any) -> dict[str, Any]:
    """What tells the records of a model and of settings (a dataclass with `reuse`) from others."""
    chosen = dataclasses.asdict(settings)
    del chosen["reuse"]
    reuse = {key: value for key, value in settings.reuse.metadata().items() if key != "order"}
    header = {"format": FORMAT, "model": model.name, "weights": weights_of(model), **chosen, **reuse}
    return json.loads(json.dumps(header))  # as it will be read: tuples are lists


def weights_of(model: VidRD) -> str:
    """Twelve hex digits that tell a model's weights, all parts of it, from others."""
    return weights_digest(model.signature, model.vae, model.text_encoder)


def opened(path: Path, header: dict[str, Any]) -> list[Record]:
    """The records in a file that can be gone on with; without any, the header is written."""
    begun = path.exists() and b"\n" in path.read_bytes()
    found, records = read_records(path) if begun else ({}, [])
    if not records:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(json.dumps(header).encode() + b"\n")
        return []
    other = [
        f"{key} {found.get(key)!r} (now {header.get(key)!r})"
        for key in sorted({*found, *header} - {"model"})
        if found.get(key) != header.get(key)
    ]
    if other:
        raise ValueError(f"{path} holds records of {', '.join(other)}: choose another file, or delete it")
    with path.open("rb+") as file:  # a stopped run may have left half a line
        file.truncate(file.read().rfind(b"\n") + 1)
    return records
