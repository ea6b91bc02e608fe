"""Extend and Decode & Write Clip inside the expansion of loop nodes, of other packs and of newer ComfyUI versions."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from vidrd_core.video import read_video

from .graphs import CLIP, chain
from .test_video import written

LINKS = {"model": "MODEL", "positive": "CONDITIONING", "negative": "CONDITIONING", "latent": "LATENT", "vae": "VAE"}


class Loop:
    """A node that expands into three of Extend and Decode & Write Clip, whose ids are formatted by `names`."""

    FUNCTION, RETURN_TYPES, OUTPUT_NODE, CATEGORY = "expand", ("VIDEO",), True, "tests"

    @classmethod
    def INPUT_TYPES(cls):
        links = {name: (kind, {"rawLink": True}) for name, kind in LINKS.items()}
        return {"required": {**links, "names": ("STRING", {})}}

    def expand(self, vae, names, **given):
        graph = importlib.import_module("comfy_execution.graph_utils").GraphBuilder()
        state = video = None
        settings = {"filename_prefix": "loop/v", "format": "png", "fps": 8.0, "scale": 1}
        for k in range(3):
            extend = graph.node("VidRD_Extend", names.format(k=k, node="7:4"), **given, **CLIP, state=state)
            write = graph.node(
                "VidRD_WriteClip", names.format(k=k, node=9), latent=extend.out(0), vae=vae, **settings
            )
            write.set_input("before", video)
            extend.set_override_display_id("7:4")
            write.set_override_display_id("9")
            state, video = extend.out(2), write.out(0)
        return {"result": (video,), "expand": graph.finalize()}


@pytest.mark.parametrize("names", ["{k}_{node}", "{node}.{k}", "copy of {node}, {k}"])
def test_nodes_run_under_any_id_and_report_as_displayed(execute, host, page, monkeypatch, names):
    monkeypatch.setitem(host.nodes.NODE_CLASS_MAPPINGS, "Loop", Loop)
    graph = chain(0)
    sources = {"latent": "empty", **{name: name for name in LINKS if name != "latent"}}
    inputs = {name: [source, 0] for name, source in sources.items()}
    graph["loop"] = {"class_type": "Loop", "inputs": {**inputs, "names": names}}
    before = set(Path(host.folder_paths.get_output_directory()).glob("loop/*"))
    _, errors, refused = execute(graph)
    assert (errors, refused) == ([], {})
    (video,) = set(Path(host.folder_paths.get_output_directory()).glob("loop/*")) - before
    texts = [text for _, text in page.texts]
    assert page.sent == []  # which is for Long Video alone
    assert texts[2:4] == ["step 3 of 3", "written, 8 frames, 1.0 s"]
    assert texts[-1] == "written, 16 frames, 2.0 s"
    execute(written(3, "png", "no_loop", scale=1))
    (expected,) = Path(host.folder_paths.get_output_directory()).glob("no_loop/v_00001_")
    assert np.array_equal(read_video(video)[0], read_video(expected)[0])
