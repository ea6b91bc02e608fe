// Small pictures of Long Video's clips: of the last run, told by its events and results, or recalled from the history.

import { api } from "../../../scripts/api.js";
import { clipsOf, picturesOf } from "./clips.js";
import { nodeOf, placeOf, rootGraph } from "./nodes.js";
import { inTurn, isOpen, runOf, workflowOf } from "./runs.js";

const KEY = "vidrd_thumbnails"; // in the node's output: names of files in the host's temporary folder
const PAST = 32; // runs to look through
const FORMER = 100; // pictures of clips that the newest run did not have

const states = new Map(); // by place

// `pictures` by clip, each with what the clip was made of: { source, text, seed }, `text` null where that is not known.
// `run` is the newest run with this node, of `count` clips; `former` are pictures of other clips; `changes` counts what is new.
export function stateOf(node) {
    const place = JSON.stringify(placeOf(node));
    const none = { pictures: [], former: [], count: 0, running: null, run: null, changes: 0 };
    if (!states.has(place)) states.set(place, none);
    return states.get(place);
}

function addressOf(name) {
    const cut = name.lastIndexOf("/");
    const query = new URLSearchParams({ filename: name.slice(cut + 1), subfolder: name.slice(0, Math.max(0, cut)), type: "temp" });
    return api.apiURL(`/view?${query}`);
}

// The clips that a run was sent for a node; null where other nodes make them.
function clipsSent(run, name) {
    const prompt = run?.[2], inputs = prompt?.[name]?.inputs ?? {};
    const value = (given) => (Array.isArray(given) ? prompt[given[0]]?.inputs?.value : given);
    const [prompts, clips] = [value(inputs.prompts), Number(value(inputs.clips))];
    if (typeof prompts !== "string" || !Number.isInteger(clips)) return null;
    const seed = typeof inputs.seed_per_clip === "string" ? inputs.seed_per_clip : "";
    return clipsOf({ prompts, clips, seed, cfg: "", alpha: "", isPlain: true });
}

// The state of the node that a run tells of; pictures of earlier runs stay with the clips that are as they were.
function stateIn(run, id, name) {
    const node = nodeOf(name);
    if (node?.comfyClass !== "VidRD_LongVideo" || !isOpen(run)) return null;
    const state = stateOf(node), sent = clipsSent(run, name);
    if (state.run !== id && sent) {
        const known = [...state.pictures, ...state.former];
        state.pictures = picturesOf(sent, known);
        state.former = known.filter((each) => each && each.text !== null && !state.pictures.includes(each)).slice(0, FORMER);
    }
    Object.assign(state, { run: id, changes: state.changes + 1 });
    const made = (k) => ({ text: sent?.rows[k]?.text ?? null, seed: sent?.rows[k]?.seed });
    return { state, made };
}

function keep({ state, made }, output) {
    (output?.[KEY] ?? []).forEach((file, k) => { state.pictures[k] = { source: addressOf(file), ...made(k) }; });
}

async function onClip({ run: id, node, clip, clips, share, picture, thumbnail, output }) {
    const found = stateIn(await runOf(id), id, node);
    if (!found) return;
    const { state, made } = found;
    state.count = clips;
    state.pictures.length = Math.min(state.pictures.length, clips);
    if (thumbnail) state.pictures[clip] = { source: addressOf(thumbnail), ...made(clip) };
    const isDone = share === undefined || share >= 1;
    state.running = isDone ? null : { clip, source: picture ?? state.running?.source, ...made(clip) };
    keep(found, output);
}

async function onExecuted({ prompt_id: id, node, display_node: shown, output }) {
    const found = output?.[KEY] && stateIn(await runOf(id), id, shown ?? node);
    if (found) keep(found, output);
}

function onEnd() {
    for (const state of states.values()) Object.assign(state, { running: null, changes: state.changes + 1 });
}

// After the page was loaded again, or another workflow was open: from the newest run of this workflow, or one that sent the same.
export async function recallThumbnails(node) {
    const workflow = rootGraph()?.id, state = stateOf(node);
    if (!workflow || state.running) return;
    const history = await (await api.fetchApi(`/history?max_items=${PAST}`)).json();
    const runs = Object.values(history).filter(({ prompt }) => prompt).reverse();
    const newest = runs.find(({ prompt }) => workflowOf(prompt) === workflow);
    if (!newest || state.running) return;
    const sent = JSON.stringify(newest.prompt[2]);
    for (const { prompt, outputs, meta } of runs) {
        if (JSON.stringify(prompt[2]) !== sent) continue;
        const nameOf = (part) => meta?.[part]?.display_node ?? part;
        const part = Object.keys(outputs).find((each) => outputs[each][KEY] && nodeOf(nameOf(each)) === node);
        if (part) return keep(stateIn(newest.prompt, newest.prompt[1], nameOf(part)), outputs[part]);
    }
}

const later = inTurn((error) => console.debug("VidRD: no thumbnail", error));

for (const [event, act] of [["vidrd.clip", onClip], ["executed", onExecuted], ["execution_success", onEnd],
    ["execution_error", onEnd], ["execution_interrupted", onEnd]]) {
    api.addEventListener(event, later(act));
}
