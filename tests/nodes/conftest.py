"""Fixtures for the pack in a real ComfyUI, run by its own Python; `COMFYUI_PATH` is its checkout."""

import asyncio
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from comfyui_host import begin

ROOT = Path(__file__).parents[2]
BUILT_IN = "tiny (built in)"


@pytest.fixture(scope="session")
def host(tmp_path_factory):
    """ComfyUI's modules, by their last names."""
    checkout = os.environ.get("COMFYUI_PATH")
    if not checkout:
        pytest.skip("COMFYUI_PATH names no ComfyUI checkout")
    begin(Path(checkout), tmp_path_factory.mktemp("comfy"))
    names = (
        "nodes",
        "comfy.samplers",
        "comfy.sd",
        "comfy.utils",
        "comfy_extras.nodes_custom_sampler",
        "folder_paths",
    )
    with torch.inference_mode():  # as the host executes
        yield SimpleNamespace(**{name.rpartition(".")[2]: importlib.import_module(name) for name in names})


@pytest.fixture(scope="session")
def pack(host):
    """The pack's nodes by id, loaded as ComfyUI loads custom nodes."""
    spec = importlib.util.spec_from_file_location(
        "custom_nodes_vidrd", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    door = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = door
    spec.loader.exec_module(door)
    extension = asyncio.run(door.comfy_entrypoint())
    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(extension.get_node_list())}


@pytest.fixture(scope="session")
def run(pack):
    """A function that runs a node, by its id without VidRD_, and returns its outputs."""
    return lambda node, **inputs: pack[f"VidRD_{node}"].execute(**inputs).args


@pytest.fixture(scope="session")
def tiny(run):
    """The built-in model as MODEL, VAE and CLIP, an empty clip, and two prompts' conditioning."""
    (model,) = run("LoadUNet3D", file=BUILT_IN, weight_dtype="default")
    (vae,) = run("LoadTemporalVAE", file=BUILT_IN)
    (clip,) = run("LoadTextEncoder", file=BUILT_IN)
    positive, negative, _ = run("EncodePrompts", clip=clip, prompts="\n".join(PROMPTS), negative_prompt="")
    (latent,) = run("EmptyClip", width=64, height=64, frames=8, vae=vae)
    return SimpleNamespace(model=model, vae=vae, clip=clip, positive=positive, negative=negative, latent=latent)


PROMPTS = ["a red circle moving right", "a blue star spinning"]


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch, request):
    """No clip is kept from test to test; those that use `kept` keep some."""
    if "kept" not in request.fixturenames:
        monkeypatch.setenv("VIDRD_KEEP_GB", "0")


@pytest.fixture
def kept(host, pack, monkeypatch, tmp_path):
    """An empty folder for what is kept; `clips` and `pieces` count what is sampled and encoded, `forget` restarts."""
    kept_clips = importlib.import_module("custom_nodes_vidrd.nodes.host.kept_clips")
    sampling = importlib.import_module("custom_nodes_vidrd.nodes.sampling")
    video = importlib.import_module("custom_nodes_vidrd.nodes.host.video")
    made = SimpleNamespace(clips=0, pieces=0, folder=tmp_path / "kept", module=kept_clips)
    monkeypatch.setattr(kept_clips, "folder", lambda: made.folder)
    named_files = importlib.import_module("custom_nodes_vidrd.nodes.host.named_files")
    made.forget = lambda: monkeypatch.setattr(named_files, "_seen", {})  # as a new process of ComfyUI begins
    made.forget()

    def counted(module, function, name):
        real = getattr(module, function)

        def count(*args, **more):
            setattr(made, name, getattr(made, name) + 1)
            return real(*args, **more)

        monkeypatch.setattr(module, function, count)

    counted(sampling, "sample_clip", "clips")
    counted(video, "_decode", "pieces")
    return made


@pytest.fixture
def runs(kept):
    """A function that runs a graph and returns how many clips were sampled, and how many pieces encoded."""

    def run(execute, graph):
        kept.clips = kept.pieces = 0
        _, errors, refused = execute(graph)
        assert (errors, refused) == ([], {})
        return kept.clips, kept.pieces

    return run


@pytest.fixture
def execute(host, pack):
    """See `graphs.executor`."""
    from .graphs import executor

    return executor(host, pack)


@pytest.fixture
def page(host, monkeypatch):
    """What an open page would receive: `texts` has (node, text), `sent` (event, data)."""
    texts, sent, server = [], [], importlib.import_module("server")
    instance = SimpleNamespace(
        client_id="test",
        send_progress_text=lambda text, node_id: texts.append((node_id, text)),
        send_sync=lambda event, data, sid=None: sent.append((event, data)),
    )
    monkeypatch.setattr(server.PromptServer, "instance", instance, raising=False)
    return SimpleNamespace(texts=texts, sent=sent)


@pytest.fixture(scope="module")
def sample(host, tiny):
    """KSampler on the tiny model."""

    def sample(model=tiny.model, latent=tiny.latent, positive=None, steps=4, sampler="euler", scheduler="normal"):
        given = (model, 7, steps, 2.5, sampler, scheduler, positive or tiny.positive[0], tiny.negative, latent, 1.0)
        return host.nodes.KSampler().sample(*given)[0]["samples"]

    return sample


@pytest.fixture
def output(host):
    """ComfyUI's output folder."""
    return Path(host.folder_paths.get_output_directory())
