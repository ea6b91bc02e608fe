"""Chains of clips through ComfyUI's executor: which nodes run, what is refused, what is reported."""

import importlib
from pathlib import Path

from PIL import Image

from .graphs import chain


def test_a_chain_runs_and_only_changed_nodes_run_again(execute, host):
    output = Path(host.folder_paths.get_output_directory())
    before = set(output.rglob("*.png"))
    ran, errors, refused = execute(chain())
    assert not errors
    assert not refused
    assert {"clip0", "clip1", "clip2"} <= set(ran)
    pictures = [sorted(set((output / str(k)).glob("*.png")) - before) for k in range(3)]
    assert [len(each) for each in pictures] == [8, 4, 4]
    assert Image.open(pictures[0][0]).size == (64, 64)
    assert execute(chain())[0] == []
    ran, _, _ = execute(chain(clip1={"seed": 9}))
    assert sorted(ran) == ["clip1", "clip2", "save1", "save2", "see1", "see2"]
    ran, _, _ = execute(chain(4, clip1={"seed": 9}))
    assert sorted(ran) == ["clip3", "save3", "see3"]


def test_invalid_inputs_are_refused_before_anything_runs(execute):
    for changes, message in (
        ({"steps": 0}, "Value 0 smaller than min of 1"),
        ({"beta": 1.5}, "Value 1.5 bigger than max of 1.0"),
        ({"order": "backward"}, "order is 'backward', expected one of mirror, forward"),
        ({"sampler_name": "eule"}, "sampler_name is 'eule', expected one of euler, "),
    ):
        ran, _, refused = execute(chain(1, clip0=changes))
        assert ran == []
        assert message in " ".join(error["message"] + error["details"] for error in refused["clip0"]["errors"])
    graph = chain(1)
    graph["vae"]["inputs"]["file"] = "gone.safetensors"
    ran, _, refused = execute(graph)
    assert ran == []
    assert "file is 'gone.safetensors', expected one of tiny (built in)" in str(refused)


def test_an_error_is_reported_at_its_node_and_later_runs_work(execute):
    _, errors, _ = execute(chain(2, clip1={"prompt_frames": 8}))
    assert errors[0]["node_id"] == "clip1"
    assert "prompt_frames (M) is 8, expected less than the 8 frames of a clip" in errors[0]["exception_message"]
    graph = chain(1)
    graph["positive"]["inputs"]["text"] = "a dragon"
    _, errors, _ = execute(graph)
    assert errors[0]["node_id"] == "positive"
    assert "this model does not know 'dragon'; it knows: a, " in errors[0]["exception_message"]
    assert execute(chain(1))[1] == []


def test_cancel_takes_effect_within_a_step(execute, host, page, monkeypatch):
    management = importlib.import_module("comfy.model_management")
    calls = []
    original = host.samplers.CFGGuider.predict_noise

    def cancelled(self, *given, **options):
        calls.append(1)
        management.interrupt_current_processing(True)
        return original(self, *given, **options)

    with monkeypatch.context() as patched:
        patched.setattr(host.samplers.CFGGuider, "predict_noise", cancelled)
        _, errors, _ = execute(chain(1))
    assert errors[0]["node_id"] == "clip0"
    assert len(calls) == 1
    assert page.texts[-1] == ("clip0", "stopped; Run samples this clip again and continues")
    ran, errors, _ = execute(chain(1))
    assert errors == []
    assert "clip0" in ran
