"""Third-party models packed into our files: they load without other files and make the same."""

import shutil

import pytest
import torch

from vidrd_core import load
from vidrd_core.io import safetensors
from vidrd_core.io.safetensors import FormatError
from vidrd_core.loading import PARTS, pack
from vidrd_core.models.inflate import save_temporal, with_temporal
from vidrd_core.models.load_parts import CLIP_TEXT, load_clip_text, load_text_encoder, save_text_encoder
from vidrd_core.models.unet3d import UNet3D

from ....conftest import randomise
from . import originals

SETTINGS = {"steps": 3, "cfg": 3.0, "frames": 4, "width": 32, "height": 32, "seed": 3}


@pytest.fixture
def folder(tmp_path):
    originals.modelscope(tmp_path, prediction_type="v_prediction")
    return tmp_path / "model"


def same_weights(one, other):
    for part in ("unet", "vae", "text_encoder"):
        first, second = getattr(one, part).state_dict(), getattr(other, part).state_dict()
        assert first.keys() == second.keys()
        assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize("name", ["copy", "copy.safetensors"])
def test_a_packed_model_loads_alone_and_makes_the_same(folder, tmp_path, name):
    pack(folder, tmp_path / name, dtype=torch.float32)
    theirs, ours = load(folder), load(tmp_path / name)
    same_weights(theirs, ours)
    assert ours.diffusion == theirs.diffusion
    assert ours.diffusion.prediction == "v"
    clips = [model.generate("a cat, two dogs", negative="dull", **SETTINGS) for model in (theirs, ours)]
    assert torch.equal(*(clip.latents for clip in clips))
    assert (theirs.frames(clips[0]) == ours.frames(clips[1])).all()
    if name == "copy":
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == sorted(PARTS)


def test_packing_in_half_precision_twice(folder, tmp_path):
    pack(folder, tmp_path / "half.safetensors")
    pack(tmp_path / "half.safetensors", tmp_path / "again")
    same_weights(load(tmp_path / "half.safetensors"), load(tmp_path / "again"))
    tensors, _ = safetensors.read(tmp_path / "half.safetensors", CLIP_TEXT)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16, torch.uint8}


def test_packing_parts_of_several_models(folder, tmp_path):
    config = load(folder).unet.config
    layers = randomise(UNet3D(config), seed=5)
    save_temporal(layers, tmp_path / "layers.safetensors")
    originals.vae(widths=(8, 16)).save_pretrained(tmp_path / "vae")
    given = {"vae": tmp_path / "vae", "temporal": tmp_path / "layers.safetensors", "prediction": "eps"}
    pack(folder, tmp_path / "mixed.safetensors", dtype=torch.float32, **given)
    ours, theirs = load(tmp_path / "mixed.safetensors"), load(folder, **given)
    same_weights(ours, theirs)
    assert ours.vae.config.block_out_channels == (8, 16)
    assert ours.diffusion.prediction == "eps"
    spatial, flat = dict(load(folder).unet.state_dict()), load(folder).unet.config
    expected, _ = with_temporal(spatial, flat, tmp_path / "layers.safetensors")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in ours.unet.state_dict().items())


def test_the_clip_tokenizer_is_inside_and_can_be_replaced(folder, tmp_path):
    encoder = load_clip_text(folder)
    save_text_encoder(encoder, tmp_path / "text.safetensors")
    again = load_clip_text(tmp_path / "text.safetensors")
    prompts = ["a cat", "A dog, 7 times!", ""]
    assert again.config == encoder.config
    assert torch.equal(again.tokenize(prompts), encoder.tokenize(prompts))
    assert torch.equal(again.encode(prompts), encoder.encode(prompts))
    load_clip_text(tmp_path / "text.safetensors", folder / "tokenizer")
    with pytest.raises(FileNotFoundError, match="there is no CLIP tokenizer in"):
        load_clip_text(tmp_path / "text.safetensors", tmp_path / "vae")
    assert load(folder, text_encoder=tmp_path / "text.safetensors").text_encoder.config == encoder.config
    with pytest.raises(FormatError, match="holds a CLIP text encoder, expected a text encoder"):
        load_text_encoder(tmp_path / "text.safetensors")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tokenizer/../out", "with a folder in its name"),
        ("tokenizer/words.txt", "has to be packed again"),
    ],
)
def test_a_damaged_tokenizer_is_refused(folder, tmp_path, name, message):
    save_text_encoder(load_clip_text(folder), tmp_path / "text.safetensors")
    tensors, details = safetensors.read(tmp_path / "text.safetensors", CLIP_TEXT)
    tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith("tokenizer/")}
    safetensors.write(tmp_path / "text.safetensors", {**tensors, name: torch.ones(3).byte()}, **details)
    with pytest.raises(FormatError, match=message):
        load_clip_text(tmp_path / "text.safetensors")
    assert not (tmp_path / "out").exists()


def test_an_incomplete_model_is_not_packed(folder, tmp_path):
    shutil.rmtree(folder / "vae")
    with pytest.raises(FileNotFoundError, match=r"has no VAE: name one with --vae \(vae=\), as the folder vae of"):
        pack(folder, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
