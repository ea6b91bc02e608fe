"""As much of ComfyUI's package as nodes need to be defined."""

from typing import Any


class _Meta(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything


class Anything(metaclass=_Meta):
    """What nodes need only when they are executed: it has every attribute and may be derived from."""
