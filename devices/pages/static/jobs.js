// "Jobs": what is silent, faulty or due, nearest first; closed with a note and a photo.

import { html, useEffect, useState } from "../web/vendor/htm/preact.js";
import { t } from "../web/language.js";
import { aboutProperty, fleet } from "./fleet.js";
import { Icon, Sheet } from "./parts.js";
import { smallPhoto } from "./photo.js";
import { here } from "./place.js";
import { Refused, changed, known, mayChange, remembered, sendOrKeep, waiting } from "./server.js";
import { distanceText, labelOf, metresBetween, momentText, spanText, valueText } from "./text.js";

export const jobs = { list: remembered("jobs")?.jobs ?? [], total: remembered("jobs")?.total ?? 0, loaded: false };

let asking = false;
export async function loadJobs() {
  if (asking) return;
  asking = true;
  try {
    const at = here.position ?? fleet.about?.centre;
    const near = at ? `&latitude=${at.latitude.toFixed(5)}&longitude=${at.longitude.toFixed(5)}` : "";
    const answer = await known("jobs", `/api/jobs?limit=100${near}`);
    if (answer) {
      jobs.list = answer.jobs;
      jobs.total = answer.total;
      jobs.loaded = true;
    }
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
  } finally {
    asking = false;
    changed();
  }
}

/** Jobs that are not waiting to be closed on this phone. */
export function openJobs() {
  const closing = new Set(waiting().filter((i) => i.kind === "close" && !i.error).map((i) => i.about.id));
  return jobs.list
    .filter((j) => !closing.has(j.id))
    .map((j) => ({ ...j, far_m: here.position && j.site ? metresBetween(here.position, j.site) : j.distance_m }));
}

const GROUPS = ["all", "silent", "faulty", "due"];
const groupOf = (job) => (job.kind === "silent" || job.kind === "faulty" ? job.kind : "due");

export function Jobs({ go }) {
  const [group, setGroup] = useState("all");
  const [closing, setClosing] = useState(null);
  const [done, setDone] = useState("");
  useEffect(() => {
    loadJobs();
    const timer = setInterval(() => document.hidden || loadJobs(), 10000);
    return () => clearInterval(timer);
  }, [here.position && here.position.latitude.toFixed(3)]);
  const all = openJobs();
  const shown = all.filter((j) => group === "all" || groupOf(j) === group).sort((a, b) => (a.far_m ?? 1e12) - (b.far_m ?? 1e12));
  const count = (g) => all.filter((j) => g === "all" || groupOf(j) === g).length;
  return html`
    <main class="jobs">
      <div class="filter-row" role="tablist" aria-label=${t("devices.jobs")}>
        ${GROUPS.map((g) => html`<button key=${g} role="tab" aria-selected=${group === g} onClick=${() => setGroup(g)}>${t(`devices.jobs.${g}`)} <b>${count(g)}</b></button>`)}
      </div>
      ${done && html`<p class="note done" role="status"><${Icon} name="good" size="20" /> ${done}</p>`}
      ${!shown.length && html`<p class="nothing"><${Icon} name="good" size="40" /><b>${jobs.loaded ? t("devices.jobs.none") : t("devices.jobs.unknown")}</b></p>`}
      <ol class="job-list">
        ${shown.map((job) => html`<${JobRow} key=${job.id} job=${job} go=${go} onClose=${() => { setDone(""); setClosing(job); }} />`)}
      </ol>
      ${closing && html`<${CloseSheet} job=${closing} onClose=${() => setClosing(null)} onDone=${(text) => { setClosing(null); setDone(text); loadJobs(); }} />`}
    </main>
  `;
}

