"""A long video through the temporal decoder, chunk by chunk: each frame is computed once, in constant memory.

Every Temp-Conv keeps the few frames that its next ones depend on. What is kept can wait in main memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vidrd_core.models.temporal import TemporalConv
from vidrd_core.models.tiling import Place, blended, cut, places_of

Stage = Callable[[Tensor], Tensor] | TemporalConv


class TemporalConvStream:
    """A Temp-Conv over chunks [B, C, f, H, W] of one video that arrive one after the other.

    Each conv gives out a frame when the next one is known, so the result lags by `depth` frames until the end.
    Exact only where each frame is normalised alone.
    """

    def __init__(self, conv: TemporalConv) -> None:
        if conv.joint_norm:
            raise ValueError("a Temp-Conv whose GroupNorm spans the clip cannot be streamed frame by frame")
        self.conv = conv
        self.windows: list[Tensor | None] = [None] * conv.depth  # the last two inputs of each conv, [B, C, 2, H*W]
        self.shortcut: Tensor | None = None  # the frames whose results are not out yet
        self.is_begun = False  # with two frames: a single one is an image

    def push(self, x: Tensor) -> Tensor | None:
        """The frames that are final with this chunk; None if there are none."""
        x = x if self.shortcut is None else torch.cat([self.shortcut, x], dim=2)
        due = 0 if not self.is_begun or self.shortcut is None else self.shortcut.shape[2]
        self.shortcut = x
        if x.shape[2] < 2 and not self.is_begun:
            return None
        self.is_begun = True
        return self._out(self._through(rearrange(x[:, :, due:], "b c f h w -> b c f (h w)"), 0))

    def flush(self) -> Tensor | None:
        """The frames that are left when no more chunks come."""
        if not self.is_begun:
            return self.shortcut
        left: Tensor | None = None
        for i in range(self.conv.depth):
            through = None if left is None else self._layer(i, left)
            window = self.windows[i]
            assert window is not None
            last = self._conv(i, F.pad(window, (0, 0, 0, 1)))
            left = last if through is None else torch.cat([through, last], dim=2)
        return self._out(left)

    def to(self, device: torch.device | str) -> None:
        """Move what is kept."""
        self.windows = [None if window is None else window.to(device) for window in self.windows]
        self.shortcut = None if self.shortcut is None else self.shortcut.to(device)

    def _out(self, h: Tensor | None) -> Tensor | None:
        if h is None or self.shortcut is None:
            return None
        x, rest = self.shortcut.split([h.shape[2], self.shortcut.shape[2] - h.shape[2]], dim=2)
        self.shortcut = rest.clone()  # a view would keep all of it
        return x + rearrange(h, "b c f (h w) -> b c f h w", h=x.shape[-2])

    def _through(self, h: Tensor | None, start: int) -> Tensor | None:
        for i in range(start, self.conv.depth):
            h = None if h is None else self._layer(i, h)
        return h

    def _layer(self, i: int, h: Tensor) -> Tensor | None:
        window, before = self.windows[i], list(self.conv.layer(i + 1))[:-1]
        h = self.conv.activate(before, h)
        h = F.pad(h, (0, 0, 1, 0)) if window is None else torch.cat([window, h], dim=2)
        self.windows[i] = h[:, :, -2:].clone()
        return self._conv(i, h) if h.shape[2] > 2 else None

    def _conv(self, i: int, h: Tensor) -> Tensor:
        return self.conv.layer(i + 1)[-1](h)[:, :, 1:-1]


class DecoderStream:
    """A decoder's stages over chunks [B, C, f, h, w] of one video."""

    def __init__(self, stages: Iterable[Stage]) -> None:
        self.stages = [TemporalConvStream(stage) if isinstance(stage, TemporalConv) else stage for stage in stages]

    def push(self, x: Tensor, start: int = 0) -> Tensor | None:
        """The frames [B, 3, f', H, W] that are final with this chunk; None if there are none."""
        result: Tensor | None = x
        for stage in self.stages[start:]:
            if result is None:
                return None
            result = stage.push(result) if isinstance(stage, TemporalConvStream) else _by_frame(stage, result)
        return result

    def flush(self) -> Iterator[Tensor]:
        """The frames that are left when no more chunks come, a few at a time."""
        for number, stage in enumerate(self.stages):
            if isinstance(stage, TemporalConvStream) and (left := stage.flush()) is not None:
                out = self.push(left, number + 1)
                del left
                if out is not None:
                    yield out

    def kept(self) -> list[Tensor]:
        """All that the stages keep."""
        streams = [stage for stage in self.stages if isinstance(stage, TemporalConvStream)]
        return [tensor for stream in streams for tensor in [*stream.windows, stream.shortcut] if tensor is not None]

    def to(self, device: torch.device | str) -> None:
        """Move what is kept."""
        for stage in self.stages:
            if isinstance(stage, TemporalConvStream):
                stage.to(device)


class TiledStream:
    """The same tile by tile: one after the other takes a chunk, and what the others keep waits in main memory."""

    def __init__(self, make: Callable[[], DecoderStream], tile: int, cell: int) -> None:
        self.make, self.tile, self.cell = make, tile, cell
        self.tiles: list[DecoderStream] = []
        self.places: list[Place] = []

    def push(self, x: Tensor, frames: int) -> Tensor | None:
        """As `DecoderStream.push`, so many frames at a time in each tile."""
        height, width = x.shape[-2:]
        self.places = places_of(height, width, self.tile)
        self.device = x.device
        self.tiles = self.tiles or [self.make() for _ in self.places]
        outs = []
        for stream, place in zip(self.tiles, self.places, strict=True):
            stream.to(self.device)
            pushed = [stream.push(part) for part in cut(x, place, 1).split(frames, dim=2)]
            parts = [part for part in pushed if part is not None]
            outs.append(torch.cat(parts, dim=2) if parts else None)
            del pushed, parts
            if len(self.tiles) > 1:
                stream.to("cpu")
        return self._blend(outs)

    def flush(self) -> Iterator[Tensor]:
        """As `DecoderStream.flush`, all at once."""
        outs = []
        for stream in self.tiles:
            stream.to(self.device)
            parts = list(stream.flush())
            outs.append(torch.cat(parts, dim=2) if parts else None)
            stream.to("cpu")
        if outs and (whole := self._blend(outs)) is not None:
            yield whole

    def _blend(self, outs: list[Tensor | None]) -> Tensor | None:
        parts = [out for out in outs if out is not None]
        return blended(iter(parts), self.places, self.cell) if parts else None


def _by_frame(stage: Callable[[Tensor], Tensor], chunk: Tensor) -> Tensor:
    frames = stage(rearrange(chunk, "b c f h w -> (b f) c h w"))
    return rearrange(frames, "(b f) c h w -> b c f h w", f=chunk.shape[2])
