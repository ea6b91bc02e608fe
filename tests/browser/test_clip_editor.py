"""The table of clips: it reads and writes Long Video's own fields, and leaves no other trace in what is saved."""

import pytest

from vidrd_core.prompt_schedule import parse_per_clip

from ..workflows.files import EXAMPLES, read
from .clip_editor import FIELDS, LISTS, PROMPTS, SENT, tell

pytestmark = pytest.mark.slow
BIG = str(2**64 - 1)  # of which a JavaScript number would lose digits


def test_it_shows_the_clips_and_changes_nothing_by_itself(editor):
    edited = editor()
    shown = edited.shown
    assert shown["title"] == "Clips of VidRD Long Video, 6 clips"
    assert shown["prompts"] == [*PROMPTS, "", ""]
    assert shown["goingOn"][4:] == [f"as clip 4: {PROMPTS[3]}"] * 2
    assert shown["usual"] == ["0", "2.5", "4"]
    assert (shown["said"], set(shown["wrong"])) == ([], {""})
    assert edited.sent == FIELDS


def test_what_is_edited_is_sent_and_saved_in_the_nodes_own_fields(editor):
    edited = editor()
    edited.fill(2, "textarea", "a small cyan star")
    edited.fill(3, "input.seed", BIG)
    edited.fill(1, "input.cfg", "4.5")
    edited.fill(6, "input.alpha", "1")
    edited.fill(6, "input.alpha", "")
    prompts = "\n".join([PROMPTS[0], "a small cyan star", *PROMPTS[2:]])
    assert edited.sent == {**FIELDS, "prompts": prompts, "seed_per_clip": f",,{BIG}", "cfg_per_clip": "4.5"}
    edited.fill(3, "input.seed", "")
    assert edited.sent["seed_per_clip"] == ""


def test_a_clip_beyond_the_prompts_gets_a_line_of_its_own(editor):
    edited = editor()
    edited.fill(5, "textarea", "a blue ring")
    assert edited.sent["prompts"] == "\n".join([*PROMPTS, "a blue ring"])
    assert edited.shown["goingOn"][5] == "as clip 5: a blue ring"
    edited.fill(5, "textarea", "")
    assert edited.sent == FIELDS
    edited.fill(6, "textarea", "a ring, pasted\nin two lines")
    assert edited.sent == {**FIELDS, "prompts": "\n".join([*PROMPTS, PROMPTS[3], "a ring, pasted in two lines"])}
    assert edited.shown["prompts"][4] == PROMPTS[3]
    edited.fill(2, "textarea", "")  # as the one before, which is written since others come after it
    edited.of(1, "textarea").focus()
    assert edited.shown["prompts"][1] == PROMPTS[0]


def test_blank_lines_and_comments_stay_where_they_are(editor):
    text = "// a story\n\n a star \n\na ring // of gold\n\n"
    edited = editor(prompts=text, clips=0)
    assert edited.shown["prompts"] == ["a star", "a ring // of gold"]
    edited.fill(2, "input.seed", "7")
    assert edited.values == {**FIELDS, "prompts": text, "clips": 0, "seed_per_clip": ",7"}
    edited.fill(2, "textarea", "a square")
    assert edited.values["prompts"] == "// a story\n\n a star \n\na square\n\n"
    edited.fill(2, "textarea", "// nothing")
    assert edited.shown["wrong"][1] == "This is only a comment: write a prompt."
    assert edited.values["prompts"] == "// a story\n\n a star \n\na square\n\n"


def test_a_choice_over_several_lines_is_edited_in_the_node(editor):
    edited = editor(prompts="a {red\nstar|blue\nring}", clips=3)
    shown = edited.shown
    assert "A comment or a choice {a|b} is not closed in its line" in shown["said"][0]
    assert shown["goingOn"] == ["in the node"] * 3
    assert set(shown["locked"]) == {"prompt", "up", "down", "add", "remove"}
    edited.fill(3, "input.cfg", "3")
    assert edited.values == {**FIELDS, "prompts": "a {red\nstar|blue\nring}", "clips": 3, "cfg_per_clip": ",,3"}


