"""ComfyUI's own templates that became long videos, against the host's definitions of their nodes."""

import asyncio
import copy
import importlib
import re

import pytest

from vidrd_core.comfy.extend import MAX_CLIPS, extend_workflow
from vidrd_core.comfy.graphs import WorkflowError
from vidrd_core.comfy.workflow import parse_workflow

from ..real.conftest import carried  # noqa: F401
from ..stand_in.define import stock_definition
from ..workflows import convert
from ..workflows.files import nodes
from ..workflows.slots import ADDED
from ..workflows.templates import PACKAGE, video_templates

pytestmark = pytest.mark.real


def read_by_name(monkeypatch):
    """Let saved workflows be read by the names of widgets, where they have them."""
    by_order = convert.values

    def values(node, definition):
        """Dynamic inputs have no fixed order."""
        named = node.get("widgets_values_named")
        if named is None or isinstance(node.get("widgets_values"), dict):
            return by_order(node, definition)
        return {**by_order(node, definition), **{name: each for name, each in named.items() if name not in ADDED}}

    monkeypatch.setattr(convert, "values", values)


@pytest.fixture
def check(host, pack, monkeypatch):
    """A function that has the host validate a saved workflow.

    It gives the prompt, its errors as {node: {(type, input)}}, and the outputs that were looked at; None if this
    version lacks nodes.
    """
    asyncio.run(host.nodes.init_builtin_extra_nodes())
    host.nodes.NODE_CLASS_MAPPINGS.update(pack)
    execution = importlib.import_module("execution")
    read_by_name(monkeypatch)

    def check(workflow):
        types = {node["type"] for node in nodes(workflow)}
        known = types & host.nodes.NODE_CLASS_MAPPINGS.keys()
        definitions = {name: stock_definition(host.nodes, name) for name in known}
        if types - known:
            return None
        prompt = convert.to_prompt(workflow, definitions)
        _, _, good, errors = asyncio.run(execution.validate_prompt("id", copy.deepcopy(prompt), None))
        seen = {*good, *(each for node in errors.values() for each in node["dependent_outputs"])}
        found = {key: {(each["type"], each.get("extra_info", {}).get("input_name")) for each in node["errors"]}
                 for key, node in errors.items()}  # fmt: skip
        return prompt, found, seen

    return check


def converted(workflow, clips=3):
    """A copy of a workflow as a long video, and the samplers' ids in the prompt."""
    long = copy.deepcopy(workflow)
    done = extend_workflow(parse_workflow(long), clips)
    return long, [re.search(r"\(node (\S+)\)", each)[1] for each in done.samplers]


def test_converted_templates_are_valid(carried, check):  # noqa: F811
    count = 0
    for name, workflow in video_templates(carried(PACKAGE)).items():
        try:
            long, samplers = converted(workflow)
        except WorkflowError:
            continue
        if (before := check(workflow)) is None:
            continue
        prompt, errors, seen = check(long)
        assert before[0].keys() - prompt.keys() >= set(samplers), name
        for key, found in errors.items():
            assert found <= before[1].get(key, set()), (name, key, prompt[key]["class_type"], found)
        writers = [key for key, node in prompt.items() if node["class_type"] == "VidRD_WriteClip"]
        assert len(writers) in (3, 6, 15), name
        assert set(writers) <= seen, name
        count += 1
    assert count >= 20  # of 61: the others have nodes that this version of ComfyUI lacks


def test_a_wrong_one_would_be_noticed(carried, check):  # noqa: F811
    long, _ = converted(video_templates(carried(PACKAGE))["text_to_video_wan.json"])
    node = next(each for each in long["nodes"] if each["type"] == "VidRD_Extend")
    next(each for each in node["inputs"] if each["name"] == "latent")["link"] = None
    _, errors, _ = check(long)
    assert errors[str(node["id"])] == {("required_input_missing", "latent")}


@pytest.mark.parametrize("name", ["ltxv_text_to_video", "video_ltx2_t2v_distilled"])
def test_the_host_checks_as_many_clips_as_are_allowed(carried, check, name):  # noqa: F811
    """By recursion, which Python limits: a clip by parts is several nodes deep."""
    long, _ = converted(video_templates(carried(PACKAGE))[f"{name}.json"], MAX_CLIPS)
    if (checked := check(long)) is None:
        pytest.skip("this version of ComfyUI lacks nodes of the template")
    prompt, errors, seen = checked
    writers = {key for key, node in prompt.items() if node["class_type"] == "VidRD_WriteClip"}
    assert len(writers) == MAX_CLIPS
    assert writers <= seen
    assert {kind for found in errors.values() for kind, _ in found} <= {
        "value_not_in_list",
        "custom_validation_failed",
    }
