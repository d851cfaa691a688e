// The annotate page. One task at a time: load, judge, submit; a draft after every change.
// "Saved" is said only after the server answered, and it answers only after its COMMIT.

import { button, h } from "./dom.js";
import { Drafts } from "./drafts.js";
import { makeDrag } from "./drag.js";
import { Editor } from "./editor.js";
import { editBanner, historyView } from "./history.js";
import { onKey } from "./keys.js";
import { Panels } from "./panels.js";
import { applyTheme, setting } from "./settings.js";
import { callUntilAnswered, dropLocal, newKey, Refused, unacknowledged } from "./sync.js";
import { guideView, header, messageView, paint, taskView } from "./view.js";
import { banner, Views } from "./views.js";
import { missing, payload } from "./work.js";

const HEARTBEAT = 5 * 60 * 1000;
const IDLE = 60 * 1000; // time without any input that no longer counts as work
const LOOK_AGAIN = 60 * 1000;

export function mount(root) {
  if (root.dataset.mounted) return;
  root.dataset.mounted = "yes";
  new Board(root).start();
}

class Board {
  constructor(root) {
    this.root = root;
    this.task = this.editor = this.parts = null;
    this.revision = 1; // what a submit makes; above 1 it changes a judgment
    this.busy = false;
    this.views = new Views(() => this.redraw());
    this.drafts = new Drafts(this);
    this.panels = new Panels(this);
    const edit = (change) => (...values) => this.edited(() => change(this.editor, ...values), values[0]);
    this.act = {
      rank: edit((editor, index, rank) => editor.toggleRank(index, rank)),
      step: edit((editor, index, by) => editor.step(index, by)),
      rate: edit((editor, index, name, value) => editor.toggleRating(index, name, value)),
      choose: (index) => this.edited(() => this.editor.choosePair(index ? 1 : -1), index),
      pair: (value) => this.edited(() => this.editor.setPair(value)),
      allBad: () => this.edited(() => this.editor.toggleAllBad(), this.editor?.stop.index),
      undo: () => this.edited(() => this.editor.undo(), this.editor?.stop.index),
      change: (kind, alter) => this.edited(() => this.editor.change(kind, alter)),
      write: (kind, alter) => this.edited(() => this.editor.write(kind, alter)),
      focus: (index, target) => this.focused(index, target),
      go: (index) => this.goTo({ ...this.editor.stop, index }),
      drag: (node, index) => this.drag.watch(node, index),
      why: () => this.root.querySelector("#rb-why")?.focus(),
      better: () => this.openRewrite(),
      skip: () => this.panels.askSkip(),
      flag: () => this.panels.askFlag(),
      submit: () => this.submit(),
      guide: () => this.panels.toggleGuide(),
      guideVersion: (version, place) => this.guarded(() => this.panels.showGuideVersion(version, place)),
      history: () => this.toggleHistory(),
      help: () => this.panels.help(),
      account: () => this.panels.account(),
    };
  }

  async start() {
    applyTheme(setting("theme"));
    this.header = header(this.act);
    this.place = h("div", { class: "rb-place-main" });
    this.dock = h("div", { class: "rb-dock-place" });
    this.root.replaceChildren(this.header.node, this.place, this.dock);
    this.drag = makeDrag(
      () => ({ root: this.root, header: this.header.node, dock: this.parts.dock, strip: this.parts.strip, cards: this.parts.cards.map(({ node }) => node), letters: this.parts.cards.map(({ letter }) => letter) }),
      (index, target) => this.edited(() => this.editor.drop(index, target), index),
      () => this.task && !this.busy && this.task.asks !== "pair",
    );
    this.listen();
    await this.guarded(async () => {
      this.me = await this.ask("GET", "/api/me");
      this.header.account.querySelector(".rb-tool-name").textContent = this.me.login;
      this.header.account.setAttribute("aria-label", `Account: ${this.me.login}`);
      await this.sendUnacknowledged();
      await this.next();
    });
  }