@pytest.mark.parametrize(
    ("typed", "sign"),
    [
        ("a {red|small} one", "{"),
        pytest.param("a {tiny {red|blue}|small} one", "{", marks=pytest.mark.slow),
        ("a /* red */ one", "/*"),
    ],
)
def test_a_choice_or_a_comment_is_typed_to_its_end(editor, typed, sign):
    edited = editor(prompts="a star\na ring\na */ square", clips=0)
    edited.of(2, "textarea").focus()
    edited.tab.keyboard.press("Control+a")
    written, told = "", f"Close the {sign}: until then the node has the text from before."
    for number, letter in enumerate(typed, 1):
        edited.tab.keyboard.type(letter)
        so_far = typed[:number]
        is_open = so_far.count("{") > so_far.count("}") or ("/*" in so_far and "*/" not in so_far)
        written = written if is_open else so_far.strip()
        shown = edited.shown
        assert (shown["prompts"], shown["said"]) == (["a star", so_far, "a */ square"], [])
        assert shown["wrong"] == ["", told if is_open else "", ""]
        assert edited.values["prompts"] == f"a star\n{written}\na */ square"


def test_a_closing_brace_can_be_deleted_and_the_row_moved(editor):
    edited = editor(prompts="a {red|blue} star\na ring", clips=0)
    edited.of(1, "textarea").focus()
    for key in ("Home", *["ArrowRight"] * 12, "Backspace"):
        edited.tab.keyboard.press(key)
    shown = edited.shown
    assert (shown["prompts"], shown["said"]) == (["a {red|blue star", "a ring"], [])
    edited.press(1, "down")
    edited.press(1, "remove")
    assert (edited.shown["prompts"], edited.values["prompts"]) == (["a {red|blue star"], "a {red|blue} star")
    edited.of(1, "textarea").focus()
    edited.tab.keyboard.press("End")
    edited.tab.keyboard.type("}")
    assert edited.values["prompts"] == "a {red|blue star}"
    assert set(edited.shown["wrong"]) == {""}


@pytest.mark.parametrize("prompts", ["a star\na {red|blue", "a /* star\na ring"])
def test_what_another_row_would_close_is_edited_in_the_node(editor, prompts):
    shown = editor(prompts=prompts, clips=3).shown
    assert "is not closed in its line" in shown["said"][0]
    assert set(shown["locked"]) == {"prompt", "up", "down", "add", "remove"}


def test_a_field_that_is_locked_leaves_the_focus_in_the_table(editor):
    edited = editor()
    edited.of(2, "textarea").focus()
    edited.page.run("() => { editing().widgets.find(({ name }) => name === 'prompts').value = 'a {'; return true; }")
    assert edited.followed["said"]
    edited.tab.keyboard.press("Escape")
    assert edited.shown["open"] == 0


def test_rows_are_added_moved_and_removed_with_all_that_is_theirs(editor):
    edited = editor(seed_per_clip="1,2,3", clips=0)
    edited.press(1, "down")
    assert edited.sent == {
        **FIELDS, "clips": 0, "seed_per_clip": "2,1,3", "prompts": "\n".join([PROMPTS[1], PROMPTS[0], *PROMPTS[2:]]),
    }  # fmt: skip
    edited.press(1, "remove")
    assert edited.sent["prompts"] == "\n".join([PROMPTS[0], *PROMPTS[2:]])
    assert edited.sent["seed_per_clip"] == "1,3"
    edited.press(1, "add")
    edited.tab.keyboard.type("a new one")  # its prompt has the focus, and is selected
    assert edited.sent == {
        **FIELDS, "clips": 0, "seed_per_clip": "1,,3", "prompts": "\n".join([PROMPTS[0], "a new one", *PROMPTS[2:]]),
    }  # fmt: skip
    edited.tab.locator(".vidrd-clips footer button.add").click()
    assert edited.shown["prompts"][-1] == PROMPTS[3]
    for _ in range(4):
        edited.press(1, "remove")
    assert edited.shown["locked"] == ["up", "down", "remove"]
    assert edited.sent == {**FIELDS, "clips": 0, "prompts": PROMPTS[3]}


def test_a_change_is_one_step_of_undo(editor):
    edited = editor()
    steps = "() => app.extensionManager.workflow.activeWorkflow.changeTracker.undoQueue.length"
    before = edited.page.run(steps)
    edited.press(4, "up")
    edited.press(4, "remove")
    assert edited.page.run(steps) == before + 2
    assert edited.values == {**FIELDS, "clips": 5, "prompts": "\n".join([*PROMPTS[:2], PROMPTS[3], PROMPTS[3]])}
    for _ in range(2):
        edited.tab.keyboard.press("Control+z")
        edited.tab.wait_for_timeout(500)
    assert edited.followed["title"].endswith("6 clips")
    assert edited.sent == FIELDS


