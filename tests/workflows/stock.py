"""The definitions of ComfyUI's own nodes that workflows use, stored in stock.json.

`python -m tests.workflows.stock CHECKOUT`, with ComfyUI's Python, writes the file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ..stand_in import definitions as ours
from ..stand_in import describe
from .files import PATHS, nodes, read

FILE = Path(__file__).with_suffix(".json")
LOOPS = Path(__file__).with_name("loops.json")  # nodes of newer versions, as in our workflow
PACKS = Path(__file__).with_name("packs.json")  # of third-party packs: {pack: {node: definition}}
EDGE_CASES = Path(__file__).parent / "edge_cases"
PAGES = {  # the nodes of the page's default workflow, and the loaders that it expects
    "CLIPTextEncode", "CheckpointLoaderSimple", "ControlNetLoader", "EmptyLatentImage", "GLIGENLoader",
    "ImageOnlyCheckpointLoader", "KSampler", "LoraLoader", "LoraLoaderModelOnly", "SaveImage", "StyleModelLoader",
    "UNETLoader", "UpscaleModelLoader", "VAEDecode", "VAELoader",
}  # fmt: skip

EDITED = {"PrimitiveString", "PrimitiveStringMultiline"}  # what a test of the table of clips connects
EXTENDED = {  # what the tests of `vidrd comfy extend` make workflows of
    "BasicGuider", "BasicScheduler", "CFGGuider", "CreateVideo", "DisableNoise", "EmptyHunyuanLatentVideo",
    "EmptyLTXVLatentVideo", "GetVideoComponents", "ImageScale", "KSamplerAdvanced", "KSamplerSelect",
    "Kandinsky5ImageToVideo", "LTXVAddGuide", "LTXVAudioVAEDecode", "LTXVAudioVAEEncode", "LTXVAudioVAELoader",
    "LTXVConcatAVLatent", "LTXVConditioning", "LTXVCropGuides", "LTXVEmptyLatentAudio", "LTXVImgToVideo",
    "LTXVImgToVideoInplace", "LTXVLatentUpsampler", "LTXVScheduler", "LTXVSeparateAVLatent", "LatentUpscaleBy",
    "LatentUpscaleModelLoader", "LoadImage", "ManualSigmas", "NormalizeVideoLatentStart", "PrimitiveInt",
    "RandomNoise", "RepeatLatentBatch", "ReplaceVideoLatentFrames", "SamplerCustom", "SamplerCustomAdvanced",
    "SaveAnimatedWEBP", "SaveVideo", "SaveWEBM", "SplitSigmas", "TrimVideoLatent", "VAEDecodeTiled",
    "Wan22ImageToVideoLatent", "WanImageToVideo", "WanMoveTrackToVideo", "WanVaceToVideo",
}  # fmt: skip


def definitions(loops: bool = True) -> dict[str, Any]:
    """Our nodes and these, as in /object_info; `loops` adds those that the installed page does not know."""
    files = (FILE, LOOPS) if loops else (FILE,)
    stock = {name: each for file in files for name, each in json.loads(file.read_text(encoding="utf-8")).items()}
    return {**stock, **{name: each for pack in packs().values() for name, each in pack.items()}, **ours()}


def packs() -> dict[str, dict[str, Any]]:
    """Definitions of nodes of third-party packs, by pack."""
    return json.loads(PACKS.read_text(encoding="utf-8"))


def has_loops(workflow: dict[str, Any]) -> bool:
    """Whether a workflow needs a newer version than the installed page."""
    return any(node["type"] not in definitions(loops=False) for node in nodes(workflow))


def without_prose(definition: dict[str, Any]) -> dict[str, Any]:
    """The names, types and ranges of a definition, with which workflows must agree."""
    inputs = {
        kind: {
            name: [type_, *({key: value for key, value in each.items() if key != "tooltip"} for each in configs)]
            for name, (type_, *configs) in named.items()
        }
        for kind, named in definition["input"].items()
        if kind != "hidden"
    }
    order = {kind: list(named) for kind, named in inputs.items()}
    return {**definition, "input": inputs, "input_order": order, "description": "", "output_tooltips": None}


if __name__ == "__main__":
    used = set(sys.argv[2:]) | {
        node["type"] for path in [*PATHS, *EDGE_CASES.glob("*.json")] for node in nodes(read(path))
    }
    others = {name for pack in packs().values() for name in pack}
    known = {*ours(), *others, *json.loads(LOOPS.read_text(encoding="utf-8"))}
    names = sorted((used | PAGES | EDITED | EXTENDED) - known)
    found = describe("--host", sys.argv[1], "--stock", *names)["stock"]
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(without_prose(found[name]))}" for name in names)
    FILE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
