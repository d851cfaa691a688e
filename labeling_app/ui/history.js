// What a person has judged, newest first: a list from which each can be opened and changed.

import { button, h } from "./dom.js";
import { levels } from "./work.js";

// open(id) shows one; more() loads older ones; back() goes back to the queue.
export function historyView(judged, more, { open, older, back }) {
  const heading = h("h1", { tabindex: "-1" }, "Your judgments");
  const list = judged.length
    ? h("ol", { class: "rb-history" }, judged.map((one) => h("li", {}, line(one, open))))
    : h("p", { class: "rb-soft" }, "You have judged nothing yet.");
  const node = h(
    "div",
    { class: "rb-main" },
    h("div", { class: "rb-history-head" }, heading, button("Back to the queue", back)),
    list,
    more ? h("div", { class: "rb-actions rb-left" }, button("Older ones", older)) : null,
  );
  return { node, heading };
}

function line({ id, project, at, revision, ranks, all_bad: allBad, excerpt, draft, editable }, open) {
  const when = new Date(at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  const marks = [revision > 1 && `revision ${revision}`, draft && "change not sent yet", !editable && "closed"].filter(Boolean);
  return h(
    "button",
    { type: "button", class: "rb-past", onclick: () => open(id) },
    h("span", { class: "rb-past-text", dir: "auto" }, excerpt || "(an empty prompt)"),
    h("span", { class: "rb-past-said" }, said(ranks, allBad)),
    h("span", { class: "rb-past-when" }, [when, project, ...marks].join(" · ")),
  );
}

export function said(ranks, allBad) {
  const order = ranks ? levels(ranks).map(({ members }) => members.map((index) => "ABCDEFGH"[index]).join(" = ")).join(" › ") : "";
  return [order, allBad && "all bad"].filter(Boolean).join(", ") || "rated";
}

// Above a task that was judged already.
export function editBanner({ revision, at, ranks, all_bad: allBad }, back) {
  const when = new Date(at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  return h(
    "div",
    { class: "rb-banner", role: "note" },
    h("p", {}, h("b", {}, "You judged this already: "), `${said(ranks, allBad)} (${when}${revision > 1 ? `, revision ${revision}` : ""}). What you submit now replaces it; both stay on record.`),
    button("Back to the queue", back),
  );
}
