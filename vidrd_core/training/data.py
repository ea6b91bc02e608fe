"""A recipe's data: its sources, what is held out of training, and frames and latents cached on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidrd_core.data.executors import InProcess, Processes, in_order
from vidrd_core.data.manifests import DataError
from vidrd_core.io.configs import from_dict, read_yaml
from vidrd_core.io.digests import hashed
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.procedural.datasets import ShapesData, StillsData, WorldData
from vidrd_core.training.array_cache import cached_array
from vidrd_core.training.buckets import Bucket, BucketSampler, ClipSlice, Size, all_pixels, into_buckets
from vidrd_core.training.datasets import Clips, ProceduralClips, ShardClips, SourceConfig, shares
from vidrd_core.video.tensors import to_video

AT_ONCE = 16  # clips that are rendered or decoded together
PIXELS_AT_ONCE = 2**20  # that pass through the VAE's encoder: a few GiB of Stable Diffusion's
PARTS_FOR_PROCESSES = 32  # fewer parts are done sooner than processes start


class RecipeError(ValueError):
    """A recipe asks for something that cannot be done."""


@dataclass(frozen=True)
class DataConfig:
    """What a recipe trains on.

    Args:
        sources: The data sources.
        mix: A file of `vidrd data mix`, whose sources come after `sources`.
        frames: Frames of a clip (N).
        size: Side of square clips in pixels.
        sizes: Widths and heights of aspect-ratio buckets, in place of `size`.
        pseudo_videos: Whether clips made from stills are trained on.
        held_out: Share of each source's clips, 0 to 0.5, held out of training for the evaluation loss.
        cache: Whether latents and encoded captions are kept on disk; otherwise they are made for every batch.

    Raises:
        ValueError: A setting is out of its range.
    """

    sources: tuple[SourceConfig, ...] = ()
    mix: str | None = None
    frames: int = 8
    size: int = 64
    sizes: tuple[tuple[int, ...], ...] = ()
    pseudo_videos: bool = True
    held_out: float = 0.0
    cache: bool = True

    def __post_init__(self) -> None:
        for name, least in {"frames": 1, "size": 8}.items():
            if getattr(self, name) < least:
                raise ValueError(f"data: {name} is {getattr(self, name)}, expected {least} or more")
        if not 0 <= self.held_out <= 0.5:
            raise ValueError(f"data: held_out is {self.held_out}, expected a share from 0 to 0.5")
        if wrong := [size for size in self.sizes if len(size) != 2 or min(size) < 8]:
            raise ValueError(f"data: sizes has {list(wrong[0])}, expected a width and a height of 8 or more pixels")

    def all_sizes(self) -> list[Size]:
        """Widths and heights of the aspect-ratio buckets."""
        return [(width, height) for width, height in self.sizes] or [(self.size, self.size)]

    def all_sources(self) -> tuple[SourceConfig, ...]:
        """The sources, those of the mixture included. Raises ValueError if two have the same name."""
        sources = (*self.sources, *(_read_mix(Path(self.mix)) if self.mix else ()))
        names = [source.name for source in sources]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"data: two sources are called {twice[0]}: give one another name")
        return sources


def _read_mix(path: Path) -> tuple[SourceConfig, ...]:
    """The sources of a mixture's file. Raises ValueError."""
    try:
        mixture = read_yaml(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"the mix {path} cannot be read: {error}") from error
    if not isinstance(mixture, dict) or not isinstance(mixture.get("sources"), list):
        raise ValueError(f"{path} holds no sources: make it by 'vidrd data mix'")
    return tuple(from_dict(SourceConfig, entry, f"a source of {path}") for entry in mixture["sources"])


def clips_of(source: SourceConfig, config: DataConfig) -> Clips:
    """The clips of a source. Raises ValueError for settings out of range, FileNotFoundError for a missing folder."""
    if source.shards is not None:
        return ShardClips(Path(source.shards), config.pseudo_videos)
    shape = {"frames": config.frames, "size": config.size}
    if source.shapes is not None:
        return ProceduralClips(from_dict(ShapesData, {**shape, **source.shapes}, "shapes"))
    if source.world is not None:
        return ProceduralClips(from_dict(WorldData, {**shape, **source.world}, "world"))
    return ProceduralClips(from_dict(StillsData, {**shape, **(source.stills or {})}, "stills"))


