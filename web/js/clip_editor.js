// A table of Long Video's clips, over the page: a row each, with its prompt, seed, cfg and alpha. The node's own fields are
// the truth: it reads and writes those, so that a workflow is saved and run the same without this.

import { app } from "../../../scripts/app.js";
import { LISTS, MAX_CLIPS, clipsOf, fieldsOf, picturesOf, problemOf, problemsOf, spansLines } from "./clips.js";
import { addAfter, remove, setPrompt, swap } from "./clips.js";
import { linkInto, nodeAt, nodeInto, placeOf, remember, widgetOf } from "./nodes.js";
import { recallThumbnails, stateOf } from "./thumbnails.js";
import { words } from "./words.js";

const WIDGETS = { prompts: "prompts", clips: "clips", seed: "seed_per_clip", cfg: "cfg_per_clip", alpha: "alpha_per_clip" };
const PRIMITIVES = ["PrimitiveStringMultiline", "PrimitiveString", "PrimitiveInt", "PrimitiveNode"]; // that hold a value
const ICONS = { // of 16 x 16
    up: "M8 13V3M3.5 7.5 8 3l4.5 4.5", down: "M8 3v10M3.5 8.5 8 13l4.5-4.5", add: "M8 3v10M3 8h10",
    remove: "M4 4l8 8M12 4l-8 8", close: "M4 4l8 8M12 4l-8 8", seed: "M13 8a5 5 0 1 1-1.5-3.5M13 2v3h-3",
    again: "M4.5 3v10l8-5z",
};
const STYLE = `
.vidrd-shade { position: fixed; inset: 0; z-index: 999; background: rgb(0 0 0 / 45%); display: flex; align-items: center;
    justify-content: center; font: 13px/18px Inter, Arial, sans-serif; }
.vidrd-clips { --ink: var(--input-text, #ddd); --line: color-mix(in srgb, var(--ink) 22%, transparent);
    --quiet: color-mix(in srgb, var(--ink) 68%, transparent); --wrong: #e0605a; --act: #568cdc;
    --columns: 28px 80px minmax(0, 1fr) 152px 58px 58px auto;
    box-sizing: border-box; width: min(1080px, calc(100vw - 24px)); max-height: calc(100vh - 48px); display: flex;
    flex-direction: column; overflow: hidden; background: var(--comfy-menu-bg, #202020); color: var(--ink);
    border: 1px solid var(--line); border-radius: 10px; box-shadow: 0 12px 40px rgb(0 0 0 / 45%); outline: none; }
.vidrd-clips * { box-sizing: border-box; }
.vidrd-clips header, .vidrd-clips footer { display: flex; align-items: center; gap: 10px; padding: 10px 16px; flex: none; }
.vidrd-clips h2 { margin: 0; font: 600 15px/22px Inter, Arial, sans-serif; }
.vidrd-clips .quiet { color: var(--quiet); }
.vidrd-clips .space { flex: 1; }
.vidrd-clips .said:empty { display: none; }
.vidrd-clips .said { padding: 0 16px 8px; display: flex; flex-direction: column; gap: 4px; flex: none; }
.vidrd-clips .said p { margin: 0; padding: 5px 10px; border-left: 3px solid #d8962c; border-radius: 4px;
    background: color-mix(in srgb, #d8962c 14%, transparent); }
.vidrd-clips .heads, .vidrd-clips li { display: grid; grid-template-columns: var(--columns); gap: 8px; padding: 6px 16px; }
.vidrd-clips .heads { flex: none; padding-block: 4px; border-bottom: 1px solid var(--line); color: var(--quiet);
    scrollbar-gutter: stable; overflow-y: auto; }
.vidrd-clips .heads .places { visibility: hidden; height: 0; }
.vidrd-clips ol { list-style: none; margin: 0; padding: 0; overflow-y: auto; scrollbar-gutter: stable; min-height: 0; }
.vidrd-clips li { align-items: start; border-bottom: 1px solid var(--line); content-visibility: auto;
    contain-intrinsic-size: auto 62px; }
.vidrd-clips li.running { background: color-mix(in srgb, var(--act) 16%, transparent); }
.vidrd-clips .number { text-align: right; line-height: 28px; font-variant-numeric: tabular-nums; color: var(--quiet); }
.vidrd-clips .picture { width: 80px; height: 48px; border-radius: 5px; overflow: hidden; display: flex;
    background: color-mix(in srgb, var(--ink) 9%, transparent); }
.vidrd-clips .picture img { width: 100%; height: 100%; object-fit: contain; }
.vidrd-clips .picture img:not([src]) { visibility: hidden; }
.vidrd-clips textarea, .vidrd-clips input { width: 100%; margin: 0; padding: 4px 7px; border: 1px solid var(--line);
    border-radius: 5px; background: color-mix(in srgb, var(--ink) 6%, transparent); color: var(--ink); font: inherit;
    min-height: 28px; }
.vidrd-clips textarea { resize: none; field-sizing: content; display: block; overflow: auto; min-height: 48px;
    max-height: 180px; }
.vidrd-clips ::placeholder { color: var(--quiet); font-style: italic; opacity: 1; }
.vidrd-clips input { font-variant-numeric: tabular-nums; }
.vidrd-clips :disabled { opacity: 0.5; cursor: not-allowed; }
.vidrd-clips [aria-invalid=true] { border-color: var(--wrong); outline-color: var(--wrong); }
.vidrd-clips .wrong { grid-column: 3 / -1; margin: -2px 0 0; }
.vidrd-clips .wrong:empty { display: none; }
.vidrd-clips .wrong::before { content: "⚠ "; color: var(--wrong); }
.vidrd-clips .seed { display: flex; gap: 4px; align-items: end; }
.vidrd-clips label { flex: 1; min-width: 0; }
.vidrd-clips label span { display: none; font-size: 11px; line-height: 14px; color: var(--quiet); }
.vidrd-clips .places { display: flex; gap: 2px; }
.vidrd-clips button { display: inline-flex; align-items: center; justify-content: center; gap: 6px; height: 28px;
    min-width: 28px; padding: 0 6px; flex: none; white-space: nowrap; border: 1px solid transparent; border-radius: 5px;
    background: none; color: inherit; font: inherit; cursor: pointer; }
.vidrd-clips button:hover:enabled { background: color-mix(in srgb, var(--ink) 14%, transparent); }
.vidrd-clips button.framed { border-color: var(--line); padding: 0 12px; }
.vidrd-clips button.main { background: #2f6fc4; color: #fff; padding: 0 16px; }
.vidrd-clips button.main:hover { background: #2862b0; }
.vidrd-clips :is(button, input, textarea):focus-visible { outline: 2px solid var(--act); outline-offset: 0; }
.vidrd-clips svg { width: 16px; height: 16px; fill: none; stroke: currentColor; stroke-width: 1.6; stroke-linecap: round;
    stroke-linejoin: round; }
@media (max-width: 860px) {
    .vidrd-clips { --columns: 28px 80px 1fr 52px 52px; }
    .vidrd-clips .heads { display: none; }
    .vidrd-clips label span { display: block; }
    .vidrd-clips textarea { grid-column: 1; }
    .vidrd-clips li > textarea { grid-column: 3 / -1; }
    .vidrd-clips .seed { grid-column: 1 / 4; }
    .vidrd-clips .places { grid-column: 1 / -1; justify-content: end; }
    .vidrd-clips .wrong { grid-column: 1 / -1; }
}
`;

