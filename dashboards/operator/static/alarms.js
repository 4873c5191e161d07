// The alarm list in order of urgency, and the dialog in which an alarm is acknowledged.

import { html, useEffect, useLayoutEffect, useRef, useState } from "../web/vendor/htm/preact.js";
import { t } from "../web/language.js";
import { change, isOpen, may, session } from "../web/session.js";
import { aboutText, label, momentText, signed, spanText, unit, valueText } from "./format.js";
import { inTrouble } from "./health.js";
import { changed, model, now } from "./model.js";
import { DomainIcon, NAMES, SeverityIcon, SilenceIcon } from "./shapes.js";

const FEW_JOBS = 6;
const ASKED_FOR_MS = 10000;
const RECENT_MS = 24 * 3600 * 1000;
const RECENT_SHOWN = 12;

function trendText(alarm) {
  const trend = model.trends.get(alarm.id);
  if (!trend || !alarm.stream) return null;
  const { about } = alarm.stream;
  const steady = trend.low_per_h * trend.high_per_h <= 0;
  const arrow = steady ? "→" : trend.per_h > 0 ? "↑" : "↓";
  const text = steady
    ? t("alarms.steady")
    : t("alarms.perhour", { value: signed(trend.per_h, about.decimals), unit: unit(about) });
  const worse = !steady && trend.per_h * alarm.stream.direction > 0;
  return { arrow, text, worse };
}

function nextText(alarm) {
  const next = model.trends.get(alarm.id)?.next;
  if (!next || alarm.severity === 0) return null;
  const level = next.label || t(`severity.${next.severity}`);
  if (next.latest_s < 120) return t("alarms.next.now", { level });
  if (next.latest_s > 3 * 3600) return t("alarms.next.soonest", { level, from: aboutText(next.soonest_s) });
  const [from, to] = [aboutText(next.soonest_s), aboutText(next.latest_s)];
  if (from === to) return t("alarms.next.about", { level, from });
  // "18–35 min" rather than "18 min–35 min".
  const short = next.soonest_s < 60 ? "0" : next.latest_s < 3600 - 150 ? from.split(" ")[0] : from;
  return t("alarms.next", { level, from: short, to });
}

function AcknowledgeButton({ alarm, onAcknowledge }) {
  if (alarm.state === "acknowledged") {
    const text = alarm.acknowledged_by
      ? t("alarms.acknowledged.by", { who: alarm.acknowledged_by })
      : t("alarms.acknowledged");
    return html`<span class="seen" title=${alarm.comment}>✓ ${text}${alarm.comment && html`<em>${alarm.comment}</em>`}</span>`;
  }
  if (!may("alarms")) return null;
  const sending = alarm.asked && performance.now() - alarm.asked < ASKED_FOR_MS;
  return html`
    <button class="button acknowledge" disabled=${sending} onClick=${() => onAcknowledge(alarm.id)}>
      ${t(sending ? "alarms.sending" : "alarms.acknowledge")}
    </button>
  `;
}

function Event({ alarm, selected, onPick, onAcknowledge }) {
  const site = model.siteById.get(alarm.site);
  const { about, index } = alarm.stream;
  const over = alarm.severity === 0;
  const severity = over ? alarm.max_severity : alarm.severity;
  const at = now();
  const trend = over ? null : trendText(alarm);
  const next = nextText(alarm);
  const doubtful = [3, 4].includes(model.flag[index]);
  const level = over ? alarm.max_label : alarm.label || alarm.max_label;
  const limit = over
    ? t("alarms.peak", { value: valueText(alarm.peak, about) })
    : t("alarms.limit", { value: valueText(alarm.threshold, about) });
  return html`
    <li class=${`alarm ${over ? "over" : NAMES[severity]} ${alarm.state} ${selected === alarm.site ? "selected" : ""}`} data-alarm=${alarm.id}>
      <div class="badge"><${SeverityIcon} severity=${severity} size=${26} /><span>${t(`severity.${severity}`)}</span></div>
      <div class="what">
        <button class="site" onClick=${() => onPick(alarm.site)}>${site?.name ?? alarm.site}</button>
        <span class="about"><${DomainIcon} domain=${alarm.domain} /> ${label(about)}${level ? ` · ${level}` : ""}${site?.district ? ` · ${site.district}` : ""}</span>
      </div>
      <div class="figures">
        <span class="value">${valueText(model.value[index] ?? alarm.value, about)}</span>
        <span class="limit">${doubtful && !over ? html`<b class="doubt">${t("alarms.doubt")}</b>` : limit}</span>
      </div>
      <div class="time">
        <span class="since">${over ? t("alarms.cleared", { time: momentText(alarm.clearedMs ?? alarm.raisedMs, at) }) : t("alarms.since", { time: momentText(alarm.raisedMs, at) })}</span>
        <span class="age">${spanText(at - (over ? (alarm.clearedMs ?? alarm.raisedMs) : alarm.raisedMs))}</span>
      </div>
      <${AcknowledgeButton} alarm=${alarm} onAcknowledge=${onAcknowledge} />
      ${(trend || next) &&
      html`<div class="outlook">
        ${trend && html`<span class=${`trend ${trend.worse ? "worse" : ""}`}><b>${trend.arrow}</b> ${trend.text}</span>`}
        ${next && html`<strong class="next">${next}</strong>`}
      </div>`}
    </li>
  `;
}

