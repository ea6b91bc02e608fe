#!/usr/bin/env bash
# GradScaler gives infinite gradients to a subclass of a fused optimizer (torch 2.13.0; observed 2026-12-01).
#
# With fp16, GradScaler skips an optimizer's step when scaled gradients overflow. It does not for one made with
# fused=True: it calls step() and hands over found_inf, which the fused kernel of AdamW heeds. A subclass that changes
# step() for some of its parameters, as optimizers for training in mixed precision do, inherits the flag and not the
# check: the weights are infinite after the first overflow, which each run with the usual initial scale has. Nothing
# warns, and the same subclass without fused=True trains.
# Expected: the step is skipped, or a subclass says by itself that it heeds found_inf.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" -I - <<'PYTHON'
import torch


class Signed(torch.optim.AdamW):
    """Plain steps for matrices, AdamW for all else."""

    def step(self, closure=None):
        with torch.no_grad():
            for group in self.param_groups:
                for weight in group["params"]:
                    if weight.ndim > 1:
                        weight.sub_(weight.grad, alpha=group["lr"])
                        weight.grad = None
        return super().step(closure)


after = {}
for fused in (False, True):
    weight = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = Signed([weight], lr=0.1, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    loss = (weight * 1e35).sum()  # finite; its scaled gradients are not
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    after[fused] = weight.detach()
    print(f"fused={fused}: loss {loss.item():.0e}, scale {scaler.get_scale():.0f}, weights {after[fused].flatten().tolist()}")

assert torch.equal(after[False], torch.ones(2, 2))
assert torch.isinf(after[True]).all()
PYTHON
echo "As described."