def test_undo_of_the_row_in_use_leaves_the_focus_in_the_table(editor):
    edited = editor(clips=0)
    edited.press(4, "add")
    edited.of(5, "button.up").focus()
    edited.tab.keyboard.press("Control+z")
    edited.tab.wait_for_timeout(500)
    assert edited.followed["title"].endswith("4 clips")
    edited.tab.keyboard.press("Escape")
    assert edited.shown["open"] == 0


@pytest.mark.parametrize(
    ("what", "value", "told"),
    [
        ("seed", str(2**64), f"seed is {2**64}: expected a whole number from 0 to {2**64 - 1}."),
        ("seed", "1.5", f"seed is 1.5: expected a whole number from 0 to {2**64 - 1}."),
        ("seed", "1,2", f"seed is 1,2: expected a whole number from 0 to {2**64 - 1}."),
        ("cfg", "100.5", "cfg is 100.5: expected a number from 0 to 100."),
        ("cfg", "4,5", "cfg is 4,5: expected a number from 0 to 100."),
        ("alpha", "-1", "alpha is -1: expected a number from 0 to 1000."),
        ("alpha", "much", "alpha is much: expected a number from 0 to 1000."),
    ],
)
def test_what_the_node_would_refuse_is_marked_and_not_written(editor, what, value, told):
    with pytest.raises(ValueError, match=f"{what}_per_clip has"):
        parse_per_clip(what, value, 1, 0, LISTS[what])
    edited = editor(**{f"{what}_per_clip": ",2"})
    edited.fill(2, f"input.{what}", value)
    assert edited.shown["wrong"] == ["", told, "", "", "", ""]
    assert edited.of(2, f"input.{what}").get_attribute("aria-invalid") == "true"
    edited.press(1, "down")  # a row keeps it
    assert edited.shown["wrong"][0] == told
    assert edited.sent[f"{what}_per_clip"] == "2"
    edited.fill(1, f"input.{what}", "3")
    assert (set(edited.shown["wrong"]), edited.sent[f"{what}_per_clip"]) == ({""}, "3")


def test_the_first_clip_needs_a_prompt(editor):
    edited = editor()
    edited.fill(1, "textarea", " ")
    assert edited.shown["wrong"][0] == "The first clip needs a prompt."
    assert edited.sent == FIELDS


def test_fields_that_do_not_fit_each_other_are_said(editor):
    edited = editor(clips=2, cfg_per_clip="1,2,3,4,5", control_after_generate="randomize")
    edited.saved["widgets_values"] = [
        "randomize" if value == "fixed" else value for value in edited.saved["widgets_values"]
    ]
    assert edited.shown["said"] == [
        "clips is 2, but there are 4 prompts: the next change here sets it right.",
        "cfg_per_clip has 5 entries for 4 clips: the next change here takes the rest out.",
        "control after generate is randomize: each run makes all clips again. Set it to fixed.",
    ]
    edited.fill(1, "input.cfg", "9")
    assert edited.sent == {**FIELDS, "clips": 4, "cfg_per_clip": "9,2,3,4"}


CONNECT = """
([name, value, type]) => {
    const from = LiteGraph.createNode(type ?? "PrimitiveNode"), node = editing();
    app.graph.add(from);
    from.connect(0, node, node.inputs.findIndex((input) => input.name === name));
    from.widgets[0].value = value;
    return true;
}
"""


def test_what_is_connected_can_only_be_read(editor):
    edited = editor()
    edited.page.run(CONNECT, ["prompts", "a star\na ring"])
    edited.page.run(CONNECT, ["seed_per_clip", "4,5"])
    shown = edited.followed
    assert shown["said"] == ["prompts, seed_per_clip: connected, so change it in the other node."]
    assert shown["prompts"] == ["a star", "a ring", "", "", "", ""]
    assert set(shown["locked"]) == {"prompt", "seed", "again", "up", "down", "add", "remove"}
    edited.fill(2, "input.cfg", "3")
    sent, _ = edited.page.run(SENT)
    assert [sent[name] for name in FIELDS] == ["a star\na ring", 6, "4,5", ",3", ""]


