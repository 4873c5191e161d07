// The technician's page: one screen at a time, by the part of the address behind "#".

import { html, render, useEffect, useState } from "../web/vendor/htm/preact.js";
import { Who } from "../web/who.js";
import { currentLanguage, loadTexts, onLanguage, setLanguage, t } from "../web/language.js";
import { DevicePage } from "./device.js";
import { Find } from "./find.js";
import { fleet, loadFleet, loadSites } from "./fleet.js";
import { Jobs, loadJobs, openJobs } from "./jobs.js";
import { Icon, useAll } from "./parts.js";
import { findMe, here } from "./place.js";
import { Register } from "./register.js";
import { net, onSent, remember, startQueue, waiting } from "./server.js";
import { Waiting } from "./waiting.js";

const TABS = [
  ["", "add", "devices.tab.install"],
  ["jobs", "jobs", "devices.tab.jobs"],
  ["find", "find", "devices.tab.find"],
];

let handed = null; // what one screen gives to the next, such as credentials: never in the address, never kept

function Header() {
  const other = currentLanguage() === "id" ? "en" : "id";
  const dark = globalThis.pantauTheme.now === "dark";
  return html`
    <header class="top">
      <a class="home" href="/"><b>Pantau</b> <span>${fleet.about?.city ?? ""}</span></a>
      <${Who} />
      <button class="round-button" lang=${other} aria-label=${other === "en" ? "English" : "Bahasa Indonesia"} onClick=${() => setLanguage(other)}>
        ${other.toUpperCase()}
      </button>
      <button class="round-button" aria-label=${t(dark ? "shell.theme.light" : "shell.theme.dark")} onClick=${() => globalThis.pantauTheme.toggle()}>
        <svg width="22" height="22" viewBox="-1.2 -1.2 2.4 2.4" aria-hidden="true"><circle r="0.9" fill="none" stroke="currentColor" stroke-width="0.2" /><path d="M0 -0.9 A0.9 0.9 0 0 1 0 0.9 Z" fill="currentColor" /></svg>
      </button>
    </header>
  `;
}

function Banner({ screen, sent }) {
  const queue = waiting();
  const refused = queue.filter((i) => i.error).length;
  if (net.login) {
    return html`<a class="banner" role="status" href="/login?next=/devices">${t("devices.banner.login")}</a>`;
  }
  if (screen === "waiting") return null;
  if (refused) return html`<a class="banner bad" role="status" href="#waiting">${t("devices.banner.refused", { n: refused })}</a>`;
  if (!net.online) {
    return html`<a class="banner" role="status" href="#waiting"><${Icon} name="cloud" />
      ${queue.length ? t("devices.banner.offline.queue", { n: queue.length }) : t("devices.banner.offline")}</a>`;
  }
  if (queue.length) return html`<a class="banner" role="status" href="#waiting">${t("devices.banner.queue", { n: queue.length })}</a>`;
  if (sent.length) return html`<a class="banner good" role="status" href="#waiting"><${Icon} name="good" /> ${t("devices.banner.sent", { n: sent.length })}</a>`;
  return null;
}

function Page() {
  useAll();
  const [hash, setHash] = useState(location.hash.slice(1));
  const [sent, setSent] = useState([]);
  useEffect(() => {
    const follow = () => {
      setHash(location.hash.slice(1));
      scrollTo({ top: 0 });
    };
    addEventListener("hashchange", follow);
    const stop = onSent((item) => {
      setSent((list) => [item, ...list].slice(0, 20));
      loadSites(here.position ?? fleet.about?.centre, true);
      loadJobs();
    });
    return () => {
      removeEventListener("hashchange", follow);
      stop();
    };
  }, []);
  const go = (to, hand = null) => {
    handed = hand ? { to, hand } : null;
    if (location.hash.slice(1) === to) setHash(to);
    location.hash = to;
  };
  const [screen, subject] = hash.split("/");
  const hand = handed?.to === hash ? handed.hand : null;
  const count = openJobs().length;
  useEffect(() => {
    document.title = `${t(TABS.find(([name]) => name === screen)?.[2] ?? "devices.tab.find")} – Pantau`;
  });
  return html`
    <${Header} />
    <${Banner} screen=${screen} sent=${sent} />
    ${screen === "jobs"
      ? html`<${Jobs} go=${go} />`
      : screen === "find"
        ? html`<${Find} go=${go} />`
        : screen === "waiting"
          ? html`<${Waiting} go=${go} sent=${sent} />`
          : screen === "device"
            ? html`<${DevicePage} key=${subject} id=${decodeURIComponent(subject ?? "")} fresh=${hand} go=${(to, given) => (to === "swap" ? swap(given, go) : go(to, given))} />`
            : html`<${Register} go=${go} />`}
    <nav class="tabs" aria-label=${t("devices.tabs")}>
      ${TABS.map(([name, icon, key]) => html`<a key=${name} href=${`#${name}`} aria-current=${screen === name ? "page" : undefined}>
        <${Icon} name=${icon} size="26" /><span>${t(key)}</span>${name === "jobs" && count > 0 && html`<b class="count">${count > 99 ? "99+" : count}</b>`}
      </a>`)}
    </nav>
  `;
}

/** "Replace this device": the form, with the old one chosen. */
function swap(details, go) {
  remember("draft", { serial: "", model: details.device.model, where: "swap", old: details.device.id });
  if (details.site && !fleet.sites.some((s) => s.devices.some((d) => d.id === details.device.id))) {
    fleet.sites = [{ ...details.site, devices: [{ id: details.device.id, model: details.device.model, silent_s: null }] }, ...fleet.sites];
  }
  go("");
}

await loadTexts();
render(html`<${Page} />`, document.getElementById("page"));
onLanguage(() => document.documentElement.lang);
startQueue();
findMe();
loadFleet().then(() => loadSites(here.position ?? fleet.about?.centre));
loadJobs();
if (isSecureContext) navigator.serviceWorker?.register("/devices/worker.js", { scope: "/devices" }).catch(() => {});
