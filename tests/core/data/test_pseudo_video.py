"""Pseudo-videos against closed forms: the camera path, and what is rendered."""

import math
from typing import Any

import numpy as np
import pytest

from vidrd_core.data.pseudo_video import CameraSettings, camera_path, pseudo_video, render

SIZES = [(640, 480), (97, 1013), (4000, 31), (256, 256), (3, 2)]


def seeded(seed: int) -> np.random.Generator:
    """A NumPy generator."""
    return np.random.default_rng(seed)


def middles(path: np.ndarray) -> np.ndarray:
    return (path[:, :2] + path[:, 2:]) / 2


def spans(path: np.ndarray) -> np.ndarray:
    return path[:, 2:] - path[:, :2]


def ramp(width: int, height: int) -> np.ndarray:
    """A still whose red is x, green y and blue 0.25; x and y go from 0 to 1."""
    x, y = ((np.arange(size) + 0.5) / size for size in (width, height))
    return np.stack(np.broadcast_arrays(x[None], y[:, None], 0.25), 2).astype(np.float32)


def waves(still_period: float, size: int = 512) -> np.ndarray:
    """Vertical stripes, float32 [16, size, 3] from 0 to 1."""
    wave = 0.5 + 0.5 * np.sin(2 * math.pi * (np.arange(size) + 0.5) / still_period)
    return np.broadcast_to(wave[None, :, None], (16, size, 3)).astype(np.float32)


def pan_windows(still: np.ndarray, start: float, step: float, width: float, frames: int) -> np.ndarray:
    """Windows as high as the still that move right by `step` of its pixels per frame."""
    left = start + step * np.arange(frames)
    return np.stack([left, 0 * left, left + width, 0 * left + len(still)], 1) / (still.shape[1::-1] * 2)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_window_stays_in_the_still_and_keeps_its_aspect_ratio(width: int, height: int) -> None:
    draw = np.random.default_rng(0)
    for seed in range(1000):
        across, down = (int(side) for side in draw.integers(1, 600, 2))
        settings = CameraSettings(5, across, down, float(draw.uniform(1, 8)), float(draw.uniform(0, 4)))
        path = camera_path(settings, width, height, seeded(seed))
        assert path.shape == (5, 4)
        assert path.min() >= 0
        assert path.max() <= 1
        seen = spans(path) * (width, height)
        np.testing.assert_allclose(seen[:, 0] / seen[:, 1], across / down, rtol=1e-6)
        # Together the windows reach from edge to edge one way, and lie about the middle.
        low, high = path[:, :2].min(0), path[:, 2:].max(0)
        np.testing.assert_allclose(low + high, 1, atol=1e-9)
        assert (high - low).max() == pytest.approx(1)


@pytest.mark.parametrize("direction", ["in", "out", "random"])
def test_zoom_and_pan_are_between_half_and_all_of_the_setting(direction: Any) -> None:
    settings = CameraSettings(2, zoom=2.25, pan=0.4, direction=direction)
    ways, factors = [], []
    for seed in range(500):
        path = camera_path(settings, 640, 480, seeded(seed))
        factors.append(float(spans(path)[0, 0] / spans(path)[1, 0]))
        ways.append(float(np.linalg.norm(np.diff(middles(path), axis=0) / spans(path).max())))
    zooms = np.exp(np.abs(np.log(factors)))
    assert zooms.min() == pytest.approx(1.5, abs=0.01)
    assert zooms.max() == pytest.approx(2.25, abs=0.01)
    assert min(ways) == pytest.approx(0.2, abs=0.01)
    assert max(ways) == pytest.approx(0.4, abs=0.01)
    share = np.mean(np.array(factors) > 1)
    assert share == {"in": 1, "out": 0}.get(direction, share)
    assert direction != "random" or 0.4 < share < 0.6


def test_a_linear_path_moves_equally_on_screen_in_every_frame() -> None:
    """The corners of a frame in the previous one's coordinates are the same in every frame."""
    for seed in range(50):
        path = camera_path(CameraSettings(9, zoom=4, pan=1, easing="linear"), 640, 480, seeded(seed))
        before, after = path[:-1].reshape(-1, 2, 2), path[1:].reshape(-1, 2, 2)
        corners = (after - before[:, :1]) / (before[:, 1:] - before[:, :1])
        np.testing.assert_allclose(corners - corners[0], 0, atol=1e-9)
        assert np.abs(corners[0] - [[0, 0], [1, 1]]).max() > 0.01


