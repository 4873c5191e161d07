// "Install": serial number, model, place, save. Everything is kept on the phone while it is typed.

import { html, useEffect, useRef, useState } from "../web/vendor/htm/preact.js";
import { currentLanguage, number, t } from "../web/language.js";
import { fleet, lastModels, loadSites, model, modelName, modelsInOrder, sitesNearby, usedModel } from "./fleet.js";
import { PinMap, SmallMap } from "./map.js";
import { Choice, Icon } from "./parts.js";
import { findMe, here } from "./place.js";
import { Scanner, canScan } from "./scan.js";
import { Refused, api, mayChange, remember, remembered, sendOrKeep } from "./server.js";
import { distanceText, positionText, spanText } from "./text.js";

const DRAFT = "draft";
const NEAR_M = 50;
const SHOWN = 4;

const freshDraft = () => ({
  serial: "",
  model: "",
  height: "", // of a sensor that looks down, above the gauge's zero, in m
  where: "", // "site", "new" or "swap"; "" means: what lies nearest decides
  site: "",
  newName: "",
  newId: `site-${[...crypto.getRandomValues(new Uint8Array(5))].map((b) => "abcdefghjkmnpqrstuvwxyz23456789"[b % 31]).join("")}`,
  pin: null,
  old: "",
  alias: "",
  gateway: false,
  clock: "utc",
});

