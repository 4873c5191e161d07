// "Devices": find one as you type; without a word: those around here.

import { html, useEffect, useState } from "../web/vendor/htm/preact.js";
import { t } from "../web/language.js";
import { loadSites, modelName, sitesNearby } from "./fleet.js";
import { Icon } from "./parts.js";
import { here } from "./place.js";
import { Refused, api } from "./server.js";
import { distanceText, spanText } from "./text.js";

export function Find({ go }) {
  const [text, setText] = useState("");
  const [found, setFound] = useState(null);
  const [failed, setFailed] = useState(false);
  useEffect(() => {
    loadSites(here.position);
  });
  useEffect(() => {
    const q = text.trim();
    if (!q) return setFound(null);
    let over = false;
    const timer = setTimeout(async () => {
      try {
        const answer = await api(`/api/devices?q=${encodeURIComponent(q)}&limit=30`);
        if (!over) setFound(answer.devices);
        setFailed(false);
      } catch (error) {
        setFailed(!(error instanceof Refused));
      }
    }, 120);
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [text]);
  const near = sitesNearby().flatMap((s) => s.devices.map((d) => ({ ...d, site: s, far_m: s.far_m }))).slice(0, 25);
  const list = found ?? near;
  return html`
    <main class="find">
      <input class="big-field" type="search" aria-label=${t("devices.find")} placeholder=${t("devices.find.example")} value=${text} onInput=${(e) => setText(e.target.value)} />
      ${failed && html`<p class="note warn">${t("devices.find.offline")}</p>`}
      ${!found && near.length > 0 && html`<h2 class="list-title">${t("devices.find.near")}</h2>`}
      <ul class="device-list">
        ${list.map((d) => html`<li key=${d.id}><button class="row-button" onClick=${() => go(`device/${encodeURIComponent(d.id)}`)}>
          <span class="choice-text"><b>${d.id}</b><small>${[d.site?.name, modelName(d.model)].filter(Boolean).join(" · ")}</small>
            ${d.silent_s !== null && d.silent_s !== undefined && html`<small class="silent"><${Icon} name="silent" size="16" /> ${t("devices.silent", { span: spanText(d.silent_s) })}</small>`}
            ${d.state && d.state !== "active" && html`<small>${t(`devices.state.${d.state}`)}</small>`}</span>
          <span class="choice-note">${distanceText(d.far_m)}</span><${Icon} name="on" />
        </button></li>`)}
      </ul>
      ${found && !found.length && html`<p class="nothing"><b>${t("devices.find.none", { text })}</b></p>`}
    </main>
  `;
}
