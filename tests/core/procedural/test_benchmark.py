"""The benchmark of models where the answer is known."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn

from vidrd_core.pipeline import VidRD
from vidrd_core.procedural import COLORS, MOTIONS, Scene, describe, evaluation_scenes, render
from vidrd_core.procedural.benchmark import BenchmarkSettings, run_benchmark
from vidrd_core.procedural.benchmark_report import TRAITS, summarize, table, wilson
from vidrd_core.reuse import ReuseSettings
from vidrd_core.sampling import DiffusionConfig

SEED = 31
PERFECT = {"prompts": 14, "clips": 4, "scene_seed": SEED, "reuse": ReuseSettings(prompt_frames=0)}


class Lossless(nn.Identity):
    """A VAE whose latents are the pixels."""

    def encode(self, video):
        return video

    decode = encode


class Painter(VidRD):
    """Draws the scene of its prompt, changed by `paint`, in every clip from its start."""

    def __init__(self, paint=lambda scene: scene, backwards=False):
        super().__init__(nn.Linear(1, 1), Lossless(), nn.Identity(), DiffusionConfig(frames=8, size=64), "painter")
        self.paint, self.backwards = paint, backwards
        scenes = [each for objects in (1, 2) for each in evaluation_scenes(PERFECT["prompts"], SEED, objects)]
        self.scenes = {describe(each): each for each in scenes}
        for objects in (1, 2):
            free = BenchmarkSettings(scene_seed=SEED, objects=objects, captions="free")
            drawn = evaluation_scenes(PERFECT["prompts"], SEED, objects)
            self.scenes |= {free.text_of(index, each): each for index, each in enumerate(drawn)}
        self.signature = "painter"

    def generate_many(self, prompts, seeds, reuse, **settings):
        return [SimpleNamespace(index=0, prompt=prompt, state=0) for prompt in prompts]

    def extend_many(self, states, prompts, reuse, **settings):
        return [
            SimpleNamespace(index=index + 1, prompt=prompt, state=index + 1)
            for index, prompt in zip(states, prompts, strict=True)
        ]

    def frames(self, chain):
        way = -1 if self.backwards else 1
        video = render(self.paint(self.scenes[chain[0].prompt]), 8, 64)
        return np.concatenate([video[:: way**clip.index] for clip in chain])


def repaint(**changes):
    """Draw every scene with other words: each word's successor in its list."""

    def paint(scene):
        (sprite,) = scene.sprites
        after = {key: words[(words.index(getattr(sprite, key)) + 1) % len(words)] for key, words in changes.items()}
        return Scene(scene.background, (replace(sprite, **after),))

    return paint


def right(shares):
    return {trait: (share["right"], share["of"]) for trait, share in shares.items()}


@pytest.fixture(scope="module")
def perfect(tmp_path_factory):
    """The records of a perfect model."""
    return run_benchmark(Painter(), tmp_path_factory.mktemp("perfect") / "records.jsonl", **PERFECT)


def test_a_perfect_model_is_always_right(perfect):
    summary = summarize(perfect)
    for order in ("mirror", "forward"):
        result = summary["orders"][order]
        assert list(result["clips"]) == ["1", "2", "3", "4"]
        for shares in result["clips"].values():
            assert right(shares) == dict.fromkeys(TRAITS, (14, 14))
        assert result["directions"]["jumped"] == 1  # each clip is drawn from the start of the motion
        assert result["straight_seams"] == 3 * 8
        one_way, comes_back = (result["by_kind"][kind]["seam_ratio"] for kind in ("one way", "comes back"))
        assert one_way["median"] > 1.5 > comes_back["low"]
        assert result["seam_ratio"]["of"] == 3 * 14
        assert result["mirror_score"]["median"] < 0
    assert summary["orders"]["mirror"]["loop_period"] == 16
    assert summary["orders"]["forward"]["loop_period"] == 8
    assert right(summary["real"]) == dict.fromkeys(TRAITS, (14, 14))
    assert all(row["all"]["share"] == 1 for key in ("by_motion", "by_shape") for row in summary[key].values())
    assert {word: row["all"]["of"] for word, row in summary["by_motion"].items()} == dict.fromkeys(MOTIONS, 1)