  listen() {
    document.addEventListener("keydown", (event) => onKey(this, event));
    for (const kind of ["pointerdown", "keydown", "scroll"]) addEventListener(kind, () => (this.active = Date.now()), { passive: true, capture: true });
    addEventListener("pointerdown", () => (this.byPointer = true), true);
    addEventListener("keydown", () => (this.byPointer = false), true);
    addEventListener("offline", () => this.task && this.say("You are offline. Your work is kept in this browser.", "away"));
    addEventListener("online", () => this.drafts.online());
    addEventListener("pagehide", () => this.drafts.send(true));
    document.addEventListener("visibilitychange", () => document.hidden && this.drafts.send(true));
    this.active = Date.now();
    setInterval(() => this.tick(), 1000);
    setInterval(() => this.drafts.heartbeat(), HEARTBEAT);
  }

  // ---- the server ----

  ask(method, path, body) {
    return callUntilAnswered(method, path, body, (seconds) => this.say(`The server does not answer. Trying again in ${seconds} s.`, "away"));
  }

  path(what) {
    return `/api/assignments/${encodeURIComponent(this.task.id)}/${what}`;
  }

  // Run, and turn a refusal into words: 401 asks to sign in, all else is shown.
  async guarded(action) {
    try {
      await action();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.status === 401) this.panels.askSignIn();
      else this.say(error.message, "bad");
    }
  }

  async sendUnacknowledged() {
    for (const [id, work] of unacknowledged(this.me.login)) {
      try {
        await this.ask("POST", `/api/assignments/${encodeURIComponent(id)}/judgment`, work.sent);
        this.say("Saved your last judgment.", "good");
      } catch (error) {
        if (!(error instanceof Refused) || error.status === 401) throw error;
        if (error.status === 422) continue; // it comes back as a draft
      }
      dropLocal(id);
    }
  }

  async next(note = "") {
    this.busy = true;
    const answer = await this.ask("POST", "/api/next", {});
    this.busy = false;
    this.showProgress(answer.progress);
    if (answer.gate) await this.showGate(answer.gate);
    else if (answer.task === null) this.showNothing(answer.progress);
    else this.showTask(answer.task);
    if (note) this.say(note, "good");
    else if (["bad", "away"].includes(this.header.status.dataset.kind)) this.say("");
  }

  async submit() {
    if (!this.task || this.busy) return;
    const { task, revision } = this;
    const { work } = this.editor;
    const gap = missing(task, work);
    if (gap) {
      this.say(gap.text, "bad");
      this.goTo(gap.stop);
      return;
    }
    const body = { submit_key: newKey(), revision, ...payload(work, task), guideline_version: task.guideline.version };
    this.setBusy(true);
    this.drafts.stop();
    this.drafts.keep(body); // from here on a reload sends it again, under the same key
    this.say("Saving…");
    await this.guarded(async () => {
      try {
        const answer = await callUntilAnswered("POST", this.path("judgment"), body, (seconds) => this.say(`Not saved yet: the server does not answer. Your judgment is kept in this browser; trying again in ${seconds} s.`, "away"));
        dropLocal(task.id);
        this.panels.guideRead();
        const saved = answer.late ? "Saved (after its time had run out)." : "Saved.";
        if (answer.feedback) {
          this.say(saved, "good");
          await this.panels.feedback(answer.feedback, work);
        }
        await this.next(revision > 1 ? "Saved your change." : saved);
      } catch (error) {
        if (error instanceof Refused && error.status === 409) {
          dropLocal(task.id);
          await this.next(error.message);
          return;
        }
        throw error;
      }
    });
    this.setBusy(false);
  }

  async skip(kind, reason) {
    this.setBusy(true);
    this.drafts.stop();
    await this.guarded(async () => {
      await this.ask("POST", this.path("skip"), { kind, reason });
      dropLocal(this.task.id);
      await this.next(kind === "flag" ? "Flagged and skipped." : "Skipped.");
    });
    this.setBusy(false);
  }

  // ---- what is shown ----

  // judgment: what was said, when the task comes from the history.
  showTask(task, judgment = null) {
    this.task = task;
    this.revision = judgment ? judgment.revision + 1 : 1;
    this.judgment = judgment;
    this.views.begin(task);
    const { work, back } = this.drafts.begin(task, this.revision, judgment);
    this.editor = new Editor(task, work, () => this.changed(), (text) => (this.header.live.textContent = text));
    this.draw();
    scrollTo(0, 0);
    this.parts.cards[this.editor.stop.index].node.focus({ preventScroll: true });
    if (back) this.say("Your draft is back.");
    if (this.drafts.dirty) this.drafts.send(false);
  }

  draw() {
    const { practice } = this.task;
    const banners = [
      this.judgment && editBanner(this.judgment, () => this.leaveTask(() => this.next())),
      practice && banner(`Practice ${practice.number} of ${practice.of}: you are told the known answer when you submit.`),
      this.panels.guideNotice(),
    ];
    this.parts = taskView(this.task, this.views, this.act, banners, Boolean(this.judgment));
    if (this.task.asks !== "pair") this.parts.cards.forEach(({ handle }, index) => this.drag.watch(handle, index));
    this.place.replaceChildren(this.parts.node, guideView(this.task, this.act));
    this.dock.replaceChildren(this.parts.dock);
    this.header.project.textContent = this.task.project;
    this.panels.beginGuide();
    this.paint();
    this.root.dataset.task = this.task.id;
    this.root.dataset.asks = this.task.asks;
    this.root.dataset.ready = "task";
  }

  paint() {
    paint(this.parts, this.editor, this.act);
  }

  showProgress({ done, left, left_is_more: more }) {
    this.header.count.textContent = `${done} done · ${left}${more ? "+" : ""} left`;
    this.header.bar.style.width = `${done + left ? (100 * done) / (done + left) : 100}%`;
  }

  // A page without a task: `view` in its place.
  showPage(view, name) {
    this.task = this.editor = this.parts = this.judgment = null;
    this.place.replaceChildren(...view);
    this.dock.replaceChildren();
    this.header.project.textContent = "";
    delete this.root.dataset.task;
    delete this.root.dataset.asks;
    this.root.dataset.ready = name;
    scrollTo(0, 0);
  }

  async showGate(gate) {
    this.showPage([], "gate");
    const { show } = await import("/ui/start.js"); // consent, warning, practice: before the first task
    show(this.place, gate, () => this.guarded(() => this.next()));
  }

  chooseProject() {
    this.leaveTask(() => this.showGate({ kind: "choose" }));
  }

  showNothing({ done, held, free_at: freeAt }) {
    const lines = [done ? `You have ranked ${done} ${done === 1 ? "task" : "tasks"}. Thank you.` : "There is nothing to rank for you at present."];
    if (held) {
      const time = freeAt ? ` One may come free at ${new Date(freeAt).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}.` : "";
      lines.push(`${held} ${held === 1 ? "task is" : "tasks are"} with other people now.${time}`);
    } else lines.push("When new tasks are added they appear here by themselves.");
    const view = messageView("No tasks left", lines, [button("Your judgments", this.act.history), button("Look again", () => this.guarded(() => this.next()), true)]);
    this.showPage([view], "none");
    view.querySelector("h1").focus();
    clearTimeout(this.againTimer);
    this.againTimer = setTimeout(() => this.lookAgain(), LOOK_AGAIN);
  }

  lookAgain() {
    if (this.root.dataset.ready !== "none") return;
    if (document.hidden) this.againTimer = setTimeout(() => this.lookAgain(), LOOK_AGAIN);
    else this.guarded(() => this.next());
  }

  say(text, kind = "") {
    this.header.status.textContent = text;
    this.header.status.dataset.kind = kind;
  }

  setBusy(busy) {
    this.busy = busy;
    this.root.dataset.busy = busy;
  }

  // ---- history ----

  // Leave the task that is open; its draft is sent, so that it is there when it comes back.
  async leaveTask(action) {
    if (this.busy) return;
    await this.drafts.send(false);
    this.drafts.stop();
    await this.guarded(action);
  }

  toggleHistory() {
    if (this.busy || this.root.dataset.ready === "gate") return;
    this.leaveTask(() => (this.root.dataset.ready === "history" ? this.next() : this.showHistory([])));
  }

  async showHistory(before) {
    const [{ judged, more }, pace] = await Promise.all([this.ask("GET", `/api/history?offset=${before.length}`), this.ask("GET", "/api/pace")]);
    const all = [...before, ...judged];
    const { node, heading } = historyView(all, more, pace, {
      open: (id) => this.guarded(() => this.openJudged(id)),
      older: () => this.guarded(() => this.showHistory(all)),
      back: () => this.guarded(() => this.next()),
    });
    this.showPage([node], "history");
    if (before.length) node.querySelectorAll(".rb-past")[before.length]?.focus();
    else heading.focus();
    this.say("");
  }

  async openJudged(id) {
    const { task, judgment } = await this.ask("GET", `/api/assignments/${encodeURIComponent(id)}`);
    this.showTask(task, judgment);
  }

  // ---- judging ----

  changed() {
    this.drafts.changed();
    this.paint();
  }

  // `card`: the one to which the keyboard goes on, if a pointer did it: Enter submits, and presses no button again.
  edited(change, card) {
    if (!this.task || this.busy) return;
    change();
    if (this.byPointer && Number.isInteger(card)) this.parts.cards[card].node.focus({ preventScroll: true });
  }

  focused(index, target) {
    if (!this.parts || this.drag.active()) return;
    const field = target.closest("[data-field]")?.dataset.field ?? this.editor.stop.field;
    if (this.editor.stop.index === index && this.editor.stop.field === field) return;
    this.editor.stop = { index, field };
    this.paint();
  }

  goTo(stop) {
    if (stop.field === "rationale") return this.act.why();
    this.editor.stop = stop;
    this.paint();
    const { node } = this.parts.cards[stop.index];
    node.focus({ preventScroll: true });
    const field = stop.field.startsWith("rate:") ? node.querySelector('[data-now="true"]') : node;
    const top = field.getBoundingClientRect().top;
    const bottom = Math.min(field.getBoundingClientRect().bottom, top + innerHeight / 3);
    const dock = this.parts.dock.getBoundingClientRect().top;
    const covered = field === node ? 64 : 130; // by the header, and by the head of the card
    if (top < covered || bottom > dock) field.scrollIntoView({ block: field === node ? "start" : "center" });
    return undefined;
  }

  openRewrite() {
    const details = this.root.querySelector(".rb-rewrite");
    if (!details) return;
    details.open = true;
    (details.querySelector("textarea:enabled") ?? details.querySelector("select")).focus();
  }

  tick() {
    if (this.editor && !document.hidden && !this.busy && Date.now() - this.active < IDLE) this.editor.work.seconds += 1;
  }

  // In another view, with the current output where it was.
  redraw() {
    if (!this.task || this.busy) return;
    const { index } = this.editor.stop;
    const before = this.parts.cards[index].node.getBoundingClientRect().top;
    this.draw();
    const { node } = this.parts.cards[index];
    node.focus({ preventScroll: true });
    scrollBy({ top: node.getBoundingClientRect().top - before, behavior: "instant" });
  }

  scrollText(pages) {
    const text = this.parts.cards[this.editor.stop.index].node.querySelector(".rb-body");
    text.scrollBy({ top: pages * text.clientHeight });
  }
}
