// The saved states as a person knows clips: pictures, numbers, prompts, dates, and how the clips branch.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { remember, widgetOf } from "./nodes.js";
import { makeRoom } from "./said.js";
import { language, words } from "./words.js";

const LOADS = "VidRD_LoadState";
const CARD = 76, WIDTH = 118, HEIGHT = 112, PICTURE = 72; // pixels: of the node's card, and of a clip in the dialog
const LINE = "var(--border-color, #6a6a74)", CHOSEN = "#5690dc";
const STYLE = `
.vidrd-states { width: min(1100px, 94vw); height: min(800px, 90vh); padding: 0; border: 1px solid ${LINE};
    border-radius: 8px; background: var(--comfy-menu-bg, #202020); color: var(--input-text, #ddd);
    font: 13px/1.4 sans-serif; flex-direction: column; overflow: hidden }
.vidrd-states[open] { display: flex }
.vidrd-states::backdrop { background: rgb(0 0 0 / 50%) }
.vidrd-states header { display: flex; gap: 12px; align-items: center; padding: 10px 14px; border-bottom: 1px solid ${LINE} }
.vidrd-states h2 { font-size: 15px; margin: 0; flex: 1 }
.vidrd-states input, .vidrd-states button { font: inherit; color: inherit; border: 1px solid ${LINE}; border-radius: 6px;
    background: var(--comfy-input-bg, #2c2c30) }
.vidrd-states input { padding: 4px 8px; width: 200px }
.vidrd-states header button { padding: 4px 12px; cursor: pointer }
.vidrd-tree { overflow: auto; max-height: 50%; flex: none; border-bottom: 1px solid ${LINE}; padding: 10px }
.vidrd-tree > div { position: relative }
.vidrd-tree svg { position: absolute; inset: 0; pointer-events: none }
.vidrd-clip { position: absolute; width: ${WIDTH - 22}px; height: ${HEIGHT - 12}px; cursor: pointer; display: flex;
    flex-direction: column; align-items: center; justify-content: center; gap: 2px; padding: 2px }
.vidrd-dot { position: absolute; width: 9px; height: 9px; border-radius: 50%; background: ${LINE} }
.vidrd-picture { width: ${PICTURE}px; height: ${PICTURE}px; object-fit: contain; flex: none; border-radius: 4px;
    background: var(--comfy-input-bg, #2c2c30); display: flex; align-items: center; justify-content: center;
    color: var(--descrip-text, #999); font-size: 11px; text-align: center; overflow: hidden }
.vidrd-list { overflow: auto; flex: 1; padding: 6px 10px }
.vidrd-list button { display: flex; gap: 12px; align-items: center; width: 100%; text-align: start; padding: 6px; margin: 4px 0;
    cursor: pointer }
.vidrd-list .vidrd-picture { width: 56px; height: 56px }
.vidrd-list div div { overflow-wrap: anywhere }
.vidrd-prompt { overflow: hidden; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 4 }
.vidrd-clip.vidrd-other { opacity: 0.2 }
.vidrd-small { color: var(--descrip-text, #999); font-size: 12px }
.vidrd-states .vidrd-chosen { border-color: ${CHOSEN}; box-shadow: 0 0 0 1px ${CHOSEN} }
.vidrd-card { display: flex; gap: 8px; align-items: center; overflow: hidden; font: 12px/1.35 sans-serif;
    color: var(--input-text, #ddd) }
.vidrd-card .vidrd-picture { width: 64px; height: 64px }
.vidrd-card div div { overflow: hidden; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2 }
`;

const cards = new WeakMap(); // by node

function make(tag, className = "", text = "") {
    const made = document.createElement(tag);
    made.className = className;
    made.textContent = text;
    return made;
}

async function listing() {
    const answer = await api.fetchApi("/vidrd/states");
    if (!answer.ok) throw Error(`the host answered ${answer.status}`);
    return answer.json();
}

function pictureOf(state) {
    if (!state.picture) return make("div", "vidrd-picture", words("no picture"));
    const picture = make("img", "vidrd-picture");
    picture.loading = "lazy";
    picture.alt = "";
    picture.src = api.apiURL(`/vidrd/state_picture?file=${encodeURIComponent(state.file)}&t=${state.written}`);
    return picture;
}

const clipOf = (state) => words("clip {k}", { k: state.clip + 1 }); // as the table and the bar of Long Video count

function dateOf(state) {
    const told = { dateStyle: "medium", timeStyle: "short" };
    return new Date(1000 * state.written).toLocaleString(language() || undefined, told);
}

const seedOf = (state) => (state.seed === null ? "" : `, ${words("seed {seed}", state)}`);

// The clips as a picture: a column for each number, a row for each branch; dots are clips whose states were not saved.
function drawTree({ clips, states }, chosen, choose) {
    const byFile = new Map(states.map((state) => [state.file, state]));
    const field = make("div");
    const [columns, rows] = ["clip", "row"].map((name) => 1 + Math.max(...clips.map((each) => each[name])));
    field.style.cssText = `width: ${columns * WIDTH}px; height: ${rows * HEIGHT}px`;
    const lines = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    lines.setAttribute("width", columns * WIDTH);
    lines.setAttribute("height", rows * HEIGHT);
    field.append(lines);
    const middle = ({ clip, row }) => [clip * WIDTH + (WIDTH - 22) / 2, row * HEIGHT + HEIGHT / 2 - 6];
    for (const each of clips) {
        const [x, y] = middle(each);
        const parent = clips[each.parent];
        if (parent) {
            const [from, level] = middle(parent);
            const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
            const bend = level === y ? "" : `L ${x - WIDTH / 2} ${level} L ${x - WIDTH / 2} ${y}`;
            line.setAttribute("d", `M ${from} ${level} ${bend} L ${x} ${y}`);
            line.style.cssText = `fill: none; stroke: ${LINE}; stroke-width: 2`;
            lines.append(line);
        }
        const state = byFile.get(each.files[0]);
        const cell = make(state ? "button" : "div", state ? "vidrd-clip" : "vidrd-dot");
        cell.style.left = `${state ? each.clip * WIDTH : x - 4}px`;
        cell.style.top = `${state ? each.row * HEIGHT : y - 4}px`;
        if (state) {
            cell.tabIndex = -1; // the list has them all, for keys
            cell.dataset.files = JSON.stringify(each.files);
            cell.append(pictureOf(state), make("span", "", clipOf(state)));
            cell.title = [state.prompt, dateOf(state) + seedOf(state), ...each.files].filter(Boolean).join("\n");
            cell.classList.toggle("vidrd-chosen", each.files.includes(chosen));
            cell.addEventListener("click", () => choose(state.file));
        } else {
            cell.title = words("clip {k}: its state was not saved", { k: each.clip + 1 });
        }
        field.append(cell);
    }
    return field;
}

