// Dragging an output by its handle, with mouse, pen or finger: onto a chip of the order or onto a card.
// The handle keeps the pointer and never moves; a ghost follows it, and what it is over says what a drop does.

import { h } from "./dom.js";

const SLACK = 6; // pixels before a press becomes a drag
const EDGE = 72; // pixels from the top or from the dock where the page scrolls
const SPEED = 14; // pixels a frame, at the very edge

// view(): {root, header, dock, strip, cards: [node], letters} as they are now. drop(index, target) is told at
// the end; target: {on: other, where: "before" | "tie" | "after"}, {last: true} or {away: true}.
export function makeDrag(view, drop, allowed) {
  let now = null;

  function watch(handle, index) {
    handle.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !event.isPrimary || now || !allowed()) return;
      now = { handle, index, pointer: event.pointerId, touch: event.pointerType === "touch", x: event.clientX, y: event.clientY, startX: event.clientX, startY: event.clientY, ghost: null, target: null };
      handle.setPointerCapture(event.pointerId);
    });
    handle.addEventListener("pointermove", (event) => {
      if (!now || now.handle !== handle || event.pointerId !== now.pointer) return;
      Object.assign(now, { x: event.clientX, y: event.clientY });
      if (!now.ghost && Math.hypot(now.x - now.startX, now.y - now.startY) > SLACK) begin();
      if (now.ghost) follow();
    });
    handle.addEventListener("pointerup", (event) => now?.handle === handle && event.pointerId === now.pointer && end(true));
    for (const kind of ["pointercancel", "lostpointercapture"]) handle.addEventListener(kind, () => now?.handle === handle && end(false));
    handle.addEventListener("dragstart", (event) => event.preventDefault());
    handle.addEventListener("contextmenu", (event) => now && event.preventDefault());
  }

  function begin() {
    const { root, letters } = view();
    now.words = h("span", {});
    now.ghost = h("div", { class: "rb-ghost", "aria-hidden": "true" }, h("b", {}, letters[now.index]), now.words);
    root.append(now.ghost);
    root.dataset.dragging = "yes";
    addEventListener("keydown", onEscape, true);
    now.frame = requestAnimationFrame(scroll);
  }

  function onEscape(event) {
    if (event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    end(false);
  }

  function follow() {
    now.ghost.style.transform = `translate(${now.x + 12}px, ${now.y + 12}px)`;
    now.target = targetAt(view(), now.index, now.x, now.y);
    mark();
  }

  function mark() {
    clear();
    const { cards, strip, letters } = view();
    const { target } = now;
    now.words.textContent = target ? words(target, letters) : "";
    if (!target) return;
    if (target.on === undefined) strip.dataset.drop = target.last ? "last" : "away";
    else for (const node of [cards[target.on], chip(strip, target.on)]) if (node) node.dataset.drop = target.where;
  }

  function clear() {
    for (const node of view().root.querySelectorAll("[data-drop]")) delete node.dataset.drop;
  }

  // Near an edge the page moves under the pointer, faster the nearer it is.
  function scroll() {
    if (!now?.ghost) return;
    const { header, dock } = view();
    const top = now.y - header.getBoundingClientRect().bottom;
    const bottom = dock.getBoundingClientRect().top - now.y;
    const by = top < EDGE ? -SPEED * (1 - Math.max(0, top) / EDGE) : bottom >= 0 && bottom < EDGE ? SPEED * (1 - bottom / EDGE) : 0;
    if (by) {
      scrollBy({ top: by, behavior: "instant" });
      follow();
    }
    now.frame = requestAnimationFrame(scroll);
  }

  function end(dropped) {
    const { ghost, target, index, frame, handle, pointer, touch } = now;
    now = null;
    if (handle.hasPointerCapture(pointer)) handle.releasePointerCapture(pointer);
    if (!ghost) return;
    cancelAnimationFrame(frame);
    removeEventListener("keydown", onEscape, true);
    clear();
    ghost.remove();
    delete view().root.dataset.dragging;
    // The click that follows a drag is not one.
    const swallow = (event) => (event.preventDefault(), event.stopPropagation());
    addEventListener("click", swallow, { capture: true, once: true });
    setTimeout(() => removeEventListener("click", swallow, true));
    if (!dropped || !target) return;
    // A drop replaces the chip; Chromium loses the next tap if that goes before its touch has ended.
    if (touch) setTimeout(() => drop(index, target));
    else drop(index, target);
  }

  return { watch, active: () => Boolean(now?.ghost) };
}

function chip(strip, index) {
  return strip.querySelector(`.rb-chip[data-index="${index}"]`);
}

function words(target, letters) {
  if (target.last) return "last";
  if (target.away) return "not ranked";
  return { before: "better than ", tie: "tie with ", after: "worse than " }[target.where] + letters[target.on];
}

function within(box, x, y, slack = 0) {
  return x >= box.left - slack && x <= box.right + slack && y >= box.top - slack && y <= box.bottom + slack;
}

function third(part) {
  return part < 1 / 3 ? "before" : part > 2 / 3 ? "after" : "tie";
}

function targetAt({ cards, strip, dock, header }, index, x, y) {
  const dockBox = dock.getBoundingClientRect();
  if (y >= dockBox.top) {
    const away = strip.querySelector(".rb-loose")?.getBoundingClientRect();
    if (away && within(away, x, y)) return { away: true };
    const chips = [...strip.querySelectorAll(".rb-chip:not([data-loose])")].filter((node) => Number(node.dataset.index) !== index);
    const boxes = chips.map((node) => [Number(node.dataset.index), node.getBoundingClientRect()]).filter(([, box]) => within(box, x, y, 14));
    const near = boxes.sort(([, a], [, b]) => distance(a, x) - distance(b, x))[0];
    if (near) return { on: near[0], where: third((x - near[1].left) / near[1].width) };
    return within(strip.getBoundingClientRect(), x, y, 12) ? { last: true } : null;
  }
  const top = header.getBoundingClientRect().bottom;
  for (const [other, node] of cards.entries()) {
    const box = node.getBoundingClientRect();
    if (other === index || !within(box, x, y)) continue;
    const from = Math.max(box.top, top);
    const to = Math.min(box.bottom, dockBox.top);
    return { on: other, where: third((y - from) / (to - from)) };
  }
  return null;
}

function distance({ left, right }, x) {
  return Math.abs((left + right) / 2 - x);
}