let editor = null; // the open one

function make(tag, given = {}, content = []) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(given)) {
        if (name in element) element[name] = value;
        else element.setAttribute(name, value);
    }
    element.append(...[content].flat());
    return element;
}

function button(icon, title, act, text = "") {
    const drawn = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    drawn.setAttribute("viewBox", "0 0 16 16");
    drawn.setAttribute("aria-hidden", "true");
    path.setAttribute("d", ICONS[icon]);
    drawn.append(path);
    const given = { type: "button", className: icon, title, "aria-label": title, onclick: act };
    return make("button", given, text ? [drawn, text] : drawn);
}

// The node's fields.

function lockedOf(node) {
    return Object.fromEntries(Object.entries(WIDGETS).map(([name, widget]) => [name, linkInto(node, widget) !== null]));
}

const labelOf = (node, name) => widgetOf(node, name)?.label || name; // in the page's language

// The value of a node that only holds one; null for those that make it.
function valueInto(node, name) {
    const from = nodeInto(node, name);
    return PRIMITIVES.includes(from?.type) ? (from.widgets?.[0]?.value ?? null) : null;
}

// Whether the page leaves comments and choices in the text of a node; it sends a PrimitiveNode's as that of the next node.
const isPlainFrom = (from) => from?.type !== "PrimitiveNode" && !from?.widgets?.[0]?.dynamicPrompts;

