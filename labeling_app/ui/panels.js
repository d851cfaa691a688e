// What opens over or beside a task: dialogs and the guideline.

import { accountDialog, feedbackDialog, flagDialog, helpDialog, signedOutDialog, skipDialog } from "./dialogs.js";
import { helpRows } from "./keys.js";
import { applyTheme, setSetting, setting } from "./settings.js";

export class Panels {
  constructor(board) {
    this.board = board;
  }

  open(node, focus = null) {
    this.board.root.append(node);
    node.showModal();
    focus?.focus();
  }

  help() {
    this.open(helpDialog(helpRows(this.board.task)));
  }

  askSkip() {
    const { board } = this;
    if (!board.task || board.busy || board.revision > 1) return;
    const { node, focus } = skipDialog((kind, reason) => board.skip(kind, reason));
    this.open(node, focus);
  }

  askFlag() {
    const { board } = this;
    if (!board.task || board.busy) return;
    const keep = (reason) => board.edited(() => board.editor.setFlag(reason));
    const skip = board.revision > 1 ? null : (kind, reason) => board.skip(kind, reason);
    const { node, focus } = flagDialog(board.editor.work.flag, keep, skip);
    this.open(node, focus);
  }

  askSignIn() {
    if (document.querySelector("dialog[open]")) return;
    this.open(signedOutDialog());
    this.board.say("You are signed out: nothing is saved until you sign in.", "bad");
  }

  account() {
    const choose = (theme) => () => (setSetting("theme", theme), applyTheme(theme));
    this.open(accountDialog(this.board.me ? this.board.me.login : "Account", choose));
  }

  // Resolves when the person has read it.
  feedback(feedback) {
    const letters = this.board.task.outputs.map(({ letter }) => letter);
    return new Promise((resolve) => this.open(feedbackDialog(feedback, letters, resolve)));
  }

  // ---- the guideline: hidden until there is another version of it, for who hid it ----

  guideName() {
    const { project, guideline } = this.board.task;
    return `${project} v${guideline.version}`;
  }

  beginGuide() {
    this.showGuide(setting("guide-hidden") !== this.guideName());
  }

  showGuide(shown) {
    this.board.root.dataset.guide = shown ? "shown" : "hidden";
    this.board.header.guide.setAttribute("aria-pressed", String(shown));
  }

  toggleGuide() {
    const { board } = this;
    if (!board.task) return;
    const shown = board.root.dataset.guide !== "shown";
    setSetting("guide-hidden", shown ? "" : this.guideName());
    this.showGuide(shown);
    if (shown) board.place.querySelector(".rb-guide").scrollIntoView({ block: "nearest" });
  }

  async showGuideVersion(version, place) {
    const { board } = this;
    const { guideline } = board.task;
    const { html } = version === guideline.version ? guideline : await board.ask("GET", board.path(`guideline/${version}`));
    place.innerHTML = html; // from render(), like every html of the API
  }
}
