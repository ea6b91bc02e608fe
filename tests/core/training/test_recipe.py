"""Small real runs: presets train the parameters that they name, a recipe ends in a model that generates."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from vidrd_core import training
from vidrd_core.loading import load
from vidrd_core.models.load_parts import load_text_encoder, load_unet, load_vae
from vidrd_core.models.temporal import TemporalConv
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.procedural import world
from vidrd_core.procedural.datasets import ShapesData, StillsData
from vidrd_core.training.auxiliary_heads import UNetWithTextEncoder
from vidrd_core.training.config import load_config
from vidrd_core.training.data import DataConfig, RecipeError, TrainingData
from vidrd_core.training.datasets import SourceConfig
from vidrd_core.training.recipe import Recipe
from vidrd_core.training.trainable import select
from vidrd_core.training.trainer import Trainer
from vidrd_core.training.unet import ImageTask

from .helpers import RECIPE, STAGE, write_recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A recipe that was run to its end."""
    path = write_recipe(tmp_path_factory.mktemp("recipe") / "recipe.yaml")
    return path.parent / "run", Recipe(load_config(path)).run()


def test_a_recipe_ends_in_a_model_that_generates(recipe):
    _, folder = recipe
    model = load(folder)
    clip = model.generate("a red circle moving right", steps=2)
    assert model.frames(clip).shape == (4, 32, 32, 3)
    assert clip.latents.isfinite().all()


def test_every_stage_leaves_a_log_and_a_sample(recipe):
    run, _ = recipe
    for stage in RECIPE["stages"]:
        folder = run / stage["name"]
        lines = (folder / "log.jsonl").read_text().splitlines()
        assert len(lines) == stage["steps"] + 1
        assert (folder / f"sample_{stage['steps']:06d}.png").stat().st_size > 100


def test_a_finished_recipe_is_not_run_again(recipe, tmp_path):
    run, folder = recipe
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    Recipe(load_config(write_recipe(tmp_path / "again.yaml", out=str(run)))).run()
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_a_finished_stage_with_other_settings_is_refused(recipe, tmp_path):
    run, _ = recipe
    stages = [{**RECIPE["stages"][0], "steps": 4, "log_every": 9}, *RECIPE["stages"][1:]]
    path = write_recipe(tmp_path / "again.yaml", out=str(run), stages=stages)
    with pytest.raises(RecipeError, match=r"vae is finished, and now has steps 4 \(then 3\): undo that, or delete"):
        Recipe(load_config(path)).run()


def test_heads_are_trained_on_from_stage_to_stage(tmp_path, monkeypatch):
    config = load_config(write_recipe(tmp_path / "recipe.yaml"))
    for stage in ("vae", "captions"):
        Recipe(config).run(stage)
    learned = load_file(tmp_path / "run" / "captions" / "heads.safetensors")
    assert {name.split(".")[0] for name in learned} == {"places", "pictures"}
    original = Trainer.run

    def watched(self):
        assert torch.equal(self.task.model.places.linear.weight, learned["places.linear.weight"])
        return original(self)

    monkeypatch.setattr(Trainer, "run", watched)
    Recipe(config).run("image")
    kept = load_file(tmp_path / "run" / "image" / "heads.safetensors")
    assert {name.split(".")[0] for name in kept} == {"places", "pictures", "words"}
    assert torch.equal(kept["pictures.conv.weight"], learned["pictures.conv.weight"]), "the image stage has none"
    assert not torch.equal(kept["places.linear.weight"], learned["places.linear.weight"])


def test_a_stage_trained_again_starts_from_those_before_it(tmp_path):
    stages = [RECIPE["stages"][0], RECIPE["stages"][-1]]
    config = load_config(write_recipe(tmp_path / "recipe.yaml", stages=stages))
    Recipe(config).run()
    first = {name: (tmp_path / "run" / name / "vae.safetensors").read_bytes() for name in ("vae", "decoder")}
    for name in first:
        shutil.rmtree(tmp_path / "run" / name)
        Recipe(config).run(name)
        assert (tmp_path / "run" / name / "vae.safetensors").read_bytes() == first[name]
    assert (tmp_path / "run" / "model" / "vae.safetensors").read_bytes() == first["decoder"]


