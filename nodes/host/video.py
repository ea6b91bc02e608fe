"""A video that grows by clips: each is decoded and encoded once, as a piece, and joined to those before it."""

from __future__ import annotations

import abc
import json
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy.cli_args import args
from comfy_api.latest import Input, InputImpl, Types
from torch import Tensor

from vidrd_core.video import Piece, join_videos, open_video, read_video
from vidrd_core.video.sinks import frame_rate

from .folders import free_path
from .progress import place, tell
from .sample_clip import SHOWN_BEFORE, Latent, samples_of
from .vae import Look, decodes_pictures, look_of

KINDS = {"mp4": ".mp4", "webm": ".webm", "gif": ".gif", "png": ""}


@dataclass(frozen=True)
class VideoSettings:
    """How a video is written; all its clips are written alike."""

    prefix: str
    kind: str
    fps: float
    scale: int


def delegating(video: type[GrowingVideo]) -> type[GrowingVideo]:
    """Give it all that this host's VIDEO has, known here or not: what it does not do itself its `as_stock` does."""

    def delegated(name: str) -> Callable[..., Any]:
        return lambda self, *given, **options: getattr(self.as_stock(), name)(*given, **options)

    for name, member in vars(Input.Video).items():
        if callable(member) and not name.startswith("_") and name not in vars(video):
            setattr(video, name, delegated(name))
    abc.update_abstractmethods(video)
    return video


@delegating
class GrowingVideo(Input.Video):
    """The host's VIDEO: the clips so far, as one file or folder that the next clip is to make longer.

    pieces  what the video is put together from, in the host's temporary folder
    tail    the last latents, [B, C, up to behind + ahead, h, w], beside which the next ones are decoded
    look    how far its decoder looks
    path    the file in the output folder, which may have grown since
    """

    def __init__(
        self,
        settings: VideoSettings,
        pieces: Sequence[Piece],
        tail: Tensor,
        look: Look,
        path: Path,
        size: tuple[int, int],
    ) -> None:
        self.settings, self.pieces, self.tail, self.look, self.path = settings, tuple(pieces), tail, look, path
        self.size = size
        self.version = _version(path)
        self.copy: Path | None = None

    @property
    def frames(self) -> int:
        """How many frames it has."""
        return sum(piece.frames for piece in self.pieces)

    @property
    def provisional(self) -> int:
        """How many of its last frames are made anew once it is known what follows."""
        return min(self.look.ahead, self.frames)

    @property
    def is_newest(self) -> bool:
        """Whether the file is as this clip left it."""
        return self.path.exists() and _version(self.path) == self.version

    def get_ram_usage(self) -> int:
        """The bytes that it keeps in memory, for caches that ask by this name."""
        return self.tail.nbytes

    def as_file(self) -> Path:
        """A file of these very frames, and no later ones."""
        if self.is_newest:
            return self.path
        if self.copy is None or not self.copy.exists():
            self.copy = _temporary(self.settings.kind)
            join_videos(self.pieces, self.copy, self.settings.fps)
        return self.copy

    def as_stock(self) -> Any:
        """A VIDEO of the host's own kind."""
        path = self.as_file()
        if path.is_dir():
            images = torch.from_numpy(read_video(path)[0]).float() / 255
            parts = Types.VideoComponents(images=images, frame_rate=self.get_frame_rate())
            return InputImpl.VideoFromComponents(parts)
        return InputImpl.VideoFromFile(str(path))

    def get_dimensions(self) -> tuple[int, int]:
        return self.size

    def get_frame_count(self) -> int:
        return self.frames

    def get_frame_rate(self) -> Any:
        return frame_rate(self.settings.fps)

    def get_duration(self) -> float:
        return self.frames / self.settings.fps


def write_clip(
    latent: Latent, vae: Any, settings: VideoSettings, before: Any, metadata: dict[str, Any]
) -> GrowingVideo:
    """Decode a clip's new frames and put them after a video, or begin one.

    Raises ValueError for what cannot follow, OSError where it cannot be written; the video so far stays as it was.
    """
    samples, look = samples_of(latent), look_of(vae)
    _check(samples, look, before)
    tail, provisional, pieces = latent.get(SHOWN_BEFORE), 0, []
    if before is not None:
        settings, tail, provisional = before.settings, before.tail, before.provisional
        pieces = _kept_pieces(before)
    frames, tail = _decode(samples, vae, look, tail, provisional)
    piece = _temporary(settings.kind)
    tags = _tags(metadata)
    with open_video(piece, settings.fps, scale=settings.scale, metadata=tags) as writer:
        writer.write(frames)
    pieces.append(Piece(piece, len(frames)))
    size = (frames.shape[2] * settings.scale, frames.shape[1] * settings.scale)
    grows = before is not None and before.is_newest
    path = before.path if grows else free_path(settings.prefix, KINDS[settings.kind], *size)
    try:
        join_videos(pieces, path, settings.fps, tags)
    except PermissionError:  # something holds the file open, and Windows lets nothing replace it
        if not grows:
            raise
        path = free_path(settings.prefix, KINDS[settings.kind], *size)
        join_videos(pieces, path, settings.fps, tags)
    video = GrowingVideo(settings, pieces, tail, look, path, size)
    tell(f"written, {video.frames} frames, {video.get_duration():.1f} s", place(), share=1)
    return video


