"""Scores of models whose answer is known, and records that survive being stopped."""

import json
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import TEXT, UNET, VAE, randomise
from vidrd_core.data.shapes import COLORS, MOTIONS, VOCABULARY, Scene, describe, evaluation_scenes, render
from vidrd_core.evaluation import score
from vidrd_core.evaluation.motion import measure
from vidrd_core.evaluation.report import TRAITS, summarise, table, wilson
from vidrd_core.evaluation.score import ScoreSettings, read_records, score_model
from vidrd_core.models.config import DiffusionConfig
from vidrd_core.models.parts import save_text_encoder, save_unet, save_vae
from vidrd_core.models.text import TextEncoder
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.pipeline import VidRD
from vidrd_core.reuse import ReuseSettings

SEED = 31
FAST = {"prompts": 3, "clips": 3, "steps": 2, "reuse": ReuseSettings(prompt_frames=3)}
PERFECT = {"prompts": 14, "clips": 4, "scene_seed": SEED, "reuse": ReuseSettings(prompt_frames=0)}


class Lossless(nn.Identity):
    """A VAE whose latents are the pixels."""

    def encode(self, video):
        return video

    decode = encode


class Painter(VidRD):
    """Draws the scene that it is asked for, as `paint` has it, in every clip anew."""

    def __init__(self, paint=lambda scene: scene, backwards=False):
        super().__init__(nn.Linear(1, 1), Lossless(), nn.Identity(), DiffusionConfig(frames=8, size=64), "painter")
        self.paint, self.backwards = paint, backwards
        scenes = [each for objects in (1, 2) for each in evaluation_scenes(PERFECT["prompts"], SEED, objects)]
        self.scenes = {describe(each): each for each in scenes}
        for objects in (1, 2):
            free = ScoreSettings(scene_seed=SEED, objects=objects, captions="free")
            drawn = evaluation_scenes(PERFECT["prompts"], SEED, objects)
            self.scenes |= {free.text_of(index, each): each for index, each in enumerate(drawn)}
        self.signature = "painter"

    def generate(self, prompt, reuse, **settings):
        return SimpleNamespace(index=0, prompt=prompt, state=prompt)

    def stream(self, prompt, clips, reuse, *, state, **settings):
        return (SimpleNamespace(index=index, prompt=prompt) for index in range(1, clips))

    def frames(self, chain):
        way = -1 if self.backwards else 1
        video = render(self.paint(self.scenes[chain[0].prompt]), 8, 64)
        return np.concatenate([video[:: way**clip.index] for clip in chain])


def repaint(**changes):
    """Draw every scene with other words: each word's successor in the list that is given for it."""

    def paint(scene):
        (sprite,) = scene.sprites
        after = {key: words[(words.index(getattr(sprite, key)) + 1) % len(words)] for key, words in changes.items()}
        return Scene(scene.background, (replace(sprite, **after),))

    return paint


def right(shares):
    return {trait: (share["right"], share["of"]) for trait, share in shares.items()}


@pytest.fixture(scope="module")
def scribbler():
    """Random weights with the vocabulary of the scenes."""
    text = replace(TEXT, words=VOCABULARY, max_length=20)
    return VidRD(
        randomise(UNet3D(UNET)),
        randomise(TemporalVAE(VAE), 1),
        randomise(TextEncoder(text), 2),
        DiffusionConfig(prediction="v", frames=8, size=32, cfg=3.0),
        "scribbler",
    )


@pytest.fixture(scope="module")
def perfect(tmp_path_factory):
    """The records of a model that is always right."""
    return score_model(Painter(), tmp_path_factory.mktemp("perfect") / "records.jsonl", **PERFECT)


def timeless(records):
    return [{key: value for key, value in record.items() if "seconds" not in key} for record in records]


# --- what the score says ---


def test_a_perfect_model_is_always_right(perfect):
    summary = summarise(perfect)
    for order in ("mirror", "forward"):
        result = summary["orders"][order]
        assert list(result["clips"]) == ["1", "2", "3", "4"]
        for shares in result["clips"].values():
            assert right(shares) == dict.fromkeys(TRAITS, (14, 14))
        assert result["directions"]["jumped"] == 1  # each clip is drawn anew, from where the motion starts
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
        records = score_model(
            Painter(), tmp_path / f"{objects}.jsonl", **PERFECT, captions="free", objects=objects, orders=("mirror",)
        )
        said = {record["text"] for record in records}
        assert len(said - set(map(describe, evaluation_scenes(14, SEED, objects)))) > 7
        shares = summarise(records)["orders"]["mirror"]["clips"]["1"]
        assert right(shares) == dict.fromkeys(TRAITS, (14, 14))


