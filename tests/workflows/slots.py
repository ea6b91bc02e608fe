"""What a node's definition says of its inputs, as the page lays them out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3")
UPLOADS = ("image_upload", "video_upload", "audio_upload")
ADDED = ("control_after_generate", "upload")  # widgets of the page's own: in workflows, but never sent
CONTROLS = ["fixed", "increment", "decrement", "randomize"]


class Slot(NamedTuple):
    name: str
    type: str
    said: dict[str, Any]
    optional: bool

    @property
    def is_widget(self) -> bool:
        """Whether a value may be typed or chosen; it may be wired all the same."""
        return self.type in WIDGETS and not self.said.get("forceInput")

    @property
    def added(self) -> list[str]:
        """The widgets that the page puts after it."""
        control = self.said.get("control_after_generate", self.type == "INT" and self.name in ("seed", "noise_seed"))
        return ["control_after_generate"] * bool(control) + ["upload"] * any(self.said.get(each) for each in UPLOADS)


def slots(definition: dict[str, Any]) -> Iterator[Slot]:
    """The inputs in the page's order: optional ones last."""
    for kind in ("required", "optional"):
        for name, (type_, *said) in definition["input"].get(kind, {}).items():
            said = dict(said[0]) if said else {}
            if isinstance(type_, list):  # as older nodes say COMBO
                type_, said = "COMBO", {**said, "options": type_}
            yield Slot(name, type_, said, kind == "optional")


def widgets(definition: dict[str, Any]) -> list[str]:
    """The names that a workflow's widgets_values go by, in their order."""
    return [name for each in slots(definition) if each.is_widget for name in (each.name, *each.added)]


def sockets(definition: dict[str, Any]) -> list[str]:
    """The inputs that can only be wired."""
    return [each.name for each in slots(definition) if not each.is_widget]
