// What a clip takes over from the one before, as vidrd_core/reuse.py has it; without a page, so that it can be tested.

// Settings are promptFrames (M), alpha, beta and order; `frames` is N, `steps` T. Gives { problem } in words, or
// { frames: [{ source, share, led, shown }] }: the old frame whose noise a frame takes over, the share of its noise's
// variance that is old, for how many of the first steps it follows the old frame, and whether it was shown already.
export function reuse({ promptFrames, alpha, beta, order, frames, steps }) {
    const problem = problemOf({ promptFrames, alpha, beta, order, frames, steps });
    if (problem) return { problem };
    const led = replayCounts(promptFrames, beta, order, steps);
    const old = alpha ** 2 / (1 + alpha ** 2); // rho^2
    return {
        frames: sources(promptFrames, order, frames).map((source, j) => ({
            source,
            share: j < promptFrames ? 1 : old,
            led: led[j] ?? 0,
            shown: order === "forward" && j < promptFrames,
        })),
    };
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
