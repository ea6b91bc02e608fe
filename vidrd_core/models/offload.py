"""Block offloading: a UNet3D's weights stay in main memory and are on the device only while their block computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from vidrd_core.models.blocks import UNetBlock


def blocks_of(unet: nn.Module) -> Iterator[nn.Module]:
    """The modules of a UNet3D that are offloaded one by one: ResNets, Temp-Convs, transformers and single layers."""
    for child in unet.children():
        if isinstance(child, UNetBlock | nn.ModuleList):
            yield from blocks_of(child)
        else:
            yield child


class BlockOffload:
    """Copies a block's weights to the device before it computes, and the next block's meanwhile; drops them after.

    It works by hooks. No more than two blocks' weights are on the device at a time. The order of blocks is recorded
    in the first call.

    Args:
        unet: Its weights are in main memory; on CUDA they are pinned.
        device: Where it computes.
    """

    def __init__(self, unet: nn.Module, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.originals: dict[nn.Module, list[Tensor]] = {}  # in main memory, of the blocks on the device
        self.next: dict[nn.Module, nn.Module] = {}
        self.last: nn.Module | None = None
        for block in blocks_of(unet):
            if self.stream is not None:
                for parameter in block.parameters():
                    parameter.data = parameter.data.cpu().pin_memory()  # copied while the device computes
            block.register_forward_pre_hook(self._before)
            block.register_forward_hook(self._after, always_call=True)

    def copy_to_device(self, tensor: Tensor) -> Tensor:
        """A copy of a weight on the device."""
        return tensor.to(self.device, non_blocking=True)

    def release(self) -> None:
        """Drop the device copies of all blocks, also those that wait for the next call."""
        for block in list(self.originals):
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
        if block in self.originals:
            return
        self.originals[block] = [parameter.data for parameter in block.parameters()]
        with nullcontext() if self.stream is None else torch.cuda.stream(self.stream):
            for parameter in block.parameters():
                parameter.data = self.copy_to_device(parameter.data)

    def _after(self, block: nn.Module, *_: Any) -> None:
        for parameter, original in zip(block.parameters(), self.originals.pop(block, []), strict=False):
            if self.stream is not None:  # the allocator may not reuse the copy before the block has computed
                parameter.data.record_stream(torch.cuda.current_stream(self.device))
            parameter.data = original
