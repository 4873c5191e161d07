// Small parts that several screens use.

import { html, useEffect, useState } from "../web/vendor/htm/preact.js";
import { onLanguage, t } from "../web/language.js";
import { onChange } from "./server.js";

/** Draw again when what the page knows changes. */
export function useAll() {
  const [, again] = useState(0);
  useEffect(() => {
    const next = () => again((n) => n + 1);
    const stops = [onChange(next), onLanguage(next)];
    addEventListener("pantau-theme", next);
    return () => {
      for (const stop of stops) stop();
      removeEventListener("pantau-theme", next);
    };
  }, []);
}

const PATHS = {
  scan: "M3 8V4h4M17 4h4v4M21 16v4h-4M7 20H3v-4M7 8v8M11 8v8M14 8v8M17 8v8",
  add: "M12 5v14M5 12h14",
  jobs: "M8 6h13M8 12h13M8 18h13M3 6l1 1 2-2M3 12l1 1 2-2M3 18l1 1 2-2",
  find: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13M15.5 15.5 21 21",
  swap: "M4 8h15M15 4l4 4-4 4M20 16H5M9 12l-4 4 4 4",
  pin: "M12 21s7-6.2 7-11.5A7 7 0 0 0 5 9.5C5 14.8 12 21 12 21M12 7.5a2 2 0 1 0 0 4 2 2 0 0 0 0-4",
  camera: "M4 8h4l2-3h4l2 3h4v11H4zM12 10a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7",
  back: "M15 5l-7 7 7 7",
  on: "M9 5l7 7-7 7",
  good: "M5 13l4.5 4.5L19 7",
  bad: "M12 4v10M12 18.5v.5",
  cloud: "M7 18a4.5 4.5 0 0 1-.5-9 6 6 0 0 1 11.3 1.5A3.8 3.8 0 0 1 17.500 18zM4 4l16 17",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  silent: "M5 12a7 7 0 1 0 14 0 7 7 0 1 0-14 0M6 18 18 6",
  key: "M14.500 9.500a4.500 4.500 0 1 0-4 4L12 15h2v2h2v2h4v-3.500z",
};

export const Icon = ({ name, size = 24 }) => html`
  <svg class="icon" width=${size} height=${size} viewBox="0 0 24 24" aria-hidden="true"><path d=${PATHS[name]} /></svg>
`;

/** A row that can be chosen, one of several. */
export const Choice = ({ name, value, chosen, onChoose, children, note }) => html`
  <label class=${`choice ${chosen === value ? "chosen" : ""}`}>
    <input type="radio" name=${name} value=${value} checked=${chosen === value} onChange=${() => onChoose(value)} />
    <span class="choice-text">${children}</span>
    ${note && html`<span class="choice-note">${note}</span>`}
  </label>
`;

export function Copy({ text, label }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea"); // over http there is no clipboard but this
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return html`<button class="copy" aria-label=${t("devices.copy", { what: label })} onClick=${copy}>
    <${Icon} name=${done ? "good" : "copy"} />
  </button>`;
}

/** A dialog from below, within the thumb's reach. */
export function Sheet({ title, onClose, children }) {
  useEffect(() => {
    const onKey = (e) => e.key === "Escape" && onClose();
    addEventListener("keydown", onKey);
    document.body.classList.add("covered");
    return () => {
      removeEventListener("keydown", onKey);
      document.body.classList.remove("covered");
    };
  }, []);
  return html`
    <div class="shade" onClick=${(e) => e.target === e.currentTarget && onClose()}>
      <section class="sheet" role="dialog" aria-modal="true" aria-label=${title}>
        <h2>${title}</h2>
        ${children}
      </section>
    </div>
  `;
}
