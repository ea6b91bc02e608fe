"""Tensors that wait in a file are those that were put there, and the file goes with them."""

import copy
import gc
import pickle

import pytest
import torch

from vidrd_core.io import safetensors
from vidrd_core.io.safetensors import FormatError
from vidrd_core.io.waiting import WaitingTensor, WaitingTensors


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    turned = torch.randn(3, 5, 4).transpose(0, 2)
    return {"turned": turned, "half": torch.randn(7).half(), "part": torch.randn(4, 6)[:, 1:3]}


@pytest.fixture
def waiting(tensors, tmp_path):
    safetensors.write(tmp_path / "a.safetensors", tensors, "test", number=1)
    return WaitingTensors(tmp_path / "a.safetensors", tensors)


def test_what_comes_back_has_the_same_bits_and_layout(tensors, waiting):
    assert dict(waiting).keys() == tensors.keys()
    assert len(waiting) == 3
    for name, tensor in tensors.items():
        assert waiting[name].dtype == tensor.dtype
        assert torch.equal(waiting[name], tensor)
        assert waiting.shape(name) == tensor.shape
        assert waiting[name].stride() == tensor.clone().stride()
    waiting["turned"].zero_()
    assert torch.equal(waiting["turned"], tensors["turned"]), "what is read is a copy"
    with pytest.raises(KeyError):
        waiting["other"]


def test_the_file_goes_with_the_last_object_that_needs_it(tensors, tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.write(path, tensors, "test")
    waiting = WaitingTensors(path, tensors)
    one = WaitingTensor(waiting, "half")
    again = copy.deepcopy(waiting)
    del waiting, again
    gc.collect()
    assert torch.equal(one.load(), tensors["half"])
    assert one.shape == (7,)
    del one
    gc.collect()
    assert not path.exists()


def test_copies_and_pickles_do_not_depend_on_the_file(waiting, tensors):
    one = WaitingTensor(waiting, "part")
    others = pickle.loads(pickle.dumps([one, waiting])), copy.deepcopy([one, waiting["turned"]])
    waiting.path.unlink()
    assert torch.equal(others[0][0], tensors["part"])
    assert torch.equal(others[0][1]["half"], tensors["half"])
    assert torch.equal(others[1][0], tensors["part"])


def test_a_file_that_was_removed_is_replaced_by_a_copy_of_it_alone(waiting, tensors, tmp_path):
    names = ("missing", "other", "damaged", "copy")
    waiting.copies += [tmp_path / f"{name}.safetensors" for name in names]
    safetensors.write(waiting.copies[1], tensors, "test", number=2)
    waiting.copies[2].write_bytes(b"x")
    waiting.path.rename(waiting.copies[3])
    assert torch.equal(waiting["half"], tensors["half"])
    waiting.copies[3].unlink()
    with pytest.raises(FileNotFoundError, match="was removed while the program ran"):
        waiting["half"]
    safetensors.write(waiting.path, {**tensors, "half": torch.zeros(8).half()}, "test", number=1)
    with pytest.raises(FormatError, match="half has shape"):
        waiting["half"]
