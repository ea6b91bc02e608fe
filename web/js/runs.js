// Runs of the host, and whether the open workflow is theirs: its tabs may hold nodes of the same number.

import { api } from "../../../scripts/api.js";
import { rootGraph } from "./nodes.js";

let asked = { id: null, answer: null }; // the newest run that the host was asked about

// A run as the host keeps it: [number, id, prompt, more, outputs].
async function fetchRun(id) {
    const { queue_running: running } = await (await api.fetchApi("/queue")).json();
    const found = running.find((each) => each[1] === id);
    return found ?? (await (await api.fetchApi(`/history/${id}`)).json())[id]?.prompt;
}

export function runOf(id) {
    if (!id) return null;
    if (asked.id !== id) asked = { id, answer: fetchRun(id).catch(() => null) };
    return asked.answer;
}

export const workflowOf = (run) => run?.[3]?.extra_pnginfo?.workflow?.id;

// Prompts that came by API tell no workflow: then the numbers have to do.
export function isOpen(run) {
    const workflow = workflowOf(run);
    return !workflow || workflow === rootGraph()?.id;
}

// Calls of `act` with what events tell, one after the other: their number counts, and asking for a run takes time.
export function inTurn(missed) {
    let told = Promise.resolve();
    return (act) => ({ detail }) => {
        told = told.then(() => act(detail ?? {})).catch(missed);
    };
}
