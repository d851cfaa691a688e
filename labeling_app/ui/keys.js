// The keyboard: every key of the page, and the table that the help shows of them.

export function helpRows(task, canDiff) {
  const count = task ? task.outputs.length : 4;
  const pair = task?.asks === "pair";
  const rated = task ? task.form.dimensions.length > 0 : false;
  const graded = pair && task.form.strength > 1;
  return [
    rated && [["1", "2", "…"], "rate the marked scale; the next empty one follows"],
    !pair && [["1", "…", `${count}`], rated ? "on the row of ranks: give this rank" : "give the current output this rank; the next unranked one follows"],
    pair && [["1"], `A is better${graded ? "; again: by more" : ""}${rated ? " (when the scale of the pair is marked)" : ""}`],
    pair && [["2"], `B is better${graded ? "; again: by more" : ""}`],
    pair && [["←", "→"], "along the scale, towards A or towards B"],
    pair && [["T"], "a tie"],
    [["0", "Delete"], pair ? "take the choice away" : rated ? "take the rank or rating away (0 where a scale has no 0)" : "take its rank away"],
    [["↑", "↓"], "the output before, the output after (also K and J)"],
    rated && !pair && [["←", "→"], "the scale before, the scale after; the ranks come last"],
    !pair && [["Shift", "↑"], "one rank better"],
    !pair && [["Shift", "↓"], "one rank worse"],
    task?.asks !== "ratings" && [["X"], pair ? "both outputs are bad: a choice is then optional" : "all outputs are bad: ranks are then optional"],
    task?.form.rationale !== undefined && task.form.rationale !== "no" && [["W"], "write why"],
    task?.form.rewrite && [["B"], "write a better answer"],
    [["Ctrl", "Z"], "undo"],
    [["Enter"], "submit (in a text: Ctrl Enter)"],
    [["S"], "skip this task"],
    [["F"], "flag this task"],
    [["H"], "your judgments, to look at or to change; again: back"],
    [["R"], "raw text or rendered text"],
    [["V"], "fit to the screen: every output in a window of its own, or whole"],
    [["PgUp", "PgDn"], "when fitted: through the text of the current output"],
    canDiff && [["D"], "what differs between outputs that are nearly the same"],
    [["G"], "show or hide the guideline"],
    [["?"], "this help"],
    [["Esc"], "close a dialog, leave a text, stop a drag"],
  ].filter(Boolean);
}

export function onKey(board, event) {
  const { key, target } = event;
  if (event.isComposing || document.querySelector("dialog[open]")) return;
  const handled = (action) => (event.preventDefault(), action());
  const command = event.ctrlKey || event.metaKey;
  const ready = board.task && !board.busy;
  if (target.matches("textarea, select, input:not([type=radio])")) {
    if (key === "Escape" && ready) handled(() => board.goTo(board.editor.stop));
    else if (key === "Enter" && command && ready) handled(() => board.submit());
    return;
  }
  if (command && !event.altKey && ready) {
    if (key.toLowerCase() === "z" && !event.shiftKey) handled(() => board.act.undo());
    else if (key === "Enter") handled(() => board.submit());
  }
  if (command || event.altKey) return;
  if (key === "?") return handled(board.act.help);
  if (key.toLowerCase() === "h" && !board.busy) return handled(board.act.history);
  if (ready) onTaskKey(board, event, handled);
}

function onTaskKey(board, { key, target, shiftKey }, handled) {
  const { editor, act, task } = board;
  const pair = task.asks === "pair";
  const simple = { x: act.allBad, s: act.skip, f: act.flag, r: () => board.views.toggle("raw"), v: () => board.views.toggle("fit"), d: () => board.views.toggle("diff"), g: act.guide, w: act.why, b: act.better, t: pair ? () => editor.setPair(0) : null }[key.toLowerCase()];
  if (simple) return handled(simple);
  if (/^[0-9]$/.test(key) && (key !== "0" || editor.takesZero())) {
    const stop = editor.digit(Number(key));
    return stop && handled(() => board.goTo(stop));
  }
  if (["0", "Delete", "Backspace"].includes(key)) return handled(() => editor.clear());
  const page = { PageUp: -0.8, PageDown: 0.8 }[key];
  if (page && board.views.fit) return handled(() => board.scrollText(page));
  if (key === "Enter" && !target.closest("button, a, summary")) return handled(() => board.submit());
  if (shiftKey && !pair && key === "ArrowUp") return handled(() => editor.step(editor.stop.index, -1));
  if (shiftKey && !pair && key === "ArrowDown") return handled(() => editor.step(editor.stop.index, 1));
  if (target.matches("input[type=radio]") && key.startsWith("Arrow")) return undefined; // its own group, as screen readers expect
  const across = { ArrowLeft: -1, ArrowRight: 1 }[key];
  if (across && pair) return handled(() => editor.movePair(across));
  if (across && task.form.dimensions.length) return handled(() => board.goTo(editor.sideways(across)));
  const move = { ArrowUp: -1, k: -1, ArrowDown: 1, j: 1 }[key];
  const count = task.outputs.length;
  if (move) handled(() => board.goTo({ ...editor.stop, index: (editor.stop.index + move + count) % count }));
  return undefined;
}
