// Talking to the server, and keeping work safe while it does not answer.

const PREFIX = "alignkit:work:";
const PAUSES = [1000, 2000, 4000, 8000, 15000];

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// The answer as JSON. Throws Refused for 4xx; TypeError or Error when the server is away or failing.
export async function call(method, path, body, options = {}) {
  const response = await fetch(path, {
    method,
    headers: body === undefined ? {} : { "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
    credentials: "same-origin",
    ...options,
  });
  if (response.ok) return response.json();
  const answer = await response.json().catch(() => ({}));
  const message = typeof answer.message === "string" ? answer.message : `The server answered ${response.status}.`;
  if (response.status >= 400 && response.status < 500 && response.status !== 429) throw new Refused(response.status, message);
  throw new Error(message);
}

// Call until the server answers; `waiting(seconds)` is told before every pause. Refused ends it.
export async function callUntilAnswered(method, path, body, waiting) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await call(method, path, body, { signal: AbortSignal.timeout(20000) });
    } catch (error) {
      if (error instanceof Refused) throw error;
      const pause = PAUSES[Math.min(attempt, PAUSES.length - 1)];
      waiting(pause / 1000);
      await pauseOrOnline(pause);
    }
  }
}

function pauseOrOnline(milliseconds) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    addEventListener("online", done);
  });
}

// Work on a task, in this browser, until the server has it. Storage may be full or forbidden.
export function keepLocal(id, work) {
  try {
    localStorage.setItem(PREFIX + id, JSON.stringify(work));
  } catch {
    // The server's draft remains.
  }
}

export function readLocal(id) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + id));
  } catch {
    return null;
  }
}

export function dropLocal(id) {
  try {
    localStorage.removeItem(PREFIX + id);
  } catch {
    // Nothing was kept.
  }
}

// [id, work] of judgments of this login that were sent and never acknowledged.
export function unacknowledged(login) {
  try {
    return Object.keys(localStorage)
      .filter((key) => key.startsWith(PREFIX))
      .map((key) => [key.slice(PREFIX.length), readLocal(key.slice(PREFIX.length))])
      .filter(([, work]) => work && work.sent && work.login === login);
  } catch {
    return [];
  }
}

// A version 4 UUID; crypto.randomUUID is missing on plain http outside localhost.
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, "$1-$2-$3-$4-$5");
}