function fieldsIn(node, locked) {
    const value = (name) => (locked[name] ? valueInto(node, WIDGETS[name]) : widgetOf(node, WIDGETS[name])?.value ?? "");
    const lists = Object.fromEntries(LISTS.map((name) => [name, locked[name] ? "" : String(value(name))]));
    const isPlain = locked.prompts && isPlainFrom(nodeInto(node, WIDGETS.prompts));
    const text = value("prompts"), prompts = text === null || (!isPlain && spansLines(text)) ? null : text;
    const clips = value("clips") === null ? null : Number(value("clips")) || 0;
    return { ...lists, prompts, clips, count: stateOf(node).count, isPlain };
}

function writeFields(node, fields, locked) {
    for (const [name, id] of Object.entries(WIDGETS)) {
        const widget = widgetOf(node, id);
        if (locked[name] || !widget || fields[name] === null || widget.value === fields[name]) continue;
        widget.value = fields[name];
        widget.callback?.(fields[name], app.canvas, node);
    }
    node.setDirtyCanvas(true, true);
}

function newSeed(old) {
    const [seed] = crypto.getRandomValues(new Uint32Array(1));
    return String(seed) === old ? newSeed(old) : String(seed);
}

// The table.

class Editor {
    constructor(node) {
        this.place = placeOf(node);
        this.drafts = new WeakMap(); // by row: values that are not written, as something is wrong with them
        this.from = document.activeElement;
        this.heading = make("h2", { id: "vidrd-clips-title" });
        this.total = make("span", { className: "quiet" });
        this.said = make("div", { className: "said", role: "status" });
        this.heads = make("div", { className: "heads" });
        this.list = make("ol");
        const close = button("close", words("Close (Esc)"), () => this.close());
        const add = button("add", words("Add a clip at the end"), this.guarded(() => this.addAfter(this.clips.rows.length - 1)),
            words("Add a clip"));
        const run = button("again", words("Run the workflow"), this.guarded(() => this.run()), words("Run"));
        add.classList.add("framed");
        run.classList.add("main");
        this.add = add;
        // Not aria-modal: newer pages would not undo then, older ones would.
        this.box = make("div", { className: "vidrd-clips", role: "dialog", tabIndex: -1,
            "aria-labelledby": "vidrd-clips-title" }, [
            make("header", {}, [this.heading, this.total, make("span", { className: "space" }), close]),
            this.said, this.heads, this.list,
            make("footer", {}, [add, make("span", { className: "space quiet" },
                words("Each change is in the node at once; Ctrl+Z outside of a text takes it back.")), run]),
        ]);
        this.shade = make("div", { className: "vidrd-shade" }, this.box);
        this.shade.addEventListener("pointerdown", (event) => event.target === this.shade && this.close());
        this.shade.addEventListener("keydown", this.guarded((event) => this.key(event)));
        for (const kind of ["wheel", "copy", "cut", "paste", "contextmenu"]) { // which the canvas would take
            this.shade.addEventListener(kind, (event) => event.stopPropagation());
        }
        document.body.append(this.shade);
        this.read(node);
        this.timer = setInterval(this.guarded(() => this.follow()), 250);
        (this.list.querySelector("textarea:enabled, input:enabled") ?? this.box).focus();
    }

    guarded(act) {
        return (event) => {
            try {
                return act(event);
            } catch (error) {
                console.debug("VidRD: the table of clips is closed", error);
                this.close();
            }
        };
    }

    get node() {
        return nodeAt(this.place);
    }

