// Building the page. Text goes in as text: `html` is only for what the server has sanitised.

export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "html") node.innerHTML = value;
    else if (name === "class") node.className = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const ICONS = {
  brand: '<rect x="2" y="3" width="20" height="4.5" rx="2.2"/><rect x="2" y="10" width="14" height="4.5" rx="2.2" opacity=".75"/><rect x="2" y="17" width="8" height="4.5" rx="2.2" opacity=".5"/>',
  book: '<path d="M5 3h11a3 3 0 0 1 3 3v15H8a3 3 0 0 1-3-3zM5 18a3 3 0 0 1 3-3h11M9 7.5h6" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linejoin="round" stroke-linecap="round"/>',
  raw: '<path d="M8.5 6.5 3 12l5.5 5.5M15.5 6.5 21 12l-5.5 5.5" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"/>',
  keys: '<rect x="2" y="5.5" width="20" height="13" rx="2.5" fill="none" stroke="currentColor" stroke-width="1.8"/><path d="M6 9.7h.01M10 9.7h.01M14 9.7h.01M18 9.7h.01M6 14.3h.01M18 14.3h.01M9.5 14.3h5" stroke="currentColor" stroke-width="2" stroke-linecap="round"/>',
  past: '<path d="M3.5 12a8.5 8.5 0 1 0 2.6-6.1M3.5 4.5v4h4M12 7.5V12l3 2" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"/>',
  undo: '<path d="M8.5 4.5 4 9l4.5 4.5M4.5 9H15a5 5 0 0 1 0 10h-4" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"/>',
  flag: '<path d="M5.5 21V4h11l-2 4 2 4h-11" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"/>',
  up: '<path d="m6 14.5 6-6 6 6" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"/>',
  down: '<path d="m6 9.5 6 6 6-6" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"/>',
  grip: '<path d="M9 6h.01M15 6h.01M9 12h.01M15 12h.01M9 18h.01M15 18h.01" stroke="currentColor" stroke-width="3" stroke-linecap="round"/>',
  diff: '<path d="M12 5v8M8 9h8M8 18h8" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round"/>',
  fit: '<rect x="3" y="4" width="7.5" height="16" rx="1.5" fill="none" stroke="currentColor" stroke-width="1.8"/><rect x="13.5" y="4" width="7.5" height="16" rx="1.5" fill="none" stroke="currentColor" stroke-width="1.8"/>',
  person: '<circle cx="12" cy="8" r="4" fill="none" stroke="currentColor" stroke-width="1.8"/><path d="M4.5 20.5a7.5 7.5 0 0 1 15 0" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round"/>',
};

export function icon(name) {
  const holder = h("span", { class: "rb-icon", "aria-hidden": "true" });
  holder.innerHTML = `<svg viewBox="0 0 24 24" width="22" height="22" fill="currentColor">${ICONS[name]}</svg>`;
  return holder;
}

// One turn of a conversation, rendered or raw.
export function turnBody(turn, raw) {
  if (turn.text.trim() === "") return h("p", { class: "rb-empty-text" }, "(an empty text)");
  if (turn.html !== undefined && !raw) return h("div", { class: "rb-text rb-rendered", dir: "auto", html: turn.html });
  return h("div", { class: "rb-text rb-raw", dir: "auto" }, turn.text);
}

export function button(label, action, strong = false) {
  return h("button", { type: "button", class: strong ? "rb-button rb-submit" : "rb-button", onclick: action }, label);
}

export function key(text) {
  return h("kbd", {}, text);
}

export function ordinal(rank) {
  return `${rank}${["th", "st", "nd", "rd"][rank > 3 ? 0 : rank]}`;
}
