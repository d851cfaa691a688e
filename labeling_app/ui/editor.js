// The changes that a person makes to the work on one task, each of which can be undone, and what is said of them
// to a screen reader.

import { ordinal } from "./dom.js";
import { dropLast, dropOn, nextEmpty, pairValue, pairWords, setPair, steps, stops } from "./work.js";

export class Editor {
  // changed(): after every change. announce(text): for those who do not see it.
  constructor(task, work, changed, announce) {
    Object.assign(this, { task, work, changed, announce });
    this.past = [];
    this.stop = nextEmpty(task, work, null) ?? stops(task)[0];
  }

  change(kind, alter) {
    this.past.push({ kind, before: this.snapshot() });
    alter(this.work);
    this.changed();
  }

  // Typing: one step of undo until something else is changed.
  write(kind, alter) {
    if (this.past.at(-1)?.kind === kind) {
      alter(this.work);
      this.changed();
    } else this.change(kind, alter);
  }

  snapshot() {
    return JSON.stringify({ ...this.work, seconds: undefined, seq: undefined });
  }

  undo() {
    const last = this.past.pop();
    if (!last) return this.announce("Nothing to undo.");
    Object.assign(this.work, JSON.parse(last.before));
    this.changed();
    return this.announce("Undone.");
  }

  // ---- ranks ----

  setRank(index, rank) {
    this.stop = { index, field: "rank" };
    this.change("rank", (work) => (work.ranks[index] = rank));
    this.announce(this.described(index));
  }

  toggleRank(index, rank) {
    this.setRank(index, this.work.ranks[index] === rank ? null : rank);
  }

  step(index, by) {
    const count = this.work.ranks.length;
    const rank = this.work.ranks[index];
    this.setRank(index, rank === null ? (by < 0 ? 1 : count) : Math.min(count, Math.max(1, rank + by)));
  }

  drop(index, { on, where, last }) {
    this.stop = { index, field: "rank" };
    this.change("drop", (work) => {
      if (on !== undefined) work.ranks = dropOn(work.ranks, index, on, where);
      else if (last) work.ranks = dropLast(work.ranks, index);
      else work.ranks[index] = null;
    });
    this.announce(this.described(index));
  }

  described(index) {
    const rank = this.work.ranks[index];
    const name = `Output ${this.letter(index)}`;
    if (rank === null) return `${name}: not ranked.`;
    const tied = this.work.ranks.flatMap((value, other) => (value === rank && other !== index ? [this.letter(other)] : []));
    return `${name}: ${ordinal(rank)} of ${this.work.ranks.length}${tied.length ? `, tie with ${tied.join(" and ")}` : ""}.`;
  }

  letter(index) {
    return this.task.outputs[index].letter;
  }

  // ---- pairs and ratings ----

  setPair(value) {
    this.stop = { index: this.stop.index, field: "pair" };
    this.change("pair", (work) => setPair(work, value));
    this.announce(value === null ? "Not decided." : pairWords(value, this.task));
  }

  // Arrow keys: one place along the scale, from nothing to the weakest of that side.
  movePair(by) {
    const most = steps(this.task);
    const value = pairValue(this.work, this.task);
    this.setPair(value === null ? by : Math.min(most, Math.max(-most, value + by)));
  }

  // A number key or the button of a card: this side is better, pressed again: by more.
  choosePair(side) {
    const value = pairValue(this.work, this.task) ?? 0;
    this.setPair(side * Math.min(steps(this.task), value * side > 0 ? Math.abs(value) + 1 : 1));
  }

  rate(index, name, value) {
    this.stop = { index, field: `rate:${name}` };
    this.change("rate", (work) => (work.ratings[name][index] = value));
    const { label } = this.task.form.dimensions.find((one) => one.name === name);
    this.announce(`Output ${this.letter(index)}, ${label || name}: ${value ?? "not rated"}.`);
  }

  toggleRating(index, name, value) {
    this.rate(index, name, this.work.ratings[name][index] === value ? null : value);
  }

  toggleAllBad() {
    this.change("all bad", (work) => (work.allBad = !work.allBad));
    this.announce(this.work.allBad ? "All bad." : "Not all bad.");
  }

  setFlag(reason) {
    this.change("flag", (work) => (work.flag = reason));
    this.announce(reason === null ? "The flag is gone." : "Flagged.");
  }

  // ---- number keys: they fill the current field and go on to the next empty one ----

  // The stop to go to, or null where this digit means nothing.
  digit(number) {
    const { index, field } = this.stop;
    if (field === "pair") {
      if (number !== 1 && number !== 2) return null;
      this.choosePair(number === 1 ? -1 : 1);
      return this.stop;
    }
    if (field === "rank") {
      if (number < 1 || number > this.work.ranks.length) return null;
      this.setRank(index, number);
      return this.nextRank() ?? nextEmpty(this.task, this.work, this.stop) ?? this.stop;
    }
    const { name, low, high } = this.dimension();
    if (number < low || number > high) return null;
    this.rate(index, name, number);
    return nextEmpty(this.task, this.work, this.stop) ?? this.stop;
  }

  nextRank() {
    const count = this.work.ranks.length;
    const after = Array.from({ length: count - 1 }, (_, step) => (this.stop.index + step + 1) % count);
    const index = after.find((one) => this.work.ranks[one] === null);
    return index === undefined ? null : { index, field: "rank" };
  }

  dimension() {
    return this.task.form.dimensions.find(({ name }) => `rate:${name}` === this.stop.field);
  }

  takesZero() {
    return this.dimension()?.low === 0;
  }

  clear() {
    const { index, field } = this.stop;
    if (field === "pair") this.setPair(null);
    else if (field === "rank") this.setRank(index, null);
    else this.rate(index, this.dimension().name, null);
  }

  // The field before or after, within the same output.
  sideways(by) {
    const mine = stops(this.task).filter(({ index }) => index === this.stop.index);
    const at = mine.findIndex(({ field }) => field === this.stop.field);
    return mine[(at + by + mine.length) % mine.length];
  }
}
