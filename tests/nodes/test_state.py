"""Files of states: written completely, never overwritten, loaded bit for bit, refused with a reason."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def state(run, tiny):
    clip = {"model": tiny.model, "positive": tiny.positive[0], "negative": tiny.negative, "latent": tiny.latent}
    settings = {"steps": 2, "cfg": 2.5, "seed": 3, "scheduler": "ddim_uniform", "sampler_name": "euler"}
    return run("SampleClip", **clip, **settings)[1]


def test_a_loaded_state_equals_the_saved_one(run, pack, state):
    names = [run("SaveState", state=state, filename_prefix="there/video")[1] for _ in range(2)]
    assert names == [f"output/there/video_clip_0000_{n:05}_.safetensors" for n in (1, 2)]
    for name in names:
        assert pack["VidRD_LoadState"].validate_inputs(name) is True
        loaded, index = run("LoadState", file=name)
        assert index == 0
        assert loaded.fingerprint == state.fingerprint
        assert torch.equal(loaded.record, state.record)
    (files,) = [each for each in pack["VidRD_LoadState"].define_schema().inputs if each.id == "file"]
    assert set(names) <= set(files.options)
    versions = [pack["VidRD_LoadState"].fingerprint_inputs(name) for name in names]
    assert versions[0] != versions[1]


def test_files_that_hold_no_state_are_refused_before_anything_runs(run, pack, state, host):
    output = Path(host.folder_paths.get_output_directory())
    name = run("SaveState", state=state, filename_prefix="video")[1]
    whole = (output / name.removeprefix("output/")).read_bytes()
    (output / "cut.safetensors").write_bytes(whole[:-9])
    (output / "pickle.safetensors").write_bytes(pickle.dumps([1]))
    save_file({"a": torch.zeros(2)}, output / "foreign.safetensors")
    metadata = {"vidrd": json.dumps({"kind": "whole model", "parts": {"unet": 5}})}
    save_file({"a": torch.zeros(2)}, output / "parts.safetensors", metadata)
    (files,) = [each for each in pack["VidRD_LoadState"].define_schema().inputs if each.id == "file"]
    assert name in files.options
    assert not {f"output/{other}.safetensors" for other in ("cut", "pickle", "foreign", "parts")} & set(files.options)
    for file, message in {
        "output/cut.safetensors": "is not a whole safetensors file",
        "output/pickle.safetensors": "is a pickle",
        "output/foreign.safetensors": "holds tensors that vidrd did not write, expected a clip state",
        "output/parts.safetensors": "holds a whole model, expected a clip state",
        "output/none.safetensors": "there is no file",
        "output/../../secret.safetensors": "lies outside the output folder",
        "no state was saved yet": "is no saved state",
        123: "123 is no saved state",
    }.items():
        assert message in pack["VidRD_LoadState"].validate_inputs(file)
    assert "'../../video' leads out of the output folder" in pack["VidRD_SaveState"].validate_inputs("../../video")
    with pytest.raises(ValueError, match="None is no saved state"):
        run("LoadState", file=None)
    with pytest.raises(ValueError, match="leads out of the output folder"):
        run("SaveState", state=state, filename_prefix="../../video")


@pytest.mark.parametrize("prefix", [".states/v", "linked/v", "", "folder/"])
def test_a_state_is_found_in_any_folder_and_behind_links(run, pack, state, host, tmp_path, prefix):
    output = Path(host.folder_paths.get_output_directory())
    if prefix == "linked/v":
        (output / "linked_to").mkdir(parents=True)
        (output / "linked").symlink_to(output / "linked_to", target_is_directory=True)
    name = run("SaveState", state=state, filename_prefix=prefix)[1]
    assert run("LoadState", file=name)[0].fingerprint == state.fingerprint
    (output / "gone.safetensors").unlink(missing_ok=True)
    (output / "gone.safetensors").symlink_to(output / "nowhere.safetensors")
    (files,) = [each for each in pack["VidRD_LoadState"].define_schema().inputs if each.id == "file"]
    assert name in files.options
    (output / "gone.safetensors").unlink()


def test_a_wired_file_name_is_checked_only_when_run(pack):
    assert pack["VidRD_LoadState"].validate_inputs() is True
    assert pack["VidRD_LoadState"].fingerprint_inputs() is None
