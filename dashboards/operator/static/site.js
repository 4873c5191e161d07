// The panel of one site: newest values with their quality, and charts with thresholds, appended live.

import { html, useEffect, useRef, useState } from "../web/vendor/htm/preact.js";
import { currentLanguage, number, t } from "../web/language.js";
import { Chart } from "./chart.js";
import { label, momentText, spanText, valueText } from "./format.js";
import { model, now, onReadings } from "./model.js";
import { rainText, rainWords } from "./rain.js";
import { DomainIcon, NAMES, SeverityIcon, SilenceIcon } from "./shapes.js";

const SPANS_H = [1, 6, 24, 168];

const flagName = (flag) => model.city.flags[flag] ?? "missing";

function useKept(key, initial) {
  const [value, set] = useState(() => {
    try {
      return JSON.parse(localStorage.getItem(key)) ?? initial;
    } catch {
      return initial;
    }
  });
  return [
    value,
    (next) => {
      set(next);
      try {
        localStorage.setItem(key, JSON.stringify(next));
      } catch {
        // not remembered then
      }
    },
  ];
}

function Flag({ flag }) {
  if (flag === 1 || flag === 2) return null;
  return html`<span class="flag">${t(`flag.${flagName(flag)}`)}</span>`;
}

function StreamChart({ stream, spanH }) {
  const node = useRef(null);
  const [state, setState] = useState({ text: t("site.loading") });
  const [hover, setHover] = useState(null);
  const chart = useRef(null);
  useEffect(() => {
    const stop = new AbortController();
    const spanMs = spanH * 3600000;
    const end = now();
    const load = async () => {
      const query = new URLSearchParams({
        datastream: stream.id,
        from: new Date(end - spanMs).toISOString(),
        to: new Date(end + 60000).toISOString(),
        points: String(Math.min(1500, Math.max(300, node.current.clientWidth * 2))),
      });
      const answer = await fetch(`/api/series?${query}`, { signal: stop.signal });
      const found = await answer.json();
      if (!answer.ok) throw new Error(found.detail);
      chart.current = new Chart(node.current, stream, found, spanMs, setHover);
      setState({ empty: found.time_ms.length === 0, band: found.kind === "windows", widthS: found.width_s });
    };
    load().catch((error) => {
      if (error.name !== "AbortError") setState({ text: t("site.failed", { reason: error.message }) });
    });
    const unread = onReadings((readings) => {
      const at = readings.stream.indexOf(stream.index);
      if (at >= 0) chart.current?.append(readings.time_ms[at], readings.value[at], readings.flag[at]);
    });
    const timer = setInterval(() => {
      if (model.connection !== "live" || document.hidden || !chart.current) return;
      chart.current.refresh();
      setState((s) => (s.empty && chart.current.time.length ? { ...s, empty: false } : s));
    }, 500);
    return () => {
      stop.abort();
      unread();
      clearInterval(timer);
      chart.current?.remove();
      chart.current = null;
    };
  }, [spanH, stream.id, model.city.directory_version]);
  useEffect(() => chart.current?.draw(), [currentLanguage()]);
  const marks = chart.current && (chart.current.doubtful || chart.current.failed);
  return html`
    <div class="chart" data-stream=${stream.id}>
      <div class="chart-plot" ref=${node}></div>
      ${state.text && html`<p class="chart-text">${state.text}</p>`}
      ${state.empty && html`<p class="chart-text">${t("site.nodata")}</p>`}
      <p class="chart-note">
        <span>
          ${chart.current?.doubtful && html`<span class="mark">○ ${t("flag.suspect")}</span> `}
          ${chart.current?.failed && html`<span class="mark">× ${t("flag.fail")}</span> `}
          ${stream.property === "rain_mm"
            ? !marks && state.band !== undefined && (state.widthS ? t("rain.chart.mean", { span: spanText(state.widthS * 1000) }) : t("rain.chart"))
            : state.band && !marks && t("site.meanband")}
        </span>
        <span>${hover ? `${hover.time}  ` : ""}${hover && html`<b>${hover.value}</b>`}</span>
      </p>
    </div>
  `;
}

function Stream({ stream, spanH, alarm, chart }) {
  const { about, index } = stream;
  const time = model.time[index];
  const severity = alarm?.severity ?? 0;
  const age = now() - time;
  const rain = model.rain.get(index) ?? (stream.property === "rain_mm" && { mmH10: null, mmH60: null });
  return html`
    <section class=${`stream ${NAMES[severity] ?? ""}`}>
      <div class="stream-head">
        <h3><${DomainIcon} domain=${about.domain} /> ${label(about)}</h3>
        ${severity > 0 && html`<span class="level"><${SeverityIcon} severity=${severity} size=${18} /> ${t(`severity.${severity}`)}${alarm.label ? ` · ${alarm.label}` : ""}</span>`}
        <span class="newest">
          <${Flag} flag=${time ? model.flag[index] : 1} />
          <b class="value">${time ? valueText(model.value[index], about) : "–"}</b>
        </span>
      </div>
      <p class="observed">${time ? t("site.observed", { time: momentText(time, now()), age: spanText(age) }) : t("site.never")}</p>
      ${rain && html`<p class="rain-now"><b>${rainWords(rain)}</b> ${rain.mmH10 !== null && t("rain.10min")}${rain.mmH60 !== null && ` · ${t("rain.60min", { n: rainText(rain.mmH60) })}`}</p>`}
      ${chart && html`<${StreamChart} stream=${stream} spanH=${spanH} />`}
    </section>
  `;
}

