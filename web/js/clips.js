// The clips that the fields of Long Video describe, and the fields of changed clips. It needs no page, so it can be tested
// alone. The fields are those of nodes/long_video.py: `prompts` (a line is a clip), `clips`, and for single clips `seed`,
// `cfg` and `alpha`, separated by commas. Seeds stay texts: numbers of JavaScript lose digits from 2^53 on.

export const MAX_CLIPS = 500;
export const LISTS = ["seed", "cfg", "alpha"];
const MOST = { seed: 2n ** 64n - 1n, cfg: 100, alpha: 1000 };
const LINES = /\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/; // as Python's splitlines
const COMMENTS = /\/\*[\s\S]*?\*\/|\/\/.*/g; // which the page removes, before it chooses one of {a|b}

const EDGES = /^(?:[^\S\ufeff]|\x1f)+|(?:[^\S\ufeff]|\x1f)+$/g;

const strip = (text) => text.replace(EDGES, ""); // as Python's
const hasPrompt = (line) => strip(line.replace(COMMENTS, "")) !== "";

// What a line opens and does not close: "{" or "/*"; "" for neither.
function openIn(line) {
    const bare = line.replace(COMMENTS, "");
    let depth = 0;
    for (const letter of bare.replace(/\\[^]/g, "")) depth = letter === "{" ? depth + 1 : Math.max(0, depth - (letter === "}"));
    return bare.includes("/*") ? "/*" : depth ? "{" : "";
}

// Whether a comment or a choice goes over several lines, or would with one more line, so that a line is not a clip.
export function spansLines(text) {
    return Boolean(text.match(COMMENTS)?.some((comment) => LINES.test(comment))) || text.split(LINES).some(openIn);
}

const entriesOf = (text) => (text.trim() ? text.replaceAll("\n", ",").split(",").map((entry) => entry.trim()) : []);

function withoutLastEmpty(entries) {
    let count = entries.length;
    while (count && !entries[count - 1]) count--;
    return entries.slice(0, count);
}

// `prompts` and `clips` are null where another node makes them; `count` is how many clips the last run had. Of each row,
// `isOwn` says whether it has a line of its own: the last line goes on for the others. `before` are blank lines and
// comments above it. `isPlain`: prompts in which the page leaves comments and choices.
export function clipsOf({ prompts, clips, seed, cfg, alpha, count = 0, isPlain = false }) {
    const given = { prompts, clips, seed, cfg, alpha };
    const rows = [], lists = Object.fromEntries(LISTS.map((name) => [name, entriesOf(given[name])]));
    let before = [];
    for (const line of prompts === null || !prompts ? [] : prompts.split(LINES)) {
        const text = strip(line), isClip = isPlain ? text !== "" : hasPrompt(line);
        if (isClip) rows.push({ text, line, before, isOwn: true });
        if (isClip) before = [];
        else before.push(line);
    }
    const lines = rows.length;
    const longest = prompts === null || clips === null ? Math.max(count, ...LISTS.map((name) => lists[name].length)) : 0;
    const wanted = Math.max(clips || longest, 1);
    while (rows.length < wanted) {
        rows.push({ text: rows.at(-1)?.text ?? "", line: "", before: [], isOwn: prompts !== null && !rows.length });
    }
    for (const name of LISTS) rows.forEach((row, k) => { row[name] = lists[name][k] ?? ""; });
    return { given, rows, after: before, lines, lists };
}

// The fields; those that say the same as before are as before.
export function fieldsOf({ given, rows, after, lists }) {
    const fields = { ...given };
    for (const name of LISTS) {
        const values = withoutLastEmpty(rows.map((row) => row[name]));
        const isSame = values.join() === withoutLastEmpty(lists[name]).join() && lists[name].length <= rows.length;
        if (!isSame) fields[name] = values.join();
    }
    if (given.prompts === null) return fields;
    const own = rows.filter((row) => row.isOwn && row.text);
    if (!own.length) return fields;
    const written = own.flatMap(({ before, line, text }) => [...before, strip(line) === text ? line : text]);
    written.push(...after);
    if (written.join("\n") !== given.prompts.split(LINES).join("\n")) fields.prompts = written.join("\n");
    fields.clips = given.clips || own.length < rows.length ? rows.length : 0;
    return fields;
}

// Whether the page can make `told` of a text, in which it removes comments and chooses one of {a|b}.
function canBecome(text, told) {
    const bare = text.replace(COMMENTS, ""), isEdge = (place) => place === 0 || place === told.length;
    let at = 0;
    const read = (starts, isChoice) => { // the places of `told` to which it can come from these
        const ends = new Set();
        let places = starts;
        while (at < bare.length) {
            let letter = bare[at++];
            if (letter === "{") {
                places = read(places, true);
                continue;
            }
            if (isChoice && letter === "}") break;
            if (isChoice && letter === "|") {
                places.forEach((place) => ends.add(place));
                places = starts;
                continue;
            }
            if (letter === "\\" && "{}|".includes(bare[at])) letter = bare[at++];
            const next = new Set();
            for (const place of places) {
                if (told[place] === letter) next.add(place + 1);
                if (!strip(letter) && isEdge(place)) next.add(place); // the node strips it
            }
            places = next;
        }
        places.forEach((place) => ends.add(place));
        return ends;
    };
    return read(new Set([0]), false).has(told.length);
}