def test_two_objects_must_both_be_right(tmp_path):
    def repainted(scene):
        first, second = scene.sprites
        color = next(word for word in COLORS if word not in (first.color, second.color))
        return replace(scene, sprites=(first, replace(second, color=color)))

    for paint, share in ((lambda scene: scene, 1), (repainted, 0)):
        records = score_model(Painter(paint), tmp_path / f"{share}.jsonl", **PERFECT, objects=2)
        for shares in summarise(records)["orders"]["forward"]["clips"].values():
            assert (shares["color"]["share"], shares["all"]["share"]) == (share, share)
            assert shares["shape"]["share"] == shares["motion"]["share"] == 1
        assert {record["motion"].count(" and ") for record in records} == {1}
        for word, row in summarise(records)["by_motion"].items():
            assert list(row["read_as"]) == [word]  # however the two are ordered


def test_wrong_colours_are_never_right(tmp_path):
    painter = Painter(repaint(color=list(COLORS)))
    summary = summarise(score_model(painter, tmp_path / "records.jsonl", **PERFECT, orders=("forward",)))
    for shares in summary["orders"]["forward"]["clips"].values():
        found = right(shares)
        assert [found[trait][0] for trait in ("color", "color+shape", "all")] == [0, 0, 0]
        assert [found[trait][0] for trait in ("shape", "motion", "background")] == [14, 14, 14]
    assert "mirror" not in summary["orders"]


def test_wrong_shapes_are_told_in_the_breakdown(tmp_path):
    painter = Painter(repaint(shape=["circle", "square", "triangle", "star", "cross", "ring"]))
    summary = summarise(score_model(painter, tmp_path / "records.jsonl", **PERFECT, orders=("mirror",)))
    assert summary["by_shape"]["triangle"]["shape"]["right"] == 0
    assert list(summary["by_shape"]["triangle"]["read_as"]) == ["star"]
    assert summary["by_shape"]["triangle"]["color"]["share"] == 1


def test_mirrored_clips_turn_back(tmp_path):
    painter = Painter(backwards=True)
    result = summarise(score_model(painter, tmp_path / "records.jsonl", **PERFECT, orders=("mirror",)))["orders"]
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


# --- records ---


def test_a_stopped_run_goes_on_where_it_was(scribbler, tmp_path):
    seen = []
    whole = score_model(scribbler, tmp_path / "whole.jsonl", on_record=lambda *count: seen.append(count), **FAST)
    assert [(record["prompt"], record["order"]) for record in whole[:4]] == [
        (0, "mirror"), (0, "forward"), (0, "real"), (1, "mirror"),
    ]  # fmt: skip
    assert seen[-1] == (len(whole), len(whole)) == (9, 9)
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    stopped = tmp_path / "stopped.jsonl"
    stopped.write_bytes(b"".join(lines[:6]) + lines[6][:40])
    resumed = score_model(scribbler, stopped, **FAST)
    assert timeless(resumed) == timeless(whole)
    again = stopped.read_bytes()
    assert again.startswith(b"".join(lines[:6]))
    score_model(scribbler, stopped, **FAST)
    assert stopped.read_bytes() == again
    (tmp_path / "unbegun.jsonl").write_bytes(lines[0])  # nothing but the header of other settings
    assert len(score_model(scribbler, tmp_path / "unbegun.jsonl", prompts=1, clips=1, steps=1)) == 3


