"""The picture in the node says what the core does, follows the settings, and leaves no trace in what is saved."""

import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import product

import pytest

from vidrd_core.presets import AS_SET, PRESETS, preset
from vidrd_core.reuse import ReuseSettings

from ..workflows.files import ROOT

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "web" / "js" / "reuse.js"
GIVEN = [
    {"promptFrames": m, "alpha": alpha, "beta": beta, "order": order, "frames": n, "steps": steps}
    for (m, n), alpha, beta, order, steps in product(
        [(0, 1), (0, 8), (1, 2), (3, 8), (4, 8), (7, 8), (8, 8), (9, 8), (7, 16), (11, 24)],
        (0, 0.001, 0.7, 1, 4, 1000),
        (0, 0.05, 0.123, 0.3, 0.4, 2 / 3, 0.8, 1),
        ("mirror", "forward"),
        (1, 7, 30, 50, 1000),
    )
]
GIVEN += [{**given, "staging": staging} for given in GIVEN[::7] for staging in ("paper", "released")]
WRONG = [
    {"promptFrames": 4, "alpha": 4, "beta": 0.4, "order": "mirror", "frames": 8, "steps": 50, **wrong}
    for wrong in (
        {"promptFrames": -1}, {"promptFrames": 1.5}, {"promptFrames": None}, {"alpha": -1}, {"alpha": 1e7},
        {"alpha": None}, {"beta": 1.1}, {"beta": -0.1}, {"order": "random"}, {"order": None},
    )
]  # fmt: skip

PRESET_CASES = [[name, frames] for name in (*PRESETS, AS_SET) for frames in (2, 3, 8, 16, 21)]

# Functions of the page's tests: `make` a node, `look` at its picture, `rest` until it follows.
TOOLS = """
    const rest = () => new Promise((done) => setTimeout(done, 400));
    const make = (type, values = {}) => {
        const node = LiteGraph.createNode(type);
        app.graph.add(node);
        set(node, values);
        return node;
    };
    const set = (node, values) => Object.entries(values).forEach(([name, value]) => {
        node.widgets.find((widget) => widget.name === name).value = value;
    });
    const look = async (node) => {
        await rest();
        const box = node.widgets.find((widget) => widget.name === "reuse_map").element;
        const texts = (path) => [...box.querySelectorAll(path)].map((each) => each.textContent);
        return {
            problem: texts(".problem").join(), words: texts(".head span").join("; "),
            old: texts(".column:not(.names) > :first-child").join(" "),
            replayed: texts(".steps > span").join(" "),
            shown: texts(".cell.shown").length,
        };
    };
    app.graph.clear();
"""


def in_page(script):
    return f"async (given) => {{ {TOOLS} {script} }}"


@pytest.fixture(scope="module")
def arithmetic(request):
    """What the script gives for each of these settings."""
    node = shutil.which("node")
    if node is None:
        page = request.getfixturevalue("opened")
        names = "const { reuse, preset } = await import('/extensions/vidrd/js/reuse.js');"
        script = f"async (all) => {{ {names} return all.map(%s); }}"
        return lambda given, function="reuse": page.run(script % function, given)

    def run(given, function="reuse"):
        script = f"{SCRIPT.read_text('utf-8')}\nconsole.log(JSON.stringify({json.dumps(given)}.map({function})));"
        told = subprocess.run(
            [node, "--input-type=module"], input=script, capture_output=True, text=True, check=True, encoding="utf-8"
        )
        return json.loads(told.stdout)

    return run


def said(given):
    """What the core says of the same settings; None if they cannot be."""
    try:
        settings = ReuseSettings(given["promptFrames"], given["alpha"], given["beta"], given["order"])
        settings = replace(settings, staging=given.get("staging", "paper"))
        settings.check_frames(given["frames"])
    except ValueError:
        return None
    m, n = settings.prompt_frames, given["frames"]
    kept = (settings.alpha / math.hypot(1, settings.alpha)) ** 2
    return {
        "source": settings.source_frames(n),
        "share": pytest.approx([1.0] * m + [kept] * (n - m)),
        "replayed": settings.replay_counts(given["steps"]) + [0] * (n - m),
        "shown": [j < settings.repeated_frames for j in range(n)],
    }


