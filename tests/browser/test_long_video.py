"""What Long Video shows of its clips in the making."""

from ..workflows.files import EXAMPLES, read

OPEN = "async (workflow) => { await app.loadGraphData(workflow, true, true, null); return true; }"
TELL = """
async (told) => {
    for (const each of told) app.api.dispatchCustomEvent("vidrd.clip", each);
    await new Promise((done) => setTimeout(done)); // events are taken in turn
    const node = app.graph.nodes.find((node) => node.type === "VidRD_LongVideo");
    const widgets = node.widgets.filter((widget) => widget.name === "clips_shown");
    const cells = widgets.flatMap((widget) => [...widget.element.firstChild.children]);
    const { output, workflow } = await app.graphToPrompt();
    return {
        panels: widgets.length,
        cells: cells.map((cell) => cell.title),
        picture: widgets[0]?.element.querySelector("img").src,
        sent: output[node.id].inputs,
        saved: workflow.nodes.find((each) => String(each.id) === String(node.id)).widgets_values,
    };
}
"""
BREAK = """
() => {
    const node = app.graph.nodes.find((node) => node.type === "VidRD_LongVideo");
    node.addDOMWidget = () => { throw Error(); };
    return true;
}
"""
PICTURE = "data:image/png;base64,iVBORw0KGgo="
PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def opened_example(page):
    workflow = read(EXAMPLES / "3_long_video_in_one_node.json")
    page.run(OPEN, workflow)
    return next(node for node in workflow["nodes"] if node["type"] == "VidRD_LongVideo")


def test_clips_are_shown_as_they_are_made(page):
    node = opened_example(page)
    told = {"node": str(node["id"]), "clips": 3, "clip": 1, "share": 0.5, "picture": PICTURE}
    shown = page.run(TELL, [{**told, "clip": 0, "share": 1}, told])
    assert shown["panels"] == 1
    assert shown["cells"] == ["clip 1: done", "clip 2: in progress", "clip 3: waiting"]
    assert shown["picture"] == PICTURE
    assert "clips_shown" not in shown["sent"]
    assert shown["saved"] == node["widgets_values"]


def test_clips_that_the_host_had_kept_are_done_when_all_is(page):
    node = str(opened_example(page)["id"])
    assert page.run(TELL, [{"node": node, "clips": 2, "clip": 0}])["cells"] == ["clip 1: waiting", "clip 2: waiting"]
    page.run("() => { app.api.dispatchCustomEvent('execution_success', {}); return true; }")
    assert page.run(TELL, [])["cells"] == ["clip 1: done", "clip 2: done"]


def test_a_page_in_which_there_is_no_place_for_it_goes_on(page):
    node = opened_example(page)
    page.run(BREAK)
    shown = page.run(TELL, [{"node": str(node["id"]), "clips": 3, "clip": 0, "share": 1}, {"node": "99"}])
    assert shown["panels"] == 0
    assert page.problems == []


def test_clips_of_an_earlier_run_are_told_from_new_ones(page):
    node = str(opened_example(page)["id"])
    told = {"node": node, "clips": 3}
    shown = page.run(
        TELL,
        [{**told, "clip": 0}, {**told, "clip": 0, "share": 1, "kept": True}, {**told, "clip": 1, "share": 0.5}],
    )
    assert shown["cells"] == ["clip 1: kept from an earlier run", "clip 2: in progress", "clip 3: waiting"]
    shown = page.run(TELL, [{**told, "clip": 0}, {**told, "clip": 0, "share": 1}])
    assert shown["cells"][0] == "clip 1: done"


def test_a_growing_video_is_shown_and_what_is_said_of_it(page):
    node = opened_example(page)
    output = {"images": [{"filename": "v.mp4", "subfolder": "", "type": "output"}], "animated": [True]}
    told = {"node": str(node["id"]), "clips": 2, "clip": 0, "share": 1}
    shown = page.run(TELL, [{**told, "output": {**output, "vidrd_said": ["v.mp4: 8 frames, 1.0 s"]}}])
    assert shown["saved"] == node["widgets_values"]
    said = """
    (id) => {
        const node = app.graph.getNodeById(id);
        const lines = node.widgets.filter(({ name }) => name === "said").map(({ element }) => element.textContent);
        return { lines, output: app.nodeOutputs[id], height: node.size[1] };
    }
    """
    found = page.run(said, node["id"])
    assert found["lines"] == ["v.mp4: 8 frames, 1.0 s"]
    assert found["output"]["images"] == output["images"]
    done = "([id, output]) => { app.graph.getNodeById(id).onExecuted(output); return true; }"
    for _ in range(2):
        page.run(done, [node["id"], {**output, "vidrd_said": ["v.mp4: 12 frames, 1.5 s"]}])
    again = page.run(said, node["id"])
    assert again["lines"] == ["v.mp4: 12 frames, 1.5 s"]
    assert again["height"] == found["height"], "a node does not grow from run to run"


