"""Recognition of drawn clips, clean or degraded, and of clips that show something else."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from vidrd_core.procedural import (
    COLORS,
    DIRECTIONS,
    SHAPES,
    Scene,
    Sprite,
    evaluation_scenes,
    random_scene,
    render,
    trajectory,
)
from vidrd_core.procedural.recognition import UNCLEAR, Comparison, compare, recognize
from vidrd_core.procedural.shape_matching import PERIODS

REVERSED = {"left": "right", "up": "down", "up-left": "down-right", "up-right": "down-left", "grow": "shrink"}
REVERSED |= {after: before for before, after in REVERSED.items()}


def degrade(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A binomial 3x3 blur, then Gaussian pixel noise of sigma 6/255."""
    video = frames.astype(np.float64)
    for axis in (1, 2):
        before, after = (np.roll(video, step, axis) for step in (1, -1))
        video = (before + 2 * video + after) / 4
    return np.clip(np.rint(video + rng.normal(0, 6, video.shape)), 0, 255).astype(np.uint8)


def read_score(frames: np.ndarray, scene: Scene) -> Comparison:
    return compare(recognize(frames, len(scene.sprites)), scene)


@pytest.mark.parametrize(("two_objects", "count"), [(0.0, 280), (1.0, 80)])
def test_drawn_clips_are_recognized_without_error(two_objects: float, count: int) -> None:
    rng = np.random.default_rng(7)
    for _ in range(count):
        scene = random_scene(rng, two_objects)
        assert read_score(render(scene), scene) == Comparison(True, True, True, True), scene


@pytest.mark.parametrize(("two_objects", "count"), [(0.0, 150), (1.0, 50)])
def test_noise_and_blur_hardly_matter(two_objects: float, count: int) -> None:
    rng = np.random.default_rng(8)
    right = 0
    for _ in range(count):
        scene = random_scene(rng, two_objects)
        result = read_score(degrade(render(scene), rng), scene)
        right += result.all and result.background
    assert right >= 0.98 * count


@pytest.mark.parametrize(("frames", "size"), [(16, 64), (8, 128), (12, 96)])
def test_other_lengths_and_sizes(frames: int, size: int) -> None:
    for scene in evaluation_scenes(28, seed=3):
        assert read_score(render(scene, frames, size), scene).all, scene


def test_measured_tracks_agree_with_the_truth() -> None:
    for scene in evaluation_scenes(84, seed=1):
        sprite = scene.sprites[0]
        truth, read = trajectory(sprite, 8, 64), recognize(render(scene)).sprites[0]
        assert read.visible.all()
        assert read.shape_score > 0.85
        np.testing.assert_allclose(read.positions, truth.position, atol=0.3)
        np.testing.assert_allclose(read.radius, truth.radius, rtol=0.06)
        if sprite.shape in PERIODS:
            apart = (read.angle - truth.angle) / PERIODS[sprite.shape]
            assert np.abs(apart - np.round(apart)).max() * np.degrees(PERIODS[sprite.shape]) < 6


def test_wrong_color_shape_and_background_do_not_match() -> None:
    for scene in evaluation_scenes(24, seed=2):
        sprite = replace(scene.sprites[0], motion="stay", reach=0.0, x=0.5, y=0.5)
        frames = render(Scene(scene.background, (sprite,)))
        for color in set(COLORS) - {sprite.color}:
            result = read_score(frames, Scene(scene.background, (replace(sprite, color=color),)))
            assert result == Comparison(False, True, True, True)
        for shape in set(SHAPES) - {sprite.shape}:
            result = read_score(frames, Scene(scene.background, (replace(sprite, shape=shape),)))
            assert result == Comparison(True, False, True, True)
        other = "black" if scene.background != "black" else "brown"
        assert not read_score(frames, Scene(other, (sprite,))).background


def test_reversed_clips_are_recognized_as_the_reversed_motion() -> None:
    for scene in evaluation_scenes(84, seed=4):
        motion = scene.sprites[0].motion
        read = recognize(render(scene)[::-1]).sprites[0].motion
        if motion in ("bounce", "stay"):  # the same both ways
            assert read == motion
        else:  # turning the other way has no word
            assert read == REVERSED.get(motion, UNCLEAR)


def test_a_frozen_clip_does_not_move() -> None:
    for scene in evaluation_scenes(56, seed=5):
        frozen = np.repeat(render(scene)[3:4], 8, axis=0)
        assert recognize(frozen).sprites[0].motion == "stay"


def teleport(frames: np.ndarray) -> np.ndarray:
    """The second half with its frames shifted by half the frame."""
    return np.concatenate([frames[:4], np.roll(frames[4:], (32, 32), axis=(1, 2))])


def half_missing(frames: np.ndarray) -> np.ndarray:
    """The sprite is gone in the last four frames."""
    return np.concatenate([frames[:4], np.broadcast_to(frames[0, 0, 0], frames[4:].shape)])


