"""What Load VidRD State shows of saved states."""

import base64
import os

import numpy as np
import pytest

from vidrd_core.state_files import StateSummary, listing, preview_of

from ..core.test_state_files import clip

OPEN = """
async (file) => {
    const empty = { nodes: [], links: [], last_node_id: 0, last_link_id: 0, version: 0.4 };
    await app.loadGraphData(empty, true, true, null);
    const node = LiteGraph.createNode("VidRD_LoadState");
    node.widgets.find(({ name }) => name === "file").value = file;
    app.graph.add(node);
    return node.widgets.length;
}
"""
BROWSE = """
async () => {
    const node = app.graph.nodes.find((node) => node.type === "VidRD_LoadState");
    await node.widgets.find(({ type }) => type === "button").callback();
    const dialog = document.querySelector("dialog.vidrd-states");
    return {
        rows: [...dialog.querySelectorAll(".vidrd-list button")].map((each) => each.innerText),
        clips: [...dialog.querySelectorAll(".vidrd-clip")].map((each) => [each.offsetLeft, each.offsetTop]),
        dots: dialog.querySelectorAll(".vidrd-dot").length,
        lines: dialog.querySelectorAll("path").length,
        pictures: dialog.querySelectorAll(".vidrd-list img").length,
    };
}
"""
CARD = """
(text) => app.graph.nodes[0].widgets.find(({ name }) => name === "state_shown").element.innerText.includes(text)
"""
SAVED = """
async () => {
    const node = app.graph.nodes.find((node) => node.type === "VidRD_LoadState");
    const { output, workflow } = await app.graphToPrompt();
    return {
        file: output[node.id].inputs,
        saved: workflow.nodes.find((each) => String(each.id) === String(node.id)).widgets_values,
        card: node.widgets.find(({ name }) => name === "state_shown").element.innerText,
        open: document.querySelectorAll("dialog.vidrd-states").length,
    };
}
"""


@pytest.fixture
def states(page, tmp_path):
    """A video of four clips, of which the second branches; the second and the first clip were not saved."""
    picture = preview_of(np.full((2, 8, 8, 3), 200, np.uint8))
    line = [clip(prompt="a ship")]
    for number in range(3):
        line.append(clip(line[-1], f"a ship at hour {number}", preview=picture, made=number))
    saved = {"a": line[2], "b": line[3], "c": clip(line[1], "<b>a storm</b>", 2**63, made=9)}
    summaries = {}
    for second, (name, state) in enumerate(saved.items()):
        state.save(path := tmp_path / f"{name}.safetensors")
        os.utime(path, (second, second))
        summaries[f"output/{name}.safetensors"] = StateSummary.of(path)
    answers = page.host.answers
    before = answers["vidrd/states"]
    answers |= {"vidrd/states": listing(summaries), "vidrd/state_picture": base64.b64decode(picture)}
    yield page
    answers["vidrd/states"] = before


def test_states_are_chosen_by_picture_prompt_and_date(states):
    states.run(OPEN, "output/a.safetensors")
    found = states.run(BROWSE)
    assert [row.splitlines()[0] for row in found["rows"]] == [
        "no picture",
        "clip 4: a ship at hour 2",
        "clip 3: a ship at hour 1",
    ]
    assert found["rows"][0].splitlines()[1] == "clip 3: <b>a storm</b>"
    assert f"seed {2**63}" in found["rows"][0]
    assert found["pictures"] == 2
    assert (found["dots"], found["lines"]) == (2, 4)
    (a, b, c) = sorted(found["clips"], key=lambda each: (each[1], each[0]))
    assert a[0] < b[0]
    assert a[0] == c[0]
    assert a[1] == b[1] < c[1]
    states.tab.click(".vidrd-list button:has-text('a storm')")
    states.tab.wait_for_function(CARD, arg="a storm")
    told = states.run(SAVED)
    assert told["file"] == {"file": "output/c.safetensors"}
    assert told["saved"] == ["output/c.safetensors"]
    assert told["open"] == 0
    assert "clip 3: <b>a storm</b>" in told["card"]


