// The live connection: takes events in order, notices silence within five seconds, and reconnects by itself.

import { isOpen, loadSession, session, toLogin } from "../web/session.js";
import { LOST_AFTER_MS, changed, model, setCity, take } from "./model.js";

const ASSETS = new URL(import.meta.url).pathname.split("/")[2];

let source = null;
let openedAt = 0;
let line = Promise.resolve(); // events wait here while /api/city is fetched

function heard() {
  model.heardAt = performance.now();
  if (model.connection !== "live" && model.city) {
    model.connection = "live";
    changed("connection");
  }
}

async function receive(name, text) {
  const frame = JSON.parse(text);
  if (name === "state" && frame.directory_version !== model.city?.directory_version) {
    const answer = await fetch("/api/city");
    if (!answer.ok) throw new Error(`/api/city: ${answer.status}`);
    setCity(await answer.json());
    changed("city");
  }
  if (!model.city) return;
  take(name, frame);
  heard();
}

/** The server was replaced by one with other files: load them, but never in a loop. */
function checkAssets(text) {
  const { assets } = JSON.parse(text);
  if (assets === ASSETS || sessionStorage.getItem("pantau.reloaded") === assets) return;
  sessionStorage.setItem("pantau.reloaded", assets);
  location.reload();
}

function open() {
  source?.close();
  openedAt = performance.now();
  const mine = new EventSource("/api/live");
  source = mine;
  mine.addEventListener("hello", (e) => checkAssets(e.data));
  for (const name of ["state", "delta", "beat"]) {
    mine.addEventListener(name, (e) => {
      line = line
        .then(() => (source === mine ? receive(name, e.data) : null))
        .catch(() => {
          if (source === mine) mine.close(); // opened again by the watch, with a full state
        });
    });
  }
}

/** A stream that the server refuses may mean that the session has ended: then the login is next. */
async function checkSession() {
  try {
    await loadSession();
  } catch {
    return; // the server can't be reached: the watch goes on trying
  }
  if (!isOpen() && (!session.account || session.must_change_password)) toLogin();
}

export function connect() {
  open();
  setInterval(() => {
    const at = performance.now();
    if (at - model.heardAt > LOST_AFTER_MS && model.connection === "live") {
      model.connection = "lost";
      changed("connection");
    }
    const closed = source.readyState === EventSource.CLOSED;
    const stuck = at - Math.max(model.heardAt, openedAt) > LOST_AFTER_MS;
    if (closed && at - openedAt > 1000) checkSession();
    if ((closed && at - openedAt > 1000) || stuck) open();
  }, 500);
}
