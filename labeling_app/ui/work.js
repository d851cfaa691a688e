// What a person has said about a task so far, as plain data: how it starts, changes, is kept and is sent.
// Lists are in the order of the screen. ranks: 1 is best, equal is a tie, null is not ranked.

export function blank(task) {
  const count = task.outputs.length;
  const ratings = Object.fromEntries(task.form.dimensions.map(({ name }) => [name, Array(count).fill(null)]));
  return { ranks: Array(count).fill(null), allBad: false, strength: null, ratings, rationale: "", rewrite: { from: null, text: null }, flag: null, seconds: 0, seq: 0 };
}

// The work that a draft or a judgment holds; what does not fit the task is left out.
export function restored(task, saved, seq = 0) {
  const work = blank(task);
  const count = task.outputs.length;
  const fits = (list) => Array.isArray(list) && list.length === count && list.every((value) => value === null || Number.isInteger(value));
  if (fits(saved.ranks) && saved.ranks.every((rank) => rank === null || (rank >= 1 && rank <= count))) work.ranks = [...saved.ranks];
  work.allBad = saved.all_bad === true;
  if (saved.strength >= 1 && saved.strength <= task.form.strength) work.strength = saved.strength;
  for (const { name, low, high } of task.form.dimensions) {
    const values = saved.ratings?.[name];
    if (fits(values)) work.ratings[name] = values.map((value) => (value !== null && value >= low && value <= high ? value : null));
  }
  if (typeof saved.rationale === "string") work.rationale = saved.rationale;
  const rewrite = saved.edited_text;
  if (task.form.rewrite && rewrite && rewrite.output < count && typeof rewrite.text === "string") work.rewrite = { from: rewrite.output, text: rewrite.text };
  if (typeof saved.flag === "string") work.flag = saved.flag;
  work.seconds = Number(saved.seconds) || 0;
  work.seq = seq;
  return work;
}

// As drafts hold it and judgments send it.
export function payload(work, task) {
  const { ranks, allBad, strength, ratings, rationale, rewrite, flag, seconds } = work;
  const { from, text } = rewrite;
  const rewritten = text !== null && text.trim() && text !== lastText(task, from);
  return {
    ranks,
    all_bad: allBad,
    strength: task.asks === "pair" && task.form.strength && ranks[0] !== ranks[1] ? strength : null,
    ratings,
    rationale: wellFormed(rationale),
    edited_text: rewritten ? { output: from, text: wellFormed(text) } : null,
    flag: flag && wellFormed(flag),
    seconds,
  };
}

// Half of a character pair, which a key press or a cut may leave behind, is no text that can be sent.
function wellFormed(text) {
  return text.toWellFormed ? text.toWellFormed() : text;
}

export function touched(work) {
  const { ranks, allBad, ratings, rationale, rewrite, flag } = work;
  return allBad || Boolean(rationale || flag) || rewrite.text !== null || [ranks, ...Object.values(ratings)].flat().some((value) => value !== null);
}

// The reply that a rewrite of this output starts from.
export function lastText(task, index) {
  return index === null ? "" : (task.outputs[index].turns.at(-1)?.text ?? "");
}

// The best output: the one that a rewrite starts from, if the annotator chose no other.
export function best(ranks) {
  const ranked = ranks.filter((rank) => rank !== null);
  return ranked.length ? ranks.indexOf(Math.min(...ranked)) : null;
}

// ---- fields: the places where a digit goes, in the order in which they are filled ----

// "rank", "pair" or the name of a dimension. Outputs are rated one by one, then compared.
export function stops(task) {
  const indices = task.outputs.map((_, index) => index);
  const rated = indices.flatMap((index) => task.form.dimensions.map(({ name }) => ({ index, field: `rate:${name}` })));
  if (task.asks === "pair") return [...rated, { index: 0, field: "pair" }];
  return [...rated, ...indices.map((index) => ({ index, field: "rank" }))];
}

function isEmpty(work, { index, field }) {
  return (field.startsWith("rate:") ? work.ratings[field.slice(5)] : work.ranks)[index] === null;
}

