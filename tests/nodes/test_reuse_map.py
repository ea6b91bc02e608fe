"""Reuse Map in a real ComfyUI."""

import torch


def test_the_reuse_map_is_drawn(run):
    settings = {"prompt_frames": 4, "alpha": 4.0, "beta": 0.4, "frames": 8, "steps": 50}
    (mirror,) = run("ReuseMap", order="mirror", **settings)
    (forward,) = run("ReuseMap", order="forward", **settings)
    assert mirror.shape[0] == 1
    assert mirror.shape[3] == 3
    assert not torch.equal(mirror, forward)
