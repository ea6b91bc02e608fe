"""The open table of clips, by what a user does to it and what a host tells."""

from ..workflows.files import EXAMPLES, read

LISTS = {"seed": 2**64 - 1, "cfg": 100, "alpha": 1000}
OPEN = """
async ([workflow, values]) => {
    await app.loadGraphData(workflow, true, true, null);
    app.extensionManager.toast.removeAll?.();  // in older pages they cover the table
    const node = app.graph.nodes.find(({ type }) => type === "VidRD_LongVideo");
    for (const [name, value] of Object.entries(values)) node.widgets.find((each) => each.name === name).value = value;
    app.extensionManager.workflow.activeWorkflow.changeTracker.checkState();
    window.editing = () => app.graph.nodes.find(({ type }) => type === "VidRD_LongVideo");
    editing().widgets.find(({ name }) => name === "edit_clips").callback();
    return true;
}
"""
SENT = """
async () => {
    const { output, workflow } = await app.graphToPrompt();
    const { id } = editing();
    return [output[id].inputs, workflow.nodes.find((node) => String(node.id) === String(id)).widgets_values];
}
"""
SHOWN = """
() => {
    const texts = (path) => [...document.querySelectorAll(path)].map((each) => each.textContent);
    const fields = (path) => [...document.querySelectorAll(path)];
    return {
        open: document.querySelectorAll(".vidrd-clips").length,
        title: texts(".vidrd-clips header h2, .vidrd-clips header .quiet").join(", "),
        prompts: fields(".vidrd-clips textarea").map((each) => each.value),
        goingOn: fields(".vidrd-clips textarea").map((each) => each.placeholder),
        locked: fields(".vidrd-clips li:first-child :disabled").map((each) => each.className || "prompt"),
        usual: fields(".vidrd-clips li:first-child input").map((each) => each.placeholder),
        said: texts(".vidrd-clips .said p"), wrong: texts(".vidrd-clips .wrong"),
        pictures: fields(".vidrd-clips img").map((each) => decodeURIComponent(each.getAttribute("src") ?? "")),
        running: fields(".vidrd-clips li").findIndex((each) => each.classList.contains("running")),
    };
}
"""
PROMPTS = [f"a large {what} on a navy background" for what in (
    "yellow star orbiting", "cyan star orbiting", "green ring bouncing", "red ring bouncing",
)]  # fmt: skip
FIELDS = {"prompts": "\n".join(PROMPTS), "clips": 6, "seed_per_clip": "", "cfg_per_clip": "", "alpha_per_clip": ""}


class Editor:
    """The open table, by what a user does to it."""

    def __init__(self, page, **values):
        self.page, self.tab = page, page.tab
        workflow = read(EXAMPLES / "3_long_video_in_one_node.json")
        self.saved = next(each for each in workflow["nodes"] if each["type"] == "VidRD_LongVideo")
        self.open(workflow, **values)

    def open(self, workflow, **values):
        self.page.run(OPEN, [workflow, values])

    def of(self, row, what):
        return self.tab.locator(f".vidrd-clips li:nth-child({row}) {what}")

    def fill(self, row, what, text):
        self.of(row, what).fill(text)

    def press(self, row, what):
        self.of(row, f"button.{what}").click()

    @property
    def shown(self):
        return self.page.run(SHOWN)

    @property
    def followed(self):
        """What is shown after a change elsewhere, for which it looks four times a second."""
        self.tab.wait_for_timeout(300)
        self.tab.wait_for_function("window.asked === 0")  # a busy host takes its time to answer
        self.tab.wait_for_timeout(300)
        return self.shown

    @property
    def values(self):
        """The fields as they are in the node."""
        values = "(names) => names.map((name) => editing().widgets.find((each) => each.name === name).value)"
        return dict(zip(FIELDS, self.page.run(values, list(FIELDS)), strict=True))

    @property
    def sent(self):
        """The fields as they are sent; what is saved has the same but for these."""
        sent, saved = self.page.run(SENT)
        names = [each["name"] for each in self.saved["inputs"] if "widget" in each]
        names.insert(names.index("seed") + 1, "control_after_generate")  # of the page, without a socket
        assert len(saved) == len(names) == len(self.saved["widgets_values"])
        values = dict(zip(names, saved, strict=True))
        fields = {name: values[name] for name in FIELDS}
        assert {name: sent[name] for name in fields} == fields
        assert "edit_clips" not in sent
        others = zip(names, saved, self.saved["widgets_values"], strict=True)
        assert all(now == then for name, now, then in others if name not in fields)
        return fields


def dispatch(edited, event, **told):
    edited.page.run("([event, told]) => { app.api.dispatchCustomEvent(event, told); return true; }", [event, told])


def tell(edited, **event):
    dispatch(edited, "vidrd.clip", **{"node": str(edited.saved["id"]), "clips": 6, **event})