def test_temporal_layers_without_a_model_are_not_trained(tmp_path):
    config = load_config(write_recipe(tmp_path / "recipe.yaml"))
    Recipe(config).run("vae")
    with pytest.raises(RecipeError, match="stage clip trains the layers of 'paper' alone, and there is no UNet"):
        Recipe(config).run("clip")


def test_a_finished_stage_with_another_model_is_refused(recipe, tmp_path):
    run, _ = recipe
    unet = {**RECIPE["unet"], "text_pooling": False}
    path = write_recipe(tmp_path / "again.yaml", out=str(run), unet=unet)
    with pytest.raises(RecipeError, match=r"stage captions is finished, and now has unet.text_pooling False \(then"):
        Recipe(load_config(path)).run()


def test_a_captions_stage_without_heads_is_refused(tmp_path):
    stages = [RECIPE["stages"][0], {"name": "captions", "task": "captions", "steps": 2, **STAGE}]
    with pytest.raises(RecipeError, match="stage captions has nothing to train: give words_weight, or"):
        Recipe(load_config(write_recipe(tmp_path / "recipe.yaml", stages=stages))).run()


def test_the_papers_preset_trains_what_the_papers_figure_shows(recipe):
    run, folder = recipe
    image = Recipe(load_config(write_recipe(run.parent / "image.yaml", out=str(run.parent / "image_only"))))
    for stage in ("vae", "captions", "image"):
        image.run(stage)
    before = load_unet(image.model / "unet.safetensors")[0].state_dict()
    after = load_unet(folder / "unet.safetensors")[0].state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(".attn" in name or "frame_" in name for name in changed), "ResNets stay, and all else of transformers"
    fresh = set(after) - set(before)
    assert all("temp" in name for name in fresh)
    assert any(after[name].abs().max() > 0 for name in fresh if "conv2.3.weight" in name), "Temp-Conv was trained"
    texts = [(path / "text_encoder.safetensors").read_bytes() for path in (image.model, folder)]
    assert texts[0] == texts[1], "the text encoder stays"


def test_the_temporal_vae_stage_leaves_the_latents_as_they_are(recipe):
    run, folder = recipe
    vae = load_vae(folder / "vae.safetensors")
    assert vae.config.temp_conv_depth == 1
    names = set(select(vae, "temporal"))
    assert names
    assert all(".temp_convs." in name for name in names)
    trained = set(select(vae, "decoder"))
    assert names < trained
    config = load_config(write_recipe(run.parent / "vae.yaml", out=str(run.parent / "vae_only")))
    image = Recipe(config)
    image.run("vae")
    before = load_vae(image.model / "vae.safetensors").state_dict()
    for name, tensor in vae.state_dict().items():
        if name in before:
            assert torch.equal(tensor, before[name]) == (name not in trained), name


def test_the_cache_is_the_same_however_it_is_filled(tmp_path):
    def frames(**changes):
        config = DataConfig(
            (SourceConfig(shapes={"clips": 5, "frames": 3, "size": 32, **changes}),), frames=3, size=32
        )
        data = TrainingData(config, tmp_path)
        return data.frames(data.sampler({}).buckets[0])

    cached = frames()
    for i in (4, 0, 2):
        assert np.array_equal(cached[i], ShapesData(clips=5, frames=3, size=32).frames_of(i))
    assert len(frames(clips=6)) == 6  # other clips have a cache of their own, and nothing is lost
    assert not np.array_equal(frames(seed=2), cached)
    assert len(list(tmp_path.glob("pixels_*.npy"))) == 3
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("pixels_*.npy")}
    assert np.array_equal(frames(), cached)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_emphasis_and_plain_captions(recipe, tmp_path):
    run, folder = recipe
    sources = RECIPE["data"]["sources"][:1]
    path = write_recipe(tmp_path / "again.yaml", out=str(run), data={**RECIPE["data"], "sources": sources})
    config = load_config(path)
    unet, diffusion = load_unet(folder / "unet.safetensors")
    text, vae = load_text_encoder(folder / "text_encoder.safetensors"), load_vae(folder / "vae.safetensors")
    shapes = ShapesData(frames=4, size=32, **sources[0]["shapes"])

    def task(emphasis, **changes):
        stage = dataclasses.replace(config.stages[2], batch_size=500, emphasis=emphasis, **changes)
        validation = Recipe(config).validation()
        return ImageTask(
            UNetWithTextEncoder(unet, text, stage), diffusion, Recipe(config).data, vae, stage, validation
        )

    emphasised = task({"red": 4.0, "spinning": 2.0})
    plain_words = [shapes.plain(i).split() for i in range(shapes.clips)]
    factors = np.array([4 ** ("red" in words) * 2 ** ("spinning" in words) for words in plain_words])
    assert set(factors) == {1, 4, 8}
    probabilities = emphasised.batches.sampler.buckets[0].probabilities
    np.testing.assert_allclose(probabilities, factors / factors.sum())
    captions = emphasised.batch(rng := np.random.default_rng(0), rng).captions
    share = sum("red" in text.split() for text in captions) / sum(text != "" for text in captions)
    assert share == pytest.approx(probabilities[factors > 1].sum(), abs=0.05)
    plain = task({}, plain_share=1.0, caption_dropout=0.0).batch(rng := np.random.default_rng(0), rng).captions
    assert set(plain) == {shapes.plain(i) for i in range(shapes.clips)}
    with pytest.raises(RecipeError, match="stage image: no clip's plain caption has dragon"):
        task({"dragon": 2.0})


