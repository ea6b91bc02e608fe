"""Learning rates, diverging losses, and recipes with mistakes."""

import pytest
import torch
import yaml

from vidrd_core.training.config import load_config
from vidrd_core.training.optimizer import learning_rate_factor, parameter_groups
from vidrd_core.training.recipe import Recipe
from vidrd_core.training.stage_config import ClipStageConfig, ImageVAEStageConfig
from vidrd_core.training.trainer import Trainer
from vidrd_core.training.vae import ImageVAETask

from .helpers import write_recipe


def test_learning_rates_are_by_parts_of_names():
    stage = ClipStageConfig("s", 1, 1, learning_rate=1.0, rates={".attentions.": 0.2, ".temp_": 0.5})
    named = {
        name: torch.nn.Parameter(torch.zeros(1))
        for name in ("a.resnets.0", "a.attentions.0.x", "a.attentions.0.temp_attn.y")
    }
    groups = {id(group["params"][0]): group["lr"] for group in parameter_groups(named, stage)}
    assert [groups[id(parameter)] for parameter in named.values()] == [1.0, 0.2, 0.5]


def test_the_learning_rate_warms_up_and_falls():
    stage = ImageVAEStageConfig("s", steps=110, batch_size=1, learning_rate=1.0, warmup=10, final_rate=0.1)
    values = [learning_rate_factor(step, stage) for step in range(111)]
    assert values[0] == pytest.approx(0.1)
    assert max(values) == values[10] == 1
    assert values[60] == pytest.approx(0.55)
    assert values[110] == pytest.approx(0.1)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    config = load_config(write_recipe(tmp_path / "recipe.yaml"))
    recipe = Recipe(config)

    class Broken(ImageVAETask):
        def loss(self, model, batch, rng, generator):
            return {"mse": torch.tensor(float("nan"), requires_grad=True)}

    from vidrd_core.models.vae import TemporalVAE

    task = Broken(TemporalVAE(config.vae), recipe.data, config.stages[0])
    with pytest.raises(FloatingPointError, match="the loss became nan at step 1; there is no good checkpoint yet"):
        Trainer(task, config.stages[0], tmp_path / "broken").run()


def test_a_tracker_that_is_not_installed_raises(tmp_path, monkeypatch):
    monkeypatch.setattr("vidrd_core.training.config.find_spec", lambda name: None if name == "wandb" else name)
    with pytest.raises(ValueError, match="trackers has wandb, which is not installed: pip install wandb"):
        load_config(write_recipe(tmp_path / "recipe.yaml", trackers=["tensorboard", "wandb"]))