def test_free_captions_say_the_same_in_other_words(tmp_path):
    for objects in (1, 2):
        records = run_benchmark(
            Painter(), tmp_path / f"{objects}.jsonl", **PERFECT, captions="free", objects=objects, orders=("mirror",)
        )
        said = {record["text"] for record in records}
        assert len(said - set(map(describe, evaluation_scenes(14, SEED, objects)))) > 7
        shares = summarize(records)["orders"]["mirror"]["clips"]["1"]
        assert right(shares) == dict.fromkeys(TRAITS, (14, 14))


def test_two_objects_must_both_be_right(tmp_path):
    def repainted(scene):
        first, second = scene.sprites
        color = next(word for word in COLORS if word not in (first.color, second.color))
        return replace(scene, sprites=(first, replace(second, color=color)))

    for paint, share in ((lambda scene: scene, 1), (repainted, 0)):
        records = run_benchmark(Painter(paint), tmp_path / f"{share}.jsonl", **PERFECT, objects=2)
        for shares in summarize(records)["orders"]["forward"]["clips"].values():
            assert (shares["color"]["share"], shares["all"]["share"]) == (share, share)
            assert shares["shape"]["share"] == shares["motion"]["share"] == 1
        assert {record["motion"].count(" and ") for record in records} == {1}
        for word, row in summarize(records)["by_motion"].items():
            assert list(row["read_as"]) == [word]  # however the two are ordered


def test_wrong_colors_are_never_right(tmp_path):
    painter = Painter(repaint(color=list(COLORS)))
    summary = summarize(run_benchmark(painter, tmp_path / "records.jsonl", **PERFECT, orders=("forward",)))
    for shares in summary["orders"]["forward"]["clips"].values():
        found = right(shares)
        assert [found[trait][0] for trait in ("color", "color+shape", "all")] == [0, 0, 0]
        assert [found[trait][0] for trait in ("shape", "motion", "background")] == [14, 14, 14]
    assert "mirror" not in summary["orders"]


def test_wrong_shapes_appear_in_the_breakdown(tmp_path):
    painter = Painter(repaint(shape=["circle", "square", "triangle", "star", "cross", "ring"]))
    summary = summarize(run_benchmark(painter, tmp_path / "records.jsonl", **PERFECT, orders=("mirror",)))
    assert summary["by_shape"]["triangle"]["shape"]["right"] == 0
    assert list(summary["by_shape"]["triangle"]["read_as"]) == ["star"]
    assert summary["by_shape"]["triangle"]["color"]["share"] == 1


def test_mirrored_clips_reverse_motion(tmp_path):
    painter = Painter(backwards=True)
    result = summarize(run_benchmark(painter, tmp_path / "records.jsonl", **PERFECT, orders=("mirror",)))["orders"]
    assert result["mirror"]["directions"]["reversed"] == 1
    assert result["mirror"]["seam_ratio"]["median"] < 0.01
    assert result["mirror"]["mirror_score"]["median"] > 0.3
    assert result["mirror"]["clips"]["1"]["all"]["share"] == 1
    assert result["mirror"]["clips"]["4"]["motion"]["share"] < 0.5


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662), (0, 0, 0, 1)],
)
def test_wilson_intervals(hits, of, low, high):
    assert wilson(hits, of) == pytest.approx((low, high), abs=1e-4)


def test_the_table_names_every_row_and_holds_no_nan(perfect):
    text = table(summarize(perfect))
    for row in ("drawn clips through the VAE", "mirror, clip 1", "forward, clip 2", "| up-left |", "| ring |"):
        assert row in text
    assert "100 (78-100)" in text
    assert "nan" not in text
    for lines in text.split("\n\n"):
        widths = {line.count("|") for line in lines.splitlines() if line.startswith("|")}
        assert len(widths) <= 1
    assert "| mirror, clip 1 |" not in table(summarize([r for r in perfect if r["order"] == "real"]))
