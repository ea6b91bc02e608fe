"""Weight files of all formats, and damaged ones."""

import json
import pickle
import struct
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from vidrd_core.io.safetensors import FormatError
from vidrd_core.models.formats.weight_files import keys_of, modelscope_files, read_tensors

TENSORS = {"a": torch.arange(3.0), "b.c": torch.ones(2, 2)}


def same(found):
    return found.keys() == TENSORS.keys() and all(torch.equal(found[key], TENSORS[key]) for key in TENSORS)


@pytest.mark.parametrize(
    "wrapped", [TENSORS, {"state_dict": TENSORS, "epoch": 3}, {"module": {"state_dict": TENSORS}}]
)
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_are_read_from_torch_files(tmp_path, wrapped, zipped):
    path = tmp_path / "a.ckpt"
    torch.save(wrapped, path, _use_new_zipfile_serialization=zipped)
    assert same(read_tensors(path))
    assert read_tensors(path, lambda key: key == "a").keys() == {"a"}


def test_folders_are_read_with_one_file_or_all_shards(tmp_path):
    save_file(TENSORS, tmp_path / "model.safetensors")
    assert same(read_tensors(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    for number, (key, tensor) in enumerate(TENSORS.items()):
        save_file({key: tensor}, tmp_path / f"part{number}.safetensors")
    index = {"weight_map": {key: f"part{number}.safetensors" for number, key in enumerate(TENSORS)}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert same(read_tensors(tmp_path))
    assert keys_of(tmp_path) == list(TENSORS)
    (tmp_path / "part1.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks part1.safetensors, which model.safetensors.index.json names"):
        read_tensors(tmp_path)


class Evil:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_a_pickle_that_could_run_code_is_not_opened(tmp_path, capsys):
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": TENSORS, "callback": Evil()}, path)
    with pytest.raises(
        FormatError, match=r"a.ckpt is a pickle that holds more than weights .*convert it to safetens"
    ):
        read_tensors(path)
    assert capsys.readouterr().out == ""


def test_other_files_are_refused(tmp_path):
    whole = tmp_path / "whole.safetensors"
    save_file(TENSORS, whole)
    torch.save(TENSORS, tmp_path / "whole.ckpt")
    files = {
        "cut.safetensors": whole.read_bytes()[:-3],
        "text.ckpt": b"hello, these are no weights",
        "cut.ckpt": (tmp_path / "whole.ckpt").read_bytes()[:200],
        "list.pt": None,
        "plain.pkl": pickle.dumps([1, 2]),
    }
    torch.save([1, 2], tmp_path / "list.pt")
    for name, content in files.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(FormatError, match=name):
            read_tensors(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_tensors(tmp_path / "gone.ckpt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        read_tensors(tmp_path / "empty")


def test_an_archive_that_claims_more_than_its_file_has_is_not_unpacked(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"a": torch.zeros(10_000)}, path)
    assert read_tensors(path)["a"].numel() == 10_000
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(FormatError, match=r"has \d+ bytes, and is an archive of files that have 4\d{4}: expected"):
        read_tensors(path)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "sub/a.safetensors", "..\\a", 3, None])
def test_an_index_names_files_of_its_folder_alone(tmp_path, name):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(FormatError, match=r"index.json names the file .*, expected names of files in its folder"):
        read_tensors(tmp_path)
    (tmp_path / "configuration.json").write_text(json.dumps({"model": {"model_args": {"ckpt_unet": name}}}))
    with pytest.raises(FormatError, match=r"configuration.json names the file"):
        modelscope_files(tmp_path)


@pytest.mark.parametrize("error", [struct.error("x"), IndexError(), AssertionError("y"), TypeError(), UnicodeError()])
def test_whatever_torch_raises_for_a_damaged_file_names_it(tmp_path, monkeypatch, error):
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pt")
    monkeypatch.setattr("torch.load", lambda *args, **named: (_ for _ in ()).throw(error))
    with pytest.raises(FormatError, match=r"a\.pt is not a whole torch file: (x|y|[A-Z]\w+Error)"):
        read_tensors(tmp_path / "a.pt")
