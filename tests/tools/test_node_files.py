"""Adding a node takes its file and a line in the list: the tool writes the rest, and says what is left to do."""

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..stand_in import definitions

ROOT = Path(__file__).parents[2]
NEEDED = (
    "__init__.py", "nodes", "vidrd_core", "tools", "web/docs", "locales", "docs/nodes.md", "example_workflows",
    "tests/__init__.py", "tests/stand_in", "tests/locales", "tests/nodes/__init__.py", "tests/nodes/inputs.py",
    "tests/nodes/inputs.json", "tests/workflows",
)  # fmt: skip
LARGE = shutil.ignore_patterns("*.jpg", "*.png", "*.safetensors", "__pycache__")
NODE = """
from comfy_api.latest import io

from .schema import CATEGORY, schema, seed_input


class Flip(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="VidRD_Flip",
            display_name="Flip Clip",
            category=CATEGORY,
            description="Mirrors the frames of a clip | left to right. Needs no model.",
            inputs=[
                io.Image.Input("images", tooltip="The frames of a clip."),
                seed_input(),
                io.Float.Input("share", default=0.5, min=0.0, max=1.0, round=0.1, tooltip="The share of frames."),
            ],
            outputs=[io.Image.Output(display_name="flipped", tooltip="The mirrored frames.")],
        )
"""
WITH_NODES = """
import json, sys
from tools import node_files
nodes = json.load(sys.stdin)
node_files.definitions = lambda: nodes
sys.exit(node_files.main(sys.argv[1:]))
"""
TRANSLATED = {  # what the seed and the frames are called is known from other nodes
    "display_name": "翻转片段",
    "description": "将片段的帧左右翻转。不需要模型。",
    "inputs": {"share": {"name": "比例", "tooltip": "帧的比例。"}},
    "outputs": {"0": {"name": "翻转后", "tooltip": "翻转后的帧。"}},
}


@pytest.fixture
def pack(tmp_path):
    """A copy of what the tool reads and writes."""
    for name in NEEDED:
        source, target = ROOT / name, tmp_path / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=LARGE)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return tmp_path