def test_records_of_other_settings_or_models_are_refused(scribbler, tmp_path):
    out = tmp_path / "records.jsonl"
    small = {"prompts": 1, "clips": 1, "orders": ("mirror",)}
    score_model(scribbler, out, steps=2, **small)
    with pytest.raises(ValueError, match=r"holds records of steps 2 \(now 3\): choose another file"):
        score_model(scribbler, out, steps=3, **small)
    with pytest.raises(ValueError, match=r"holds records of alpha 4\.0 \(now 1\), beta 0\.4 \(now 1\)"):
        score_model(scribbler, out, steps=2, reuse=ReuseSettings(alpha=1, beta=1), **small)
    for part in ("unet", "vae", "text_encoder"):
        parts = {name: getattr(scribbler, name) for name in ("unet", "vae", "text_encoder")}
        kind, config = type(parts[part]), parts[part].config
        other = VidRD(**{**parts, part: randomise(kind(config), 9)}, diffusion=scribbler.diffusion)
        with pytest.raises(ValueError, match=r"holds records of weights '\w{12}' \(now '\w{12}'\)"):
            score_model(other, out, steps=2, **small)
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(ValueError, match="does not begin as records of format 2 do"):
        score_model(scribbler, tmp_path / "other.jsonl", steps=2, **small)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompts": 0}, "prompts is 0, expected 1 or more"),
        ({"solver": "euler"}, "solver is 'euler', expected one of ddim"),
        ({"orders": ("mirror", "mirror")}, "expected some of mirror, forward, each once"),
        ({"objects": 3}, "objects is 3, expected 1 or 2"),
        ({"captions": "short"}, "captions are 'short', expected plain or free"),
        ({"orders": ("backward",)}, "expected some of mirror, forward, each once"),
        ({"workers": 2}, "workers is 2: expected 1 or more, and 1 for a model that is not given by its name"),
        ({"reuse": ReuseSettings(prompt_frames=8)}, "expected less than the 8 frames"),
    ],
)
def test_settings_that_cannot_be(scribbler, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        score_model(scribbler, tmp_path / "records.jsonl", **settings)
    assert not (tmp_path / "records.jsonl").exists()


@pytest.mark.parametrize("order", ["mirror", "forward"])
def test_a_record_is_of_the_chain_that_the_pipeline_makes(scribbler, tmp_path, order):
    reuse = ReuseSettings(3, order=order)
    for record in score_model(scribbler, tmp_path / "records.jsonl", **FAST, seed=7):
        if record["order"] == order:
            scene = evaluation_scenes(FAST["prompts"], score.SCENE_SEED)[record["prompt"]]
            chain = list(scribbler.stream(describe(scene), 3, reuse, steps=2, seed=7 + record["prompt"]))
            measured = measure(scribbler.frames(chain), scene, 8, 3, reuse)
            assert {name: record[name] for name in measured} == measured


def test_what_a_forward_clip_repeats_is_what_was_there(scribbler):
    """So these frames need not be decoded again."""
    chain = list(scribbler.stream("a red circle", 3, ReuseSettings(3, order="forward"), steps=2, seed=7))
    for before, after in pairwise(chain):
        torch.testing.assert_close(after.state.latents[:, :, :3], before.state.latents[:, :, -3:])


def test_the_command_with_processes(scribbler, tmp_path, capsys):
    model, out = tmp_path / "model", tmp_path / "score"
    model.mkdir()
    save_unet(scribbler.unet, scribbler.diffusion, model / "unet.safetensors")
    save_vae(scribbler.vae, model / "vae.safetensors")
    save_text_encoder(scribbler.text_encoder, model / "text_encoder.safetensors")
    command = f"--model {model} --prompts 1 --clips 3 --steps 2 --prompt-frames 3 --workers 2 --sheets 1 -o {out}"
    score.main(command.split())
    assert capsys.readouterr().out.strip() == (out / "table.md").read_text(encoding="utf-8").strip()
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert (summary["settings"]["steps"], summary["settings"]["prompt_frames"]) == (2, 3)
    assert summary["orders"]["mirror"]["threads"] == [1]
    assert sorted(path.name for path in (out / "sheets").iterdir()) == ["0000_forward.png", "0000_mirror.png"]
    alone = score_model(scribbler, tmp_path / "alone.jsonl", **{**FAST, "prompts": 1})
    together = read_records(out / "records.jsonl")[1]
    keys = ("prompt", "order", "text", "color", "shape", "motion")
    assert [[record[key] for key in keys] for record in together] == [
        [record[key] for key in keys] for record in alone
    ]
    for one, other in zip(together, alone, strict=True):  # threads may differ in the last bit
        np.testing.assert_allclose(one["seam_ratio"], other["seam_ratio"], rtol=0.02)
    with pytest.raises(SystemExit, match=r"error: .*holds records of steps 2"):
        score.main([*command.split(), "--steps", "3"])


def test_the_table_names_every_row_and_holds_no_nan(perfect):
    text = table(summarise(perfect))
    for row in ("drawn clips through the VAE", "mirror, clip 1", "forward, clip 2", "| up-left |", "| ring |"):
        assert row in text
    assert "100 (78-100)" in text
    assert "nan" not in text
    for lines in text.split("\n\n"):
        widths = {line.count("|") for line in lines.splitlines() if line.startswith("|")}
        assert len(widths) <= 1
    assert "| mirror, clip 1 |" not in table(summarise([r for r in perfect if r["order"] == "real"]))
