"""The pictures in the table of clips: each at the row that describes the clip it is of."""

import base64
import json
import re

import pytest

from .clip_editor import PROMPTS, dispatch, tell

pytestmark = pytest.mark.slow

PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # of a pixel
)


@pytest.fixture
def pictures(page):
    """The host has every file that the page asks for."""
    page.tab.route("**/view?*", lambda route: route.fulfill(body=base64.b64decode(PICTURE), content_type="image/png"))
    yield
    page.tab.unroute("**/view?*")


def files(shown):
    """The files of the pictures that are shown, or what else they are."""
    address = r".*/view\?filename=([^&]*)&subfolder=vidrd&type=temp.*"
    return [re.sub(address, r"\1", each) for each in shown["pictures"]]


def result(run, names):
    told = {"node": "6.0.0.write_6", "display_node": "6", "prompt_id": run}
    return {**told, "output": {"vidrd_thumbnails": [f"vidrd/{name}.jpg" for name in names]}}


@pytest.fixture
def host_runs(page):
    """A function that lets the host run what the page would send now, under an id, for this workflow or another."""
    before = page.host.answers["queue"]

    def run(run, workflow=None):
        sent, own = page.run("async () => [(await app.graphToPrompt()).output, app.graph.id]")
        extra = {"extra_pnginfo": {"workflow": {"id": workflow or own}}}
        page.host.answers["queue"] = {"queue_running": [[1, run, sent, extra, []]], "queue_pending": []}
        return page.host.answers["queue"]["queue_running"][0]

    yield run
    page.host.answers["queue"] = before


def test_pictures_of_the_clips_come_with_the_run_and_go_with_their_rows(editor, pictures, host_runs):
    edited, preview = editor(), f"data:image/png;base64,{PICTURE}"
    host_runs("go")
    tell(edited, run="go", clip=0)
    tell(edited, run="go", clip=0, share=1, thumbnail="vidrd/a.jpg")
    tell(edited, run="go", clip=1, share=1, thumbnail="vidrd/b.jpg")
    tell(edited, run="go", clip=2, share=0.5, picture=preview)
    shown = edited.followed
    assert (files(shown), shown["running"]) == (["a.jpg", "b.jpg", preview, "", "", ""], 2)
    dispatch(edited, "execution_interrupted")
    shown = edited.followed
    assert (files(shown), shown["running"]) == (["a.jpg", "b.jpg", "", "", "", ""], -1)
    edited.press(1, "down")
    assert files(edited.followed)[:2] == ["b.jpg", "a.jpg"]
    edited.press(1, "remove")
    assert files(edited.followed) == ["a.jpg", "", "", "", ""]
    for _ in range(2):
        edited.tab.keyboard.press("Control+z")
        edited.tab.wait_for_timeout(500)
    assert files(edited.followed)[:2] == ["a.jpg", "b.jpg"]
    dispatch(edited, "executed", **result("go", "uvwxyz"))
    assert files(edited.followed) == [f"{k}.jpg" for k in "uvwxyz"]
    edited.press(6, "seed")
    edited.fill(1, "textarea", "another star")
    assert files(edited.followed) == ["", "v.jpg", "w.jpg", "x.jpg", "y.jpg", ""]
    edited.fill(1, "textarea", PROMPTS[0])
    edited.fill(6, "input.seed", "")
    assert files(edited.followed) == [f"{k}.jpg" for k in "uvwxyz"]
    assert ".jpg" not in json.dumps(edited.page.run("async () => (await app.graphToPrompt()).workflow"))


def test_pictures_come_to_rows_that_moved_while_they_were_made(editor, pictures, host_runs):
    edited, preview = editor(seed_per_clip="1,2"), f"data:image/png;base64,{PICTURE}"
    host_runs("moved")
    tell(edited, run="moved", clip=0)
    edited.press(1, "down")
    edited.press(2, "down")
    tell(edited, run="moved", clip=0, share=1, thumbnail="vidrd/a.jpg")
    tell(edited, run="moved", clip=1, share=0.5, picture=preview)
    shown = edited.followed
    assert (files(shown), shown["running"]) == ([preview, "", "a.jpg", "", "", ""], 0)
    dispatch(edited, "executed", **result("moved", "abcdef"))
    dispatch(edited, "execution_success")
    assert files(edited.followed) == [f"{k}.jpg" for k in "bcadef"]
    host_runs("after")  # another order; the first of its clips is made
    tell(edited, run="after", clip=0, share=1, thumbnail="vidrd/n.jpg")
    assert files(edited.followed) == ["n.jpg", *(f"{k}.jpg" for k in "cadef")]