/** A device's id is its serial number, without what a topic can't hold. */
export const deviceId = (serial) => serial.trim().replace(/[\s/+#\\]+/g, "-").slice(0, 200);

/** The one site that we clearly stand at, else null. */
function siteHere(nearby) {
  const close = nearby.filter((s) => s.far_m <= NEAR_M * 2);
  return close.length === 1 && close[0].far_m <= NEAR_M && (here.accuracy_m ?? 999) <= 60 ? close[0].id : null;
}

function devicesNearby(nearby) {
  const found = nearby.flatMap((s) => s.devices.map((d) => ({ ...d, site: s })));
  const rank = (d) => (d.silent_s !== null && d.silent_s !== undefined ? 0 : 1);
  const band = (d) => (d.site.far_m <= 100 ? 0 : 1); // at hand, silent ones first; then the rest by distance
  return found.sort((a, b) => band(a) - band(b) || (band(a) ? 0 : rank(a) - rank(b)) || a.site.far_m - b.site.far_m);
}

export function Register({ go, prefill }) {
  const [draft, setDraft] = useState(() => ({ ...freshDraft(), ...(remembered(DRAFT) ?? {}), ...(prefill ?? {}) }));
  const [scanning, setScanning] = useState(false);
  const [pinning, setPinning] = useState(false);
  const [allModels, setAllModels] = useState(false);
  const [more, setMore] = useState(SHOWN);
  const [filter, setFilter] = useState("");
  const [known, setKnown] = useState(null);
  const [missing, setMissing] = useState("");
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const parts = { serial: useRef(null), model: useRef(null), place: useRef(null) };
  const serialInput = useRef(null);

  const put = (change) => {
    setMissing("");
    setProblem("");
    setDraft((d) => {
      const next = { ...d, ...change };
      remember(DRAFT, next);
      return next;
    });
  };

  useEffect(() => {
    loadSites(here.position ?? fleet.about?.centre);
  });
  // Is this serial number registered already? Asked as one types, and never in the way.
  useEffect(() => {
    setKnown(null);
    const serial = draft.serial.trim();
    if (serial.length < 3) return undefined;
    const timer = setTimeout(async () => {
      try {
        const { devices } = await api(`/api/devices?q=${encodeURIComponent(serial)}&limit=5`);
        const same = (x) => x && x.toLowerCase() === serial.toLowerCase();
        setKnown(devices.find((d) => same(d.serial) || same(d.id) || same(d.eui)) ?? null);
      } catch {
        // without a network it shows when it is sent
      }
    }, 300);
    return () => clearTimeout(timer);
  }, [draft.serial]);

  const nearby = sitesNearby();
  const auto = siteHere(nearby);
  const where = draft.where || (auto || (nearby.length && !here.position) ? "site" : nearby.length && nearby[0].far_m < 500 ? "site" : "new");
  const site = draft.site || (where === "site" ? auto : "") || "";
  const pin = draft.pin ?? here.position;
  const old = draft.old;
  const olds = devicesNearby(nearby);
  const modelId = draft.model || (where === "swap" ? (olds.find((d) => d.id === old)?.model ?? "") : "");
  const modelKnown = Boolean(model(modelId));
  const height = Number(draft.height.trim().replace(",", "."));
  const needsHeight = Boolean(model(modelId)?.needs_height);

  const lacking = () => {
    if (!draft.serial.trim()) return "serial";
    if (!modelKnown) return "model";
    if (needsHeight && (!draft.height.trim() || !Number.isFinite(height))) return "height";
    if (where === "site" && !site) return "place";
    if (where === "new" && !pin) return "place";
    if (where === "swap" && !old) return "place";
    return "";
  };

  const save = async () => {
    const lack = lacking();
    if (lack) {
      setMissing(lack);
      parts[lack === "height" ? "model" : lack].current?.scrollIntoView({ block: "center", behavior: "smooth" });
      if (lack === "serial") serialInput.current?.focus({ preventScroll: true });
      return;
    }
    const id = deviceId(draft.serial);
    const body = { id, serial: draft.serial.trim(), model: modelId, credentials: true };
    if (needsHeight) body.height = height;
    if (draft.alias.trim()) body.alias = draft.alias.trim();
    if (draft.gateway) body.gateway = true;
    if (draft.clock !== "utc") body.clock = draft.clock;
    let name = "";
    if (where === "site") {
      body.site = site;
      name = nearby.find((s) => s.id === site)?.name ?? site;
    } else if (where === "new") {
      name = draft.newName.trim() || t("devices.new.default", { serial: draft.serial.trim() });
      body.new_site = { id: draft.newId, name, latitude: pin.latitude, longitude: pin.longitude };
    } else {
      body.replaces = old;
      name = olds.find((d) => d.id === old)?.site.name ?? "";
    }
    setBusy(true);
    try {
      // Credentials are shown once, so they are made when somebody looks: not when it is sent later by itself.
      const kept = { ...body, credentials: false, at: new Date().toISOString() };
      const answer = await sendOrKeep("register", `/api/devices?language=${currentLanguage()}`, body, { id, name, model: modelName(modelId) }, kept);
      usedModel(modelId);
      remember(DRAFT, null);
      setDraft(freshDraft());
      loadSites(here.position ?? fleet.about?.centre, true);
      if (answer) go(`device/${encodeURIComponent(answer.device.id)}`, answer);
      else go("waiting");
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      setProblem(error.message);
    } finally {
      setBusy(false);
    }
  };

  return html`
    <main class="form">
      <section class=${`card ${missing === "serial" ? "missing" : ""}`} ref=${parts.serial}>
        <h2><label for="serial">${t("devices.serial")}</label></h2>
        <div class="beside">
          <input id="serial" class="big-field" ref=${serialInput} value=${draft.serial} autocomplete="off" autocapitalize="characters" spellcheck="false" enterkeyhint="done" maxlength="100" placeholder=${t("devices.serial.example")} onInput=${(e) => put({ serial: e.target.value })} onKeyDown=${(e) => e.key === "Enter" && e.target.blur()} />
          ${canScan() && html`<button class="big square" aria-label=${t("devices.scan")} onClick=${() => setScanning(true)}><${Icon} name="scan" size="30" /></button>`}
        </div>
        ${known &&
        html`<p class="note warn">
          ${t("devices.serial.known", { site: known.site?.name ?? t("devices.nowhere") })}
          <a class="inline" href=${`#device/${encodeURIComponent(known.id)}`}>${t("devices.open", { id: known.id })}</a>
        </p>`}
      </section>

      <${ModelCard} card=${parts.model} missing=${missing === "model" || missing === "height"} height=${draft.height} onHeight=${(h) => put({ height: h })} chosen=${modelId} all=${allModels} onAll=${() => setAllModels(true)} onChoose=${(id) => { put({ model: id }); setAllModels(false); }} />

      <section class=${`card ${missing === "place" ? "missing" : ""}`} ref=${parts.place}>
        <h2>${t("devices.place")}</h2>
        <${Here} />
        <div class="tabs3" role="tablist">
          ${["site", "new", "swap"].map(
            (w) => html`<button role="tab" aria-selected=${where === w} onClick=${() => { put({ where: w }); setMore(SHOWN); }}>${t(`devices.place.${w}`)}</button>`,
          )}
        </div>
        ${where === "site" &&
        html`
          ${nearby.length > SHOWN && html`<input class="field filter" type="search" placeholder=${t("devices.site.filter")} aria-label=${t("devices.site.filter")} value=${filter} onInput=${(e) => setFilter(e.target.value)} />`}
          <div role="radiogroup" aria-label=${t("devices.place.site")}>
            ${nearby
              .filter((s) => !filter || s.name.toLowerCase().includes(filter.toLowerCase()) || s.id === site)
              .slice(0, more)
              .map((s) => html`<${Choice} key=${s.id} name="site" value=${s.id} chosen=${site} onChoose=${(v) => put({ site: v, where: "site" })} note=${distanceText(s.far_m)}>
                <b>${s.name}</b><small>${s.devices.length ? t("devices.site.devices", { n: s.devices.length }) : t("devices.site.empty")}</small>
              <//>`)}
          </div>
          ${!nearby.length && html`<p class="note">${t("devices.site.none")}</p>`}
          ${more < nearby.length && html`<button class="more" onClick=${() => setMore(more + 10)}>${t("devices.more")}</button>`}
        `}
        ${where === "new" &&
        html`
          <label class="labelled">${t("devices.new.name")}
            <input class="big-field" value=${draft.newName} maxlength="200" placeholder=${t("devices.new.example")} onInput=${(e) => put({ newName: e.target.value })} />
          </label>
          <${SmallMap} pin=${pin} me=${here.position ? here : null} sites=${nearby.slice(0, 15)} base=${fleet.base} onOpen=${() => setPinning(true)} />
          <p class="note">${pin ? `${positionText(pin)} · ${draft.pin ? t("devices.new.pinned") : t("devices.new.phone")}` : t("devices.new.nowhere")}
            ${draft.pin && here.position && html` <button class="inline" onClick=${() => put({ pin: null })}>${t("devices.new.reset")}</button>`}</p>
        `}
        ${where === "swap" &&
        html`
          <p class="note">${t("devices.swap.about")}</p>
          <div role="radiogroup" aria-label=${t("devices.place.swap")}>
            ${olds.slice(0, more).map((d) => html`<${Choice} key=${d.id} name="old" value=${d.id} chosen=${old} onChoose=${(v) => put({ old: v, where: "swap" })} note=${distanceText(d.site.far_m)}>
              <b>${d.id}</b><small>${d.site.name}</small>
              ${d.silent_s !== null && d.silent_s !== undefined && html`<small class="silent"><${Icon} name="silent" size="16" /> ${t("devices.silent", { span: spanText(d.silent_s) })}</small>`}
            <//>`)}
          </div>
          ${!olds.length && html`<p class="note">${t("devices.swap.none")}</p>`}
          ${more < olds.length && html`<button class="more" onClick=${() => setMore(more + 10)}>${t("devices.more")}</button>`}
        `}
      </section>

      <details class="card advanced" open=${Boolean(draft.alias || draft.gateway || draft.clock !== "utc")}>
        <summary>${t("devices.advanced")}</summary>
        <label class="stacked">${t("devices.alias")}
          <input class="big-field" value=${draft.alias} autocomplete="off" autocapitalize="none" spellcheck="false" maxlength="200" placeholder="urn:ngsi-ld:Device:0231" onInput=${(e) => put({ alias: e.target.value })} />
        </label>
        <label class="stacked">${t("devices.clock")}
          <select class="big-field" value=${draft.clock} onChange=${(e) => put({ clock: e.target.value })}>
            ${["utc", "local", "none"].map((c) => html`<option key=${c} value=${c}>${t(`devices.clock.${c}`)}</option>`)}
          </select>
        </label>
        <label class="choice"><input type="checkbox" checked=${draft.gateway} onChange=${(e) => put({ gateway: e.target.checked })} /><span class="choice-text">${t("devices.gateway")}</span></label>
      </details>

      ${!mayChange() && html`<p class="note warn">${t("devices.readonly")}</p>`}
      ${mayChange() && html`<div class="save">
        ${problem && html`<p class="problem" role="alert">${problem}</p>`}
        ${missing && html`<p class="problem" role="alert">${t(`devices.missing.${missing}${missing === "place" ? `.${where}` : ""}`)}</p>`}
        <button class="big main" disabled=${busy} onClick=${save}>${busy ? t("devices.saving") : where === "swap" ? t("devices.save.swap") : t("devices.save")}</button>
      </div>`}

      ${scanning && html`<${Scanner} onClose=${() => setScanning(false)} onFound=${(s) => { setScanning(false); put({ serial: s }); }} />`}
      ${pinning &&
      html`<${PinMap} start=${pin ?? { ...(fleet.about?.centre ?? { latitude: -6.9, longitude: 107.6 }), zoom: 13 }} me=${here.position ? here : null} sites=${nearby} base=${fleet.base} onClose=${() => setPinning(false)} onDone=${(p) => { setPinning(false); put({ pin: p, where: "new" }); }} />`}
    </main>
  `;
}

function ModelCard({ card, missing, chosen, all, height, onHeight, onAll, onChoose }) {
  const models = modelsInOrder();
  const recent = lastModels().filter((id) => model(id));
  // Once one is chosen the others make room: the place is next.
  const some = model(chosen) ? [chosen] : [...new Set([...recent, ...models.map((m) => m.id)])].slice(0, SHOWN);
  const shown = all ? models.map((m) => m.id) : some;
  return html`
    <section class=${`card ${missing ? "missing" : ""}`} ref=${card}>
      <h2 id="model-title">${t("devices.model")}</h2>
      <div role="radiogroup" aria-labelledby="model-title">
        ${shown.map((id) => {
          const m = model(id);
          if (!m) return null;
          return html`<${Choice} key=${id} name="model" value=${id} chosen=${chosen} onChoose=${onChoose}>
            <b>${modelName(id)}</b><small>${[m.vendor, m.properties.map(labelFor).slice(0, 4).join(", ")].filter(Boolean).join(" · ")}</small>
          <//>`;
        })}
      </div>
      ${model(chosen)?.needs_height &&
      html`<label class="labelled height">${t("devices.height")}
        <input class="big-field" inputmode="decimal" maxlength="12" placeholder=${t("devices.height.example")} value=${height} onInput=${(e) => onHeight(e.target.value)} />
      </label>`}
      ${!models.length && html`<p class="note">${t("devices.model.none")}</p>`}
      ${!all && models.length > shown.length && html`<button class="more" onClick=${onAll}>${t(model(chosen) ? "devices.model.other" : "devices.model.all", { n: models.length })}</button>`}
    </section>
  `;
}

const labelFor = (name) => {
  const about = fleet.about?.properties[name];
  return about?.label?.[document.documentElement.lang] ?? name;
};

function Here() {
  if (here.state === "known") {
    return html`<p class="here good"><${Icon} name="pin" size="20" /> ${t("devices.here.known", { m: number(Math.max(1, Math.round(here.accuracy_m))) })}</p>`;
  }
  return html`<p class="here">
    <${Icon} name="pin" size="20" /> ${t(`devices.here.${here.state}`)}
    ${here.state !== "insecure" && here.state !== "asking" && html` <button class="inline" onClick=${findMe}>${t("devices.here.again")}</button>`}
  </p>`;
}