class TrainingData:
    """The clips of a recipe, with their frames and latents cached in a folder.

    Args:
        config: The sources and the shape of clips.
        folder: The cache's folder.
        workers: Processes that render or decode.
        report: Gets messages for the user.

    Raises:
        ValueError: Two sources have the same name, or the mixture cannot be read.
    """

    def __init__(
        self, config: DataConfig, folder: Path, workers: int = 1, report: Callable[[str], None] = print
    ) -> None:
        self.config, self.folder, self.workers, self.report = config, Path(folder), workers, report
        self.sources = config.all_sources()
        self._reported: set[str] = set()
        self._pixel_caches: dict[str, NDArray[np.uint8] | None] = {}

    @cached_property
    def clips(self) -> dict[str, Clips]:
        """The clips by source; without pseudo-videos, sources of nothing else are left out."""
        found = {source.name: clips_of(source, self.config) for source in self.sources}
        if not self.config.pseudo_videos:
            found = {name: clips for name, clips in found.items() if not _only_pseudo_videos(clips)}
        return {name: clips for name, clips in found.items() if len(clips)}

    def sampler(self, weights: dict[str, float], held_out: bool = False) -> BucketSampler:
        """Choose the clips that a stage draws its batches from.

        Args:
            weights: Weights of sources in place of the recipe's.
            held_out: The clips held out of training, in place of the others.

        Returns:
            A sampler of the buckets of all sources with a weight above 0 and clips that fit.

        Raises:
            RecipeError: There is nothing to draw from, or a weight is of an unknown source.
            DataError: No clip of a source fits.
        """
        given = {source.name: source.weight for source in self.sources if source.name in self.clips}
        if unknown := sorted(set(weights) - {source.name for source in self.sources}):
            raise RecipeError(f"there is no source {', '.join(unknown)}; the sources are {', '.join(given)}")
        given |= {name: weight for name, weight in weights.items() if name in given}
        try:
            mixture = shares({name: len(clips) for name, clips in self.clips.items()}, given)
        except ValueError as error:
            raise RecipeError(f"data: {error}") from error
        chosen = {name: self._chosen(len(clips), held_out) for name, clips in self.clips.items()}
        used = {s.name: s.share for s in mixture if s.share and len(chosen[s.name])}
        buckets: list[Bucket] = []
        for name, share in used.items():
            clips, sizes = self.clips[name], self.config.all_sizes()
            try:
                found, unfit = into_buckets(name, clips, share, self.config.frames, sizes, chosen[name])
            except DataError:
                if held_out:  # those that are trained on may fit all the same
                    continue
                raise
            buckets += [dataclasses.replace(bucket, held_out=held_out) for bucket in found]
            for reason, count in unfit.items():
                self.report_once(f"source {name}: {count} clips are left out, of {reason}")
        return BucketSampler(tuple(buckets), self.config.frames)

    def report_once(self, text: str) -> None:
        """Report a message, unless it has been reported before."""
        if text not in self._reported:
            self._reported.add(text)
            self.report(text)

    def held_out(self, weights: dict[str, float], images: bool) -> BucketSampler | None:
        """The held-out clips, or with `images` clips and images; None, which is reported, if none fits."""
        if not self.config.held_out:
            return None
        sampler = self.sampler(weights, held_out=True)
        if sampler.has(images):
            return sampler
        self.report_once("nothing that fits is held out, so there is no loss on it: there are too few clips")
        return None

    def _chosen(self, count: int, held_out: bool) -> NDArray[np.int64]:
        """Indices of a source's clips: every n-th is held out, always the same ones; of few clips the last one."""
        indices = np.arange(count)
        if not self.config.held_out or count < 2:
            return indices[:0] if held_out else indices
        step = min(count, max(2, round(1 / self.config.held_out)))
        return indices[(indices % step == step - 1) == held_out]

    def frames(self, bucket: Bucket) -> NDArray[np.uint8] | None:
        """Cached frames of a bucket's clips, uint8 [clips, F, H, W, 3]; None unless they are procedural."""
        if not isinstance(bucket.clips, ProceduralClips):
            return None
        shape = (len(bucket.indices), bucket.frames, bucket.size[1], bucket.size[0], 3)
        source = _fingerprint(bucket)
        path = self.folder / f"pixels_{_file_name(bucket)}_{hashed(json.dumps(source))[:8]}.npy"
        return cached_array(path, shape, np.uint8, partial(self._pixels, bucket), source, self.report)

    def _pixels(self, bucket: Bucket, first: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Frames of a bucket's clips from one on, in order, uint8 [some, F, H, W, 3], by `workers` processes."""
        parts = [bucket.subset(slice(i, i + AT_ONCE)) for i in range(first, len(bucket.indices), AT_ONCE)]
        several = self.workers > 1 and len(parts) >= PARTS_FOR_PROCESSES
        return in_order(Processes(self.workers) if several else InProcess(), all_pixels, parts)

    def video(self, slices: list[ClipSlice], frames: int) -> Tensor:
        """Slices of clips as video in -1 to 1, [B, 3, frames, H, W]."""
        found = []
        for each in slices:
            if each.bucket.name not in self._pixel_caches:
                self._pixel_caches[each.bucket.name] = self.frames(each.bucket)
            cached = self._pixel_caches[each.bucket.name]
            clip = each.bucket.pixels(each.number) if cached is None else cached[each.number]
            found.append(clip[each.start : each.start + frames])
        return to_video(np.stack(found))

    def latents(self, bucket: Bucket, vae: TemporalVAE) -> NDArray[np.float16]:
        """Cached latents of a bucket's clips, normalised, float16 [clips, C, F, h, w]."""
        side = vae.config.downsampling
        size = bucket.size[1] // side, bucket.size[0] // side
        shape = (len(bucket.indices), vae.config.latent_channels, bucket.frames, *size)
        source = {**_fingerprint(bucket), "encoder": encoder_digest(vae)}
        path = self.folder / f"latents_{_file_name(bucket)}_{hashed(json.dumps(source))[:8]}.npy"
        return cached_array(path, shape, np.float16, partial(self._encode, bucket, vae), source, self.report)

    @torch.no_grad()
    def _encode(self, bucket: Bucket, vae: TemporalVAE, first: int = 0) -> Iterator[NDArray[np.float16]]:
        device, cached = next(vae.parameters()).device, self.frames(bucket)
        starts = range(first, len(bucket.indices), AT_ONCE)
        parts = self._pixels(bucket, first) if cached is None else (cached[i : i + AT_ONCE] for i in starts)
        frames = max(1, PIXELS_AT_ONCE // (bucket.size[0] * bucket.size[1]))
        for part in parts:
            videos = to_video(part).split(max(1, frames // bucket.frames))
            yield np.concatenate([vae.encode(v.to(device), frames).half().cpu().numpy() for v in videos])


def _only_pseudo_videos(clips: Clips) -> bool:
    return isinstance(clips, ProceduralClips) and isinstance(clips.data, StillsData) and clips.data.frames > 1


def _fingerprint(bucket: Bucket) -> dict[str, Any]:
    """What determines a bucket's frames."""
    numbers = hashlib.sha256(bucket.indices.astype("<i8").tobytes()).hexdigest()[:12]
    return {"clips": bucket.clips.fingerprint(), "numbers": numbers, "size": list(bucket.size)}


def _file_name(bucket: Bucket) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in bucket.name)


def encoder_digest(vae: TemporalVAE) -> str:
    """Twelve hex digits that identify a VAE's latents: they depend on its encoder and its latent statistics."""
    digest = hashlib.sha256(repr((vae.config.latents_mean, vae.config.latents_std)).encode())
    for part in (vae.encoder, vae.quant_conv):
        for name, tensor in part.state_dict().items():
            digest.update(name.encode() + tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def emphasised(sampler: BucketSampler, emphasis: dict[str, float], stage: str) -> BucketSampler:
    """Make a sampler draw clips more often the more emphasised words their plain captions have.

    Args:
        sampler: The sampler.
        emphasis: Words, each with the factor by which its clips are drawn more often.
        stage: The stage's name, for errors.

    Returns:
        A sampler with the same buckets, whose clips are drawn by the product of the factors of their words; `sampler`
        itself if `emphasis` is empty.

    Raises:
        RecipeError: No plain caption has one of the words.
    """
    if not emphasis:
        return sampler
    rng, known = np.random.default_rng(0), set[str]()
    buckets = []
    for bucket in sampler.buckets:
        captions = [set(bucket.clips.caption(int(i), rng, plain=True).split()) for i in bucket.indices]
        known |= set().union(*captions)
        factors = np.array([math.prod(f for word, f in emphasis.items() if word in each) for each in captions])
        buckets.append(dataclasses.replace(bucket, probabilities=factors / factors.sum()))
    if unknown := sorted(set(emphasis) - known):
        raise RecipeError(f"stage {stage}: no clip's plain caption has {', '.join(unknown)}")
    return BucketSampler(tuple(buckets), sampler.clip_frames)
