"""The order of inputs and outputs, by which saved workflows refer to them, as recorded in inputs.json.

`python -m tools.node_files` adds new nodes, inputs and outputs to the record, and refuses any other change.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..workflows.slots import sockets, widgets

FILE = Path(__file__).with_suffix(".json")


def order(definition: dict[str, Any]) -> dict[str, list[str]]:
    """The names of a node that may only be appended to."""
    return {
        "widgets": widgets(definition),
        "sockets": sockets(definition),
        "outputs": definition["output"],
    }


def recorded() -> dict[str, dict[str, list[str]]]:
    """The recorded order, by node id."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def written(orders: dict[str, dict[str, list[str]]]) -> str:
    """A record as the text of its file."""
    return json.dumps(orders, indent=2) + "\n"
