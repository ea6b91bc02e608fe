// The progress of Long Video and Compare Settings: which clips are done, and an animated preview of the current one.
// The page shows the result; it cannot show a preview in the same node, so this adds a widget for it.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { nodeOf } from "./nodes.js";
import { inTurn, isOpen, runOf } from "./runs.js";
import { makeRoom, say } from "./said.js";
import { words } from "./words.js";

const MANY = new Set(["VidRD_LongVideo", "VidRD_CompareSettings"]);
const ROW = 12, HEIGHT = 150; // pixels, without and with the preview
const PROMPTS = 84; // pixels of the box, at least
const DONE = "#5690dc", KEPT = "#4a9a78", WAITING = "var(--border-color, #46464e)", STOPPED = "#c84848";

const panels = new WeakMap(); // by node
let running = null; // the panel of the current clip

function makePanel(node) {
    const box = document.createElement("div");
    box.style.cssText = "display: flex; flex-direction: column; gap: 4px; align-items: center; overflow: hidden";
    const row = document.createElement("div");
    row.style.cssText = "display: flex; gap: 2px; width: 100%; height: 10px; flex: none";
    const picture = document.createElement("img");
    picture.style.cssText = "min-height: 0; flex: 1; object-fit: contain; image-rendering: pixelated";
    picture.alt = "";
    box.append(row, picture);
    const panel = { node, row, picture, height: ROW, kept: new Set() };
    const height = () => panel.height;
    const options = { serialize: false, getMinHeight: height, getMaxHeight: height, hideOnZoom: false };
    node.addDOMWidget("clips_shown", "vidrd_clips", box, options).serialize = false;
    return panel;
}

function show(panel, { clip, clips, share = 0, picture, kept = false }) {
    if (clip === 0 && !share) panel.kept.clear(); // a new run
    if (kept) panel.kept.add(clip);
    if (panel.row.children.length !== clips) {
        panel.row.replaceChildren(...Array.from({ length: clips }, () => {
            const cell = document.createElement("div");
            cell.style.cssText = "flex: 1; border-radius: 2px; min-width: 1px";
            return cell;
        }));
    }
    [...panel.row.children].forEach((cell, k) => {
        const done = k < clip ? 1 : k === clip ? share : 0;
        const old = panel.kept.has(k);
        const how = old ? "kept from an earlier run" : ["waiting", "in progress", "done"][Math.floor(done) + (done > 0)];
        cell.title = words("clip {k}: {how}", { k: k + 1, how: words(how) });
        cell.style.background = `linear-gradient(to right, ${old ? KEPT : DONE} ${100 * done}%, ${WAITING} ${100 * done}%)`;
    });
    panel.clip = clip;
    panel.share = share;
    if (!picture) return;
    panel.picture.src = picture;
    resize(panel, HEIGHT);
}

function resize(panel, height) {
    if (panel.height === height) return;
    panel.height = height;
    panel.picture.style.display = height === ROW ? "none" : "";
    makeRoom(panel.node);
    panel.node.setDirtyCanvas(true, true);
}

// There are no events for cached clips.
function finish() {
    if (running) show(running, { clip: running.row.children.length, clips: running.row.children.length });
    stop();
}

function stop() {
    if (!running) return;
    const cell = running.share < 1 ? running.row.children[running.clip] : null;
    if (cell) cell.style.background = STOPPED;
    resize(running, ROW);
    running = null;
}

// A run in which nothing has changed sends no result: a page opened since then has to fetch it.
async function recall({ nodes, prompt_id: run }) {
    if (!isOpen(await runOf(run))) return;
    const blank = nodes.map(String).filter((id) => MANY.has(nodeOf(id)?.comfyClass) && !app.nodeOutputs[id]);
    if (!blank.length) return;
    const history = await (await api.fetchApi("/history?max_items=32")).json();
    for (const id of blank) {
        const shown = Object.values(history).filter(({ prompt }) => isOpen(prompt)).flatMap(({ outputs, meta }) =>
            Object.keys(outputs).filter((part) => meta?.[part]?.display_node === id).map((part) => outputs[part]));
        if (!shown.length) continue;
        app.nodeOutputs[id] = shown.at(-1);
        nodeOf(id).setDirtyCanvas(true, true);
    }
}

// A video that grows: only its last clip's is a result of the run, which the page shows by itself.
function showOutput(id, node, output) {
    app.nodeOutputs[id] = output;
    say(node, output);
    node.setDirtyCanvas(true, true);
}

async function onClip(progress) {
    const node = nodeOf(progress.node);
    if (!MANY.has(node?.comfyClass) || !isOpen(await runOf(progress.run))) return; // another workflow is open
    if (!panels.has(node)) panels.set(node, makePanel(node));
    running = panels.get(node);
    show(running, progress);
    if (progress.output) showOutput(progress.node, node, progress.output);
}

// The box of prompts gives way to what is shown below it, but not down to a line or two.
app.registerExtension({
    name: "VidRD.LongVideo",
    nodeCreated(node) {
        const prompts = node.comfyClass === "VidRD_LongVideo" && node.widgets?.find(({ name }) => name === "prompts");
        if (prompts?.options) prompts.options.getMinHeight = () => PROMPTS;
    },
});

// If a version of the page does not support this, the node works without it.
const missed = (error) => console.debug("VidRD: progress is not shown", error);
const later = inTurn(missed);

// Registered at once: a page opened during a run receives events before it is ready.
for (const [event, act] of [["vidrd.clip", onClip], ["execution_success", finish], ["execution_error", stop],
    ["execution_interrupted", stop]]) {
    api.addEventListener(event, later(act));
}
api.addEventListener("execution_cached", inTurn(missed)(recall));