def test_it_reckons_as_the_core_does(arithmetic):
    for given, told in zip(GIVEN, arithmetic(GIVEN), strict=True):
        expected = said(given)
        assert ("problem" in told) == (expected is None), given
        for name, values in (expected or {}).items():
            assert [frame[name] for frame in told["frames"]] == values, (name, given)


def test_what_cannot_be_is_said_in_words(arithmetic):
    for given, told in zip(WRONG, arithmetic(WRONG), strict=True):
        assert said(given) is None
        assert ", expected " in told["problem"], given


def test_the_picture_follows_the_settings(page):
    told = page.run(
        in_page("""
        const clip = make("VidRD_EmptyClip"), reroute = make("Reroute"), node = make("VidRD_Extend"), seen = [];
        seen.push(await look(node));
        clip.connect(0, reroute, 0);
        reroute.connect(0, node, "latent");
        set(clip, { frames: 6 });
        seen.push(await look(node));
        set(node, { order: "forward", alpha: 0, steps: 20, prompt_frames: 2 });
        seen.push(await look(node));
        set(node, { prompt_frames: 6 });
        seen.push(await look(node));
        return seen;
    """)
    )
    fresh, six, forward, wrong = told
    assert fresh["words"] == "No state: a first clip. With one:; 8 frames?"
    assert (fresh["old"], fresh["replayed"], fresh["shown"]) == ("7 6 5 4 3 2 1 0", "20 15 10 5", 0)
    assert six["words"].endswith("; 6 frames")
    assert (six["old"], six["replayed"]) == ("5 4 3 2 1 0", "20 15 10 5")
    assert (forward["old"], forward["replayed"], forward["shown"]) == ("4 5 - - - -", "20 20", 2)
    assert wrong["problem"] == "prompt_frames is 6, expected less than the clip's 6 frames"


def test_the_number_of_frames_is_known_where_a_latent_is_a_frame(page):
    told = page.run(
        in_page("""
        const pictures = make("EmptyLatentImage", { batch_size: 16 }), node = make("VidRD_LongVideo"), seen = [];
        pictures.connect(0, node, "latent");
        seen.push(await look(node));
        const clip = make("VidRD_EmptyClip", { frames: 33 }), own = make("VidRD_LoadTemporalVAE");
        clip.connect(0, node, "latent");
        make("VAELoader").connect(0, clip, "vae");
        seen.push(await look(node));
        own.connect(0, clip, "vae");
        return [...seen, await look(node)];
    """)
    )
    assert [each["words"].rpartition("; ")[2] for each in told] == ["16 frames", "8 frames?", "33 frames"]


def test_what_comes_by_wire_is_said(page):
    told = page.run(
        in_page("""
        const node = make("VidRD_LongVideo"), number = make("PrimitiveNode"), seen = [await look(node)];
        number.connect(0, node, node.inputs.findIndex((input) => input.name === "alpha"));
        return [...seen, await look(node)];
    """)
    )
    assert told[0]["words"] == "Starts as the previous clip in reverse; 8 frames?"
    assert told[1]["words"] == "alpha connected: drawn as last set; 8 frames?"