@pytest.mark.parametrize("kind", ["PrimitiveNode", "PrimitiveString", "PrimitiveStringMultiline"])
def test_the_rows_of_connected_prompts_are_the_clips_of_the_run(editor, kind):
    text = "// my story\na star\n\n a ring {of // gold \nlast /* not */"
    edited = editor(clips=0)
    edited.page.run(CONNECT, ["prompts", text, kind])
    shown = edited.followed
    sent, _ = edited.page.run(SENT)
    if kind == "PrimitiveNode":  # the page removes its comments, and takes a choice to its end
        assert "//" not in sent["prompts"]
        assert "is not closed" not in "".join(shown["said"])
        assert shown["goingOn"] == ["from the other node"]
        edited.page.run(CONNECT, ["prompts", text.replace("{", ""), kind])
        assert edited.followed["prompts"] == ["a star", "a ring of // gold", "last /* not */"]
        return
    assert sent["prompts"][1] == 0  # a link: the run has the whole text
    assert shown["prompts"] == [line.strip() for line in text.splitlines() if line.strip()]
    assert shown["said"] == ["prompts: connected, so change it in the other node."]


def test_where_the_number_of_clips_is_connected_it_stays(editor):
    edited = editor(seed_per_clip="1,2,3,4,5,6,7")
    edited.page.run(CONNECT, ["clips", 8])
    shown = edited.followed
    assert len(shown["prompts"]) == 8
    assert shown["said"] == ["clips: connected, so change it in the other node."]
    assert set(shown["locked"]) == {"up", "down", "add", "remove"}
    edited.fill(5, "textarea", "a blue ring")
    edited.fill(8, "input.seed", "9")
    sent, _ = edited.page.run(SENT)
    assert [sent[name] for name in ("clips", "seed_per_clip")] == [8, "1,2,3,4,5,6,7,9"]
    assert sent["prompts"].splitlines() == [*PROMPTS, "a blue ring"]


def test_make_again_from_here_gives_a_seed_and_runs(editor):
    edited = editor(seed_per_clip="1")
    edited.page.run("() => { window.real = app.queuePrompt; window.ran = []; return true; }")
    edited.page.run("() => { app.queuePrompt = async (...given) => { ran.push(given); }; return true; }")
    try:
        edited.press(3, "seed")
        first = edited.sent["seed_per_clip"]
        assert edited.page.run("() => ran") == []
        edited.press(3, "again")
        assert edited.page.run("() => ran") == [[0, 1]]
    finally:
        edited.page.run("() => { app.queuePrompt = real; return true; }")
    second = edited.sent["seed_per_clip"]
    assert first != second
    for text in (first, second):
        seeds = parse_per_clip("seed", text, 6, 0, LISTS["seed"])
        assert (len(seeds), seeds[:2]) == (3, [1, None])
        assert seeds[2] is not None


def test_it_is_used_by_keys(editor):
    edited = editor()
    keyboard = edited.tab.keyboard
    at = "() => { const { ariaLabel, className } = document.activeElement; return ariaLabel || className; }"
    assert edited.page.run(at) == "prompt of clip 1"
    keyboard.press("Enter")
    assert edited.page.run(at) == "prompt of clip 2"
    keyboard.press("Tab")
    assert edited.page.run(at) == "seed of clip 2"
    keyboard.press("Shift+Tab")
    edited.of(1, "button.again").focus()
    edited.tab.locator(".vidrd-clips header button").focus()
    keyboard.press("Shift+Tab")
    assert edited.page.run(at) == "Run the workflow"
    keyboard.press("Tab")
    assert edited.page.run(at) == "Close (Esc)"
    edited.of(2, "button.down").focus()
    for _ in range(4):  # the focus goes with the row, to the end
        keyboard.press("Enter")
    assert edited.sent["prompts"].splitlines()[:3] == [PROMPTS[0], *PROMPTS[2:]]
    edited.tab.locator(".vidrd-clips h2").click()
    count = "() => app.graph.nodes.length"
    before = edited.page.run(count)
    keyboard.press("Delete")  # none of the page's keys
    keyboard.press("Escape")
    assert (edited.page.run(count), edited.shown["open"]) == (before, 0)


