"""Video files that grow clip by clip: each clip is decoded and encoded once, then joined to the clips before it."""

from __future__ import annotations

import abc
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy.cli_args import args
from comfy_api.latest import Input, InputImpl, Types
from torch import Tensor

from vidrd_core.video import Piece, join_videos, open_video, read_video
from vidrd_core.video.sinks import frame_rate
from vidrd_core.video.sound import ENCODERS, read_sound

from .audio_video import split_latent
from .folders import free_path
from .images import save_thumbnail
from .kept_clips import KeptPiece, find_piece, keep_piece, sound_path, thumbnail_path
from .memory import in_memory
from .progress import clip_position, show_status
from .sample_clip import CLOSING_KEY, PAST_KEY, Latent
from .sound import FRAMES_BEFORE, decode_sound
from .vae import DecoderContext, check_latents, decoder_context, is_image_vae

KINDS = {"mp4": ".mp4", "webm": ".webm", "gif": ".gif", "png": "", "webp": ".webp", "apng": ".apng"}
KINDS_WITH_SOUND = [kind for kind, suffix in KINDS.items() if suffix in ENCODERS]


@dataclass(frozen=True)
class VideoSettings:
    """How all clips of a video are written.

    Args:
        prefix: The start of the file's name, which may name folders in the output folder.
        kind: One of `KINDS`: "mp4", "webm", "gif", "png", "webp" or "apng".
        fps: Frames a second.
        scale: How many times each pixel is enlarged along each side, 1 or more.
    """

    prefix: str
    kind: str
    fps: float
    scale: int


def delegate_to_stock(video: type[GrowingVideo]) -> type[GrowingVideo]:
    """A class decorator: methods of ComfyUI's VIDEO that the class lacks, of any version, call `as_stock()`'s."""

    def delegated(name: str) -> Callable[..., Any]:
        return lambda self, *given, **options: getattr(self.as_stock(), name)(*given, **options)

    for name, member in vars(Input.Video).items():
        if callable(member) and not name.startswith("_") and name not in vars(video):
            setattr(video, name, delegated(name))
    abc.update_abstractmethods(video)
    return video


@delegate_to_stock
class GrowingVideo(Input.Video):
    """ComfyUI's VIDEO of all clips so far, in one file or folder that the next clip makes longer.

    Args:
        settings: How it is written.
        pieces: A file for each clip, in ComfyUI's temporary folder, that `path` was joined from.
        tail: The last latents [B, C, up to past + future, h, w], as context to decode the next ones.
        context: The temporal context of the decoder.
        path: The file in the output folder; a later clip may have made it longer.
        size: Pixels across and down.
        thumbnails: Small pictures in ComfyUI's temporary folder, one for each clip of a node that makes several.
        keys: Under which pieces are kept, by their files; see `kept_clips`.

    Attributes:
        copy: A file in ComfyUI's temporary folder that keeps exactly these frames; None without one.
    """

    def __init__(
        self,
        settings: VideoSettings,
        pieces: Sequence[Piece],
        tail: Tensor,
        context: DecoderContext,
        path: Path,
        size: tuple[int, int],
        thumbnails: Sequence[Path] = (),
        keys: Mapping[Path, str | None] | None = None,
    ) -> None:
        self.settings, self.pieces, self.tail = settings, tuple(pieces), tail
        self.context, self.path, self.size = context, path, size
        self.thumbnails, self.keys = tuple(thumbnails), dict(keys or {})
        self.version = _version(path)
        self.copy: Path | None = None

    @property
    def frames(self) -> int:
        """The number of frames."""
        return sum(piece.frames for piece in self.pieces)

    @property
    def provisional(self) -> int:
        """How many of the last frames are decoded again once later latents are known."""
        return self.context.provisional(self.tail.shape[2]) if self.context.future else 0

    @property
    def is_newest(self) -> bool:
        """Whether the file has not changed since this clip was written."""
        return self.path.exists() and _version(self.path) == self.version

    def get_ram_usage(self) -> int:
        """The bytes it takes in memory; ComfyUI's cache calls this method."""
        return self.tail.nbytes

    def as_file(self) -> Path:
        """A file of exactly these frames: a copy if the file has become longer. Raises OSError."""
        if self.is_newest:
            return self.path
        if self.copy is None or not self.copy.exists():
            self.has_pieces()
            self.copy = _temporary_path(self.settings.kind)
            join_videos(self.pieces, self.copy, self.settings.fps)
        return self.copy

    def keep_version(self, copying: bool = True) -> None:
        """Keep the file of these frames, just written, as `copy`, where they are not in a folder. Raises OSError.

        Without `copying` it is only done where that needs no room.
        """
        if self.path.is_dir():
            return
        copy = _temporary_path(self.settings.kind)
        try:
            os.link(self.path, copy)  # a longer video takes the name, not the data
        except OSError:  # on another disk, or one without links
            if not copying:
                return
            shutil.copy2(self.path, copy)
        self.copy = copy

    def has_pieces(self) -> bool:
        """Whether the files of all pieces are there; those that were cleared are fetched from the kept clips."""
        for piece in self.pieces:
            if all(file.exists() for file in (piece.path, piece.sound and piece.sound.path) if file):
                continue
            for left in (piece.path, sound_path(piece.path), thumbnail_path(piece.path)):
                shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
            piece.path.parent.mkdir(parents=True, exist_ok=True)
            if find_piece(self.keys.get(piece.path), piece.path) is None:
                return False
        return True

    def as_stock(self) -> Any:
        """A VIDEO of ComfyUI's own classes, with the same frames."""
        path = self.as_file()
        if path.is_dir() or self.settings.kind in ("gif", "webp", "apng"):
            # FFmpeg does not read it, or with other times, or the host cannot store it in another container.
            images = torch.from_numpy(read_video(path)[0]).float() / 255
            components = Types.VideoComponents(images=images, frame_rate=self.get_frame_rate())
            return InputImpl.VideoFromComponents(components)
        return InputImpl.VideoFromFile(str(path))

    def get_dimensions(self) -> tuple[int, int]:
        """Pixels across and down."""
        return self.size

    def get_frame_count(self) -> int:
        """The number of frames."""
        return self.frames

    def get_frame_rate(self) -> Any:
        """Frames a second, as a fraction."""
        return frame_rate(self.settings.fps)

    def get_duration(self) -> float:
        """Seconds."""
        return self.frames / self.settings.fps


