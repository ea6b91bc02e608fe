"""web/js/clips.js alone, in Node.js: it reads the fields as the node does, and writes what changed lists say."""

import json
import random
import re
import shutil
import subprocess

import pytest

from vidrd_core.prompt_schedule import parse_per_clip

from ..workflows.files import ROOT
from .clip_editor import LISTS

ACTS = """
const acts = { add: addAfter, remove, swap };
const run = ({ given, changes }) => {
    let clips = clipsOf(given);
    for (const [name, k] of changes) {
        acts[name](clips, k);
        clips = { ...clipsOf(fieldsOf(clips)), rows: clips.rows };
    }
    return fieldsOf(clips);
};
"""


def run_in_node(script, cases):
    """What a function of web/js/clips.js, or one made of them, gives for each case."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    source = (ROOT / "web" / "js" / "clips.js").read_text(encoding="utf-8")
    script = f"{source}\n{script}\nconsole.log(JSON.stringify({json.dumps(cases)}.map(run)));"
    ran = subprocess.run(
        [node, "--input-type=module"], input=script, capture_output=True, text=True, check=True, encoding="utf-8"
    )
    return json.loads(ran.stdout)


def test_numbers_are_those_of_the_node():
    wide = str.maketrans("0123456789", "".join(map(chr, range(0xFF10, 0xFF1A))))
    texts = [
        "7",
        "+7",
        "-7",
        "1_0",
        "1__0",
        "_1",
        "1_",
        "1_0.5",
        "1e1_0",
        "1e1",
        ".5",
        "5.",
        "1_.5",
        "x",
        "1:0",
        "12",
    ]
    texts += [text.translate(wide) for text in (*texts, "1" * 25)]
    cases = [[name, text] for name in LISTS for text in texts]
    told = run_in_node("const run = ([name, text]) => problemOf(name, text) === null;", cases)
    for (name, text), is_fine in zip(cases, told, strict=True):
        try:
            parse_per_clip(name, text, 1, 0, LISTS[name])
            expected = True
        except ValueError:
            expected = False
        assert is_fine == expected, (name, text)


def test_plain_prompts_are_read_as_by_the_node():
    draw = random.Random(3)
    ends = ["\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
    parts = [*ends, "a star", "// b", "/* c", "*/", "{d|", " ", "\t", "\x1f", "\ufeff", "\u3000"]
    texts = ["".join(draw.choices(parts, k=draw.randint(1, 12))) for _ in range(300)]
    empty = dict.fromkeys(LISTS, "")
    script = "const run = (given) => clipsOf(given).rows.filter(({ isOwn, text }) => isOwn && text)"
    told = run_in_node(
        f"{script}.map(({{ text }}) => text);",
        [{**empty, "prompts": text, "clips": 0, "isPlain": True} for text in texts],
    )
    for text, rows in zip(texts, told, strict=True):
        assert rows == [line.strip() for line in text.splitlines() if line.strip()], repr(text)


def clips_of(fields):
    """What the node makes of the fields: a row [prompt, seed, cfg, alpha] for each clip."""
    bare = re.sub(r"/\*[\s\S]*?\*/|//.*", "", fields["prompts"])
    prompts = [line.strip() for line in bare.splitlines() if line.strip()]
    count = fields["clips"] or len(prompts)
    assert len(prompts) <= count
    prompts += prompts[-1:] * (count - len(prompts))
    lists = [parse_per_clip(name, fields[name], count, 0, most) for name, most in LISTS.items()]
    return [list(row) for row in zip(prompts, *[each + [None] * (count - len(each)) for each in lists], strict=True)]


def changed(rows, changes):
    """The rows after changes."""
    rows = [list(row) for row in rows]
    for name, k in changes:
        if name == "add":
            rows.insert(k + 1, [rows[k][0], None, None, None])
        elif name == "remove":
            del rows[k]
        elif name == "swap":
            rows[k : k + 2] = rows[k + 1], rows[k]
    return rows


def test_changed_fields_say_what_changed_lists_say():
    draw, cases = random.Random(7), []
    for _ in range(400):
        lines = draw.choices(["a star", "b ring", "", "// c", "  d  ", "e // f"], k=draw.randint(0, 5))
        lines.append("a star")
        count = sum(bool(line.split("//")[0].strip()) for line in lines)
        clips = draw.choice([0, count, count + 3])
        rows = clips or count
        given = {
            "prompts": draw.choice(["\n", "\r\n"]).join(lines), "clips": clips,
            **{name: ",".join(draw.choices(["", "3", " 7 "], k=draw.randint(0, rows))) for name in LISTS},
        }  # fmt: skip
        changes = []
        for _ in range(draw.randint(0, 6)):
            name = draw.choice(["add", "remove", "swap"])
            if name != "add" and rows < 2:
                continue
            changes.append([name, draw.randrange(rows - (name == "swap"))])
            rows += {"add": 1, "remove": -1, "swap": 0}[name]
        cases.append({"given": given, "changes": changes})
    for case, told in zip(cases, run_in_node(ACTS, cases), strict=True):
        assert clips_of(told) == changed(clips_of(case["given"]), case["changes"]), case
        if not case["changes"]:
            assert told == case["given"]