def test_pictures_of_choices_come_to_their_rows(editor, pictures, host_runs):
    edited = editor(prompts="a {red|blue {sad|gay}} \\{star\\} // one\na ring { |} \na {red|blue} star", clips=0)
    _, _, sent, *_ = host_runs("chosen")
    texts = [line.strip() for line in sent["6"]["inputs"]["prompts"].splitlines()]
    assert re.fullmatch(r"a (red|blue (sad|gay)) \{star\}", texts[0])
    for k in range(3):
        tell(edited, run="chosen", clip=k, clips=3, share=1, thumbnail=f"vidrd/{k}.jpg")
    edited.press(1, "down")
    assert files(edited.followed) == ["1.jpg", "0.jpg", "2.jpg"]
    edited.fill(3, "textarea", "a {green|white} star")
    assert files(edited.followed) == ["1.jpg", "0.jpg", ""]


def test_another_workflows_run_leaves_pictures_and_rows(editor, pictures, host_runs):
    edited = editor()
    host_runs("here")
    tell(edited, run="here", clip=0, share=1, thumbnail="vidrd/a.jpg")
    assert files(edited.followed)[0] == "a.jpg"  # the page has asked what runs here
    host_runs("there", workflow="of another tab")
    tell(edited, run="there", clip=0, share=1, thumbnail="vidrd/b.jpg")
    tell(edited, run="there", clip=1, share=0.5)
    dispatch(edited, "executed", **result("there", "uvwxyz"))
    shown = edited.followed
    assert (files(shown), shown["running"]) == (["a.jpg", "", "", "", "", ""], -1)
    edited.fill(1, "textarea", "a star of a copy")  # which has the same id
    host_runs("copy")
    edited.fill(1, "textarea", PROMPTS[0])
    tell(edited, run="copy", clip=0, share=0.5)
    shown = edited.followed
    assert (files(shown), shown["running"]) == (["a.jpg", "", "", "", "", ""], -1)


def test_pictures_are_recalled_from_the_history(editor, page, pictures):
    edited, node = editor(), "6"
    page.tab.keyboard.press("Escape")
    name = f"{node}.0.0.write_2"
    sent = page.run("async () => (await app.graphToPrompt()).output")
    extra = {"extra_pnginfo": {"workflow": {"id": page.run("() => app.graph.id")}}}
    result = {
        "outputs": {name: {"vidrd_thumbnails": ["vidrd/k.jpg", "vidrd/l.jpg"]}},
        "meta": {name: {"display_node": node}},
    }
    other = {"outputs": {name: {"vidrd_thumbnails": ["vidrd/m.jpg"]}}, "meta": {name: {"display_node": node}}}
    history = {
        "made": {"prompt": [1, "made", sent, {}, []], **result},
        "another": {"prompt": [2, "another", {node: {"inputs": {"seed": 1}}}, {}, []], **other},
        "cached": {"prompt": [3, "cached", sent, extra, []], "outputs": {}, "meta": {}},
    }
    page.tab.route("**/history?*", lambda route: route.fulfill(json=history))
    try:
        page.run("() => { editing().widgets.find(({ name }) => name === 'edit_clips').callback(); return true; }")
        assert files(edited.followed) == ["k.jpg", "l.jpg", "", "", "", ""]
        edited.press(1, "down")
        page.tab.keyboard.press("Escape")
        edited.open(page.run("() => app.graph.serialize()"))  # as after the page was loaded again
        assert files(edited.followed) == ["l.jpg", "k.jpg", "", "", "", ""]
        edited.fill(1, "textarea", "a square")
        assert files(edited.followed) == ["", "k.jpg", "", "", "", ""]
    finally:
        page.tab.unroute("**/history?*")
