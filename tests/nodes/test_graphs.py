"""Whole graphs through the host's own validation, executor and cache."""

import asyncio
import importlib
import inspect
from pathlib import Path

import pytest
from PIL import Image

from .conftest import BUILT_IN, PROMPTS

CLIP = {
    "steps": 3, "cfg": 2.5, "seed": 3, "sampler_name": "euler", "scheduler": "ddim_uniform",
    "prompt_frames": 4, "alpha": 4.0, "beta": 0.4, "order": "forward",
}  # fmt: skip


class Server:
    """What the executor needs of the server: it writes down which nodes ran."""

    client_id, last_node_id, last_prompt_id = "test", None, None

    def __init__(self):
        self.ran, self.errors, self.sockets_metadata = [], [], {}

    def send_sync(self, event, data, sid=None):
        if event == "executing" and data["node"]:
            self.ran.append(data["node"])
        if event in ("execution_error", "execution_interrupted"):
            self.errors.append(data)

    def queue_updated(self):
        """The page would redraw its queue."""


@pytest.fixture
def execute(host, pack):
    """Validate and run a graph; the nodes that ran, what went wrong, and validation's errors."""
    execution = importlib.import_module("execution")
    host.nodes.NODE_CLASS_MAPPINGS.update(pack)
    server = Server()
    extra = {"cache_args": {"lru": 0, "ram": 0}}
    known = inspect.signature(execution.PromptExecutor.__init__).parameters
    executor = execution.PromptExecutor(server, **{key: value for key, value in extra.items() if key in known})

    def execute(graph):
        server.ran.clear()
        server.errors.clear()
        valid, _, outputs, errors = asyncio.run(execution.validate_prompt("id", graph, None))
        if valid:
            executor.execute(graph, "id", {"client_id": "test"}, outputs)
        return list(server.ran), list(server.errors), errors

    return execute


def chain(clips=3, **changes):
    """Extend nodes in a row, each seen as pictures; `changes` are {clip: {input: value}}."""
    graph = {
        "model": {"class_type": "VidRD_LoadUNet3D", "inputs": {"file": BUILT_IN, "weight_dtype": "default"}},
        "vae": {"class_type": "VidRD_LoadTemporalVAE", "inputs": {"file": BUILT_IN}},
        "text": {"class_type": "VidRD_LoadTextEncoder", "inputs": {"file": BUILT_IN}},
        "negative": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["text", 0], "text": ""}},
        "positive": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["text", 0], "text": PROMPTS[0]}},
        "empty": {
            "class_type": "VidRD_EmptyClip",
            "inputs": {"width": 64, "height": 64, "frames": 8, "vae": ["vae", 0]},
        },
    }
    for k in range(clips):
        inputs = {"model": ["model", 0], "positive": ["positive", 0], "negative": ["negative", 0]}
        state = {"state": [f"clip{k - 1}", 2]} if k else {}
        graph |= {
            f"clip{k}": {
                "class_type": "VidRD_Extend",
                "inputs": {**inputs, "latent": ["empty", 0], **CLIP, **state, **changes.get(f"clip{k}", {})},
            },
            f"see{k}": {"class_type": "VAEDecode", "inputs": {"samples": [f"clip{k}", 0], "vae": ["vae", 0]}},
            f"save{k}": {
                "class_type": "SaveImage",
                "inputs": {"images": [f"see{k}", 0], "filename_prefix": f"{k}/f"},
            },
        }
    return graph


def test_a_chain_runs_to_pictures_and_only_what_changed_runs_again(execute, host):
    ran, errors, refused = execute(chain())
    assert not errors
    assert not refused
    assert {"clip0", "clip1", "clip2"} <= set(ran)
    output = Path(host.folder_paths.get_output_directory())
    pictures = [sorted((output / str(k)).glob("*.png")) for k in range(3)]
    assert [len(each) for each in pictures] == [8, 4, 4]
    assert Image.open(pictures[0][0]).size == (64, 64)
    assert execute(chain())[0] == []
    ran, _, _ = execute(chain(clip1={"seed": 9}))
    assert sorted(ran) == ["clip1", "clip2", "save1", "save2", "see1", "see2"]
    ran, _, _ = execute(chain(4, clip1={"seed": 9}))
    assert sorted(ran) == ["clip3", "save3", "see3"]


def test_what_can_be_known_is_refused_before_anything_runs(execute):
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


def test_a_fault_is_told_at_its_node_and_the_host_goes_on(execute):
    _, errors, _ = execute(chain(2, clip1={"prompt_frames": 8}))
    assert errors[0]["node_id"] == "clip1"
    assert "prompt_frames (M) is 8, expected less than the 8 frames of a clip" in errors[0]["exception_message"]
    graph = chain(1)
    graph["positive"]["inputs"]["text"] = "a dragon"
    _, errors, _ = execute(graph)
    assert errors[0]["node_id"] == "positive"
    assert "this model does not know 'dragon'; it knows: a, " in errors[0]["exception_message"]
    assert execute(chain(1))[1] == []


def test_cancel_takes_effect_within_a_step(execute, host, monkeypatch):
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
    ran, errors, _ = execute(chain(1))
    assert errors == []
    assert "clip0" in ran
