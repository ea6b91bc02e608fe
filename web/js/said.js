// What a node has to say of its result, as a line in the node: the page clears the text of its progress at the end.

import { app } from "../../../scripts/app.js";

const KEY = "vidrd_said"; // in the node's output
const LINE = 18; // pixels
const VIDEO = 350; // pixels for a video in Nodes 2.0, which leaves it 150

const places = new WeakMap(); // by node

// Make a node as high as what it shows needs, so that its text boxes keep their room; a higher one stays as it is.
export function makeRoom(node, more = 0) {
    const wanted = (node.computeSize?.()[1] ?? 0) + more;
    if (node.size[1] < wanted) node.setSize([node.size[0], wanted]);
}

function makePlace(node) {
    const box = document.createElement("div");
    box.style.cssText = "font: 12px sans-serif; line-height: 18px; color: var(--input-text, #ddd); overflow: hidden; "
        + "overflow-wrap: anywhere; user-select: text; text-align: center";
    const place = { box, lines: 1 };
    const height = () => place.lines * LINE + 4;
    const options = { serialize: false, getMinHeight: height, getMaxHeight: height, hideOnZoom: false };
    node.addDOMWidget("said", "vidrd_said", box, options).serialize = false;
    return place;
}

export function say(node, output) {
    const lines = output?.[KEY];
    if (!lines?.length) return;
    if (!places.has(node)) places.set(node, makePlace(node));
    const place = places.get(node);
    place.lines = lines.reduce((count, line) => count + Math.ceil(line.length / 34), 0);
    place.box.textContent = lines.join("\n");
    makeRoom(node, output.animated && globalThis.LiteGraph?.vueNodesMode ? VIDEO : 0);
    node.setDirtyCanvas?.(true, true);
}

app.registerExtension({
    name: "VidRD.Said",
    nodeCreated(node) {
        if (!node.comfyClass?.startsWith("VidRD_")) return;
        const told = node.onExecuted;
        node.onExecuted = function (output) {
            told?.apply(this, arguments);
            try {
                say(this, output);
            } catch (error) {
                console.debug("VidRD: a line is not shown", error); // the node works without it
            }
        };
    },
});