@pytest.mark.parametrize("name", ["VidRD_Extend", "VidRD_LongVideo", "VidRD_Noise", "VidRD_Guidance"])
def test_it_leaves_no_trace_in_what_is_saved(page, name):
    told = page.run(
        in_page("""
        const node = make(given, { prompt_frames: 3 });
        const names = node.widgets.filter((widget) => widget.serialize !== false).map((widget) => widget.name);
        node.setSize([420, 1200]);
        await rest();
        const before = app.graph.serialize();
        await app.loadGraphData(before, true, true, null);
        const again = app.graph.nodes[0], old = await look(again);
        const after = app.graph.serialize();
        const copy = again.clone();
        app.graph.add(copy);
        set(copy, { prompt_frames: 1 });
        const seen = [old.old, (await look(copy)).old, (await look(again)).old];
        const { output } = await app.graphToPrompt();
        return { names, values: [before, after].map(({ nodes }) => nodes[0].widgets_values),
            sizes: [again.size, copy.size].map((size) => [...size]), seen, sent: Object.values(output) };
    """),
        name,
    )
    for values in told["values"]:
        assert len(values) == len(told["names"])
        assert values[told["names"].index("prompt_frames")] == 3
    assert told["sizes"] == [[420, 1200]] * 2
    assert told["seen"][0] == told["seen"][1] == told["seen"][2] == "7 6 5 4 3 2 1 0"
    for sent in told["sent"]:
        assert "reuse_map" not in sent["inputs"]


def test_presets_are_the_cores(arithmetic):
    for (name, frames), told in zip(PRESET_CASES, arithmetic(PRESET_CASES, "each => preset(...each)"), strict=True):
        if name == AS_SET:
            assert told is None
            continue
        core = preset(name, frames)
        names = {
            "promptFrames": "prompt_frames",
            "alpha": "alpha",
            "beta": "beta",
            "order": "order",
            "noise": "noise",
        }
        assert told == {theirs: getattr(core, ours) for theirs, ours in names.items()}


def test_noise_policies_show(arithmetic):
    given = [{**WRONG[0], "promptFrames": 3, "noise": noise} for noise in ("pns", "fresh", "shuffle", "lowpass")]
    pns, fresh, shuffle, lowpass = (told["frames"] for told in arithmetic(given))
    assert [frame["share"] for frame in fresh] == [1] * 3 + [0] * 5
    assert [frame["source"] for frame in shuffle] == [7, 6, 5] + [None] * 5
    assert lowpass == pns


def test_auto_is_drawn_as_mirror(arithmetic):
    auto, mirror = arithmetic([{**WRONG[0], "promptFrames": 3, "order": order} for order in ("auto", "mirror")])
    assert auto == mirror


LANGUAGES = {
    "en": ("Continues from the previous clip's last 4", "noise of old frame 4"),
    "zh": ("接上一片段的最后 4 帧", "旧帧 4 的噪声"),
    "ja": ("前のクリップの最後の 4 フレームから続く", "元フレーム 4 のノイズ"),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_its_words_are_in_the_pages_language(page, language):
    set_to = "async (to) => { await app.extensionManager.setting.set('Comfy.Locale', to); return true; }"
    page.run(set_to, language)
    try:
        shown = page.run(in_page("""
            const node = make("VidRD_LongVideo", { order: "forward", prompt_frames: 4 }); // or 1.49 keeps an old one
            const { words } = await look(node);
            const box = node.widgets.find((widget) => widget.name === "reuse_map").element;
            return { words, title: box.querySelector(".column:not(.names)").title };
        """))  # fmt: skip
    finally:
        page.run(set_to, "en")
    words, title = LANGUAGES[language]
    assert shown["words"].startswith(words)
    assert title in shown["title"]


def test_all_words_are_told_in_each_language_and_used():
    text = (ROOT / "web" / "js" / "words.js").read_text(encoding="utf-8")
    languages = re.findall(r"^    (\w\w): \{$(.*?)^    \},$", text, re.MULTILINE | re.DOTALL)
    told = {language: re.findall(r'"([^"]+)":\s+"', words) for language, words in languages}
    assert set(told) == {"zh", "ja"}
    assert told["zh"] == told["ja"]
    scripts = "".join(path.read_text() for path in (ROOT / "web" / "js").glob("*.js") if path.name != "words.js")
    for english in told["zh"]:
        start = english.partition("last ")[0]  # the rest is chosen by the number of frames
        assert f'"{start}' in scripts or f"`{start}" in scripts, english
