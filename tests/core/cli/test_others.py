"""`info`, `models`, `pack`, `convert`, `train`, `--help`."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from vidrd_core import cli
from vidrd_core.io import safetensors
from vidrd_core.models.config import UNet3DConfig
from vidrd_core.models.load_parts import save_unet
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.sampling import DiffusionConfig
from vidrd_core.state import ClipState

from ...conftest import TEXT, UNET
from .helpers import PROMPTS, error_line

# One frame of one pixel without a duration.
STILL_GIF = bytes.fromhex("47494638396101000100800000000000ffffff2c00000000010001000002024401003b")


def test_info_describes_files(vidrd, whole, folder, tmp_path):
    parameters = sum(p.numel() for p in UNet3D(UNET).parameters())
    Path("torch.ckpt").write_bytes(pickle.dumps([1]))
    save_file({name: torch.zeros(2) for name in "abcde"}, "foreign.safetensors")
    assert vidrd("generate", PROMPTS[0], "--steps", 1, "-o", "one.gif")[0] == 0
    for name in ("one.webp", "one.apng"):
        assert vidrd("generate", PROMPTS[0], "--steps", 1, "--fps", 12.5, "-o", name)[0] == 0
    Path("still.gif").write_bytes(STILL_GIF)
    for path, facts in {
        "one.gif": ["video (gif, gif)", "frames 8", "fps 8", "prompt 1 a red circle"],
        "one.webp": ["video (webp, webp)", "frames 8", "fps 12.5", "prompt 1 a red circle", "made with", "steps 1"],
        "one.apng": ["video (apng, apng)", "frames 8", "fps 12.5", "prompt 1 a red circle", "made with", "steps 1"],
        "still.gif": ["video (gif, gif)", "frames 1", "fps 8"],
        whole / "long.mp4": ["video (mp4, h264)", "frames 24", "size 32 x 32 pixels", "seed 0, steps 4, cfg 3.0"],
        whole / "frames": ["24 PNG frames", "prompt 2 a blue circle moving right"],
        whole / "states": ["3 clip states, clip_0000.safetensors to clip_0002.safetensors"],
        whole / "states" / "clip_0001.safetensors": ["clip state of clip 1", "alpha 4.0", "up to 4 prompt frames"],
        "tiny": ["model folder", "temporal VAE"],
        folder: ["model folder", f"unet.safetensors UNet3D, {parameters:,} parameters"],
        folder / "unet.safetensors": ["UNet3D", "heads 2 2", "prediction v", f"parameters {parameters:,}"],
        "foreign.safetensors": ["not made by vidrd", "5: a, b, c, ..."],
    }.items():
        code, out, err = vidrd("info", path)
        assert (code, err) == (0, "")
        text = " ".join(out.split())
        assert [fact for fact in facts if fact not in text] == []
    Path("empty").mkdir()
    Path("text.txt").write_text("hello")
    Path("cut.mp4").write_bytes((whole / "long.mp4").read_bytes()[:2000])
    for name, message in {
        "torch.ckpt": "torch.ckpt is a pickle that holds something other than weights; it could run any code",
        "cut.mp4": "cut.mp4 is damaged, or no mp4, webm or gif video (",
        "text.txt": "is no safetensors file, and no video that can be read",
        "empty": "is a folder with no model parts, clip states or PNG frames in it",
        "none": "there is no file none",
    }.items():
        assert message in error_line(*vidrd("info", name))


def keys_of(value):
    """All keys in JSON data."""
    if isinstance(value, dict):
        yield from value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from keys_of(inner)


def test_info_as_json_is_data(vidrd, whole, folder):
    def info(path):
        code, out, err = vidrd("info", path, "--json")
        assert (code, err) == (0, "")
        found = json.loads(out)
        assert [key for key in keys_of(found) if not key.replace("_", "").isalnum()] == []
        return found

    prompts = [PROMPTS[0], PROMPTS[1]]
    video = info(whole / "long.mp4")
    assert (video["frames"], video["size"], video["fps"], video["seconds"]) == (24, [32, 32], 8.0, 3.0)
    assert video["bytes"] == (whole / "long.mp4").stat().st_size
    assert video["prompts"] == prompts
    frames = info(whole / "frames")
    assert (frames["frames"], frames["size"], frames["fps"]) == (24, [32, 32], 8.0)
    for made in (video["made_with"], frames["made_with"]):
        known = {"seed": 0, "steps": 4, "cfg": 3.0, "anchor": 0.0, "warmup_latents": 0}
        assert {name: made[name] for name in known} == known
    state = info(whole / "states" / "clip_0001.safetensors")
    assert (state["index"], state["prompt"], state["settings"]["steps"]) == (1, PROMPTS[1], 4)
    assert state["reuse"]["alpha"] == 4.0
    assert {"anchor", "warmup_latents"} <= state["reuse"].keys()
    assert (state["max_prompt_frames"], state["shapes"]["noise"]) == (4, [1, 4, 8, 8, 8])
    last = info(whole / "states")
    assert (last["states"], last["index"], last["prompt"]) == (3, 2, PROMPTS[1])
    unet = info(folder / "unet.safetensors")
    parameters = sum(p.numel() for p in UNet3D(UNET).parameters())
    assert (unet["parameters"], unet["config"]["heads"], unet["diffusion"]["prediction"]) == (parameters, [2, 2], "v")
    parts = info(folder)
    assert {key: value for key, value in unet.items() if key != "file"} == parts["unet"]
    assert parts["missing"] == []
    assert vidrd("pack", folder, "-o", "one.safetensors")[0] == 0
    assert info("one.safetensors")["unet"]["config"] == unet["config"]
    save_file({"a": torch.zeros(2), "b": torch.zeros(3)}, "foreign.safetensors")
    assert (info("foreign.safetensors")["tensors"], info("foreign.safetensors")["parameters"]) == (2, 5)


def test_info_shows_current_names(vidrd, whole):
    for path in (whole / "states" / "clip_0001.safetensors", whole / "long.mp4"):
        text = vidrd("info", path)[1]
        assert "anchor 0.0, loop none, warmup latents 0" in text
        assert not re.search(r"\b(drift|head|levels|injected|opening)\b|shape of anchor", text)
    text = vidrd("info", whole / "states" / "clip_0001.safetensors")[1]
    assert "shape of first clip statistics  2 x 1 x 4\n" in text
    assert "shape of call sigmas            4\n" in text


def test_info_reports_the_damage_of_a_state(vidrd, whole):
    state = ClipState.load(whole / "states" / "clip_0000.safetensors")
    replace(state, noise=state.noise * float("nan")).save("broken.safetensors")
    assert "is damaged: its noise holds numbers that are not finite" in error_line(
        *vidrd("info", "broken.safetensors")
    )
    assert "Invalid value for 'FILE': it is empty: give a name" in error_line(*vidrd("info", ""))


def test_info_shows_how_the_states_of_a_folder_branch(vidrd, whole):
    shutil.copytree(whole / "states", "states")
    assert "branch" not in vidrd("info", "states")[1]
    extend = ("--steps", 4, "--save-state", "states/other.safetensors", "-o", "other.mp4")
    assert vidrd("extend", "states/clip_0000.safetensors", PROMPTS[0], "--clips", 1, *extend)[0] == 0
    text = " ".join(vidrd("info", "states")[1].split())
    assert "folder of 4 clip states, clip_0000.safetensors to other.safetensors" in text
    assert "branch 0 clips 0 to 2: clip_0000.safetensors, clip_0001.safetensors, clip_0002.safetensors" in text
    assert "branch 1 clip 1, after clip 0 of branch 0: other.safetensors" in text
    told = json.loads(vidrd("info", "states", "--json")[1])["branches"]
    assert [each["clips"] for each in told] == [[0, 1, 2], [1]]


def test_models_lists_the_built_in_models(vidrd, folder, monkeypatch):
    from vidrd_core import loading

    monkeypatch.setattr(loading, "built_in_models", lambda: {"random": folder})
    code, out, _ = vidrd("models")
    assert code == 0
    text = " ".join(out.split())
    assert "random" in text
    for fact in ("0.11 M", "8 frames of 32 x 32", "v", *TEXT.words):
        assert fact in text
    monkeypatch.setattr(loading, "built_in_models", dict)
    assert "no model is built in; --model takes a folder" in vidrd("models")[1]


def test_pack_makes_a_smaller_copy(vidrd, folder):
    assert vidrd("pack", folder, "-o", "small")[0] == 0
    sizes = [sum(file.stat().st_size for file in Path(where).iterdir()) for where in (folder, "small")]
    assert sizes[1] < 0.7 * sizes[0]
    assert vidrd("generate", PROMPTS[0], "--steps", 1, "--model", "small", "-o", "one.gif")[0] == 0
    before = Path("small", "unet.safetensors").read_bytes()
    assert "small already holds unet.safetensors, " in error_line(*vidrd("pack", "tiny", "-o", "small"))
    assert Path("small", "unet.safetensors").read_bytes() == before
    assert vidrd("pack", folder, "-o", "small", "--overwrite")[0] == 0


def test_pack_makes_one_file(vidrd, folder):
    assert vidrd("pack", folder, "-o", "one.safetensors")[0] == 0
    lines = [" ".join(line.split()) for line in vidrd("info", "one.safetensors")[1].splitlines()]
    assert lines[1:5] == ["kind whole model", "unet UNet3D", "vae temporal VAE", "text_encoder text encoder"]
    assert vidrd("generate", PROMPTS[0], "--steps", 1, "--model", "one.safetensors", "-o", "one.gif")[0] == 0
    assert "one.safetensors is there already: add --overwrite" in error_line(
        *vidrd("pack", "tiny", "-o", "one.safetensors")
    )
    assert vidrd("pack", "one.safetensors", "-o", "apart")[0] == 0
    assert vidrd("generate", PROMPTS[0], "--steps", 1, "--model", "apart", "-o", "one.gif")[0] == 0
    assert "expected a UNet3D" in error_line(
        *vidrd("generate", PROMPTS[0], "--model", "apart/vae.safetensors", "-o", "one.gif")
    )


def test_pack_takes_other_parts(vidrd, folder):
    run = ("pack", folder, "-o", "one.safetensors", "--vae", "tiny/vae.safetensors")
    assert "there is no file or folder tiny/vae.safetensors" in error_line(*vidrd(*run))
    assert vidrd(*run[:4], "--vae", folder / "vae.safetensors", "--prediction", "eps")[0] == 0
    parts = safetensors.parts_of(safetensors.describe(Path("one.safetensors")))
    assert parts["unet"]["diffusion"]["prediction"] == "eps"


def test_convert_writes_a_part_and_reports_settings_that_the_format_cannot_hold(vidrd, tmp_path):
    heads = {"block_out_channels": (64, 64), "heads": (1, 1), "cross_attention_dim": 64, "layers_per_block": 1}
    flat = UNet3DConfig(**heads, attention_levels=(True, False), temp_conv_depth=0, temp_attention="none")
    save_unet(UNet3D(flat), DiffusionConfig(prediction="v"), tmp_path / "flat.safetensors")
    code, out, err = vidrd("convert", "flat.safetensors", "--to", "ldm", "-o", "sd.safetensors")
    assert (code, out) == (0, "sd.safetensors: unet of flat.safetensors, for ldm\n")
    assert "the file has no place for prediction=v: give it where you load it" in err
    again = ("convert", "flat.safetensors", "--to", "ldm", "-o", "sd.safetensors")
    assert "sd.safetensors is there already: add --overwrite" in error_line(*vidrd(*again))
    assert vidrd(*again, "--overwrite")[0] == 0
    code, out, err = vidrd("convert", "tiny", "--to", "vidrd", "--part", "vae", "-o", "vae.safetensors")
    assert (code, err) == (0, "")
    assert "temporal VAE" in vidrd("info", "vae.safetensors")[1]
    assert "diffusers has no network with position_features" in error_line(
        *vidrd("convert", "tiny", "--to", "diffusers", "-o", "out")
    )


def test_train_runs_a_recipe(vidrd, monkeypatch, tmp_path):
    stages = pytest.importorskip("vidrd_core.training.recipe")
    ran = []

    def run(self, only):
        ran.append((len(self.config.stages), only))
        return self.model

    monkeypatch.setattr(stages.Recipe, "run", run)
    recipe = {
        "out": "out",
        "data": {"sources": [{"shapes": {}}]},
        "stages": [{"name": "vae", "task": "vae", "steps": 1, "batch_size": 1, "learning_rate": 1}],
    }
    Path("own.yaml").write_text(json.dumps(recipe))
    assert vidrd("train", "own.yaml", "--stage", "vae")[0] == 0
    assert vidrd("train", "tiny")[0] == 0
    assert (ran[0], ran[1][1]) == ((1, "vae"), None)


def test_bad_recipes_are_refused(vidrd, monkeypatch):
    pytest.importorskip("vidrd_core.training.recipe")
    texts = {"word": "word", "unknown": "{out: a, stages: [1], size: 3}", "short": "{out: a, stages: [{name: x}]}"}
    texts |= {
        "broken": "{",
        "good": "{out: a, data: {sources: [{shapes: {}}]}, "
        "stages: [{name: x, task: vae, steps: 1, batch_size: 1, learning_rate: 1}]}",
    }
    for name, text in texts.items():
        Path(name).write_text(text)
    before = sorted(os.listdir())
    for run, message in [
        (["nothing"], "there is no recipe 'nothing': give a YAML file, or one of "),
        (["word"], "error: word: it holds no settings"),
        (["unknown"], "unknown settings size"),
        (["broken"], "broken, line 1 is not YAML"),
        (["short"], "task"),
        (["good", "--stage", "y"], "there is no stage 'y'; the recipe has x"),
    ]:
        assert message in error_line(*vidrd("train", *run))
    assert sorted(os.listdir()) == before
    for name in ("vidrd_core.training.config", "vidrd_core.training.recipe"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert "training needs yaml, which is missing: pip install -e '.[train]' in this package's folder" in error_line(
        *vidrd("train", "good")
    )


def test_help_names_the_extras_in_brackets():
    for command, extra in ((["train"], ".[train]"), (["data", "videos"], "ray[data]")):
        text = CliRunner().invoke(cli.app, [*command, "--help"], terminal_width=200).output
        assert extra in text


def test_a_packaged_recipe_is_saved_for_editing(vidrd):
    code, out, err = vidrd("train", "video", "--save-as", "mine.yaml")
    assert (code, out) == (0, "")
    assert err.startswith("vidrd: the recipe is in mine.yaml: name your own model, data and folders there")
    assert "train: paper" in Path("mine.yaml").read_text()
    assert "mine.yaml is there already" in error_line(*vidrd("train", "video", "--save-as", "mine.yaml"))
    assert "the mix mix.yaml cannot be read" in error_line(*vidrd("train", "mine.yaml"))


def test_help_and_version():
    runner = CliRunner()
    without, with_option = runner.invoke(cli.app, []), runner.invoke(cli.app, ["--help"])
    assert (without.exit_code, with_option.exit_code) == (0, 0)
    assert without.output.split() == with_option.output.split()
    assert "Examples" in without.output
    for name in ("generate", "extend", "models", "info", "train"):
        help_text = runner.invoke(cli.app, [name, "-h"], terminal_width=200).output
        assert name in without.output
        assert "Usage:" in help_text
    assert runner.invoke(cli.app, ["--version"]).output.startswith("vidrd ")


def test_help_does_not_wait_for_pytorch():
    program = (
        "import sys; from vidrd_core import cli; cli.main(['generate', '--help']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    assert "--prompt-frames" in done.stdout
