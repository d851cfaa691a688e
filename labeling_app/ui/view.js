// What the page looks like: the header, a task with its cards, the pages without a task.
// Nothing here knows of the server; `act` holds what buttons do.

import { h, icon, key, ordinal, turnBody } from "./dom.js";
import { extras, pairScale, ratingRows } from "./form.js";
import { levels, missing } from "./work.js";

const ROLES = { user: "User", assistant: "Assistant", system: "System", developer: "System", tool: "Tool" };

export function header(act) {
  const tool = (name, label, short, shortcut, action) =>
    h("button", { type: "button", class: `rb-tool rb-tool-${name}`, "aria-label": label, title: shortcut ? `${label} (${shortcut})` : label, onclick: action }, icon(name), h("span", { class: "rb-tool-name" }, short));
  const parts = {
    project: h("span", { class: "rb-project", dir: "auto" }),
    count: h("span", { class: "rb-count" }),
    bar: h("span", {}),
    status: h("p", { class: "rb-status", role: "status" }),
    live: h("p", { class: "rb-hidden", "aria-live": "polite" }), // moves, for screen readers
    guide: tool("book", "Guideline", "Guideline", "G", act.guide),
    history: tool("past", "History: your judgments", "History", "H", act.history),
    account: tool("person", "Account", "Account", "", act.account),
  };
  parts.track = h("span", { class: "rb-track", "aria-hidden": "true" }, parts.bar);
  parts.node = h(
    "header",
    { class: "rb-header" },
    h("span", { class: "rb-brand" }, icon("brand")),
    h("div", { class: "rb-where" }, parts.project, h("div", { class: "rb-progress" }, parts.track, parts.count)),
    parts.status,
    parts.live,
    h("div", { class: "rb-tools" }, parts.guide, parts.history, tool("keys", "Keys: keyboard help", "Keys", "?", act.help), parts.account),
  );
  return parts;
}

// banners: what is said above the task; editing: it was judged already.
export function taskView(task, views, act, banners, editing) {
  const pair = task.asks === "pair";
  const parts = { pair: pair ? pairScale(task, act) : null, extras: extras(task, act) };
  parts.cards = task.outputs.map((output, index) => card(task, index, views, act));
  parts.grid = h("div", { class: "rb-cards", "data-count": parts.cards.length, "data-fit": String(views.fit) }, parts.cards.map((one) => one.node));
  parts.node = h(
    "div", // Gradio's shell is the page's <main>
    { class: "rb-main" },
    banners,
    h("h1", { class: "rb-hidden" }, pair ? "Compare 2 outputs" : `${task.asks === "ratings" ? "Rate" : "Rank"} ${parts.cards.length} outputs`),
    h("section", { class: "rb-prompt", "aria-label": "Prompt" }, task.turns.map((turn) => promptTurn(turn, views.raw, task.turns.length === 1 ? "Prompt" : undefined))),
    h("div", { class: "rb-above" }, hint(task), views.toolbar()),
    parts.grid,
    parts.extras.node,
  );
  dock(parts, task, act, editing);
  return parts;
}

function hint(task) {
  const keys = (...rest) => h("span", { class: "rb-hint-keys" }, ...rest, key("?"), " all keys");
  const count = task.outputs.length;
  if (task.asks === "pair") return h("p", { class: "rb-hint" }, "Say which one is better. ", keys(key("1"), " A, ", key("2"), " B, ", key("←"), key("→"), " by how much, ", key("T"), " tie, "));
  if (task.asks === "ratings") return h("p", { class: "rb-hint" }, "Rate every output on every scale; ranks are optional. ", keys("Digits rate the marked scale, ", key("↑"), key("↓"), " move, "));
  return h("p", { class: "rb-hint" }, "Rank every output: 1 is best, equal numbers are a tie. Or drag by the letter. ", keys(key(`1–${count}`), " rank, ", key("↑"), key("↓"), " move, "));
}

