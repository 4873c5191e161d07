// Rain as the server judged it (mm/h and class): the wettest gauge in one line, and the legend of the map.

import { html } from "../web/vendor/htm/preact.js";
import { number, t } from "../web/language.js";
import { model } from "./model.js";
import { DOMAIN_PATH } from "./shapes.js";

/** Of the drop on the map, by class. */
export const RAIN_RADIUS = { 1: 6, 2: 8, 3: 10.5, 4: 13.5 };
/** From this class on the map says the figure. */
export const HEAVY = 3;

/** "42 mm/jam", "3,4 mm/jam"; near a limit with a decimal, lest "very heavy" be told from 20. */
export function rainText(mmH) {
  const onLimit = model.city.rain_class_limits_mm_h.includes(Math.round(mmH)) && !Number.isInteger(mmH);
  return t("rain.mm_h", { n: number(mmH, mmH < 10 || onLimit ? 1 : 0) });
}

/** "Hujan lebat 14 mm/jam", "Tidak hujan". */
export function rainWords(rain) {
  if (rain.mmH10 === null) return t("rain.unknown");
  if (rain.mmH10 === 0) return t("rain.none");
  return t(`rain.class.${rain.level}`, { n: rainText(rain.mmH10) });
}

const Drop = ({ r }) => html`
  <svg class="icon rain" width=${2 * r} height=${2 * r} viewBox="-1 -1.05 2 2.1" aria-hidden="true"><path d=${DOMAIN_PATH.flood} /></svg>
`;

/** One calm line; nothing in a city without rain gauges. */
export function RainLine({ onPick }) {
  if (!model.hasRain) return null;
  const known = [...model.rain.values()].filter((r) => r.mmH10 !== null);
  const wettest = known.reduce((most, r) => (r.mmH10 > (most?.mmH10 ?? 0) ? r : most), null);
  const raining = known.filter((r) => r.level > 0).length;
  const site = wettest && model.siteById.get(wettest.stream.site);
  return html`
    <p class=${`rain-line ${raining ? "wet" : ""}`}>
      ${raining > 0 && html`<${Drop} r=${RAIN_RADIUS[wettest.level] * 0.8} /> `}
      <b>${wettest ? rainWords(wettest) : t(known.length ? "rain.none" : "rain.unknown")}</b>
      ${site && html`<span class="dot"> · </span><button class="site" onClick=${() => onPick(site.id)}>${site.name}</button>`}
      ${known.length > 0 && html`<span class="gauges"> ${t(raining ? "rain.gauges.wet" : "rain.gauges", { n: raining, all: known.length })}</span>`}
    </p>
  `;
}

export function RainLegend() {
  const limits = model.city.rain_class_limits_mm_h;
  return model.hasRain && html`
    <span class="rain-legend">${Object.values(RAIN_RADIUS).map((r) => html`<${Drop} r=${r * 0.8} />`)}
      ${" "}${t("rain.legend", { limits: limits.map((v) => number(v, 0)).join(" · ") })}</span>
  `;
}
