// The strip that is read from three metres: the worst level now, and how many of each.

import { html } from "../web/vendor/htm/preact.js";
import { t } from "../web/language.js";
import { model } from "./model.js";
import { RainLegend } from "./rain.js";
import { DomainIcon, NAMES, SeverityIcon, SilenceIcon } from "./shapes.js";

export function CityStrip({ alarms, children }) {
  const count = { 1: 0, 2: 0, 3: 0 };
  let unacknowledged = 0;
  for (const a of alarms.events) {
    count[a.severity] += 1;
    unacknowledged += a.state === "unacknowledged" ? 1 : 0;
  }
  unacknowledged += alarms.returned.length;
  const jobs = alarms.jobs.filter((a) => a.severity > 0).length;
  const worst = [3, 2, 1].find((s) => count[s]) ?? 0;
  const sites = [...new Set(alarms.events.filter((a) => a.severity === worst).map((a) => a.site))];
  const first = model.siteById.get(sites[0])?.name ?? "";
  return html`
    <section class="strip" aria-label=${t("strip.label")}>
      <div class=${`worst ${NAMES[worst] ?? "calm"}`} role="status" aria-live="polite">
        ${worst
          ? html`<${SeverityIcon} severity=${worst} size=${56} />
              <div>
                <strong>${t(`severity.${worst}`)}</strong>
                <span>${sites.length > 1 ? t("strip.more", { site: first, n: sites.length - 1 }) : t("strip.at", { site: first })}</span>
              </div>`
          : html`<div><strong>${t("strip.none")}</strong></div>`}
      </div>
      ${[3, 2, 1].map(
        (s) => html`
          <div class=${`count ${count[s] ? NAMES[s] : "zero"}`}>
            <b>${count[s]}</b>
            <span><${SeverityIcon} severity=${s} size=${20} /> ${t(`severity.${s}`)}</span>
          </div>
        `,
      )}
      <div class=${`count plain ${unacknowledged ? "" : "zero"}`}>
        <b>${unacknowledged}</b><span>${t("strip.unacknowledged")}</span>
      </div>
      <div class=${`count jobs ${jobs ? "" : "zero"}`}>
        <b>${jobs}</b><span><${SilenceIcon} size=${20} /> ${t("strip.jobs")}</span>
      </div>
      ${children}
    </section>
  `;
}

export function Legend() {
  const domains = [...new Set(model.city.sites.map((s) => s.domain))];
  const order = ["flood", "traffic", "street", "device"].filter((d) => domains.includes(d));
  return html`
    <div class="legend">
      ${order.map((d) => html`<span><${DomainIcon} domain=${d} /> ${t(`domain.${d}`)}</span>`)}
      <span><${SilenceIcon} size=${15} /> ${t("severity.silence")}</span>
      <${RainLegend} />
    </div>
  `;
}
