// What is wrong with the system itself, said plainly; and its figures in one quiet line.

import { html } from "../web/vendor/htm/preact.js";
import { number, t } from "../web/language.js";
import { momentText, spanText } from "./format.js";
import { model, now } from "./model.js";

const STILL_S = 10;

/** With no reading at all for so long, even the device that sends most often is silent. [s of real time] */
function quietAfterS() {
  const shortest = model.city.devices.reduce((least, d) => Math.min(least, d.silence_after_s), 3600);
  return Math.max(60, shortest / Math.max(1, model.clock.speed));
}

const lettersText = () => t("trouble.letters", { n: number(model.health.dead_letters) });

function troubles() {
  const found = [];
  const { clock, health } = model;
  const still = clock ? clock.still_s + (performance.now() - model.clockAt) / 1000 : 0;
  if (clock && clock.now_ms > 0 && still > STILL_S) found.push(t("trouble.clock", { age: spanText(still * 1000) }));
  for (const b of health?.brokers ?? []) {
    if (b.connected) continue;
    const since = b.since && { name: b.name, time: momentText(Date.parse(b.since), now()) };
    found.push(since ? t("trouble.broker", since) : t("trouble.broker.never", { name: b.name }));
  }
  const backlog = health?.backlog;
  if (backlog?.messages && backlog.clear_in_s !== 0) {
    const waiting = { n: number(backlog.messages) };
    found.push(
      backlog.clear_in_s === null
        ? t("trouble.backlog.grows", waiting)
        : t("trouble.backlog", { ...waiting, span: spanText(backlog.clear_in_s * 1000) }),
    );
  }
  for (const d of health?.limited_devices ?? []) {
    found.push(t("trouble.limited", { device: d.device, n: number(d.refused), time: momentText(Date.parse(d.since), now()) }));
  }
  if (health?.dead_letters_full) found.push(lettersText());
  if (health?.store && !health.store.ok) found.push(t("trouble.store", { backlog: number(health.store.backlog_rows) }));
  const age = health?.last_reading_age_s;
  if (age !== null && age !== undefined) {
    const quiet = age + (performance.now() - model.healthAt) / 1000;
    if (quiet > quietAfterS()) found.push(t("trouble.quiet", { age: spanText(quiet * 1000) }));
  }
  return found;
}

/** Whether something keeps us from seeing the whole city. */
export const inTrouble = () => model.connection !== "live" || troubles().length > 0;

export function Troubles() {
  if (model.connection === "lost") {
    const age = performance.now() - model.heardAt;
    return html`<div class="trouble gone" role="alert">
      <strong>${t("trouble.lost")}</strong> <span>${t("trouble.lost.more", { age: spanText(age) })}</span>
    </div>`;
  }
  const found = troubles();
  const letters = model.health?.dead_letters_full && lettersText();
  return found.length > 0 && html`<ul class="trouble" role="alert">${found.map((text) => html`<li key=${text}>${text === letters ? html`<a href="/dead-letters">${text}</a>` : text}</li>`)}</ul>`;
}

export function HealthStrip() {
  const h = model.health;
  if (!h) return html`<footer class="health"></footer>`;
  const parts = [];
  for (const b of h.brokers) {
    parts.push([t(b.connected ? "health.broker.on" : "health.broker.off", { name: b.name }), b.connected ? "on" : "off", b.last_error]);
    if (b.dropped) parts.push([t("health.broker.dropped", { name: b.name, n: number(b.dropped) }), "off", ""]);
  }
  parts.push([t("health.messages", { n: number(h.messages_per_s, h.messages_per_s < 10 ? 1 : 0) }), "", ""]);
  if (h.latency_s !== null) parts.push([t("health.latency", { n: number(h.latency_s, h.latency_s < 10 ? 1 : 0) }), "", ""]);
  if (h.backlog?.messages) parts.push([t("health.waiting", { n: number(h.backlog.messages) }), "", ""]);
  parts.push([html`<a href="/dead-letters">${t("health.refused", { n: number(h.refused_today) })}</a>`, "", ""]);
  if (h.clocks_wrong) parts.push([t("health.clocks", { n: number(h.clocks_wrong) }), "", ""]);
  parts.push([t("health.duplicates", { n: number(h.duplicates) }), "", ""]);
  parts.push([t("health.late", { n: number(h.late) }), "", ""]);
  if (h.store) {
    parts.push([`${h.store.kind}: ${t(h.store.ok ? "health.store.on" : "health.store.off")}`, h.store.ok ? "on" : "off", h.store.last_error]);
    parts.push([t("health.backlog", { n: number(h.store.backlog_rows) }), "", ""]);
  }
  return html`
    <footer class="health" aria-label=${t("health.label")}>
      ${parts.map(([text, state, more]) => html`<span class=${state} title=${more}>${state === "on" ? "● " : state === "off" ? "✕ " : ""}${text}</span>`)}
    </footer>
  `;
}