const ACCOUNT_MS = 30000;
const ACCOUNT_COLUMNS = ["expected", "received", "missing", "duplicate", "late", "refused", "stored", "waiting"];

/** What became of the readings of a device: one sentence that says whether it balances, and its newest hours. */
function Account({ device }) {
  const [account, setAccount] = useState(null);
  useEffect(() => {
    const stop = new AbortController();
    const load = () =>
      fetch(`/api/account?device=${encodeURIComponent(device)}`, { signal: stop.signal })
        .then((answer) => (answer.ok ? answer.json() : null))
        .then(setAccount)
        .catch(() => {});
    load();
    const timer = setInterval(() => !document.hidden && load(), ACCOUNT_MS);
    return () => {
      stop.abort();
      clearInterval(timer);
    };
  }, [device]);
  if (!account) return null;
  const refused = Object.values(account.refused).reduce((sum, n) => sum + n, 0);
  const words = Object.fromEntries(
    Object.entries({ ...account, refused }).map(([k, v]) => [k, Number.isFinite(v) ? number(v) : v]),
  );
  return html`
    <p class="observed account">${t("site.account", words)}
      ${" "}${account.unaccounted === 0
        ? t("site.account.balances")
        : html`<b class="unbalanced">${t("site.account.differs", { n: number(account.unaccounted) })}</b>`}
      ${account.missing > 0 && html` ${t("site.account.missing", words)}`}</p>
    ${account.hours.length > 0 &&
    html`<details class="account">
      <summary>${t("site.account.hours")}</summary>
      <div>
        <table>
          <thead><tr><th>${t("site.account.hour")}</th>${ACCOUNT_COLUMNS.map((c) => html`<th>${t(c === "missing" ? "site.account.column.missing" : `site.account.${c}`)}</th>`)}</tr></thead>
          <tbody>
            ${account.hours.map(
              (h) => html`<tr key=${h.start_ns}><th>${momentText(h.start_ns / 1e6, now())}</th>
                ${ACCOUNT_COLUMNS.map((c) => html`<td class=${c === "missing" && h.missing > 0 ? "short" : ""}>${h[c] === null ? "–" : number(h[c])}</td>`)}</tr>`,
            )}
          </tbody>
        </table>
      </div>
    </details>`}
  `;
}

export function SitePanel({ id, onClose }) {
  const [spanH, setSpanH] = useKept("pantau.span_h", 6);
  const close = useRef(null);
  useEffect(() => close.current?.focus({ preventScroll: true }), []);
  const site = model.siteById.get(id);
  const streams = model.streamsOfSite.get(id) ?? [];
  const alarms = new Map();
  const silent = new Set();
  for (const alarm of model.alarms.values()) {
    if (alarm.site !== id || alarm.severity === 0) continue;
    if (alarm.kind === "level") alarms.set(alarm.subject, alarm);
    else silent.add(alarm.device);
  }
  const severity = (s) => alarms.get(s.id)?.severity ?? 0;
  const main = streams.filter((s) => s.about.domain !== "device").sort((a, b) => severity(b) - severity(a));
  const others = streams.filter((s) => s.about.domain === "device");
  return html`
    <aside class="site-panel" aria-label=${site.name} onKeyDown=${(e) => e.key === "Escape" && (e.stopPropagation(), onClose())}>
      <header>
        <div>
          <h2>${site.name}</h2>
          <p>${[site.district, t(`domain.${site.domain}`)].filter(Boolean).join(" · ")}</p>
        </div>
        <button class="button" ref=${close} onClick=${onClose} aria-label=${t("site.close")}>✕</button>
      </header>
      <div class="spans" role="group" aria-label=${t("site.span")}>
        ${SPANS_H.map((h) => html`<button class="button" aria-pressed=${h === spanH} onClick=${() => setSpanH(h)}>${t(`site.span.${h}`)}</button>`)}
      </div>
      <div class=${`streams charts-${main.length}`}>
        ${main.map((s) => html`<${Stream} key=${s.id} stream=${s} spanH=${spanH} alarm=${alarms.get(s.id)} chart=${true} />`)}
        ${(model.devicesOfSite.get(id) ?? []).map(
          (d) => html`
            <section class="device" key=${d.id}>
              <h3>${silent.has(d.id) && html`<${SilenceIcon} size=${18} /> `}${t("site.device", { id: d.id })} <small>${d.model}</small>
                ${silent.has(d.id) && html` <b class="silent">${t("severity.silence")}</b>`}</h3>
              <${Account} device=${d.id} />
              ${others.filter((s) => s.device === d.id).map((s) => html`<${Stream} key=${s.id} stream=${s} alarm=${alarms.get(s.id)} chart=${false} />`)}
            </section>
          `,
        )}
      </div>
    </aside>
  `;
}
