"""A recipe's data: its sources, what is held out of training, and their frames and latents kept on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from vidrd_core.data.executors import Here, Processes, in_order
from vidrd_core.data.shards import DataError
from vidrd_core.io.configs import from_dict
from vidrd_core.io.digests import hashed
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.procedural.datasets import ShapesData, StillsData
from vidrd_core.training.array_cache import bank
from vidrd_core.training.buckets import Group, Pick, Pool, Size, grouped, pixels_of
from vidrd_core.training.datasets import Clips, Drawn, FromShards, SourceConfig, shares
from vidrd_core.video.tensors import to_video

AT_ONCE = 16  # clips that are drawn or decoded together
PIXELS_AT_ONCE = 2**20  # that pass through the encoder: a few GiB of Stable Diffusion's
WORTH_PROCESSES = 32  # as many times so many take longer than to start processes


class RecipeError(ValueError):
    """A recipe asks for what cannot be done."""


@dataclass(frozen=True)
class DataConfig:
    """What a recipe trains on. Raises ValueError for what cannot be.

    `mix` names a file of `vidrd data mix`, whose sources come after those that are named here.
    """

    sources: tuple[SourceConfig, ...] = ()
    mix: str | None = None
    frames: int = 8  # N
    size: int = 64  # pixels of square clips
    sizes: tuple[tuple[int, ...], ...] = ()  # widths and heights, in place of `size`: aspect ratios to train on
    pseudo_videos: bool = True
    held_out: float = 0.0  # share of each source that is not trained on, for the evaluation loss
    cache: bool = True  # keep latents and encoded captions on disk; False makes them anew for every batch

    def __post_init__(self) -> None:
        for name, least in {"frames": 1, "size": 8}.items():
            if getattr(self, name) < least:
                raise ValueError(f"data: {name} is {getattr(self, name)}, expected {least} or more")
        if not 0 <= self.held_out <= 0.5:
            raise ValueError(f"data: held_out is {self.held_out}, expected a share from 0 to 0.5")
        if wrong := [size for size in self.sizes if len(size) != 2 or min(size) < 8]:
            raise ValueError(f"data: sizes has {list(wrong[0])}, expected a width and a height of 8 or more pixels")

    def all_sizes(self) -> list[Size]:
        return [(width, height) for width, height in self.sizes] or [(self.size, self.size)]

    def all_sources(self) -> tuple[SourceConfig, ...]:
        """With those of the mixture. Raises ValueError, also for two of one name."""
        sources = (*self.sources, *(_mixed(Path(self.mix)) if self.mix else ()))
        names = [source.name for source in sources]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"data: two sources are called {twice[0]}: give one another name")
        return sources


def _mixed(path: Path) -> tuple[SourceConfig, ...]:
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"the mix {path} cannot be read: {error}") from error
    if not isinstance(said, dict) or not isinstance(said.get("sources"), list):
        raise ValueError(f"{path} holds no sources: make it by 'vidrd data mix'")
    return tuple(from_dict(SourceConfig, entry, f"a source of {path}") for entry in said["sources"])


def clips_of(source: SourceConfig, config: DataConfig) -> Clips:
    """A source's clips. Raises ValueError, FileNotFoundError."""
    if source.shards is not None:
        return FromShards(Path(source.shards), config.pseudo_videos)
    like = {"frames": config.frames, "size": config.size}
    if source.shapes is not None:
        return Drawn(from_dict(ShapesData, {**like, **source.shapes}, "shapes"))
    return Drawn(from_dict(StillsData, {**like, **(source.stills or {})}, "stills"))


