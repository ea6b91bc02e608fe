"""Each task has a configuration class of its own, and refuses the settings of other tasks by name."""

import dataclasses
import json

import pytest
import yaml

from vidrd_core.training.config import load_config
from vidrd_core.training.stage_config import (
    STAGE_CONFIGS,
    CaptionStageConfig,
    ClipStageConfig,
    ImageStageConfig,
    ImageVAEStageConfig,
    TemporalVAEStageConfig,
    read_stage,
)

from .helpers import RECIPE, STAGE, write_recipe

UNET, VAE = frozenset({"captions", "image", "clip"}), frozenset({"vae", "vae_temporal"})
DENOISING, CLIP = frozenset({"image", "clip"}), frozenset({"clip"})
TASKS_OF = {
    **dict.fromkeys(("caption_dropout", "plain_share", "emphasis", "number_share", "lora_rank"), UNET),
    **dict.fromkeys(("words_weight", "places_weight", "pictures_weight"), UNET),
    **dict.fromkeys(("timestep_power", "min_snr", "noise_offset"), DENOISING),
    **dict.fromkeys(("image_share", "prompt_share", "prompt_frames", "prompt_noise", "temporal_gain"), CLIP),
    **dict.fromkeys(("l1_weight", "perceptual_weight", "perceptual", "adversarial_weight", "adversarial_from"), VAE),
    "kl_weight": {"vae"},
    "shift_weight": {"vae"},
    "change_weight": {"vae_temporal"},
}
GOOD = {"name": "a", "steps": 1, "batch_size": 1, "learning_rate": 1e-3}
VALUES = {
    "emphasis": {"red": 2.0},
    "perceptual": "lpips.pt",
    "lora_rank": 4,
    "prompt_frames": 1,
    "adversarial_from": 3,
}
TOGETHER = {"perceptual": {"perceptual_weight": 1.0}, "perceptual_weight": {"perceptual": "lpips.pt"}}


def test_a_task_has_its_class():
    kinds = {
        "vae": ImageVAEStageConfig, "captions": CaptionStageConfig, "image": ImageStageConfig,
        "clip": ClipStageConfig, "vae_temporal": TemporalVAEStageConfig,
    }  # fmt: skip
    assert kinds == STAGE_CONFIGS
    for task, kind in kinds.items():
        train = "decoder" if task == "vae_temporal" else "all"
        stage = read_stage({**GOOD, "task": task, "train": train})
        assert type(stage) is kind
        assert (stage.task, stage.shaping()["task"]) == (task, task)


def test_no_task_has_a_setting_that_is_not_in_the_table():
    common = set.intersection(*({f.name for f in dataclasses.fields(kind)} for kind in STAGE_CONFIGS.values()))
    for task, kind in STAGE_CONFIGS.items():
        own = {f.name for f in dataclasses.fields(kind)} - common
        assert own == {name for name, tasks in TASKS_OF.items() if task in tasks}, task
    assert len(common) == 21


@pytest.mark.parametrize("setting", TASKS_OF)
def test_a_setting_is_read_by_its_tasks_and_refused_by_name_by_the_others(setting):
    value = VALUES.get(setting, 0.5)
    for task in STAGE_CONFIGS:
        stage = {**GOOD, "task": task, setting: value}
        if task in TASKS_OF[setting]:
            assert getattr(read_stage({**stage, **TOGETHER.get(setting, {})}), setting) == value
            continue
        message = f"^stage a: {setting} is no setting of task {task}; it belongs to "
        with pytest.raises(ValueError, match=message) as error:
            read_stage(stage)
        assert all(other in str(error.value).split("belongs to")[1] for other in TASKS_OF[setting])


