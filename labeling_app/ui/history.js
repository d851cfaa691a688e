// What a person has judged, newest first: a list from which each can be opened and changed.

import { button, h } from "./dom.js";
import { banner } from "./views.js";
import { levels } from "./work.js";

// open(id) shows one; more() loads older ones; back() goes back to the queue.
export function historyView(judged, more, pace, { open, older, back }) {
  const heading = h("h1", { tabindex: "-1" }, "Your judgments");
  const list = judged.length
    ? h("ol", { class: "rb-history" }, judged.map((one) => h("li", {}, line(one, open))))
    : h("p", { class: "rb-soft" }, "You have judged nothing yet.");
  const node = h(
    "div",
    { class: "rb-main" },
    h("div", { class: "rb-history-head" }, heading, button("Back to the queue", back)),
    paceLine(pace),
    list,
    more ? h("div", { class: "rb-actions rb-left" }, button("Older ones", older)) : null,
  );
  return { node, heading };
}

// pace: {judged, seconds, day: {judged, seconds}, each} as the server counts them, seconds null where not known.
function paceLine({ judged, seconds, day, each }) {
  if (!judged) return null;
  const tasks = (count) => `${count} ${count === 1 ? "task" : "tasks"}`;
  const parts = [`${tasks(judged)} in all, in ${duration(seconds)}`, day.judged ? `${tasks(day.judged)} in the last 24 hours, in ${duration(day.seconds)}` : "", each ? `lately about ${duration(each)} each` : ""];
  return h("p", { class: "rb-soft rb-pace" }, `${parts.filter(Boolean).join(" · ")}. Time counts while you are active.`);
}

export function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 90) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
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
  const text = `${said(ranks, allBad)} (${when}${revision > 1 ? `, revision ${revision}` : ""}). What you submit now replaces it; both stay on record.`;
  return banner([h("b", {}, "You judged this already: "), text], button("Back to the queue", back));
}
