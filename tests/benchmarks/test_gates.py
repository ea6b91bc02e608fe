"""The gates' figures, of clips that are drawn: the world itself must pass."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gates import (
    DRIFTS,
    SEARCHED,
    SNRS,
    SWAPS,
    cost_table,
    mean_distance,
    moved_latents_error,
    report,
    shares,
    spread,
    swap_costs,
    world_distance,
)

from vidrd_core.procedural import EVALUATION_SEED, world
from vidrd_core.procedural.datasets import WorldData
from vidrd_core.procedural.world.captions import wanted_of
from vidrd_core.procedural.world.readout import read_out
from vidrd_core.sampling import DiffusionConfig


@pytest.fixture(scope="module")
def drawn():
    """Three instances of each of a few captions, read out."""
    rows = []
    for each in world.evaluation_instances(18, 11)[::3]:
        wanted, rng = wanted_of(each), np.random.default_rng(0)
        twins = [
            world.random_instance(rng, [wanted.motion], wanted.shape, wanted.color, wanted.ground) for _ in "123"
        ]
        rows.append((wanted, [read_out(world.render(twin)) for twin in twins]))
    return rows


def test_what_is_drawn_shows_its_caption_and_spreads_like_the_world(drawn):
    wanted = [one for one, row in drawn for _ in row]
    found = [each for _, row in drawn for each in row]
    assert min(shares(wanted, found).values()) > 0.9
    assert shares(wanted[3:] + wanted[:3], found)["motion"] < 0.2
    spreads = [spread(row) for _, row in drawn]
    for name in ("hue", "place", "pattern"):
        assert 0.7 < np.mean([each[name] for each in spreads]) < 1.3


def test_one_instance_over_and_over_has_no_spread(drawn):
    _, row = drawn[0]
    assert set(spread([row[0]] * 3).values()) == {0.0}
    assert world_distance(row[0], row[0]) == 0
    assert spread(row[:1]) == {}
    assert mean_distance([(row[0], row[0])]) == 0
    assert np.isnan(mean_distance([]))
    assert mean_distance([(row[0], row[1])]) == world_distance(row[0], row[1]) > 0


class Pixels:
    """A VAE of which a place is one pixel of 4 x 4, or their mean, which is smoother."""

    config = SimpleNamespace(downsampling=4)

    def __init__(self, smooth):
        self.smooth = smooth

    def encode(self, video):
        places = F.avg_pool2d(video[:, :, 0], 4) if self.smooth else video[:, :, 0, ::4, ::4]
        return places[:, :, None]


def test_latents_that_move_as_frames_do_are_told_from_others():
    x = np.arange(64)
    wave = np.rint(127 + 100 * np.sin(2 * np.pi * x / 32)).astype(np.uint8)
    smooth = np.broadcast_to(wave[None, None, None, :, None], (1, 1, 64, 64, 3))
    assert moved_latents_error(SimpleNamespace(vae=Pixels(smooth=False)), smooth) < 0.02
    drawn = np.stack([world.render(each, 1) for each in world.evaluation_instances(18, 11)])
    averaged, picked = (moved_latents_error(SimpleNamespace(vae=Pixels(each)), drawn) for each in (True, False))
    assert 0.02 < averaged < 0.7 * picked


@pytest.mark.parametrize("heeds", [True, False])
def test_words_that_change_the_loss_are_told_from_others(heeds):
    """A network that is off by 1 in all latents for captions with other words, or for none."""
    data = WorldData(clips=SEARCHED * 6, motions=DRIFTS, seed=EVALUATION_SEED)
    true, seen = {data.plain(i) for i in range(data.clips)}, []

    def encode(texts):
        seen.append(texts)
        return torch.full((len(texts),), float(len(seen) % 2 == 0))

    model = SimpleNamespace(
        diffusion=DiffusionConfig(prediction="eps"),
        vae=SimpleNamespace(encode=lambda video: torch.zeros(len(video), 4, 8, 8, 8)),
        text_encoder=SimpleNamespace(encode=encode),
        unet=lambda x, timestep, text, positions: heeds * text.view(-1, 1, 1, 1, 1).expand_as(x),
    )
    costs = swap_costs(model, 6)
    assert costs.keys() == SWAPS.keys()
    for row in costs.values():
        assert len(row) == len(SNRS)
        for grown, _ in row:  # of noise of variance 1, to which 1 is added
            assert grown == (pytest.approx(1.0, abs=0.1) if heeds else 0)
    for said, swapped in zip(seen[::2], seen[1::2], strict=True):
        assert len(said) == 6
        assert true.issuperset(said)
        assert all(one != other for one, other in zip(said, swapped, strict=True))
    assert ("+0.00 ± 0.00 %" in cost_table(costs)) != heeds


def test_the_report_has_each_figure(drawn):
    result = {
        "psnr": 27.1, "moved latents": 0.17, "videos": 100,
        "drawn": dict.fromkeys(("color", "shape", "motion", "ground", "all"), 1.0),
        "generated": {"color": 0.9, "shape": 0.8, "motion": 0.7, "ground": 0.6, "all": 0.5},
        "spread": {"hue": 0.91, "place": 0.92, "pattern": 0.93},
        "place_of_same_noise": 0.12, "place_in_other_motion": 0.11,
        "motions": {"stay": 0.3},
    }  # fmt: skip
    text = report(result)
    for figure in (
        "27.1 dB",
        "by 0.17 of",
        "0.90 ± 0.03",
        "0.50 ± 0.05",
        "0.91",
        "0.92",
        "0.93",
        "0.12",
        "0.11",
        "stay 0.30",
    ):
        assert figure in text
