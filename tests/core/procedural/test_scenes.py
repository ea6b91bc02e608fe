"""The procedural clips against closed forms: tracks, areas, anti-aliasing, captions."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from vidrd_core.procedural import (
    BACKGROUNDS,
    COLORS,
    DIRECTIONS,
    GROWTH,
    MOTIONS,
    SHAPES,
    SIZES,
    SLACK,
    SPIN_SLACK,
    SPINNING_SHAPES,
    VOCABULARY,
    Scene,
    Sprite,
    SpriteTruth,
    caption,
    coverage,
    describe,
    evaluation_scenes,
    random_scene,
    random_still,
    render,
    sample_clip,
    trajectory,
)
from vidrd_core.procedural.caption_parsing import parse_caption
from vidrd_core.procedural.captions import MOTION_PHRASES


def still(x: float, y: float, radius: float, angle: float = 0.0) -> SpriteTruth:
    """One frame's truth, in pixels and radians."""
    return SpriteTruth(np.array([[x, y]]), np.zeros((1, 2)), np.array([radius]), np.array([angle]))


def scenes_with(motion: str, count: int = 30) -> list[Scene]:
    """Random one-object scenes of one motion."""
    rng = np.random.default_rng(5)
    found: list[Scene] = []
    while len(found) < count:
        scene = random_scene(rng, two_objects=0)
        if scene.sprites[0].motion == motion:
            found.append(scene)
    return found


@pytest.mark.parametrize("motion", DIRECTIONS)
def test_straight_motion_is_at_constant_velocity(motion: str) -> None:
    for scene in scenes_with(motion):
        truth = trajectory(scene.sprites[0], 8, 64)
        np.testing.assert_allclose(np.diff(truth.position, axis=0), truth.velocity[1:], atol=1e-9)
        speed = np.abs(truth.velocity[0])
        assert (np.sign(truth.velocity[0]) == DIRECTIONS[motion]).all()
        assert ((speed[speed > 0] >= 3 - 1e-9) & (speed[speed > 0] <= 5.5 + 1e-9)).all()


def test_velocity_is_the_derivative_of_position() -> None:
    for motion in MOTIONS:
        truth = trajectory(scenes_with(motion, 1)[0].sprites[0], 401, 64)
        central = (truth.position[2:] - truth.position[:-2]) / 2
        np.testing.assert_allclose(central, truth.velocity[1:-1], atol=1e-3)


def test_bounce_returns_after_an_apex_in_mid_clip() -> None:
    sprite = scenes_with("bounce", 1)[0].sprites[0]
    truth = trajectory(sprite, 9, 64)
    np.testing.assert_allclose(truth.position, truth.position[::-1], atol=1e-9)
    assert truth.position[:, 1].argmin() == 4
    assert truth.position[0, 1] - truth.position[4, 1] == pytest.approx(64 * sprite.reach)


def test_circle_is_one_clockwise_turn() -> None:
    for scene in scenes_with("circle"):
        sprite = scene.sprites[0]
        arm = trajectory(sprite, 8, 64).position - np.array([sprite.x, sprite.y]) * 64
        np.testing.assert_allclose(np.linalg.norm(arm, axis=1), 64 * sprite.reach)
        turn = np.diff(np.unwrap(np.arctan2(arm[:, 1], arm[:, 0])))  # y points down: clockwise is positive
        np.testing.assert_allclose(turn, 2 * math.pi / 7)


def test_growing_spinning_and_staying() -> None:
    for first, second in (("grow", "shrink"), ("shrink", "grow")):
        sprite = scenes_with(first, 1)[0].sprites[0]
        radius = trajectory(sprite, 8, 64).radius / (64 * SIZES[sprite.size])
        np.testing.assert_allclose(radius, np.linspace(*GROWTH, 8)[:: 1 if first == "grow" else -1])
        reverse = trajectory(replace(sprite, motion=second), 8, 64).radius / (64 * SIZES[sprite.size])
        np.testing.assert_allclose(reverse, radius[::-1])
    for scene in scenes_with("spin"):
        assert scene.sprites[0].shape in SPINNING_SHAPES
        step = np.degrees(np.diff(trajectory(scene.sprites[0], 8, 64).angle))
        assert ((step >= 12 - 1e-9) & (step <= 15 + 1e-9)).all()
    for scene in scenes_with("stay", 4):
        frames = render(scene)
        assert (frames == frames[0]).all()


