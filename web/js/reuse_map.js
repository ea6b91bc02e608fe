// A small map in the node, redrawn when its settings change: which old frame's noise each frame of a clip reuses, and for
// how many steps it replays that frame. The node Reuse Map draws the same in vidrd_core/video/reuse_map.py.

import { app } from "../../../scripts/app.js";
import { linkInto, nodeInto, widgetOf } from "./nodes.js";
import { preset, reuse } from "./reuse.js";
import { words } from "./words.js";

const NODES = ["VidRD_Extend", "VidRD_LongVideo", "VidRD_Noise", "VidRD_Guidance"];
const FRAMES = 8; // per clip, where the number is unknown
const MAX_FRAMES = 96; // columns of more would be too thin to see
const HEIGHT = 130, LOW = 92, MARGIN = 10; // pixels; LOW: without the steps, MARGIN: what the page leaves around the map
const STYLE = `
.vidrd-reuse { --ink: var(--input-text, #ddd); --faint: color-mix(in srgb, var(--ink) 18%, transparent);
    --old: #568cdc; --new: #f08c28; --replayed: #966ed2; box-sizing: border-box; width: 100%; height: 100%; overflow: hidden;
    display: flex; flex-direction: column; gap: 4px; padding: 5px 7px; border-radius: 6px; user-select: none;
    background: var(--comfy-input-bg, #222); color: var(--ink); font: 10px/12px Inter, Arial, sans-serif;
    white-space: nowrap; font-variant-numeric: tabular-nums; }
.vidrd-reuse .head, .vidrd-reuse .legend { display: flex; gap: 8px; }
.vidrd-reuse .head :first-child { flex: 1; overflow: hidden; text-overflow: ellipsis; }
.vidrd-reuse .map { flex: 1; min-height: 0; display: flex; gap: var(--gap); }
.vidrd-reuse .quiet { opacity: 0.7; }
.vidrd-reuse .problem { margin: auto; white-space: normal; text-align: center; }
.vidrd-reuse .column { flex: 1 1 0; min-width: 0; display: flex; flex-direction: column; text-align: center; }
.vidrd-reuse .column.names { flex: none; text-align: left; padding-right: 5px; }
.vidrd-reuse .number { flex: none; height: 12px; display: flex; justify-content: center; }
.vidrd-reuse .names .number { justify-content: start; }
.vidrd-reuse .cell { display: flex; flex-direction: column; gap: 2px; flex: 1; min-height: 0; border-radius: 2px; }
.vidrd-reuse .shown { position: relative; }
.vidrd-reuse .shown::after { content: ""; position: absolute; inset: 0; border: 1px solid var(--ink); border-radius: 2px; }
.vidrd-reuse .noise { flex: none; height: 14px; border-radius: 2px; }
.vidrd-reuse .low .noise { flex: 1; }
.vidrd-reuse .steps { flex: 1; min-height: 0; border-radius: 2px; background: var(--faint); position: relative; }
.vidrd-reuse .steps > div { background: var(--replayed); border-radius: 2px; }
.vidrd-reuse .steps > span { position: absolute; left: 50%; transform: translateX(-50%); }
.vidrd-reuse .inside { color: #fff; text-shadow: 0 0 2px #412d5c, 0 0 2px #412d5c; }
.vidrd-reuse i { display: inline-block; width: 8px; height: 8px; border-radius: 2px; margin-right: 4px; }
.vidrd-reuse i.outline { box-sizing: border-box; border: 1px solid var(--ink); }
`;

const pictures = new WeakMap(); // by node: the map's box, and the settings that it shows

function make(tag, className, content = [], style = {}) {
    const element = document.createElement(tag);
    element.className = className;
    element.append(...[content].flat());
    Object.assign(element.style, style);
    return element;
}

// The node's settings.

// N, from the node that makes the empty latent; null where it is unknown, for example if a VAE may compress time.
function framesOf(node) {
    const from = nodeInto(node, "latent");
    const name = { VidRD_EmptyClip: "frames", EmptyLatentImage: "batch_size" }[from?.type];
    if (!name || linkInto(from, name)) return null;
    const vae = nodeInto(from, "vae");
    return !vae || vae.type === "VidRD_LoadTemporalVAE" ? widgetOf(from, name).value : null;
}

