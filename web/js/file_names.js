// Placeholders in file names, as %date:yyyy-MM-dd% and %Node.widget%: the page fills them in for the host's own nodes alone.

import { app } from "../../../scripts/app.js";
import { widgetOf } from "./nodes.js";

app.registerExtension({
    name: "VidRD.FileNames",
    nodeCreated(node) {
        if (!node.comfyClass?.startsWith("VidRD_")) return;
        const widget = widgetOf(node, "filename_prefix"), fill = window.comfyAPI?.utils?.applyTextReplacements;
        if (widget && fill) widget.serializeValue = () => fill(app.graph, widget.value);
    },
});
