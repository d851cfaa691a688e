// The dialogs. Each is removed when it closes, and focus goes back to where it was.

import { button, h, key, ordinal } from "./dom.js";

export function dialog(label, ...children) {
  const node = h("dialog", { class: "rb-dialog", "aria-label": label, onclose: () => node.remove() }, children);
  node.addEventListener("click", (event) => event.target === node && node.close());
  return node;
}

export function helpDialog(rows) {
  const node = dialog(
    "Keyboard help",
    h("h2", {}, "Keys"),
    h("table", {}, h("tbody", {}, rows.map(([keys, what]) => h("tr", {}, h("th", { scope: "row" }, keys.map((one) => (one === "…" ? " … " : key(one)))), h("td", {}, what))))),
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

// What the right answer was, before the next task. `closed` is called however it is closed.
export function feedbackDialog(feedback, letters, closed) {
  const expected = feedback.expected;
  const ranked = expected ? letters.map((letter, index) => [expected[index], letter]).filter(([rank]) => rank !== null).sort(([a], [b]) => a - b) : [];
  const node = dialog(
    "The known answer",
    h("h2", { class: feedback.right ? "rb-right" : "rb-wrong" }, feedback.right ? "✓ As expected" : "Not as expected"),
    h("p", {}, ranked.length ? "The known order: " : "The known answer: all outputs are bad.", ranked.length ? h("b", {}, ranked.map(([rank, letter]) => `${letter} ${ordinal(rank)}`).join(", ")) : null, ranked.length ? "." : null),
    feedback.explanation_html && h("div", { class: "rb-text rb-rendered", dir: "auto", html: feedback.explanation_html }),
    h("div", { class: "rb-actions" }, button("Go on", () => node.close(), true)),
  );
  node.addEventListener("close", closed);
  return node;
}