def test_a_smooth_path_follows_the_cubic_and_rests_at_its_ends() -> None:
    frames = 41
    path = camera_path(CameraSettings(frames, zoom=1, pan=0.5, easing="smooth"), 640, 480, seeded(3))
    time = np.linspace(0, 1, frames)[:, None]
    np.testing.assert_allclose(path, path[:1] + (path[-1] - path[0]) * time**2 * (3 - 2 * time), atol=1e-12)

    for seed in range(50):
        path = camera_path(CameraSettings(frames, zoom=3, pan=0.5, easing="smooth"), 640, 480, seeded(seed))
        steps = np.abs(np.diff(path, axis=0))
        way = np.abs(path[-1] - path[0])
        assert (steps[[0, -1]] <= 0.01 * way).all()
        # No step differs from the next by more than the curve may bend: 6 for the easing, and what the zoom adds.
        assert (np.abs(np.diff(steps, axis=0)) <= 20 * way / (frames - 1) ** 2 + 1e-12).all()


def test_without_zoom_a_linear_pan_is_a_straight_line() -> None:
    path = camera_path(CameraSettings(9, zoom=1, pan=0.5), 640, 480, seeded(4))
    np.testing.assert_allclose(np.diff(path, 2, axis=0), 0, atol=1e-12)
    assert np.abs(np.diff(path, axis=0)).max() > 0.01


def test_a_seed_gives_the_same_path_at_any_size() -> None:
    one = camera_path(CameraSettings(7, 320, 240), 640, 480, seeded(5))
    assert (one == camera_path(CameraSettings(7, 320, 240), 640, 480, seeded(5))).all()
    np.testing.assert_allclose(one, camera_path(CameraSettings(7, 64, 48), 2560, 1920, seeded(5)), atol=1e-12)
    np.testing.assert_allclose(one[::2], camera_path(CameraSettings(4, 320, 240), 640, 480, seeded(5)), atol=1e-12)
    assert np.abs(one - camera_path(CameraSettings(7, 320, 240), 640, 480, seeded(6))).max() > 0.01


def test_one_frame_is_the_start_of_the_path() -> None:
    for easing in ("linear", "smooth"):
        one = camera_path(CameraSettings(1, easing=easing), 640, 480, seeded(5))
        assert (one == camera_path(CameraSettings(6, easing=easing), 640, 480, seeded(5))[:1]).all()


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [(None, None, (640, 480)), (320, None, (320, 240)), (None, 120, (160, 120)), (77, 300, (77, 300))],
)
def test_sizes_that_are_not_given_follow(width: int | None, height: int | None, size: tuple[int, int]) -> None:
    assert CameraSettings(width=width, height=height).size(640, 480) == size


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_without_zoom_and_pan_every_frame_is_the_still(dtype: Any) -> None:
    still = np.random.default_rng(0).uniform(0, 255 if dtype == np.uint8 else 1, (31, 47, 3)).astype(dtype)
    clip = pseudo_video(still, CameraSettings(3, zoom=1, pan=0), seeded(0))
    assert clip.dtype == dtype
    np.testing.assert_array_equal(clip, np.stack([still] * 3))


def test_without_zoom_and_pan_another_aspect_ratio_is_cropped_in_the_middle() -> None:
    clip = pseudo_video(ramp(300, 100), CameraSettings(1, 50, 50, zoom=1, pan=0), seeded(0))
    centres = (np.arange(50) + 0.5) / 50
    np.testing.assert_allclose(clip[0, 25, 3:-3, 0], (1 + centres[3:-3]) / 3, atol=1e-4)
    np.testing.assert_allclose(clip[0, 3:-3, 25, 1], centres[3:-3], atol=1e-4)


@pytest.mark.parametrize(("width", "height"), [(160, 120), (40, 30), (400, 300)])
def test_the_pixels_of_a_ramp_are_those_at_the_window(width: int, height: int) -> None:
    """Enlarged and reduced, to a fiftieth of a pixel of the still, away from its edges."""
    still = ramp(320, 240)
    path = camera_path(CameraSettings(12, width, height, zoom=1.5, pan=0.3), 320, 240, seeded(8))
    clip = render(still, path, width, height)
    x = path[:, :1] + spans(path)[:, :1] * (np.arange(width) + 0.5) / width
    y = path[:, 1:2] + spans(path)[:, 1:] * (np.arange(height) + 0.5) / height
    inner = np.abs(x - 0.5) < 0.4, np.abs(y - 0.5) < 0.4
    for index, frame in enumerate(clip):
        across, down = inner[0][index], inner[1][index]
        seen = frame[down][:, across]
        np.testing.assert_allclose(seen[:, :, 0] - x[index, across], 0, atol=0.02 / 320)
        np.testing.assert_allclose(seen[:, :, 1] - y[index, down, None], 0, atol=0.02 / 240)
        np.testing.assert_allclose(seen[:, :, 2], 0.25, atol=1e-6)


