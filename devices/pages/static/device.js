// One device: does it work? Its login, shown once. What can be done with it.

import { html, useEffect, useRef, useState } from "../web/vendor/htm/preact.js";
import { currentLanguage, number, t } from "../web/language.js";
import { aboutProperty, fleet, modelName } from "./fleet.js";
import { Copy, Icon, Sheet } from "./parts.js";
import { Refused, api, mayChange, net } from "./server.js";
import { labelOf, momentText, positionText, spanText, valueText, watchText } from "./text.js";

const POLL_MS = 700;
const FLAGS = { 1: "good", 2: "unknown", 3: "suspect", 4: "fail", 9: "missing" };

export function DevicePage({ id, fresh, go }) {
  const [details, setDetails] = useState(null);
  const [credentials, setCredentials] = useState(fresh?.credentials ?? null);
  const [since, setSince] = useState(fresh?.live_since ?? null);
  const [failed, setFailed] = useState("");
  const [ask, setAsk] = useState("");
  const load = async () => {
    try {
      setDetails(await api(`/api/devices/${encodeURIComponent(id)}`));
      setFailed("");
    } catch (error) {
      setFailed(error instanceof Refused ? error.message : t("devices.offline.details"));
    }
  };
  useEffect(() => {
    load();
  }, [id, net.online]);

  const act = async (path, body) => {
    try {
      const answer = await api(path, body);
      setAsk("");
      load();
      return answer;
    } catch (error) {
      setFailed(error.message && error instanceof Refused ? error.message : t("devices.offline.action"));
      setAsk("");
      return null;
    }
  };
  const issue = async () => {
    const answer = await act(`/api/devices/${encodeURIComponent(id)}/credentials?language=${currentLanguage()}`, {});
    if (answer) {
      setCredentials(answer.credentials);
      setSince(answer.live_since);
      scrollTo({ top: 0 });
    }
  };
  const device = details?.device;
  const retired = device?.state === "retired";
  const canIssue = Boolean(fleet.about?.credentials) && mayChange();

  return html`
    <main class="device">
      <header class="device-head">
        <button class="back" aria-label=${t("devices.back")} onClick=${() => history.length > 1 ? history.back() : go("")}><${Icon} name="back" size="28" /></button>
        <div>
          <h1>${id}</h1>
          <p>${details ? (details.site?.name ?? t("devices.nowhere")) : (fresh?.site?.name ?? "")}${device && device.state !== "active" ? ` · ${t(`devices.state.${device.state}`)}` : ""}</p>
        </div>
      </header>
      ${failed && html`<p class="problem" role="alert">${failed}</p>`}
      ${!retired && html`<${LivePanel} key=${`${id} ${since}`} id=${id} since=${since} />`}
      ${fresh?.replaced && html`<p class="note done">${t("devices.swap.done", { old: fresh.replaced })}</p>`}
      ${fresh?.problems?.map((text) => html`<p class="problem" role="alert" key=${text}>${text}</p>`)}
      ${credentials
        ? html`<${CredentialsCard} credentials=${credentials} />`
        : canIssue && details && !retired && details.has_login === false
          ? html`<section class="card"><h2>${t("devices.login")}</h2><p class="note">${t("devices.login.none")}</p><${LoginNote} />
              <button class="big main" onClick=${issue}>${t("devices.login.make")}</button></section>`
          : null}
      ${fresh && html`<button class="big main next" onClick=${() => go("")}>${t("devices.next")}</button>`}
      ${details && html`<${Details} details=${details} />`}
      ${details &&
      !retired &&
      mayChange() &&
      html`<section class="card actions">
        <button class="row-button" onClick=${() => go("swap", details)}><${Icon} name="swap" /> ${t("devices.action.swap")}</button>
        ${canIssue && !credentials && details.has_login !== false && html`<button class="row-button" onClick=${() => setAsk("rotate")}><${Icon} name="key" /> ${t("devices.action.rotate")}</button>`}
        ${canIssue && details.has_login !== false && html`<button class="row-button" onClick=${() => setAsk("revoke")}><${Icon} name="bad" /> ${t("devices.action.revoke")}</button>`}
        ${device.state === "maintenance"
          ? html`<button class="row-button" onClick=${() => act(`/api/devices/${encodeURIComponent(id)}/state`, { state: "active" })}><${Icon} name="good" /> ${t("devices.action.activate")}</button>`
          : html`<button class="row-button" onClick=${() => setAsk("maintain")}><${Icon} name="jobs" /> ${t("devices.action.maintain")}</button>`}
        <button class="row-button danger" onClick=${() => setAsk("retire")}><${Icon} name="silent" /> ${t("devices.action.retire")}</button>
      </section>`}
      ${ask &&
      html`<${Sheet} title=${t(`devices.action.${ask}`)} onClose=${() => setAsk("")}>
        <p class="sheet-text">${t(`devices.ask.${ask}`, { id })}</p>
        <div class="two">
          <button class="big" onClick=${() => setAsk("")}>${t("devices.cancel")}</button>
          <button class=${`big main ${ask === "retire" || ask === "revoke" ? "danger" : ""}`} onClick=${() => {
            const at = `/api/devices/${encodeURIComponent(id)}`;
            if (ask === "rotate") return setAsk("") ?? issue();
            if (ask === "revoke") return act(`${at}/credentials/revoke`, {}).then(() => setCredentials(null));
            if (ask === "retire") return act(`${at}/retire`, {});
            return act(`${at}/state`, { state: "maintenance" });
          }}>${t(`devices.do.${ask}`)}</button>
        </div>
      <//>`}
    </main>
  `;
}

// ---------------------------------------------------------------------------------------------------------- live

export function LivePanel({ id, since }) {
  const [live, setLive] = useState(null);
  const [elapsed, setElapsed] = useState(0);
  const [gone, setGone] = useState(false);
  const begun = useRef(performance.now());
  useEffect(() => {
    let over = false;
    let timer = null;
    const poll = async () => {
      try {
        const answer = await api(`/api/devices/${encodeURIComponent(id)}/live${since ? `?since=${encodeURIComponent(since)}` : ""}`);
        if (over) return;
        setLive(answer);
        setGone(false);
      } catch (error) {
        if (!over) setGone(!(error instanceof Refused));
      }
      if (!over) timer = setTimeout(poll, document.hidden ? 5000 : POLL_MS);
    };
    poll();
    const clock = setInterval(() => setElapsed((performance.now() - begun.current) / 1000), 250);
    return () => {
      over = true;
      clearTimeout(timer);
      clearInterval(clock);
    };
  }, []);

  if (gone && !net.online) {
    return html`<section class="live waiting" role="status"><${LiveHead} icon="cloud" title=${t("devices.live.offline")} /></section>`;
  }
  if (live?.state === "unwatched") {
    return html`<section class="live waiting" role="status"><${LiveHead} icon="bad" title=${t("devices.live.unwatched")} /></section>`;
  }
  const problems = live?.findings.filter((f) => f.weight === "problem") ?? [];
  const hints = live?.findings.filter((f) => f.weight !== "problem") ?? [];
  const state = !live ? "waiting" : problems.length ? "trouble" : live.state;
  const readings = live?.readings ?? [];
  const main = readings.filter((r) => !r.of_device);
  const health = readings.filter((r) => r.of_device);
  const age = readings.length ? Math.min(...readings.map((r) => r.age_s)) : null;
  const speed = live?.clock_speed ?? 1;
  return html`
    <section class=${`live ${state}`} role="status" aria-live="polite">
      ${state === "waiting" && html`<${LiveHead} icon="" title=${t(since ? "devices.live.waiting" : "devices.live.quiet")} note=${since ? watchText(elapsed) : ""} />`}
      ${state === "receiving" && html`<${LiveHead} icon="good" title=${t(since ? "devices.live.first" : "devices.live.receiving")} note=${age === null || speed > 1 ? "" : t("devices.ago", { span: spanText(age) })} />`}
      ${state === "trouble" && html`<${LiveHead} icon="bad" title=${findingTitle(problems[0])} />`}
      ${problems.map((f, i) => html`<div class="finding" key=${f.code}>${i > 0 && html`<b>${findingTitle(f)}</b>`}<p>${findingText(f)}</p>${f.detail && html`<p class="raw">${f.detail}</p>`}</div>`)}
      ${main.length > 0 &&
      html`<ul class="readings">${main.map((r) => html`
        <li key=${r.datastream} class=${FLAGS[r.flag]}>
          <span class="what">${labelOf(aboutProperty(r.property), r.property)}</span>
          <span class="value">${valueText(r.value, aboutProperty(r.property))}</span>
          <span class="quality">${t(`devices.quality.${FLAGS[r.flag] ?? "unknown"}`)}</span>
        </li>`)}</ul>`}
      ${health.length > 0 &&
      html`<ul class="chips">${health.map((r) => html`<li key=${r.datastream}>${labelOf(aboutProperty(r.property), r.property)} <b>${valueText(r.value, aboutProperty(r.property))}</b></li>`)}</ul>`}
      ${hints.map((f) => html`<p class="hint" key=${f.code}><b>${findingTitle(f)}</b> ${findingText(f)}</p>`)}
    </section>
  `;
}

const LiveHead = ({ icon, title, note }) => html`
  <h2 class="live-head">
    <span class="mark">${icon ? html`<${Icon} name=${icon} size="30" />` : html`<i></i><i></i><i></i>`}</span>
    <span>${title} ${note && html`<time>${note}</time>`}</span>
  </h2>
`;

/** Numbers and properties in a finding, as people read them. */
function findingValues(f) {
  const about = aboutProperty(f.values.property);
  const found = { ...f.values };
  if (f.values.property) found.property = labelOf(about, f.values.property);
  for (const key of ["value", "low", "high"]) if (key in f.values) found[key] = valueText(f.values[key], about);
  if ("hours" in f.values) found.hours = number(f.values.hours, Number.isInteger(f.values.hours) ? 0 : 1);
  if ("span_s" in f.values) found.span = spanText(f.values.span_s);
  if ("signal" in f.values) found.signal = number(f.values.signal).replace("-", "−");
  return found;
}

const findingTitle = (f) => t(`devices.finding.${f.code}`, findingValues(f));
const findingText = (f) => t(`devices.finding.${f.code}.do`, findingValues(f));

// --------------------------------------------------------------------------------------------------- credentials

function CredentialsCard({ credentials }) {
  const [language, setLanguage] = useState("");
  const rows = [
    ["username", credentials.username],
    ["password", credentials.password],
    ["broker", `${credentials.host}:${credentials.port}${credentials.tls ? " (TLS)" : ""}`],
    ["topic", credentials.topic],
    ["client_id", credentials.client_id],
  ];
  return html`
    <section class="card credentials">
      <h2>${t("devices.login")}</h2>
      <p class="note warn">${t("devices.login.once")}</p>
      <dl>
        ${rows.map(([key, value]) => html`<div key=${key}><dt>${t(`devices.login.${key}`)}</dt><dd><code data-key=${key}>${value}</code><${Copy} text=${value} label=${t(`devices.login.${key}`)} /></dd></div>`)}
      </dl>
      <${LoginNote} />
      ${credentials.certificate_pem && html`<h3>${t("devices.login.files")}</h3>`}
      ${[
        [`${credentials.client_id}.crt`, credentials.certificate_pem],
        [`${credentials.client_id}.key`, credentials.key_pem],
        ["ca.crt", credentials.ca_pem],
      ]
        .filter(([, pem]) => pem)
        .map(([name, pem]) => html`<a key=${name} class="row-button" download=${name} href=${`data:application/x-pem-file;charset=utf-8,${encodeURIComponent(pem)}`}><${Icon} name="key" /> ${name}</a>`)}
      <img class="qr" alt=${t("devices.login.qr")} src=${`data:image/svg+xml;charset=utf-8,${encodeURIComponent(credentials.qr_svg)}`} />
      <p class="note centre">${t("devices.login.qr")}</p>
      <h3>${t("devices.login.snippet")}</h3>
      <div class="tabs3" role="tablist">
        ${Object.keys(credentials.snippets).map((k) => html`<button key=${k} role="tab" aria-selected=${language === k} onClick=${() => setLanguage(language === k ? "" : k)}>${t(`devices.snippet.${k}`)}</button>`)}
      </div>
      ${language && html`<div class="snippet"><pre>${credentials.snippets[language]}</pre><${Copy} text=${credentials.snippets[language]} label=${t("devices.login.snippet")} /></div>`}
    </section>
  `;
}

/** What the broker wants people to know about how logins are made here. */
const LoginNote = () => {
  const note = fleet.about?.credentials?.note?.[currentLanguage()];
  return note ? html`<p class="note login-note">${note}</p>` : null;
};

function Details({ details }) {
  const { device, site, installations } = details;
  const since = installations.at(-1)?.start;
  const offset = fleet.about?.utc_offset_h ?? 0;
  const rows = [
    ["serial", device.serial],
    ["eui", device.eui],
    ["model", modelName(device.model)],
    ["firmware", device.firmware],
    ["alias", device.alias],
    ["clock", device.clock !== "utc" && t(`devices.clock.${device.clock}`)],
    ["gateway", device.gateway && t("devices.gateway")],
    ["site", site && html`${site.name}<br /><small>${positionText(site)}</small>`],
    ["since", since && momentText(since, offset)],
    ["observes", details.datastreams.map((d) => labelOf(aboutProperty(d.property), d.property)).join(", ")],
  ].filter(([, value]) => value);
  return html`<section class="card"><dl class="facts">${rows.map(([k, v]) => html`<div key=${k}><dt>${t(`devices.fact.${k}`)}</dt><dd>${v}</dd></div>`)}</dl></section>`;
}