def test_area_of_the_drawn_disc() -> None:
    for radius in (8.0, 11.0, 14.0):
        area = coverage("circle", still(31.3, 32.8, radius), 64).sum()
        assert area == pytest.approx(math.pi * radius**2, rel=0.01)


@pytest.mark.parametrize("shape", SHAPES)
def test_areas_do_not_depend_on_the_angle_and_are_alike(shape: str) -> None:
    areas = [coverage(shape, still(32, 32, 12, angle), 64).sum() for angle in np.linspace(0, 1, 7)]
    assert np.ptp(areas) < 0.02 * np.mean(areas)
    assert 0.65 < np.mean(areas) / (math.pi * 12**2) < 1.1


@pytest.mark.parametrize("shape", SHAPES)
def test_edges_are_anti_aliased(shape: str) -> None:
    """Over sub-pixel shifts the area hardly changes and the centre of mass follows the shift."""
    shifts = np.linspace(0, 1, 11)
    masks = [coverage(shape, still(32 + shift, 32, 10), 64)[0] for shift in shifts]
    areas = np.array([mask.sum() for mask in masks])
    centres = np.array([(mask.sum(0) @ (np.arange(64) + 0.5)) / mask.sum() for mask in masks])
    assert np.ptp(areas) < 0.03 * areas.mean()
    np.testing.assert_allclose(centres - 32, shifts, atol=0.06)
    assert ((masks[3] > 0.05) & (masks[3] < 0.95)).any()


@pytest.mark.parametrize(("size", "frames"), [(64, 8), (128, 8), (64, 16)])
def test_sprites_keep_off_the_border(size: int, frames: int) -> None:
    rng = np.random.default_rng(2)
    for _ in range(100):
        scene = random_scene(rng, two_objects=0.3)
        video = render(scene, frames, size)
        assert video.shape == (frames, size, size, 3)
        edges = [video[:, 0], video[:, -1], video[:, :, 0], video[:, :, -1]]
        assert all((edge == BACKGROUNDS[scene.background]).all() for edge in edges)


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_middle_of_a_path_is_near_the_center_of_the_frame(motion: str) -> None:
    middles = []
    for scene in scenes_with(motion):
        track = trajectory(scene.sprites[0], 401, 64).position / 64
        middles.append((track.min(0) + track.max(0)) / 2 - 0.5)
    slack = SPIN_SLACK if motion == "spin" else SLACK
    assert slack / 2 < np.abs(middles).max() <= slack + 1e-4


def test_two_sprites_have_their_own_lanes_and_colors() -> None:
    rng = np.random.default_rng(3)
    for _ in range(100):
        scene = random_scene(rng, two_objects=1)
        first, second = (trajectory(sprite, 8, 64) for sprite in scene.sprites)
        axis = 1 if scene.layout == "stacked" else 0
        assert (first.position[:, axis] < 32).all()
        assert (second.position[:, axis] > 32).all()
        assert scene.sprites[0].color != scene.sprites[1].color
        masks = [coverage(s.shape, t, 64) for s, t in zip(scene.sprites, (first, second), strict=True)]
        assert (masks[0] * masks[1]).max() == 0


def test_the_same_generator_gives_the_same_bits() -> None:
    one, two = (sample_clip(np.random.default_rng(11), two_objects=0.5) for _ in range(2))
    assert (one.frames == two.frames).all()
    assert (one.caption, one.scene) == (two.caption, two.scene)
    assert (one.frames == render(one.scene)).all()
    assert sample_clip(np.random.default_rng(12)).caption != one.caption


