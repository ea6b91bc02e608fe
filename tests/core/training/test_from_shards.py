"""From folders of media and an image model to a video model: training on shards made by `vidrd data`."""

import json
import shutil

import numpy as np
import pytest
import torch

from vidrd_core.data.captions import Sidecar
from vidrd_core.data.clip_sampling import ClipSettings
from vidrd_core.data.long_videos import LongVideos
from vidrd_core.data.manifests import DataError
from vidrd_core.data.runner import run
from vidrd_core.data.shards import Shards
from vidrd_core.data.stills import Stills
from vidrd_core.loading import load
from vidrd_core.models.formats.unet_keys import is_temporal
from vidrd_core.models.load_parts import load_unet, load_vae
from vidrd_core.training.batches import Batches
from vidrd_core.training.config import load_config
from vidrd_core.training.data import RecipeError
from vidrd_core.training.recipe import Recipe

from ..data.media import moving, write_still, write_video
from ..models.formats import originals
from .helpers import STAGE, write_recipe

CLIP = {"name": "clip", "task": "clip", "steps": 3, "train": "paper", **STAGE}
DECODER = {"name": "decoder", "task": "vae_temporal", "steps": 3, "train": "temporal", **STAGE}


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Shards of wide and high videos, of pseudo-videos and of images."""
    folder = tmp_path_factory.mktemp("media")
    for i, (width, height) in enumerate([(96, 64), (96, 64), (64, 96), (64, 96), (96, 64)]):
        path = write_video(folder / "films" / f"{i}.mp4", moving(1, width=width, height=height, seed=i))
        path.with_suffix(".txt").write_text(f"film number {i}")
    for i in range(3):
        write_still(folder / "pictures" / f"{i}.png", 128, 96, seed=i, caption=f"picture {i}")
    clips = ClipSettings(frames=6, fps=8, size=32)
    run(LongVideos(folder / "films", Sidecar(), ClipSettings(frames=6, fps=8, size=32)), folder / "s" / "films")
    run(Stills(folder / "pictures", Sidecar(), clips), folder / "s" / "pseudo")
    run(Stills(folder / "pictures", Sidecar(), clips, motion=False), folder / "s" / "images")
    return folder


@pytest.fixture(scope="module")
def image_model(tmp_path_factory):
    return originals.stable_diffusion(tmp_path_factory.mktemp("sd"))


def sources(media, *names):
    return [{"shards": str(media / "s" / name)} for name in names or ("films", "pseudo", "images")]


def recipe(media, image_model, tmp_path, **changes):
    data = {"frames": 4, "sizes": [[32, 32], [48, 32], [32, 48]], "sources": sources(media)}
    settings = {
        "init": str(image_model), "data": {**data, **changes.pop("data", {})}, "stages": [CLIP, DECODER],
        "samples": {"prompts": ["a film"], "steps": 2, "clips": 2},
        "unet": {}, "vae": {}, "text": {}, "diffusion": {},
    }  # fmt: skip
    return write_recipe(tmp_path / "recipe.yaml", **{**settings, **changes})


def test_an_image_model_and_folders_become_a_video_model(media, image_model, tmp_path):
    config = load_config(recipe(media, image_model, tmp_path))
    folder = Recipe(config).run()
    before, after = (load_unet(path)[0].state_dict() for path in (image_model, folder / "unet.safetensors"))
    assert {name for name in after if name not in before} == {name for name in after if is_temporal(name)}
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(".attn1." in name or ".attn2." in name for name in changed), "ResNets are frozen"
    assert any(after[name].abs().max() > 0 for name in after if "conv4" in name), "Temp-Conv was trained"
    old, new = (load_vae(path).state_dict() for path in (image_model, folder / "vae.safetensors"))
    assert all(torch.equal(value, new[name]) for name, value in old.items()), "but for Temp-Conv the VAE stays"
    assert any(value.abs().max() > 0 for name, value in new.items() if "temp_convs" in name)
    model = load(folder)
    assert (model.diffusion.frames, model.unet.config.temp_attention) == (4, "inside")
    clip = model.generate("a film", steps=2)
    assert model.frames(clip).shape == (4, 32, 32, 3)
    assert load(folder, temporal=folder / "temporal.safetensors").generate("a film", steps=1) is not None
    run_folder = tmp_path / "run" / "clip"
    assert {path.name for path in run_folder.glob("*_000003.*")} == {
        "sample_000003.png", "long_000003.png", "long_000003.mp4",
    }  # fmt: skip
    texts = [np.load(path) for path in (tmp_path / "run" / "bank").glob("texts_*.npy")]
    assert [text.shape for text in texts] == [(9, 77, originals.TEXT_WIDTH)], "each caption once, and the empty one"


def test_clips_go_to_the_size_of_their_aspect_ratio(media, image_model, tmp_path):
    config = load_config(recipe(media, image_model, tmp_path))
    data = Recipe(config).data
    sampler = data.sampler({})
    sizes = {(bucket.source, bucket.size): len(bucket.indices) for bucket in sampler.buckets}
    assert sizes == {
        ("films", (48, 32)): 3, ("films", (32, 48)): 2, ("pseudo", (32, 32)): 3, ("images", (32, 32)): 3,
    }  # fmt: skip
    shares = {(bucket.source, bucket.size): bucket.share for bucket in sampler.buckets}
    assert shares["films", (48, 32)] == pytest.approx(3 / 5 / 3)
    batches = Batches(data, load_vae(image_model), config.stages[0])
    shapes = {batches.draw(np.random.default_rng(i), 4, gives_positions=True).latents.shape[2:] for i in range(20)}
    assert shapes == {(4, 16, 24), (4, 24, 16), (4, 16, 16)}
    starts = {
        int(batches.draw(np.random.default_rng(i), 4, gives_positions=True).frame_positions[0, 0]) for i in range(40)
    }
    assert starts == {0, 1, 2}, "any 4 of the 6 frames"


def test_without_a_cache_it_is_the_same_but_for_half_precision(media, image_model, tmp_path):
    weights = []
    for name, cache in (("cached", True), ("uncached", False)):
        (tmp_path / name).mkdir()
        path = recipe(media, image_model, tmp_path / name, data={"cache": cache}, stages=[CLIP])
        weights.append(load_unet(Recipe(load_config(path)).run() / "unet.safetensors")[0].state_dict())
        assert (tmp_path / name / "run" / "bank").exists() == cache
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=0, atol=5e-3)


def test_without_pseudo_videos(media, image_model, tmp_path):
    config = load_config(recipe(media, image_model, tmp_path, data={"pseudo_videos": False}))
    assert sorted(Recipe(config).data.clips) == ["films", "images"]


def test_a_mixture_is_named_by_its_file(media, image_model, tmp_path):
    text = json.dumps({"sources": [{"shards": str(media / "s" / "films"), "weight": 3}, *sources(media, "images")]})
    (tmp_path / "mix.yaml").write_text(text)
    config = load_config(
        recipe(media, image_model, tmp_path, data={"sources": [], "mix": str(tmp_path / "mix.yaml")})
    )
    buckets = Recipe(config).data.sampler({}).buckets
    assert sum(bucket.share for bucket in buckets if bucket.source == "films") == pytest.approx(0.75)


def test_the_held_out_loss_is_logged_and_tracked(media, image_model, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    held = {"held_out": 0.3, "sources": sources(media, "films")}
    stage = {**CLIP, "evaluate_every": 1}
    path = recipe(media, image_model, tmp_path, data=held, stages=[stage], trackers=["tensorboard"])
    Recipe(load_config(path)).run()
    lines = [json.loads(line) for line in (tmp_path / "run" / "clip" / "log.jsonl").read_text().splitlines()]
    losses = [line["held_out_mse"] for line in lines if "held_out_mse" in line]
    assert len(losses) == 3
    assert all(0 < loss < 10 for loss in losses)
    assert len(set(losses)) == 3, "the model changes, the batches do not"
    (events,) = (tmp_path / "run" / "clip").rglob("events.out.tfevents.*")
    board = EventAccumulator(str(events.parent)).Reload()
    assert [e.value for e in board.Scalars("clip/held_out_mse")] == pytest.approx(losses, rel=1e-5)
    assert sorted(board.Tags()["images"]) == ["clip/long", "clip/sample"]


def test_clips_that_fit_no_size_are_left_out(media, image_model, tmp_path, capsys):
    path = recipe(media, image_model, tmp_path, data={"sizes": [[48, 32]], "sources": sources(media, "films")})
    (bucket,) = Recipe(load_config(path)).data.sampler({}).buckets
    assert len(bucket.indices) == 3
    assert capsys.readouterr().out.count("source films: 2 clips are left out, of 32 x 48 pixels, too small for") == 1


def test_invalid_data_raises_before_anything_is_trained(media, image_model, tmp_path):
    def refused(message, **data):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        with pytest.raises(RecipeError, match=message):
            Recipe(load_config(recipe(media, image_model, tmp_path, data=data))).run()
        assert not list((tmp_path / "run").glob("*/log.jsonl"))

    refused("there is no folder .*nowhere with shards", sources=[{"shards": str(tmp_path / "nowhere")}])
    refused("source films has 5 clips of 6 frames, and 8 are trained: use --frames 8 for its shards", frames=8)
    refused("source films has 3 clips of 48 x 32 pixels, too small for 64 x 64", sizes=[[64, 64]])
    broken = tmp_path / "broken"
    shutil.copytree(media / "s" / "films", broken)
    next(broken.glob("*.tar")).unlink()
    refused("shard_000000.tar is missing, and its manifest names 5 clips", sources=[{"shards": str(broken)}])


def test_a_shard_that_goes_away_stops_the_training_and_leaves_the_checkpoint(
    media, image_model, tmp_path, monkeypatch
):
    films = tmp_path / "films"
    shutil.copytree(media / "s" / "films", films)
    stage = {**CLIP, "steps": 6, "checkpoint_every": 1}
    data = {"cache": False, "sources": [{"shards": str(films)}]}
    path = recipe(media, image_model, tmp_path, data=data, stages=[stage])
    from vidrd_core.training.trainer import Trainer

    step = Trainer.train_step

    def losing(self):
        if self.step == 2:
            next(films.glob("*.tar")).unlink()
        return step(self)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train_step", losing)
        with pytest.raises(DataError, match=r"shard_000000.tar cannot be read: No such file"):
            Recipe(load_config(path)).run()
    step_kept = json.loads((tmp_path / "run" / "clip" / "latest.json").read_text())["step"]
    assert step_kept in (2, 3)
    shutil.copytree(media / "s" / "films", films, dirs_exist_ok=True)
    assert len(Shards(films)) == 5
    Recipe(load_config(path)).run()
    assert (tmp_path / "run" / "clip" / "done").exists()


@pytest.mark.parametrize("caption", ["bird " * 40, "x" * 300, "tag," * 100, "(heavy:2) " * 20])
def test_a_caption_that_is_too_long_is_cut_after_its_last_token_that_fits(image_model, caption):
    encoder = load(image_model).text_encoder  # of a tokenizer of letters
    (row,) = encoder.tokenize([caption]).tolist()
    everything = encoder.tokenizer(caption).input_ids
    assert row == [*everything[:76], encoder.tokenizer.eos_token_id]
    assert encoder.tokenize([""])[0, 1] == encoder.tokenizer.eos_token_id


def test_captions_of_words_are_cut_after_the_last_word_that_fits():
    encoder = load("tiny").text_encoder
    (row,) = encoder.tokenize([",".join(["red"] * 40)]).tolist()
    assert row == [0, *encoder.token_ids("red") * 30, 1]


def test_of_few_clips_one_is_held_out(media, image_model, tmp_path, capsys):
    held = {"held_out": 0.02, "sources": sources(media, "films")}
    path = recipe(media, image_model, tmp_path, data=held, stages=[{**CLIP, "evaluate_every": 3}])
    Recipe(load_config(path)).run()
    assert "held_out_mse" in (tmp_path / "run" / "clip" / "log.jsonl").read_text()


def test_without_a_held_out_clip_that_fits_there_is_no_held_out_loss(media, image_model, tmp_path, capsys):
    held = {"held_out": 0.02, "sizes": [[32, 48]], "sources": sources(media, "films")}  # the last film is wide
    Recipe(load_config(recipe(media, image_model, tmp_path, data=held, stages=[{**CLIP, "evaluate_every": 3}]))).run()
    assert capsys.readouterr().out.count("nothing that fits is held out") == 1
    assert "held_out_mse" not in (tmp_path / "run" / "clip" / "log.jsonl").read_text()


def test_a_subset_of_a_bucket_has_its_own_clips_alone(media, image_model, tmp_path):
    data = Recipe(load_config(recipe(media, image_model, tmp_path, data={"sources": sources(media, "films")}))).data
    bucket = max(data.sampler({}).buckets, key=lambda bucket: len(bucket.indices))
    subset = bucket.subset(slice(1, 2))
    assert len(subset.clips) == len(subset.indices) == 1
    assert np.array_equal(subset.pixels(0), bucket.pixels(1))


def test_two_sources_of_one_name_are_refused(media, image_model, tmp_path):
    shutil.copytree(media / "s" / "films", tmp_path / "films")
    entries = [{"shards": str(media / "s" / "films")}, {"shards": str(tmp_path / "films")}]
    (tmp_path / "mix.yaml").write_text(json.dumps({"sources": entries}))
    with pytest.raises(ValueError, match="two sources are called films: give one another name"):
        load_config(recipe(media, image_model, tmp_path, data={"sources": [], "mix": str(tmp_path / "mix.yaml")}))
