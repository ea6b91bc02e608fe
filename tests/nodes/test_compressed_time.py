"""Models whose VAE compresses time: frame counts, and clips decoded with the previous latents as context."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

from vidrd_core.video import read_video

from .small_models import small_model, small_vae


@pytest.fixture(scope="module")
def vae(host):
    """A VAE that compresses time."""
    return small_vae(host)


def test_a_clip_has_the_requested_frames(run, vae):
    (latent,) = run("EmptyClip", width=32, height=32, frames=29, vae=vae)
    assert tuple(latent["samples"].shape) == (1, 16, 8, 4, 4)
    with pytest.raises(ValueError, match=r"frames is 30.*give 29 or 33"):
        run("EmptyClip", width=32, height=32, frames=30, vae=vae)
    with pytest.raises(ValueError, match=r"frames is 2.*: give 5$"):
        run("EmptyClip", width=32, height=32, frames=2, vae=vae)


def test_a_long_video_has_the_right_number_of_frames(run, host, vae, tmp_path, monkeypatch):
    """29 frames of the first clip, then 4 for each of the 4 latents after a clip's warm-up and prompt frames."""
    model, positive, negative, _ = small_model("wan")
    (latent,) = run("EmptyClip", width=32, height=32, frames=29, vae=vae)
    clip = {"model": model, "positive": positive, "negative": negative, "latent": latent}
    given = {"seed": 3, "steps": 4, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple"}
    reuse = {"prompt_frames": 3, "alpha": 2.0, "beta": 0.4, "order": "auto"}
    video_module = importlib.import_module("custom_nodes_vidrd.nodes.host.video")
    settings = video_module.VideoSettings("compressed/v", "png", 8.0, 1)
    state, video, parts, counts = None, None, [], []
    for _ in range(4):
        new, _, state = run("Extend", **clip, **given, **reuse, state=state)
        video = video_module.write_clip(new, vae, settings, video, {})
        parts.append(new["samples"])
        counts.append(video.frames)
    assert counts == [29, 45, 61, 77]
    written = read_video(Path(video.path))[0].astype(np.float32)
    assert len(written) == 77
    whole = vae.decode(torch.cat(parts, dim=2)).reshape(-1, 32, 32, 3)
    together = (whole.clamp(0, 1) * 255).round().numpy()
    assert together.std() > 5
    difference = np.abs(written - together).mean((1, 2, 3))
    alone = np.abs(np.concatenate([
        (vae.decode(part).reshape(-1, 32, 32, 3).clamp(0, 1) * 255).numpy()[-16:] for part in parts[1:]
    ])[:13] - together[29:42]).mean()  # fmt: skip
    assert difference.max() < 0.5
    assert difference.max() < 0.1 * alone