function dock(parts, task, act, editing) {
  const pair = task.asks === "pair";
  const small = (name, label, shortcut, action) => h("button", { type: "button", class: "rb-button rb-small", "aria-label": label, title: `${label} (${shortcut})`, onclick: action }, icon(name));
  parts.strip = h("div", { class: "rb-strip", role: "group", "aria-label": "Outputs, best first" });
  parts.allBad = h("button", { type: "button", class: "rb-button rb-allbad", "aria-pressed": "false", onclick: act.allBad }, pair ? "Both bad" : "All bad", key("X"));
  parts.undo = small("undo", "Undo", "Ctrl Z", act.undo);
  parts.flag = small("flag", "Flag", "F", act.flag);
  parts.skip = editing ? null : h("button", { type: "button", class: "rb-button", onclick: act.skip }, "Skip", key("S"));
  parts.submit = h("button", { type: "button", class: "rb-button rb-submit", onclick: act.submit }, editing ? "Submit change" : "Submit", key("Enter"));
  const actions = h("div", { class: "rb-actions" }, parts.undo, parts.flag, task.asks === "ratings" ? null : parts.allBad, parts.skip, parts.submit);
  const said = pair ? parts.pair.node : parts.strip;
  parts.dock = h("div", { class: "rb-dock", role: "region", "aria-label": pair ? "Your choice" : "Your ranking" }, h("div", { class: "rb-dock-in" }, said, actions));
}

// version(n) shows an older version in place of the text.
export function guideView(task, act) {
  const { version, older, html } = task.guideline;
  const text = h("div", { class: "rb-text rb-rendered", dir: "auto", html });
  const choice = older.length
    ? h("select", { class: "rb-select rb-version", "aria-label": "Version of the guideline", onchange: () => act.guideVersion(Number(choice.value), text) }, [version, ...older].map((one) => h("option", { value: one }, one === version ? `v${one}, in force` : `v${one}`)))
    : h("span", { class: "rb-version" }, `v${version}`);
  return h(
    "aside",
    { class: "rb-guide", "aria-label": "Guideline" },
    h("div", { class: "rb-guide-head" }, h("h2", {}, "Guideline"), choice, h("button", { type: "button", class: "rb-button rb-quiet", onclick: act.guide }, "Hide")),
    text,
  );
}

function promptTurn(turn, raw, name = ROLES[turn.role] ?? turn.role) {
  return h("div", { class: `rb-turn rb-${turn.role}` }, h("div", { class: "rb-role" }, name), turnBody(turn, raw));
}

function card(task, index, views, act) {
  const output = task.outputs[index];
  const count = task.outputs.length;
  const { letter } = output;
  const pair = task.asks === "pair";
  const parts = { letter, place: h("span", { class: "rb-place" }), inputs: [], ratings: ratingRows(task, index, act) };
  const choices = Array.from({ length: count }, (_, position) => {
    const rank = position + 1;
    const note = rank === 1 ? ", best" : rank === count ? ", worst" : "";
    const input = h("input", { type: "radio", name: `rank-${letter}`, value: rank, "aria-label": `${rank}${note}`, onclick: () => act.rank(index, rank) });
    parts.inputs.push(input);
    return h("label", { class: "rb-choice" }, input, h("span", { "aria-hidden": "true" }, rank));
  });
  parts.handle = h("span", { class: "rb-handle", "aria-hidden": "true", title: pair ? null : "Drag to rank" }, pair ? null : icon("grip"), h("span", { class: "rb-letter" }, letter));
  const step = (name, label, by) => h("button", { type: "button", class: "rb-step", "aria-label": `${label}: output ${letter}`, title: label, onclick: () => act.step(index, by) }, icon(name));
  parts.ranks = h("div", { class: "rb-ranks", role: "radiogroup", "aria-label": `Rank of output ${letter}, 1 is best`, "data-field": "rank" }, choices);
  parts.node = h(
    "article",
    { class: "rb-card", tabindex: "-1", "aria-label": `Output ${letter}`, onfocusin: (event) => act.focus(index, event.target), onpointerdown: (event) => act.focus(index, event.target) },
    h("div", { class: "rb-card-head" }, parts.handle, parts.place, pair ? choice(index, letter, act) : h("div", { class: "rb-order" }, h("div", { class: "rb-steps" }, step("up", "Better", -1), step("down", "Worse", 1)), parts.ranks)),
    h("div", { class: "rb-body", ...(views.fit ? { tabindex: "0", role: "region", "aria-label": `Text of output ${letter}` } : {}) }, views.body(index, promptTurn)),
    parts.ratings?.node,
  );
  return parts;
}