    close() {
        clearInterval(this.timer);
        this.shade.remove();
        if (editor === this) editor = null;
        if (this.from?.isConnected) this.from.focus?.();
    }

    // The fields may change elsewhere: by undo, in the node, by another node; or another workflow is opened.
    follow() {
        const { node } = this;
        if (node?.comfyClass !== "VidRD_LongVideo") return this.close();
        if (this.keyOf(node) !== this.known) this.read(node);
        this.showState(node);
    }

    keyOf(node) {
        const locked = lockedOf(node);
        const more = ["seed", "cfg", "alpha", "control_after_generate"].map((name) => widgetOf(node, name)?.value);
        const { count, ...fields } = fieldsIn(node, locked);
        const counted = fields.prompts === null || fields.clips === null ? count : 0; // only there does a run change rows
        return JSON.stringify([fields, counted, locked, more, node.title]);
    }

    read(node) {
        this.locked = lockedOf(node);
        const former = this.clips?.rows ?? [];
        this.clips = clipsOf(fieldsIn(node, this.locked));
        this.clips.rows.forEach((row, k) => { // a draft stays in a row that is as before
            const isSame = ["text", "isOwn", ...LISTS].every((name) => row[name] === former[k]?.[name]);
            if (isSame) this.drafts.set(row, this.drafts.get(former[k]));
        });
        this.known = this.keyOf(node);
        this.show(node);
    }

    get isText() { // prompts that can be written
        return !this.locked.prompts && this.clips.given.prompts !== null;
    }

    write(node = this.node) {
        writeFields(node, fieldsOf(this.clips), this.locked);
        this.clips = { ...clipsOf(fieldsIn(node, this.locked)), rows: this.clips.rows };
        this.known = this.keyOf(node);
        this.show(node);
    }

    // What is shown.

    show(node) {
        const { rows } = this.clips, at = [...this.list.children].findIndex((item) => item.contains(document.activeElement));
        if (at >= rows.length) this.box.focus(); // the focus is in a row that goes, as by undo
        this.heading.textContent = words("Clips of {title}", { title: node.title });
        this.total.textContent = words(rows.length === 1 ? "1 clip" : "{count} clips", { count: rows.length });
        this.said.replaceChildren(...this.notices(node).map((text) => make("p", {}, text)));
        const heads = ["", "", "prompt", ...LISTS].map((name) => make("span", {}, this.head(node, name)));
        this.heads.replaceChildren(...heads, this.places(-1));
        while (this.list.children.length > rows.length) this.list.lastChild.remove();
        while (this.list.children.length < rows.length) this.list.append(this.row(this.list.children.length));
        rows.forEach((row, k) => this.showRow(node, row, k));
        this.disable(this.add, !this.canMove || rows.length >= MAX_CLIPS);
        this.changes = null;
        this.showState(node);
    }

    head(node, name) {
        if (!name) return "";
        const isLocked = this.locked[name === "prompt" ? "prompts" : name];
        return (name === "prompt" ? words("prompt") : labelOf(node, name)) + (isLocked ? " " + words("(connected)") : "");
    }

    notices(node) {
        const told = problemsOf(this.clips).map((problem) => words(...problem));
        const names = Object.keys(WIDGETS).filter((name) => this.locked[name]).map((name) => WIDGETS[name]);
        if (names.length) told.push(words("{names}: connected, so change it in the other node.", { names: names.join(", ") }));
        if (!this.locked.prompts && !this.isText) {
            told.push(words("A comment or a choice {a|b} is not closed in its line: edit these prompts in the node."));
        }
        const control = widgetOf(node, "control_after_generate")?.value;
        if (control && control !== "fixed" && !linkInto(node, "seed")) {
            const text = "control after generate is {control}: each run makes all clips again. Set it to fixed.";
            told.push(words(text, { control }));
        }
        return told;
    }

    get canMove() {
        return this.isText && !this.locked.clips;
    }

