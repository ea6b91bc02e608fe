"""The model that ships inside the package."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vidrd_core import ReuseSettings, built_in_models, load
from vidrd_core.loading import PARTS, pack
from vidrd_core.models.load_parts import load_text_encoder
from vidrd_core.procedural import VOCABULARY
from vidrd_core.procedural.recognition import recognize


@pytest.fixture(scope="module")
def tiny():
    return load("tiny")


def test_it_ships_complete_and_small():
    folder = built_in_models()["tiny"]
    assert sum((folder / part).stat().st_size for part in PARTS) <= 16e6
    assert (folder / "README.md").is_file()


def test_it_knows_all_words_of_the_procedural_captions(tiny):
    assert set(VOCABULARY) == set(tiny.text_encoder.config.words)


@pytest.mark.parametrize(
    ("prompt", "color", "shape", "motion", "background"),
    [
        ("a large red circle moving right", "red", "circle", "right", "black"),
        ("a yellow star spins over a navy background", "yellow", "star", "spin", "navy"),
        ("a white square growing on a brown background", "white", "square", "grow", "brown"),
        ("a big blue cross slides up and to the left", "blue", "cross", "up-left", "black"),
        ("a green triangle going in a circle on a gray background", "green", "triangle", "circle", "gray"),
        ("a purple ring bouncing", "purple", "ring", "bounce", "black"),
        ("a large orange square", "orange", "square", "stay", "black"),
    ],
)
def test_it_generates_what_the_prompt_says(tiny, prompt, color, shape, motion, background):
    reading = recognize(tiny.frames(tiny.generate(prompt, steps=15, seed=3)))
    (sprite,) = reading.sprites
    assert (sprite.color, sprite.shape, sprite.motion, reading.background) == (color, shape, motion, background)


def test_a_later_clip_follows_the_later_prompt(tiny):
    clips = tiny.stream(["a red circle", "a blue square"], 3, ReuseSettings(), steps=15, seed=3)
    frames = tiny.frames(clips)
    words = [recognize(frames[start : start + 8]).sprites[0] for start in (0, 8, 16)]
    assert [(word.color, word.shape) for word in words[::2]] == [("red", "circle"), ("blue", "square")]


@pytest.mark.parametrize("name", ["copy", "copy.safetensors"])
def test_packing_it_changes_nothing(tiny, tmp_path, name):
    pack("tiny", tmp_path / name)
    copy = load(tmp_path / name)
    assert copy.name == "copy"
    assert copy.signature == tiny.signature
    for part in ("unet", "vae", "text_encoder"):
        theirs = getattr(copy, part).state_dict()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in getattr(tiny, part).state_dict().items())


def test_a_model_is_packed_only_elsewhere_and_complete(tmp_path):
    folder = built_in_models()["tiny"]
    with pytest.raises(ValueError, match="holds the model itself, which would lose precision: name another one"):
        pack("tiny", folder)
    for part in PARTS[:2]:
        (tmp_path / part).write_bytes((folder / part).read_bytes())
    save_file({"a": torch.zeros(2)}, tmp_path / PARTS[2])
    with pytest.raises(ValueError, match=r"text_encoder.safetensors holds no known part of a model"):
        pack(tmp_path, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_text_encoders_of_other_transformers_versions_are_read(tiny, tmp_path):
    """Version 4 has a text_model between the model and its layers, version 5 has none."""
    path = built_in_models()["tiny"] / "text_encoder.safetensors"
    with safe_open(path, framework="pt") as file:
        weights, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    assert json.loads(metadata["vidrd"])["kind"] == "text encoder"
    plain = {name.replace("clip.text_model.", "clip."): value for name, value in weights.items()}
    for middle in ("", "text_model."):
        named = {name.replace("clip.", "clip." + middle): value for name, value in plain.items()}
        save_file(named, tmp_path / "text.safetensors", metadata)
        again = load_text_encoder(tmp_path / "text.safetensors").state_dict()
        assert all(torch.equal(value, again[name]) for name, value in tiny.text_encoder.state_dict().items())
