// Texts of the pages: Indonesian first, English if the browser prefers it, or what was chosen before.

export const LANGUAGES = ["id", "en"];

let language = chosenLanguage();
let texts = {};
const listeners = new Set();

function chosenLanguage() {
  try {
    const kept = localStorage.getItem("pantau.language");
    if (LANGUAGES.includes(kept)) return kept;
  } catch {
    // storage may be forbidden
  }
  for (const wanted of navigator.languages ?? []) {
    const short = wanted.toLowerCase().split("-")[0];
    if (short === "in") return "id"; // the old code of Indonesian
    if (LANGUAGES.includes(short)) return short;
  }
  return "id";
}

export async function loadTexts() {
  const answer = await fetch(`/languages/${language}`);
  if (!answer.ok) throw new Error(`texts in ${language}: ${answer.status}`);
  texts = await answer.json();
  document.documentElement.lang = language;
}

export async function setLanguage(next) {
  language = next;
  try {
    localStorage.setItem("pantau.language", next);
  } catch {
    // not remembered then
  }
  await loadTexts();
  for (const listener of listeners) listener();
}

export function onLanguage(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export const currentLanguage = () => language;

/** The text of a key, with {names} filled in. A missing key shows itself. */
export function t(key, values = {}) {
  return (texts[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

const formats = new Map();

/** A number as people here write it; "–" if there is none. */
export function number(value, decimals = 0) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const key = `${language}${decimals}`;
  if (!formats.has(key)) {
    formats.set(
      key,
      new Intl.NumberFormat(language === "id" ? "id-ID" : "en-GB", {
        minimumFractionDigits: decimals,
        maximumFractionDigits: decimals,
      }),
    );
  }
  return formats.get(key).format(value);
}
