"""What one step on the UNet learns from: clips or single frames of them, as latents, with captions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vidrd_core.models.vae import TemporalVAE
from vidrd_core.procedural.datasets import ShapesData
from vidrd_core.training.buckets import Pick, Pool
from vidrd_core.training.data import Data, emphasised
from vidrd_core.training.datasets import Drawn
from vidrd_core.training.stage_config import StageConfig


@dataclass(frozen=True)
class Drawings:
    """Of a batch's clips those that were drawn, and so are known."""

    which: Tensor  # [K], numbers in the batch
    clips: Tensor  # the whole clips' latents, [K, C, N, h, w]
    truth: Tensor  # where the sprites are in them, [K, N, 10]


@dataclass(frozen=True)
class Batch:
    """Clips or single frames of them."""

    latents: Tensor | None  # [B, C, F, h, w]; None if they are yet to be made of `video`
    video: Tensor | None  # [B, 3, F, H, W] in -1 .. 1
    captions: list[str]  # some of them empty
    numbers: Tensor  # of the frames in their clips, [B, F]
    told: bool  # whether the network is told these
    drawings: Drawings | None


class Batches:
    """Draws batches from a recipe's data; each from a generator of its own."""

    def __init__(self, data: Data, vae: TemporalVAE, stage: StageConfig, pool: Pool | None = None) -> None:
        """Of what is trained on, or of another pool of the data, where none is drawn more often than others."""
        self.data, self.stage = data, stage
        self.pool: Pool = pool or emphasised(data.pool(stage.weights), stage.emphasis, stage.name)
        cached = data.config.cache
        self.latents = {group.name: data.latents(group, vae) for group in self.pool.groups} if cached else {}
        self.needs_drawings = bool(stage.places_weight or stage.pictures_weight)

    @property
    def whole(self) -> int:
        """Frames of a clip."""
        return self.pool.whole

    def draw(self, rng: np.random.Generator, frames: int, told: bool) -> Batch:
        """`batch_size` stretches of `frames` frames, or as many single frames as that many clips have.

        Single frames whose numbers are told are those of clips; others may be images, too.
        """
        count = self.stage.batch_size * (self.whole if frames == 1 else 1)
        picks = self.pool.draw(rng, count, frames, still=not told)
        numbers = torch.tensor([pick.start for pick in picks])[:, None] + torch.arange(frames)
        plain = rng.random(count) < self.stage.plain_share
        captions = [
            pick.group.clips.caption(int(pick.group.numbers[pick.number]), rng, bool(all_said))
            for pick, all_said in zip(picks, plain, strict=True)
        ]
        dropped = rng.random(count) < self.stage.caption_dropout
        captions = ["" if drop else text for drop, text in zip(dropped, captions, strict=True)]
        if not self.latents:
            return Batch(None, self.data.video(picks, frames), captions, numbers, told, None)
        drawings = self.drawings(picks) if self.needs_drawings else None
        return Batch(self.stretches(picks, frames), None, captions, numbers, told, drawings)

    def stretches(self, picks: list[Pick], frames: int) -> Tensor:
        parts = [self.latents[p.group.name][p.number, :, p.start : p.start + frames] for p in picks]
        return torch.from_numpy(np.stack(parts)).float()

    def drawings(self, picks: list[Pick]) -> Drawings | None:
        known = [i for i, p in enumerate(picks) if isinstance(p.group.clips, Drawn)
                 and isinstance(p.group.clips.data, ShapesData)]  # fmt: skip
        if not known:
            return None
        clips = [self.latents[picks[i].group.name][picks[i].number] for i in known]
        truth = [picks[i].group.clips.data.truth(int(picks[i].group.numbers[picks[i].number])) for i in known]  # type: ignore[attr-defined]
        return Drawings(
            torch.tensor(known), torch.from_numpy(np.stack(clips)).float(), torch.from_numpy(np.stack(truth))
        )