function rowOf(state, chosen, choose) {
    const row = make("button");
    row.classList.toggle("vidrd-chosen", state.file === chosen);
    row.title = state.prompt;
    const told = make("div");
    told.append(
        make("div", "vidrd-prompt", [clipOf(state), state.prompt].filter(Boolean).join(": ")),
        make("div", "vidrd-small", dateOf(state) + seedOf(state)),
        make("div", "vidrd-small", state.file),
    );
    row.append(pictureOf(state), told);
    row.addEventListener("click", () => choose(state.file));
    return row;
}

async function browse(node, widget) {
    if (document.querySelector("dialog.vidrd-states")) return; // a double click
    const dialog = make("dialog", "vidrd-states");
    const choose = (file) => {
        if (Array.isArray(widget.options?.values) && !widget.options.values.includes(file)) {
            widget.options.values = [file, ...widget.options.values]; // saved since the page was loaded
        }
        widget.value = file;
        widget.callback?.(file);
        node.setDirtyCanvas?.(true, true);
        remember();
        dialog.close();
    };
    const header = make("header"), search = make("input"), close = make("button", "", words("Close"));
    search.type = "search";
    search.placeholder = words("Search prompts and names");
    header.append(make("h2", "", words("Saved states")), search, close);
    const tree = make("div", "vidrd-tree"), list = make("div", "vidrd-list");
    let found = { states: [], clips: [] }, none = "";
    const fill = () => {
        const wanted = search.value.toLowerCase();
        const shown = found.states.filter(({ prompt, file }) => `${prompt} ${file}`.toLowerCase().includes(wanted));
        list.replaceChildren(...shown.map((state) => rowOf(state, widget.value, choose)));
        if (!shown.length) list.append(make("p", "vidrd-small", found.states.length ? words("None of them.") : none));
        const files = new Set(shown.map(({ file }) => file));
        for (const cell of tree.querySelectorAll(".vidrd-clip")) {
            cell.classList.toggle("vidrd-other", !JSON.parse(cell.dataset.files).some((file) => files.has(file)));
        }
    };
    search.addEventListener("input", fill);
    for (const each of ["keydown", "keyup", "paste", "copy"]) { // the page has shortcuts of its own
        dialog.addEventListener(each, (event) => event.stopPropagation());
    }
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("pointerdown", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("close", () => dialog.remove());
    dialog.append(header, tree, list);
    document.body.append(dialog);
    dialog.showModal();
    try {
        found = await listing();
        none = words("No state was saved yet.");
    } catch (error) {
        none = words("The host does not tell which states there are: {error}", { error: error.message });
    }
    if (found.clips.length) tree.append(drawTree(found, widget.value, choose));
    else tree.style.display = "none";
    fill();
    tree.querySelector(".vidrd-chosen")?.scrollIntoView({ block: "center", inline: "center" });
}

async function showCard(node, widget) {
    const card = cards.get(node);
    const chosen = widget.value;
    const { states } = await listing();
    if (widget.value !== chosen) return; // the answer for that one comes later
    const state = states.find(({ file }) => file === chosen);
    card.replaceChildren();
    if (!state) return;
    const told = make("div");
    told.append(
        make("div", "", [clipOf(state), state.prompt].filter(Boolean).join(": ")),
        make("div", "vidrd-small", dateOf(state) + seedOf(state)),
    );
    card.append(pictureOf(state), told);
}

// If a version of the page or the host does not support this, the node works without it.
const guarded = (act) => async (...given) => {
    try {
        await act(...given);
    } catch (error) {
        console.debug("VidRD: states are not shown", error);
    }
};

app.registerExtension({
    name: "VidRD.States",
    nodeCreated(node) {
        if (node.comfyClass !== LOADS) return;
        const widget = widgetOf(node, "file");
        if (!widget) return;
        guarded(async () => {
            if (!document.getElementById("vidrd-states-style")) {
                const style = make("style", "", STYLE);
                style.id = "vidrd-states-style";
                document.head.append(style);
            }
            const open = guarded(() => browse(node, widget));
            node.addWidget("button", words("browse states"), null, open, { serialize: false }).serialize = false;
            const card = make("div", "vidrd-card");
            const height = () => CARD;
            const options = { serialize: false, getMinHeight: height, getMaxHeight: height, hideOnZoom: false };
            node.addDOMWidget("state_shown", "vidrd_state", card, options).serialize = false;
            cards.set(node, card);
            makeRoom(node);
            const show = guarded(() => showCard(node, widget));
            const changed = widget.callback;
            widget.callback = function () {
                changed?.apply(this, arguments);
                show();
            };
            setTimeout(show); // a saved node gets its own value after this
        })();
    },
});
