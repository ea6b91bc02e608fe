#!/usr/bin/env bash
# Building an image pipeline changes the timesteps of a video pipeline (diffusers 0.41.0; observed 2026-11-29).
#
# StableDiffusionPipeline sets steps_offset to 1 and clip_sample to False in the scheduler that it is given, whatever
# its file says, in place, with a FutureWarning that calls the file outdated. AnimateDiffPipeline, which runs on the
# same weights, and TextToVideoSDPipeline keep the file's values. So one scheduler_config.json gives other timesteps
# by class of pipeline, and a scheduler that is shared (to make the first frame, say) changes under the video pipeline
# that already holds it.
# Expected: the same file gives the same timesteps everywhere; a constructor leaves what it is given as it was.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 diffusers==0.41.0 transformers==5.20.2 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" -I - <<'PYTHON'
import warnings

warnings.simplefilter("ignore", FutureWarning)
from diffusers import AnimateDiffPipeline, DDIMScheduler, StableDiffusionPipeline, TextToVideoSDPipeline
from diffusers.utils import logging

logging.set_verbosity_error()
parts = dict.fromkeys(("vae", "text_encoder", "tokenizer", "unet"))  # the scheduler alone is looked at
more = {
    AnimateDiffPipeline: {"motion_adapter": None},
    TextToVideoSDPipeline: {},
    StableDiffusionPipeline: {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
}


def timesteps(pipeline):
    pipeline.scheduler.set_timesteps(4)
    return pipeline.scheduler.timesteps.tolist()


DDIMScheduler(steps_offset=0, clip_sample=True).save_pretrained("scheduler")
seen = {}
for kind, others in more.items():
    pipeline = kind(scheduler=DDIMScheduler.from_pretrained("scheduler"), **parts, **others)
    seen[kind.__name__] = timesteps(pipeline), pipeline.scheduler.config.clip_sample
    print(f"{kind.__name__}: timesteps {timesteps(pipeline)}, clip_sample {pipeline.scheduler.config.clip_sample}")

shared = DDIMScheduler.from_pretrained("scheduler")
video = AnimateDiffPipeline(scheduler=shared, **parts, **more[AnimateDiffPipeline])
before = timesteps(video)
StableDiffusionPipeline(scheduler=shared, **parts, **more[StableDiffusionPipeline])
after = timesteps(video)
print(f"AnimateDiffPipeline, before and after its scheduler is given to StableDiffusionPipeline: {before}, {after}")

assert seen["AnimateDiffPipeline"] == seen["TextToVideoSDPipeline"] == ([750, 500, 250, 0], True)
assert seen["StableDiffusionPipeline"] == ([751, 501, 251, 1], False)
assert (before, after) == ([750, 500, 250, 0], [751, 501, 251, 1])
PYTHON
echo "As described."
