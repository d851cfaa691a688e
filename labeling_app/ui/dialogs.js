// The dialogs. Each is removed when it closes, and focus goes back to where it was.

import { button, h, key } from "./dom.js";
import { differenceText } from "./views.js";
import { levels } from "./work.js";

export function dialog(label, ...children) {
  const node = h("dialog", { class: "rb-dialog", "aria-label": label, onclose: () => node.remove() }, children);
  node.addEventListener("click", (event) => event.target === node && node.close());
  return node;
}

export function helpDialog(rows) {
  const half = Math.ceil(rows.length / 2);
  const table = (part) => h("table", {}, h("tbody", {}, part.map(([keys, what]) => h("tr", {}, h("th", { scope: "row" }, keys.map((one) => (one === "…" ? " … " : key(one)))), h("td", {}, what)))));
  const node = dialog(
    "Keyboard help",
    h("h2", { tabindex: "-1", autofocus: true }, "Keys"),
    h("div", { class: "rb-keys" }, table(rows.slice(0, half)), table(rows.slice(half))),
    h("p", { class: "rb-soft" }, "Every judgment is in the database before the page says “Saved”; work in progress is kept as you go."),
    h("div", { class: "rb-actions" }, button("Close", () => node.close(), true)),
  );
  return node;
}

function reasonArea(label, placeholder) {
  const area = h("textarea", { class: "rb-area", rows: 3, dir: "auto", maxlength: 2000, "aria-label": label, placeholder });
  return area;
}

// skip(kind, reason)
export function skipDialog(skip) {
  const reason = reasonArea("Why you skip it, if you like", "Why? (if you like)");
  const send = (kind) => () => (node.close(), skip(kind, reason.value));
  const strong = button("Skip", send("skip"), true);
  const node = dialog(
    "Skip this task",
    h("h2", {}, "Skip this task?"),
    h("p", {}, "It goes to somebody else and does not come back to you."),
    reason,
    h("div", { class: "rb-actions" }, button("Stay", () => node.close()), button("I do not want to read this", send("content")), strong),
  );
  return { node, focus: strong };
}

// keep(reason): flag and go on; skip(kind, reason): flag instead of judging, or null where it is judged already.
export function flagDialog(flag, keep, skip) {
  const reason = reasonArea("What is wrong with this task", "For example: the prompt is cut off, two outputs are the same, a person's data is shown.");
  reason.value = flag ?? "";
  const problem = h("p", { class: "rb-problem", role: "alert" });
  const given = (action) => () => {
    if (!reason.value.trim()) {
      problem.textContent = "Say what is wrong first.";
      reason.focus();
      return;
    }
    node.close();
    action(reason.value);
  };
  const node = dialog(
    "Flag this task",
    h("h2", {}, "What is wrong with this task?"),
    h("p", { class: "rb-soft" }, "A reviewer reads it. You can still judge the task, or leave it."),
    reason,
    problem,
    h(
      "div",
      { class: "rb-actions" },
      flag === null ? button("Cancel", () => node.close()) : button("Take the flag away", () => (node.close(), keep(null))),
      skip && button("Flag and skip", given((words) => skip("flag", words))),
      button("Flag and judge", given(keep), true),
    ),
  );
  return { node, focus: reason };
}

export function signedOutDialog() {
  const signIn = button("Sign in", () => location.assign("/login"), true);
  return dialog("Signed out", h("h2", {}, "You are signed out"), h("p", {}, "Your work on this task is kept. Sign in to go on."), h("div", { class: "rb-actions" }, signIn));
}

// me: {login, role}; choose(theme) makes a button's action; change(): to another project, null where it is asked.
export function accountDialog(me, choose, change) {
  const colours = [button("As the system", choose("")), button("Light", choose("light")), button("Dark", choose("dark"))];
  const signOut = h("form", { method: "post", action: "/logout" }, h("button", { class: "rb-button" }, "Sign out"));
  const link = (href, text) => h("a", { class: "rb-button", href }, text);
  const node = dialog(
    "Account",
    h("h2", {}, me.login),
    h("p", { class: "rb-soft" }, "Colours"),
    h("div", { class: "rb-actions rb-left" }, colours),
    h("p", { class: "rb-soft" }, "Go to"),
    h("div", { class: "rb-actions rb-left" }, change && button("Another project", () => (node.close(), change())), link("/account", "Password and sessions"), me.role === "annotator" ? null : link("/admin/", "Admin pages")),
    h("div", { class: "rb-actions" }, signOut, button("Close", () => node.close(), true)),
  );
  return node;
}

// What the right answer was, before the next task. `closed` is called however it is closed.
export function feedbackDialog(feedback, task, work, closed) {
  const { expected, ratings, practice, right } = feedback;
  const order = (ranks) => levels(ranks).map(({ members }) => members.map((index) => task.outputs[index].letter).join(" = ")).join(" › ");
  const known = expected ? order(expected) : Object.keys(ratings).length ? null : "all outputs are bad";
  const yours = [order(work.ranks), work.allBad && "all outputs are bad"].filter(Boolean).join(", ") || "no ranks";
  const rows = [known && ["Order", known, yours]];
  for (const { name, label } of task.form.dimensions) {
    ratings[name]?.forEach((value, index) => value !== null && rows.push([`${label || name}, ${task.outputs[index].letter}`, value, work.ratings[name][index] ?? "not rated"]));
  }
  const cells = ([what, answer, said]) => h("tr", {}, h("th", { scope: "row" }, what), h("td", {}, h("b", {}, answer)), h("td", {}, said));
  const node = dialog(
    "The known answer",
    practice && h("p", { class: "rb-soft" }, `Practice ${practice.number} of ${practice.of}`),
    h("h2", { class: right ? "rb-right" : "rb-wrong" }, right ? "✓ As expected" : "Not as expected"),
    h("table", { class: "rb-known" }, h("thead", {}, h("tr", {}, h("td"), h("th", { scope: "col" }, "Known answer"), h("th", { scope: "col" }, "You said"))), h("tbody", {}, rows.filter(Boolean).map(cells))),
    feedback.explanation_html && h("div", { class: "rb-text rb-rendered", dir: "auto", html: feedback.explanation_html }),
    h("div", { class: "rb-actions" }, button("Go on", () => node.close(), true)),
  );
  node.addEventListener("close", closed);
  return node;
}

// steps: diff.js; null where nearly everything is new.
export function changeDialog(steps, read, { version, html }) {
  const text = steps === null ? h("div", { class: "rb-text rb-rendered", dir: "auto", html }) : differenceText(steps);
  const node = dialog("What changed", h("h2", {}, `The guideline, v${read} to v${version}`), steps === null && h("p", { class: "rb-soft" }, "Nearly all of it is new:"), text, h("div", { class: "rb-actions" }, button("Close", () => node.close(), true)));
  return node;
}
