"""The UNet benchmark; timings are not checked."""

import argparse

import torch
from memory import grown_by
from unet3d import measure, report

from vidrd_core.metrics.peak_memory import peak_memory_mib


def settings():
    return argparse.Namespace(
        width="tenth", frames=2, size=64, rounds=2, device="cpu", dtype="float32", threads=None, compile=False
    )


def test_both_networks_compute_the_same_from_the_same_weights():
    found = measure(settings())
    assert found["off"]["diffusers"] == 0
    assert 0 < found["off"]["ours"] < 1e-4
    assert found["work"]["ours"] <= found["work"]["diffusers"]
    assert [sorted(turn) for turn in found["rounds"]] == [["diffusers", "ours"]] * 2
    assert all(held > 0 for held in found["memory"].values())


def test_memory_is_the_peak_of_live_tensors():
    def work():
        first = torch.zeros(2**20)  # 4 MiB
        second = first + 1
        del first, second
        torch.zeros(2**19)

    assert 8 <= peak_memory_mib(work) < 8.5
    # So much is always fresh from the system, never from what the process has left.
    assert 250 < (grown_by(lambda: torch.ones(2**26).sum()) or 256) < 300


def test_the_report_gives_ratios_to_diffusers():
    found = {
        "off": {"diffusers": 0.0, "ours": 1e-6},
        "work": {"diffusers": 2e12, "ours": 1e12},
        "rounds": [{"diffusers": 4.0, "ours": 2.0}, {"diffusers": 4.0, "ours": 1.0}],
        "peak": 1e12,
        "memory": {"diffusers": 200.0, "ours": 80.0},
        "resident": {"diffusers": 300.0, "ours": 150.0},
    }
    text = report(found)
    assert "| ours | 1.500 | 80 | 150 | 1.00 | 67% | 1.0e-06 |" in text
    assert "ours: 3.00 times as fast as diffusers (2.00 to 4.00 in 2 rounds)" in text
    assert "ours: 0.40 of its memory for tensors" in text
    assert "ours: 0.50 of its resident memory" in text
