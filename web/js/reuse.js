// What a clip reuses of the previous clip, as in vidrd_core/reuse.py. It needs no page, so it can be tested alone.

// Settings are promptFrames (M), alpha, beta, order, noise (the policy) and staging; `frames` is N, `steps` T. Returns { problem }
// in words, or { frames: [{ source, share, replayed, shown }] }: the old frame whose noise a frame reuses (null: any), the
// share of its noise's variance that is old, how many of the first steps it replays of the old frame, and whether it
// repeats a frame that the previous clip has shown.
export function reuse({ promptFrames, alpha, beta, order, noise = "pns", staging = "paper", frames, steps }) {
    if (order === "auto") order = "mirror"; // as for models with one latent per frame
    const problem = problemOf({ promptFrames, alpha, beta, order, frames, steps });
    if (problem) return { problem };
    const counts = replayCounts(promptFrames, beta, order, steps, staging);
    const old = noise === "fresh" ? 0 : alpha ** 2 / (1 + alpha ** 2); // rho^2
    return {
        frames: sources(promptFrames, order, frames).map((source, j) => ({
            source: noise === "shuffle" && j >= promptFrames ? null : source,
            share: j < promptFrames ? 1 : old,
            replayed: counts[j] ?? 0,
            shown: order === "forward" && j < promptFrames,
        })),
    };
}

// The settings of a preset, as in vidrd_core/presets.py; null for the node's own settings.
export function preset(name, frames) {
    const own = { alpha: 4, beta: 0.4 };
    if (name === "paper") return { ...own, promptFrames: Math.min(4, frames - 1), order: "mirror", noise: "pns" };
    if (!["keep moving", "loop on purpose", "anchored", "for this model"].includes(name)) return null;
    return { ...own, promptFrames: Math.max(1, Math.floor(frames / 4)), order: "forward", noise: "shuffle" };
}

const isFrom0To = (most, value) => typeof value === "number" && value >= 0 && value <= most;

function problemOf({ promptFrames, alpha, beta, order, frames, steps }) {
    if (!Number.isInteger(frames) || frames < 1) return `frames is ${frames}, expected a whole number from 1`;
    if (!Number.isInteger(steps) || steps < 1) return `steps is ${steps}, expected a whole number from 1`;
    if (!Number.isInteger(promptFrames) || promptFrames < 0) {
        return `prompt_frames is ${promptFrames}, expected a whole number from 0`;
    }
    if (promptFrames >= frames) {
        return `prompt_frames is ${promptFrames}, expected less than the clip's ${frames} frames`;
    }
    if (!isFrom0To(1e6, alpha)) return `alpha is ${alpha}, expected 0 or more`;
    if (!isFrom0To(1, beta)) return `beta is ${beta}, expected a number from 0 to 1`;
    if (order !== "mirror" && order !== "forward") return `order is ${order}, expected mirror or forward`;
    return null;
}

function sources(promptFrames, order, frames) {
    const source = (j) => (order === "mirror" ? frames - 1 - j : (frames - promptFrames + j) % frames);
    return Array.from({ length: frames }, (_, j) => source(j));
}

function replayCounts(promptFrames, beta, order, steps, staging) {
    // Rounded first, since 0.4 * 50 * (1 - 1 / 4) is slightly more than 15.
    const paper = (j) => Math.ceil(Number((beta * steps * (1 - j / promptFrames)).toFixed(9)));
    const count = (j) => (staging === "released" ? Math.max(0, paper(j) - 1) : paper(j));
    return Array.from({ length: promptFrames }, (_, j) => (order === "mirror" ? count(j) : steps));
}
