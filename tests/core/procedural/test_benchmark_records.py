"""The benchmark's records of chains, which a stopped run resumes."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from vidrd_core.models.load_parts import save_text_encoder, save_unet, save_vae
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.models.word_text_encoder import TextEncoder
from vidrd_core.pipeline import VidRD
from vidrd_core.procedural import EVALUATION_SEED, VOCABULARY, benchmark, describe, evaluation_scenes
from vidrd_core.procedural.benchmark import read_records, run_benchmark
from vidrd_core.procedural.chain_metrics import measure_chain
from vidrd_core.reuse import ReuseSettings
from vidrd_core.sampling import DiffusionConfig

from ...conftest import TEXT, UNET, VAE, randomise

FAST = {"prompts": 3, "clips": 3, "steps": 2, "reuse": ReuseSettings(prompt_frames=3)}


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


def timeless(records):
    return [{key: value for key, value in record.items() if "seconds" not in key} for record in records]


def test_a_stopped_run_is_resumed(scribbler, tmp_path):
    seen = []
    whole = run_benchmark(scribbler, tmp_path / "whole.jsonl", on_record=lambda *count: seen.append(count), **FAST)
    assert [(record["prompt"], record["order"]) for record in whole[:4]] == [
        (0, "mirror"), (0, "forward"), (0, "real"), (1, "mirror"),
    ]  # fmt: skip
    assert seen[-1] == (len(whole), len(whole)) == (9, 9)
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    stopped = tmp_path / "stopped.jsonl"
    stopped.write_bytes(b"".join(lines[:6]) + lines[6][:40])
    resumed = run_benchmark(scribbler, stopped, **FAST)
    assert timeless(resumed) == timeless(whole)
    again = stopped.read_bytes()
    assert again.startswith(b"".join(lines[:6]))
    run_benchmark(scribbler, stopped, **FAST)
    assert stopped.read_bytes() == again
    (tmp_path / "unbegun.jsonl").write_bytes(lines[0])  # nothing but the header of other settings
    assert len(run_benchmark(scribbler, tmp_path / "unbegun.jsonl", prompts=1, clips=1, steps=1)) == 3


def test_records_of_other_settings_or_models_are_refused(scribbler, tmp_path):
    out = tmp_path / "records.jsonl"
    small = {"prompts": 1, "clips": 1, "orders": ("mirror",)}
    run_benchmark(scribbler, out, steps=2, **small)
    with pytest.raises(
        ValueError, match=r"holds records of other settings, now steps 3 \(then 2\): choose another folder"
    ):
        run_benchmark(scribbler, out, steps=3, **small)
    with pytest.raises(
        ValueError, match=r"holds records of other settings, now alpha 1 \(then 4\.0\), beta 1 \(then 0\.4\)"
    ):
        run_benchmark(scribbler, out, steps=2, reuse=ReuseSettings(alpha=1, beta=1), **small)
    for part in ("unet", "vae", "text_encoder"):
        parts = {name: getattr(scribbler, name) for name in ("unet", "vae", "text_encoder")}
        kind, config = type(parts[part]), parts[part].config
        other = VidRD(**{**parts, part: randomise(kind(config), 9)}, diffusion=scribbler.diffusion)
        with pytest.raises(
            ValueError, match=r"holds records of other settings, now weights '\w{12}' \(then '\w{12}'\)"
        ):
            run_benchmark(other, out, steps=2, **small)
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(ValueError, match="does not begin as records of format 2 do"):
        run_benchmark(scribbler, tmp_path / "other.jsonl", steps=2, **small)


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
def test_invalid_settings_are_refused(scribbler, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        run_benchmark(scribbler, tmp_path / "records.jsonl", **settings)
    assert not (tmp_path / "records.jsonl").exists()


@pytest.mark.parametrize("order", ["mirror", "forward"])
def test_a_record_measures_the_chain_that_the_pipeline_generates(scribbler, tmp_path, order):
    reuse = ReuseSettings(3, order=order)
    for record in run_benchmark(scribbler, tmp_path / "records.jsonl", **FAST, seed=7):
        if record["order"] == order:
            scene = evaluation_scenes(FAST["prompts"], EVALUATION_SEED)[record["prompt"]]
            chain = list(scribbler.stream(describe(scene), 3, reuse, steps=2, seed=7 + record["prompt"]))
            measured = measure_chain(scribbler.frames(chain), scene, 8, 3, reuse)
            assert {name: record[name] for name in measured} == measured


def test_a_forward_clip_repeats_the_last_frames_exactly(scribbler):
    """So these frames are not decoded again."""
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
    benchmark.main(command.split())
    assert capsys.readouterr().out.strip() == (out / "table.md").read_text(encoding="utf-8").strip()
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert (summary["settings"]["steps"], summary["settings"]["prompt_frames"]) == (2, 3)
    assert summary["orders"]["mirror"]["threads"] == [1]
    assert sorted(path.name for path in (out / "sheets").iterdir()) == ["0000_forward.png", "0000_mirror.png"]
    alone = run_benchmark(scribbler, tmp_path / "alone.jsonl", **{**FAST, "prompts": 1})
    together = read_records(out / "records.jsonl")[1]
    keys = ("prompt", "order", "text", "color", "shape", "motion")
    assert [[record[key] for key in keys] for record in together] == [
        [record[key] for key in keys] for record in alone
    ]
    for one, other in zip(together, alone, strict=True):  # threads may differ in the last bit
        np.testing.assert_allclose(one["seam_ratio"], other["seam_ratio"], rtol=0.02)
    with pytest.raises(SystemExit, match=r"error: .*holds records of other settings, now steps 3 \(then 2\)"):
        benchmark.main([*command.split(), "--steps", "3"])


def test_prompts_in_a_batch_are_recognized_as_single_ones(scribbler, tmp_path):
    alone = run_benchmark(scribbler, tmp_path / "alone.jsonl", **FAST)
    together = run_benchmark(scribbler, tmp_path / "together.jsonl", batch=2, **FAST)
    for one, other in zip(alone, together, strict=True):
        assert [one[key] for key in ("prompt", "order", "text")] == [
            other[key] for key in ("prompt", "order", "text")
        ]
        np.testing.assert_allclose(one["seam_ratio"], other["seam_ratio"], rtol=0.02)
    with pytest.raises(ValueError, match="batch is 0, expected 1 or more"):
        run_benchmark(scribbler, tmp_path / "none.jsonl", batch=0, **FAST)
