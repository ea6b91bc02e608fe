"""The model that ships inside the package."""

import pytest
import torch

from vidrd_core import built_in_models, load
from vidrd_core.data.readout import read_clip
from vidrd_core.data.shapes import VOCABULARY
from vidrd_core.loading import PARTS, pack


@pytest.fixture(scope="module")
def tiny():
    return load("tiny")


def test_it_ships_whole_and_small():
    folder = built_in_models()["tiny"]
    assert sum((folder / part).stat().st_size for part in PARTS) <= 16e6
    assert (folder / "README.md").is_file()


def test_it_knows_all_words_of_the_procedural_captions(tiny):
    assert tiny.text_encoder.config.words == VOCABULARY


@pytest.mark.parametrize(("color", "background"), [("red", "black"), ("yellow", "navy"), ("white", "brown")])
def test_its_colours_are_those_of_the_prompt(tiny, color, background):
    clip = tiny.generate(f"a large {color} square on a {background} background", steps=12, seed=3)
    reading = read_clip(tiny.frames(clip))
    assert (reading.sprites[0].color, reading.background) == (color, background)


def test_packing_it_again_changes_nothing(tiny, tmp_path):
    pack("tiny", tmp_path / "copy")
    copy = load(tmp_path / "copy")
    assert copy.signature == tiny.signature
    for part in ("unet", "vae", "text_encoder"):
        theirs = getattr(copy, part).state_dict()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in getattr(tiny, part).state_dict().items())
