// What the page looks like: the header, a task with its cards, the pages without a task, the dialogs.
// Nothing here knows of the server; `act` holds what buttons do.

import { h, icon, ordinal, turnBody } from "./dom.js";

const ROLES = { user: "User", assistant: "Assistant", system: "System", developer: "System", tool: "Tool" };

export function header(act) {
  const tool = (name, label, short, key, action) =>
    h("button", { type: "button", class: "rb-tool", "aria-label": label, title: key ? `${label} (${key})` : label, onclick: action }, icon(name), h("span", { class: "rb-tool-name" }, short));
  const parts = {
    project: h("span", { class: "rb-project" }),
    count: h("span", { class: "rb-count" }),
    bar: h("span", {}),
    status: h("p", { class: "rb-status", role: "status" }),
    guide: tool("book", "Guideline", "Guideline", "G", act.guide),
    raw: tool("raw", "Raw text", "Raw", "R", act.raw),
  };
  parts.account = tool("person", "Account", "Account", "", act.account);
  parts.track = h("span", { class: "rb-track", "aria-hidden": "true" }, parts.bar);
  parts.node = h(
    "header",
    { class: "rb-header" },
    h("span", { class: "rb-brand" }, icon("brand")),
    h("div", { class: "rb-where" }, parts.project, h("div", { class: "rb-progress" }, parts.track, parts.count)),
    parts.status,
    h("div", { class: "rb-tools" }, parts.guide, parts.raw, tool("keys", "Keyboard help", "Keys", "?", act.help), parts.account),
  );
  return parts;
}

export function taskView(task, raw, act) {
  const cards = task.outputs.map((output, index) => card(output, index, task.outputs.length, raw, act));
  const parts = { cards, strip: h("div", { class: "rb-strip", role: "group", "aria-label": "Outputs, best first" }) };
  parts.grid = h("div", { class: "rb-cards", "data-count": cards.length }, cards.map((one) => one.node));
  parts.allBad = h("button", { type: "button", class: "rb-button rb-allbad", "aria-pressed": "false", onclick: act.allBad }, "All bad", key("X"));
  parts.skip = h("button", { type: "button", class: "rb-button", onclick: act.skip }, "Skip", key("S"));
  parts.submit = h("button", { type: "button", class: "rb-button rb-submit", onclick: act.submit }, "Submit", key("Enter"));
  parts.node = h(
    "div", // Gradio's shell is the page's <main>
    { class: "rb-main" },
    h("h1", { class: "rb-hidden" }, `Rank ${cards.length} outputs`),
    h("section", { class: "rb-prompt", "aria-label": "Prompt" }, task.turns.map((turn) => promptTurn(turn, raw, task.turns.length === 1 ? "Prompt" : undefined))),
    h("p", { class: "rb-hint" }, "Rank every output: 1 is best, the same number is a tie. ", h("span", { class: "rb-hint-keys" }, key(`1–${cards.length}`), " rank, ", key("↑"), key("↓"), " move, ", key("Enter"), " submit, ", key("?"), " all keys.")),
    parts.grid,
  );
  const actions = h("div", { class: "rb-actions" }, parts.allBad, parts.skip, parts.submit);
  parts.dock = h("div", { class: "rb-dock", role: "region", "aria-label": "Your ranking" }, h("div", { class: "rb-dock-in" }, parts.strip, actions));
  return parts;
}

export function guideView(task, act) {
  return h(
    "aside",
    { class: "rb-guide", "aria-label": "Guideline" },
    h("div", { class: "rb-guide-head" }, h("h2", {}, "Guideline"), h("span", { class: "rb-version" }, `v${task.guideline.version}`), h("button", { type: "button", class: "rb-button rb-quiet", onclick: act.guide }, "Hide")),
    h("div", { class: "rb-text rb-rendered", dir: "auto", html: task.guideline.html }),
  );
}

function promptTurn(turn, raw, name = ROLES[turn.role] ?? turn.role) {
  return h("div", { class: `rb-turn rb-${turn.role}` }, h("div", { class: "rb-role" }, name), turnBody(turn, raw));
}

function card(output, index, count, raw, act) {
  const name = `Output ${output.letter}`;
  const parts = { letter: output.letter, place: h("span", { class: "rb-place" }), inputs: [] };
  const choices = Array.from({ length: count }, (_, position) => {
    const rank = position + 1;
    const note = rank === 1 ? ", best" : rank === count ? ", worst" : "";
    const input = h("input", { type: "radio", name: `rank-${output.letter}`, value: rank, "aria-label": `${rank}${note}`, onclick: () => act.rank(index, rank) });
    parts.inputs.push(input);
    return h("label", { class: "rb-choice" }, input, h("span", { "aria-hidden": "true" }, rank));
  });
  const many = output.turns.length > 1;
  parts.node = h(
    "article",
    { class: "rb-card", tabindex: "-1", "aria-label": name, onfocusin: () => act.focus(index), onpointerdown: () => act.focus(index) },
    h(
      "div",
      { class: "rb-card-head" },
      h("span", { class: "rb-letter", "aria-hidden": "true" }, output.letter),
      parts.place,
      h("div", { class: "rb-ranks", role: "radiogroup", "aria-label": `Rank of output ${output.letter}, 1 is best` }, choices),
    ),
    h("div", { class: "rb-body" }, output.turns.map((turn) => (many ? promptTurn(turn, raw) : turnBody(turn, raw)))),
  );
  return parts;
}

