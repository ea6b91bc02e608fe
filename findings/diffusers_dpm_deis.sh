#!/usr/bin/env bash
# DPMSolverMultistepScheduler takes algorithm_type="deis" and samples with dpmsolver++ (diffusers 0.41.0; observed
# 2026-11-30).
#
# Samplers are compared, and papers reproduced, by setting a pipeline's scheduler. The class has no DEIS, and other
# names that it does not have are refused by an error. This one is accepted, and is replaced by dpmsolver++: every step
# equals that algorithm's, and the saved scheduler_config.json says dpmsolver++, too. The check of final_sigmas_type
# runs before, and still speaks of "deis", so that the name looks known.
# Expected: the error for an unknown name, or the steps of DEISMultistepScheduler.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q diffusers==0.41.0 torch==2.13.0 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" -I - <<'PYTHON'
import torch
from diffusers import DEISMultistepScheduler, DPMSolverMultistepScheduler


def steps(scheduler):
    """Ten steps of a stand-in for a network."""
    scheduler.set_timesteps(10)
    x = torch.randn(256, generator=torch.Generator().manual_seed(0))
    for t in scheduler.timesteps:
        x = scheduler.step(torch.sin(3 * x), t, x).prev_sample
    return x


def dpm(kind):
    return DPMSolverMultistepScheduler(algorithm_type=kind, final_sigmas_type="sigma_min")


asked = dpm("deis")
print(f"asked for deis, got {asked.config.algorithm_type}")
same = torch.equal(steps(asked), steps(dpm("dpmsolver++")))
apart = float((steps(dpm("deis")) - steps(DEISMultistepScheduler())).abs().max())
print(f"equal to dpmsolver++: {same}; from DEISMultistepScheduler up to {apart:.3f} away")
try:
    dpm("heun")
    refused = ""
except NotImplementedError as error:
    refused = str(error)
print(f"another name: {refused}")
try:
    DPMSolverMultistepScheduler(algorithm_type="deis")
    said = ""
except ValueError as error:
    said = str(error)
print(f"with the default final_sigmas_type: {said}")

assert asked.config.algorithm_type == "dpmsolver++"
assert same
assert apart > 0.01
assert "heun" in refused
assert "deis" in said
PYTHON
echo "As described."