def _kept_pieces(before: GrowingVideo) -> list[Piece]:
    """The pieces of a video without its provisional frames; if some are gone, its file in their place."""
    pieces = list(before.pieces)
    if not all(piece.path.exists() for piece in pieces):
        if not before.is_newest:
            raise FileNotFoundError(
                f"the clips before were cleared from {pieces[0].path.parent}: change filename_prefix where the video "
                f"begins, and all are written anew, with none sampled"
            )
        again = _temporary(before.settings.kind)
        (shutil.copytree if before.path.is_dir() else shutil.copy2)(before.path, again)
        pieces = [Piece(again, before.frames)]
    last = pieces[-1]
    return [*pieces[:-1], Piece(last.path, last.frames - before.provisional)]


def _check(samples: Tensor, look: Look, before: Any) -> None:
    if samples.ndim == 5 and len(samples) > 1:
        raise ValueError(f"the latent holds {len(samples)} clips side by side, expected one: a file shows one video")
    if before is None:
        return
    if not isinstance(before, GrowingVideo):
        raise ValueError("the video is not from Decode & Write Clip: wire the one of the clip before, or none")
    if look != before.look:
        raise ValueError("the VAE is of another kind than that of the video so far: wire the same")
    if samples.shape[-2:] != before.tail.shape[-2:]:
        here, there = list(samples.shape[-2:]), list(before.tail.shape[-2:])
        raise ValueError(f"the clip's latents are {here}, those of the video so far {there}: one video has one size")


def _decode(samples: Tensor, vae: Any, look: Look, tail: Tensor | None, provisional: int) -> tuple[Tensor, Tensor]:
    """The last provisional frames anew, then the new ones, uint8 [F, H, W, 3]; and the latents to decode beside."""
    if samples.ndim == 5 and decodes_pictures(vae):
        samples = samples[0].movedim(1, 0)
    known = 0
    if look.behind and tail is not None and tail.shape[2] and _alike(tail, samples):
        tail = tail[:, :, -(look.behind + provisional) :]
        known = tail.shape[2] - provisional
        samples = torch.cat([tail.to(samples), samples], dim=2)
    images = vae.decode(samples)
    frames = images.reshape(-1, *images.shape[-3:])[..., :3]
    if known:
        frames = frames[-(samples.shape[2] - known) * look.ratio :]
    tail = samples[:, :, -(look.behind + look.ahead) :] if look.behind else samples[:0]
    return (frames.clamp(0, 1) * 255).round().to(torch.uint8), tail.cpu().clone()


def _alike(tail: Tensor, samples: Tensor) -> bool:
    """Whether latents go together; they do not if a node between has enlarged the new ones alone."""
    return (*tail.shape[:2], *tail.shape[3:]) == (*samples.shape[:2], *samples.shape[3:])


def place_of(video: GrowingVideo) -> tuple[str, list[str]]:
    """Where the page finds what to show: a folder below the output folder, and names in it."""
    shown = [video.path]
    if video.path.is_dir():
        shown = sorted(video.path.glob("frame_*.png"))[-video.pieces[-1].frames :]
    below = shown[0].parent.relative_to(folder_paths.get_output_directory()).as_posix()
    return "" if below == "." else below, [path.name for path in shown]


def _temporary(kind: str) -> Path:
    folder = Path(folder_paths.get_temp_directory()) / "vidrd"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{secrets.token_hex(8)}{KINDS[kind]}"


def _version(path: Path) -> tuple[int, int]:
    frames = path.glob("frame_*.png")  # none of a file
    found = max(frames, key=lambda each: each.stat().st_mtime_ns, default=path).stat()
    return found.st_size, found.st_mtime_ns


def _tags(metadata: dict[str, Any]) -> dict[str, str]:
    """What the host writes into videos: the prompt and the workflow, unless the user wants none."""
    if args.disable_metadata:
        return {}
    return {name: json.dumps(value) for name, value in metadata.items() if value is not None}