// The first stop after `stop` that still has to be filled, or null.
export function nextEmpty(task, work, stop) {
  const all = stops(task);
  const start = stop ? all.findIndex(({ index, field }) => index === stop.index && field === stop.field) : -1;
  const wanted = all.map((_, step) => all[(start + 1 + step) % all.length]);
  return wanted.find((one) => !(one.field === "rank" && task.asks === "ratings") && isEmpty(work, one)) ?? null;
}

// What is missing before this can be sent: {text, stop}, or null.
export function missing(task, work) {
  const letters = (values) => task.outputs.filter((_, index) => values[index] === null).map(({ letter }) => letter).join(", ");
  const { ranks, allBad } = work;
  const need = (text, index, field) => ({ text, stop: { index, field } });
  if (!allBad) {
    for (const { name, label } of task.form.dimensions) {
      const values = work.ratings[name];
      if (values.includes(null)) return need(`Rate ${letters(values)} first: ${label || name}.`, values.indexOf(null), `rate:${name}`);
    }
    const gap = ranks.indexOf(null);
    if (task.asks === "pair" && gap >= 0) return need("Say which one is better first.", 0, "pair");
    if (task.asks === "ranking" && gap >= 0) return need(`Rank ${letters(ranks)} first.`, gap, "rank");
    if (task.asks === "ratings" && gap >= 0 && ranks.some((rank) => rank !== null)) return need(`Rank ${letters(ranks)} too, or take the ranks away.`, gap, "rank");
  }
  if (task.form.rationale === "required" && !work.rationale.trim()) return need("Say why first: this project asks for a reason.", 0, "rationale");
  return null;
}

// ---- changes of ranks ----

// [{rank, members}], best first.
export function levels(ranks) {
  const found = new Map();
  ranks.forEach((rank, index) => rank !== null && found.set(rank, [...(found.get(rank) ?? []), index]));
  return [...found].sort(([a], [b]) => a - b).map(([rank, members]) => ({ rank, members }));
}

// `index` dropped on `other`: "tie", "before" (better than it) or "after". Others give way as little as they can.
export function dropOn(ranks, index, other, where) {
  const result = [...ranks];
  result[index] = null;
  const order = levels(result);
  if (result[other] === null) order.push({ rank: (order.at(-1)?.rank ?? 0) + 1, members: [other] });
  const at = order.findIndex(({ members }) => members.includes(other));
  if (where === "tie") order[at].members.push(index);
  else order.splice(where === "before" ? at : at + 1, 0, { rank: 0, members: [index] });
  return spread(order, ranks.length);
}

// `index` after everything that has a rank.
export function dropLast(ranks, index) {
  const result = [...ranks];
  result[index] = null;
  return spread([...levels(result), { rank: 0, members: [index] }], ranks.length);
}

function spread(order, count) {
  let low = 0;
  for (const level of order) low = level.rank = Math.max(level.rank, low + 1);
  let high = count + 1;
  for (const level of [...order].reverse()) high = level.rank = Math.min(level.rank, high - 1);
  const ranks = Array(count).fill(null);
  for (const { rank, members } of order) for (const index of members) ranks[index] = rank;
  return ranks;
}

// ---- pairs: a scale from -steps (A is best) over 0 (a tie) to +steps ----

export function steps(task) {
  return task.form.strength || 1;
}

export function pairValue(work, task) {
  const [a, b] = work.ranks;
  if (a === null || b === null) return null;
  return Math.sign(a - b) * (task.form.strength ? (work.strength ?? 1) : 1);
}

export function setPair(work, value) {
  work.ranks = value === null ? [null, null] : value === 0 ? [1, 1] : value < 0 ? [1, 2] : [2, 1];
  work.strength = value ? Math.abs(value) : null;
}

const DEGREES = { 1: ["better"], 2: ["slightly better", "much better"], 3: ["slightly better", "better", "much better"] };

export function pairWords(value, task) {
  if (value === 0) return "Tie";
  return `${task.outputs[value < 0 ? 0 : 1].letter} ${DEGREES[steps(task)][Math.abs(value) - 1]}`;
}