function JobRow({ job, go, onClose }) {
  const offset = fleet.about?.utc_offset_h ?? 0;
  const group = groupOf(job);
  const overdue = job.due_at && job.overdue;
  const about =
    Object.entries(job.values ?? {})
      .map(([name, value]) => `${labelOf(aboutProperty(name), name)} ${valueText(value, aboutProperty(name))}`)
      .join(", ") || job.text;
  const what =
    job.kind === "silent"
      ? job.heard
        ? t("devices.silent", { span: spanText(job.age_s) })
        : t("devices.silent.never")
      : job.kind === "faulty"
        ? t("devices.jobs.faulty.since", { span: spanText(job.age_s) })
        : t(overdue ? "devices.jobs.overdue" : "devices.jobs.by", { day: job.due_at ? momentText(job.due_at, offset) : "–" });
  return html`
    <li class=${`job ${group}`}>
      <span class="job-mark"><${Icon} name=${{ silent: "silent", faulty: "bad", due: "jobs" }[group]} /></span>
      <div class="job-text">
        <b>${job.site?.name ?? job.device}</b>
        <span class=${`job-what ${overdue ? "over" : ""}`}>${group === "due" && !job.due_at ? t("devices.jobs.open") : what}</span>
        ${(about || group === "due") && html`<span>${about || job.kind}</span>`}
        <small>${job.device}${job.far_m !== null && job.far_m !== undefined ? ` · ${distanceText(job.far_m)}` : ""}</small>
      </div>
      <div class="job-do">
        ${job.site && html`<a class="big" href=${`geo:${job.site.latitude},${job.site.longitude}?q=${job.site.latitude},${job.site.longitude}(${encodeURIComponent(job.site.name)})`} aria-label=${t("devices.jobs.way", { site: job.site.name })}><${Icon} name="pin" /></a>`}
        ${job.device && html`<button class="big" onClick=${() => go(`device/${encodeURIComponent(job.device)}`)}>${t("devices.jobs.device")}</button>`}
        ${mayChange() && html`<button class="big main" onClick=${onClose}>${t("devices.jobs.close")}</button>`}
      </div>
    </li>
  `;
}

function CloseSheet({ job, onClose, onDone }) {
  const [note, setNote] = useState("");
  const [photo, setPhoto] = useState(null);
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const take = async (e) => {
    const [file] = e.target.files;
    if (!file) return;
    setProblem("");
    try {
      setPhoto(await smallPhoto(file));
    } catch {
      setProblem(t("devices.photo.failed"));
    }
  };
  const close = async () => {
    if (!note.trim() && !photo) return setProblem(t("devices.jobs.empty"));
    setBusy(true);
    try {
      const answer = await sendOrKeep("close", `/api/jobs/${encodeURIComponent(job.id)}/close`, { note: note.trim(), photo }, { id: job.id, name: job.site?.name ?? job.device });
      onDone(t(answer ? "devices.jobs.done" : "devices.jobs.kept", { site: job.site?.name ?? job.device }));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      setProblem(error.message);
      setBusy(false);
    }
    return undefined;
  };
  return html`
    <${Sheet} title=${t("devices.jobs.close.title", { site: job.site?.name ?? job.device })} onClose=${onClose}>
      <label class="labelled">${t("devices.jobs.note")}
        <textarea class="big-field" rows="3" maxlength="2000" placeholder=${t("devices.jobs.note.example")} value=${note} onInput=${(e) => { setNote(e.target.value); setProblem(""); }}></textarea>
      </label>
      <label class="big photo">
        <input type="file" accept="image/*" capture="environment" onChange=${take} />
        ${photo ? html`<img src=${photo} alt=${t("devices.photo")} />` : html`<${Icon} name="camera" />`} ${t(photo ? "devices.photo.again" : "devices.photo")}
      </label>
      ${problem && html`<p class="problem" role="alert">${problem}</p>`}
      <div class="two">
        <button class="big" onClick=${onClose}>${t("devices.cancel")}</button>
        <button class="big main" disabled=${busy} onClick=${close}>${busy ? t("devices.saving") : t("devices.jobs.close.do")}</button>
      </div>
    <//>
  `;
}
