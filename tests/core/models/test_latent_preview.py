"""The tiny model's latent preview, against its decoder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import vidrd_core
from vidrd_core.io.safetensors import FormatError
from vidrd_core.models.latent_preview import load_preview, preview_frames
from vidrd_core.procedural import random_scene, render
from vidrd_core.video.tensors import to_video

SHIPPED = Path(vidrd_core.__file__).parent / "models/tiny/preview.json"


def test_colour_factors_are_as_good_as_a_linear_map_can_be():
    model, rng = vidrd_core.load("tiny"), np.random.default_rng(0)
    video = torch.cat([to_video(render(random_scene(rng, 0.15), 8, 64))[None] for _ in range(12)])
    latents = model.vae.encode(video).movedim(1, -1).reshape(-1, 4)
    colours = F.avg_pool3d(video, (1, 4, 4)).movedim(1, -1).reshape(-1, 3)
    shipped = json.loads(SHIPPED.read_text())
    factors, bias = (torch.tensor(shipped[f"latent_rgb_factors{end}"]) for end in ("", "_bias"))
    known = torch.cat([latents, torch.ones(len(latents), 1)], dim=1)
    best = known @ torch.linalg.lstsq(known, colours).solution
    spread = (colours - colours.mean(0)).square().sum(0)
    unexplained, least = ((each - colours).square().sum(0) / spread for each in (latents @ factors + bias, best))
    assert (unexplained < 0.35).all()
    assert (unexplained < 1.1 * least).all()


def test_convolutions_approximate_the_frames():
    model, rng = vidrd_core.load("tiny"), np.random.default_rng(1)
    video = torch.cat([to_video(render(random_scene(rng, 0.15), 8, 64))[None] for _ in range(8)])
    frames = video.movedim(2, 1).flatten(0, 1)
    seen = preview_frames(model.vae.encode(video).movedim(2, 1).flatten(0, 1), load_preview(SHIPPED))
    assert seen.shape == frames.shape
    unexplained = (seen - frames).square().mean() / (frames - frames.mean((0, 2, 3), keepdim=True)).square().mean()
    assert unexplained < 0.1


@pytest.mark.parametrize(
    "convolutions",
    [
        None,
        [],
        [{"weight": [[[[1.0]]]]}],
        [{"weight": [[[["a"]]]], "bias": [0.0]}],
        [{"weight": [[[[float("nan")]]]], "bias": [0.0]}],
        [{"weight": [[[[1.0]]]], "bias": [0.0, 0.0]}],
        [{"weight": [[1.0]], "bias": [0.0]}],
        [{"weight": [[[[1.0]]]], "bias": [0.0]}, {"weight": [[[[1.0]], [[1.0]]]], "bias": [0.0]}],
    ],
)
def test_a_file_that_holds_something_else_is_refused(tmp_path, convolutions):
    (tmp_path / "preview.json").write_text(json.dumps({"convolutions": convolutions}))
    with pytest.raises(FormatError, match=r"preview\.json holds no convolutions of a preview"):
        load_preview(tmp_path / "preview.json")
