"""The choice between ways to compute the same: measured once, the same for all processes of a machine."""

import subprocess
import sys
import time

import pytest
import torch

from vidrd_core.models import fastest as module
from vidrd_core.models.fastest import FOLDER, fastest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path / "kernels"))
    return tmp_path / "kernels"


class Ways(dict):
    """A quick and a slow way, and the calls of each."""

    def __init__(self, **seconds):
        self.calls = dict.fromkeys(seconds, 0)
        super().__init__({name: lambda name=name: self.act(name, seconds[name]) for name in seconds})

    def act(self, name, seconds):
        self.calls[name] += 1
        time.sleep(seconds)
        return torch.zeros(1)


def test_the_fastest_is_measured_once_and_kept(folder):
    ways = Ways(usual=0.02, quick=0.001)
    assert fastest("a sum", ways) == "quick"
    assert ways.calls == {"usual": 8, "quick": 8}
    assert fastest("a sum", Ways(usual=0, quick=0.01)) == "quick", "the first answer stays"
    assert ways.calls == {"usual": 8, "quick": 8}
    assert fastest("another sum", Ways(usual=0.001, quick=0.02)) == "usual"
    assert len(list(folder.iterdir())) == 2


def test_a_small_gain_changes_nothing(folder, monkeypatch):
    monkeypatch.setattr(module, "GAIN", 100)
    assert fastest("a sum", Ways(usual=0.02, quick=0.001)) == "usual"


def test_other_threads_or_another_torch_are_measured_anew(folder, monkeypatch):
    assert fastest("a sum", Ways(usual=0.02, quick=0.001)) == "quick"
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 77)
        assert fastest("a sum", Ways(usual=0.001, quick=0.02)) == "usual"
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert fastest("a sum", Ways(usual=0.001, quick=0.02)) == "usual"


def test_another_process_that_was_first_decides(folder, monkeypatch):
    measure = module._measured

    def late(what, ways):
        monkeypatch.setattr(module, "_measured", measure)
        assert fastest(what, Ways(usual=0.001, other=0.02)) == "usual"
        return "other"

    monkeypatch.setattr(module, "_measured", late)
    assert fastest("a sum", Ways(usual=0.02, other=0.001)) == "usual"
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"fastest": 3}', '{"fastest": "gone"}'])
def test_a_damaged_file_is_replaced_or_left(folder, content):
    assert fastest("a sum", Ways(usual=0.02, quick=0.001)) == "quick"
    (file,) = folder.iterdir()
    file.write_text(content)
    assert fastest("a sum", Ways(usual=0.02, quick=0.001)) == ("usual" if "gone" in content else "quick")


@pytest.mark.parametrize("where", ["off", "a file"])
def test_without_a_folder_the_usual_way_is_taken(tmp_path, monkeypatch, where):
    (tmp_path / "a file").touch()
    monkeypatch.setenv(FOLDER, where if where == "off" else str(tmp_path / where))
    assert fastest("a sum", Ways(usual=0.002, quick=0)) == "usual"
    assert [each.name for each in tmp_path.iterdir()] == ["a file"]


def test_attention_over_few_tokens_is_measured_by_the_command(tmp_path):
    code = (
        "import torch; from vidrd_core.models.attention import sdpa; torch.manual_seed(1); a = torch.randn(3);"
        "torch.manual_seed(1); x = torch.randn(4, 8, 16); torch.manual_seed(1); sdpa(x, x, x, 2);"
        "assert torch.equal(torch.randn(3), a), 'the random numbers of the caller are left alone'"
    )
    env = {**__import__("os").environ, FOLDER: str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
    (file,) = tmp_path.iterdir()
    assert "attention over 8 tokens, heads of 8, float32" in file.read_text()
