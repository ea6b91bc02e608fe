// Small pictures of Long Video's clips: of the last run, told by its events and results, or recalled from the history.

import { api } from "../../../scripts/api.js";
import { nodeOf, placeOf, rootGraph } from "./nodes.js";

const KEY = "vidrd_thumbnails"; // in the node's output: names of files in the host's temporary folder
const PAST = 32; // runs to look through

const states = new Map(); // by place

// `count` clips in the last run; `past` has the pictures of earlier orders of the rows, for undo.
export function stateOf(node) {
    const place = JSON.stringify(placeOf(node));
    if (!states.has(place)) states.set(place, { pictures: [], count: 0, running: null, past: new Map() });
    return states.get(place);
}

function addressOf(name) {
    const cut = name.lastIndexOf("/");
    const query = new URLSearchParams({ filename: name.slice(cut + 1), subfolder: name.slice(0, Math.max(0, cut)), type: "temp" });
    return api.apiURL(`/view?${query}`);
}

function keep(node, output) {
    const state = stateOf(node), names = output?.[KEY] ?? [];
    names.forEach((name, k) => { state.pictures[k] = addressOf(name); });
    if (names.length) state.past.clear();
}

function onClip({ node: id, clip, clips, share, picture, thumbnail, output }) {
    const node = nodeOf(id);
    if (node?.comfyClass !== "VidRD_LongVideo") return;
    const state = stateOf(node);
    state.count = clips;
    state.past.clear();
    state.pictures.length = Math.min(state.pictures.length, clips);
    if (thumbnail) state.pictures[clip] = addressOf(thumbnail);
    state.running = share === undefined || share >= 1 ? null : { clip, picture: picture ?? state.running?.picture };
    keep(node, output);
}

function onExecuted({ node: id, display_node: shown, output }) {
    const node = output?.[KEY] && nodeOf(shown ?? id);
    if (node?.comfyClass === "VidRD_LongVideo") keep(node, output);
}

function onEnd() {
    for (const state of states.values()) state.running = null;
}

// After the page was loaded again: from the newest run of this workflow, or one that sent the same.
export async function recallThumbnails(node) {
    const workflow = rootGraph()?.id;
    if (!workflow || stateOf(node).pictures.length) return;
    const history = await (await api.fetchApi(`/history?max_items=${PAST}`)).json();
    const runs = Object.values(history).filter(({ prompt }) => prompt).reverse();
    const newest = runs.find(({ prompt }) => prompt[3]?.extra_pnginfo?.workflow?.id === workflow);
    if (!newest) return;
    const sent = JSON.stringify(newest.prompt[2]);
    for (const { prompt, outputs, meta } of runs) {
        if (JSON.stringify(prompt[2]) !== sent) continue;
        const found = Object.entries(outputs).find(([id, output]) =>
            output[KEY] && nodeOf(meta?.[id]?.display_node ?? id) === node);
        if (found && !stateOf(node).pictures.length) keep(node, found[1]);
        if (found) return;
    }
}

for (const [event, act] of [["vidrd.clip", onClip], ["executed", onExecuted], ["execution_success", onEnd],
    ["execution_error", onEnd], ["execution_interrupted", onEnd]]) {
    api.addEventListener(event, ({ detail }) => {
        try {
            act(detail ?? {});
        } catch (error) {
            console.debug("VidRD: no thumbnail", error);
        }
    });
}
