// Find a site by its name, district or device; usable with the keyboard alone.

import { html, useState } from "../web/vendor/htm/preact.js";
import { t } from "../web/language.js";
import { model } from "./model.js";
import { SeverityIcon } from "./shapes.js";

const MOST = 10;

/** Sites that match all words, alarmed ones first. */
function find(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const severity = (site) => model.siteStates.get(site.id)?.severity ?? 0;
  return model.city.sites
    .filter((site) => {
      const devices = (model.devicesOfSite.get(site.id) ?? []).map((d) => d.id).join(" ");
      const all = `${site.name} ${site.district} ${site.id} ${devices}`.toLowerCase();
      return words.every((w) => all.includes(w));
    })
    .sort((a, b) => severity(b) - severity(a) || a.name.localeCompare(b.name))
    .slice(0, MOST);
}

export function Search({ onPick, inputRef }) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const found = text ? find(text) : [];
  const pick = (site) => {
    setText("");
    onPick(site.id);
  };
  const onKey = (e) => {
    if (e.key === "ArrowDown" || e.key === "ArrowUp") {
      e.preventDefault();
      setAt((at + (e.key === "ArrowDown" ? 1 : -1) + found.length) % Math.max(1, found.length));
    } else if (e.key === "Enter" && found[at]) {
      pick(found[at]);
    } else if (e.key === "Escape") {
      setText("");
      e.target.blur();
    }
  };
  return html`
    <div class="search" role="search">
      <input
        class="field" type="search" placeholder=${`${t("search.label")}  ( / )`} aria-label=${t("search.label")}
        role="combobox" aria-expanded=${found.length > 0} aria-controls="search-found" aria-autocomplete="list"
        aria-activedescendant=${found[at] ? `found-${at}` : undefined}
        ref=${inputRef} value=${text} onKeyDown=${onKey}
        onInput=${(e) => {
          setText(e.target.value);
          setAt(0);
        }}
        onBlur=${() => setTimeout(() => setText(""), 200)}
      />
      ${text &&
      html`<ul id="search-found" role="listbox">
        ${found.map(
          (site, i) => html`
            <li id=${`found-${i}`} role="option" aria-selected=${i === at} onMouseDown=${(e) => (e.preventDefault(), pick(site))}>
              ${model.siteStates.get(site.id)?.severity ? html`<${SeverityIcon} severity=${model.siteStates.get(site.id).severity} size=${16} />` : null}
              <span>${site.name}</span><small>${site.district}</small>
            </li>
          `,
        )}
        ${found.length === 0 && html`<li class="nothing">${t("search.none")}</li>`}
      </ul>`}
    </div>
  `;
}
