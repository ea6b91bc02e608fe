"""The flicker benchmark, on a small recipe that is trained here."""

import flicker as script
import pytest
import torch

from vidrd_core.models.load_parts import load_vae
from vidrd_core.training.config import load_config
from vidrd_core.training.recipe import Recipe

from ..core.training.helpers import RECIPE, STAGE, write_recipe


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    steps = {"vae": 3, "image": 1, "vae_temporal": 3}
    stages = [
        {**stage, "steps": steps[stage["task"]], **STAGE} for stage in RECIPE["stages"] if stage["task"] in steps
    ]
    config = load_config(write_recipe(tmp_path_factory.mktemp("flicker") / "recipe.yaml", stages=stages))
    Recipe(config).run()
    return config


def test_the_control_is_the_image_vae_trained_further_without_temporal_layers(trained):
    image, control = load_vae(script.before(trained.out, trained)), script.control(trained.out, trained)
    before, after = image.state_dict(), control.state_dict()
    assert not [name for name in after if "temp_conv" in name]
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed
    assert all(name.startswith(("decoder.", "post_quant_conv.")) for name in changed)


def test_there_are_three_kinds_of_scenes(trained):
    scenes = script.scenes(trained, 3)
    assert {video.shape for video in scenes.values()} == {(3, 3, 4, 32, 32)}
    change = {name: float(video.diff(dim=2).abs().mean()) for name, video in scenes.items()}
    assert change.pop("standing still") == 0
    assert min(change.values()) > 0


def test_noise_on_latents_makes_an_image_decoder_flicker_and_costs_quality(trained):
    image = load_vae(script.before(trained.out, trained))
    standing = script.scenes(trained, 3)["standing still"]
    (clean, steady), (noisy, flickering) = (script.measure(image, standing, noise) for noise in (0.0, 0.5))
    assert steady == pytest.approx(0, abs=1e-3)
    assert flickering > 10 * steady + 0.01
    assert noisy < clean