def test_the_message_names_stage_setting_task_and_the_tasks_that_have_it(tmp_path):
    stages = [RECIPE["stages"][0], {**RECIPE["stages"][-1], "min_snr": 5.0}]
    path = write_recipe(tmp_path / "r.yaml", stages=stages)
    message = (
        r"r\.yaml: stage decoder: min_snr is no setting of task vae_temporal; it belongs to image and clip: remove"
    )
    with pytest.raises(ValueError, match=message):
        load_config(path)
    write_recipe(path, stages=[{**RECIPE["stages"][0], "lora_rank": 4}])
    with pytest.raises(ValueError, match="it belongs to captions, image and clip: remove it from this stage"):
        load_config(path)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({**GOOD}, "stage a lacks task, expected one of vae, captions, image, clip, vae_temporal"),
        ({**GOOD, "tasks": "vae"}, r"stage a has no setting tasks \(did you mean task\?\); it lacks task"),
        ({**GOOD, "task": ["vae"]}, r"stage a: task is \['vae'\], expected one of vae, captions"),
        ({**GOOD, "task": "clip", "min_snrr": 1}, r"stage a has no setting min_snrr \(did you mean min_snr\?\)"),
        ({**GOOD, "task": "clip", "learning_rate": "fast"}, "stage a: learning_rate is 'fast', expected a number"),
        ({**GOOD, "task": "clip", "rates": {"attn": "low"}}, "stage a: rates.attn is 'low', expected a number"),
        ({**GOOD, "task": "clip", "cuda_graphs": "yes"}, "stage a: cuda_graphs is 'yes', expected true or false"),
        ({**GOOD, "task": "vae", "perceptual": 3}, "stage a: perceptual is 3, expected text or null"),
        ({**GOOD, "task": "vae", "weights": {"films": -1}}, "stage a: weights are {'films': -1}, expected sources"),
        ({**GOOD, "task": "vae", "train": "paper"}, "train is 'paper', expected all, decoder or temporal where task"),
        (
            {**GOOD, "task": "clip", "train": "decoder"},
            "train is 'decoder', expected all, unet, paper, temporal or lora",
        ),
        ({**GOOD, "task": "clip", "prompt_frames": 0}, "stage a: prompt_frames is 0, expected at least 1"),
        ({**GOOD, "task": "image", "timestep_power": 0}, "stage a: timestep_power is 0, expected more than 0"),
        ({**GOOD, "task": "vae_temporal", "change_weight": -1}, "stage a: change_weight is -1, expected 0 or more"),
        ({**GOOD, "task": "vae", "kl_weight": -1}, "stage a: kl_weight is -1, expected 0 or more"),
        ({**GOOD, "task": "vae", "shift_weight": -1}, "stage a: shift_weight is -1, expected 0 or more"),
    ],
)
def test_a_stage_with_a_mistake_is_refused(stage, message):
    with pytest.raises(ValueError, match=message):
        read_stage(stage)


def test_a_key_given_twice_in_a_recipe_is_refused_with_its_line(tmp_path):
    path = tmp_path / "r.yaml"
    stage = "  - name: a\n    task: vae\n    steps: 1\n    batch_size: 1\n    learning_rate: 1.0\n    steps: 2\n"
    path.write_text(f"out: x\nstages:\n{stage}")
    with pytest.raises(
        ValueError, match=r"r\.yaml, line 8: steps is given twice, first in line 5: remove one of them"
    ):
        load_config(path)


def test_shaping_is_json_and_has_no_intervals():
    for task in STAGE_CONFIGS:
        train = "decoder" if task == "vae_temporal" else "all"
        stage = read_stage({**GOOD, **STAGE, "task": task, "train": train})
        shaping = json.loads(json.dumps(stage.shaping()))
        assert shaping == stage.shaping()
        names = {f.name for f in dataclasses.fields(stage) if not f.name.endswith("_every")}
        assert shaping.keys() == {"task", *names} - {"shift_weight", "temporal_gain"}, "which older runs lack"
    moved = read_stage({**GOOD, "task": "vae", "shift_weight": 0.5})
    assert moved.shaping()["shift_weight"] == 0.5


def test_a_stage_with_settings_of_another_task_is_mended_by_removing_them(tmp_path):
    """A recipe that an earlier version read, and ignored a part of: without that part it is the same."""
    before = {**RECIPE["stages"][0], "min_snr": 5.0, "change_weight": 0.3}
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the whole message follows)
        load_config(write_recipe(tmp_path / "r.yaml", stages=[before]))
    assert str(error.value).endswith(
        "stage vae: change_weight is no setting of task vae; it belongs to vae_temporal; min_snr is no setting of "
        "task vae; it belongs to image and clip: remove them from this stage"
    )
    del before["min_snr"], before["change_weight"]
    assert load_config(write_recipe(tmp_path / "r.yaml", stages=[before])).stages[0].name == "vae"
    assert yaml.safe_load((tmp_path / "r.yaml").read_text())["stages"] == [before]
