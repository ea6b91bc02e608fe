"""ComfyUI's own templates become long videos, or are refused for a reason that the documentation counts."""

import copy
import re
from collections import Counter

import pytest

from vidrd_core.comfy.extend import extend_workflow
from vidrd_core.comfy.graphs import WorkflowError
from vidrd_core.comfy.workflow import parse_workflow
from vidrd_core.presets import ReuseChoice

from ..core.comfy.test_extend import check_links
from ..workflows.convert import Graph
from ..workflows.files import ROOT, graphs, nodes, subgraphs
from ..workflows.templates import PACKAGE, video_templates

pytestmark = pytest.mark.real
CONVERTED = "converted"


@pytest.fixture(scope="module")
def outcomes(carried):
    """{name: (the workflow, what it became, the error)} of all templates."""
    found = {}
    for name, workflow in video_templates(carried(PACKAGE)).items():
        long, error = copy.deepcopy(workflow), None
        try:
            extend_workflow(parse_workflow(long), 3)
        except WorkflowError as caught:
            error = caught
        found[name] = workflow, long, error
    return found


def test_the_documentation_counts_them(outcomes):
    text = (ROOT / "docs" / "comfyui.md").read_text(encoding="utf-8")
    assert PACKAGE.replace("==", " ") in text
    (table,) = re.findall(r"<!-- templates -->\n(.*?)<!-- end of templates -->", text, re.DOTALL)
    told = {reason: int(count) for reason, count in re.findall(r"^\| ([^|]+?) \| (\d+) \|", table, re.MULTILINE)}
    assert Counter(error.reason if error else CONVERTED for _, _, error in outcomes.values()) == told
    assert sum(told.values()) == 99


def test_the_recommended_settings_are_the_templates(outcomes):
    text = (ROOT / "docs" / "comfyui.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"<!-- settings -->\n(.*?)<!-- end of settings -->", text, re.DOTALL)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert len(rows) == 15
    for model, template, frames, latents, m, steps, sampler, scheduler, cfg in rows:
        # Values of widgets in their order are enough to find each: no two of these are alike.
        values = [each["type"] + repr(each.get("widgets_values")) for each in nodes(outcomes[f"{template}.json"][0])]
        first, *second = map(int, re.findall(r"\d+", steps))
        if "switch" in steps:
            wanted = [f"{first}, {cfg}, '{sampler}', '{scheduler}', 0, {second[0]}, "]
        elif any(f"{first}, {cfg}, '{sampler}', '{scheduler}', 1]" in each for each in values):
            wanted = []
        else:
            guidance = [f"Guider[{each}]" for each in re.findall(r"\d+", cfg)]
            guided = any(each.startswith("CFGGuider") for each in values)
            wanted = [f"KSamplerSelect['{sampler}'"]
            wanted += (
                guidance if guided else [f"'randomize', {cfg}]" if "SamplerCustom[" in str(values) else "BasicGuider"]
            )
            wanted += [f"BasicScheduler['{scheduler}', {first}, 1]"] if "S" not in scheduler else []
            wanted += [f"{scheduler}[{first}, "] if scheduler == "LTXVScheduler" else []
            for count in second if scheduler != "ManualSigmas" else (first, *second):
                assert any(each.startswith("ManualSigmas") and each.count(",") == count for each in values), model
        if model.startswith("MiniMax H3"):  # two seconds of 24 frames, by the template's own formula
            assert int(frames) == 48 + (5 - 48 % 17) % 17
        elif template != "video_ltx2_t2v":  # whose PrimitiveInt is wired into the length
            wanted.append(f", {frames}, 1")
        else:
            wanted.append(f"PrimitiveInt[{frames}, ")
        for each in wanted:
            assert any(each in value for value in values), (model, each)
        factor = {"LTX-": 8, "Stab": 1}.get(model[:4], 4)
        count, cycle = 1 + (int(frames) - 1) // factor, 0
        if model.startswith("MiniMax H3"):
            count, cycle = 5 * (int(frames) // 17) + 1 + (int(frames) % 17 - 1) // 4, 5
        found = ReuseChoice(preset="for this model").resolve(count, factor > 1, cycle)
        assert (count, found.prompt_frames) == (int(latents), int(m)), model


def test_those_that_are_refused_stay_and_name_a_node(outcomes):
    for name, (workflow, long, error) in outcomes.items():
        if error is not None:
            assert long == workflow, name
            (node,) = re.findall(r"^(\S+).* \(node \S+\)(?: is in the way: | gets no video: )", str(error))
            assert node in {each["type"] for each in nodes(workflow)}, name


def test_those_that_are_converted_keep_everything_else(outcomes):
    for name, (workflow, long, error) in outcomes.items():
        if error is not None:
            continue
        check_links(long, twice=1 if name == "video_kandinsky5_i2v.json" else 0)
        kept = {each["id"]: each for each in nodes(long)}
        copies = [(each["type"], each.get("widgets_values")) for each in nodes(long)]
        gone = [each["type"] for each in nodes(workflow)
                if each["id"] not in kept and (each["type"], each.get("widgets_values")) not in copies]  # fmt: skip
        known = {"KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced", "RandomNoise", "VAEDecode",
                 "VAEDecodeTiled", "VAEDecodeAudio", "CreateVideo", "SaveVideo", "SaveAnimatedWEBP",
                 "TrimVideoLatent", "LTXVSeparateAVLatent", "LTXVAudioVAEDecode", "LTXVCropGuides"}  # fmt: skip
        assert set(gone) <= known, name
        for each in nodes(workflow):
            if each["id"] in kept:
                assert kept[each["id"]].get("widgets_values") == each.get("widgets_values"), name
        assert long["groups"][: len(workflow["groups"])] == workflow["groups"]
        assert sum(each["type"] == "VidRD_WriteClip" for each in nodes(long)) in (3, 6, 15), name


def promoted(workflow):
    """{(the node that uses a subgraph, its widget): value}, as pages fill them."""
    found = {}
    for graph in graphs(workflow):
        for use in graph["nodes"]:
            if use["type"] in subgraphs(workflow):
                names = Graph(workflow).within(use).promoted()
                given = use.get("widgets_values") or []
                assert len(given) in (0, len(names))
                found |= {(use["id"], name): value for name, value in zip(names, given, strict=False)}
    return found


@pytest.mark.parametrize("prompts", [[], ["a fox", "a hen"]])
def test_promoted_values_keep_their_owners(outcomes, prompts):
    changed = refused = 0
    for name, (workflow, _, error) in outcomes.items():
        if error is not None:
            continue
        long = copy.deepcopy(workflow)
        for graph in graphs(long):
            for use in graph["nodes"]:
                if use["type"] in subgraphs(long) and not use.get("widgets_values"):  # newer pages save them
                    use["widgets_values"] = Graph(long).within(use).promoted()
        before = promoted(long)
        try:
            extend_workflow(parse_workflow(long), 3, prompts)
        except WorkflowError:  # another encoder than CLIPTextEncode
            refused += 1
            continue
        after = promoted(long)
        assert after.items() <= before.items(), name
        changed += after != before
    assert (changed, refused) == ((7, 43) if prompts else (0, 0))