function choice(index, letter, act) {
  return h("button", { type: "button", class: "rb-button rb-better", "aria-label": `${letter} is better`, onclick: () => act.choose(index) }, "Better", key(`${index + 1}`));
}

// Show what the editor holds, on the cards and in the dock.
export function paint(parts, { task, work, stop, past }, act) {
  const order = levels(work.ranks);
  const pair = task.asks === "pair";
  parts.cards.forEach((one, index) => {
    const rank = work.ranks[index];
    const tie = order.some((level) => level.rank === rank && level.members.length > 1);
    one.inputs.forEach((input) => (input.checked = Number(input.value) === rank));
    one.place.textContent = pair ? pairPlace(work.ranks, index) : rank === null ? (task.asks === "ratings" ? "" : "not ranked") : `${ordinal(rank)}${tie ? ", tie" : ""}`;
    one.node.dataset.ranked = pair ? one.place.textContent === "better" : rank !== null;
    one.node.dataset.current = index === stop.index;
    one.ranks.dataset.now = task.form.dimensions.length > 0 && index === stop.index && stop.field === "rank";
    one.node.setAttribute("aria-label", [`Output ${one.letter}`, one.place.textContent].filter(Boolean).join(", "));
    one.ratings?.paint(work, stop);
  });
  parts.pair?.paint(work, stop);
  parts.extras.paint(work);
  parts.submit.dataset.complete = missing(task, work) === null; // never disabled: it says what is missing
  parts.allBad.setAttribute("aria-pressed", String(work.allBad));
  parts.grid.dataset.allbad = work.allBad;
  parts.undo.dataset.empty = past.length === 0;
  parts.flag.setAttribute("aria-pressed", String(work.flag !== null));
  if (!pair) parts.strip.replaceChildren(...strip(parts.cards, work, order, act, task.asks === "ratings"));
}

function pairPlace([a, b], index) {
  if (a === null || b === null) return "";
  return a === b ? "tie" : (index === 0) === a < b ? "better" : "";
}

function strip(cards, work, order, act, optional) {
  const chip = (index, loose) => {
    const node = h("button", { type: "button", class: "rb-chip", "data-index": index, "data-loose": loose, "aria-label": `Go to output ${cards[index].letter}${loose ? ", not ranked" : ""}`, onclick: () => act.go(index) }, cards[index].letter);
    act.drag(node, index);
    return node;
  };
  const nodes = order.map(({ members }, level) => [
    level ? h("span", { class: "rb-than", "aria-label": "better than", role: "img" }, "›") : null,
    h("span", { class: "rb-level" }, members.map((index, n) => [n ? h("span", { class: "rb-same" }, "=") : null, chip(index, false)]).flat()),
  ]);
  const loose = work.ranks.flatMap((value, index) => (value === null ? [index] : []));
  if (loose.length) nodes.push(h("span", { class: "rb-loose" }, h("span", { class: "rb-label" }, work.allBad ? "" : order.length ? "left:" : optional ? "to rank, if you like:" : "to rank:"), loose.map((index) => chip(index, true))));
  return nodes.flat().filter(Boolean);
}

export function messageView(title, lines, buttons) {
  return h(
    "div",
    { class: "rb-main rb-message" },
    h("div", { class: "rb-panel" }, h("h1", { tabindex: "-1" }, title), lines.map((line) => h("p", {}, line)), h("div", { class: "rb-actions" }, buttons)),
  );
}
