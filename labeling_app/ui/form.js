// What is asked beside the ranks: scales on every card, the scale of a pair, a reason, a better answer.

import { h } from "./dom.js";
import { best, lastText, pairValue, pairWords, steps } from "./work.js";

// The scales of one card: {node, paint(work)}; none: null.
export function ratingRows(task, index, act) {
  if (!task.form.dimensions.length) return null;
  const { letter } = task.outputs[index];
  const rows = task.form.dimensions.map((dimension, n) => ratingRow(dimension, index, `rate-${letter}-${n}`, letter, act));
  return {
    node: h("div", { class: "rb-ratings" }, rows.map((row) => row.node)),
    paint: (work, stop) => rows.forEach((row) => row.paint(work, stop)),
  };
}

function ratingRow({ name, label, low, high, low_label: lowLabel, high_label: highLabel }, index, group, letter, act) {
  const field = `rate:${name}`;
  const inputs = Array.from({ length: high - low + 1 }, (_, step) => {
    const value = low + step;
    const end = value === low ? lowLabel : value === high ? highLabel : "";
    return h("input", { type: "radio", name: group, value, "aria-label": end ? `${value}, ${end}` : `${value}`, onclick: () => act.rate(index, name, value) });
  });
  const node = h(
    "div",
    { class: "rb-rating", "data-field": field, "data-points": inputs.length },
    h("div", { class: "rb-rating-name" }, h("span", { dir: "auto" }, label || name), h("span", { class: "rb-ends" }, [lowLabel && `${low} ${lowLabel}`, highLabel && `${high} ${highLabel}`].filter(Boolean).join(" · "))),
    h("div", { class: "rb-points", role: "radiogroup", "aria-label": `${label || name} of output ${letter}, ${low} to ${high}` }, inputs.map((input) => h("label", { class: "rb-choice" }, input, h("span", { "aria-hidden": "true" }, input.value)))),
  );
  return {
    node,
    paint: (work, stop) => {
      const value = work.ratings[name][index];
      inputs.forEach((input) => (input.checked = Number(input.value) === value));
      node.dataset.now = stop.index === index && stop.field === field;
      node.dataset.set = value !== null;
    },
  };
}

// A much better … tie … B much better, in the dock.
export function pairScale(task, act) {
  const most = steps(task);
  const values = Array.from({ length: 2 * most + 1 }, (_, step) => step - most);
  const said = h("p", { class: "rb-said" });
  const inputs = values.map((value) => h("input", { type: "radio", name: "pair", value, "aria-label": pairWords(value, task), onclick: () => act.pair(value) }));
  const short = (value) => (value === 0 ? ["="] : [h("b", {}, task.outputs[value < 0 ? 0 : 1].letter), most > 1 && h("b", {}, "+".repeat(Math.abs(value)))]);
  const cells = inputs.map((input, n) => {
    const side = values[n] < 0 ? "a" : values[n] > 0 ? "b" : "tie";
    return h("label", { class: "rb-choice", "data-side": side }, input, h("span", { "aria-hidden": "true" }, h("span", { class: "rb-long" }, pairWords(values[n], task)), h("span", { class: "rb-short" }, short(values[n]))));
  });
  return {
    node: h("div", { class: "rb-pair" }, said, h("div", { class: "rb-scale", role: "radiogroup", "aria-label": "Which is better" }, cells)),
    paint: (work, stop) => {
      const value = pairValue(work, task);
      inputs.forEach((input, n) => (input.checked = values[n] === value));
      said.textContent = value === null ? (work.allBad ? "Both bad" : "Which is better?") : pairWords(value, task);
      said.dataset.set = value !== null;
      said.parentNode.dataset.now = stop.field === "pair";
    },
  };
}

// The reason and the better answer, below the cards: {node, paint(work)}.
export function extras(task, act) {
  const parts = [task.form.rationale === "no" ? null : rationale(task, act), task.form.rewrite ? rewrite(task, act) : null].filter(Boolean);
  return {
    node: parts.length ? h("section", { class: "rb-extras", "aria-label": "In your words" }, parts.map((part) => part.node)) : null,
    paint: (work) => parts.forEach((part) => part.paint(work)),
  };
}

function rationale(task, act) {
  const required = task.form.rationale === "required";
  const area = h("textarea", { id: "rb-why", class: "rb-area", rows: 3, dir: "auto", maxlength: 20000, "aria-required": String(required), placeholder: "What decided it?", oninput: () => act.write("rationale", (work) => (work.rationale = area.value)) });
  const node = h("div", { class: "rb-extra", "data-field": "rationale" }, h("label", { for: "rb-why" }, "Why? ", h("span", { class: "rb-soft" }, required ? "(needed)" : "(if you like)")), area);
  return { node, paint: (work) => setValue(area, work.rationale) };
}

function rewrite(task, act) {
  const from = h(
    "select",
    { id: "rb-from", class: "rb-select", onchange: () => act.change("rewrite from", (work) => (work.rewrite = { from: Number(from.value), text: null })) },
    h("option", { value: "", hidden: true }, "choose an output"),
    task.outputs.map(({ letter }, index) => h("option", { value: index }, `output ${letter}`)),
  );
  const area = h("textarea", { id: "rb-better", class: "rb-area", rows: 8, dir: "auto", maxlength: 200000, "aria-label": "A better answer" });
  const note = h("p", { class: "rb-soft" });
  const node = h(
    "details",
    { class: "rb-extra rb-rewrite" },
    h("summary", {}, "Write a better answer ", h("span", { class: "rb-soft" }, "(if you like)")),
    h("div", { class: "rb-from" }, h("label", { for: "rb-from" }, "Start from"), from),
    area,
    note,
  );
  area.addEventListener("input", () =>
    act.write("rewrite", (work) => {
      const start = startOf(work);
      work.rewrite = area.value === lastText(task, start) ? { from: work.rewrite.from, text: null } : { from: start, text: area.value };
    }),
  );
  const startOf = (work) => work.rewrite.from ?? best(work.ranks);
  return {
    node,
    paint: (work) => {
      const start = startOf(work);
      from.value = start === null ? "" : String(start);
      area.disabled = start === null;
      setValue(area, work.rewrite.text ?? lastText(task, start));
      if (work.rewrite.text !== null) node.open = true;
      node.dataset.kept = work.rewrite.text !== null;
      note.textContent = start === null ? "It starts from the best output, once there is one." : work.rewrite.text === null ? "Unchanged: nothing is sent." : "Your version is sent with your judgment.";
    },
  };
}

// Setting an equal value would move the cursor of whoever is typing.
function setValue(area, text) {
  if (area.value !== text.replace(/\r\n?/g, "\n")) area.value = text;
}
