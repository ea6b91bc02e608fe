// New nodes keep their seed between runs, so that only changed clips are made again.
// Newer hosts read this from the node definitions; this is for older ones.

import { app } from "../../../scripts/app.js";

app.registerExtension({
    name: "VidRD.Seeds",
    nodeCreated(node) {
        if (!node.comfyClass?.startsWith("VidRD_")) return;
        const control = node.widgets?.find((widget) => widget.name === "control_after_generate");
        if (control?.value === "randomize") control.value = "fixed"; // a saved node's own value is set after this
    },
});
