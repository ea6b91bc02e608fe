"""The order that saved workflows go by, kept in inputs.json: `python -m tests.nodes.inputs` writes what is true now.

Run it to put new nodes, inputs and outputs on record; where it changes lines that were there, saved workflows break.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..stand_in import definitions
from ..workflows.slots import sockets, widgets

FILE = Path(__file__).with_suffix(".json")


def order(definition: dict[str, Any]) -> dict[str, list[str]]:
    """The order of inputs, which may only grow at the end."""
    return {
        "widgets": widgets(definition),
        "sockets": sockets(definition),
        "outputs": definition["output"],
    }


def recorded() -> dict[str, dict[str, list[str]]]:
    """The order of inputs in earlier versions."""
    return json.loads(FILE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    orders = {name: order(definition) for name, definition in sorted(definitions().items())}
    FILE.write_text(json.dumps(orders, indent=2) + "\n", encoding="utf-8")
