// The map: a base map of our own (no tiles), and all sites on one canvas. Grey is normal.

import * as L from "../web/vendor/leaflet/leaflet.js";
import { t } from "../web/language.js";
import { valueText } from "./format.js";
import { model, onChange } from "./model.js";
import { HEAVY, RAIN_RADIUS, rainText, rainWords } from "./rain.js";
import { DOMAIN_PATH, NAMES, SEVERITY_PATH } from "./shapes.js";

const DOMAIN = Object.fromEntries(Object.entries(DOMAIN_PATH).map(([k, v]) => [k, new Path2D(v)]));
const SEVERITY = Object.fromEntries(Object.entries(SEVERITY_PATH).map(([k, v]) => [k, new Path2D(v)]));
const RADIUS = { 1: 11, 2: 13, 3: 15 };
const NORMAL_RADIUS = 4.5;
const MAX_LABELS = 40;
const PULSE_MS = 2400;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * Three canvases: quiet sites, which change only as the map moves; rain, and alarms with names and values, again each
 * second; and the pulse of unacknowledged alarms.
 */
const SiteLayer = L.Layer.extend({
  initialize(onPick) {
    this.onPick = onPick;
    this.selected = null;
  },

  onAdd(map) {
    this.still = L.DomUtil.create("canvas", "site-canvas quiet", map.getPane("overlayPane"));
    this.bold = L.DomUtil.create("canvas", "site-canvas loud", map.getPane("overlayPane"));
    this.pulse = L.DomUtil.create("canvas", "site-canvas pulse", map.getPane("overlayPane"));
    map.on("move zoom viewreset resize", this.draw, this);
    map.on("click", (e) => {
      const site = this.at(e.containerPoint);
      if (site) this.onPick(site.id);
    });
    map.on("mousemove", (e) => this.hover(e.containerPoint));
    map.on("mouseout", () => this.hover(null));
    this.tip = L.DomUtil.create("div", "map-tip", map.getContainer());
    this.tip.hidden = true;
    this.readColours();
    this.draw();
    // Ten steps a second are smooth enough for so slow a pulse, and leave a weak machine in peace.
    this.timer = setInterval(() => document.hidden || this.drawPulse(performance.now()), 100);
  },

  readColours() {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(`--${name}`).trim();
    this.colour = {};
    for (const name of Object.values(NAMES)) {
      this.colour[name] = of(name);
      this.colour[`${name}-ink`] = of(`${name}-ink`);
    }
    for (const name of ["faint", "silence", "edge", "text", "surface", "place", "rain"]) this.colour[name] = of(name);
    this.font = getComputedStyle(document.body).fontFamily;
  },

  place(canvas) {
    const map = this._map;
    const size = map.getSize();
    const ratio = devicePixelRatio || 1;
    L.DomUtil.setPosition(canvas, map.containerPointToLayerPoint([0, 0]));
    if (canvas.width !== Math.round(size.x * ratio) || canvas.height !== Math.round(size.y * ratio)) {
      canvas.width = Math.round(size.x * ratio);
      canvas.height = Math.round(size.y * ratio);
      canvas.style.width = `${size.x}px`;
      canvas.style.height = `${size.y}px`;
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, size.x, size.y);
    return { pen, size };
  },

  /** Each quiet shape once; ten thousand copies of a picture are cheap. */
  stamps(r) {
    const ratio = devicePixelRatio || 1;
    const side = Math.ceil(2 * r + 2);
    return Object.fromEntries(
      Object.entries(DOMAIN).map(([name, path]) => {
        const canvas = new OffscreenCanvas(side * ratio, side * ratio);
        const pen = canvas.getContext("2d");
        pen.setTransform(r * ratio, 0, 0, r * ratio, (side * ratio) / 2, (side * ratio) / 2);
        pen.fillStyle = this.colour.faint;
        pen.fill(path);
        return [name, { canvas, side }];
      }),
    );
  },

  draw() {
    if (!this._map || !model.city) return;
    const { pen, size } = this.place(this.still);
    this.place(this.pulse);
    const map = this._map;
    this.drawn = [];
    const scale = Math.max(0.75, Math.min(1.5, 1 + (map.getZoom() - 12) * 0.15));
    const many = model.city.sites.length > 2000 ? 0.7 : 1;
    const stamps = this.stamps(NORMAL_RADIUS * scale * many);
    for (const site of model.city.sites) {
      const { x, y } = map.latLngToContainerPoint([site.latitude, site.longitude]);
      if (x < -20 || y < -20 || x > size.x + 20 || y > size.y + 20) continue;
      const state = model.siteStates.get(site.id);
      this.drawn.push({ site, x, y, state });
      if (state?.severity || state?.silent) continue;
      const { canvas, side } = stamps[site.domain];
      pen.drawImage(canvas, x - side / 2, y - side / 2, side, side);
    }
    this.drawLoud();
  },

  drawLoud() {
    if (!this._map || !this.drawn) return;
    const { pen, size } = this.place(this.bold);
    const scale = Math.max(0.75, Math.min(1.5, 1 + (this._map.getZoom() - 12) * 0.15));
    const shape = (path, x, y, r) => {
      pen.save();
      pen.translate(x, y);
      pen.scale(r, r);
      pen.fill(path);
      pen.restore();
    };
    const wet = this.drawn.filter((m) => !m.state?.severity && model.siteRain.has(m.site.id));
    for (const m of wet) m.rain = model.siteRain.get(m.site.id);
    wet.sort((a, b) => a.rain.mmH10 - b.rain.mmH10);
    pen.lineJoin = "round";
    for (const { x, y, rain } of wet) {
      const r = RAIN_RADIUS[rain.level] * scale;
      pen.save();
      pen.translate(x, y);
      pen.scale(r, r);
      pen.lineWidth = 3 / r;
      pen.strokeStyle = this.colour.surface;
      pen.stroke(DOMAIN.flood);
      pen.fillStyle = this.colour.rain;
      pen.fill(DOMAIN.flood);
      pen.restore();
    }
    const loud = this.drawn.filter((m) => m.state?.severity || m.state?.silent);
    const faint = loud.length > 200 ? 0.6 : 1;
    loud.sort((a, b) => (a.state.severity || 0) - (b.state.severity || 0));
    for (const { site, x, y, state } of loud) {
      if (!state.severity) {
        pen.lineWidth = 1.8;
        pen.strokeStyle = this.colour.silence;
        pen.setLineDash([4 * faint, 3 * faint]);
        pen.beginPath();
        pen.arc(x, y, 6.5 * faint, 0, 7);
        pen.stroke();
        pen.setLineDash([]);
        pen.beginPath();
        pen.moveTo(x - 7 * faint, y + 7 * faint);
        pen.lineTo(x + 7 * faint, y - 7 * faint);
        pen.stroke();
        continue;
      }
      const r = RADIUS[state.severity] * scale;
      const name = NAMES[state.severity];
      pen.save();
      pen.translate(x, y);
      pen.scale(r, r);
      pen.lineJoin = "round";
      pen.lineWidth = 4 / r;
      pen.strokeStyle = this.colour.edge;
      pen.stroke(SEVERITY[state.severity]);
      pen.fillStyle = this.colour[name];
      pen.fill(SEVERITY[state.severity]);
      pen.restore();
      pen.fillStyle = this.colour[`${name}-ink`];
      shape(DOMAIN[state.domain || site.domain], x, y + (state.severity === 1 ? r * 0.2 : 0), r * 0.42);
    }
    const chosen = this.drawn.find((m) => m.site.id === this.selected);
    if (chosen) {
      pen.lineWidth = 2.5;
      pen.strokeStyle = this.colour.text;
      pen.beginPath();
      pen.arc(chosen.x, chosen.y, chosen.state?.severity ? RADIUS[chosen.state.severity] * scale + 7 : chosen.rain ? RAIN_RADIUS[chosen.rain.level] * scale + 6 : 11, 0, 7);
      pen.stroke();
    }
    this.loud = loud.filter((m) => m.state.unacknowledged);
    const drops = wet.map(({ x, y, rain }) => {
      const r = RAIN_RADIUS[rain.level] * scale;
      return [x - r, y - r, x + r, y + r];
    });
    const taken = this.drawLabels(pen, loud, scale, size, drops);
    this.drawRainLabels(pen, wet, scale, size, taken);
    this.drawNames(pen, taken);
  },

  /** Names of districts, where nothing that matters stands. */
  drawNames(pen, taken) {
    pen.font = `400 13px ${this.font}`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillStyle = this.colour.place;
    pen.strokeStyle = this.colour.surface;
    pen.lineWidth = 3;
    for (const { name, at } of this.names ?? []) {
      const { x, y } = this._map.latLngToContainerPoint(at);
      const half = pen.measureText(name).width / 2;
      // In the middle of the district, else a little above or below it, else not at all.
      const free = (dy) => {
        const box = [x - half, y + dy - 9, x + half, y + dy + 9];
        const clash = (b) => box[0] < b[2] && box[2] > b[0] && box[1] < b[3] && box[3] > b[1];
        if (taken.some(clash) || this.drawn.some((m) => clash([m.x - 4, m.y - 4, m.x + 4, m.y + 4]))) return null;
        return box;
      };
      const dy = [0, -14, 14, -26, 26].find(free);
      if (dy === undefined) continue;
      taken.push(free(dy));
      pen.strokeText(name, x, y + dy);
      pen.fillText(name, x, y + dy);
    }
  },

  /** Names and values beside the most urgent sites, as far as there is room. */
  drawLabels(pen, loud, scale, size, drops) {
    const taken = loud.filter((m) => m.state.severity).map((m) => {
      const r = RADIUS[m.state.severity] * scale + 2;
      return [m.x - r, m.y - r, m.x + r, m.y + r];
    });
    const clear = (box, of) => !of.some((b) => box[0] < b[2] && box[2] > b[0] && box[1] < b[3] && box[3] > b[1]);
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    let count = 0;
    for (const { site, x, y, state } of [...loud].reverse()) {
      if (!state.severity || count >= MAX_LABELS) continue;
      const alarm = state.lead;
      const value = alarm.stream ? valueText(model.value[alarm.stream.index], alarm.stream.about) : "";
      const bold = `600 15px ${this.font}`;
      pen.font = bold;
      const width = Math.max(pen.measureText(site.name).width, pen.measureText(value).width);
      const r = RADIUS[state.severity] * scale + 7;
      const spots = [
        [x + r, y - 18, "left"],
        [x - r - width, y - 18, "right"],
        [x - width / 2, y + r - 2, "center"],
        [x - width / 2, y - r - 36, "center"],
      ];
      const room = spots.filter(
        ([left, top]) =>
          left > 2 && top > 2 && left + width < size.x - 2 && clear([left, top, left + width, top + 36], taken),
      );
      // Better not over a drop, but an alarm says its name wherever it can.
      const spot = room.find(([left, top]) => clear([left, top, left + width, top + 36], drops)) ?? room[0];
      if (!spot) continue;
      count += 1;
      const [left, top, align] = spot;
      const anchor = left + { left: 0, right: width, center: width / 2 }[align];
      pen.textAlign = align;
      taken.push([left, top, left + width, top + 36]);
      pen.lineWidth = 4;
      pen.strokeStyle = this.colour.surface;
      pen.fillStyle = this.colour.text;
      for (const [text, font, dy] of [
        [site.name, bold, 9],
        [value, `400 15px ${this.font}`, 27],
      ]) {
        pen.font = font;
        pen.strokeText(text, anchor, top + dy);
        pen.fillText(text, anchor, top + dy);
      }
    }
    taken.push(...drops);
    return taken;
  },

  /** The mm/h beside the heaviest rain, where alarms leave room. */
  drawRainLabels(pen, wet, scale, size, taken) {
    const free = ([l, top, r, b]) => !taken.some((t) => l < t[2] && r > t[0] && top < t[3] && b > t[1]);
    pen.font = `600 14px ${this.font}`;
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    pen.lineWidth = 4;
    pen.strokeStyle = this.colour.surface;
    pen.fillStyle = this.colour.rain;
    for (const { x, y, rain } of wet.filter((m) => m.rain.level >= HEAVY).reverse()) {
      const text = rainText(rain.mmH10);
      const width = pen.measureText(text).width;
      const r = RAIN_RADIUS[rain.level] * scale + 4;
      const box = [[x + r, y - 9], [x - r - width, y - 9], [x - width / 2, y + r], [x - width / 2, y - r - 18]]
        .map(([left, top]) => [left, top, left + width, top + 18])
        .find((b) => b[0] > 2 && b[1] > 2 && b[2] < size.x - 2 && free(b));
      if (!box) continue;
      taken.push(box);
      pen.strokeText(text, box[0], box[1] + 9);
      pen.fillText(text, box[0], box[1] + 9);
    }
  },

  drawPulse(at) {
    if (!this.loud?.length) {
      if (this.pulsing) this.place(this.pulse);
      this.pulsing = false;
      return;
    }
    if (calm.matches && this.pulsing === this.loud) return;
    const { pen } = this.place(this.pulse);
    const lost = model.connection !== "live";
    for (const { x, y, state } of this.loud) {
      const r = RADIUS[state.severity] + 3;
      const part = calm.matches || lost ? 0.35 : (at % PULSE_MS) / PULSE_MS;
      pen.globalAlpha = calm.matches || lost ? 0.9 : (1 - part) ** 1.5;
      pen.lineWidth = 2.5;
      pen.strokeStyle = this.colour[NAMES[state.severity]];
      pen.beginPath();
      pen.arc(x, y, r + part * 20, 0, 7);
      pen.stroke();
    }
    pen.globalAlpha = 1;
    this.pulsing = calm.matches ? this.loud : true;
  },

  /** The site nearest to a point of the map, if one is near; alarmed ones first. */
  at(point) {
    let best = null;
    let least = 18;
    for (const mark of this.drawn ?? []) {
      const far = Math.hypot(mark.x - point.x, mark.y - point.y) - (mark.state?.severity ? 8 : 0);
      if (far < least) {
        least = far;
        best = mark;
      }
    }
    return best?.site ?? null;
  },

  hover(point) {
    const site = point && this.at(point);
    this._map.getContainer().style.cursor = site ? "pointer" : "";
    this.tip.hidden = !site;
    if (!site) return;
    const severity = model.siteStates.get(site.id)?.severity ?? 0;
    this.tip.replaceChildren();
    const name = document.createElement("strong");
    name.textContent = site.name;
    this.tip.append(name);
    const lines = severity ? [t(`severity.${severity}`)] : [];
    for (const stream of (model.streamsOfSite.get(site.id) ?? []).filter((s) => s.about.domain !== "device").slice(0, 4)) {
      const rain = model.rain.get(stream.index);
      lines.push(rain ? rainWords(rain) : valueText(model.value[stream.index], stream.about));
    }
    for (const line of lines) {
      const row = document.createElement("div");
      row.textContent = line;
      this.tip.append(row);
    }
    const size = this._map.getSize();
    this.tip.style.left = `${Math.min(point.x + 14, size.x - 180)}px`;
    this.tip.style.top = `${Math.min(point.y + 14, size.y - 110)}px`;
  },
});