def run(folder, *arguments, nodes=None):
    """Exit code and output of the tool; `nodes` are definitions in place of the pack's own, to save time."""
    given = ["-c", WITH_NODES] if nodes else ["-m", "tools.node_files"]
    ended = subprocess.run(
        [sys.executable, *given, *arguments],
        cwd=folder, input=json.dumps(nodes), capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    return ended.returncode, ended.stdout + ended.stderr


def files(folder):
    """The files of the nodes, with their texts."""
    places = ("web/docs/*.md", "locales/*/*.json", "docs/nodes.md", "tests/nodes/inputs.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for place in places for path in folder.glob(place)}


def replace(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def with_changes(node, **changes):
    """The pack's definitions, with other fields of inputs of one of its nodes."""
    nodes = copy.deepcopy(definitions())
    for name, fields in changes.items():
        nodes[node]["input"]["required"][name][1].update(fields)
    return nodes


def test_the_files_of_all_nodes_are_up_to_date():
    """Run `python -m tools.node_files`, and do what it lists."""
    code, said = run(ROOT, "--check")
    assert code == 0, said


@pytest.mark.slow
def test_a_new_node_gets_its_files(pack):
    before = files(pack)
    (pack / "nodes" / "flip.py").write_text(NODE, encoding="utf-8")
    code, said = run(pack, "--check", nodes=definitions())
    assert code == 1
    assert "nodes/flip.py defines VidRD_Flip, which is not in the list NODES of nodes/__init__.py" in said
    assert files(pack) == before

    replace(pack / "nodes" / "__init__.py", "\nNODES:", "\nfrom .flip import Flip\n\nNODES:")
    replace(pack / "nodes" / "__init__.py", "\n]", "\n    Flip,\n]")
    code, said = run(pack)
    assert code == 0, said
    page = (pack / "web" / "docs" / "VidRD_Flip.md").read_text(encoding="utf-8")
    assert page.startswith(
        "# Flip Clip\n\nMirrors the frames of a clip | left to right. Needs no model.\n\n## Inputs\n"
    )
    items = [line for line in page.splitlines() if line.startswith("- `")]
    assert [item.split("`")[1] for item in items] == ["images", "seed", "share", "flipped"]
    assert items[2:] == ["- `share`: The share of frames.", "- `flipped`: The mirrored frames."]
    table = (pack / "docs" / "nodes.md").read_text(encoding="utf-8")
    assert "| Flip Clip | `VidRD_Flip` | Mirrors the frames of a clip \\| left to right. |" in table
    now = files(pack)
    assert json.loads(now["tests/nodes/inputs.json"])["VidRD_Flip"] == {
        "widgets": ["seed", "control_after_generate", "share"], "sockets": ["images"], "outputs": ["IMAGE"],
    }  # fmt: skip
    assert json.loads(now["locales/en/nodeDefs.json"])["VidRD_Flip"]["display_name"] == "Flip Clip"
    changed = {name for name in now if now[name] != before.get(name)}
    locales = {f"locales/{language}/nodeDefs.json" for language in ("en", "zh", "ja")}
    assert changed == {"web/docs/VidRD_Flip.md", "docs/nodes.md", "tests/nodes/inputs.json", *locales}

    # English never fills the place of a translation; what another node says in the same words is translated already.
    chinese = json.loads(now["locales/zh/nodeDefs.json"])
    assert chinese["VidRD_Flip"]["inputs"]["seed"] == chinese["VidRD_Extend"]["inputs"]["seed"]
    assert "share" not in chinese["VidRD_Flip"]["inputs"]
    assert "locales/zh/nodeDefs.json lacks 6 texts" in said
    assert "VidRD_Flip.inputs.share.tooltip: 'The share of frames.'" in said
    assert "VidRD_Flip is in no workflow of example_workflows" in said

    for language in ("zh", "ja"):
        path = pack / "locales" / language / "nodeDefs.json"
        known = json.loads(path.read_text(encoding="utf-8"))
        known["VidRD_Flip"] = {**TRANSLATED, "inputs": {**known["VidRD_Flip"]["inputs"], **TRANSLATED["inputs"]}}
        path.write_text(json.dumps(known), encoding="utf-8")
    workflow = {"nodes": [{"type": "VidRD_Flip"}], "links": []}
    (pack / "example_workflows" / "16_flip.json").write_text(json.dumps(workflow), encoding="utf-8")
    code, said = run(pack)
    assert (code, "to do" in said) == (0, False), said
    assert next(iter(json.loads(files(pack)["locales/zh/nodeDefs.json"])["VidRD_Flip"])) == "display_name"


def test_what_is_missing_is_listed_and_nothing_written(pack):
    nodes = {**definitions(), "VidRD_Flip": {**definitions()["VidRD_SampleClip"], "name": "VidRD_Flip"}}
    before = files(pack)
    code, said = run(pack, "--check", nodes=nodes)
    assert code == 1
    for each in ("web/docs/VidRD_Flip.md is missing", "docs/nodes.md is stale", "tests/nodes/inputs.json is stale"):
        assert each in said
    assert files(pack) == before


def test_inputs_can_only_be_appended(pack):
    nodes = definitions()
    inputs = nodes["VidRD_EmptyClip"]["input"]["required"]
    other = {"height": inputs["height"], "width": inputs["width"], "frames": inputs["frames"]}
    nodes = {**nodes, "VidRD_EmptyClip": {**nodes["VidRD_EmptyClip"], "input": {"required": other}}}
    before = files(pack)
    for arguments in ((), ("--check",)):
        code, said = run(pack, *arguments, nodes=nodes)
        assert code == 1
        assert "VidRD_EmptyClip: the widgets were width, height, frames; now height, width, frames" in said
        assert "or pass --allow-reorder" in said
        assert files(pack) == before
    del nodes["VidRD_LoadState"]
    assert "VidRD_LoadState is gone" in run(pack, nodes=nodes)[1]
    code, said = run(pack, "--allow-reorder", nodes=nodes)
    assert code == 0, said
    page = (pack / "web" / "docs" / "VidRD_EmptyClip.md").read_text(encoding="utf-8")
    assert page.index("- `height`:") < page.index("- `width`:")
    assert "- `vae`:" not in page
    assert "web/docs/VidRD_LoadState.md is the help page of no node: delete it" in said


def test_a_changed_text_takes_its_translations_out(pack):
    old = json.loads(files(pack)["locales/zh/nodeDefs.json"])["VidRD_ReuseMap"]["inputs"]["frames"]["tooltip"]
    pages = {name: text for name, text in files(pack).items() if name.startswith("web")}
    nodes = with_changes("VidRD_ReuseMap", frames={"tooltip": "Frames of each clip."})
    code, said = run(pack, nodes=nodes)
    assert code == 0, said
    assert f"VidRD_ReuseMap.inputs.frames.tooltip: 'Frames of each clip.'\n        until now {old!r}" in said
    chinese = json.loads(files(pack)["locales/zh/nodeDefs.json"])["VidRD_ReuseMap"]["inputs"]
    assert set(chinese["frames"]) == {"name"}
    assert {name: text for name, text in files(pack).items() if name.startswith("web")} == pages

    nodes["VidRD_ReuseMap"]["input"]["required"]["steps"][1]["tooltip"] = "Steps of denoising (T)."
    assert run(pack, "--keep-translations", nodes=nodes)[0] == 0
    assert (
        json.loads(files(pack)["locales/zh/nodeDefs.json"])["VidRD_ReuseMap"]["inputs"]["steps"] == chinese["steps"]
    )