def write_clip(
    latent: Latent,
    vae: Any,
    settings: VideoSettings,
    before: Any,
    metadata: dict[str, Any],
    key: str | None = None,
    audio_vae: Any = None,
) -> GrowingVideo:
    """Decode a clip's new frames, and append them to a video or start a new one.

    Args:
        latent: A LATENT of the new frames, with their sound or not.
        vae: The VAE.
        settings: How a new video is written; an old one keeps its own.
        before: The `GrowingVideo` to append to; None starts a new one.
        metadata: What to write into the file, such as the workflow, as JSON by name.
        key: Under which the encoded clip is kept, see `kept_clips`; None keeps nothing.
        audio_vae: The VAE that decodes the sound; None without sound.

    Returns:
        The video with the clip.

    Raises:
        ValueError: The latents are not the VAE's or do not continue the video, the prefix is not valid, or
            `decode_sound` raises it.
        OSError: The file cannot be written. The video so far is unchanged.
    """
    samples, *audio = split_latent(latent)
    check_latents(vae, samples)
    context = decoder_context(vae)
    closing = _closing(latent.get(CLOSING_KEY), samples, context)
    _check(samples, closing, context, before)
    tail, again, pieces = latent.get(PAST_KEY), 0, []
    is_new_start = context.is_new_start(samples, tail)
    if before is None:
        tail = in_memory(tail)
    else:
        settings, tail, again = before.settings, before.tail, 0 if is_new_start else before.provisional
        pieces = _kept_pieces(before, again)
    _check_sound(bool(audio), audio_vae, settings.kind)
    if audio_vae is not None and before is not None and not is_new_start and FRAMES_BEFORE not in latent:
        raise ValueError(
            "the latent is not that of a clip's new frames, and does not tell where its sound goes on: wire new "
            "frames of Reuse & Diffuse Extend, not whole clip"
        )
    path, tags, position = _temporary_path(settings.kind), _tags(metadata), clip_position()
    piece = find_piece(key, path)
    if piece is None:
        frames, tail = _decode(samples, closing, vae, context, None if is_new_start else tail, again)
        sound = None
        if audio_vae is not None:
            sound = decode_sound(latent, audio_vae, len(frames), again, settings.fps, sound_path(path))
        with open_video(path, settings.fps, scale=settings.scale, metadata=tags) as writer:
            writer.write(frames)
        size = (frames.shape[2] * settings.scale, frames.shape[1] * settings.scale)
        thumbnail = save_thumbnail(frames[again], thumbnail_path(path)) if position else None
        piece = KeptPiece(path, len(frames), tail, size, sound, thumbnail)
        keep_piece(key, piece)
    pieces.append(Piece(piece.path, piece.frames, piece.sound))
    tail, size = piece.tail, piece.size
    grows = before is not None and before.is_newest
    path = before.path if grows else free_path(settings.prefix, KINDS[settings.kind], *size)
    try:
        join_videos(pieces, path, settings.fps, tags)
    except PermissionError:  # a program has the file open, so that Windows does not let it be replaced
        if not grows:
            raise
        path = free_path(settings.prefix, KINDS[settings.kind], *size)
        join_videos(pieces, path, settings.fps, tags)
    thumbnails = [*(before.thumbnails if before else ()), *([piece.thumbnail] if piece.thumbnail else [])]
    keys = {**(before.keys if before else {}), piece.path: key}
    video = GrowingVideo(settings, pieces, tail, context, path, size, thumbnails, keys)
    shown = {"thumbnail": temporary_name(piece.thumbnail)} if piece.thumbnail else {}
    show_status(f"written, {video.frames} frames, {video.get_duration():.1f} s", position, share=1, **shown)
    return video


