"""What ComfyUI's caches hold of a long video hardly grows with its clips; it is counted here, not measured."""

import gc
import importlib
from pathlib import Path

import pytest
import torch

from vidrd_core.state import TENSORS, ClipState

from .graphs import executor
from .test_long_video import PROMPTS, long_video
from .test_long_video_part import in_parts  # noqa: F401 - a fixture


def tensor_bytes():
    """The bytes of all tensors in memory."""
    gc.collect()
    tensors = [each for each in gc.get_objects() if issubclass(type(each), torch.Tensor)]
    storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors}
    return sum(storages.values())


def key_parts():
    """The number of frozensets in memory, of which the keys of ComfyUI's caches consist."""
    gc.collect()
    return sum(type(each) is frozenset for each in gc.get_objects())


def states():
    gc.collect()
    return [each for each in gc.get_objects() if type(each) is ClipState]


def waiting_files(host):
    return {*(Path(host.folder_paths.get_temp_directory()) / "vidrd").glob("*.safetensors")}


@pytest.fixture
def growth(host, pack, in_parts):  # noqa: F811
    """A function that makes a video and returns by how much bytes of tensors and parts of cache keys are more."""

    def growth(clips, of_part=4):
        in_parts(of_part)
        execute = executor(host, pack)
        before = tensor_bytes(), key_parts()
        graph = long_video([PROMPTS[0]], clips, prefix=f"grows_{clips}", steps=2, preset="keep moving")
        assert execute(graph)[1:] == ([], {})
        after = tensor_bytes(), key_parts()
        return [b - a for a, b in zip(before, after, strict=True)], execute

    return growth


def test_a_clip_more_leaves_little_in_memory(growth, host):
    gc.collect()
    earlier = waiting_files(host)
    (few, few_parts), execute = growth(4)
    assert few > 0
    del execute
    (many, many_parts), execute = growth(12)
    state = states()[-1]
    size = sum(getattr(state, name).nbytes for name in TENSORS)
    assert size > 4 * state.get_ram_usage()
    assert (many - few) / 8 < size / 3, "less than the latents and the end that the decoder needs"
    assert 12 <= len(waiting_files(host) - earlier) <= 24
    del execute, state
    (_, of_chain), execute = growth(12, of_part=12)
    del execute
    gc.collect()
    assert waiting_files(host) <= earlier, "ComfyUI itself holds nothing but the last graph"
    assert many_parts < 0.7 * of_chain
    assert many_parts < 5 * few_parts, "it grows with the number of clips, not with its square"


def test_without_room_on_the_disk_states_stay_in_memory(growth, host, monkeypatch, caplog):
    memory = importlib.import_module("custom_nodes_vidrd.nodes.host.memory")
    gc.collect()
    earlier = waiting_files(host)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(memory.ClipState, "put_away", full)
    monkeypatch.setattr(memory.safetensors, "write", full)
    _, execute = growth(2)
    assert "stays in memory, as it cannot be written to a file" in caplog.text
    assert waiting_files(host) <= earlier
    monkeypatch.undo()
    monkeypatch.setattr(memory, "FREE", 2**62)
    _, execute = growth(2)
    assert waiting_files(host) <= earlier
    assert all(each.waiting is None for each in states()[-2:])
    del execute
