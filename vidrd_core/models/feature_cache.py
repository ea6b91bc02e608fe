"""What a UNet3D keeps from one call to the next while it denoises a clip, so that it computes less.

Keys and values of the text are the same in every call, so keeping them is exact. Two ways more are approximate:

Features of prompt frames. While prompt frames replay, their predictions are known, and what the network computes for
them serves the other frames alone, in the layers that mix frames. It is computed in every `prompt_interval`-th call
and kept for those in between, which run on the other frames alone.

Deep features. What comes up from the levels below the first changes slowly from step to step. It is computed in
every `deep_interval`-th call and kept for those in between, as in DeepCache (Ma et al., arXiv 2312.00858).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class FeatureCache:
    """The features that are kept while one clip, or a batch of clips, is denoised with one text.

    Args:
        prompt_interval: Calls from one computation of the prompt frames' features to the next; 1 is exact.
        deep_interval: Calls from one computation of the deep levels to the next; 1 is exact.
    """

    prompt_interval: int = 1
    deep_interval: int = 1
    kept: dict[Hashable, Tensor] = field(default_factory=dict, init=False)
    text: dict[Hashable, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False)
    _replayed: int = field(default=0, init=False)
    _calls: int = field(default=0, init=False)
    _shape: tuple[int, ...] = field(default=(), init=False)

    def replay(self, frames: int) -> None:
        """In the calls to come, the predictions of the first `frames` frames are not read."""
        self._replayed = frames if self.prompt_interval > 1 else 0

    def begin(self, x: Tensor) -> Call:
        """Begin a call for latents x [B, C, N, h, w]."""
        first = min(self._replayed, x.shape[2] - 1)
        if self._shape != (shape := (*x.shape, first)):
            self.kept.clear()
            self._shape, self._calls = shape, 0
        reads_first = first > 0 and self._calls % self.prompt_interval > 0
        # Where the prompt frames are computed again, so are the deep levels, which lack them.
        reads_deep = self._calls % self.deep_interval > 0 and (first == 0 or reads_first)
        self._calls += 1
        return Call(self, first, reads_first, reads_deep)


@dataclass(frozen=True)
class Call:
    """One call of a network, in which features are kept or read.

    Args:
        cache: Where they are kept; None for a call of which nothing is.
        first: How many frames at the start of the clip are kept or read, P; 0 for none.
        reads_first: Whether they are read: the network then computes the other frames alone.
        reads_deep: Whether the deep features are read.
    """

    cache: FeatureCache | None = None
    first: int = 0
    reads_first: bool = False
    reads_deep: bool = False

    def count(self, computed: int) -> int:
        """N, for the number of frames that are computed."""
        return computed + self.first * self.reads_first

    def all_frames(self, name: Hashable, x: Tensor, dim: int) -> Tensor:
        """Put the kept features of the first frames before those of the others, or keep them.

        Args:
            name: Of the place in the network.
            x: Features of the frames that are computed.
            dim: The dimension of the frames.

        Returns:
            Features of all frames; x itself if all are computed.
        """
        if self.cache is None or not self.first:
            return x
        if self.reads_first:
            return torch.cat([self.cache.kept[name], x], dim)
        self.cache.kept[name] = x.narrow(dim, 0, self.first).clone(memory_format=torch.preserve_format)
        return x

    def computed(self, x: Tensor, dim: int, before: int = 0) -> Tensor:
        """The frames that are computed, and `before` frames before them, of features x of all frames; a view."""
        if not self.reads_first:
            return x
        start = self.first - before
        return x.narrow(dim, start, x.shape[dim] - start)

    def keep_deep(self, x: Tensor, frames: int) -> None:
        """Keep deep features x [B*F, C, H, W] of the F frames that are computed."""
        if self.cache is not None and self.cache.deep_interval > 1:
            self.cache.kept["deep"] = x.unflatten(0, (-1, frames))

    def deep(self, frames: int) -> Tensor:
        """The deep features that are kept, of the F frames that are computed, [B*F, C, H, W]."""
        assert self.cache is not None
        return self.cache.kept["deep"][:, -frames:].flatten(0, 1)

    def of_text(self, name: Hashable, compute: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """The keys and values of the text at a place in the network, computed in the first call."""
        if self.cache is None:
            return compute()
        if name not in self.cache.text:
            self.cache.text[name] = compute()
        return self.cache.text[name]


EXACT = Call()