def check_before_sampling(latent: Latent, kind: str, audio_vae: Any, before: Any) -> None:
    """Check, as far as it is known before a clip is sampled, that it can be written.

    Args:
        latent: The LATENT that is to be sampled.
        kind: The kind of file of a new video.
        audio_vae: As in `write_clip`.
        before: Likewise.

    Raises:
        ValueError: As `write_clip`.
    """
    samples, *audio = split_latent(latent)
    _check_one_clip(samples)
    _check_growing(before)
    _check_sound(bool(audio), audio_vae, kind if before is None else before.settings.kind)


def decode_clip(latent: Latent, vae: Any) -> Tensor:
    """Decode a clip's new frames, as `write_clip` does where a video begins with them.

    Args:
        latent: A LATENT of the new frames.
        vae: The VAE.

    Returns:
        IMAGE [F, H, W, 3].

    Raises:
        ValueError: The latents are not the VAE's.
    """
    samples, tail = split_latent(latent)[0], in_memory(latent.get(PAST_KEY))
    check_latents(vae, samples)
    context = decoder_context(vae)
    _check(samples, None, context, None)
    frames, _ = _decode(samples, None, vae, context, None if context.is_new_start(samples, tail) else tail, 0)
    return frames.float() / 255


def _kept_pieces(before: GrowingVideo, again: int) -> list[Piece]:
    """The pieces of a video without its last `again` frames; if some were deleted, a copy of its file instead."""
    pieces = list(before.pieces)
    if not before.has_pieces():
        if not before.is_newest:
            raise FileNotFoundError(
                f"the previous clips were cleared from {pieces[0].path.parent}: change filename_prefix where the "
                f"video begins, and all clips are written again without sampling"
            )
        copy = _temporary_path(before.settings.kind)
        (shutil.copytree if before.path.is_dir() else shutil.copy2)(before.path, copy)
        with_sound = before.settings.kind in KINDS_WITH_SOUND
        pieces = [Piece(copy, before.frames, read_sound(copy, sound_path(copy)) if with_sound else None)]
    last = pieces[-1]
    return [*pieces[:-1], replace(last, frames=last.frames - again)]


def _closing(closing: Tensor | None, samples: Tensor, context: DecoderContext) -> Tensor | None:
    """Of the latents [B, C, F, h, w] that close a loop after others, those that make the VAE's last group whole."""
    if closing is None or not context.timing.cycle or not _same_shape(closing, samples):
        return None
    return closing[:, :, : context.future].to(samples)


def _check(samples: Tensor, closing: Tensor | None, context: DecoderContext, before: Any) -> None:
    """Raise ValueError unless latents can be appended to a video."""
    _check_one_clip(samples)
    more = 0 if closing is None else closing.shape[2]
    if (cycle := context.timing.cycle) and (samples.shape[2] + more) % cycle not in (0, context.future):
        raise ValueError(
            f"the latent has {samples.shape[2]} latents along time, expected a multiple of {cycle}, or "
            f"{context.future} more: this VAE decodes them in groups; make clips from the model's own empty latent"
        )
    _check_growing(before)
    if before is None:
        return
    if context != before.context:
        raise ValueError("the VAE is of another kind than that of the video so far: wire the same one")
    if samples.shape[-2:] != before.tail.shape[-2:]:
        here, there = list(samples.shape[-2:]), list(before.tail.shape[-2:])
        raise ValueError(f"the clip's latents are {here}, those of the video so far {there}: give all clips one size")


def _check_one_clip(samples: Tensor) -> None:
    """Raise ValueError for a batch of clips."""
    if samples.ndim == 5 and len(samples) > 1:
        raise ValueError(
            f"the latent holds {len(samples)} clips side by side, expected one: write each to a file of its own"
        )


