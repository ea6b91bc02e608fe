// Placeholders in file names, as %date:yyyy-MM-dd% and %Node.widget%: the page fills them in for the host's own nodes alone.

import { app } from "../../../scripts/app.js";
import { widgetOf } from "./nodes.js";

// Older pages take the app, newer ones the graph. Whatever goes wrong, the workflow is sent.
function filled(text) {
    for (const from of [app.graph, app]) {
        try {
            return window.comfyAPI.utils.applyTextReplacements(from, text);
        } catch {
            continue;
        }
    }
    return text;
}

app.registerExtension({
    name: "VidRD.FileNames",
    nodeCreated(node) {
        if (!node.comfyClass?.startsWith("VidRD_")) return;
        const widget = widgetOf(node, "filename_prefix");
        if (widget) widget.serializeValue = () => (typeof widget.value === "string" ? filled(widget.value) : widget.value);
    },
});