const KIND_STYLE = {
  river: { colour: "water", weight: 2.5 },
  stream: { colour: "water", weight: 1.5 },
  water: { colour: "water", weight: 1, fill: true },
  road: { colour: "road", weight: 1.5 },
  district: { colour: "district", weight: 1.2, dash: "2 5" },
  city: { colour: "district", weight: 2 },
  boundary: { colour: "district", weight: 2 },
  hull: { colour: "district", weight: 1.2, dash: "2 5" },
};

/** Without a base map: the outline around all sites, so that there is a place to look at. */
function hull(sites) {
  const points = sites.map((s) => [s.longitude, s.latitude]).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  if (points.length < 3) return null;
  const turn = (o, a, b) => (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0]);
  const half = (list) => {
    const found = [];
    for (const p of list) {
      while (found.length > 1 && turn(found.at(-2), found.at(-1), p) <= 0) found.pop();
      found.push(p);
    }
    return found.slice(0, -1);
  };
  const ring = [...half(points), ...half([...points].reverse())];
  const centre = [0, 1].map((k) => ring.reduce((sum, p) => sum + p[k], 0) / ring.length);
  const wider = ring.map((p) => p.map((v, k) => centre[k] + (v - centre[k]) * 1.12));
  return { type: "Feature", properties: { kind: "hull" }, geometry: { type: "Polygon", coordinates: [[...wider, wider[0]]] } };
}

