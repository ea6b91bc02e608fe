"""The baselines for long videos, and their comparison."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vidrd_core.baselines import compare
from vidrd_core.baselines.base import Candidate, count_denoised_frames
from vidrd_core.baselines.clip_by_clip import IndependentClips, ReuseAndDiffuse
from vidrd_core.baselines.context_windows import ContextWindows
from vidrd_core.baselines.reconstruction_guidance import CleanFrameConditioning, ReconstructionGuidance
from vidrd_core.baselines.registry import candidates
from vidrd_core.baselines.repaint import RePaint
from vidrd_core.baselines.tables import MARKERS, write_docs
from vidrd_core.metrics.peak_memory import peak_memory_mib
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.models.word_text_encoder import TextEncoder
from vidrd_core.pipeline import VidRD
from vidrd_core.procedural import VOCABULARY, world
from vidrd_core.reuse import ReuseSettings
from vidrd_core.sampling import DiffusionConfig
from vidrd_core.settings import SampleSettings

from ...conftest import TEXT as TEXT_CONFIG
from ...conftest import UNET, VAE, randomise

TEXT = "a red circle"
FORWARD = ReuseSettings(2, order="forward")


@pytest.fixture(scope="module")
def sample(model):
    return model.complete(SampleSettings(seed=3, steps=4))


@pytest.mark.parametrize("freenoise", [False, True])
def test_one_window_is_a_plain_clip(model, sample, freenoise):
    made = ContextWindows(6, freenoise, True).generate(model, TEXT, 1, sample).video
    plain = model.frames(model.generate(TEXT, **vars(sample)))
    assert np.abs(made.astype(int) - plain).max() <= 1


def test_windows_overlap_and_cost_as_many_passes(model, sample):
    with count_denoised_frames(model) as count:
        made = ContextWindows(6).generate(model, TEXT, 4, sample)
    assert len(made.video) == 8 + 3 * 6
    assert count[0] == 4 * 8 * sample.steps * 2  # windows, frames, steps, cond and uncond
    assert made.reuse.repeated_frames == 2


def test_repaint_with_a_single_round_is_forward_order(model, sample):
    """This checks its DDIM and its replay against the real ones."""
    once = RePaint(1, FORWARD).generate(model, TEXT, 3, sample).video
    assert np.abs(once.astype(int) - ReuseAndDiffuse(FORWARD).generate(model, TEXT, 3, sample).video).max() <= 1
    assert np.abs(RePaint(2, FORWARD).generate(model, TEXT, 3, sample).video.astype(int) - once).max() > 1


def test_independent_clips_differ_and_cost_one_pass_per_frame(model, sample):
    with count_denoised_frames(model) as count:
        video = IndependentClips().generate(model, TEXT, 3, sample).video
    assert len(video) == 24
    assert count[0] == 24 * sample.steps * 2
    assert not np.array_equal(video[:8], video[8:16])


def test_every_method_generates_a_video_of_the_expected_length(model, sample):
    for candidate in candidates(8):
        made = candidate.method.generate(model, TEXT, 2, replace(sample, steps=1))
        assert len(made.video) == 16 - made.reuse.repeated_frames, candidate
        assert made.video.dtype == np.uint8


@pytest.fixture(scope="module", params=[VOCABULARY, world.VOCABULARY], ids=["shapes", "world"])
def compared(request, tmp_path_factory):
    """A folder, the arguments of a comparison of a small model in it, and the result, by kind of drawn clips."""
    small = VidRD(
        randomise(UNet3D(UNET)),
        randomise(TemporalVAE(VAE)),
        randomise(TextEncoder(replace(TEXT_CONFIG, words=request.param, max_length=20))),
        DiffusionConfig(prediction="v", frames=8, size=32, cfg=3.0),
    )
    small.signature = "small"
    folder = tmp_path_factory.mktemp("compared")
    given = {"prompts": 1, "tuning": 1, "clips": 2, "steps": 1, "solver": "ddim", "workers": 1, "sheets": 1}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("load", "_load_once"):
            patch.setattr(compare, name, lambda name: small)
        yield folder, given, compare.run("small", folder, **given)


def test_videos_of_a_single_clip_have_contact_sheets(compared, monkeypatch, tmp_path):
    """They add no frames after the first clip, so there is one row."""
    _, given, _ = compared
    monkeypatch.setattr(compare, "candidates", lambda *_: [Candidate("forward", "M=2", ReuseAndDiffuse(FORWARD))])
    comparison = compare.run("small", tmp_path, **{**given, "clips": 1})
    assert [row["method"] for row in comparison["methods"]] == ["forward"]
    assert (tmp_path / "sheets" / "000_forward.png").exists()


def test_a_stopped_run_is_resumed(compared):
    folder, given, first = compared
    path = folder / "records.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-2]) + '\n{"stage": "comp')
    again = compare.run("small", folder, **given)
    seconds = "seconds a shown frame"
    assert [{**row, seconds: 0} for row in first["methods"]] == [{**row, seconds: 0} for row in again["methods"]]
    assert [json.loads(line).get("setting") for line in path.read_text().splitlines()] == [
        json.loads(line).get("setting") for line in lines
    ]
    methods = {candidate.name for candidate in candidates(8)}
    assert {row["method"] for row in again["methods"]} == methods
    tables = compare.measure_of(compare.load("small")).tables(again["methods"])
    assert tables.count("\n") == 2 * (2 + len(methods)) + 1
    assert len(list((folder / "sheets").iterdir())) == len(methods)
    with pytest.raises(ValueError, match="choose another folder"):
        compare.run("small", folder, **{**given, "steps": 2})
    with pytest.raises(ValueError, match="choose another folder"):  # of which the first is another one
        compare.run("small", folder, **{**given, "prompts": 2})


def test_records_of_earlier_versions_are_resumed(compared, tmp_path):
    folder, given, first = compared
    older = (folder / "records.jsonl").read_text()
    for now, before in {
        "positions continue": "told to go on",
        "positions from 0": "told to begin",
        " anchor=": " drift=",
    }.items():
        assert now in older
        older = older.replace(now, before)
    (tmp_path / "records.jsonl").write_text(older)
    again = compare.run("small", tmp_path, **given)
    assert (tmp_path / "records.jsonl").read_text() == older, "nothing is made again"
    assert [row["setting"] for row in again["methods"]] == [row["setting"] for row in first["methods"]]
    assert again["tuning"] == first["tuning"]


def test_reconstruction_guidance_of_weight_0_is_forward_order(model, sample):
    made = ReconstructionGuidance(FORWARD, 0.0).generate(model, TEXT, 2, sample).video
    plain = ReuseAndDiffuse(FORWARD).generate(model, TEXT, 2, sample).video
    assert np.abs(made.astype(int) - plain).max() <= 1
    with count_denoised_frames(model) as count:
        guided = ReconstructionGuidance(FORWARD, 5.0).generate(model, TEXT, 2, sample).video
    assert count[0] == (8 + 2 * 8) * sample.steps * 2  # the gradient goes back through the second clip
    assert np.abs(guided[:6].astype(int) - plain[:6]).max() <= 1  # the decoder sees later frames
    assert not np.array_equal(guided[8:], plain[8:])


def test_clean_frame_conditioning_keeps_prompt_frames_and_changes_new_ones(model, sample):
    made = CleanFrameConditioning(FORWARD).generate(model, TEXT, 2, sample).video
    plain = ReuseAndDiffuse(FORWARD).generate(model, TEXT, 2, sample).video
    assert np.abs(made[:6].astype(int) - plain[:6]).max() <= 1  # the decoder sees later frames
    assert not np.array_equal(made[8:], plain[8:])


def test_chains_keep_only_finished_frames_in_memory_and_windows_keep_everything(model, sample):
    chain, windows = (
        [
            peak_memory_mib(lambda n=n, method=method: method.generate(model, TEXT, n, replace(sample, steps=1)))
            for n in (3, 9)
        ]
        for method in (ReuseAndDiffuse(FORWARD), ContextWindows(6, False, True))
    )
    frames = 6 * 6 * 32 * 32 * 3 / 2**20  # six clips more, of bytes
    assert chain[1] - chain[0] == pytest.approx(frames, rel=0.1)
    assert windows[1] > 1.3 * windows[0]


def test_peak_memory_counted_at_every_call_is_the_same(model, sample):
    def work():
        return ReuseAndDiffuse(FORWARD).generate(model, TEXT, 2, sample)

    assert peak_memory_mib(work, model.unet) == pytest.approx(peak_memory_mib(work), rel=0.02)
    assert not model.unet._forward_pre_hooks


def test_tables_and_pictures_are_written_into_the_docs(compared, tmp_path):
    folder, _, comparison = compared
    methods = [row["method"] for row in comparison["methods"]]
    tables = compare.measure_of(compare.load("small")).tables(comparison["methods"])
    assert tables.count(" / ") > 2 * len(methods)
    page = tmp_path / "long_videos.md"
    page.write_text("before\n")
    with pytest.raises(ValueError, match="has no place for the table"):
        write_docs(methods, tables, folder / "sheets", tmp_path, {"first": 0})
    page.write_text(f"before\n\n{MARKERS[0]}\nold\n{MARKERS[1]}\n\nafter\n")
    for _ in range(2):
        write_docs(methods, tables, folder / "sheets", tmp_path, {"first": 0, "none": 5})
        assert page.read_text() == f"before\n\n{MARKERS[0]}\n{tables}{MARKERS[1]}\n\nafter\n"
    assert Image.open(tmp_path / "methods_first.png").size[0] > 500
    assert not (tmp_path / "methods_none.png").exists()


def test_models_of_other_clips_are_refused(model, monkeypatch, tmp_path):
    monkeypatch.setattr(compare, "load", lambda name: model)
    with pytest.raises(ValueError, match="is no model of drawn clips, of which videos could be read"):
        compare.run("other", tmp_path / "out", 1, 1, 2, 1, "ddim", 1, 0)
    assert not (tmp_path / "out").exists()
