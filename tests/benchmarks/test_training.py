"""The training benchmark trains the same network on the same clips in every way; timings are not checked."""

import argparse
import sys
from pathlib import Path

import pytest


@pytest.fixture
def benchmark(monkeypatch):
    """The script, imported by its path, as a package of the tests has the same name."""
    import importlib.util

    path = Path(__file__).parents[2] / "benchmarks" / "training.py"
    spec = importlib.util.spec_from_file_location("training_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "training_benchmark", module)
    spec.loader.exec_module(module)
    for name, small in (("VIDEOS", 5), ("SECONDS", 1), ("SOURCE", 96)):
        monkeypatch.setattr(module, name, small)
    return module


@pytest.mark.slow
def test_all_ways_train_the_same_network_on_the_same_clips(benchmark, tmp_path):
    given = argparse.Namespace(
        width="tenth", frames=2, size=64, batch=1, train="paper", rounds=1, device="cpu", threads=None, precision="no"
    )
    found = benchmark.measure(given, tmp_path)
    assert [sorted(turn) for turn in found["rounds"]] == [["diffusers", "ours", "ours, no cache"]]
    assert all(0 < loss < 10 for turn in found["losses"] for loss in turn.values())
    cached, uncached = ([turn[name] for turn in found["losses"]] for name in ("ours", "ours, no cache"))
    assert cached == pytest.approx(uncached, rel=0.02), "the same batches, but for the latents' half precision"
    assert found["clips"] > 4
    model = benchmark.Recipe(benchmark.load_config(tmp_path / "cached" / "recipe.yaml"))
    theirs = benchmark.select(benchmark.their_unet(tmp_path / "model"), "paper")
    assert found["trained"] == sum(parameter.numel() for parameter in theirs.values())
    assert model.config.unet.temp_attention == "after"


def test_the_report_gives_ratios_to_the_plain_loop(benchmark):
    found = {
        "rounds": [{"diffusers": 4.0, "ours": 2.0}, {"diffusers": 4.0, "ours": 1.0}],
        "losses": [{"diffusers": 1.0, "ours": 1.0}] * 2, "prepared": 3.0, "clips": 11, "batch": 2, "trained": 7,
        "processes": {"1": 2.0, "2": 3.0},
    }  # fmt: skip
    text = benchmark.report(found)
    assert "| ours | 1.500 | 1.33 | 1.000 |" in text
    assert "ours: 3.00 times as many clips a second as diffusers (2.00 to 4.00 in 2 rounds)" in text
    assert "two processes of one thread: 1.50 times the clips of one (2.00 a second)" in text
