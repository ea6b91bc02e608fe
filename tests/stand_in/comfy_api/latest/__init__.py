"""`comfy_api.latest` as 0.3.64 has it, the oldest host that we serve."""

from abc import ABC, abstractmethod

from .. import Anything
from . import io

ui = Input = InputImpl = Types = Anything


class ComfyExtension(ABC):
    """What a pack's door gives."""

    @abstractmethod
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The pack's nodes."""
