// What the pages of accounts share: head, fields, sentences for what went wrong.

import { html, render, useEffect, useState } from "../vendor/htm/preact.js";
import { currentLanguage, loadTexts, onLanguage, setLanguage, t } from "../language.js";
import { loadSession, session } from "../session.js";

export { html, t };

/** Where to go after the login: a path of this server, never another one. */
export function nextPath() {
  const wanted = new URLSearchParams(location.search).get("next") ?? "/";
  try {
    const url = new URL(wanted, location.origin);
    if (url.origin === location.origin && !url.pathname.startsWith("/login")) return url.pathname + url.search + url.hash;
  } catch {
    // not an address
  }
  return "/";
}

function Head({ home }) {
  const dark = globalThis.pantauTheme.now === "dark";
  const other = currentLanguage() === "id" ? "en" : "id";
  const theme = t(dark ? "shell.theme.light" : "shell.theme.dark");
  return html`
    <header class="plain-head">
      ${home ? html`<a class="brand" href="/" title=${t("account.home")}>Pantau</a>` : html`<span class="brand">Pantau</span>`}
      <button class="button" lang=${other} aria-label=${other === "en" ? "English" : "Bahasa Indonesia"} onClick=${() => setLanguage(other)}>
        <b>${currentLanguage().toUpperCase()}</b>\u00a0/ ${other.toUpperCase()}
      </button>
      <button class="button" aria-label=${theme} title=${theme} onClick=${() => globalThis.pantauTheme.toggle()}>
        <svg width="18" height="18" viewBox="-1.2 -1.2 2.4 2.4" aria-hidden="true">
          <circle r="0.9" fill="none" stroke="currentColor" stroke-width="0.2" /><path d="M0 -0.9 A0.9 0.9 0 0 1 0 0.9 Z" fill="currentColor" />
        </svg>
      </button>
    </header>
  `;
}

/** Draws a page; `title` is the key of its title. `home`: its head leads to the operator's page. */
export async function show(Content, { title, wide = false, home = false }) {
  await Promise.all([loadTexts(), loadSession()]);
  function Page() {
    const [, again] = useState(0);
    useEffect(() => {
      const next = () => again((n) => n + 1);
      const stop = onLanguage(next);
      addEventListener("pantau-theme", next);
      return () => {
        stop();
        removeEventListener("pantau-theme", next);
      };
    }, []);
    useEffect(() => {
      document.title = `${t(title)} – Pantau`;
    });
    return html`
      <div class=${`plain-page ${wide ? "wide" : ""}`}>
        <${Head} home=${home} />
        <main>
          <h1>${t(title)}</h1>
          ${session.access === "open" && html`<p class="notice warn">${t("shell.open")}</p>`}
          <${Content} />
        </main>
      </div>
    `;
  }
  render(html`<${Page} />`, document.getElementById("page"));
}

/** A sentence for an error of `change`; `known` maps a status to the key of a text of its own. */
export function sentence(error, known = {}) {
  if (error.status === 0) return t("account.unreachable");
  if (error.status === 429) return t("account.login.wait", { n: String(error.retryAfterS) });
  if (known[error.status]) return t(known[error.status]);
  return t("account.failed", { reason: error.message });
}

export function Alert({ text }) {
  return html`<div role="alert">${text && html`<p class="alert">${text}</p>`}</div>`;
}

/** A labelled input; other properties go to the input. */
export function Field({ label, hint, value, onInput, kind = "", ...rest }) {
  return html`
    <label>${label}
      <input class=${`field ${kind}`} value=${value} onInput=${(e) => onInput(e.target.value)} ...${rest} />
      ${hint && html`<span class="hint">${hint}</span>`}
    </label>
  `;
}

export function PasswordField({ label, hint, value, onInput, ...rest }) {
  const [shown, setShown] = useState(false);
  const id = `password-${rest.name}`;
  const name = t(shown ? "account.login.hide" : "account.login.show");
  return html`
    <div>
      <label for=${id}>${label}</label>
      <div class="secret-field">
        <input class="field" id=${id} type=${shown ? "text" : "password"} value=${value} aria-describedby=${hint ? `${id}-hint` : null}
          autocapitalize="none" autocorrect="off" spellcheck=${false} maxlength="1000" required onInput=${(e) => onInput(e.target.value)} ...${rest} />
        <button type="button" class="button" aria-pressed=${shown} aria-label=${name} title=${name} onClick=${() => setShown(!shown)}>
          <svg width="24" height="24" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" aria-hidden="true">
            <path d="M2 12 Q12 1 22 12 Q12 23 2 12 Z" /><circle cx="12" cy="12" r="3" />${!shown && html`<path d="M4 21 L20 3" />`}
          </svg>
        </button>
      </div>
      ${hint && html`<span class="hint" id=${`${id}-hint`}>${hint}</span>`}
    </div>
  `;
}
