// Values, distances and spans as a technician reads them.

import { currentLanguage, number, t } from "../web/language.js";

const UNIT_WORDS = { "veh/h": { id: "kend/jam", en: "veh/h" }, 1: { id: "", en: "" } };

export const two = (n) => String(n).padStart(2, "0");

/** A value with its unit; a narrow no-break space keeps them together, and a real minus sign. */
export function valueText(value, about) {
  const text = number(value, about?.decimals ?? 2).replace("-", "−");
  const unit = UNIT_WORDS[about?.unit]?.[currentLanguage()] ?? about?.unit ?? "";
  return unit && text !== "–" ? `${text}\u202f${unit}` : text;
}

export const labelOf = (about, name) => about?.label?.[currentLanguage()] ?? name;

/** "12 m", "1,4 km". */
export function distanceText(m) {
  if (m === null || m === undefined || !Number.isFinite(m)) return "";
  if (m < 995) return `${number(m < 10 ? Math.round(m) : Math.round(m / 5) * 5)}\u202fm`;
  return `${number(m / 1000, m < 9950 ? 1 : 0)}\u202fkm`;
}

export function spanText(s) {
  const seconds = Math.max(0, Math.round(s));
  if (seconds < 60) return t("devices.span.s", { n: seconds });
  if (seconds < 3600) return t("devices.span.min", { n: Math.floor(seconds / 60) });
  if (seconds < 86400) return t("devices.span.h", { n: Math.floor(seconds / 3600) });
  return t("devices.span.d", { n: Math.floor(seconds / 86400) });
}

/** "0:07", as a stopwatch shows it. */
export const watchText = (s) => `${Math.floor(s / 60)}:${two(Math.floor(s) % 60)}`;

export const positionText = (p) => `${p.latitude.toFixed(5)}, ${p.longitude.toFixed(5)}`.replaceAll("-", "−");

/** Metres between two positions, on a sphere: exact enough for "which of these is nearest". */
export function metresBetween(a, b) {
  const rad = Math.PI / 180;
  const h =
    Math.sin(((b.latitude - a.latitude) * rad) / 2) ** 2 +
    Math.cos(a.latitude * rad) * Math.cos(b.latitude * rad) * Math.sin(((b.longitude - a.longitude) * rad) / 2) ** 2;
  return 2 * 6371008.8 * Math.asin(Math.sqrt(h));
}

/** A day and time in the city's own time. */
export function momentText(iso, offsetH) {
  const d = new Date(Date.parse(iso) + offsetH * 3600000);
  const day = new Intl.DateTimeFormat(currentLanguage() === "id" ? "id-ID" : "en-GB", {
    timeZone: "UTC",
    day: "numeric",
    month: "short",
  }).format(d);
  return `${day} ${two(d.getUTCHours())}:${two(d.getUTCMinutes())}`;
}
