// The operator's page: puts the parts together.

import { html, render, useEffect, useRef, useState } from "../web/vendor/htm/preact.js";
import { currentLanguage, loadTexts, onLanguage, setLanguage, t } from "../web/language.js";
import { loadSession } from "../web/session.js";
import { OpenNotice, Who } from "../web/who.js";
import { AcknowledgeDialog, AlarmList } from "./alarms.js";
import { clockText, dayText, zone } from "./format.js";
import { HealthStrip, Troubles } from "./health.js";
import { makeMap } from "./map.js";
import { model, now, onChange, sortedAlarms } from "./model.js";
import { RainLine } from "./rain.js";
import { Search } from "./search.js";
import { SitePanel } from "./site.js";
import { connect } from "./stream.js";
import { CityStrip, Legend } from "./strip.js";

/** Draw again when the model changes, and each second for what depends on the time. */
function useModel() {
  const [, again] = useState(0);
  useEffect(() => {
    const next = () => again((n) => n + 1);
    const stops = [onChange(next), onLanguage(next)];
    addEventListener("pantau-theme", next);
    const timer = setInterval(() => document.hidden || next(), 1000);
    return () => {
      for (const stop of stops) stop();
      removeEventListener("pantau-theme", next);
      clearInterval(timer);
    };
  }, []);
}

function Header({ onPick, searchRef }) {
  const at = now();
  const simulated = model.clock?.source === "broker";
  const dark = globalThis.pantauTheme.now === "dark";
  const other = currentLanguage() === "id" ? "en" : "id";
  return html`
    <header class="head">
      <h1><span class="brand">Pantau</span> <span class="city">${model.city?.city ?? ""}</span></h1>
      <div class="clock">
        ${at > 0 && model.city
          ? html`<time class="now">${clockText(at, true)}</time> <span class="zone">${zone()}</span>
              <span class="day">${dayText(at, true)}</span>`
          : null}
        ${simulated &&
        html`<span class="simulation">${t("clock.simulation", { speed: String(model.clock.speed) })}</span>`}
      </div>
      <${Search} onPick=${onPick} inputRef=${searchRef} />
      <div class="switches">
        <a class="button to-devices" href="/devices">${t("shell.devices")}</a>
        <${Who} />
        <button class="button" lang=${other} aria-label=${other === "en" ? "English" : "Bahasa Indonesia"} onClick=${() => setLanguage(other)}>
          <b>${currentLanguage().toUpperCase()}</b><span class="off"> / ${other.toUpperCase()}</span>
        </button>
        <button class="button theme" aria-label=${t(dark ? "shell.theme.light" : "shell.theme.dark")} title=${t(dark ? "shell.theme.light" : "shell.theme.dark")} onClick=${() => globalThis.pantauTheme.toggle()}>
          <svg width="18" height="18" viewBox="-1.2 -1.2 2.4 2.4" aria-hidden="true">
            <circle r="0.9" fill="none" stroke="currentColor" stroke-width="0.2" /><path d="M0 -0.9 A0.9 0.9 0 0 1 0 0.9 Z" fill="currentColor" />
          </svg>
        </button>
      </div>
    </header>
  `;
}

function MapView({ onPick, selected }) {
  const node = useRef(null);
  const map = useRef(null);
  useEffect(() => {
    map.current = makeMap(node.current, onPick);
    return () => map.current.remove();
  }, []);
  useEffect(() => {
    const panel = document.querySelector(".site-panel");
    const wide = innerWidth > 900;
    map.current.select(selected, wide && panel ? panel.offsetWidth : 0);
  }, [selected]);
  useEffect(() => map.current.redraw(), [model.connection, currentLanguage()]);
  return html`
    <div class="map" role="region" aria-label=${t("map.label")}>
      <div class="map-canvas" ref=${node}></div>
      <div class="map-tools">
        <button class="button" aria-label="+" onClick=${() => map.current.zoom(0.5)}>+</button>
        <button class="button" aria-label="−" onClick=${() => map.current.zoom(-0.5)}>−</button>
        <button class="button" onClick=${() => map.current.fit()}>${t("map.fit")}</button>
      </div>
      <${Legend} />
    </div>
  `;
}

function Page() {
  useModel();
  const [site, setSite] = useState(() => decodeURIComponent(location.hash.slice(1)) || null);
  const [asked, setAsked] = useState(null);
  const search = useRef(null);
  const from = useRef(null);
  const pick = (id) => {
    from.current = document.activeElement;
    setSite(id);
    history.replaceState(null, "", id ? `#${encodeURIComponent(id)}` : location.pathname);
  };
  const close = () => {
    pick(null);
    from.current?.focus?.();
  };
  useEffect(() => {
    const onKey = (e) => {
      const typing = /^(input|textarea|select)$/i.test(e.target.tagName);
      if (e.key === "/" && !typing && !e.ctrlKey && !e.metaKey) {
        e.preventDefault();
        search.current?.focus();
      } else if (e.key === "Escape" && !document.querySelector("dialog[open]") && !typing) {
        pick(null);
      }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);

  const alarms = sortedAlarms();
  const worst = Math.max(0, ...alarms.events.map((a) => a.severity));
  const lost = model.connection === "lost";
  useEffect(() => {
    const count = alarms.events.length;
    document.title = lost
      ? `⚠ ${t("trouble.lost")} – Pantau`
      : `${worst ? `(${count}) ${t(`severity.${worst}`).toUpperCase()} – ` : ""}Pantau ${model.city?.city ?? ""}`;
  });
  if (!model.city) {
    return html`<p class="waiting" role="status">${t("trouble.connecting")}</p>`;
  }
  const known = site && model.siteById.has(site) ? site : null;
  return html`
    <div class=${`page ${lost ? "lost" : ""}`}>
      <${Header} onPick=${pick} searchRef=${search} />
      <${Troubles} />
      <${CityStrip} alarms=${alarms}><${RainLine} onPick=${pick} /><//>
      <main class="body">
        <${MapView} onPick=${pick} selected=${known} />
        ${known && html`<${SitePanel} key=${known} id=${known} onClose=${close} onAcknowledge=${setAsked} />`}
        <${AlarmList} alarms=${alarms} selected=${known} onPick=${pick} onAcknowledge=${setAsked} />
      </main>
      <${HealthStrip} />
      <${OpenNotice} />
      ${asked && html`<${AcknowledgeDialog} id=${asked} onClose=${() => setAsked(null)} />`}
    </div>
  `;
}

await Promise.all([loadTexts(), loadSession()]);
render(html`<${Page} />`, document.getElementById("page"));
connect();
