"""Batches for the UNet: clips or single frames, as latents, with captions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vidrd_core.models.vae import TemporalVAE
from vidrd_core.procedural.datasets import ShapesData
from vidrd_core.training.buckets import BucketSampler, ClipSlice
from vidrd_core.training.data import TrainingData, emphasised
from vidrd_core.training.datasets import ProceduralClips
from vidrd_core.training.stage_config import UNetStageConfig


@dataclass(frozen=True)
class HeadTargets:
    """What the auxiliary heads predict, for the procedural clips of a batch.

    Args:
        which: Their numbers in the batch, [K].
        clips: Latents of the complete clips, [K, C, N, h, w].
        truth: Where the sprites are in them, [K, N, 10] (see `ShapesData.truth`).
    """

    which: Tensor
    clips: Tensor
    truth: Tensor


@dataclass(frozen=True)
class Batch:
    """Clips, or single frames of clips, with captions.

    Args:
        latents: [B, C, F, h, w]; None if they are to be encoded from `video`.
        video: [B, 3, F, H, W] in -1 to 1; None if there are latents.
        captions: B texts, some of them empty.
        frame_positions: Positions of the frames in their clips, [B, F].
        gives_positions: Whether the network gets these positions.
        head_targets: For the auxiliary heads; None without any.
    """

    latents: Tensor | None
    video: Tensor | None
    captions: list[str]
    frame_positions: Tensor
    gives_positions: bool
    head_targets: HeadTargets | None


class Batches:
    """Draws batches from a recipe's data.

    Args:
        data: The data.
        vae: The VAE whose latents the UNet is trained on.
        stage: Batch size, emphasis, shares.
        sampler: Buckets to draw from, each clip as often as any other; by default those that are trained on, with
            the stage's emphasis.
    """

    def __init__(
        self, data: TrainingData, vae: TemporalVAE, stage: UNetStageConfig, sampler: BucketSampler | None = None
    ) -> None:
        self.data, self.stage = data, stage
        self.sampler = sampler or emphasised(data.sampler(stage.weights), stage.emphasis, stage.name)
        cached = data.config.cache
        self.latents = {bucket.name: data.latents(bucket, vae) for bucket in self.sampler.buckets} if cached else {}
        self.needs_targets = bool(stage.places_weight or stage.pictures_weight)

    @property
    def clip_frames(self) -> int:
        """Frames of a clip (N)."""
        return self.sampler.clip_frames

    def draw(self, rng: np.random.Generator, frames: int, gives_positions: bool) -> Batch:
        """Draw a batch.

        Args:
            rng: Decides everything random in it.
            frames: Frames of each slice: `batch_size` slices, or for 1, as many frames as that many clips have.
            gives_positions: Whether the network gets the frames' positions; then all are of clips, while others may
                be images as well.

        Returns:
            On the CPU: cached latents with the heads' targets, or video where no latents are cached.
        """
        count = self.stage.batch_size * (self.clip_frames if frames == 1 else 1)
        slices = self.sampler.draw(rng, count, frames, images=not gives_positions)
        positions = torch.tensor([each.start for each in slices])[:, None] + torch.arange(frames)
        plain = rng.random(count) < self.stage.plain_share
        captions = [
            each.bucket.clips.caption(int(each.bucket.indices[each.number]), rng, bool(is_plain))
            for each, is_plain in zip(slices, plain, strict=True)
        ]
        dropped = rng.random(count) < self.stage.caption_dropout
        captions = ["" if drop else text for drop, text in zip(dropped, captions, strict=True)]
        if not self.latents:
            return Batch(None, self.data.video(slices, frames), captions, positions, gives_positions, None)
        targets = self.head_targets(slices) if self.needs_targets else None
        return Batch(self.cached_latents(slices, frames), None, captions, positions, gives_positions, targets)

    def cached_latents(self, slices: list[ClipSlice], frames: int) -> Tensor:
        """Latents of slices from the cache, [B, C, frames, h, w]."""
        parts = [self.latents[s.bucket.name][s.number, :, s.start : s.start + frames] for s in slices]
        return torch.from_numpy(np.stack(parts)).float()

    def head_targets(self, slices: list[ClipSlice]) -> HeadTargets | None:
        """Targets of the auxiliary heads for the slices of procedural clips; None if there are none."""
        known = [
            (i, each, each.bucket.clips.data)
            for i, each in enumerate(slices)
            if isinstance(each.bucket.clips, ProceduralClips) and isinstance(each.bucket.clips.data, ShapesData)
        ]
        if not known:
            return None
        clips = [self.latents[each.bucket.name][each.number] for _, each, _ in known]
        truth = [shapes.truth(int(each.bucket.indices[each.number])) for _, each, shapes in known]
        return HeadTargets(
            torch.tensor([i for i, _, _ in known]),
            torch.from_numpy(np.stack(clips)).float(),
            torch.from_numpy(np.stack(truth)),
        )