def test_sources_are_drawn_by_their_weights(recipe):
    run, _ = recipe
    config = load_config(write_recipe(run.parent / "weights.yaml", out=str(run)))
    data = Recipe(config).data

    def drawn(weights, frames, still):
        slices = data.sampler(weights).draw(np.random.default_rng(0), 4000, frames, still)
        return {name: sum(p.bucket.source == name for p in slices) / 4000 for name in data.clips}

    assert drawn({}, 1, True) == pytest.approx({"shapes": 0.5, "stills": 0.25, "pictures": 0.25}, abs=0.03)
    assert drawn({}, 4, False) == pytest.approx({"shapes": 2 / 3, "stills": 1 / 3, "pictures": 0}, abs=0.03)
    assert drawn({"stills": 0, "pictures": 2}, 1, True)["pictures"] == pytest.approx(2 / 3, abs=0.03)
    with pytest.raises(RecipeError, match="there is no source film"):
        data.sampler({"film": 1})
    without = TrainingData(dataclasses.replace(config.data, pseudo_videos=False), data.folder)
    assert list(without.clips) == ["shapes", "pictures"], "pseudo-videos go, images stay"


def test_what_is_held_out_is_never_trained_on(recipe):
    run, _ = recipe
    config = load_config(write_recipe(run.parent / "held.yaml", out=str(run)))
    data = TrainingData(dataclasses.replace(config.data, held_out=0.25), Recipe(config).data.folder)
    trained, held = (data.sampler({}, held_out).buckets for held_out in (False, True))
    for one, other in zip(trained, held, strict=True):
        assert other.name == f"{one.name}_held_out"
        assert sorted([*one.indices, *other.indices]) == list(range(len(one.clips)))
    assert [len(bucket.indices) for bucket in held] == [5, 1, 1]


def test_stills_keep_their_caption_and_the_camera_its_way():
    data = StillsData(clips=3, frames=4, size=32)
    assert data.caption(1, np.random.default_rng(0)).startswith("a picture of a")
    clip = data.frames_of(1)
    assert clip.shape == (4, 32, 32, 3)
    assert np.array_equal(clip, data.frames_of(1))
    assert (np.diff(clip.astype(int), axis=0) != 0).any(axis=(1, 2, 3)).all(), "the camera moves"
    assert dataclasses.replace(data, frames=1).frames_of(1).shape == (1, 32, 32, 3)


def test_latents_of_another_encoder_are_not_used(recipe, tmp_path):
    run, folder = recipe
    data = Recipe(load_config(write_recipe(tmp_path / "again.yaml", out=str(run)))).data
    vae = load_vae(folder / "vae.safetensors")
    bucket = next(bucket for bucket in data.sampler({}).buckets if bucket.source == "shapes")
    before = data.latents(bucket, vae)
    assert len(before) == 20
    vae.quant_conv.weight.data += 1e-3
    after = data.latents(bucket, vae)
    assert not np.array_equal(after, before)
    np.testing.assert_allclose(after, before, atol=0.1)


