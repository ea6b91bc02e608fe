"""Fixtures: a model folder, the command in an empty folder, and the files of an uninterrupted run."""

from pathlib import Path

import pytest
import torch

from vidrd_core import VidRD, cli, load
from vidrd_core.models import kernels
from vidrd_core.models.load_parts import save_text_encoder, save_unet, save_vae

from .helpers import PROMPTS

FOLDER = "model_of_the_command"


@pytest.fixture(scope="session")
def model(model, tmp_path_factory) -> VidRD:
    """The model as it is read from its folder: on some processors the last bits depend on where weights lie."""
    folder = tmp_path_factory.mktemp(FOLDER, numbered=False)
    save_unet(model.unet, model.diffusion, folder / "unet.safetensors")
    save_vae(model.vae, folder / "vae.safetensors")
    save_text_encoder(model.text_encoder, folder / "text_encoder.safetensors")
    return load(folder)


@pytest.fixture(scope="session")
def folder(model, tmp_path_factory) -> Path:
    """A model folder."""
    return tmp_path_factory.getbasetemp() / FOLDER


@pytest.fixture
def vidrd(folder, tmp_path, monkeypatch, capsys):
    """A function that runs the command in an empty folder and returns its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kernels, "has_amx", lambda: False)  # the command computes what Python does
    threads = torch.get_num_threads()

    def run(*arguments, model=folder) -> tuple[int, str, str]:
        own: list[str] = []
        if arguments[0] in ("generate", "extend", "state"):
            own += ["--model", str(model), "--threads", "1"]
        if arguments[0] in ("generate", "extend"):
            own += ["--scale", "1"]
        capsys.readouterr()
        code = cli.main([arguments[0], *own, *map(str, arguments[1:])])
        out, err = capsys.readouterr()
        return code, out, err

    yield run
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def whole(folder, tmp_path_factory) -> Path:
    """The folder of an uninterrupted run of three clips: `states/`, `frames/`, `long.mp4`."""
    path = tmp_path_factory.mktemp("whole")
    for output, states in (("long.mp4", ["--state-dir", str(path / "states")]), ("frames/", [])):
        where = [
            "-o",
            f"{path}/{output}",
            "--model",
            str(folder),
            "--threads",
            "1",
            "--scale",
            "1",
            "--dtype",
            "float32",
        ]
        assert cli.main(["generate", *PROMPTS, "--clips", "3", "--steps", "4", *states, *where]) == 0
    return path
