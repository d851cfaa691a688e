// What differs between two texts, word by word: Myers, "An O(ND) difference algorithm and its variations" (1986).

const MOST = 800; // words put in or left out; texts further apart are not "nearly the same"
const NEAR = 0.6; // share of words in common from which a comparison word by word says something

// Words, spaces and signs, in the languages that write without spaces too; joined they are the text again.
function segments(text) {
  return [...new Intl.Segmenter(undefined, { granularity: "word" }).segment(text)];
}

function pieces(text) {
  return segments(text).map(({ segment }) => segment);
}

// The share of words that both have, however they are ordered: 0 to 1.
export function similarity(a, b) {
  const counts = new Map();
  const [one, two] = [a, b].map((text) => segments(text).filter(({ isWordLike }) => isWordLike).map(({ segment }) => segment));
  for (const word of one) counts.set(word, (counts.get(word) ?? 0) + 1);
  let common = 0;
  for (const word of two) {
    const left = counts.get(word) ?? 0;
    if (left) common += 1;
    counts.set(word, left - 1);
  }
  return one.length + two.length ? (2 * common) / (one.length + two.length) : Number(a === b);
}

export function nearlySame(a, b) {
  return similarity(a, b) >= NEAR;
}

// [{op: "same" | "out" | "in", text}]: leave out what is "out" and put in what is "in", and `a` becomes `b`.
// null where more than MOST words differ.
export function difference(a, b) {
  const [one, two] = [pieces(a), pieces(b)];
  let start = 0;
  while (start < one.length && start < two.length && one[start] === two[start]) start += 1;
  let end = 0;
  while (end < Math.min(one.length, two.length) - start && one.at(-1 - end) === two.at(-1 - end)) end += 1;
  const steps = shortest(one.slice(start, one.length - end), two.slice(start, two.length - end));
  if (steps === null) return null;
  const same = (words) => words.map((text) => ({ op: "same", text }));
  return joined([...same(one.slice(0, start)), ...steps, ...same(one.slice(one.length - end))]);
}

function shortest(a, b) {
  const most = Math.min(MOST, a.length + b.length);
  const reach = new Int32Array(2 * most + 3); // by diagonal k = x - y: the largest x after d changes
  const trace = [];
  for (let d = 0; d <= most; d += 1) {
    trace.push(reach.slice(most - d, most + d + 3));
    for (let k = -d; k <= d; k += 2) {
      const at = most + 1 + k;
      let x = k === -d || (k !== d && reach[at - 1] < reach[at + 1]) ? reach[at + 1] : reach[at - 1] + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x += 1;
      reach[at] = x;
      if (x >= a.length && x - k >= b.length) return walkBack(a, b, trace);
    }
  }
  return null;
}

function walkBack(a, b, trace) {
  const steps = [];
  let [x, y] = [a.length, b.length];
  for (let d = trace.length - 1; d >= 0; d -= 1) {
    const k = x - y;
    const reach = (diagonal) => trace[d][diagonal + d + 1];
    const down = k === -d || (k !== d && reach(k - 1) < reach(k + 1));
    const from = d === 0 ? 0 : down ? reach(k + 1) : reach(k - 1) + 1;
    while (x > from) steps.push({ op: "same", text: a[(x -= 1)] }), (y -= 1);
    if (d === 0) break;
    if (down) steps.push({ op: "in", text: b[(y -= 1)] });
    else steps.push({ op: "out", text: a[(x -= 1)] });
  }
  return steps.reverse();
}

// Neighbours together, what is left out before what is put in. A space between two changes belongs to them.
function joined(steps) {
  const result = [];
  let [out, put] = ["", ""];
  const flush = () => {
    if (out) result.push({ op: "out", text: out });
    if (put) result.push({ op: "in", text: put });
    [out, put] = ["", ""];
  };
  steps.forEach(({ op, text }, n) => {
    if (op === "out") out += text;
    else if (op === "in") put += text;
    else if (out && put && !text.trim() && steps[n + 1] && steps[n + 1].op !== "same") [out, put] = [out + text, put + text];
    else {
      flush();
      if (result.at(-1)?.op === "same") result.at(-1).text += text;
      else result.push({ op, text });
    }
  });
  flush();
  return result;
}
