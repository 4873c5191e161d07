// Who is looking at this page, and changes sent to the server in his name.

/** Fields of GET /api/session: access ("accounts" or "open"), setup, account, name, role, rights, csrf. */
export let session = { access: "accounts", setup: false, account: "", name: "", role: null, rights: [], csrf: "" };

export async function loadSession() {
  const answer = await fetch("/api/session");
  if (!answer.ok) throw new Error(`/api/session: ${answer.status}`);
  session = await answer.json();
  return session;
}

/** Whether the visitor has a right: "read", "alarms", "devices" or "accounts". */
export const may = (right) => session.rights.includes(right);

export const isOpen = () => session.access === "open";

/** To the login, and back here afterwards. */
export function toLogin() {
  const here = location.pathname + location.search + location.hash;
  location.assign(`/login?next=${encodeURIComponent(here)}`);
}

/** Headers that every change needs. */
export const changeHeaders = () => ({
  "Content-Type": "application/json",
  "X-Pantau": "1",
  ...(session.csrf ? { "X-CSRF-Token": session.csrf } : {}),
});

/**
 * Ask for a change. Gives the answer's JSON; throws an Error whose message is a plain sentence, with `status`
 * (0: the server can't be reached) and, where the server says so, `retryAfterS`.
 */
export async function change(method, path, body = {}, { timeoutMs = 15000 } = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: changeHeaders(),
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(timeoutMs),
    });
  } catch (cause) {
    throw Object.assign(new Error("", { cause }), { status: 0 });
  }
  const told = await answer.json().catch(() => ({}));
  if (answer.ok) return told;
  throw Object.assign(new Error(told.detail ?? String(answer.status)), {
    status: answer.status,
    retryAfterS: Number(answer.headers.get("Retry-After")) || 0,
  });
}