def test_captions_stay_inside_the_vocabulary_and_use_all_of_it() -> None:
    rng = np.random.default_rng(4)
    said: Counter[str] = Counter()
    for _ in range(5000):
        scene = random_scene(rng, two_objects=0.2)
        said.update(caption(scene, rng).split())
        assert set(describe(scene).split()) <= set(VOCABULARY)
    said.update(caption(random_still(rng), rng, still=True).split())
    assert set(said) == set(VOCABULARY)
    assert list(VOCABULARY) == sorted(set(VOCABULARY))


def test_what_a_caption_leaves_out_has_its_default() -> None:
    rng = np.random.default_rng(5)
    unsaid: Counter[str] = Counter()
    for _ in range(3000):
        scene = random_scene(rng, two_objects=0.0)
        words, (sprite,) = caption(scene, rng).split(), scene.sprites
        motion = {word for phrase in MOTION_PHRASES[sprite.motion] for word in phrase.split()} & set(words)
        for what, said, silent in (
            ("background", scene.background in words, scene.background == "black"),
            ("size", {"small", "tiny", "large", "big"} & set(words), sprite.size == "medium"),
            ("motion", motion, sprite.motion == "stay"),
        ):
            if what == "size" and sprite.motion in ("grow", "shrink"):
                continue
            unsaid[what] += not said
            assert said or silent, (what, words)
    assert min(unsaid.values()) > 50


def test_canonical_captions() -> None:
    circle = Sprite("circle", "red", "large", "right", 0.3, 0.3, 0.4)
    square = Sprite("square", "orange", "medium", "stay", 0.5, 0.75)
    assert describe(Scene("black", (circle,))) == "a large red circle moving right on a black background"
    assert describe(Scene("navy", (circle, square), "stacked")) == (
        "a large red circle moving right above an orange square standing still on a navy background"
    )
    grown = Sprite("star", "cyan", "large", "grow", 0.5, 0.5)
    assert describe(Scene("gray", (grown,))) == "a cyan star growing on a gray background"


def test_evaluation_scenes_are_balanced_and_fixed() -> None:
    scenes = evaluation_scenes(168, seed=0)
    assert scenes == evaluation_scenes(168, seed=0)
    assert scenes != evaluation_scenes(168, seed=1)
    sprites = [scene.sprites[0] for scene in scenes]
    for words, known in (
        ([sprite.shape for sprite in sprites], SHAPES),
        ([sprite.color for sprite in sprites], COLORS),
        ([sprite.motion for sprite in sprites], MOTIONS),
        ([scene.background for scene in scenes], BACKGROUNDS),
    ):
        counts = Counter(words)
        assert set(counts) == set(known)
        assert set(counts.values()) == {168 // len(known)}
    assert all(sprite.shape in SPINNING_SHAPES for sprite in sprites if sprite.motion == "spin")


def test_unknown_words_are_refused() -> None:
    with pytest.raises(ValueError, match="pentagon"):
        Sprite("pentagon", "red", "small", "stay", 0.5, 0.5)
    sprite = Sprite("ring", "red", "small", "stay", 0.5, 0.5)
    with pytest.raises(ValueError, match="pink"):
        Scene("pink", (sprite,))
    with pytest.raises(ValueError, match="stacked"):
        Scene("black", (sprite,), "stacked")


def test_captions_are_parsed() -> None:
    rng = np.random.default_rng(5)
    for _ in range(400):
        scene = random_scene(rng, two_objects=0.5)
        for text in (caption(scene, rng), describe(scene), f"{caption(scene, rng)}.".capitalize()):
            found = parse_caption(text)
            assert found is not None, text
            assert (found.background, found.layout) == (scene.background, scene.layout)
            for read, sprite in zip(found.sprites, scene.sprites, strict=True):
                assert (read.shape, read.color, read.motion) == (sprite.shape, sprite.color, sprite.motion)
    for text in ("a dog on a beach", "a red circle moving right and barking", "", "red circle"):
        assert parse_caption(text) is None