function Job({ alarm, selected, onPick, onAcknowledge }) {
  const site = model.siteById.get(alarm.site);
  const at = now();
  const over = alarm.severity === 0;
  let text;
  if (over) {
    text = t("alarms.cleared", { time: momentText(alarm.clearedMs ?? alarm.raisedMs, at) });
  } else if (alarm.kind === "silence") {
    // The alarm says how long the device had been silent when it was raised; 0: it has never sent.
    const last = alarm.raisedMs - (alarm.value ?? 0) * 1000;
    // A threshold of 0: nobody waited for this, its death was told, by itself or by its broker or gateway.
    const what = alarm.threshold === 0 ? t("alarms.dead", { span: spanText(at - alarm.raisedMs) }) : t("alarms.silent", { span: spanText(at - last) });
    text = alarm.value ? `${what} · ${t("alarms.last", { time: momentText(last, at) })}` : what;
  } else if (alarm.kind === "broker") {
    const lost = alarm.raisedMs - (alarm.threshold ?? 0) * 1000;
    text = `${t("alarms.away", { span: spanText(at - lost) })} · ${t("alarms.since", { time: momentText(lost, at) })}`;
  } else {
    const { about, index } = alarm.stream;
    text = `${label(about)} ${valueText(model.value[index] ?? alarm.value, about)} · ${t("alarms.limit", { value: valueText(alarm.threshold, about) })}`;
  }
  return html`
    <li class=${`job ${over ? "over" : ""} ${alarm.state} ${selected === alarm.site ? "selected" : ""}`} data-alarm=${alarm.id}>
      ${alarm.kind === "silence" ? html`<${SilenceIcon} size=${20} />` : html`<${SeverityIcon} severity=${alarm.severity || alarm.max_severity} size=${18} />`}
      <div class="what">
        ${alarm.kind === "broker"
          ? html`<strong class="site">${t("alarms.broker", { name: alarm.subject })}</strong>
              <span class="about">${t("alarms.broker.about")}</span>`
          : html`<button class="site" onClick=${() => onPick(alarm.site)}>${site?.name ?? alarm.site}</button>
              <span class="about">${alarm.device}</span>`}
      </div>
      <span class="text">${text}</span>
      <${AcknowledgeButton} alarm=${alarm} onAcknowledge=${onAcknowledge} />
    </li>
  `;
}

