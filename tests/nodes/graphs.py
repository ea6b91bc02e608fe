"""Helpers that run whole graphs through ComfyUI's own validation, executor and cache."""

import asyncio
import importlib

from comfyui_host import executor as prompt_executor

from vidrd_core.video import read_video

from .conftest import BUILT_IN, PROMPTS

CLIP = {
    "steps": 3, "cfg": 2.5, "seed": 3, "sampler_name": "euler", "scheduler": "ddim_uniform",
    "prompt_frames": 4, "alpha": 4.0, "beta": 0.4, "order": "forward",
}  # fmt: skip


EXTRA = {"client_id": "test", "extra_pnginfo": {"workflow": {"version": 0.4}}}


class Server:
    """The part of the server that the executor needs; it records which nodes ran."""

    client_id, last_node_id, last_prompt_id = "test", None, None

    def __init__(self):
        self.sockets_metadata = {}
        self.forget()

    def forget(self):
        self.ran, self.errors, self.shown = [], [], {}

    def send_sync(self, event, data, sid=None):
        if event == "executing" and data["node"]:
            self.ran.append(data["node"])
        if event == "executed" and data["output"]:
            self.shown[data["node"]] = data["output"]
        if event in ("execution_error", "execution_interrupted"):
            self.errors.append(data)

    def queue_updated(self):
        """The page would redraw its queue."""


def executor(host, pack, cache="", **sizes):
    """A function that validates and runs a graph: the nodes that ran, their errors, and validation's errors.

    Its `server` records what the page was sent. `cache` and `sizes` are those of ComfyUI's executor.
    """
    execution = importlib.import_module("execution")
    host.nodes.NODE_CLASS_MAPPINGS.update(pack)
    server = Server()
    runner = prompt_executor(server, cache, **sizes)

    def execute(graph):
        server.forget()
        valid, _, outputs, errors = asyncio.run(execution.validate_prompt("id", graph, None))
        if valid:
            runner.execute(graph, "id", dict(EXTRA), outputs)
        return list(server.ran), list(server.errors), errors

    execute.server = server
    return execute


def chain(clips=3, **changes):
    """A graph of chained Extend nodes, each with a preview; `changes` are {clip: {input: value}}."""
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


def frames_of(path):
    """The frames of a video file, uint8 [F, H, W, 3]."""
    return read_video(path)[0]
