"""ComfyUI's own page opens our workflows, and sends what they say."""

import pytest

from ..workflows.convert import to_prompt
from ..workflows.files import EXAMPLES, PATHS, ROOT, read
from ..workflows.slots import widgets
from ..workflows.stock import EDGE_CASES, definitions, has_loops

OPEN = """
async (workflow) => {
    await app.loadGraphData(workflow, true, true, null);
    const graphs = [app.graph, ...(app.graph.subgraphs?.values() ?? [])];
    const types = graphs.flatMap((graph) => graph.nodes).map((node) => node.type);
    const { output } = await app.graphToPrompt();
    const uses = app.graph.nodes.filter((node) => node.isSubgraphNode?.());
    const seeds = uses.flatMap((node) => node.inputs).filter((input) => input.name === "seed");
    return {
        missing: types.filter((type) => !(type in LiteGraph.registered_node_types)),
        lost: seeds.some((input) => !input.widget),
        output,
    };
}
"""
WIDGETS = """
(types) => types.map((type) => {
    const widgets = LiteGraph.createNode(type).widgets ?? [];
    return widgets.filter((widget) => widget.serialize !== false).map((widget) => widget.name);
})
"""
DIALOGS = "() => document.querySelectorAll('[role=dialog]').length"
NAMES = [str(path.relative_to(ROOT)) for path in [*PATHS, *sorted(EDGE_CASES.glob("*.json"))]]


def test_it_comes_up_with_our_nodes(opened):
    """Its problems from the start on are counted."""
    opened.tab.wait_for_timeout(1000)
    assert opened.problems == []
    assert opened.host.unknown == []
    assert opened.run(DIALOGS) == 0


def test_widgets_stand_in_the_order_that_workflows_go_by(page):
    known = definitions(loops=False)
    told = page.run(WIDGETS, list(known))
    for (name, definition), names in zip(known.items(), told, strict=True):
        if name == "PrimitiveInt":  # older pages name the widget by what it says at first
            names = ["control_after_generate" if each == "fixed" else each for each in names]
        assert names[: len(widgets(definition))] == widgets(definition), name  # to some the page adds its own
        assert names == widgets(definition) or not name.startswith("VidRD_"), name


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_opens_and_is_sent_as_it_says(page, name):
    workflow = read(ROOT / name)
    if has_loops(workflow):
        pytest.skip("this page is older than loops")
    told = page.run(OPEN, workflow)
    assert told["missing"] == []
    assert page.run(DIALOGS) == 0
    if told["lost"] and not name.startswith("subgraphs"):  # ours have it last, so that no other value moves
        pytest.skip("this page makes no widget of a subgraph's seed")
    expected = to_prompt(workflow, definitions())
    saved = {str(node["id"]): node.get("widgets_values", []) for node in workflow["nodes"]}
    for key, node in told["output"].items():
        node.pop("_meta")
        # Newer pages send a widget's own value if what is wired to it is muted; older ones nothing.
        for name in node["inputs"].keys() - expected[key]["inputs"].keys():
            assert node["inputs"].pop(name) in saved[key]
    assert told["output"] == expected


NAMED = """
async (prefix) => {
    app.graph.clear();
    const types = ["VidRD_EmptyClip", "SaveImage", "VidRD_WriteClip", "VidRD_LongVideo", "VidRD_SaveState"];
    const [clip, ...saving] = types.map((type) => LiteGraph.createNode(type));
    for (const node of [clip, ...saving]) app.graph.add(node);
    for (const { widgets } of saving) widgets.find(({ name }) => name === "filename_prefix").value = prefix;
    const { output } = await app.graphToPrompt();
    return saving.map(({ id }) => output[id].inputs.filename_prefix);
}
"""


def test_placeholders_in_file_names_are_those_of_save_image(page):
    stock, *ours = page.run(NAMED, "a/%date:yyyy-MM%_%VidRD_EmptyClip.width%_%year%")
    assert "%date" not in stock
    assert "_256_%year%" in stock, "which the host fills in"
    assert ours == [stock] * 3


APP = [path.stem for path in PATHS if "linearData" in read(path)["extra"]]
IN_APP = """
async () => {
    const { commands, execute } = app.extensionManager.command;
    if (!commands?.some(({ id }) => id === "Comfy.ToggleLinear")) return null;
    await execute("Comfy.ToggleLinear");
    await new Promise((done) => setTimeout(done, 500));
    return document.querySelector("[data-testid=linear-widgets]")?.innerText.split("\\n") ?? null;
}
"""


@pytest.mark.parametrize("name", APP)
def test_app_mode_shows_the_inputs_that_a_workflow_chooses(page, name):
    workflow = read(EXAMPLES / f"{name}.json")
    page.run(OPEN, workflow)
    shown = page.run(IN_APP)
    if shown is None:
        pytest.skip("this page has no App mode, or one without chosen inputs")
    page.tab.keyboard.press("Escape")  # its welcome
    page.run(IN_APP)
    for _, widget, *_ in workflow["extra"]["linearData"]["inputs"]:
        assert {"edit_clips": "Edit clips..."}.get(widget, widget) in shown
    assert page.run(DIALOGS) == 0


def test_a_missing_node_would_be_noticed(opened):
    node = {"id": 1, "type": "Gone", "pos": [0, 0], "size": [9, 9], "flags": {}, "order": 0, "mode": 0,
            "inputs": [], "outputs": [], "properties": {}}  # fmt: skip
    told = opened.run(OPEN, {"nodes": [node], "links": [], "last_node_id": 1, "last_link_id": 0, "version": 0.4})
    assert told["missing"] == ["Gone"]
    opened.tab.wait_for_timeout(1500)
    assert opened.run(DIALOGS) == 1 or "Missing node: Gone" in opened.tab.inner_text("body")