/** What closed lately, most recent first: for the operator who comes on shift. */
function Recent({ onPick }) {
  const [found, setFound] = useState([]);
  useEffect(() => {
    const stop = new AbortController();
    const load = async () => {
      const to = now();
      if (!to) return;
      const query = new URLSearchParams({ from: new Date(to - RECENT_MS).toISOString(), to: new Date(to).toISOString() });
      const answer = await fetch(`/api/alarms?${query}`, { signal: stop.signal });
      if (!answer.ok) return;
      const { alarms } = await answer.json();
      const closed = alarms.filter((a) => a.state === "normal" && a.kind === "level" && a.domain !== "device" && a.cleared_at);
      setFound(closed.sort((a, b) => Date.parse(b.cleared_at) - Date.parse(a.cleared_at)).slice(0, RECENT_SHOWN));
    };
    // Several may close at once; one question is enough.
    const timer = setTimeout(() => load().catch(() => {}), 500);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [model.closed, model.city.directory_version, model.connection]);
  if (!found.length) return null;
  const at = now();
  return html`
    <h2>${t("alarms.recent")}</h2>
    <ol class="recent">
      ${found.map((a) => {
        const stream = model.streamById.get(a.subject);
        if (!stream) return null;
        const [from, to] = [Date.parse(a.raised_at), Date.parse(a.cleared_at)];
        return html`<li key=${a.id}>
          <${SeverityIcon} severity=${a.max_severity} size=${16} />
          <button class="site" onClick=${() => onPick(a.site)}>${model.siteById.get(a.site)?.name ?? a.site}</button>
          <span>${t(`severity.${a.max_severity}`)} · ${label(stream.about)} · ${t("alarms.peak", { value: valueText(a.peak, stream.about) })}</span>
          <span class="when">${momentText(from, at)}–${momentText(to, at)}</span>
        </li>`;
      })}
    </ol>
  `;
}

function noneText(jobs) {
  if (inTrouble()) return t("alarms.none.blind");
  const silent = jobs.filter((a) => a.kind === "silence" && a.severity > 0).length;
  if (silent) return t("alarms.none.silent", { n: silent });
  return t("alarms.none.more", { sites: model.city.sites.length });
}

export function AlarmList({ alarms, selected, onPick, onAcknowledge }) {
  const [all, setAll] = useState(false);
  const { events, returned, jobs } = alarms;
  const part = { selected, onPick, onAcknowledge };
  const shown = all ? jobs : jobs.slice(0, FEW_JOBS);
  return html`
    <section class="alarms" aria-label=${t("alarms.title")} tabindex="-1">
      ${events.length === 0 &&
      html`<div class="none"><strong>${t("alarms.none")}</strong><span>${noneText(jobs)}</span></div>`}
      <ol class="events">${events.map((a) => html`<${Event} key=${a.id} alarm=${a} ...${part} />`)}</ol>
      ${returned.length > 0 &&
      html`<h2>${t("alarms.returned")} <b>${returned.length}</b></h2>
        <ol class="events">${returned.map((a) => html`<${Event} key=${a.id} alarm=${a} ...${part} />`)}</ol>`}
      <h2 title=${t("alarms.jobs.about")}>${t("alarms.jobs")} <b>${jobs.filter((a) => a.severity > 0).length || ""}</b></h2>
      ${jobs.length === 0
        ? html`<p class="quiet">${t("alarms.jobs.none")}</p>`
        : html`<ol class="jobs">${shown.map((a) => html`<${Job} key=${a.id} alarm=${a} ...${part} />`)}</ol>`}
      ${jobs.length > shown.length &&
      html`<button class="button more" onClick=${() => setAll(true)}>${t("alarms.jobs.all", { n: jobs.length })}</button>`}
      <${Recent} onPick=${onPick} />
    </section>
  `;
}

const remembered = () => {
  try {
    return localStorage.getItem("pantau.operator") ?? "";
  } catch {
    return "";
  }
};

export function AcknowledgeDialog({ id, onClose }) {
  const dialog = useRef(null);
  const first = useRef(null);
  const [by, setBy] = useState(remembered);
  const named = isOpen(); // without accounts somebody has to say who it is
  const [comment, setComment] = useState("");
  const [failed, setFailed] = useState("");
  const [sending, setSending] = useState(false);
  const alarm = model.alarms.get(id);
  // Before the next key is pressed, which may already be the first letter of the name.
  useLayoutEffect(() => {
    const before = document.activeElement;
    dialog.current.showModal();
    first.current.focus();
    return () => before?.focus?.();
  }, []);
  const send = async (e) => {
    e.preventDefault();
    setSending(true);
    try {
      const order = { id, by: named ? by.trim() : "", comment: comment.trim() };
      await change("POST", "/api/alarms/acknowledge", order, { timeoutMs: 8000 });
      try {
        if (named) localStorage.setItem("pantau.operator", by.trim());
      } catch {
        // not remembered then
      }
      const open = model.alarms.get(id);
      if (open) open.asked = performance.now();
      changed("alarms");
      onClose();
    } catch (error) {
      setFailed(t("ack.failed", { reason: error.status === 0 ? t("ack.unreachable") : error.message }));
      setSending(false);
    }
  };
  const site = model.siteById.get(alarm?.site);
  return html`
    <dialog ref=${dialog} class="ask" aria-labelledby="ask-title" onClose=${onClose}>
      <form onSubmit=${send}>
        <h2 id="ask-title">${t("ack.title")}</h2>
        <p class="ask-what">
          ${alarm?.kind === "level" && html`<${SeverityIcon} severity=${alarm.severity || alarm.max_severity} size=${22} /> `}
          <strong>${alarm?.kind === "broker" ? t("alarms.broker", { name: alarm.subject }) : (site?.name ?? "")}</strong>
          <span>${alarm?.stream ? ` ${label(alarm.stream.about)} · ${alarm.label || alarm.max_label}` : ` ${alarm?.device ?? ""}`}</span>
        </p>
        ${named
          ? html`<label>${t("ack.who")}
              <input class="field" name="by" required maxlength="100" autocomplete="name" ref=${by ? null : first} value=${by} onInput=${(e) => setBy(e.target.value)} />
            </label>`
          : html`<p class="ask-as">${t("ack.as", { who: session.name })}</p>`}
        <label>${t("ack.comment")}
          <input class="field" name="comment" maxlength="1000" autocomplete="off" value=${comment} onInput=${(e) => setComment(e.target.value)} />
        </label>
        ${failed && html`<p class="failed" role="alert">${failed}</p>`}
        <div class="ask-do">
          <button type="button" class="button" onClick=${() => dialog.current.close()}>${t("ack.cancel")}</button>
          <button class="button main" disabled=${sending || (named && !by.trim())} ref=${by || !named ? first : null}>${t("ack.do")}</button>
        </div>
      </form>
    </dialog>
  `;
}
