"""A node's inputs and widgets in the order in which ComfyUI's page shows them, from its definition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3")
UPLOADS = ("image_upload", "video_upload", "audio_upload")
ADDED = ("control_after_generate", "upload")  # widgets that the page adds: saved in workflows, but not sent
CONTROLS = ["fixed", "increment", "decrement", "randomize"]


class Slot(NamedTuple):
    """An input of a node; `config` holds its tooltip, default, range and options."""

    name: str
    type: str
    config: dict[str, Any]
    optional: bool

    @property
    def is_widget(self) -> bool:
        """Whether it has a widget, which can be connected all the same; of several types one is its widget's."""
        return self.config.get("widgetType", self.type) in WIDGETS and not self.config.get("forceInput")

    @property
    def added(self) -> list[str]:
        """The widgets that the page adds after it."""
        control = self.config.get(
            "control_after_generate", self.type == "INT" and self.name in ("seed", "noise_seed")
        )
        return ["control_after_generate"] * bool(control) + ["upload"] * any(
            self.config.get(each) for each in UPLOADS
        )


def slots(definition: dict[str, Any]) -> Iterator[Slot]:
    """The inputs in the page's order: optional ones last."""
    for kind in ("required", "optional"):
        for name, (type_, *rest) in definition["input"].get(kind, {}).items():
            config = dict(rest[0]) if rest else {}
            if isinstance(type_, list):  # the older form of COMBO
                type_, config = "COMBO", {**config, "options": type_}
            yield Slot(name, type_, config, kind == "optional")


def widgets(definition: dict[str, Any]) -> list[str]:
    """The names of a workflow's widgets_values, in their order."""
    return [name for each in slots(definition) if each.is_widget for name in (each.name, *each.added)]


def sockets(definition: dict[str, Any]) -> list[str]:
    """The inputs without a widget."""
    return [each.name for each in slots(definition) if not each.is_widget]
