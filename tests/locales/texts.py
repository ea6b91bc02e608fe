"""The texts in `locales`: `python -m tests.locales.texts` writes the English ones, which are the schemas'.

The other languages' are put into the same order, with English for what is new. What changed in English is named, as
their texts have to follow.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..stand_in import definitions
from ..workflows.slots import slots

LOCALES = Path(__file__).parents[2] / "locales"
FILES = ("nodeDefs", "main")
OTHERS = ("zh", "ja")
STOCK_CATEGORIES = ("loaders",)  # the page itself has these in every language


def english(nodes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the schemas say, by file: in the page's order, so that a translator reads it as a user does."""
    categories = dict.fromkeys(part for node in nodes.values() for part in node["category"].split("/")[1:])
    return {
        "nodeDefs": {
            name: {
                "display_name": node["display_name"],
                "description": node["description"],
                "inputs": {
                    each.name: text(each.said.get("display_name") or each.name, each.said.get("tooltip"))
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
    return {"name": name, "tooltip": tooltip} if tooltip else {"name": name}


def place(language: str, file: str) -> Path:
    return LOCALES / language / f"{file}.json"


def read(language: str, file: str) -> dict[str, Any]:
    return json.loads(place(language, file).read_text(encoding="utf-8"))


def written(texts: dict[str, Any]) -> str:
    """As the files have it."""
    return json.dumps(texts, indent=2, ensure_ascii=False) + "\n"


def flat(texts: dict[str, Any], above: str = "") -> dict[str, str]:
    """Texts by path, such as VidRD_Extend.inputs.alpha.tooltip."""
    found = {}
    for key, each in texts.items():
        found |= flat(each, f"{above}{key}.") if isinstance(each, dict) else {f"{above}{key}": each}
    return found


def arranged(texts: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    """The texts that `like` has, in its order, and its own where there is none."""
    return {
        key: arranged(texts.get(key, {}), each) if isinstance(each, dict) else texts.get(key, each)
        for key, each in like.items()
    }


if __name__ == "__main__":
    for file, now in english(definitions()).items():
        before = flat(read("en", file)) if place("en", file).exists() else {}
        place("en", file).write_text(written(now), encoding="utf-8", newline="\n")
        for language in OTHERS:
            known = read(language, file) if place(language, file).exists() else {}
            place(language, file).write_text(written(arranged(known, now)), encoding="utf-8", newline="\n")
        for path, said in flat(now).items():
            if before.get(path) != said:
                print(f"{path}: now {said!r}, was {before.get(path)!r}; translate it to {', '.join(OTHERS)}")