def test_prompt_frames_are_given_clean_and_have_no_loss(recipe, tmp_path, monkeypatch):
    run, _ = recipe
    stage = {**RECIPE["stages"][3], "prompt_share": 1.0, "prompt_frames": 2, "image_share": 0.0}
    path = write_recipe(tmp_path / "r.yaml", init=str(run / "model"), stages=[stage])
    seen = []

    forward = UNet3D.forward

    def watched(self, x, timestep, text, positions=None, *more):
        seen.append((x, positions))
        return forward(self, x, timestep, text, positions, *more)

    monkeypatch.setattr(UNet3D, "forward", watched)
    config = load_config(path)
    folder = Recipe(config).run()
    caches = [np.load(path, mmap_mode="r") for path in (config.out / "bank").glob("latents_*_4x32x32_*.npy")]
    latents = [clip for cache in caches for clip in cache]
    x, positions = seen[0]
    clean = {clip[:, frame].tobytes() for clip in latents for frame in range(4)}
    kept = [x[0, :, j].half().numpy().tobytes() in clean for j in range(4)]
    assert kept == [True, True, False, False]
    assert all((positions[0, 1:] - positions[0, :-1]) % 4 == 1)
    assert load(folder).generate("a red circle", steps=1).latents.isfinite().all()
    other = {"out": str(tmp_path / "other"), "init": str(run / "model")}
    bad = write_recipe(tmp_path / "bad.yaml", **other, stages=[{**stage, "prompt_frames": 4}])
    with pytest.raises(RecipeError, match="prompt_frames is 4, expected less than the 4 frames"):
        Recipe(load_config(bad)).run()


def test_a_recipe_starts_from_a_built_in_model_by_name():
    configs = Path(training.__file__).parent / "configs"
    init = load_config(configs / "tiny_prompted.yaml").init
    assert (init / "unet.safetensors").exists()


def test_new_temporal_layers_are_as_random_as_told(recipe, tmp_path):
    """By default they leave the image model as it is; layers that are there already stay."""

    run, _ = recipe

    def last_weights(name, gain):
        torch.manual_seed(0)
        clip = next(stage for stage in RECIPE["stages"] if stage["name"] == "clip")
        before = RECIPE["stages"][: RECIPE["stages"].index(clip)]
        stages = [*before, clip, {**clip, "name": "more"}] if name == "more" else [*before, clip]
        stages[-1] = {**stages[-1], "temporal_gain": gain}
        path = write_recipe(tmp_path / "recipe.yaml", out=str(run), stages=stages)
        found = Recipe(load_config(path))
        unet = found.load_unet_and_text(found.config.stages[-1]).unet
        return {f"{key}.conv2.3.weight": m.layer(2)[-1].weight for key, m in unet.named_modules() if is_conv(m)}

    def is_conv(module):
        return isinstance(module, TemporalConv)

    assert not any(weight.any() for weight in last_weights("clip", 0.0).values())
    for weight in last_weights("clip", 0.5).values():
        assert weight.std().item() == pytest.approx(0.5 * weight[0].numel() ** -0.5, rel=0.2)
    trained = load_file(run / "clip" / "unet.safetensors")
    assert all(torch.equal(weight, trained[name]) for name, weight in last_weights("more", 0.5).items())


def test_a_model_of_the_drawn_world_learns_its_words(tmp_path):
    """The packaged recipe's networks and stages, at a few steps of a few clips."""
    packaged = yaml.safe_load((Path(training.__file__).parent / "configs" / "world.yaml").read_text())
    stages = [{**stage, **STAGE, "steps": 2} for stage in packaged["stages"]]
    sources = [{**each, "world": {**each["world"], "clips": 40}} for each in packaged["data"]["sources"]]
    data = {"frames": 4, "size": 32, "sources": sources}
    diffusion = {**packaged["diffusion"], "frames": 4, "size": 32}
    recipe = {**packaged, "out": str(tmp_path / "run"), "data": data, "stages": stages, "diffusion": diffusion}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**recipe, "samples": {"steps": 1, "clips": 2}}))
    found = Recipe(load_config(path))
    prompts = found.validation().prompts
    assert len(set(prompts)) == 14
    assert all(world.parse(prompt) for prompt in prompts)
    found.run()
    model = load(tmp_path / "run" / "model")
    assert model.text_encoder.config.words == world.VOCABULARY
    assert model.generate(prompts[0], steps=2).latents.isfinite().all()
    logged = (tmp_path / "run" / "clip" / "log.jsonl").read_text()
    assert "right_to_left" in logged
    assert "striped_to_checked" in logged