// Show what `work` says, on the cards and in the strip of the order.
export function paint(parts, work, current, act) {
  const counts = new Map();
  for (const rank of work.ranks) if (rank !== null) counts.set(rank, (counts.get(rank) ?? 0) + 1);
  parts.cards.forEach((one, index) => {
    const rank = work.ranks[index];
    const tie = rank !== null && counts.get(rank) > 1;
    one.inputs.forEach((input) => (input.checked = Number(input.value) === rank));
    one.place.textContent = rank === null ? "not ranked" : `${ordinal(rank)}${tie ? ", tie" : ""}`;
    one.node.dataset.ranked = rank !== null;
    one.node.dataset.current = index === current;
    one.node.setAttribute("aria-label", `Output ${one.letter}, ${one.place.textContent}`);
  });
  const complete = work.allBad || !work.ranks.includes(null);
  parts.submit.dataset.complete = complete; // never disabled: it says what is missing
  parts.allBad.setAttribute("aria-pressed", String(work.allBad));
  parts.grid.dataset.allbad = work.allBad;
  parts.strip.replaceChildren(...strip(parts.cards, work, counts, act));
}

function strip(cards, work, counts, act) {
  const chip = (index, loose) =>
    h("button", { type: "button", class: "rb-chip", "data-loose": loose, "aria-label": `Go to output ${cards[index].letter}${loose ? ", not ranked" : ""}`, onclick: () => act.go(index) }, cards[index].letter);
  const ranks = [...counts.keys()].sort((a, b) => a - b);
  const nodes = [];
  ranks.forEach((rank, level) => {
    if (level) nodes.push(h("span", { class: "rb-than", "aria-label": "better than", role: "img" }, "›"));
    const tied = work.ranks.flatMap((value, index) => (value === rank ? [index] : []));
    nodes.push(h("span", { class: "rb-level" }, tied.map((index, n) => [n ? h("span", { class: "rb-same" }, "=") : null, chip(index, false)]).flat()));
  });
  const loose = work.ranks.flatMap((value, index) => (value === null ? [index] : []));
  if (loose.length) {
    nodes.push(h("span", { class: "rb-loose" }, h("span", { class: "rb-label" }, work.allBad ? "" : ranks.length ? "left:" : "to rank:"), loose.map((index) => chip(index, true))));
  }
  return nodes;
}

export function messageView(title, lines, buttons) {
  return h(
    "div",
    { class: "rb-main rb-message" },
    h("div", { class: "rb-panel" }, h("h1", { tabindex: "-1" }, title), lines.map((line) => h("p", {}, line)), h("div", { class: "rb-actions" }, buttons)),
  );
}

export function button(label, action, strong = false) {
  return h("button", { type: "button", class: strong ? "rb-button rb-submit" : "rb-button", onclick: action }, label);
}

// A modal dialog that is removed when it closes; focus goes back to where it was.
function dialog(label, ...children) {
  const node = h("dialog", { class: "rb-dialog", "aria-label": label, onclose: () => node.remove() }, children);
  node.addEventListener("click", (event) => event.target === node && node.close());
  return node;
}

export function helpDialog(count) {
  const rows = [
    [[`1`, "…", `${count}`], "give the current output this rank; the next unranked one follows"],
    [["0", "Delete"], "take its rank away"],
    [["↑", "↓"], "the output before, the output after (also K and J)"],
    [["Shift", "↑"], "one rank better"],
    [["Shift", "↓"], "one rank worse"],
    [["X"], "all outputs are bad: ranks are then optional"],
    [["Enter"], "submit"],
    [["S"], "skip this task"],
    [["R"], "raw text or rendered text"],
    [["G"], "show or hide the guideline"],
    [["?"], "this help"],
    [["Esc"], "close"],
  ];
  const node = dialog(
    "Keyboard help",
    h("h2", {}, "Keys"),
    h("table", {}, h("tbody", {}, rows.map(([keys, what]) => h("tr", {}, h("th", { scope: "row" }, keys.map((one) => (one === "…" ? " … " : key(one)))), h("td", {}, what))))),
    h("p", { class: "rb-soft" }, "Outputs with the same rank are a tie. Every task is saved before the page says “Saved”; work in progress is kept as you go."),
    h("div", { class: "rb-actions" }, button("Close", () => node.close(), true)),
  );
  return node;
}

export function skipDialog(skip) {
  const node = dialog(
    "Skip this task",
    h("h2", {}, "Skip this task?"),
    h("p", {}, "It goes to somebody else and does not come back to you."),
    h("div", { class: "rb-actions" }, button("Stay", () => node.close()), button("Skip", () => (node.close(), skip()), true)),
  );
  return node;
}

export function signedOutDialog() {
  const signIn = button("Sign in", () => location.assign("/login"), true);
  return dialog("Signed out", h("h2", {}, "You are signed out"), h("p", {}, "Your work on this task is kept. Sign in to go on."), h("div", { class: "rb-actions" }, signIn));
}

export function accountDialog(login, choose) {
  const colours = [button("As the system", choose("")), button("Light", choose("light")), button("Dark", choose("dark"))];
  const signOut = h("form", { method: "post", action: "/logout" }, h("button", { class: "rb-button" }, "Sign out"));
  const node = dialog(
    "Account",
    h("h2", {}, login),
    h("p", { class: "rb-soft" }, "Colours"),
    h("div", { class: "rb-actions rb-left" }, colours),
    h("div", { class: "rb-actions" }, signOut, button("Close", () => node.close(), true)),
  );
  return node;
}

function key(text) {
  return h("kbd", {}, text);
}