GOOD_DATA = "sources: [{shapes: {}}]"
GOOD_STAGE = "name: a, task: vae, steps: 1, batch_size: 1, learning_rate: 1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("out: [", "is not YAML"),
        ("3", "holds no settings"),
        ("out: x", "stages is missing"),
        ("{out: x, stages: [1], colour: red}", "unknown settings colour; known are data"),
        ("{out: x, stages: [1], stagez: 1}", r"unknown settings stagez \(did you mean stages\?\)"),
        ("{out: x, data: [1], stages: [{%s}]}", r"data is \[1\], expected names with values"),
        ("{out: x, unet: [1], stages: [{%s}]}", r"unet is \[1\], expected names with values"),
        ("{out: x, stages: [{%s, steps: 0}]}", "steps is 0"),
        (
            "{out: x, stages: [{name: a, task: vae, step: 1}]}",
            r"stage a has no setting step \(did you mean steps\?\); it has accumulation, ",
        ),
        ("{out: x, stages: [{name: a, task: vae}]}", "stage a lacks steps, batch_size, learning_rate"),
        ("{out: x, stages: [1]}", "a stage is 1, expected names with values"),
        ("{out: x, stages: 3}", "stages are 3, expected a list"),
        ("{out: 3, stages: [{%s}]}", "out is 3, expected the name of a folder"),
        ("{out: x, init: 5, stages: [{%s}]}", "init is 5, expected the name of a folder"),
        (
            "{out: x, stages: [{%s}], mixed_precision: fp8}",
            "mixed_precision is 'fp8', expected one of no, fp16",
        ),
        (
            "{out: x, stages: [{%s, train: lora}]}",
            "train is 'lora', expected all, decoder or temporal where task is vae",
        ),
        ("{out: x, stages: [{%s, name: ../a}]}", "a stage is called '../a', expected the name of a folder in out"),
        ("{out: x, stages: [{%s, learning_rate: .nan}]}", "stage a: learning_rate is nan, expected a finite number"),
        ("{out: x, stages: [{%s, task: image, min_snr: .inf}]}", "stage a: min_snr is inf, expected a finite number"),
        ("{out: x, stages: [{%s}, {%s}]}", "a stage is called 'a': each needs a name of its own"),
        ("{out: x, stages: [{%s, name: bank}]}", "a stage is called 'bank': each needs a name of its own, not model"),
        (
            "{out: x, stages: [{%s, train: most}]}",
            "train is 'most', expected all, decoder or temporal where task is vae",
        ),
        ("{out: x, stages: [{%s, log_every: 0}]}", "log_every is 0, expected at least 1"),
        ("{out: x, stages: [{%s, ema: 7}]}", "ema is 7, expected 0 or more and less than 1"),
        (
            "{out: x, stages: [{%s, task: image, emphasis: {red: -1}}]}",
            "emphasis are {'red': -1}, expected words with numbers above",
        ),
        ("{out: x, stages: [{%s, rates: {conv: fast}}]}", "stage a: rates.conv is 'fast', expected a number"),
        ("{out: x, stages: [{%s, task: sing}]}", "task is 'sing', expected one of vae, captions, image, clip"),
        ("{out: x, stages: [{%s, steps: 2.5}]}", "stage a: steps is 2.5, expected a whole number"),
        ("{out: x, stages: [{%s, learning_rate: fast}]}", "stage a: learning_rate is 'fast', expected a number"),
        (
            "{out: x, stages: [{%s}], unet: {block_out_channels: [a]}}",
            "unet: block_out_channels is 'a', expected a whole number",
        ),
        ("{out: x, on: 1, stages: [{%s}]}", "unknown settings True"),
        ("{out: x, stages: [{%s, 1: 2}]}", "stage a has no setting 1; it has"),
        ("{out: x, stages: [{%s, learning_rate: -1}]}", "learning_rate is -1, expected more than 0"),
        ("{out: x, stages: [{%s, task: image, caption_dropout: 7}]}", "caption_dropout is 7, expected 0 to 1"),
        ("{out: x, stages: [{%s, warmup: -1}]}", "warmup is -1, expected 0 or more"),
        ("{out: x, stages: [{%s}], data: {sources: [{shapes: {clips: 0}}]}}", "data: clips is 0, expected 1 or more"),
        (
            "{out: x, stages: [{%s}], data: {sources: [{shapes: {two_objects: 2}}]}}",
            "two_objects is 2",
        ),
        ("{out: x, stages: [{%s}], data: {%d, size: 33}}", "data.size is 33, expected a multiple of 8, for the VAE"),
        (
            "{out: x, stages: [{%s}], vae: {norm_groups: 3}}",
            "block_out_channels has 128, expected a multiple of norm_groups, 3",
        ),
        ("{out: x, stages: [{%s}], unet: {heads: [5, 10, 20, 7]}}", "heads is 7, expected a divisor of .* 1280"),
        ("{out: x, stages: [{%s}], text: {heads: 5}}", "heads is 5, expected a divisor of the width, 128"),
        ("{out: x, stages: [{%s}], vae: {block_out_channels: []}}", "expected numbers of 1 or more"),
        ("{out: x, stages: [{%s, task: clip}]}", "data.size is 64, expected diffusion.size, 256; or name a mod"),
        (
            "{out: x, stages: [{%s, task: clip}], diffusion: {size: 64, frames: 4}}",
            "data.frames is 8, expected diffusion.frames, 4",
        ),
        (
            "{out: x, stages: [{%s, task: clip}], diffusion: {size: 64}}",
            "text.hidden_size is 128, expected unet.cross_attention_dim, 1024",
        ),
        ("{out: x, stages: [{%s}], diffusion: {beta_end: 1.5}}", "beta goes from 0.00085 to 1.5, expected 0 < start"),
        ("{out: x, data: {size: 64}, stages: [{%s}]}", "data has no sources: give some, or a mix"),
        ("{out: x, data: {sources: 3}, stages: [{%s}]}", "data.sources are 3, expected a list"),
        ("{out: x, data: {sources: [{weight: 3}]}, stages: [{%s}]}", "has none of shapes, stills, world and shards"),
        ("{out: x, data: {sources: [{shapes: {}, shards: x}]}, stages: [{%s}]}", "has shapes and shards of"),
        ("{out: x, data: {sources: [{shapes: {}, weight: -1}]}, stages: [{%s}]}", "weight of shapes is -1"),
        ("{out: x, data: {sources: [{shapes: {}}, {shapes: {}}]}, stages: [{%s}]}", "two sources are called shapes"),
        (
            "{out: x, data: {sources: [{shapes: {clip: 3}}]}, stages: [{%s}]}",
            r"shapes has no setting clip \(did you mean clips\?\)",
        ),
        ("{out: x, data: {%d, held_out: 1}, stages: [{%s}]}", "held_out is 1, expected a share from 0 to 0.5"),
        ("{out: x, data: {%d, sizes: [[64]]}, stages: [{%s}]}", "sizes has .64., expected a width and a height"),
        (
            "{out: x, data: {%d, sizes: [64, 64]}, stages: [{%s}]}",
            r"data: sizes is \[64, 64\], expected a list of lists of whole numbers",
        ),
        (
            "{out: x, samples: {prompts: a dog}, stages: [{%s}]}",
            "samples: prompts is 'a dog', expected a list of texts",
        ),
        ("{out: x, data: {%d, mix: no.yaml}, stages: [{%s}]}", "no.yaml"),
        ("{out: x, stages: [{%s}], trackers: [paper]}", "trackers has 'paper', expected tensorboard or wandb"),
        ("{out: x, stages: [{%s}], samples: {clips: 0}}", "samples: clips is 0, expected 1 or more"),
        ("{out: x, stages: [{%s, optimizer: sgd}]}", "optimizer is 'sgd', expected one of adamw, adamw8bit"),
        (
            "{out: x, stages: [{%s, perceptual_weight: 1}]}",
            "expected both or neither: the network's file, and its weight",
        ),
        ("{out: x, init: nowhere, stages: [{%s}]}", "init: there is no model 'nowhere'"),
        ("{out: x, stages: [{%s}], diffusion: {prediction: w}}", "prediction is 'w', expected one of eps, v, flow"),
    ],
)
def test_a_recipe_with_mistakes_is_refused(tmp_path, text, message):
    path = tmp_path / "recipe.yaml"
    if "data:" not in text:
        text = text.replace("{out:", f"{{data: {{{GOOD_DATA}}}, out:", 1)
    text = text.replace("%s", GOOD_STAGE).replace("%d", GOOD_DATA)
    if "task: vae" in text:  # of a key given twice the second counts here, in place of the good value
        text = yaml.safe_dump(yaml.safe_load(text))
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_config(path)


def test_yaml_may_write_small_numbers_without_a_point(tmp_path):
    path = tmp_path / "recipe.yaml"
    data = f"data: {{{GOOD_DATA}}}"
    stage = GOOD_STAGE.replace("learning_rate: 1", "learning_rate: 1e-4")
    path.write_text(f"{{out: x, {data}, stages: [{{{stage}}}], mixed_precision: no}}")
    assert load_config(path).stages[0].learning_rate == 1e-4
    assert load_config(path).mixed_precision == "no"  # which YAML reads as false
