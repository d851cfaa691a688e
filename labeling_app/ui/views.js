// How the outputs are shown: rendered or raw, whole or each in a window of its own, or as what differs between them.

import { difference, nearlySame } from "./diff.js";
import { h, icon, turnBody } from "./dom.js";
import { setSetting, setting } from "./settings.js";

export class Views {
  // redraw(): show the outputs anew.
  constructor(redraw) {
    this.redraw = redraw;
    this.raw = setting("raw") === "on";
    this.fit = setting("fit") === "on";
    this.diff = false;
    this.base = 0;
  }

  begin(task) {
    this.texts = task.outputs.map(({ turns }) => turns.map(({ text }) => text).join("\n\n"));
    this.base = 0;
    this.canDiff = this.texts.some((text, index) => this.texts.slice(index + 1).some((other) => nearlySame(text, other)));
    this.task = task;
  }

  toggle(name) {
    if (name === "diff" && !this.canDiff) return;
    this[name] = !this[name];
    if (name !== "diff") setSetting(name, this[name] ? "on" : "");
    this.redraw();
  }

  // The buttons above the outputs.
  toolbar() {
    const view = (name, label, shortcut, short) =>
      h("button", { type: "button", class: "rb-button rb-view", "aria-label": label, title: `${label} (${shortcut})`, "aria-pressed": String(this[name]), onclick: () => this.toggle(name) }, icon(name), h("span", {}, short));
    const against = h(
      "select",
      { class: "rb-select rb-against", "aria-label": "Compare with", onchange: () => ((this.base = Number(against.value)), this.redraw()) },
      this.task.outputs.map(({ letter }, index) => h("option", { value: index, selected: index === this.base }, `from ${letter}`)),
    );
    return h(
      "div",
      { class: "rb-views" },
      this.canDiff && view("diff", "Differences", "D", "Differences"),
      this.canDiff && this.diff && this.texts.length > 2 && against,
      view("fit", "Fit to the screen", "V", "Fit"),
      view("raw", "Raw text", "R", "Raw"),
    );
  }

  // What is in the body of a card.
  body(index, promptTurn) {
    const { turns } = this.task.outputs[index];
    const told = this.diff && this.canDiff ? this.told(index) : null;
    if (told) return told;
    return turns.map((turn) => (turns.length > 1 ? promptTurn(turn, this.raw) : turnBody(turn, this.raw)));
  }

  told(index) {
    const { letter } = this.task.outputs[this.base];
    if (index === this.base) return [h("p", { class: "rb-told" }, "The others are compared with this one."), h("div", { class: "rb-text rb-raw", dir: "auto" }, this.texts[index])];
    const steps = nearlySame(this.texts[this.base], this.texts[index]) ? difference(this.texts[this.base], this.texts[index]) : null;
    if (steps === null) return null;
    const changes = steps.filter(({ op }) => op !== "same").length;
    return [h("p", { class: "rb-told" }, changes ? `Put in and left out, compared with ${letter}:` : `The same, word for word, as ${letter}.`), differenceText(steps)];
  }
}

export function differenceText(steps) {
  const tags = { same: "span", in: "ins", out: "del" };
  return h("div", { class: "rb-text rb-raw rb-diff", dir: "auto" }, steps.map(({ op, text }) => h(tags[op], {}, text)));
}

// Above a task: the practice round, what was said before, a guideline that was changed.
export function banner(text, ...buttons) {
  return h("div", { class: "rb-banner", role: "note" }, h("p", {}, text), buttons.length ? h("div", { class: "rb-actions" }, buttons) : null);
}
