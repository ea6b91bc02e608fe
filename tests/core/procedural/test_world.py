"""The drawn world: its physics, its captions, and that a clip's pixels tell all that a caption leaves open."""

from dataclasses import replace

import numpy as np
import pytest

from vidrd_core.procedural import world
from vidrd_core.procedural.datasets import WorldData
from vidrd_core.procedural.shapes import EXTENTS
from vidrd_core.procedural.world.alignment import alignment, moves_as
from vidrd_core.procedural.world.captions import every_caption, sentence, wanted_of
from vidrd_core.procedural.world.motion import torus_distance
from vidrd_core.procedural.world.readout import UNCLEAR, circular_distance, circular_mean, difference
from vidrd_core.procedural.world.things import HUE_SLACK, RADII, SPEEDS

FRAMES = 8
INSTANCES = [
    world.random_instance(np.random.default_rng((5, i)), [world.MOTIONS[i % len(world.MOTIONS)]]) for i in range(72)
]


@pytest.fixture(scope="module")
def readouts():
    """What is read from two clips of each instance, the second where the first ends."""
    return [
        tuple(world.read_out(world.render(each, FRAMES, start=start)) for start in (0, FRAMES)) for each in INSTANCES
    ]


def test_all_that_captions_leave_open_varies():
    things = [each.thing for each in INSTANCES]
    assert {each.pattern for each in things} == set(world.PATTERNS)
    assert {each.ground.pattern for each in INSTANCES} == set(world.GROUNDS)
    for values, low, high in (
        ([circular_distance(each.hue, world.COLORS[each.color], 360) for each in things], 0, HUE_SLACK),
        ([each.radius for each in things], *RADII),
        ([each.motion.x for each in INSTANCES], 0, 1),
        ([each.ground.landmark[1] for each in INSTANCES], 0, 1),
        ([each.motion.speed for each in INSTANCES if each.motion.speed], *SPEEDS),
    ):
        share = (np.array(values) - low) / (high - low)
        assert -0.01 <= share.min() < 0.3
        assert 0.7 < share.max() <= 1


