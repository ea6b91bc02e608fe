// New nodes keep their seed from run to run, so that only what was changed is made anew.
// Newer hosts are told so by the definitions; this is for the others.

import { app } from "../../../scripts/app.js";

app.registerExtension({
    name: "VidRD.Seeds",
    nodeCreated(node) {
        if (!node.comfyClass?.startsWith("VidRD_")) return;
        const control = node.widgets?.find((widget) => widget.name === "control_after_generate");
        if (control?.value === "randomize") control.value = "fixed"; // a saved node's own value comes after this
    },
});