LISTEN = """
() => {
    window.heard = [];
    window.hear = (event) => {
        heard.push(event.key);
        event.stopPropagation(); // before the page, which would ask for a name
    };
    document.addEventListener("keydown", hear);
    return true;
}
"""


def test_the_page_saves_by_its_key(editor):
    edited = editor()
    edited.page.run(LISTEN)
    edited.of(1, "textarea").focus()
    for key in ("Control+s", "a", "Control+Enter", "Delete"):
        edited.tab.keyboard.press(key)
    heard = edited.page.run("() => { document.removeEventListener('keydown', hear); return heard; }")
    assert [key for key in heard if key != "Control"] == ["s", "Enter"]


def test_narrow_it_names_the_numbers(editor):
    edited, size = editor(), "() => [innerWidth, innerHeight]"
    label = edited.of(1, "label:has(input.cfg) span")
    assert not label.is_visible()
    width, height = edited.page.run(size)
    edited.tab.set_viewport_size({"width": 800, "height": height})
    try:
        assert [edited.of(2, f"label:has(input.{name}) span").inner_text() for name in LISTS] == [
            "seed",
            "cfg",
            "alpha",
        ]
        assert edited.of(2, "label:has(input.alpha) span").is_visible()
        edited.fill(2, "input.alpha", "2")
        assert edited.sent["alpha_per_clip"] == ",2"
    finally:
        edited.tab.set_viewport_size({"width": width, "height": height})


def test_another_workflow_closes_it(editor):
    edited = editor()
    edited.page.run("async (given) => { await app.loadGraphData(given, true, true, null); return true; }",
                    read(EXAMPLES / "1_first_clip.json"))  # fmt: skip
    assert edited.followed["open"] == 0


def test_many_clips(editor):
    prompts = [f"a star, number {k}" for k in range(500)]
    edited = editor(prompts="\n".join(prompts), clips=0)
    assert edited.shown["prompts"] == prompts
    edited.fill(500, "input.alpha", "2")
    assert edited.sent == {**FIELDS, "prompts": "\n".join(prompts), "clips": 0, "alpha_per_clip": 499 * "," + "2"}
    assert edited.of(1, "button.add").is_disabled()
    edited.press(500, "remove")
    assert edited.sent["prompts"].endswith("number 498")


def test_a_run_leaves_what_is_being_typed(editor):
    edited = editor(clips=0)
    edited.fill(2, "textarea", "a small cyan star")
    edited.fill(2, "input.cfg", "4,5")
    edited.of(3, "textarea").focus()
    edited.tab.keyboard.press("End")
    edited.tab.keyboard.type(" in ")
    tell(edited, clip=0, clips=4)
    told = edited.followed["wrong"][1]
    assert told == "cfg is 4,5: expected a number from 0 to 100."
    edited.tab.keyboard.type("blue")
    assert edited.shown["prompts"][2] == f"{PROMPTS[2]} in blue"
    assert edited.of(2, "input.cfg").input_value() == "4,5"
    change = "() => { editing().widgets.find(({ name }) => name === 'cfg').value = 7; return true; }"
    edited.tab.keyboard.type(" ")
    edited.page.run(change)  # elsewhere, to another value
    shown = edited.followed
    assert (shown["usual"][1], shown["wrong"][1], shown["prompts"][2]) == ("7", told, f"{PROMPTS[2]} in blue ")
    undone = "([text]) => { editing().widgets.find(({ name }) => name === 'prompts').value = text; return true; }"
    edited.page.run(undone, ["a star\na ring\na square\na cross"])
    assert edited.followed["prompts"][2] == "a square"


def test_it_is_in_the_pages_language(editor, page):
    set_to = "async (to) => { await app.extensionManager.setting.set('Comfy.Locale', to); return true; }"
    page.run(set_to, "zh")
    try:
        edited = editor()
        edited.fill(1, "textarea", "")
        shown = edited.shown
        assert "的片段, 6 个片段" in shown["title"]
        assert shown["goingOn"][4] == f"同片段 4\N{FULLWIDTH COLON}{PROMPTS[3]}"
        assert shown["wrong"][0] == "第一个片段需要提示词。"
        label = "() => editing().widgets.find(({ name }) => name === 'edit_clips').label"
        assert page.run(label) == "编辑片段…"
    finally:
        page.run(set_to, "en")
