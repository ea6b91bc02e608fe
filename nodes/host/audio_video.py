"""Latents of models that sample video and audio together, which ComfyUI packs into one tensor (LTX-2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vidrd_core.reuse import ReuseSettings
from vidrd_core.state import ClipState, StateMismatchError

Shape = tuple[int, ...]
TIME_FACTOR = 8  # video frames a latent after the first decodes to, where the model does not state it: LTX-2's
SEPARATE_AUDIO = "the latent holds video and audio together: separate them and wire the video latent alone"


@dataclass(frozen=True)
class LatentTiming:
    """Which stretches of time a model's latents stand for.

    Args:
        factor: Video frames that each latent decodes to, but for those that decode to one.
        cycle: The number of latents after which one decodes to a single frame again; 0: only the first one does.
        audio_dim: The dimension of time in audio latents, 2 or 3.
    """

    factor: int = TIME_FACTOR
    cycle: int = 0
    audio_dim: int = 2

    def frames(self, latents: int) -> int:
        """The number of video frames that the first `latents` video latents decode to."""
        single = -(-latents // self.cycle) if self.cycle else min(1, latents)
        return single + (latents - single) * self.factor

    def audio_clip(self, audio: Tensor) -> Tensor:
        """Audio latents of the model, with the dimensions of a clip [B, C, T, f, 1]."""
        return audio.movedim(self.audio_dim, 2)[..., None]

    def audio_of_model(self, clip: Tensor) -> Tensor:
        """The inverse of `audio_clip`."""
        return clip[..., 0].movedim(2, self.audio_dim)


@dataclass(frozen=True)
class AudioVideoShapes:
    """The shapes of the latents that are sampled as one.

    Args:
        video: [B, C, N + G, h, w], or [N, C, h, w] for models with frames in the batch dimension.
        audio: [B, C, T, f], or another order by `timing`; None without audio.
        timing: Of the model.
        guides: How many latents of guide frames come after the N of a clip (G), as LTXVAddGuide puts them there.
    """

    video: Shape
    audio: Shape | None = None
    timing: LatentTiming = LatentTiming()
    guides: int = 0

    @property
    def clip(self) -> Shape:
        """The shape of the video without guide frames."""
        return (*self.video[:2], self.video[2] - self.guides, *self.video[3:])

    def split(self, latents: Tensor) -> list[Tensor]:
        """Unpack latents.

        Args:
            latents: Packed video and audio [B, 1, L], or video as it is.

        Returns:
            The video without guide frames, and the audio with the dimensions of a clip [B, C, T, f, 1] if there is
            any.
        """
        video, *audio = self._unpacked(latents)
        return [video[:, :, : video.shape[2] - self.guides] if self.guides else video, *audio]

    def _unpacked(self, latents: Tensor) -> list[Tensor]:
        if self.audio is None:
            return [latents]
        cut = math.prod(self.video[1:])
        video, audio = latents[:, :, :cut], latents[:, :, cut:]
        return [video.reshape(-1, *self.video[1:]), self.timing.audio_clip(audio.reshape(-1, *self.audio[1:]))]

    def join(self, parts: Sequence[Tensor], whole: Tensor) -> Tensor:
        """The inverse of `split`; guide frames are those of `whole`, latents as `split` takes them."""
        video, *audio = parts
        if self.guides:
            video = torch.cat([video, self._unpacked(whole)[0][:, :, video.shape[2] :]], 2)
        if not audio:
            return video
        both = (video, self.timing.audio_of_model(audio[0]))
        return torch.cat([each.reshape(len(each), 1, -1) for each in both], -1)


def split_latent(latent: dict[str, Any]) -> list[Tensor]:
    """The video of a LATENT, and its audio [B, C, ...] if there is any. Raises ValueError for any other parts."""
    samples = latent["samples"]
    if not getattr(samples, "is_nested", False):
        return [samples]
    parts = list(samples.unbind())
    if [part.ndim for part in parts] != [5, 4]:
        shapes = ", ".join(str(list(part.shape)) for part in parts)
        raise ValueError(f"the latent holds parts of shapes {shapes}, expected video alone, or video and audio")
    return parts


def join_latent(parts: Sequence[Tensor]) -> Any:
    """The inverse of `split_latent`: the value of "samples" in a LATENT, a tensor or a NestedTensor."""
    if len(parts) == 1:
        return parts[0]
    from comfy.nested_tensor import NestedTensor  # older versions of ComfyUI have none

    return NestedTensor(parts)


def shapes_of(guider: Any, noise: Tensor, timing: LatentTiming) -> AudioVideoShapes:
    """Find the shapes of the latents that a guider is about to sample.

    Args:
        guider: ComfyUI's guider. A model that takes video and audio states their shapes in its conditions.
        noise: The noise to start from, packed [B, 1, L] or not.
        timing: Of the guider's model.

    Returns:
        Shapes of video and audio; for latents that are not packed, that of the noise as the video's.

    Raises:
        ValueError: The latents are packed, and the model takes no video and audio.
    """
    conditions = [each for several in guider.conds.values() for each in several]
    if noise.ndim != 3:
        return AudioVideoShapes(tuple(noise.shape), guides=guide_latents(conditions, tuple(noise.shape)))
    shapes = None  # newer hosts tell every model its `latent_shapes`, so that attribute says nothing
    for condition in conditions:
        stated = condition.get("model_conds", {}).get("latent_shapes")
        shapes = shapes or getattr(stated, "cond", None)
    if not shapes or [len(shape) for shape in shapes] != [5, 4]:
        raise ValueError(SEPARATE_AUDIO)
    video, audio = (tuple(shape) for shape in shapes)
    return AudioVideoShapes(video, audio, timing, guide_latents(conditions, video))


def guide_latents(conditions: Sequence[dict[str, Any]], video: Shape) -> int:
    """How many latents of guide frames (LTXVAddGuide) come after those of a clip.

    Args:
        conditions: The options of the positive and the negative conditioning.
        video: The shape of the video's latents with guide frames.

    Returns:
        Their number: the conditioning has the places of their h x w parts each.
    """
    known = [each["keyframe_idxs"] for each in conditions if each.get("keyframe_idxs") is not None]
    if not known or len(video) != 5:
        return 0
    return known[0].shape[2] // (video[3] * video[4])


def check_audio_shape(audio: Shape, previous: ClipState) -> None:
    """Raise StateMismatchError unless audio latents of shape [B, C, T, f] can extend those of a state."""
    old = tuple(previous.sound_noise.shape[:4])
    if not any(old):
        raise StateMismatchError(
            "the latent holds video and audio, the state is of footage or of a clip without audio: wire the video "
            "latent alone, or begin with a clip that has audio"
        )
    if old != audio:
        raise StateMismatchError(
            f"the latent has audio of shape {list(audio)}, the state has {list(old)}: wire the latent that the "
            f"previous clip was made from"
        )


@dataclass(frozen=True)
class AudioTimeline:
    """Which audio latents sound during which video latents of a clip.

    Args:
        video_latents: N.
        audio_latents: T, at even distances over the duration of the video.
        timing: What the video latents decode to.

    Raises:
        ValueError: There are too few audio latents to tell a clip's beginning from its end.
    """

    video_latents: int
    audio_latents: int
    timing: LatentTiming

    def __post_init__(self) -> None:
        if self.audio_latents < 2:
            raise ValueError(
                f"the latent has audio of {self.audio_latents} latent along time, expected 2 or more: make its audio "
                "for the frames and the fps of its video"
            )

    def end_of(self, latents: int) -> int:
        """How many audio latents end with the first `latents` video latents."""
        if not latents:
            return 0
        return round(self.audio_latents * self.timing.frames(latents) / self.timing.frames(self.video_latents))

    def reuse_settings(self, settings: ReuseSettings) -> ReuseSettings:
        """What audio reuses, by the settings of the video.

        Warm-up latents and prompt frames end when those of the video do; audio neither loops nor is anchored.
        """
        warmup = self.end_of(settings.first_prompt_frame)
        replayed = self.end_of(settings.repeated_frames) - warmup
        return replace(settings, prompt_frames=replayed, warmup_latents=warmup, loop="none", anchor=0.0)

    def recorded_latents(self, latents: int) -> int:
        """How many of the last audio latents belong to the last `latents` video latents."""
        return self.audio_latents - self.end_of(self.video_latents - latents)