@pytest.mark.parametrize("spoil", [teleport, half_missing])
def test_broken_tracks_have_no_motion(spoil: Callable[[np.ndarray], np.ndarray]) -> None:
    for motion, (dx, dy) in DIRECTIONS.items():
        sprite = Sprite("square", "cyan", "small", motion, 0.5 - 0.2 * dx, 0.5 - 0.2 * dy, 0.4)
        reading = recognize(spoil(render(Scene("brown", (sprite,)))))
        assert reading.sprites[0].motion == UNCLEAR
        assert not compare(reading, Scene("brown", (sprite,))).all


def test_a_shuffled_clip_has_no_motion() -> None:
    order = [3, 0, 6, 2, 7, 4, 1, 5]
    for scene in evaluation_scenes(84, seed=6):
        if scene.sprites[0].motion in DIRECTIONS:
            assert recognize(render(scene)[order]).sprites[0].motion in (UNCLEAR, "stay")


def test_a_sprite_missing_in_one_frame() -> None:
    sprite = Sprite("star", "white", "medium", "right", 0.25, 0.5, 0.45)
    frames = render(Scene("navy", (sprite,)))
    frames[4] = frames[0, 0, 0]
    read = recognize(frames).sprites[0]
    assert read.visible.tolist() == [True] * 4 + [False] + [True] * 3
    assert np.isnan(read.positions[4]).all()
    assert (read.color, read.shape, read.motion) == ("white", "star", "right")


def test_an_empty_clip_shows_nothing() -> None:
    frames = np.full((8, 64, 64, 3), (15, 25, 80), np.uint8)
    for count in (1, 2):
        reading = recognize(frames, count)
        assert reading.background == "navy"
        assert [(s.color, s.shape, s.motion) for s in reading.sprites] == [(UNCLEAR,) * 3] * count
        assert not any(sprite.visible.any() for sprite in reading.sprites)


def test_half_a_shape_and_morphing_shapes_are_unclear() -> None:
    for shape in SHAPES:
        sprite = Sprite(shape, "red", "large", "stay", 0.5, 0.5)
        frames = render(Scene("black", (sprite,)))
        half = frames.copy()
        half[:, :, :32] = frames[0, 0, 0]
        assert recognize(half).sprites[0].shape == UNCLEAR
        other = render(Scene("black", (replace(sprite, shape=SHAPES[SHAPES.index(shape) - 1]),)))
        frames[1::2] = other[1::2]
        assert recognize(frames).sprites[0].shape == UNCLEAR


def test_a_flickering_color_is_unclear() -> None:
    for scene in evaluation_scenes(16, seed=9):
        sprite, frames = scene.sprites[0], render(scene)
        other = replace(sprite, color="blue" if sprite.color != "blue" else "red")
        repainted = render(Scene(scene.background, (other,)))
        frames[3] = repainted[3]
        assert read_score(frames, scene) == Comparison(True, True, True, True), "one frame is forgiven"
        frames[6] = repainted[6]
        assert not read_score(frames, scene).color


def test_a_second_sprite_is_not_overlooked() -> None:
    rng = np.random.default_rng(9)
    for _ in range(40):
        scene = random_scene(rng, 1.0)
        for sprite in scene.sprites:
            assert not read_score(render(scene), Scene(scene.background, (sprite,))).color
    twins = tuple(Sprite("circle", "red", "small", "stay", x, 0.5) for x in (0.15, 0.85))
    frames = render(Scene("black", twins[:1])) // 2 + render(Scene("black", twins[1:])) // 2 + 5
    assert recognize(frames).sprites[0].shape == UNCLEAR


def test_a_sprite_missing_in_two_frames_has_no_motion() -> None:
    for scene in evaluation_scenes(28, seed=8):
        frames = render(scene)
        frames[[3, 6]] = frames[0, 0, 0]
        assert not read_score(frames, scene).motion


def test_a_background_that_changes_is_unclear() -> None:
    scene = evaluation_scenes(1, seed=3)[0]
    frames = render(scene)
    other = "navy" if scene.background != "navy" else "brown"
    frames[5:] = render(Scene(other, scene.sprites))[5:]
    assert recognize(frames).background == UNCLEAR


def test_swapped_positions_of_two_sprites_are_wrong() -> None:
    first = Sprite("circle", "red", "small", "right", 0.25, 0.25, 0.4)
    second = Sprite("circle", "blue", "small", "right", 0.25, 0.75, 0.4)
    frames = render(Scene("black", (first, second), "stacked"))
    assert read_score(frames, Scene("black", (first, second), "stacked")).all
    assert not read_score(frames, Scene("black", (second, first), "stacked")).color


def test_a_missing_second_sprite_is_wrong() -> None:
    first = Sprite("circle", "red", "small", "right", 0.25, 0.25, 0.4)
    second = Sprite("square", "blue", "small", "left", 0.75, 0.75, 0.4)
    result = read_score(render(Scene("black", (first,))), Scene("black", (first, second), "stacked"))
    assert result == Comparison(False, False, False, True)
