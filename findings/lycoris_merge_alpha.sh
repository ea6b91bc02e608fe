#!/usr/bin/env bash
# Merging a LoHa or LoKr adapter applies its scale twice (lycoris-lora 4.1.3; observed 2026-11-29).
#
# merge_to() scales the weights of LoHa and LoKr by alpha / rank twice, apply_to() once. With the usual alpha of half
# the rank a merged model gets half of what was trained; with alpha = 1 and rank 16, a sixteenth. LoRA is right, and
# so are all three with alpha = rank, which hides the fault in a quick test. Checkpoints that were baked for inference
# look like undertrained ones.
# Expected: after merge_to() the model computes what it did after apply_to().
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 lycoris-lora==4.1.3 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" -I - <<'PYTHON'
import logging

import torch

logging.disable(logging.INFO)
from lycoris import LycorisNetwork, create_lycoris

LycorisNetwork.apply_preset({"enable_conv": False, "target_module": ["Linear"], "target_name": [".*"]})


@torch.no_grad()
def strength(algo, alpha, rank=4):
    """The change of the output after merge_to(), relative to that after apply_to()."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(64, 64)).double()
    x = torch.randn(8, 64, dtype=torch.float64)
    base = net(x)
    adapter = create_lycoris(net, 1.0, linear_dim=rank, linear_alpha=alpha, algo=algo, factor=2)
    adapter.apply_to()
    adapter.double()
    for weight in adapter.parameters():
        weight.normal_(std=0.3)
    applied = net(x) - base
    adapter.restore()
    assert torch.equal(net(x), base)
    adapter.merge_to()
    merged = net(x) - base
    ratio = (merged * applied).sum() / applied.square().sum()
    assert torch.allclose(merged, ratio * applied)
    return ratio.item()


seen = {(algo, alpha): strength(algo, alpha) for algo in ("lora", "loha", "lokr") for alpha in (4, 2, 1)}
for (algo, alpha), ratio in seen.items():
    print(f"{algo}, rank 4, alpha {alpha}: merged / applied = {ratio:.4f}")
for (algo, alpha), ratio in seen.items():
    assert abs(ratio - (1 if algo == "lora" else alpha / 4)) < 1e-6
PYTHON
echo "As described."