class Data:
    """The clips of a recipe, and what is kept of them in a folder."""

    def __init__(self, config: DataConfig, folder: Path, workers: int = 1) -> None:
        self.config, self.folder, self.workers = config, Path(folder), workers
        self.sources = config.all_sources()

    @cached_property
    def clips(self) -> dict[str, Clips]:
        """The clips of each source; without pseudo-videos, a source of nothing else has none."""
        found = {source.name: clips_of(source, self.config) for source in self.sources}
        if not self.config.pseudo_videos:
            found = {name: clips for name, clips in found.items() if not _only_pseudo(clips)}
        return {name: clips for name, clips in found.items() if len(clips)}

    def pool(self, weights: dict[str, float], held_out: bool = False) -> Pool:
        """What a stage draws from, with weights in place of the recipe's; or what is held out of it.

        Raises RecipeError if that is nothing, DataError for clips that do not fit.
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
        groups: list[Group] = []
        for name, share in used.items():
            clips, sizes = self.clips[name], self.config.all_sizes()
            try:
                found, unfit = grouped(name, clips, share, self.config.frames, sizes, chosen[name])
            except DataError:
                if held_out:  # those that are trained on may fit all the same
                    continue
                raise
            groups += [dataclasses.replace(group, held_out=held_out) for group in found]
            for reason, count in unfit.items():
                self.say(f"source {name}: {count} clips are left out, of {reason}")
        return Pool(tuple(groups), self.config.frames)

    def say(self, text: str) -> None:
        """Tell something once."""
        if text not in self._said:
            self._said.add(text)
            print(text, flush=True)

    def held_out(self, weights: dict[str, float], still: bool) -> Pool | None:
        """What is held out, if there are such single frames (`still`) or clips; None, and a word of it, if not."""
        if not self.config.held_out:
            return None
        pool = self.pool(weights, held_out=True)
        if pool.has(still):
            return pool
        self.say("nothing that fits is held out, so there is no loss on it: there are too few clips")
        return None

    def _chosen(self, count: int, held_out: bool) -> NDArray[np.int64]:
        """Of a source's clips every n-th is held out, the same ones always; of few the last one."""
        numbers = np.arange(count)
        if not self.config.held_out or count < 2:
            return numbers[:0] if held_out else numbers
        step = min(count, max(2, round(1 / self.config.held_out)))
        return numbers[(numbers % step == step - 1) == held_out]

    def frames(self, group: Group) -> NDArray[np.uint8] | None:
        """Frames of all clips of a group that is drawn by program, uint8 [clips, F, H, W, 3]; None for others."""
        if not isinstance(group.clips, Drawn):
            return None
        shape = (len(group.numbers), group.frames, group.size[1], group.size[0], 3)
        made_of = _made_of(group)
        path = self.folder / f"pixels_{_tag(group)}_{hashed(json.dumps(made_of))[:8]}.npy"
        return bank(path, shape, np.uint8, partial(self._pixels, group), made_of)

    def _pixels(self, group: Group, first: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Frames of a group's clips from one on, in order, uint8 [some, F, H, W, 3], by `workers` processes."""
        parts = [group.part(slice(i, i + AT_ONCE)) for i in range(first, len(group.numbers), AT_ONCE)]
        several = self.workers > 1 and len(parts) >= WORTH_PROCESSES
        return in_order(Processes(self.workers) if several else Here(), pixels_of, parts)

    def video(self, picks: list[Pick], frames: int) -> Tensor:
        """Stretches of clips as video in -1 .. 1, [B, 3, frames, H, W]."""
        found = []
        for pick in picks:
            if pick.group.name not in self._banks:
                self._banks[pick.group.name] = self.frames(pick.group)
            drawn = self._banks[pick.group.name]
            whole = pick.group.pixels(pick.number) if drawn is None else drawn[pick.number]
            found.append(whole[pick.start : pick.start + frames])
        return to_video(np.stack(found))

    @cached_property
    def _said(self) -> set[str]:
        return set()

    @cached_property
    def _banks(self) -> dict[str, NDArray[np.uint8] | None]:
        return {}

    def latents(self, group: Group, vae: TemporalVAE) -> NDArray[np.float16]:
        """A group's clips as this VAE's normalised latents, float16 [clips, C, F, h, w]."""
        side = vae.config.downsampling
        size = group.size[1] // side, group.size[0] // side
        shape = (len(group.numbers), vae.config.latent_channels, group.frames, *size)
        made_of = {**_made_of(group), "encoder": encoder_digest(vae)}
        path = self.folder / f"latents_{_tag(group)}_{hashed(json.dumps(made_of))[:8]}.npy"
        return bank(path, shape, np.float16, partial(self._encoded, group, vae), made_of)

    @torch.no_grad()
    def _encoded(self, group: Group, vae: TemporalVAE, first: int = 0) -> Iterator[NDArray[np.float16]]:
        device, drawn = next(vae.parameters()).device, self.frames(group)
        starts = range(first, len(group.numbers), AT_ONCE)
        parts = self._pixels(group, first) if drawn is None else (drawn[i : i + AT_ONCE] for i in starts)
        frames = max(1, PIXELS_AT_ONCE // (group.size[0] * group.size[1]))
        for part in parts:
            videos = to_video(part).split(max(1, frames // group.frames))
            yield np.concatenate([vae.encode(v.to(device), frames).half().cpu().numpy() for v in videos])


def _only_pseudo(clips: Clips) -> bool:
    return isinstance(clips, Drawn) and isinstance(clips.data, StillsData) and clips.data.frames > 1


def _made_of(group: Group) -> dict[str, Any]:
    numbers = hashlib.sha256(group.numbers.astype("<i8").tobytes()).hexdigest()[:12]
    return {"clips": group.clips.made_of(), "numbers": numbers, "size": list(group.size)}


def _tag(group: Group) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in group.name)


def encoder_digest(vae: TemporalVAE) -> str:
    """Twelve hex digits that tell the latents of this VAE from those of another."""
    digest = hashlib.sha256(repr((vae.config.latents_mean, vae.config.latents_std)).encode())
    for part in (vae.encoder, vae.quant_conv):
        for name, tensor in part.state_dict().items():
            digest.update(name.encode() + tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def emphasised(pool: Pool, emphasis: dict[str, float], stage: str) -> Pool:
    """A pool whose clips are drawn more often the more words of their plain captions are emphasised.

    Raises RecipeError for a word that no plain caption has.
    """
    if not emphasis:
        return pool
    rng, heard = np.random.default_rng(0), set[str]()
    groups = []
    for group in pool.groups:
        said = [set(group.clips.caption(int(i), rng, plain=True).split()) for i in group.numbers]
        heard |= set().union(*said)
        factors = np.array([math.prod(factor for word, factor in emphasis.items() if word in each) for each in said])
        groups.append(dataclasses.replace(group, chances=factors / factors.sum()))
    if unknown := sorted(set(emphasis) - heard):
        raise RecipeError(f"stage {stage}: no clip's plain caption says {', '.join(unknown)}")
    return Pool(tuple(groups), pool.whole)