def test_a_saved_states_file_is_said(page):
    said = """
    () => {
        const node = LiteGraph.createNode("VidRD_SaveState");
        node.onExecuted({ text: ["output/a.safetensors"], vidrd_said: ["saved as output/a.safetensors"] });
        return node.widgets.filter(({ name }) => name === "said").map(({ element }) => element.textContent);
    }
    """
    assert page.run(said) == ["saved as output/a.safetensors"]


def test_another_workflows_node_of_that_number_is_left_alone(page):
    node = opened_example(page)
    other = next(
        each for each in read(EXAMPLES / "3_long_video_in_one_node.json")["nodes"] if each["id"] != node["id"]
    )
    shown = page.run(TELL, [{"node": str(other["id"]), "clips": 3, "clip": 0, "share": 1}])
    assert shown["panels"] == 0
    widgets = "(id) => (app.graph.getNodeById(id).widgets ?? []).map((widget) => widget.name)"
    assert "clips_shown" not in page.run(widgets, other["id"])


def test_a_run_of_another_tab_is_not_shown_in_a_node_of_that_number(page):
    node = opened_example(page)
    workflow = page.run("() => app.rootGraph?.id ?? app.graph.id")
    runs = {"there": "another", "here": workflow}
    queue = [[1, run, {}, {"extra_pnginfo": {"workflow": {"id": id}}}, []] for run, id in runs.items()]
    told = {"node": str(node["id"]), "share": 1, "clips": 3}
    before, page.host.answers["queue"] = page.host.answers["queue"], {"queue_running": queue, "queue_pending": []}
    try:
        page.run(TELL, [{**told, "run": "there", "clip": 2, "kept": True}, {**told, "run": "here", "clip": 0}])
        page.tab.wait_for_function(
            "() => app.graph.nodes.some((node) => node.widgets?.some((each) => each.name === 'clips_shown'))"
        )
    finally:
        page.host.answers["queue"] = before
    assert page.run(TELL, [])["cells"] == ["clip 1: done", "clip 2: waiting", "clip 3: waiting"]


def test_new_nodes_keep_their_seed_and_saved_ones_what_they_had(page):
    made = """
    (type) => {
        const node = LiteGraph.createNode(type);
        return node.widgets.find((widget) => widget.name === "control_after_generate").value;
    }
    """
    for name in ("LongVideo", "Extend", "SampleClip", "Noise"):
        assert page.run(made, f"VidRD_{name}") == "fixed"
    assert page.run(made, "KSampler") == "randomize"
    workflow = read(EXAMPLES / "3_long_video_in_one_node.json")
    node = next(node for node in workflow["nodes"] if node["type"] == "VidRD_LongVideo")
    named = node["widgets_values_named"]
    named["control_after_generate"] = "increment"
    node["widgets_values"] = ["increment" if value == "fixed" else value for value in node["widgets_values"]]
    page.run(OPEN, workflow)
    kept = """
    (id) => app.graph.getNodeById(id).widgets.find((widget) => widget.name === "control_after_generate").value
    """
    assert page.run(kept, node["id"]) == "increment"


def test_the_preview_of_a_finished_clip_stays_while_the_next_one_is_sampled(page):
    """The page's own previews, of a chain of Extend: it takes one away only where its node begins again."""
    workflow = read(EXAMPLES / "2_long_video_chained.json")
    page.run(OPEN, workflow)
    first, second = [str(node["id"]) for node in workflow["nodes"] if node["type"] == "VidRD_Extend"][:2]
    told = """
    async ([ids, states, picture]) => {
        const of = (id) => ({ node_id: id, display_node_id: id, real_node_id: id, prompt_id: "p", value: 1, max: 2 });
        const nodes = Object.fromEntries(states.map((state, k) => [ids[k], { ...of(ids[k]), state }]));
        app.api.dispatchCustomEvent("progress_state", { prompt_id: "p", nodes });
        await new Promise((done) => requestAnimationFrame(done));
        const id = ids[states.length - 1], blob = await (await fetch(picture)).blob();
        const names = { nodeId: id, displayNodeId: id, realNodeId: id, parentNodeId: id, promptId: "p", jobId: "p" };
        app.api.dispatchCustomEvent("b_preview_with_metadata", { blob, ...names });
        await new Promise((done) => setTimeout(done, 800)); // it takes previews away 400 ms later
        return Object.keys(app.nodePreviewImages);
    }
    """
    assert page.run(told, [[first, second], ["running"], PIXEL]) == [first]
    assert page.run(told, [[first, second], ["finished", "running"], PIXEL]) == [first, second]
