"""The parts of ComfyUI's package that node definitions need."""

from typing import Any


class _Meta(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything


class Anything(metaclass=_Meta):
    """Stands in for what nodes need only when they run: it has every attribute and can be a base class."""

    instance = None  # of PromptServer: no server runs
