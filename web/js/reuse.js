// What a clip takes over from the one before, as vidrd_core/reuse.py has it; without a page, so that it can be tested.

// Settings are promptFrames (M), alpha, beta, order and noise (the policy); `frames` is N, `steps` T. Gives { problem }
// in words, or { frames: [{ source, share, led, shown }] }: the old frame whose noise a frame takes over (null: any), the
// share of its noise's variance that is old, for how many of the first steps it follows the old frame, and whether it was
// shown already.
export function reuse({ promptFrames, alpha, beta, order, noise = "pns", frames, steps }) {
    if (order === "auto") order = "mirror"; // as of models with a latent a frame
    const problem = problemOf({ promptFrames, alpha, beta, order, frames, steps });
    if (problem) return { problem };
    const led = replayCounts(promptFrames, beta, order, steps);
    const old = noise === "fresh" ? 0 : alpha ** 2 / (1 + alpha ** 2); // rho^2
    return {
        frames: sources(promptFrames, order, frames).map((source, j) => ({
            source: noise === "shuffle" && j >= promptFrames ? null : source,
            share: j < promptFrames ? 1 : old,
            led: led[j] ?? 0,
            shown: order === "forward" && j < promptFrames,
        })),
    };
}

// Settings by name, as vidrd_core/presets.py has them; null for those of the node's own.
export function preset(name, frames) {
    const own = { alpha: 4, beta: 0.4 };
    if (name === "paper") return { ...own, promptFrames: Math.min(4, frames - 1), order: "mirror", noise: "pns" };
    if (!["keep moving", "loop on purpose", "anchored"].includes(name)) return null;
    return { ...own, promptFrames: Math.max(1, Math.floor(frames / 4)), order: "forward", noise: "shuffle" };
}

const isFrom0To = (most, value) => typeof value === "number" && value >= 0 && value <= most;

function problemOf({ promptFrames, alpha, beta, order, frames, steps }) {
    if (!Number.isInteger(frames) || frames < 1) return `frames is ${frames}: it must be a whole number`;
    if (!Number.isInteger(steps) || steps < 1) return `steps is ${steps}: it must be 1 or more`;
    if (!Number.isInteger(promptFrames) || promptFrames < 0) {
        return `prompt_frames is ${promptFrames}: it must be a whole number, 0 or more`;
    }
    if (promptFrames >= frames) {
        return `prompt_frames is ${promptFrames}: it must be less than a clip's ${frames} frames`;
    }
    if (!isFrom0To(1e6, alpha)) return `alpha is ${alpha}: it must be 0 or more`;
    if (!isFrom0To(1, beta)) return `beta is ${beta}: it must be from 0 to 1`;
    if (order !== "mirror" && order !== "forward") return `order is ${order}: it must be mirror or forward`;
    return null;
}

function sources(promptFrames, order, frames) {
    const source = (j) => (order === "mirror" ? frames - 1 - j : (frames - promptFrames + j) % frames);
    return Array.from({ length: frames }, (_, j) => source(j));
}

function replayCounts(promptFrames, beta, order, steps) {
    // Rounded first, as 0.4 * 50 * (1 - 1 / 4) comes out a little above 15.
    const count = (j) => Math.ceil(Number((beta * steps * (1 - j / promptFrames)).toFixed(9)));
    return Array.from({ length: promptFrames }, (_, j) => (order === "mirror" ? count(j) : steps));
}
