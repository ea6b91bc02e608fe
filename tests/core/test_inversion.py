"""States of real footage by DDIM inversion or noising: clips that extend them replay the footage."""

import numpy as np
import pytest
import torch

from vidrd_core.inversion import invert, noised, predictions
from vidrd_core.reuse import ReuseSettings
from vidrd_core.sampling import SOLVERS, ddim
from vidrd_core.state import ClipState

SIGMAS = torch.cat([torch.linspace(8, 0.2, 12), torch.zeros(1)])


def denoise(x, sigma):
    """A smooth denoiser that mixes frames."""
    return torch.tanh(x.roll(1, 2) * 0.2 + x / (1 + sigma)) * 0.8


def footage(count, size=32, seed=0):
    """Frames of a bright square that moves right, uint8 [F, size, size, 3]."""
    frames = np.full((count, size, size, 3), 30, np.uint8)
    for index in range(count):
        frames[index, 10:18, 4 + index : 12 + index] = (200, 80, 40)
    return frames


def test_inversion_is_undone_by_ddim():
    latents = torch.rand(1, 4, 6, 5, 5, generator=torch.Generator().manual_seed(0)) - 0.5
    errors = []
    for iterations in (1, 3, 40):
        path = invert(denoise, latents, SIGMAS, iterations)
        assert torch.equal(path[-1], latents)
        errors.append(float((ddim(denoise, path[0], SIGMAS) - latents).abs().max()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-4


def test_replayed_predictions_take_ddim_along_any_path():
    path = torch.randn(13, 1, 4, 3, 2, 2)
    replayed = iter(predictions(path, SIGMAS))
    reached = []
    ddim(lambda x, sigma: next(replayed), path[0], SIGMAS, lambda i, x: reached.append(x))
    torch.testing.assert_close(torch.stack(reached), path[1:], rtol=1e-4, atol=1e-4)


def test_a_noised_trajectory_is_a_straight_line():
    latents, start = torch.randn(2, 1, 4, 3, 2, 2)
    path = noised(latents, start, SIGMAS)
    assert torch.allclose(path[0], start, atol=1e-6)
    assert torch.equal(path[-1], latents)
    torch.testing.assert_close(predictions(path, SIGMAS), latents.expand(12, *latents.shape), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", ["inversion", "noise"])
@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_a_clip_extends_footage(model, tmp_path, method, solver):
    settings = {"steps": 6, "solver": solver, "seed": 3}
    reuse = ReuseSettings(3, order="forward")
    state = model.state_from_video(footage(11), "a red circle moving right", reuse, method=method, **settings)
    state.save(tmp_path / "footage.safetensors")
    state = ClipState.load(tmp_path / "footage.safetensors")
    assert state.frames == 8
    assert state.repeated == 0
    clip = model.extend(state, "a red circle moving right", reuse)
    assert torch.allclose(clip.state.latents[:, :, :3], state.latents[:, :, -3:], atol=1e-3)
    assert clip.latents.shape[2] == 5
    again = model.extend(state, "a red circle moving right", reuse)
    assert torch.equal(again.state.latents, clip.state.latents)
    mirrored = model.extend(state, "a red circle", ReuseSettings(3, beta=1.0))
    assert torch.allclose(mirrored.state.latents[:, :, 0], state.latents[:, :, -1], atol=1e-3)


@pytest.mark.parametrize("count", [1, 3])
def test_stills_and_short_footage_are_repeated_before(model, count):
    state = model.state_from_video(footage(count), "a red circle", ReuseSettings(2, order="forward"), steps=3)
    assert state.repeated == 8 - count
    assert state.shown.shape[2] == count
    assert torch.equal(state.tail(8), state.latents)  # what a decoder sees before the next clip
    for frame in range(8 - count):
        assert torch.equal(state.latents[:, :, frame], state.latents[:, :, 8 - count])
    chain = list(model.stream("a red circle", 3, ReuseSettings(2, order="forward"), state=state))
    assert [clip.latents.shape[2] for clip in chain] == [6, 6]


@pytest.mark.parametrize("order", ["forward", "mirror"])
def test_a_loop_is_closed_onto_footage(model, order):
    """The last frame of the loop is followed by the first frame of the footage that was used."""
    reuse = ReuseSettings(2, beta=1.0, order=order, loop="keep")
    state = model.state_from_video(footage(8), "a red circle", steps=3)
    last = list(model.stream("a red circle", 3, reuse, state=state))[-1].state
    ends = last.latents[:, :, -2] if order == "forward" else last.latents[:, :, -1]
    assert torch.allclose(ends, state.latents[:, :, 0], atol=1e-3)
    assert last.closed == (2 if order == "forward" else 0)


def test_closing_a_loop_onto_a_clip_without_loop_keep_is_refused(model):
    state = model.generate("a red circle", steps=2).state
    with pytest.raises(ValueError, match="make the first clip with loop 'keep'"):
        model.stream("a red circle", 3, ReuseSettings(2, loop="keep"), state=state, steps=2)


def test_inverted_noise_has_unit_variance(model):
    state = model.state_from_video(footage(8), "a red circle", steps=4)
    assert abs(float(state.noise.std()) - 1) < 1e-3
    assert abs(float(state.noise.mean())) < 1e-3


def test_the_noise_of_noising_has_unit_variance_and_follows_the_seed(model):
    make = lambda seed: model.state_from_video(footage(8), "a red circle", method="noise", steps=4, seed=seed)  # noqa: E731
    one, same, other = make(1), make(1), make(2)
    assert abs(float(one.noise.std()) - 1) < 0.05
    assert torch.equal(one.noise, same.noise)
    assert not torch.equal(one.noise, other.noise)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video": np.zeros((4, 32, 32), np.uint8)}, r"expected uint8 \[F, H, W, 3\]"),
        ({"video": np.zeros((0, 32, 32, 3), np.uint8)}, r"expected uint8 \[F, H, W, 3\]"),
        ({"video": footage(3).astype(np.float32)}, "the video is float32"),
        ({"video": np.zeros((4, 31, 32, 3), np.uint8)}, "height is 31, expected a multiple of"),
        ({"method": "magic"}, "method is 'magic', expected 'inversion' or 'noise'"),
        ({"prompt": " "}, "has no words"),
        ({"steps": 0}, "steps is 0"),
        ({"reuse": ReuseSettings(9)}, "less than the 8 frames"),
    ],
)
def test_invalid_footage_is_refused(model, change, message):
    with pytest.raises(ValueError, match=message):
        model.state_from_video(**{"video": footage(3), "prompt": "a red circle", "steps": 2, **change})


def test_a_flow_state_starts_from_its_own_noise():
    sigmas = torch.linspace(1, 0, 9)
    latents = torch.randn(1, 4, 4, 3, 3)
    state = ClipState.from_latents(latents, sigmas, "x", flow=True, generator=torch.Generator().manual_seed(0))
    assert abs(float(state.noise.std()) - 1) < 0.2
    torch.testing.assert_close(state.record, latents[:, :, -2:].expand(8, 1, 4, 2, 3, 3), rtol=1e-3, atol=1e-3)
