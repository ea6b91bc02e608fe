"""The streaming VAE decoder: a video of any length, chunk by chunk in constant memory.

Where each frame is normalised alone, every Temp-Conv keeps the few frames that the next ones depend on: the result is
exactly that of decoding all of it at once, and each frame is computed once. Where norms span frames, the video is
decoded in overlapping windows (`decode_windows`): nearly the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vidrd_core.models.temporal import TemporalConv
from vidrd_core.models.tiling import Place, blend_tiles, crop, tile_places

Stage = Callable[[Tensor], Tensor] | TemporalConv


class TemporalConvStream:
    """A Temp-Conv over consecutive chunks [B, C, f, H, W] of one video.

    Each conv can compute a frame when the next one is known, so the result lags by `depth` frames until the end.

    Args:
        conv: The layer. Raises ValueError if its norms span frames.
    """

    def __init__(self, conv: TemporalConv) -> None:
        if conv.joint_norm:
            raise ValueError("a Temp-Conv whose GroupNorm spans the clip cannot be streamed: decode in windows")
        self.conv = conv
        self.windows: list[Tensor | None] = [None] * conv.depth  # the last two inputs of each conv, [B, C, 2, H*W]
        self.shortcut: Tensor | None = None  # input frames without a result so far
        self.has_started = False  # at two frames: a single one is an image

    def push(self, x: Tensor) -> Tensor | None:
        """Add a chunk; returns the frames [B, C, f', H, W] that are final with it, None if there are none."""
        x = x if self.shortcut is None else torch.cat([self.shortcut, x], dim=2)
        due = 0 if not self.has_started or self.shortcut is None else self.shortcut.shape[2]
        self.shortcut = x
        if x.shape[2] < 2 and not self.has_started:
            return None
        self.has_started = True
        return self._out(self._through(rearrange(x[:, :, due:], "b c f h w -> b c f (h w)"), 0))

    def flush(self) -> Tensor | None:
        """End the video; returns the remaining frames, None if there are none."""
        if not self.has_started:
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
        """Move the frames that are kept to a device."""
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
    """A decoder over consecutive chunks [B, C, f, h, w] of one video.

    Args:
        stages: Its stages in order: functions of frames [N, C, H, W], and Temp-Convs.
    """

    def __init__(self, stages: Iterable[Stage]) -> None:
        self.stages = [TemporalConvStream(stage) if isinstance(stage, TemporalConv) else stage for stage in stages]

    def push(self, x: Tensor, start: int = 0) -> Tensor | None:
        """Add a chunk and decode as far as possible.

        Args:
            x: The chunk [B, C, f, h, w], as input of the stage `start`.
            start: The index of the first stage.

        Returns:
            The frames [B, 3, f', H, W] that are final with this chunk; None if there are none yet.
        """
        result: Tensor | None = x
        for stage in self.stages[start:]:
            if result is None:
                return None
            result = stage.push(result) if isinstance(stage, TemporalConvStream) else _by_frame(stage, result)
        return result

    def flush(self) -> Iterator[Tensor]:
        """End the video; yields the remaining frames, a few at a time."""
        for number, stage in enumerate(self.stages):
            if isinstance(stage, TemporalConvStream) and (left := stage.flush()) is not None:
                out = self.push(left, number + 1)
                del left
                if out is not None:
                    yield out

    def kept_tensors(self) -> list[Tensor]:
        """All tensors that the stages keep between chunks."""
        streams = [stage for stage in self.stages if isinstance(stage, TemporalConvStream)]
        return [tensor for stream in streams for tensor in [*stream.windows, stream.shortcut] if tensor is not None]

    def to(self, device: torch.device | str) -> None:
        """Move the frames that are kept to a device."""
        for stage in self.stages:
            if isinstance(stage, TemporalConvStream):
                stage.to(device)


class TiledStream:
    """A decoder over chunks of one video, tile by tile; what the waiting tiles keep is in main memory.

    Args:
        make: Makes the stream of one tile.
        tile: The largest side of a tile, in latents.
        cell: Pixels along the side of a latent.
    """

    def __init__(self, make: Callable[[], DecoderStream], tile: int, cell: int) -> None:
        self.make, self.tile, self.cell = make, tile, cell
        self.tiles: list[DecoderStream] = []
        self.places: list[Place] = []

    def push(self, x: Tensor, frames: int) -> Tensor | None:
        """As `DecoderStream.push`, with `frames` latents at a time in each tile."""
        height, width = x.shape[-2:]
        self.places = tile_places(height, width, self.tile)
        self.device = x.device
        self.tiles = self.tiles or [self.make() for _ in self.places]
        outs = []
        for stream, place in zip(self.tiles, self.places, strict=True):
            stream.to(self.device)
            pushed = [stream.push(part) for part in crop(x, place, 1).split(frames, dim=2)]
            parts = [part for part in pushed if part is not None]
            outs.append(torch.cat(parts, dim=2) if parts else None)
            del pushed, parts
            if len(self.tiles) > 1:
                stream.to("cpu")
        return self._blend(outs)

    def flush(self) -> Iterator[Tensor]:
        """As `DecoderStream.flush`, with all remaining frames in one tensor."""
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
        return blend_tiles(iter(parts), self.places, self.cell) if parts else None


def decode_windows(
    decode: Callable[[Tensor], Tensor], chunks: Iterable[Tensor], context: int, past: Tensor | None = None
) -> Iterator[Tensor]:
    """Decode a video that arrives in chunks with a decoder whose norms span frames, in overlapping windows.

    A window is the latents whose frames are due, with up to `context` on either side. One chunk with all latents is
    decoded in one window. No more than a chunk and twice the context is held.

    Args:
        decode: Takes latents [B, C, f, h, w] to frames [B, 3, f, H, W].
        chunks: The latents [B, C, f, h, w] of consecutive chunks.
        context: Latents on either side of the frames that are due.
        past: Latents just before the first chunk, of which the last `context` are in the first window.

    Yields:
        Frames [B, 3, f', H, W], as many in all as there are latents in `chunks`. A frame comes when `context` later
        latents are known, or the chunks end.
    """
    window: Tensor | None = past[:, :, max(0, past.shape[2] - context) :] if past is not None else None
    known = 0 if window is None else window.shape[2]  # latents of the window whose frames were yielded
    rest: Tensor | None = None  # the last window's frames that are not final unless the chunks end
    for chunk in chunks:
        if not chunk.shape[2]:
            continue
        window = chunk if window is None else torch.cat([window, chunk], dim=2)
        rest = None
        final = window.shape[2] - context
        if final <= known:
            continue
        frames = decode(window)
        rest = frames[:, :, final:].clone()  # a view would keep all of them
        yield frames[:, :, known:final]
        del frames
        start = max(0, final - context)
        window, known = window[:, :, start:].clone(), final - start
    if rest is None and window is not None and window.shape[2] > known:
        rest = decode(window)[:, :, known:]
    if rest is not None and rest.shape[2]:
        yield rest


def _by_frame(stage: Callable[[Tensor], Tensor], chunk: Tensor) -> Tensor:
    frames = stage(rearrange(chunk, "b c f h w -> (b f) c h w"))
    return rearrange(frames, "(b f) c h w -> b c f h w", f=chunk.shape[2])
