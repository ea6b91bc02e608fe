"""ComfyUI's own page opens workflows that became long, and sends what they say."""

import copy

import pytest

from vidrd_core.comfy.extend import extend_workflow
from vidrd_core.comfy.workflow import parse_workflow

from ..core.comfy.graphs import FAMILIES
from ..workflows.build import in_subgraph, to_page
from ..workflows.convert import to_prompt
from ..workflows.stock import definitions
from .test_page import DIALOGS, OPEN


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_long_workflow_opens_and_is_sent_as_it_says(page, name, inside):
    workflow = to_page(FAMILIES[name](), definitions(loops=False))
    for node in workflow["nodes"]:  # dynamic inputs of newer versions are not what is asked here
        node["properties"]["cnr_id"] = "comfy-core"
    if inside:
        workflow = in_subgraph(workflow, {11} & {node["id"] for node in workflow["nodes"]})
    extend_workflow(parse_workflow(workflow), 3)
    told = page.run(OPEN, copy.deepcopy(workflow))
    assert told["missing"] == []
    assert page.run(DIALOGS) == 0
    for node in told["output"].values():
        node.pop("_meta")
    assert told["output"] == to_prompt(workflow, definitions(loops=False))
