// In the head of every page: whose account this is; and, where there are no accounts, that plainly.

import { html } from "./vendor/htm/preact.js";
import { t } from "./language.js";
import { isOpen, session } from "./session.js";

/** Leads to one's own account. Nothing without accounts. */
export function Who() {
  if (!session.account) return null;
  const name = t("shell.account", { name: session.name });
  return html`
    <a class="button who-link" href="/account" aria-label=${name} title=${name}>
      <svg width="18" height="18" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2.4" aria-hidden="true">
        <circle cx="12" cy="8" r="4.5" /><path d="M3.5 22 Q3.5 14.5 12 14.5 Q20.5 14.5 20.5 22" />
      </svg>
      <span class="who-name">${session.name}</span>
    </a>
  `;
}

/** A line that says that everybody on this computer may change things. */
export function OpenNotice() {
  return isOpen() ? html`<p class="open-notice" role="note">${t("shell.open")}</p>` : null;
}
