// Values, times and spans as the operator reads them: in the city's own time.

import { currentLanguage, number, t } from "../web/language.js";
import { model } from "./model.js";

const UNIT_WORDS = { "veh/h": { id: "kend/jam", en: "veh/h" }, 1: { id: "", en: "" } };

export const unit = (about) => UNIT_WORDS[about.unit]?.[currentLanguage()] ?? about.unit;

export const label = (about) => about.label[currentLanguage()];

/** A value with its unit; a narrow no-break space keeps them together. */
export function valueText(value, about) {
  const text = number(value, about.decimals);
  const word = unit(about);
  return word && text !== "–" ? `${text}\u202f${word}` : text;
}

const shifted = (ms) => new Date(ms + model.city.utc_offset_h * 3600000);
const locale = () => (currentLanguage() === "id" ? "id-ID" : "en-GB");
const two = (n) => String(n).padStart(2, "0");

export function zone() {
  const h = model.city.utc_offset_h;
  return { 7: "WIB", 8: "WITA", 9: "WIT" }[h] ?? `UTC${h < 0 ? "−" : "+"}${Math.abs(h)}`;
}

/** "03:12" or "03:12:45". */
export function clockText(ms, seconds = false) {
  const d = shifted(ms);
  return `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}${seconds ? `:${two(d.getUTCSeconds())}` : ""}`;
}

export function dayText(ms, long = false) {
  return new Intl.DateTimeFormat(locale(), {
    timeZone: "UTC",
    weekday: long ? "long" : undefined,
    day: "numeric",
    month: long ? "long" : "short",
    year: long ? "numeric" : undefined,
  }).format(shifted(ms));
}

/** "03:12", with the day if it is another one than now's. */
export function momentText(ms, nowMs) {
  const same = Math.floor(+shifted(ms) / 86400000) === Math.floor(+shifted(nowMs) / 86400000);
  return same ? clockText(ms) : `${dayText(ms)} ${clockText(ms)}`;
}

export function spanText(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return t("span.s", { n: s });
  if (s < 3600) return t("span.min", { n: Math.floor(s / 60) });
  if (s < 86400) return t("span.h", { h: Math.floor(s / 3600), m: Math.floor((s % 3600) / 60) });
  return t("span.d", { d: Math.floor(s / 86400), h: Math.floor((s % 86400) / 3600) });
}

/** A forecast span: never more exact than it is. */
export function aboutText(s) {
  if (s < 60) return t("span.soon");
  const minutes = s / 60;
  const rounded = minutes < 20 ? Math.round(minutes) : Math.round(minutes / 5) * 5;
  return rounded < 60 ? t("span.min", { n: rounded }) : t("span.h", { h: Math.floor(rounded / 60), m: rounded % 60 });
}

export function signed(value, decimals) {
  const text = number(Math.abs(value), decimals);
  return `${value < 0 ? "−" : "+"}${text}`;
}
