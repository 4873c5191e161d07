// Talking to Pantau over a network that comes and goes.
//
// What was fetched last is kept, so that the form works without a network. What is to be changed waits in a queue on
// the phone until the server has it. Passwords are never kept.

import { t } from "../web/language.js";
import { changeHeaders, loadSession, may, session } from "../web/session.js";

const QUEUE = "pantau.devices.queue";
const KNOWN = "pantau.devices.known.";
const TIMEOUT_MS = 10000;

const listeners = new Set();
export const onChange = (f) => {
  listeners.add(f);
  return () => listeners.delete(f);
};
export const changed = () => {
  for (const f of listeners) f();
};

export const net = { online: navigator.onLine, login: false };

function setOnline(online) {
  if (net.online === online) return;
  net.online = online;
  changed();
}

/** The server refused: its own sentence, and the status. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** No answer from the server: no network, a timeout, or a server that is down. */
export class Unreachable extends Error {}

/** Who is looking; asked again after a login in another tab, which gives another CSRF token. */
async function knowSession() {
  try {
    await loadSession();
  } catch {
    // without a network: later
  }
  changed();
}

/** Whether the visitor may change devices; without a network nobody knows, and the server decides later. */
export const mayChange = () => !session.rights.length || may("devices");

export async function api(path, body = undefined, method = undefined, again = true) {
  if (body !== undefined && session.access === "accounts" && !session.csrf) await knowSession();
  const headers = { Accept: "application/json", ...(body === undefined ? {} : changeHeaders()) };
  let answer;
  try {
    answer = await fetch(path, {
      method: method ?? (body === undefined ? "GET" : "POST"),
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch (error) {
    setOnline(false);
    throw new Unreachable(String(error));
  }
  if (answer.status >= 502 && answer.status <= 504) throw new Unreachable(`${answer.status}`);
  setOnline(true);
  const text = await answer.text();
  let content = null;
  try {
    content = text ? JSON.parse(text) : null;
  } catch {
    throw new Unreachable("not our server"); // a hotspot's own page, for example
  }
  if (!answer.ok) {
    if (answer.status === 401 || (answer.status === 403 && body !== undefined)) {
      const before = session.csrf;
      await knowSession();
      if (answer.status === 403 && again && session.csrf !== before) return api(path, body, method, false);
    }
    if (answer.status === 401 && !net.login) {
      net.login = true;
      changed();
    }
    throw new Refused(answer.status, sentence(answer.status, content));
  }
  if (net.login) {
    net.login = false;
    changed();
  }
  return content;
}

/** Why it was refused: in the page's language where there is a text for it, else as the server says it. */
function sentence(status, content) {
  const key = `devices.refused.${content?.code}`;
  const text = content?.code ? t(key, content.values ?? {}) : key;
  return text !== key ? text : (content?.detail ?? t("devices.failed", { status }));
}

function read(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function write(key, value) {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, JSON.stringify(value));
    return true;
  } catch {
    return false; // full, or forbidden
  }
}

/** Fetch and remember; without a network: what was remembered. Null if there is neither. */
export async function known(name, path) {
  try {
    const content = await api(path);
    write(KNOWN + name, content);
    return content;
  } catch (error) {
    if (error instanceof Refused) throw error;
    return read(KNOWN + name, null);
  }
}

export const remembered = (name) => read(KNOWN + name, null);
export const remember = (name, value) => write(KNOWN + name, value);

// ------------------------------------------------------------------------------------------------------------ queue

let queue = read(QUEUE, []);
export const waiting = () => queue;

function keep() {
  const fits = write(QUEUE, queue);
  changed();
  return fits;
}

/** Send now if it can be; else keep it on the phone. Returns the answer, or null if it waits. Throws Refused. */
export async function sendOrKeep(kind, path, body, about, ifKept = body) {
  try {
    return await api(path, body);
  } catch (error) {
    if (error instanceof Refused && error.status !== 401) throw error;
  }
  queue = [...queue, { id: crypto.getRandomValues(new Uint32Array(2)).join("-"), kind, path, body: ifKept, about, at: Date.now(), error: "" }];
  if (!keep()) {
    queue = queue.slice(0, -1);
    keep();
    throw new Refused(0, t("devices.queue.full"));
  }
  return null;
}

export function drop(id) {
  queue = queue.filter((item) => item.id !== id);
  keep();
}

let flushing = false;
const sent = new Set();
export const onSent = (f) => {
  sent.add(f);
  return () => sent.delete(f);
};

export async function flush() {
  if (flushing || !queue.some((item) => !item.error)) return;
  flushing = true;
  try {
    for (const item of queue.filter((i) => !i.error)) {
      try {
        const answer = await api(item.path, item.body);
        drop(item.id);
        for (const f of sent) f(item, answer);
      } catch (error) {
        if (!(error instanceof Refused) || error.status === 401) return; // later
        queue = queue.map((i) => (i.id === item.id ? { ...i, error: error.message } : i));
        keep();
      }
    }
  } finally {
    flushing = false;
  }
}

export function startQueue() {
  addEventListener("online", () => {
    setOnline(true);
    flush();
  });
  addEventListener("offline", () => setOnline(false));
  addEventListener("storage", (e) => {
    if (e.key !== QUEUE) return;
    queue = read(QUEUE, []);
    changed();
  });
  knowSession();
  setInterval(flush, 5000);
  flush();
}
