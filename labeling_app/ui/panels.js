// What opens over or beside a task: dialogs and the guideline.

import { accountDialog, changeDialog, feedbackDialog, flagDialog, helpDialog, signedOutDialog, skipDialog } from "./dialogs.js";
import { difference } from "./diff.js";
import { button, h } from "./dom.js";
import { helpRows } from "./keys.js";
import { applyTheme, setSetting, setting } from "./settings.js";
import { banner } from "./views.js";

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
    this.open(helpDialog(helpRows(this.board.task, this.board.views.canDiff)));
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
    const { board } = this;
    const choose = (theme) => () => (setSetting("theme", theme), applyTheme(theme));
    const change = board.root.dataset.ready === "gate" || board.busy ? null : () => board.chooseProject();
    this.open(accountDialog(board.me ?? { login: "Account", role: "annotator" }, choose, change));
  }

  // Resolves when the person has read it.
  feedback(feedback, work) {
    const { task } = this.board;
    return new Promise((resolve) => this.open(feedbackDialog(feedback, task, work, resolve)));
  }

  // ---- the guideline: hidden until there is another version of it, for who hid it ----

  guideName() {
    const { project, guideline } = this.board.task;
    return `${project} v${guideline.version}`;
  }

  // Above the task where it is too wide to be beside it: there it is shown until a task was judged with it.
  beginGuide() {
    const beside = matchMedia("(min-width: 1240px)").matches;
    const done = setting("guide-hidden") === this.guideName() || (!beside && setting("guide-read") === this.guideName());
    this.showGuide(!done);
  }

  guideRead() {
    setSetting("guide-read", this.guideName());
  }

  // Who has judged by an earlier version is told that there is another one, until the next judgment.
  guideNotice() {
    const { read, version } = this.board.task.guideline;
    if (!read || read === version || setting("guide-read") === this.guideName()) return null;
    const done = () => (this.guideRead(), notice.remove());
    const notice = banner([h("b", {}, "The guideline was changed"), ` since you last worked here (v${read}, now v${version}).`], button("What changed", () => this.showGuideChange(read)), button("I have read it", done));
    return notice;
  }

  async showGuideChange(read) {
    const { board } = this;
    await board.guarded(async () => {
      const { text } = await board.ask("GET", board.path(`guideline/${read}`));
      this.open(changeDialog(difference(text, board.task.guideline.text), read, board.task.guideline));
    });
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