    row(k) {
        const on = (name) => ({ oninput: this.guarded((event) => this.typed(event.target, k, name)), onchange: remember });
        const number = (name) => make("label", {}, [make("span", {}, labelOf(this.node, name)), make("input", {
            type: "text", inputMode: name === "seed" ? "numeric" : "decimal", spellcheck: false, autocomplete: "off",
            className: name, "aria-label": words("{name} of clip {k}", { name, k: k + 1 }), ...on(name) })]);
        const prompt = make("textarea", { rows: 1, "aria-label": words("prompt of clip {k}", { k: k + 1 }), ...on("prompt"),
            onkeydown: (event) => this.enter(event, k), onblur: this.guarded(() => this.node && this.show(this.node)) });
        const seed = button("seed", words("A new seed: the next run makes this clip and the later ones again"),
            this.guarded(() => this.reseed(k)));
        const picture = make("div", { className: "picture" }, make("img", { alt: "" }));
        picture.firstChild.onerror = () => picture.firstChild.removeAttribute("src"); // its file is gone
        return make("li", {}, [
            make("span", { className: "number" }, String(k + 1)), picture, prompt,
            make("div", { className: "seed" }, [number("seed"), seed]), number("cfg"), number("alpha"), this.places(k),
            make("p", { className: "wrong", role: "alert" }),
        ]);
    }

    places(k) {
        const act = (what) => this.guarded(() => what());
        return make("div", { className: "places" }, [
            button("again", words("Make again from here: a new seed for this clip, and run"), act(() => this.reseed(k, true)),
                words("From here")),
            button("up", words("Move up"), act(() => this.move(k, -1))),
            button("down", words("Move down"), act(() => this.move(k, 1))),
            button("add", words("Add a clip after this one"), act(() => this.addAfter(k))),
            button("remove", words("Remove this clip"), act(() => this.remove(k))),
        ]);
    }

    showRow(node, row, k) {
        const item = this.list.children[k], { rows } = this.clips, draft = this.drafts.get(row) ?? {};
        const inWords = ([text, values]) => words(text, { ...values, name: labelOf(node, values?.name) });
        const put = (field, value, placeholder, isLocked, name) => {
            const shown = draft[name] ?? value;
            const isKept = field === document.activeElement && (this.isTyping || field.told === shown);
            if (field.value !== shown && !isKept) field.value = shown;
            field.told = shown;
            field.placeholder = placeholder;
            this.disable(field, isLocked);
            const problem = isLocked ? null : problemOf(name, shown, k);
            field.setAttribute("aria-invalid", String(Boolean(problem)));
            return problem ? [inWords(problem)] : [];
        };
        let last = k;
        while (last > 0 && !rows[last].isOwn) last--;
        const goesOn = this.clips.given.prompts === null ? words(this.locked.prompts ? "from the other node" : "in the node")
            : k && !row.isOwn ? words("as clip {k}: {text}", { k: last + 1, text: row.text })
            : k ? words("as clip {k}: {text}", { k, text: rows[k - 1].text }) : "";
        const wrong = put(item.querySelector("textarea"), row.isOwn ? row.text : "", goesOn, !this.isText, "prompt");
        for (const name of LISTS) {
            const usual = linkInto(node, name) ? "" : String(widgetOf(node, name)?.value ?? "");
            wrong.push(...put(item.querySelector(`input.${name}`), row[name], usual, this.locked[name], name));
        }
        item.querySelector(".wrong").textContent = wrong.join(" ");
        const can = { again: !this.locked.seed, seed: !this.locked.seed, up: this.canMove && k > 0,
            down: this.canMove && k < rows.length - 1, add: this.canMove && rows.length < MAX_CLIPS,
            remove: this.canMove && rows.length > 1 };
        for (const [name, isPossible] of Object.entries(can)) this.disable(item.querySelector(`button.${name}`), !isPossible);
    }

    // What is disabled loses the focus to the page, whose keys are others.
    disable(field, isDisabled) {
        if (isDisabled && field === document.activeElement) this.box.focus();
        field.disabled = isDisabled;
    }

