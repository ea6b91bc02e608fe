// Nodes of the page, their widgets and links, in all versions of the page.

import { app } from "../../../scripts/app.js";

export const rootGraph = () => app.rootGraph ?? app.graph;

// The node of a server id: "3", or "7:3" in a subgraph.
export function nodeOf(id) {
    let graph = rootGraph(), node = null;
    for (const part of String(id).split(":")) {
        node = graph?.getNodeById(Number(part)) ?? graph?.getNodeById(part);
        graph = node?.subgraph;
    }
    return node;
}

// Where a node is; loading and undo make new objects for the same place.
export function placeOf(node) {
    return { workflow: rootGraph()?.id, graph: node.graph === rootGraph() ? null : node.graph?.id, id: node.id };
}

export function nodeAt({ workflow, graph, id }) {
    const root = rootGraph();
    if (root?.id !== workflow) return null; // another workflow is open
    return (graph == null ? root : root.subgraphs?.get(graph))?.getNodeById(id) ?? null;
}

export const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name);

export function linkInto(node, name) {
    const id = node.inputs?.find((input) => input.name === name)?.link;
    return id == null ? null : (node.graph?.links?.get?.(id) ?? node.graph?.links?.[id] ?? null);
}

// The node that an input's value comes from; null without one, and for what comes into a subgraph from outside.
export function nodeInto(node, name) {
    let from = null;
    for (let hops = 0, link = linkInto(node, name); link && hops < 100; hops++) {
        from = node.graph.getNodeById(link.origin_id);
        if (from?.type !== "Reroute") break;
        link = linkInto(from, from.inputs[0].name);
    }
    return from;
}

// One step for the page's undo, however many fields it is about; the page looks for changes by itself only after some events.
export function remember() {
    const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
    (tracker?.captureCanvasState ?? tracker?.checkState)?.call(tracker);
}