def _check_growing(before: Any) -> None:
    """Raise ValueError for a video that cannot grow."""
    if before is not None and not isinstance(before, GrowingVideo):
        raise ValueError("the video is not from Decode & Write Clip: wire that of the previous clip, or none")


def _check_sound(has_sound: bool, audio_vae: Any, kind: str) -> None:
    """Raise ValueError unless what is wired and the kind of file fit a latent with or without sound."""
    holds = kind in KINDS_WITH_SOUND
    if audio_vae is not None and not has_sound:
        raise ValueError("audio_vae is wired, but the latent holds no sound: leave audio_vae unwired")
    if audio_vae is not None and not holds:
        raise ValueError(f"a file of format {kind} holds no sound: choose mp4 or webm, or leave audio_vae unwired")
    if has_sound and audio_vae is None and holds:
        raise ValueError(
            "the latent holds sound, too: wire the VAE that decodes it into audio_vae, or wire the video latent alone"
        )


def _decode(
    samples: Tensor, closing: Tensor | None, vae: Any, context: DecoderContext, tail: Tensor | None, again: int
) -> tuple[Tensor, Tensor]:
    """The last `again` frames once more and then the new ones, uint8 [F, H, W, 3]; and the next clip's `tail`.

    After `closing` comes the first clip again, and nothing else.
    """
    if samples.ndim == 5 and is_image_vae(vae):
        samples = samples[0].movedim(1, 0)
    known = 0
    if context.past and tail is not None and tail.shape[2] and _same_shape(tail, samples):
        tail = tail[:, :, -(context.past + context.future) :]
        known = tail.shape[2]
        samples = torch.cat([tail.to(samples), samples], dim=2)
    if closing is not None:
        samples = torch.cat([samples, closing], dim=2)
    if not samples.isfinite().all():
        raise ValueError("the latents hold no finite numbers (NaN or infinity): look at what made them")
    images = vae.decode(samples)
    if not images.isfinite().all():
        raise ValueError(
            "the VAE gave pictures without finite numbers (NaN), as half precision does with large latents: start "
            "ComfyUI with --fp32-vae or --bf16-vae"
        )
    frames = images.reshape(-1, *images.shape[-3:])[..., :3]
    if known:
        frames = frames[-(context.frames(samples.shape[2], known) + again) :]
    tail = samples[:, :, -(context.past + context.future) :] if context.past else samples[:0]
    if closing is not None:
        frames = frames[: len(frames) - context.frames(samples.shape[2], samples.shape[2] - closing.shape[2])]
        tail = samples[:, :, :0]
    return (frames.clamp(0, 1) * 255).round().to(torch.uint8), tail.cpu().clone()


def _same_shape(tail: Tensor, samples: Tensor) -> bool:
    """Whether shapes are equal but for frames; they are not if a node has upscaled the new latents alone."""
    return (*tail.shape[:2], *tail.shape[3:]) == (*samples.shape[:2], *samples.shape[3:])


def preview_files(video: GrowingVideo) -> tuple[str, list[str]]:
    """The files that the page shows: a folder in the output folder, and names in it.

    Of PNG frames, those of the newest clip.
    """
    shown = [video.path]
    if video.path.is_dir():
        shown = sorted(video.path.glob("frame_*.png"))[-video.pieces[-1].frames :]
    below = shown[0].parent.relative_to(folder_paths.get_output_directory()).as_posix()
    return "" if below == "." else below, [path.name for path in shown]


def temporary_name(path: Path) -> str:
    """The name by which the page asks for a file in ComfyUI's temporary folder."""
    return path.relative_to(folder_paths.get_temp_directory()).as_posix()


def _temporary_path(kind: str) -> Path:
    """A new path in ComfyUI's temporary folder."""
    folder = Path(folder_paths.get_temp_directory()) / "vidrd"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{secrets.token_hex(8)}{KINDS[kind]}"


def _version(path: Path) -> tuple[int, int]:
    """The size and modification time of a file, or of the newest frame in a folder."""
    frames = path.glob("frame_*.png")  # none if it is a file
    newest = max(frames, key=lambda each: each.stat().st_mtime_ns, default=path).stat()
    return newest.st_size, newest.st_mtime_ns


def _tags(metadata: dict[str, Any]) -> dict[str, str]:
    """Metadata as JSON by name; none if the user started ComfyUI with --disable-metadata."""
    if args.disable_metadata:
        return {}
    return {name: json.dumps(value) for name, value in metadata.items() if value is not None}