const says = (row, { text, seed }, hasSeeds) => (!hasSeeds || row.seed === seed)
    && (row.text === text || canBecome(row.text, text));

// For each row the picture of a clip that it still describes, the one in its place before others; one of which the prompt is
// not known stays in its place, and so do all where the rows' are not.
export function picturesOf({ given, rows }, pictures, hasSeeds = true) {
    const isKnown = given.prompts !== null, left = new Set(pictures);
    const found = rows.map((row, k) => {
        const picture = pictures[k];
        const isOf = picture && (!isKnown || picture.text === null || says(row, picture, hasSeeds));
        return isOf && left.delete(picture) ? picture : undefined;
    });
    if (!isKnown) return found;
    const others = [...left].filter((each) => each && each.text !== null);
    return rows.map((row, k) => {
        const at = found[k] ? -1 : others.findIndex((each) => says(row, each, hasSeeds));
        return at < 0 ? found[k] : others.splice(at, 1)[0];
    });
}

// Changes of rows.

// Rows have a line up to the last one that differs from the one before it.
function settle({ rows }) {
    let last = rows.length - 1;
    while (last > 0 && !rows[last].isOwn && rows[last].text === rows[last - 1].text) last--;
    rows.forEach((row, k) => { row.isOwn = k <= last; });
}

const goOn = (rows, k) => {
    for (let next = k + 1; next < rows.length && !rows[next].isOwn; next++) rows[next].text = rows[k].text;
};

// An empty prompt goes on with the one before.
export function setPrompt(clips, k, text) {
    const { rows } = clips, isBetween = rows[k].isOwn && Boolean(rows[k + 1]?.isOwn);
    const told = strip(text.split(LINES).join(" "));
    rows[k].isOwn = told !== "" || isBetween;
    rows[k].text = told || rows[k - 1].text;
    goOn(rows, k);
    settle(clips);
}

export function addAfter(clips, k) {
    const { rows } = clips, { text, isOwn } = rows[k];
    const empty = Object.fromEntries(LISTS.map((name) => [name, ""]));
    rows.splice(k + 1, 0, { text, line: "", before: [], isOwn, ...empty });
    settle(clips);
}

export function remove(clips, k) {
    const { rows } = clips, [{ before }] = rows.splice(k, 1);
    if (rows[k]?.isOwn) rows[k].before.unshift(...before);
    else clips.after.unshift(...before);
    settle(clips);
}

// Change places with the row below.
export function swap(clips, k) {
    const { rows } = clips, [upper, lower] = [rows[k], rows[k + 1]];
    [rows[k], rows[k + 1]] = [lower, upper];
    [upper.isOwn, lower.isOwn] = [lower.isOwn, upper.isOwn];
    settle(clips);
}

// Python's numbers may have full-width digits, and _ between digits.
const plainNumber = (text) => text.replace(/[\uff10-\uff19]/g, (digit) => digit.charCodeAt(0) - 0xff10)
    .replace(/(\d)_(?=\d)/g, "$1");

// What is wrong with a value that is to be written, in words; null if nothing is.
export function problemOf(name, text, k = 0) {
    if (name === "prompt") {
        if (!text.trim()) return k ? null : ["The first clip needs a prompt."];
        const sign = openIn(text);
        if (sign) return ["Close the {sign}: until then the node has the text from before.", { sign }];
        return hasPrompt(text) ? null : ["This is only a comment: write a prompt."];
    }
    const value = text.trim(), most = MOST[name], number = plainNumber(value);
    const isNumber = name === "seed" ? /^\+?\d+$/ : /^\+?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
    if (!value) return null;
    if (isNumber.test(number) && (name === "seed" ? BigInt(number.replace("+", "")) : Number(number)) <= most) return null;
    const told = name === "seed" ? "{name} is {value}: expected a whole number from 0 to {most}."
        : "{name} is {value}: expected a number from 0 to {most}.";
    return [told, { name, value, most }];
}

// What the node would refuse of the fields as they are, in words.
export function problemsOf({ given, rows, lines, lists }) {
    const { prompts, clips } = given, told = [], count = rows.length;
    if (prompts !== null && clips && clips < lines) {
        told.push(["clips is {clips}, but there are {lines} prompts: the next change here sets it right.", { clips, lines }]);
    }
    if (count > MAX_CLIPS) {
        told.push(["There are {count} clips, but a run makes {most} at most.", { count, most: MAX_CLIPS }]);
    }
    for (const name of LISTS) {
        const entries = lists[name].length;
        if (entries <= count) continue;
        told.push(["{name}_per_clip has {entries} entries for {count} clips: the next change here takes the rest out.",
            { name, entries, count }]);
    }
    return told;
}
