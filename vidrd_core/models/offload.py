"""A UNet3D whose weights stay in main memory: each block's come to the device for the time that it computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from vidrd_core.models.blocks import UNetBlock


def blocks_of(unet: nn.Module) -> Iterator[nn.Module]:
    """The modules between which weights can come and go: ResNets, Temp-Convs, transformers and what is around."""
    for child in unet.children():
        if isinstance(child, UNetBlock | nn.ModuleList):
            yield from blocks_of(child)
        else:
            yield child


class BlockOffload:
    """Brings the weights of a block before it computes, those of the next one meanwhile, and lets them go after it.

    Two blocks' weights are on the device at a time. Which block follows is learned in the first call.
    """

    def __init__(self, unet: nn.Module, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.at_home: dict[nn.Module, list[Tensor]] = {}  # of the blocks that are on the device
        self.next: dict[nn.Module, nn.Module] = {}
        self.last: nn.Module | None = None
        for block in blocks_of(unet):
            if self.stream is not None:
                for parameter in block.parameters():
                    parameter.data = parameter.data.cpu().pin_memory()  # copied while the device computes
            block.register_forward_pre_hook(self._before)
            block.register_forward_hook(self._after, always_call=True)

    def bring(self, tensor: Tensor) -> Tensor:
        """A weight's copy on the device."""
        return tensor.to(self.device, non_blocking=True)

    def rest(self) -> None:
        """Let all blocks go, those too that are there for the next call."""
        for block in list(self.at_home):
            self._after(block)

    def _before(self, block: nn.Module, _: Any) -> None:
        self._fetch(block)
        if self.stream is not None:
            torch.cuda.current_stream(self.device).wait_stream(self.stream)
        if self.last is not None:
            self.next[self.last] = block
        self.last = block
        if block in self.next:
            self._fetch(self.next[block])

    def _fetch(self, block: nn.Module) -> None:
        if block in self.at_home:
            return
        self.at_home[block] = [parameter.data for parameter in block.parameters()]
        with nullcontext() if self.stream is None else torch.cuda.stream(self.stream):
            for parameter in block.parameters():
                parameter.data = self.bring(parameter.data)

    def _after(self, block: nn.Module, *_: Any) -> None:
        for parameter, home in zip(block.parameters(), self.at_home.pop(block, []), strict=False):
            if self.stream is not None:  # its memory is not given away before the block has computed
                parameter.data.record_stream(torch.cuda.current_stream(self.device))
            parameter.data = home
