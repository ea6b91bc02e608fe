"""The sound of a clip that is sampled together with its pictures: decoding, and its place in the video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidrd_core.sampling import DivergenceError
from vidrd_core.video.sound import FADE, Sound, save_sound

from .audio_video import split_latent

SOUND_BEFORE = "vidrd_sound_before"  # in a LATENT: the clip's audio latents before the new ones
SOUND_DIM = "vidrd_sound_dim"  # in a LATENT: the dimension of time in its audio latents
FRAMES_BEFORE = "vidrd_frames_before"  # in a LATENT: how many of the clip's frames are before the new ones
SOUND_AFTER = "vidrd_sound_after"  # in a LATENT that closes a loop: the clip's audio latents after the new ones
FRAMES_AFTER = "vidrd_frames_after"  # likewise: how many of the clip's frames are after the new ones
# Sound and pictures of a clip may differ by these seconds, as each has a whole number of latents, and by this share.
TOLERANCE, SHARE = 0.1, 0.02


def decode_sound(latent: dict[str, Any], vae: Any, frames: int, again: int, fps: float, path: Path) -> Sound:
    """Decode the audio of a LATENT, and write it to a .npy file.

    Args:
        latent: New frames of Reuse & Diffuse Extend, with audio.
        vae: The audio VAE, of ComfyUI's class or, before version 0.9, of LTX-2's.
        frames: Frames that its video was decoded to.
        again: How many of these are shown already, and replaced.
        fps: Frames per second.
        path: The file to write.

    Returns:
        The sound from the first of the frames on, and so much before that it can fill what the clip before lacks and
        fade in.

    Raises:
        ValueError: The VAE decodes no audio, or not of this model; or the sound lasts longer or shorter than the
            pictures.
        DivergenceError: The sound has NaN or infinity.
        OSError: The file cannot be written.
    """
    audio = split_latent(latent)[1]
    frames_before, frames_after = latent.get(FRAMES_BEFORE, 0), latent.get(FRAMES_AFTER, 0)
    if frames_before:
        audio = torch.cat([latent[SOUND_BEFORE].to(audio), audio], latent[SOUND_DIM])
    if frames_after:
        audio = torch.cat([audio, latent[SOUND_AFTER].to(audio)], latent[SOUND_DIM])
    waveform, rate = _decode(vae, audio)
    before = frames_before - again
    whole = before + frames + frames_after
    lasts, shown = waveform.shape[-1] / rate, whole / fps
    may_differ = TOLERANCE + SHARE * lasts
    if abs(lasts - shown) > may_differ:
        raise ValueError(
            f"the clip's sound lasts {lasts:.2f} s, its {whole} frames {shown:.2f} s at fps {fps:g}: set fps to "
            f"{whole / lasts:.3g}, or make the audio latent for these frames and this fps"
        )
    begin = round(before * rate / fps)
    lead = min(begin, round((FADE + may_differ) * rate))
    return save_sound(path, waveform[:, begin - lead :].numpy(), rate, lead)


def _decode(vae: Any, latents: Tensor) -> tuple[Tensor, int]:
    """The waveform [channels, samples], -1 to 1, of audio latents, and samples a second."""
    inner = getattr(vae, "first_stage_model", vae)  # LTX-2's before ComfyUI 0.9 is of a class of its own
    rate, channels = getattr(inner, "output_sample_rate", None), getattr(vae, "latent_channels", None)
    if rate is None or channels != latents.shape[1]:
        raise ValueError(
            f"audio_vae does not decode this model's audio latents of {latents.shape[1]} channels: wire the audio "
            "VAE that belongs to the model"
        )
    decoded = vae.decode(latents)
    waveform = decoded if inner is vae else decoded.movedim(-1, 1)
    if not waveform.isfinite().all():
        raise DivergenceError(
            "the sound came out as no finite numbers: give a smaller cfg, or another audio VAE or sampler"
        )
    return waveform[0].float().cpu().clamp(-1, 1), int(rate)
