"""What states keep of their clips for people: prompts, ancestors and pictures."""

import asyncio
import base64
import importlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidrd_core.state_files import StateSummary

from .conftest import PROMPTS
from .graphs import CLIP, chain
from .test_long_video import long_video


def saved(host, execute, graph, source, name):
    """Run a graph and save the state of `source`, a link: what its file says of its clip."""
    graph["keep"] = {"class_type": "VidRD_SaveState", "inputs": {"state": source, "filename_prefix": f"notes/{name}"}}
    ran, errors, refused = execute(graph)
    assert (errors, refused) == ([], {})
    assert "keep" in ran
    (path,) = (Path(host.folder_paths.get_output_directory()) / "notes").glob(f"{name}_clip_*.safetensors")
    return StateSummary.of(path)


def test_a_chains_clips_know_their_prompts_and_what_came_before(host, execute):
    graph = chain(2)
    graph["second"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["text", 0], "text": PROMPTS[1]}}
    graph["clip1"]["inputs"]["positive"] = ["second", 0]
    first = saved(host, execute, graph, ["clip0", 2], "first")
    second = saved(host, execute, graph, ["clip1", 2], "second")
    assert (first.prompt, second.prompt) == (PROMPTS[0], PROMPTS[1])
    assert (first.index, first.ancestors) == (0, ())
    assert (second.index, second.ancestors) == (1, (first.fingerprint,))
    assert second.seed == CLIP["seed"]


def test_clips_of_long_video_know_theirs(host, execute):
    graph = long_video([PROMPTS[1], PROMPTS[0]], prefix="notes_video")
    (node,) = [key for key, each in graph.items() if each["class_type"] == "VidRD_LongVideo"]
    last = saved(host, execute, graph, [node, 1], "long")
    assert (last.prompt, last.index, len(last.ancestors)) == (PROMPTS[0], 1, 1)


@pytest.fixture(scope="module")
def stock(host):
    """ComfyUI's own nodes beside those in its nodes.py."""
    asyncio.run(host.nodes.init_builtin_extra_nodes())


@pytest.mark.parametrize("between", ["ConditioningSetTimestepRange", "ConditioningCombine"])
def test_the_prompt_is_found_behind_other_nodes_and_parts(host, execute, stock, between):
    graph = chain(0)
    graph["words"] = {"class_type": "PrimitiveString", "inputs": {"value": PROMPTS[1]}}
    graph["positive"]["inputs"]["text"] = ["words", 0]
    inputs = {"conditioning": ["positive", 0], "start": 0.0, "end": 1.0}
    if between == "ConditioningCombine":
        inputs = {"conditioning_1": ["positive", 0], "conditioning_2": ["negative", 0]}
    graph |= {
        "between": {"class_type": between, "inputs": inputs},
        "guider": {
            "class_type": "CFGGuider",
            "inputs": {"model": ["model", 0], "positive": ["between", 0], "negative": ["negative", 0], "cfg": 2.5},
        },
        "noise": {
            "class_type": "VidRD_Noise",
            "inputs": {"seed": 3, "prompt_frames": 4, "alpha": 4.0, "order": "forward"},
        },
        "euler": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
        "guided": {
            "class_type": "VidRD_Guidance",
            "inputs": {"sampler": ["euler", 0], "prompt_frames": 4, "alpha": 4.0, "beta": 0.4, "order": "forward"},
        },
        "sigmas": {
            "class_type": "BasicScheduler",
            "inputs": {"model": ["model", 0], "scheduler": "ddim_uniform", "steps": 3, "denoise": 1.0},
        },
        "sample": {
            "class_type": "SamplerCustomAdvanced",
            "inputs": {
                "noise": ["noise", 0], "guider": ["guider", 0], "sampler": ["guided", 0], "sigmas": ["sigmas", 0],
                "latent_image": ["empty", 0],
            },
        },
        "state": {"class_type": "VidRD_CollectState", "inputs": {"sampler": ["guided", 0], "latent": ["sample", 0]}},
    }  # fmt: skip
    found = saved(host, execute, graph, ["state", 1], between)
    assert found.prompt == PROMPTS[1]


def test_each_of_a_list_of_prompts_is_its_own_clips(host, execute):
    graph = chain(1)
    lines = {"clip": ["text", 0], "prompts": f"{PROMPTS[1]}\n\n{PROMPTS[0]}", "negative_prompt": ""}
    graph["lines"] = {"class_type": "VidRD_EncodePrompts", "inputs": lines}
    graph["clip0"]["inputs"]["positive"] = ["lines", 0]
    graph["keep"] = {"class_type": "VidRD_SaveState", "inputs": {"state": ["clip0", 2], "filename_prefix": "list/a"}}
    _, errors, refused = execute(graph)
    assert (errors, refused) == ([], {})
    paths = sorted((Path(host.folder_paths.get_output_directory()) / "list").glob("*.safetensors"))
    assert [StateSummary.of(path).prompt for path in paths] == [PROMPTS[1], PROMPTS[0]]


def test_a_states_picture_shows_the_clip(host, run, tiny):
    clip = {"model": tiny.model, "positive": tiny.positive[0], "negative": tiny.negative, "latent": tiny.latent}
    settings = {"steps": 12, "cfg": 2.5, "seed": 3, "scheduler": "ddim_uniform", "sampler_name": "euler"}
    latent, state = run("SampleClip", **clip, **settings)
    frames = (255 * host.nodes.VAEDecode().decode(tiny.vae, latent)[0]).round().byte().cpu().numpy()
    with Image.open(io.BytesIO(base64.b64decode(state.preview))) as picture:
        assert picture.n_frames == 8
        for j, frame in enumerate(frames):
            picture.seek(j)
            shown = np.asarray(picture.convert("RGB").resize((16, 16)), float)
            true = np.asarray(Image.fromarray(frame).resize((16, 16)), float)
            assert np.corrcoef(shown.ravel(), true.ravel())[0, 1] > 0.9, j


def test_a_picture_leaves_out_what_the_clip_before_has_shown(host, execute):
    graph = chain(2)
    for k in range(2):
        saved(host, execute, graph, [f"clip{k}", 2], f"shown{k}")
    folder = Path(host.folder_paths.get_output_directory()) / "notes"
    counts = []
    for k in range(2):
        with Image.open(io.BytesIO(StateSummary.of(next(folder.glob(f"shown{k}_*"))).preview)) as picture:
            counts.append(picture.n_frames)
    assert counts == [8, 4]


def test_the_page_is_told_of_saved_states(run, tiny):
    clip = {"model": tiny.model, "positive": tiny.positive[0], "negative": tiny.negative, "latent": tiny.latent}
    settings = {"steps": 1, "cfg": 1.0, "seed": 5, "scheduler": "ddim_uniform", "sampler_name": "euler"}
    _, state = run("SampleClip", **clip, **settings)
    name = run("SaveState", state=state, filename_prefix="told/a")[1]
    files = importlib.import_module("custom_nodes_vidrd.nodes.host.state_files")
    assert name in files.saved_states()
    assert files.summaries()[name].preview
