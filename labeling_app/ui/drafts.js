// Unfinished work, kept as it changes: in this browser at once, on the server after a pause; and the lease.

import { call, dropLocal, keepLocal, readLocal, Refused } from "./sync.js";
import { payload, restored, touched } from "./work.js";

const PAUSE = 400; // milliseconds without a change before a draft is sent
const AGAIN = 5000; // before it is sent again to a server that did not answer

export class Drafts {
  constructor(board) {
    this.board = board;
    this.dirty = false;
  }

  // The work to begin with: the newer of what this browser and the server kept, else what was said, else nothing.
  begin(task, revision, judgment) {
    const local = readLocal(task.id);
    const mine = local && local.login === this.board.me.login && (local.revision ?? 1) === revision ? local : null;
    const fromHere = mine && mine.seq > (task.draft?.client_seq ?? 0);
    const draft = fromHere ? { client_seq: mine.seq, payload: mine.payload } : task.draft;
    this.dirty = Boolean(fromHere);
    const work = restored(task, draft?.payload ?? judgment ?? {}, draft?.client_seq ?? 0);
    return { work, back: Boolean(draft) && touched(work) };
  }

  changed() {
    this.board.editor.work.seq += 1;
    this.dirty = true;
    this.keep(null);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(false), PAUSE);
  }

  // In this browser until the server has it; `sent`: a judgment that is on its way.
  keep(sent) {
    const { task, editor, me, revision } = this.board;
    keepLocal(task.id, { login: me.login, seq: editor.work.seq, revision, payload: payload(editor.work, task), sent });
  }

  stop() {
    clearTimeout(this.timer);
  }

  async send(leaving) {
    const { board } = this;
    if (!board.task || !this.dirty || board.busy) return;
    this.dirty = false;
    const { task, editor } = board;
    const { seq } = editor.work;
    const body = { client_seq: seq, revision: board.revision, payload: payload(editor.work, task) };
    const elsewhere = () => board.task !== task || board.busy;
    try {
      const answer = await call("PUT", board.path("draft"), body, { keepalive: leaving && JSON.stringify(body).length < 60000 });
      if (elsewhere()) return;
      if (editor.work.seq === seq) dropLocal(task.id); // what people write stays in a browser no longer than needed
      this.kept(answer.live);
    } catch (error) {
      if (elsewhere()) return;
      if (error instanceof Refused && error.status === 401) board.panels.askSignIn();
      else if (error instanceof Refused && error.status === 409) await board.guarded(() => board.next(error.message));
      else if (error instanceof Refused) board.say(error.message, "bad");
      else {
        this.dirty = true;
        board.say("The server does not answer. Your work is kept in this browser.", "away");
        this.timer = setTimeout(() => this.send(false), AGAIN);
      }
    }
  }

  // The network is back: send what waits, or say that nothing does.
  online() {
    clearTimeout(this.timer);
    if (this.dirty) this.send(false);
    else if (this.board.header.status.dataset.kind === "away" && !this.board.busy) this.board.say("");
  }

  kept(live) {
    if (!live) this.board.say("This task was passed on to others meanwhile. Your judgment is still welcome.", "bad");
    else this.board.say("Draft kept.");
  }

  // Somebody who reads for long keeps the task.
  async heartbeat() {
    const { task, busy, revision } = this.board;
    if (!task || busy || document.hidden || revision > 1) return;
    const answer = await call("POST", this.board.path("heartbeat"), {}).catch(() => null);
    if (answer && !answer.live && this.board.task === task) this.kept(false);
  }
}