function settingsOf(node) {
    const value = (name) => widgetOf(node, name)?.value;
    const known = framesOf(node);
    const beta = value("beta"), steps = value("steps"), frames = known ?? FRAMES;
    const named = preset(value("preset"), frames);
    const own = {
        promptFrames: value("prompt_frames"), alpha: value("alpha"), beta: beta ?? 0, order: value("order"),
        noise: value("noise_policy"),
    };
    const names = ["steps", "staging", ...(named ? [] : ["prompt_frames", "alpha", "beta", "order", "noise_policy"])];
    return {
        ...(named ?? own), staging: value("staging"), frames, steps: steps ?? 100,
        isKnown: known !== null, hasSteps: beta !== undefined, percent: steps === undefined,
        wired: names.filter((name) => linkInto(node, name)),
        isFirst: node.type !== "VidRD_LongVideo" && !linkInto(node, "state"),
    };
}

// In words.

function sentence({ promptFrames: m, alpha, order, wired, isFirst }) {
    if (wired.length) return words("{names} connected: drawn as last set", { names: wired.join(", ") });
    if (isFirst) return words("No state: a first clip. With one:");
    const reused = order !== "forward"
        ? m ? "Starts as the previous clip in reverse" : "Old noise in reverse, no replay"
        : m ? `Continues from the previous clip's last ${m === 1 ? "frame" : "{m}"}` : "Old noise in order, no replay";
    return words(m || alpha ? reused : "Reuses nothing", { m });
}

// Where N is unknown, M may be valid.
function problemIn(problem, { promptFrames, isKnown }) {
    const mayFit = !isKnown && Number.isInteger(promptFrames) && promptFrames >= FRAMES;
    return mayFit ? `prompt_frames is ${promptFrames}: the clip needs more frames` : problem;
}

const tooMany = (frames) => `${frames.length} frames are too many to draw`;

function title({ source, share, replayed, shown }, j, { steps, percent, hasSteps }) {
    const noise = !share ? words("new noise")
        : source === null ? words("noise of any old frame") : words("noise of old frame {source}", { source });
    const part = Math.round(100 * (1 - share)) || words("under 1");
    const mixed = share && share < 1 ? words(", {part} % of it new", { part }) : "";
    const replay = !replayed ? "; no replay"
        : replayed === steps ? "; replays that frame for all steps"
        : percent ? "; replays that frame for the first {replayed} % of the steps"
        : "; replays that frame for the first {replayed} of {steps} steps";
    const length = hasSteps ? words(replay, { replayed, steps }) : "";
    return words("frame {j}: ", { j }) + noise + mixed + length + (shown ? words("; shown already") : "");
}

// In the picture.

function number(text) {
    return make("div", "number", String(text));
}

function column(frame, j, settings, every) {
    const { source, share, replayed, shown } = frame;
    const split = share < 1 ? `max(2px, ${100 * (1 - share)}%)` : "0px";
    const noise = make("div", "noise", [], {
        background: `linear-gradient(var(--new) ${split}, var(--old) ${split})`,
    });
    const cell = make("div", shown ? "cell shown" : "cell", noise);
    if (settings.hasSteps) cell.append(stepsOf(replayed, settings.steps, j % every === 0));
    const labels = j % every ? ["", ""] : [share ? source ?? "?" : "-", j];
    const whole = make("div", "column", [number(labels[0]), cell, number(labels[1])]);
    whole.title = title(frame, j, settings);
    return whole;
}

function stepsOf(replayed, steps, hasNumber) {
    const share = replayed / steps;
    const bar = make("div", "", [], { height: `${100 * share}%` });
    if (!replayed || !hasNumber) return make("div", "steps", bar);
    // Below the bar, or in it where no room is left.
    const isBelow = share <= 0.7;
    const place = isBelow ? { top: `${100 * share}%` } : { bottom: "1px" };
    return make("div", "steps", [bar, make("span", isBelow ? "" : "inside", String(replayed), place)]);
}

function map(frames, settings) {
    const digits = String(Math.max(frames.length - 1, ...frames.map(({ replayed }) => replayed))).length;
    const every = Math.ceil((frames.length * (digits + 1)) / 40); // as many numbers as there is room for
    const noise = make("div", "noise", words("noise"));
    const names = make("div", "cell", settings.hasSteps ? [noise, make("div", "", stepsName(settings))] : noise);
    const map = make("div", settings.hasSteps ? "map" : "map low", [
        make("div", "column names quiet", [number(words("old frame")), names, number(words("frame"))]),
        ...frames.map((frame, j) => column(frame, j, settings, every)),
    ]);
    map.style.setProperty("--gap", frames.length > 32 ? "1px" : "2px");
    return map;
}

