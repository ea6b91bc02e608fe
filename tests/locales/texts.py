"""The texts in `locales`: English ones, which come from the schemas, and their translations.

`python -m tools.node_files` writes the English files, puts translations in the same order, and lists missing ones.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..workflows.slots import slots

LOCALES = Path(__file__).parents[2] / "locales"
FILES = ("nodeDefs", "main")
OTHERS = ("zh", "ja")
STOCK_CATEGORIES = ("loaders",)  # ComfyUI translates these itself


def english(nodes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The texts of the schemas, by file, in the order in which a node shows them."""
    categories = dict.fromkeys(part for node in nodes.values() for part in node["category"].split("/")[1:])
    return {
        "nodeDefs": {
            name: {
                "display_name": node["display_name"],
                "description": node["description"],
                "inputs": {
                    each.name: text(each.config.get("display_name") or each.name, each.config.get("tooltip"))
                    for each in slots(node)
                },
                "outputs": {
                    str(k): text(*each)
                    for k, each in enumerate(zip(node["output_name"], node["output_tooltips"], strict=True))
                },
            }
            for name, node in nodes.items()
        },
        "main": {"nodeCategories": {each: each for each in categories if each not in STOCK_CATEGORIES}},
    }


def text(name: str, tooltip: str | None) -> dict[str, str]:
    """The texts of an input or output."""
    return {"name": name, "tooltip": tooltip} if tooltip else {"name": name}


def place(language: str, file: str) -> Path:
    """The path of a locale file, such as "nodeDefs"."""
    return LOCALES / language / f"{file}.json"


def read(language: str, file: str) -> dict[str, Any]:
    """The texts of a locale file."""
    return json.loads(place(language, file).read_text(encoding="utf-8"))


def written(texts: dict[str, Any]) -> str:
    """Texts as the text of their file."""
    return json.dumps(texts, indent=2, ensure_ascii=False) + "\n"


def flat(texts: dict[str, Any], above: str = "") -> dict[str, str]:
    """Texts by key, such as VidRD_Extend.inputs.alpha.tooltip."""
    found: dict[str, str] = {}
    for key, each in texts.items():
        found |= flat(each, f"{above}{key}.") if isinstance(each, dict) else {f"{above}{key}": each}
    return found


def nested(texts: dict[str, str]) -> dict[str, Any]:
    """Texts by key as `flat` got them."""
    found: dict[str, Any] = {}
    for path, each in texts.items():
        *above, key = path.split(".")
        place = found
        for name in above:
            place = place.setdefault(name, {})
        place[key] = each
    return found


def arranged(texts: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    """The texts that `like` has, too, in its order."""
    return {
        key: arranged(texts[key], each) if isinstance(each, dict) else texts[key]
        for key, each in like.items()
        if key in texts
    }
