"""Full disks, too little memory, NaN, and bugs."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from vidrd_core.cli.errors import reason
from vidrd_core.io import safetensors
from vidrd_core.models.load_parts import load_vae, save_vae
from vidrd_core.video import read_video

from .helpers import PROMPTS, error_line, posix


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """A context in which no file can grow beyond `size` bytes, as on a full disk."""
    resource = pytest.importorskip("resource")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@posix
def test_a_full_disk_for_states_keeps_the_video(vidrd, whole):
    size = (whole / "states" / "clip_0000.safetensors").stat().st_size
    with file_size_limit(size + 1000):  # the next state has more in it
        code, out, err = vidrd(
            "generate", *PROMPTS, "--clips", 3, "--steps", 4, "--state-dir", "own", "-o", "long.mp4"
        )
    line = error_line(code, out, err.splitlines()[-1], expected=1)
    assert "cannot write own/clip_0001.safetensors" in line
    assert "long.mp4 has 16 frames, from 2 of 3 clips; to continue, repeat the command with --resume" in line
    assert len(read_video("long.mp4")[0]) == 16
    assert os.listdir("own") == ["clip_0000.safetensors"]


@posix
@pytest.mark.parametrize("states", [True, False])
def test_a_full_disk_for_the_video(vidrd, tmp_path, states):
    run = ["--clips", 6, "--steps", 2, "--scale", 4, "-o", "long.mp4", *(["--state-dir", "states"] if states else [])]
    with file_size_limit(50_000):  # a state has 40,000 bytes
        code, out, err = vidrd("generate", *PROMPTS, *run)
    line = error_line(code, out, err.splitlines()[-1], expected=1)
    frames = len(read_video("long.mp4")[0])
    assert 0 < frames < 48
    assert f"long.mp4 has {frames} frames of the first " in line
    if states:
        assert sorted(os.listdir()) == ["long.mp4", "states"]
        assert "to continue, repeat the command with --resume" in line
        assert vidrd("generate", *PROMPTS, *run, "--resume")[0] == 0
        assert len(read_video("long.mp4")[0]) == 48
    else:
        assert os.listdir() == ["long.mp4"]
        assert line.endswith("with --state-dir a run can be resumed")


@posix
def test_a_full_disk_after_the_last_clip(vidrd):
    with file_size_limit(100):
        code, out, err = vidrd("generate", "a red circle moving right", "--clips", 1, "--steps", 1, "-o", "frames/")
    line = error_line(code, out, err.splitlines()[-1], expected=1)
    assert "no video was kept; with --state-dir a run can be resumed" in line
    assert os.listdir() == []


@posix
def test_a_full_disk_for_a_packed_model(vidrd, folder):
    with file_size_limit(20_000):
        code, out, err = vidrd("pack", folder, "-o", "small")
    assert "the file would be larger than is allowed" in error_line(code, out, err.splitlines()[-1], expected=1)
    assert os.listdir() == []


def test_a_full_disk_when_overwriting_a_model_keeps_the_old_one(vidrd, folder, monkeypatch):
    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in Path("small").iterdir()}

    def fill_up(path: Path, *given: object, **details: object) -> None:
        if "vae" in path.name:
            raise OSError(errno.ENOSPC, f"cannot write {path}: no space left")
        path.write_bytes(b"a new part")

    assert vidrd("pack", folder, "-o", "small")[0] == 0
    before = files()
    monkeypatch.setattr(safetensors, "write", fill_up)
    code, out, err = vidrd("pack", folder, "-o", "small", "--overwrite")
    assert "cannot write small: the disk is full" in error_line(code, out, err.splitlines()[-1], expected=1)
    assert files() == before


def test_too_little_memory_keeps_the_finished_clips(vidrd, monkeypatch, tmp_path):
    from vidrd_core.pipeline import VidRD

    def extend(*given, **settings):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 12 bytes")

    monkeypatch.setattr(VidRD, "extend", extend)
    code, out, err = vidrd("generate", *PROMPTS, "--steps", 2, "-o", "long.mp4")
    line = error_line(code, out, err.splitlines()[-1], expected=1)
    assert "out of memory: make smaller or fewer frames a clip" in line
    assert "long.mp4 has 8 frames, from 1 of 2 clips" in line
    assert len(read_video("long.mp4")[0]) == 8


def test_a_clip_with_nan_is_reported(vidrd, monkeypatch):
    from vidrd_core.pipeline import VidRD

    original = VidRD.extend

    def extend(self, state, prompt, reuse=None, **settings):
        self.text_encoder.encode = lambda prompts: torch.full((len(prompts), 8, 12), torch.nan)
        try:
            return original(self, state, prompt, reuse, **settings)
        finally:
            del self.text_encoder.encode

    monkeypatch.setattr(VidRD, "extend", extend)
    code, out, err = vidrd("generate", *PROMPTS, "--steps", 2, "--state-dir", "states", "-o", "long.mp4")
    line = error_line(code, out, err.splitlines()[-1])
    assert "the clip came out as no finite numbers, with cfg 3, ddim and 2 steps: give a smaller cfg" in line
    assert "long.mp4 has 8 frames, from 1 of 2 clips" in line
    assert os.listdir("states") == ["clip_0000.safetensors"]


@pytest.fixture
def overflowing(model, folder, tmp_path_factory):
    """A model whose decoder overflows: its weights are finite, what it makes of them is not."""
    place = tmp_path_factory.mktemp("overflowing") / "model"
    shutil.copytree(folder, place)
    vae = load_vae(folder / "vae.safetensors")
    with torch.no_grad():
        vae.decoder.conv_out.weight.fill_(3e38)
    save_vae(vae, place / "vae.safetensors")
    return place


@pytest.mark.parametrize("many", [False, True])
def test_a_decoder_that_overflows_gives_no_black_video(vidrd, overflowing, many):
    Path("prompts.txt").write_text("a red circle\n")
    what = ("--prompts-file", "prompts.txt", "-o", "videos/") if many else ("a red circle", "-o", "long.mp4")
    code, _, err = vidrd("generate", *what, "--clips", 1, "--steps", 2, model=overflowing)
    assert code == 2
    assert "the VAE's decoder gave no finite numbers, for latents that are finite" in err
    assert "give another VAE" in err
    assert not list(Path().rglob("*.mp4"))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_are_not_finite_are_named(vidrd, folder, tmp_path_factory, part):
    place = tmp_path_factory.mktemp("broken") / "model"
    shutil.copytree(folder, place)
    file = place / f"{part}.safetensors"
    details = safetensors.describe(file)
    tensors, _ = safetensors.read(file, details["kind"])
    name = next(key for key, tensor in tensors.items() if tensor.ndim > 1)
    tensors[name].view(-1)[5] = float("nan")
    safetensors.write(file, tensors, **details)
    line = error_line(*vidrd("generate", "a red circle", "--clips", 1, "-o", "long.mp4", model=place))
    assert f"{file}: the weights " in line
    assert "hold numbers that are not finite (NaN or infinity)" in line


def test_a_bug_shows_its_traceback_and_leaves_no_files(vidrd, monkeypatch):
    from vidrd_core.pipeline import VidRD

    monkeypatch.setattr(VidRD, "extend", lambda *given, **settings: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        vidrd("generate", *PROMPTS, "--steps", 2, "-o", "long.mp4")
    assert os.listdir() == []


def test_a_full_disk_is_explained_in_errors_of_any_source():
    text = os.strerror(errno.ENOSPC)
    assert reason(OSError(errno.ENOSPC, text)) == "the disk is full; free some space or choose another folder"
    message = reason(OSError(errno.ENOSPC, text, "a.tar"))
    assert message == f"cannot use a.tar: {text} (free some space or choose another folder)"