function stepsName({ steps, percent }) {
    return [make("div", "", words("replayed")), make("div", "", words(percent ? "in %" : "of {steps}", { steps }))];
}

function legend(frames, { hasSteps }) {
    const entry = (colour, text) => make("span", "", [make("i", "", [], { background: colour }), words(text)]);
    const entries = [entry("var(--old)", "old noise"), entry("var(--new)", "new")];
    if (hasSteps) entries.push(entry("var(--replayed)", "replayed"));
    if (frames.some(({ shown }) => shown)) entries.push(make("span", "", [make("i", "outline"), words("repeated")]));
    else if (hasSteps) entries.push(entry("var(--faint)", "sampled"));
    return make("div", "legend", entries);
}

function draw(box, settings) {
    const { frames, problem } = reuse(settings);
    const message = problem ? problemIn(problem, settings) : frames.length > MAX_FRAMES && tooMany(frames);
    if (message) return box.replaceChildren(make("div", "problem", message));
    const count = make("span", "quiet", words("{count} frames", { count: frames.length }) + (settings.isKnown ? "" : "?"));
    if (!settings.isKnown) count.title = words("The number of latents per clip is unknown: drawn for 8.");
    const said = make("span", "", sentence(settings));
    said.title = said.textContent; // in full, where it is cut off
    const head = make("div", "head", [said, count]);
    box.replaceChildren(head, map(frames, settings), legend(frames, settings));
}

// In the page.

function update(node) {
    const picture = pictures.get(node);
    if (!picture) return;
    if (picture.height !== node.size[1]) {
        picture.height = node.size[1];
        node.setDirtyCanvas(true, true); // the page makes room while it draws, and shows that only at its next drawing
    }
    const settings = settingsOf(node);
    const key = JSON.stringify(settings);
    if (picture.key === key) return;
    picture.key = key;
    draw(picture.box, settings);
}

// The map lies over the canvas: pass on the events that are not for it. Nodes in Vue pass them on themselves.
function passOn(box) {
    const isOver = () => box.closest(".dom-widget");
    box.addEventListener("wheel", guarded((event) => {
        if (!isOver()) return;
        event.preventDefault();
        app.canvas.processMouseWheel(event);
    }));
    box.addEventListener("pointerdown", guarded((event) => {
        if (isOver() && event.button) app.canvas.processMouseDown(event);
    }));
    box.addEventListener("contextmenu", guarded((event) => isOver() && event.preventDefault()));
}

function addPicture(node) {
    if (!NODES.includes(node.comfyClass)) return;
    const height = widgetOf(node, "beta") ? HEIGHT : LOW;
    const box = make("div", "vidrd-reuse", [], { minHeight: `${height}px` });
    pictures.set(node, { box });
    // The option keeps it out of the prompt, the widget's field out of the saved workflow.
    const widget = node.addDOMWidget("reuse_map", "vidrd_reuse_map", box, { serialize: false, hideOnZoom: false });
    const whole = height + 2 * MARGIN;
    Object.assign(widget, {
        serialize: false,
        computeSize: () => [0, whole - 4], // the page adds 4
        computeLayoutSize: undefined, // otherwise it would grow with the node
    });
    node.setSize([node.size[0], node.size[1] + whole]); // so that the other widgets keep their space
    passOn(box);
}

// If a version of the page does not support this, the nodes work without the map.
let isLogged = false;
function guarded(act) {
    return (given) => {
        try {
            return act(given);
        } catch (error) {
            if (!isLogged) console.debug("VidRD: the reuse map is not shown", error);
            isLogged = true;
        }
    };
}

app.registerExtension({
    name: "VidRD.ReuseMap",
    setup: guarded(() => {
        document.head.append(make("style", "", STYLE));
        // Polled: loading, undo, connections and other nodes change the settings without an event for this node.
        setInterval(guarded(() => app.canvas?.graph?.nodes?.forEach(guarded(update))), 100);
    }),
    nodeCreated: guarded(addPicture),
});
