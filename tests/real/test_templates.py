"""ComfyUI's own templates become long videos, or are refused for a reason that the documentation counts."""

import copy
import re
from collections import Counter

import pytest

from vidrd_core.comfy.extend import extend_workflow
from vidrd_core.comfy.graphs import WorkflowError
from vidrd_core.comfy.workflow import parse_workflow

from ..core.comfy.test_extend import check_links
from ..workflows.files import ROOT, nodes
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
