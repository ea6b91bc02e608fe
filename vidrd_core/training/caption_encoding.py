"""Captions encoded for the UNet: anew where the encoder is trained, once for each where it is not."""

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
from vidrd_core.training.array_cache import bank
from vidrd_core.training.data import Data
from vidrd_core.training.datasets import FromShards
from vidrd_core.training.stage_config import StageConfig
from vidrd_core.training.trainable import trains_text

Encoder = TextEncoder | CLIPText
KEPT = 4096  # captions in memory, beside those on disk
ENCODED_AT_ONCE = 32


class Texts:
    """Encodes captions; those of shards are read from disk, others kept in memory as long as there is room."""

    def __init__(self, encoder: Encoder, data: Data, stage: StageConfig) -> None:
        self.trained = trains_text(stage.train) or bool(stage.words_weight)
        self.on_disk: dict[str, int] = {}
        self.bank: NDArray[np.float16] | None = None
        self.kept: OrderedDict[str, Tensor] = OrderedDict()
        shards = [clips for clips in data.clips.values() if isinstance(clips, FromShards)]
        if isinstance(encoder, TextEncoder):
            check_words(encoder, shards)
        if shards and not self.trained and data.config.cache:
            captions = sorted({"", *(sample.caption for clips in shards for sample in clips.samples)})
            self.on_disk = {caption: i for i, caption in enumerate(captions)}
            made_of = {"captions": hashed(*captions)[:16], "encoder": signature(encoder, "")}
            shape = (len(captions), encoder.config.max_length, encoder.config.hidden_size)
            name = f"texts_{made_of['captions'][:8]}.npy"
            self.bank = bank(data.folder / name, shape, np.float16, partial(encoded, encoder, captions), made_of)

    def __call__(
        self, encoder: Encoder, captions: Sequence[str], device: torch.device
    ) -> tuple[Tensor | None, Tensor]:
        """Token numbers [B, L], where the encoder is trained, and the encoded captions [B, L, D]."""
        if self.trained:
            tokens = encoder.tokenize([shortened(encoder, caption) for caption in captions]).to(device)
            return tokens, encoder(tokens)
        new = [c for c in dict.fromkeys(captions) if c not in self.on_disk and c not in self.kept]
        if new:
            with torch.no_grad():
                for caption, found in zip(new, _encode(encoder, new).cpu(), strict=True):
                    self.kept[caption] = found
        found = torch.stack([self.kept[c] if c in self.kept else self._read(c) for c in captions])
        while len(self.kept) > KEPT:
            self.kept.popitem(last=False)
        return None, found.to(device)

    def _read(self, caption: str) -> Tensor:
        assert self.bank is not None
        return torch.from_numpy(self.bank[self.on_disk[caption]].astype(np.float32))


def check_words(encoder: TextEncoder, shards: Sequence[FromShards]) -> None:
    """Raise UnknownWordError, naming the clip, for the first caption that has a word this encoder does not know."""
    for clips in shards:
        for sample in clips.samples:
            try:
                encoder.token_ids(sample.caption)
            except UnknownWordError as error:
                of = sample.facts.get("source", sample.shard)
                raise UnknownWordError(f"the caption of {of}, {sample.caption!r}: {error}") from error


@torch.no_grad()
def encoded(encoder: Encoder, captions: Sequence[str], first: int = 0) -> Iterator[NDArray[np.float16]]:
    """Captions from one on as [n, L, D], some at a time."""
    for start in range(first, len(captions), ENCODED_AT_ONCE):
        yield _encode(encoder, captions[start : start + ENCODED_AT_ONCE]).half().cpu().numpy()


def _encode(encoder: Encoder, captions: Sequence[str]) -> Tensor:
    return encoder.encode([shortened(encoder, caption) for caption in captions])


def shortened(encoder: Encoder, caption: str) -> str:
    """As many of a caption's words, from the first on, as the encoder reads: models that caption say more.

    Raises UnknownWordError.
    """
    words = caption.split()
    least, most = 0, len(words)  # how many surely fit, and how many may
    while least < most:
        middle = most if least == 0 and most == len(words) else (least + most + 1) // 2
        try:
            encoder.tokenize([" ".join(words[:middle])])
            least = middle
        except UnknownWordError:
            raise
        except ValueError:
            most = middle - 1
    return " ".join(words[:least]) if least < len(words) else caption