def test_a_clip_goes_on_where_the_one_before_it_ended():
    for each in INSTANCES[:: len(INSTANCES) // 18]:
        whole = world.render(each, 2 * FRAMES)
        assert np.array_equal(world.render(each, FRAMES, start=FRAMES), whole[FRAMES:])


def test_captions_say_what_there_is_and_are_understood():
    rng = np.random.default_rng(0)
    for each in INSTANCES:
        for text in (world.describe(each), world.caption(each, rng)):
            assert set(text.split()) <= set(world.VOCABULARY)
            assert world.parse(text) == wanted_of(each)
    assert len({sentence(each) for each in every_caption()}) == len(every_caption())
    assert world.parse("A Red star drifting  right over a striped ground.") is not None
    for text in (
        "",
        "a red star",
        "a red star flying over a striped ground",
        "a big star spinning over a plain ground",
    ):
        assert world.parse(text) is None


def test_what_a_clip_shows_is_read_from_its_pixels(readouts):
    for each, (found, _) in zip(INSTANCES, readouts, strict=True):
        truth = world.states(each, FRAMES)
        assert found.visible.all()
        assert (found.color, found.shape) == (each.thing.color, each.thing.shape)
        assert (found.pattern, found.ground_pattern) == (each.thing.pattern, each.ground.pattern), each
        assert torus_distance(truth.position, found.position).max() * 64 < 0.8
        assert np.abs(np.log(found.radius / truth.radius)).max() < 0.1
        assert circular_distance(circular_mean(found.hue, 360.0), each.thing.hue, 360.0) < 2


def test_how_far_the_ground_moves_is_read_from_it(readouts):
    followed = [i for i, each in enumerate(INSTANCES) if each.motion.word.startswith("follow")]
    errors = []
    for i, (found, _) in enumerate(readouts):
        apart = torus_distance(world.states(INSTANCES[i], FRAMES).ground, found.ground_moved)
        errors.append(apart.max() * 64)
    assert np.median([errors[i] for i in followed]) < 0.3
    assert np.mean(np.array(errors) < 1) > 0.95  # not where the thing hides all that there is on a ground


def test_noise_hardly_changes_what_is_read():
    rng, right = np.random.default_rng(1), []
    for each in INSTANCES[::2]:
        clip = world.render(each, FRAMES)
        found = world.read_out(np.clip(clip + rng.normal(0, 10, clip.shape), 0, 255).astype(np.uint8))
        right += [found.color == each.thing.color, found.shape == each.thing.shape]
        right += [found.pattern == each.thing.pattern, found.ground_pattern == each.ground.pattern]
        assert torus_distance(world.states(each, FRAMES).position, found.position).max() * 64 < 1.5
    assert np.mean(right) > 0.95


def test_the_next_places_follow_from_those_before_by_the_law_of_motion(readouts):
    errors = {"bounce": [], "turning": [], "rest": []}
    for each, (before, after) in zip(INSTANCES, readouts, strict=True):
        edge = EXTENTS[each.thing.shape] * float(before.radius.mean())
        expected = world.predict(each.motion.word, before.position, FRAMES, edge)
        error = 64 * torus_distance(expected, after.position)
        kind = each.motion.word.partition(" ")[0]
        errors[kind if kind in errors else "turning" if kind in ("orbit", "swing") else "rest"].append(error)
        exact = world.states(each, FRAMES).position
        true = world.states(each, FRAMES, FRAMES).position
        if kind != "bounce":
            assert torus_distance(world.predict(each.motion.word, exact, FRAMES), true).max() * 64 < 0.5
    assert np.max(errors["rest"]) < 1
    assert np.max([each[0] for each in errors["turning"]]) < 1
    assert np.median([each[0] for each in errors["bounce"]]) < 0.6
    still = [64 * torus_distance(a.position[-1:], b.position[:1])[0] for a, b in readouts]
    moving = [i for i, each in enumerate(INSTANCES) if each.motion.word.startswith("drift")]
    assert np.min([still[i] for i in moving]) > 2, "a prediction that it stands still would be far off"


def test_two_clips_of_an_instance_are_told_from_clips_of_two(readouts):
    same = [difference(*pair).is_same for pair in readouts]
    assert np.mean(same) > 0.95
    rng, other = np.random.default_rng(3), []
    for each, (found, _) in zip(INSTANCES, readouts, strict=True):
        wanted = wanted_of(each)
        twin = world.random_instance(rng, [wanted.motion], wanted.shape, wanted.color, wanted.ground)
        other.append(difference(found, world.read_out(world.render(twin, FRAMES))).is_same)
    assert np.mean(other) < 0.1


def test_a_clip_without_a_thing_shows_none():
    found = world.read_out(np.full((4, 64, 64, 3), 90, np.uint8))
    assert not found.visible.any()
    assert (found.color, found.shape, found.pattern, found.ground_pattern) == (UNCLEAR, UNCLEAR, UNCLEAR, "plain")
    assert np.isnan(found.position).all()
    assert difference(found, found) is None


def test_two_things_are_not_taken_for_one():
    thing = world.Thing("circle", "red", 0.0, 0.15, "plain")
    first = world.Instance(thing, INSTANCES[0].ground, world.Motion("stay", 0.2, 0.2))
    second = world.Instance(thing, INSTANCES[0].ground, world.Motion("stay", 0.7, 0.7))
    both = np.maximum(world.render(first), world.render(second))
    found = world.read_out(both)
    assert found.color == UNCLEAR
    assert found.shape == UNCLEAR


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"motions": ("stay", "fly")}, "motions has 'fly', expected some of drift left"),
        ({"motions": ()}, "motions has none"),
        ({"clips": 0}, "clips is 0, expected 1 or more"),
        ({"grounds": ("sandy",)}, "grounds has 'sandy', expected some of plain, striped"),
        ({"radii": (12, 9)}, "radii are 12 and 9, expected a lower and a higher number from 4 to 20"),
        ({"speeds": (0, 9)}, "speeds are 0 and 9, expected a lower and a higher number from 0.5 to 16"),
    ],
)
def test_data_that_cannot_be_drawn_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        WorldData(**settings)


