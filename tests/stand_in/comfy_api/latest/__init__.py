"""`comfy_api.latest` of 0.3.64, the oldest supported host."""

from abc import ABC, abstractmethod

from .. import Anything
from . import io

ui = Input = InputImpl = Types = Anything


class ComfyExtension(ABC):
    """The base class of a pack's extension."""

    @abstractmethod
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The pack's nodes."""
