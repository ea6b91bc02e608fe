"""Captions encoded for the UNet: for every batch where the text encoder is trained, once each where it is frozen."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidrd_core.io.digests import hashed, signature
from vidrd_core.models.clip_text_encoder import CLIPText
from vidrd_core.models.word_text_encoder import TextEncoder, UnknownWordError
from vidrd_core.training.array_cache import cached_array
from vidrd_core.training.data import TrainingData
from vidrd_core.training.datasets import ShardClips
from vidrd_core.training.stage_config import UNetStageConfig
from vidrd_core.training.trainable import trains_text

Encoder = TextEncoder | CLIPText
IN_MEMORY = 4096  # encoded captions, beside those on disk
AT_ONCE = 32


class CaptionEncoder:
    """Encodes captions; where the text encoder is frozen, captions of shards are cached on disk, others in memory.

    Args:
        encoder: The text encoder.
        data: The data, for the captions of its shards and the cache's folder.
        stage: Whether the text encoder is trained.

    Raises:
        UnknownWordError: A caption has a word that the encoder does not know.
    """

    def __init__(self, encoder: Encoder, data: TrainingData, stage: UNetStageConfig) -> None:
        self.trained = trains_text(stage.train) or bool(stage.words_weight)
        self.on_disk: dict[str, int] = {}
        self.disk_cache: NDArray[np.float16] | None = None
        self.in_memory: OrderedDict[str, Tensor] = OrderedDict()
        shards = [clips for clips in data.clips.values() if isinstance(clips, ShardClips)]
        if isinstance(encoder, TextEncoder):
            check_words(encoder, shards)
        if shards and not self.trained and data.config.cache:
            captions = sorted({"", *(sample.caption for clips in shards for sample in clips.samples)})
            self.on_disk = {caption: i for i, caption in enumerate(captions)}
            source = {"captions": hashed(*captions)[:16], "encoder": signature(encoder, ""), "cut": "tokens"}
            shape = (len(captions), encoder.config.max_length, encoder.config.hidden_size)
            path = data.folder / f"texts_{source['captions'][:8]}.npy"
            parts = partial(encode_in_parts, encoder, captions)
            self.disk_cache = cached_array(path, shape, np.float16, parts, source, data.report)

    def __call__(
        self, encoder: Encoder, captions: Sequence[str], device: torch.device
    ) -> tuple[Tensor | None, Tensor]:
        """Encode captions.

        Args:
            encoder: The text encoder, as it is now.
            captions: B texts.
            device: Where the results go.

        Returns:
            Tokens [B, L] where the encoder is trained, otherwise None; and the encoded captions [B, L, D].
        """
        if self.trained:
            tokens = encoder.tokenize(list(captions)).to(device)
            return tokens, encoder(tokens)
        new = [c for c in dict.fromkeys(captions) if c not in self.on_disk and c not in self.in_memory]
        if new:
            with torch.no_grad():
                for caption, found in zip(new, _encode(encoder, new).cpu(), strict=True):
                    self.in_memory[caption] = found
        found = torch.stack([self.in_memory[c] if c in self.in_memory else self._from_disk(c) for c in captions])
        while len(self.in_memory) > IN_MEMORY:
            self.in_memory.popitem(last=False)
        return None, found.to(device)

    def _from_disk(self, caption: str) -> Tensor:
        assert self.disk_cache is not None
        return torch.from_numpy(self.disk_cache[self.on_disk[caption]].astype(np.float32))


def check_words(encoder: TextEncoder, shards: Sequence[ShardClips]) -> None:
    """Raise UnknownWordError, naming the clip, for the first caption with a word that the encoder does not know."""
    for clips in shards:
        for sample in clips.samples:
            try:
                encoder.token_ids(sample.caption)
            except UnknownWordError as error:
                of = sample.facts.get("source", sample.shard)
                raise UnknownWordError(f"the caption of {of}, {sample.caption!r}: {error}") from error


@torch.no_grad()
def encode_in_parts(encoder: Encoder, captions: Sequence[str], first: int = 0) -> Iterator[NDArray[np.float16]]:
    """Captions from index `first` on, encoded, as arrays [n, L, D]."""
    for start in range(first, len(captions), AT_ONCE):
        yield _encode(encoder, captions[start : start + AT_ONCE]).half().cpu().numpy()


def _encode(encoder: Encoder, captions: Sequence[str]) -> Tensor:
    return encoder(encoder.tokenize(list(captions)).to(next(encoder.parameters()).device))
