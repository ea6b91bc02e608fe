"""Files that version 0.1.0 wrote: a packed model, states, an evaluation, recipes, workflows, and its options.

Numbers are compared nearly, for processors round in their own ways; files and tensors exactly.
"""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import typer

from vidrd_core import ClipState, cli, load
from vidrd_core.training.config import load_config
from vidrd_core.video import read_video

from ..workflows.convert import to_prompt
from ..workflows.stock import definitions

WRITTEN = Path(__file__).parent / "v0_1_0"
PROMPT = "a blue circle moving right"
DIGEST = "e0967012120a1012c1376943f2c963c09a11df8b93bf2d08dd101d393c79c2d4"
CLOSE = {"atol": 2e-3, "rtol": 2e-3}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A copy of what was written, as the working directory."""
    folder = shutil.copytree(WRITTEN, tmp_path / "written")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def model():
    return load(WRITTEN / "model.safetensors")


@pytest.mark.parametrize("path", sorted(WRITTEN.glob("*/clip_*.safetensors")), ids=lambda path: path.parent.name)
def test_a_state_is_written_again_byte_for_byte(path, tmp_path):
    state = ClipState.load(path)
    state.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_a_state_goes_on_as_it_did(model):
    one, two, three = (ClipState.load(WRITTEN / f"states/clip_000{i}.safetensors") for i in range(3))
    for before, after in ((one, two), (two, three)):
        made = model.extend(before, PROMPT).state
        assert torch.equal(made.noise, after.noise)
        assert (made.frame_positions, made.follows) == (after.frame_positions, after.follows)
        assert made.made_with == {**after.made_with, "dtype": "float32"}  # which older states do not say
        torch.testing.assert_close(made.latents, after.latents, **CLOSE)
        torch.testing.assert_close(made.record, after.record, **CLOSE)


def test_a_packed_model_has_the_same_weights_and_signature(model):
    assert model.signature == ClipState.load(WRITTEN / "loop/clip_0000.safetensors").model_signature
    digest = hashlib.sha256()
    for part in (model.unet, model.vae, model.text_encoder):
        for name, tensor in sorted(part.state_dict().items()):
            digest.update(name.encode() + tensor.float().numpy().tobytes())
    assert digest.hexdigest() == DIGEST


def test_its_frames_come_out_the_same(here):
    own = ["--model", "model.safetensors", "--threads", "1", "--scale", "1", "--seed", "3", "--steps", "4"]
    own += ["--dtype", "float32"]  # in which 0.1.0 computed on every processor
    assert cli.main(["generate", "a red circle", PROMPT, "--clips", "3", "-o", "again/", *own]) == 0
    again, before = (read_video(here / name)[0].astype(int) for name in ("again", "frames"))
    assert again.shape == before.shape
    assert np.abs(again - before).max() <= 2


def test_an_evaluation_is_complete_and_comes_to_the_same(here):
    records, result = Path("evaluated/records_0.jsonl").read_text(), Path("evaluated/evaluation.json").read_text()
    Path("evaluated/evaluation.json").unlink()
    what = ["--prompts", "prompts.txt", "-o", "evaluated", "--clips", "2", "--steps", "3", "--sheets", "0"]
    assert cli.main(["evaluate", *what, "--model", "model.safetensors", "--threads", "1"]) == 0
    assert Path("evaluated/records_0.jsonl").read_text() == records  # nothing was sampled or measured again
    assert json.loads(Path("evaluated/evaluation.json").read_text()) == json.loads(result)


@pytest.mark.parametrize("path", sorted(WRITTEN.glob("recipes/*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_is_read(path, here):
    Path("mix.yaml").write_text("sources: [{name: drawn, shapes: {}}]\n")
    if path.stem == "video":  # which is read to its end, where it names weights that nobody has here
        with pytest.raises(ValueError, match="there is no model 'models/stable-diffusion-2-1-base'"):
            load_config(path)
        return
    assert load_config(path).stages


def test_every_option_is_known():
    known = {}

    def walk(command, name):
        for inner, each in getattr(command, "commands", {}).items():
            walk(each, f"{name} {inner}".strip())
        known[name] = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}

    walk(typer.main.get_command(cli.app), "")
    for command, parameters in json.loads((WRITTEN / "options.json").read_text()).items():
        for kind, names, *_ in parameters:
            if kind == "option":
                assert set(names) <= known[command], command


@pytest.mark.parametrize("path", sorted(WRITTEN.glob("workflows/*.json")), ids=lambda path: path.stem)
def test_a_workflow_means_what_it_meant(path):
    """The page sends the host what it sent then; inputs may have been added since."""
    then = json.loads((WRITTEN / "prompts.json").read_text())[path.stem]
    now = to_prompt(json.loads(path.read_text()), definitions())
    assert now.keys() == then.keys()
    for name, node in then.items():
        assert now[name]["class_type"] == node["class_type"]
        assert node["inputs"] == {key: now[name]["inputs"].get(key) for key in node["inputs"]}, node["class_type"]
