"""Files that another program saves, with this package's description beside the tensors of each part."""

import json

import pytest
import torch
from safetensors.torch import save_file

from vidrd_core import load
from vidrd_core.io import safetensors
from vidrd_core.io.safetensors import FormatError
from vidrd_core.models.formats.weight_files import read_json
from vidrd_core.models.load_parts import described, described_text, described_vae

PREFIXES = {"unet": "model.diffusion_model.", "vae": "first_stage_model.vae.", "text": "cond_stage_model.encoder."}


@pytest.fixture(scope="module")
def tiny():
    return load("tiny")


def saved(model, path, *parts):
    """A file of some parts, as ComfyUI writes it, with other tensors in it."""
    whole = {
        "unet": described(model.unet, model.diffusion),
        "vae": described_vae(model.vae),
        "text": described_text(model.text_encoder),
    }
    tensors = {"v_pred": torch.tensor([])}
    for part in parts:
        found, details = whole[part]
        tensors |= {f"{PREFIXES[part]}{name}": tensor.clone() for name, tensor in found.items()}
        tensors[f"{PREFIXES[part]}{safetensors.DESCRIPTION}"] = safetensors.description(details)
    save_file(tensors, path, {"prompt": "{}"})
    return path


def test_a_whole_model_loads(tiny, tmp_path):
    model = load(saved(tiny, tmp_path / "all.safetensors", "unet", "vae", "text"))
    assert (model.unet.config, model.vae.config) == (tiny.unet.config, tiny.vae.config)
    assert (model.text_encoder.config, model.diffusion) == (tiny.text_encoder.config, tiny.diffusion)
    for name, tensor in tiny.unet.state_dict().items():
        assert torch.equal(model.unet.state_dict()[name], tensor)


def test_a_part_that_is_not_there_is_named(tiny, tmp_path):
    path = saved(tiny, tmp_path / "unet.safetensors", "unet")
    assert safetensors.is_ours(path)
    with pytest.raises(FormatError, match="expected a temporal VAE"):
        safetensors.read(path, "temporal VAE")


@pytest.mark.parametrize("text", [b"{", b"[1]", b"\xff\xfe", json.dumps("text").encode()])
def test_a_damaged_description_is_refused(tmp_path, text):
    tensors = {f"a.{safetensors.DESCRIPTION}": torch.frombuffer(bytearray(text), dtype=torch.uint8)}
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(FormatError, match=r"a\.safetensors has a damaged description"):
        safetensors.describe(tmp_path / "a.safetensors")


@pytest.mark.parametrize("numbers", [[0.5, -3.0], [[300]], 2**40])
def test_a_description_of_other_numbers_is_refused(tmp_path, numbers):
    save_file({f"a.{safetensors.DESCRIPTION}": torch.tensor(numbers)}, tmp_path / "a.safetensors")
    with pytest.raises(FormatError, match="damaged description"):
        safetensors.describe(tmp_path / "a.safetensors")


def test_damaged_parts_are_none(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.write(path, {"a": torch.zeros(1)}, safetensors.WHOLE_MODEL, parts={"unet": 5, "vae": {"kind": "VAE"}})
    assert safetensors.parts_of(safetensors.describe(path)) == {"vae": {"kind": "VAE"}}
    assert safetensors.has_kind(path, "VAE")
    assert not safetensors.has_kind(path, "UNet3D")
    with pytest.raises(FormatError, match="holds a VAE, expected a UNet3D"):
        safetensors.read(path, "UNet3D")


def test_details_that_python_cannot_nest_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    safetensors.write(path, {"a": torch.zeros(1)}, "UNet3D")

    def too_deep(text, **options):
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(json, "loads", too_deep)
    with pytest.raises(FormatError, match=r"a\.safetensors has a damaged description: it is nested too deep"):
        safetensors.describe(path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FormatError, match=r"config\.json is no readable JSON"):
        read_json(tmp_path / "config.json")