def test_clips_of_a_dataset_are_made_in_any_order():
    data = WorldData(clips=10, frames=4, seed=3, motions=("stay", "spin"))
    again = WorldData(clips=10, frames=4, seed=3, motions=("stay", "spin"))
    assert np.array_equal(data.frames_of(7), again.frames_of(7))
    assert data.instance(7) != data.instance(6)
    assert {data.instance(i).motion.word for i in range(10)} == {"stay", "spin"}
    assert world.parse(data.caption(7, np.random.default_rng(0))) == world.parse(data.plain(7))


def test_an_easier_world_is_part_of_the_whole_one():
    easy = {
        "motions": ("drift up", "follow left"),
        "grounds": ("plain", "dotted"),
        "radii": (13, 15),
        "speeds": (6, 7),
    }
    data = WorldData(clips=40, seed=3, **easy)
    drawn = [data.instance(i) for i in range(40)]
    assert {each.motion.word for each in drawn} == set(easy["motions"])
    assert {each.ground.pattern for each in drawn} == set(easy["grounds"])
    assert all(13 / 64 <= each.thing.radius <= 15 / 64 for each in drawn)
    assert all(6 / 64 <= each.motion.speed <= 7 / 64 for each in drawn)
    assert {"grounds", "radii", "speeds"} <= set(data.made_of())
    assert set(WorldData().made_of()) == {"clips", "frames", "size", "motions", "seed", "world"}, (
        "as older caches tell"
    )


def test_bad_frames_and_too_few_are_refused():
    with pytest.raises(ValueError, match=r"expected square frames \[F, S, S, 3\], got \[4, 64, 32, 3\]"):
        world.read_out(np.zeros((4, 64, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="2 frames are given, expected 3 or more for orbit"):
        world.predict("orbit", np.zeros((2, 2)), 1)


def test_motions_are_recognised_by_their_laws_and_told_apart(readouts):
    right, wrong = [], []
    for each, pair in zip(INSTANCES, readouts, strict=True):
        for found in pair:
            right.append(moves_as(each.motion.word, found))
            others = [word for word in world.MOTIONS if word != each.motion.word]
            wrong += [
                moves_as(other, found)
                for other in others
                # Away from walls a bounce along a diagonal cannot be told from a drift.
                if {other, each.motion.word} & {"bounce"} != {"bounce"} or "-" not in other + each.motion.word
            ]
    assert np.mean(right) > 0.95
    assert np.mean(wrong) < 0.01


def test_a_clip_is_compared_with_its_caption(readouts):
    matching = [alignment(wanted_of(each), pair[0]) for each, pair in zip(INSTANCES, readouts, strict=True)]
    assert np.mean([each.all for each in matching]) > 0.95
    wanted = wanted_of(INSTANCES[0])
    for change in ({"color": "red"}, {"shape": "star"}, {"ground": "dotted"}, {"motion": "spin"}):
        changed = replace(wanted, **change)
        assert changed != wanted
        assert not alignment(changed, readouts[0][0]).all


def test_what_jumps_or_vanishes_moves_as_nothing():
    stay = next(each for each in INSTANCES if each.motion.word == "stay")
    clip = world.render(stay, FRAMES)
    jumping = clip.copy()
    jumping[4:] = np.roll(clip[4:], 20, axis=2)
    assert moves_as("stay", world.read_out(clip))
    assert not any(moves_as(word, world.read_out(jumping)) for word in world.MOTIONS)
    clip[5] = 90
    assert not any(moves_as(word, world.read_out(clip)) for word in world.MOTIONS)
