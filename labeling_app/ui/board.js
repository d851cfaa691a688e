// The annotate page. One task at a time: load, rank, submit; a draft after every change.
// "Saved" is said only after the server answered, and it answers only after its COMMIT.

import { call, callUntilAnswered, dropLocal, keepLocal, newKey, readLocal, Refused, restored, unacknowledged } from "./sync.js";
import { accountDialog, button, guideView, header, helpDialog, messageView, paint, signedOutDialog, skipDialog, taskView } from "./view.js";
import { h } from "./dom.js";
import { applyTheme, setSetting, setting } from "./settings.js";

const DRAFT_PAUSE = 400; // milliseconds without a change before a draft is sent
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
    this.task = null;
    this.work = null;
    this.parts = null;
    this.current = 0;
    this.busy = false;
    this.raw = setting("raw") === "on";
    this.act = {
      rank: (index, rank) => this.rankByClick(index, rank),
      focus: (index) => this.setCurrent(index),
      go: (index) => this.goTo(index),
      allBad: () => this.toggleAllBad(),
      skip: () => this.askSkip(),
      submit: () => this.submit(),
      guide: () => this.toggleGuide(),
      raw: () => this.toggleRaw(),
      help: () => this.open(helpDialog(this.work ? this.work.ranks.length : 4)),
      account: () => this.openAccount(),
    };
  }

  async start() {
    applyTheme(setting("theme"));
    this.header = header(this.act);
    this.place = h("div", { class: "rb-place-main" });
    this.dock = h("div", { class: "rb-dock-place" });
    this.root.replaceChildren(this.header.node, this.place, this.dock);
    document.addEventListener("keydown", (event) => this.onKey(event));
    for (const kind of ["pointerdown", "keydown", "scroll"]) addEventListener(kind, () => (this.active = Date.now()), { passive: true, capture: true });
    addEventListener("pointerdown", () => (this.byPointer = true), true);
    addEventListener("keydown", () => (this.byPointer = false), true);
    addEventListener("pagehide", () => this.sendDraft(true));
    document.addEventListener("visibilitychange", () => document.hidden && this.sendDraft(true));
    this.active = Date.now();
    setInterval(() => this.tick(), 1000);
    setInterval(() => this.heartbeat(), HEARTBEAT);
    await this.guarded(async () => {
      this.me = await this.ask("GET", "/api/me");
      this.header.account.querySelector(".rb-tool-name").textContent = this.me.login;
      await this.sendUnacknowledged();
      await this.next();
    });
  }

  // ---- the server ----

  ask(method, path, body) {
    return callUntilAnswered(method, path, body, (seconds) => this.say(`The server does not answer. Trying again in ${seconds} s.`, "bad"));
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
      if (error.status === 401) this.askSignIn();
      else this.say(error.message, "bad");
    }
  }

  async sendUnacknowledged() {
    for (const [id, work] of unacknowledged(this.me.login)) {
      try {
        await this.ask("POST", `/api/assignments/${encodeURIComponent(id)}/judgment`, work.sent);
        this.say("Saved your last ranking.", "good");
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
    else if (this.header.status.dataset.kind === "bad") this.say("");
  }

  async submit() {
    if (!this.task || this.busy) return;
    const missing = this.work.ranks.indexOf(null);
    if (missing >= 0 && !this.work.allBad) {
      const letters = this.task.outputs.filter((_, index) => this.work.ranks[index] === null).map((output) => output.letter);
      this.say(`Rank ${letters.join(", ")} first.`, "bad");
      this.goTo(missing);
      return;
    }
    const { ranks, allBad, seconds } = this.work;
    const body = { submit_key: newKey(), revision: 1, ranks, all_bad: allBad, seconds, guideline_version: this.task.guideline.version };
    this.setBusy(true);
    clearTimeout(this.draftTimer);
    this.keep(body); // from here on a reload sends it again, under the same key
    this.say("Saving…");
    await this.guarded(async () => {
      try {
        const answer = await callUntilAnswered("POST", this.path("judgment"), body, (seconds) => this.say(`Not saved yet: the server does not answer. Trying again in ${seconds} s.`, "bad"));
        dropLocal(this.task.id);
        await this.next(answer.late ? "Saved (after its time had run out)." : "Saved.");
      } catch (error) {
        if (error instanceof Refused && error.status === 409) {
          dropLocal(this.task.id);
          await this.next(error.message);
          return;
        }
        throw error;
      }
    });
    this.setBusy(false);
  }

  async skip() {
    this.setBusy(true);
    await this.guarded(async () => {
      await this.ask("POST", this.path("skip"), {});
      dropLocal(this.task.id);
      await this.next("Skipped.");
    });
    this.setBusy(false);
  }

  changed() {
    this.work.seq += 1;
    this.dirty = true;
    this.keep(null);
    paint(this.parts, this.work, this.current, this.act);
    clearTimeout(this.draftTimer);
    this.draftTimer = setTimeout(() => this.sendDraft(false), DRAFT_PAUSE);
  }

  keep(sent) {
    keepLocal(this.task.id, { login: this.me.login, seq: this.work.seq, payload: this.payload(), sent });
  }

  payload() {
    const { ranks, allBad, seconds } = this.work;
    return { ranks, all_bad: allBad, seconds };
  }

  async sendDraft(leaving) {
    if (!this.task || !this.dirty || this.busy) return;
    this.dirty = false;
    const { id } = this.task;
    const body = { client_seq: this.work.seq, payload: this.payload() };
    try {
      const answer = await call("PUT", this.path("draft"), body, { keepalive: leaving });
      if (this.task?.id === id && !this.busy) this.draftKept(answer.live);
    } catch (error) {
      if (this.task?.id !== id || this.busy) return;
      if (error instanceof Refused && error.status === 401) this.askSignIn();
      else if (error instanceof Refused && error.status === 409) await this.guarded(() => this.next(error.message));
      else {
        this.dirty = true;
        this.say("The server does not answer. Your work is kept in this browser.", "bad");
        this.draftTimer = setTimeout(() => this.sendDraft(false), 5000);
      }
    }
  }

  draftKept(live) {
    if (!live) this.say("This task was passed on to others meanwhile. Your ranking is still welcome.", "bad");
    else this.say("Draft kept.");
  }

  async heartbeat() {
    if (!this.task || this.busy || document.hidden) return;
    const { id } = this.task;
    const answer = await call("POST", this.path("heartbeat"), {}).catch(() => null);
    if (answer && !answer.live && this.task?.id === id) this.draftKept(false);
  }

  // ---- what is shown ----

  showTask(task) {
    this.task = task;
    const local = readLocal(task.id);
    const mine = local && local.login === this.me.login ? local : null;
    const draft = mine && mine.seq > (task.draft?.client_seq ?? 0) ? { client_seq: mine.seq, payload: mine.payload } : task.draft;
    this.work = restored(draft, task.outputs.length);
    this.dirty = Boolean(draft && draft !== task.draft);
    this.current = Math.max(0, this.work.ranks.indexOf(null));
    this.draw();
    scrollTo(0, 0);
    this.parts.cards[this.current].node.focus({ preventScroll: true });
    if (draft && (this.work.allBad || this.work.ranks.some((rank) => rank !== null))) this.say("Your draft is back.");
    if (this.dirty) this.sendDraft(false);
  }

  draw() {
    this.parts = taskView(this.task, this.raw, this.act);
    this.place.replaceChildren(this.parts.node, guideView(this.task, this.act));
    this.dock.replaceChildren(this.parts.dock);
    this.header.project.textContent = this.task.project;
    this.header.raw.setAttribute("aria-pressed", String(this.raw));
    this.showGuide(setting("guide-hidden") !== this.guideName());
    paint(this.parts, this.work, this.current, this.act);
    this.root.dataset.task = this.task.id;
    this.root.dataset.ready = "task";
  }

  showProgress({ done, left, left_is_more: more }) {
    this.header.count.textContent = `${done} done · ${left}${more ? "+" : ""} left`;
    this.header.bar.style.width = `${done + left ? (100 * done) / (done + left) : 100}%`;
  }

  async showGate(gate) {
    this.task = this.work = this.parts = null;
    this.dock.replaceChildren();
    delete this.root.dataset.task;
    const { show } = await import("/ui/start.js"); // consent, warning, practice: before the first task
    show(this.place, gate, () => this.guarded(() => this.next()));
    this.root.dataset.ready = "gate";
  }

  showNothing({ done, held, free_at: freeAt }) {
    this.task = this.work = this.parts = null;
    const lines = [done ? `You have ranked ${done} ${done === 1 ? "task" : "tasks"}. Thank you.` : "There is nothing to rank for you at present."];
    if (held) {
      const time = freeAt ? ` One may come free at ${new Date(freeAt).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}.` : "";
      lines.push(`${held} ${held === 1 ? "task is" : "tasks are"} with other people now.${time}`);
    } else lines.push("When new tasks are added they appear here by themselves.");
    const view = messageView("No tasks left", lines, [button("Look again", () => this.guarded(() => this.next()), true)]);
    this.place.replaceChildren(view);
    this.dock.replaceChildren();
    this.header.project.textContent = "";
    delete this.root.dataset.task;
    this.root.dataset.ready = "none";
    view.querySelector("h1").focus();
    clearTimeout(this.againTimer);
    this.againTimer = setTimeout(() => this.lookAgain(), LOOK_AGAIN);
  }

  lookAgain() {
    if (this.task) return;
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

  // ---- ranking ----

  rankByClick(index, rank) {
    if (this.busy) return;
    this.setRank(index, this.work.ranks[index] === rank ? null : rank);
    // Keys go on from this card, not from the row of radio buttons that the pointer happened to hit.
    if (this.byPointer) this.parts.cards[index].node.focus({ preventScroll: true });
  }

  setRank(index, rank) {
    this.work.ranks[index] = rank;
    this.current = index;
    this.changed();
  }

  rankByKey(rank) {
    this.setRank(this.current, rank);
    const count = this.work.ranks.length;
    for (let step = 1; step < count; step += 1) {
      const index = (this.current + step) % count;
      if (this.work.ranks[index] === null) return this.goTo(index);
    }
    return this.goTo(this.current);
  }

  step(by) {
    const rank = this.work.ranks[this.current];
    const count = this.work.ranks.length;
    this.setRank(this.current, rank === null ? (by < 0 ? 1 : count) : Math.min(count, Math.max(1, rank + by)));
  }

  toggleAllBad() {
    if (this.busy) return;
    this.work.allBad = !this.work.allBad;
    this.changed();
  }

  setCurrent(index) {
    if (this.current === index || !this.parts) return;
    this.current = index;
    paint(this.parts, this.work, this.current, this.act);
  }

  goTo(index) {
    this.setCurrent(index);
    const { node } = this.parts.cards[index];
    node.focus({ preventScroll: true });
    const top = node.getBoundingClientRect().top;
    const bottom = Math.min(node.getBoundingClientRect().bottom, top + innerHeight / 3);
    const dock = this.parts.dock.getBoundingClientRect().top;
    if (top < 64 || bottom > dock) node.scrollIntoView({ block: "start" });
  }

  onKey(event) {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector("dialog[open]")) return;
    if (key === "?") return this.handled(event, this.act.help);
    if (!this.task || this.busy) return;
    const simple = { x: this.act.allBad, s: this.act.skip, r: this.act.raw, g: this.act.guide }[key.toLowerCase()];
    if (simple) return this.handled(event, simple);
    if (/^[1-9]$/.test(key) && Number(key) <= this.work.ranks.length) return this.handled(event, () => this.rankByKey(Number(key)));
    if (["0", "Delete", "Backspace"].includes(key)) return this.handled(event, () => this.setRank(this.current, null));
    if (key === "Enter" && !target.closest("button, a")) return this.handled(event, () => this.submit());
    if (event.shiftKey && key === "ArrowUp") return this.handled(event, () => this.step(-1));
    if (event.shiftKey && key === "ArrowDown") return this.handled(event, () => this.step(1));
    if (target.matches("input[type=radio]") && key.startsWith("Arrow")) return; // its own group, as screen readers expect
    const move = { ArrowUp: -1, k: -1, ArrowDown: 1, j: 1 }[key];
    if (move) this.handled(event, () => this.goTo((this.current + move + this.work.ranks.length) % this.work.ranks.length));
  }

  handled(event, action) {
    event.preventDefault();
    action();
  }

  tick() {
    if (this.work && !document.hidden && !this.busy && Date.now() - this.active < IDLE) this.work.seconds += 1;
  }

  // ---- panels and dialogs ----

  open(node) {
    this.root.append(node);
    node.showModal();
  }

  askSkip() {
    if (!this.task || this.busy) return;
    const node = skipDialog(() => this.skip());
    this.open(node);
    node.querySelector(".rb-submit").focus();
  }

  askSignIn() {
    if (document.querySelector("dialog[open]")) return;
    this.open(signedOutDialog());
    this.say("You are signed out: nothing is saved until you sign in.", "bad");
  }

  openAccount() {
    const choose = (theme) => () => (setSetting("theme", theme), applyTheme(theme));
    this.open(accountDialog(this.me ? this.me.login : "Account", choose));
  }

  guideName() {
    return `${this.task.project} v${this.task.guideline.version}`;
  }

  showGuide(shown) {
    this.root.dataset.guide = shown ? "shown" : "hidden";
    this.header.guide.setAttribute("aria-pressed", String(shown));
  }

  toggleGuide() {
    if (!this.task) return;
    const shown = this.root.dataset.guide !== "shown";
    setSetting("guide-hidden", shown ? "" : this.guideName());
    this.showGuide(shown);
    if (shown) this.place.querySelector(".rb-guide").scrollIntoView({ block: "nearest" });
  }

  toggleRaw() {
    if (!this.task || this.busy) return;
    this.raw = !this.raw;
    setSetting("raw", this.raw ? "on" : "");
    this.draw();
    this.goTo(this.current);
  }
}