def test_a_choice_is_one_step_of_undo(states):
    states.run(OPEN, "output/a.safetensors")
    tracker = "app.extensionManager.workflow.activeWorkflow.changeTracker"
    steps = f"() => {tracker}.undoQueue.length"
    states.run(f"() => {{ ({tracker}.captureCanvasState ?? {tracker}.checkState).call({tracker}); return true; }}")
    before = states.run(steps)
    states.run(BROWSE)
    states.tab.locator(".vidrd-list button:has-text('a storm')").evaluate("(row) => row.click()")  # without a mouse
    states.tab.wait_for_function(CARD, arg="a storm")
    assert states.run(steps) == before + 1
    states.tab.keyboard.press("Control+z")
    states.tab.wait_for_function(CARD, arg="hour 1")
    assert states.run(SAVED)["saved"] == ["output/a.safetensors"]


def test_it_closes_by_escape_and_finds_words(states):
    states.run(OPEN, "output/a.safetensors")
    states.run(BROWSE)
    states.tab.fill(".vidrd-states input", "HOUR 1")
    assert states.tab.locator(".vidrd-list button").count() == 1
    assert states.tab.locator(".vidrd-clip:not(.vidrd-other)").all_inner_texts() == ["clip 3"]
    states.tab.fill(".vidrd-states input", "nothing like it")
    assert states.tab.inner_text(".vidrd-list") == "None of them."
    assert states.tab.locator(".vidrd-clip.vidrd-other").count() == 3
    states.tab.keyboard.press("Escape")
    states.tab.keyboard.press("Escape")  # the first one empties the search
    states.tab.wait_for_function(CARD, arg="hour 1")
    told = states.run(SAVED)
    assert told["open"] == 0
    assert told["saved"] == ["output/a.safetensors"]
    assert told["card"].startswith("clip 3: a ship at hour 1")


def test_it_is_used_by_keys_and_opens_once(states):
    states.run(OPEN, "output/a.safetensors")
    states.run(f"async () => {{ await Promise.all([({BROWSE})(), ({BROWSE})()]); return true; }}")
    assert states.run(SAVED)["open"] == 1
    for _ in range(3):  # from the search, by the button, to the list
        states.tab.keyboard.press("Tab")
        if states.run("() => document.activeElement.matches('.vidrd-list button')"):
            break
    states.tab.keyboard.press("Enter")
    states.tab.wait_for_function(CARD, arg="a storm")
    assert states.run(SAVED)["open"] == 0


def test_a_selection_that_ends_outside_does_not_close_it(states):
    states.run(OPEN, "output/a.safetensors")
    states.run(BROWSE)
    states.tab.keyboard.type("hour")
    box = states.tab.locator(".vidrd-states input").bounding_box()
    states.tab.mouse.move(box["x"] + 60, box["y"] + 10)
    states.tab.mouse.down()
    states.tab.mouse.move(2, 2, steps=3)
    states.tab.mouse.up()
    assert states.run(SAVED)["open"] == 1
    states.tab.mouse.click(2, 2)
    assert states.run(SAVED)["open"] == 0


def test_a_long_prompt_takes_a_few_lines(states):
    long = "a ship on the sea " * 500
    states.host.answers["vidrd/states"]["states"][0]["prompt"] = long
    states.run(OPEN, "output/a.safetensors")
    states.run(BROWSE)
    row = states.tab.locator(".vidrd-list button").first
    assert row.bounding_box()["height"] < 160
    assert row.get_attribute("title") == long
    states.tab.keyboard.press("Escape")


def test_without_states_it_says_so(page):
    page.run(OPEN, "no state was saved yet")
    found = page.run(BROWSE)
    assert found["rows"] == found["clips"] == []
    assert page.tab.inner_text(".vidrd-list") == "No state was saved yet."
    page.tab.keyboard.press("Escape")


def test_a_host_that_tells_nothing_leaves_the_node_as_it_is(page):
    told = page.host.answers.pop("vidrd/states")
    page.run(OPEN, "output/a.safetensors")
    saved = page.run(SAVED)
    page.run(BROWSE)
    said = page.tab.inner_text(".vidrd-list")
    page.tab.keyboard.press("Escape")
    page.host.answers["vidrd/states"] = told
    page.host.unknown.clear()
    page.problems.clear()  # the browser reports the missing answer by itself
    assert saved["saved"] == ["output/a.safetensors"]
    assert saved["card"] == ""
    assert said == "The host does not tell which states there are: the host answered 404"