function features(city) {
  const found = [];
  const add = (part, kind) => {
    if (!part || typeof part !== "object") return;
    if (part.type === "Feature") {
      found.push({ ...part, properties: { ...part.properties, kind: part.properties?.kind ?? kind } });
    } else if (Array.isArray(part.features)) {
      for (const f of part.features) add(f, kind);
    } else if (!part.type) {
      for (const [name, sub] of Object.entries(part)) add(sub, name.replace(/s$/, ""));
    }
  };
  add(city.basemap, "");
  if (!found.length) {
    const around = hull(city.sites);
    if (around) found.push(around);
  }
  return found;
}

export function makeMap(node, onPick) {
  const map = L.map(node, {
    zoomControl: false,
    attributionControl: false,
    zoomAnimation: false,
    fadeAnimation: false,
    markerZoomAnimation: false,
    inertia: false,
    zoomSnap: 0.25,
    zoomDelta: 0.5,
    minZoom: 3,
    maxZoom: 19,
    preferCanvas: true,
  });
  map.setView([-6.9, 107.6], 11);
  const below = map.createPane("base");
  below.style.zIndex = 250;
  const renderer = L.canvas({ pane: "base", padding: 0.3 });
  const sites = new SiteLayer(onPick);
  let base = null;
  let fitted = false; // the operator has chosen what to look at

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const drawBase = () => {
    base?.remove();
    const order = { city: 0, boundary: 0, district: 0, hull: 0, water: 1, road: 2, stream: 3, river: 4 };
    const list = features(model.city).sort((a, b) => (order[a.properties.kind] ?? 2) - (order[b.properties.kind] ?? 2));
    base = L.geoJSON(list, {
      pane: "base",
      renderer,
      interactive: false,
      pointToLayer: () => null,
      style: (f) => {
        const style = KIND_STYLE[f.properties.kind] ?? KIND_STYLE.road;
        return {
          color: colour(style.colour),
          weight: f.properties.weight ?? style.weight,
          dashArray: style.dash,
          fill: Boolean(style.fill),
          fillColor: colour(style.colour),
          fillOpacity: 0.6,
          interactive: false,
          renderer,
        };
      },
    }).addTo(map);
    sites.names = list
      .filter((f) => f.properties.kind === "district" && f.properties.name)
      .map((f) => ({ name: f.properties.name, at: L.geoJSON(f).getBounds().getCenter() }));
  };
  const fit = () => {
    const city = model.city;
    if (!city?.sites.length) return;
    map.fitBounds(L.latLngBounds(city.sites.map((s) => [s.latitude, s.longitude])).pad(0.06), { animate: false });
  };
  const show = () => {
    drawBase();
    if (!map.hasLayer(sites)) sites.addTo(map);
    if (!fitted) fit();
    sites.draw();
  };
  if (model.city) show();

  let wanted = false;
  const stop = onChange((what) => {
    if (what.has("city")) show();
    else if (what.has("alarms") || what.has("state")) sites.draw();
    else if (what.has("readings") || what.has("rain")) wanted = true;
  });
  // Values beside alarmed sites, and rain, need no more than one look a second.
  const timer = setInterval(() => {
    if (wanted && !document.hidden) sites.drawLoud();
    wanted = false;
  }, 1000);
  const onTheme = () => {
    sites.readColours();
    if (model.city) {
      drawBase();
      sites.draw();
    }
  };
  addEventListener("pantau-theme", onTheme);
  const watch = new ResizeObserver(() => {
    map.invalidateSize({ animate: false });
    if (!fitted) fit();
    sites.draw();
  });
  watch.observe(node);
  map.on("dragstart", () => {
    fitted = true;
  });
  node.addEventListener("wheel", () => {
    fitted = true;
  }, { passive: true });

  return {
    fit() {
      fitted = false;
      fit();
    },
    zoom(by) {
      fitted = true;
      map.setZoom(map.getZoom() + by);
    },
    /** Mark a site; with ``go``, bring it into the part of the map that is not covered. */
    select(id, coveredRight = 0) {
      sites.selected = id;
      const site = id && model.siteById.get(id);
      if (site) {
        fitted = true;
        const p = map.latLngToContainerPoint([site.latitude, site.longitude]);
        const size = map.getSize();
        const right = size.x - coveredRight;
        if (p.x < 60 || p.y < 60 || p.x > right - 60 || p.y > size.y - 60) {
          map.panBy([p.x - right / 2, p.y - size.y / 2], { animate: false });
        }
      }
      sites.draw();
    },
    redraw: () => sites.draw(),
    remove() {
      stop();
      clearInterval(timer);
      watch.disconnect();
      removeEventListener("pantau-theme", onTheme);
      clearInterval(sites.timer);
      map.remove();
    },
  };
}