    showState(node) {
        const { running, pictures, former, changes } = stateOf(node), hasSeeds = !this.locked.seed;
        if (this.changes === changes) return;
        this.changes = changes;
        const shown = picturesOf(this.clips, [...pictures, ...former], hasSeeds), current = [];
        if (running) current[running.clip] = running;
        const at = picturesOf(this.clips, current, hasSeeds).indexOf(running ?? null);
        [...this.list.children].forEach((item, k) => {
            const image = item.querySelector("img"), isRunning = k === at;
            const source = (isRunning && running.source) || shown[k]?.source;
            item.classList.toggle("running", isRunning);
            if (image.told === source) return;
            image.told = source;
            if (source) image.src = source;
            else image.removeAttribute("src");
        });
    }

    // What is done.

    typed(field, k, name) {
        const row = this.clips.rows[k], draft = { ...this.drafts.get(row) };
        delete draft[name];
        if (problemOf(name, field.value, k)) draft[name] = field.value;
        this.drafts.set(row, draft);
        if (!(name in draft)) {
            if (name === "prompt") setPrompt(this.clips, k, field.value);
            else row[name] = field.value.trim();
        }
        this.isTyping = true;
        this.write();
        this.isTyping = false;
    }

    reseed(k, runs = false) {
        const row = this.clips.rows[k];
        row.seed = newSeed(row.seed);
        this.drafts.set(row, { ...this.drafts.get(row), seed: undefined });
        this.done();
        if (runs) this.run();
    }

    addAfter(k) {
        addAfter(this.clips, k);
        this.done();
        const field = this.list.children[k + 1].querySelector("textarea");
        field.focus();
        field.select();
    }

    remove(k) {
        remove(this.clips, k);
        this.done();
        this.focusOn(Math.min(k, this.clips.rows.length - 1), "remove", "add");
    }

    move(k, by) {
        swap(this.clips, Math.min(k, k + by));
        this.done();
        this.focusOn(k + by, by < 0 ? "up" : "down", by < 0 ? "down" : "up");
    }

    focusOn(k, ...names) {
        const buttons = names.map((name) => this.list.children[k].querySelector(`button.${name}`));
        const field = buttons.find((each) => !each.disabled) ?? this.box;
        field.focus();
        field.scrollIntoView?.({ block: "nearest" });
    }

    done() {
        this.write();
        remember();
    }

    run() {
        return app.queuePrompt(0, 1);
    }

    // Keys.

    enter(event, k) {
        if (event.key !== "Enter" || event.isComposing || event.ctrlKey || event.metaKey) return;
        event.preventDefault(); // a prompt is one line
        this.list.children[k + 1]?.querySelector("textarea").focus();
    }

    key(event) {
        const isInPage = (event.ctrlKey || event.metaKey) && ["Enter", "s", "S"].includes(event.key); // run, save
        if (!isInPage) event.stopPropagation();
        if (event.key === "Escape" && !event.isComposing) return this.close();
        if (event.key !== "Tab") return;
        const fields = [...this.box.querySelectorAll(":is(button, input, textarea):enabled")].filter((each) => each.offsetParent);
        const [first, last] = [fields[0], fields.at(-1)], at = document.activeElement;
        const next = event.shiftKey ? (at === first || at === this.box) && last : at === last && first;
        if (!next) return;
        event.preventDefault();
        next.focus();
    }
}

export function editClips(node) {
    editor?.close();
    editor = new Editor(node);
    recallThumbnails(node).catch((error) => console.debug("VidRD: thumbnails are not known", error));
}

// Widgets that are not saved come after all others: the page saves values by their position.
function addButton(node) {
    const act = () => editClips(node);
    const widget = node.addWidget("button", "edit_clips", null, act, { serialize: false });
    Object.assign(widget, { label: words("Edit clips..."), serialize: false, tooltip: words("A table of all clips") });
    const map = node.widgets.findIndex(({ name }) => name === "reuse_map");
    if (map >= 0) node.widgets.splice(map, 0, node.widgets.pop());
    node.setSize([node.size[0], node.size[1] + 24]); // so that the other widgets keep their space
}

app.registerExtension({
    name: "VidRD.Clips",
    setup() {
        document.head.append(make("style", {}, STYLE));
    },
    nodeCreated(node) {
        if (node.comfyClass !== "VidRD_LongVideo") return;
        try {
            addButton(node);
        } catch (error) {
            console.debug("VidRD: there is no table of clips", error); // the node works without it
        }
    },
});
