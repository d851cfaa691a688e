// What comes before the first task of a project: consent, content warning, practice, and which project.
// `done` is called when the server has kept the answer; it asks for the next task, or the next of these.

import { call, callUntilAnswered, Refused } from "./sync.js";
import { button, h } from "./dom.js";

const share = (value) => `${Math.round(100 * value)}%`;

export function show(place, gate, done) {
  const status = h("p", { class: "rb-start-status", role: "status" });
  let busy = false;
  const send = async (path, body) => {
    if (busy) return;
    busy = true;
    try {
      await callUntilAnswered("POST", `/api/start/${path}`, body, (seconds) => (status.textContent = `The server does not answer. Trying again in ${seconds} s.`));
      await done();
    } catch (error) {
      busy = false;
      if (!(error instanceof Refused)) throw error;
      if (error.status === 401) location.assign("/login");
      else if (error.status === 409 || error.status === 404) await done(); // it was changed meanwhile: show what is
      else status.textContent = error.message;
    }
  };
  const screen = { consent: text, warning: text, practice, passed, failed, choose }[gate.kind];
  const parts = screen(gate, send, done, status);
  const title = h("h1", { tabindex: "-1" }, parts.title);
  const where = gate.project && h("p", { class: "rb-start-project" }, gate.project);
  const panel = h("section", { class: "rb-start", "aria-label": parts.title }, where, title, parts.body, status, h("div", { class: "rb-actions" }, parts.buttons));
  place.replaceChildren(h("div", { class: "rb-main rb-start-main" }, panel));
  title.focus();
}

function text(gate, send) {
  const { kind, project, version } = gate;
  const say = (agree) => () => send(kind, { project, version, agree });
  const consent = kind === "consent";
  return {
    title: consent ? "Before you begin" : "Content warning",
    body: [
      h("div", { class: "rb-start-text rb-text rb-rendered", dir: "auto", tabindex: "0", role: "region", "aria-label": "Text", html: gate.html }),
      h("p", { class: "rb-soft" }, consent ? "You need not take part. If you do not agree, you get no task of this project." : "You may leave this project out: nobody asks you again, and you lose nothing."),
    ],
    buttons: [button(consent ? "I do not agree" : "Leave this project out", say(false)), button(consent ? "I agree" : "Go on", say(true), true)],
  };
}

function practice({ project, of, needed }, send) {
  const bar = needed > 0 ? ` ${share(needed)} must be right to go on.` : "";
  return {
    title: "Practice first",
    body: [
      h("p", {}, `${of} practice ${of === 1 ? "task comes" : "tasks come"} before the first real one. After each you are told the known answer.${bar}`),
      h("p", { class: "rb-soft" }, "What you say in practice is not part of the data."),
    ],
    buttons: [button("Start practice", () => send("practice", { project }), true)],
  };
}

function passed({ project, score }, send) {
  return {
    title: "Practice passed",
    body: [h("p", {}, `${share(score)} was right. From here on your judgments count.`)],
    buttons: [button("Start", () => send("practice", { project }), true)],
  };
}

function failed({ score, needed }, _send, done) {
  return {
    title: "Practice not passed",
    body: [h("p", {}, `${share(score)} was right, and ${share(needed)} is needed. The people who run this project can let you try again.`)],
    buttons: [button("Look again", done, true)],
  };
}

// Its buttons come when the server has said which projects have work.
function choose(_gate, send, _done, status) {
  const list = h("div", { class: "rb-start-list" });
  const fill = ({ projects }) => {
    const name = (one) => `${one.name} (${one.left}${one.left_is_more ? "+" : ""} left)`;
    list.replaceChildren(...projects.map((one) => button(name(one), () => send("project", { project: one.name }))));
  };
  call("GET", "/api/start/projects").then(fill, (error) => (status.textContent = error.message));
  return { title: "Choose a project", body: [h("p", {}, "There is work for you in several projects."), list], buttons: [] };
}