@pytest.mark.parametrize("shrink", [1.0, 1.7, 8.0])
def test_fine_stripes_move_smoothly_and_keep_their_contrast(shrink: float) -> None:
    """Stripes of 4 pixels that move by a twentieth of a pixel per frame: no rounding to pixels, no aliasing."""
    frames, width, period, step = 40, 48, 4.0, 0.05
    still = waves(period * shrink)
    windows = pan_windows(still, 50.3, step * shrink, width * shrink, frames)
    clip = render(still, windows, width, 16)[:, 8, :, 0]
    angle = 2 * math.pi * (np.arange(width) + 0.5) / period
    waved = clip @ np.exp(-1j * angle) / width * 4  # whole periods, so nothing else is in it
    moved = np.unwrap(np.angle(waved)) * period / (2 * math.pi)
    np.testing.assert_allclose(np.diff(moved), step, atol=0.1 * step)
    assert np.ptp(np.abs(waved)) < 0.03
    assert np.abs(waved).min() > 0.95


def test_detail_above_the_nyquist_frequency_becomes_grey() -> None:
    still = np.indices((600, 800)).sum(0)[..., None] % 2 * np.ones(3, np.float32)
    clip = pseudo_video(still.astype(np.float32), CameraSettings(8, 80, 60, zoom=2, pan=0.3), seeded(1))
    assert np.abs(clip[:, 2:-2, 2:-2] - 0.5).max() < 0.01


def test_uint8_and_float_stills_give_the_same_clip() -> None:
    still = np.random.default_rng(2).integers(0, 256, (90, 120, 3), np.uint8)
    settings = CameraSettings(6, 64, 64, zoom=3, pan=0.2)
    whole = pseudo_video(still, settings, seeded(9))
    real = pseudo_video(still.astype(np.float32) / 255, settings, seeded(9))
    assert whole.shape == real.shape == (6, 64, 64, 3)
    assert real.min() >= 0
    assert real.max() <= 1
    # Bytes are rounded and cut off between the two directions, too.
    assert np.abs(whole / 255 - real).mean() < 1 / 255
    assert np.ptp(real, axis=0).max() > 0.3


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1)])
def test_a_still_of_one_colour_gives_that_colour_at_any_size(size: tuple[int, int]) -> None:
    clip = pseudo_video(np.full((*size, 3), 77, np.uint8), CameraSettings(4, 9, 8, zoom=8, pan=4), seeded(0))
    assert clip.shape == (4, 8, 9, 3)
    assert (clip == 77).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": 0}, "frames is 0, expected a whole number from 1 to 4096"),
        ({"frames": None}, "frames is None"),
        ({"frames": 8.0}, "frames is 8.0"),
        ({"width": 0}, "width is 0, expected a whole number from 1 to 16384"),
        ({"height": 20000}, "height is 20000"),
        ({"zoom": 0.5}, "zoom is 0.5, expected a number from 1 to 8"),
        ({"zoom": math.nan}, "zoom is nan"),
        ({"pan": -0.1}, "pan is -0.1, expected a number from 0 to 4"),
        ({"pan": True}, "pan is True"),
        ({"direction": "up"}, "direction is 'up', expected one of in, out, random"),
        ({"easing": "cubic"}, "easing is 'cubic', expected one of linear, smooth"),
    ],
)
def test_invalid_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CameraSettings(**wrong)


def test_invalid_stills_are_refused() -> None:
    for still, message in (
        (np.zeros(5, np.uint8), r"got \[5\]"),
        (np.zeros((4, 4), np.uint8), r"\[H, W, 3\] with at least one pixel, got \[4, 4\]"),
        (np.zeros((4, 4, 4), np.uint8), r"got \[4, 4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), r"got \[0, 4, 3\]"),
        (np.zeros((4, 4, 3)), "uint8 from 0 to 255 or float32 from 0 to 1, got float64"),
    ):
        with pytest.raises(ValueError, match=message):
            pseudo_video(still, CameraSettings(), seeded(0))
    with pytest.raises(ValueError, match="65536 x 64 pixels, expected at most 16384 a side"):
        CameraSettings(height=64).size(1024, 1)
