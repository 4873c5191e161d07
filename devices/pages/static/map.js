// A small map without tiles: districts, rivers and roads if the city has a base map, sites, the phone, and the pin.

import * as L from "../web/vendor/leaflet/leaflet.js";
import { html, useEffect, useRef } from "../web/vendor/htm/preact.js";
import { t } from "../web/language.js";
import { distanceText, metresBetween } from "./text.js";

const KIND_STYLE = {
  river: { colour: "water", weight: 4 },
  stream: { colour: "water", weight: 2.5 },
  water: { colour: "water", weight: 1, fill: true },
  road: { colour: "road", weight: 3 },
  district: { colour: "district", weight: 1.5, dash: "2 6" },
};

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const spot = (kind) => L.divIcon({ className: `spot ${kind}`, iconSize: [0, 0] });

function makeMap(node, { base, sites, fixed }) {
  const map = L.map(node, {
    zoomControl: false,
    attributionControl: false,
    zoomAnimation: false,
    fadeAnimation: false,
    markerZoomAnimation: false,
    dragging: !fixed,
    touchZoom: !fixed,
    doubleClickZoom: !fixed,
    scrollWheelZoom: !fixed,
    boxZoom: false,
    keyboard: !fixed,
    tap: !fixed,
    minZoom: 3,
    maxZoom: 20,
    preferCanvas: true,
  });
  L.control.scale({ imperial: false, maxWidth: 110, position: fixed ? "bottomleft" : "topleft" }).addTo(map);
  if (base?.features?.length) {
    L.geoJSON(base, {
      interactive: false,
      pointToLayer: () => null,
      style: (f) => {
        const style = KIND_STYLE[f.properties?.kind] ?? KIND_STYLE.district;
        return { color: colour(style.colour), weight: style.weight, dashArray: style.dash, fill: Boolean(style.fill) };
      },
    }).addTo(map);
  }
  for (const site of sites) {
    L.circleMarker([site.latitude, site.longitude], {
      radius: 7,
      weight: 2,
      color: colour("surface"),
      fillColor: colour("text"),
      fillOpacity: 1,
      interactive: false,
    })
      .addTo(map)
      .bindTooltip(site.name, { permanent: true, direction: "right", offset: [8, 0], className: "site-name" });
  }
  return map;
}

/** Lines every hundred metres, so that one sees the map move where there is nothing else to see. */
function grid(map, around) {
  const reach = 20;
  const up = 100 / 111195;
  const across = up / Math.max(Math.cos((around.latitude * Math.PI) / 180), 0.01);
  const { latitude: lat, longitude: lng } = around;
  const style = { color: colour("line"), weight: 1, interactive: false };
  for (let i = -reach; i <= reach; i += 1) {
    L.polyline([[lat + i * up, lng - reach * across], [lat + i * up, lng + reach * across]], style).addTo(map);
    L.polyline([[lat - reach * up, lng + i * across], [lat + reach * up, lng + i * across]], style).addTo(map);
  }
}

function meOn(map, me) {
  if (!me?.position) return;
  const at = [me.position.latitude, me.position.longitude];
  L.circle(at, { radius: me.accuracy_m ?? 0, weight: 1, color: colour("me"), fillOpacity: 0.15, interactive: false }).addTo(map);
  L.marker(at, { icon: spot("me"), interactive: false, keyboard: false }).addTo(map);
}

/** A picture of where the pin stands; a touch opens the map to move it. */
export function SmallMap({ pin, me, sites, base, onOpen }) {
  const node = useRef(null);
  useEffect(() => {
    const map = makeMap(node.current, { base, sites, fixed: true });
    meOn(map, me);
    const at = pin ?? me?.position;
    if (at) map.setView([at.latitude, at.longitude], 16);
    if (pin) L.marker([pin.latitude, pin.longitude], { icon: spot("pin"), interactive: false, keyboard: false }).addTo(map);
    return () => map.remove();
  }, [pin?.latitude, pin?.longitude, me?.position?.latitude, me?.position?.longitude, sites, base]);
  return html`
    <div class="small-map">
      <div class="map-canvas" ref=${node}></div>
      <button class="over-map" aria-label=${t("devices.map.move")} onClick=${onOpen}><span>${t("devices.map.move")}</span></button>
    </div>
  `;
}

/** The whole screen is the map; the pin stays in the middle and the map moves under it: one thumb does it. */
export function PinMap({ start, me, sites, base, onDone, onClose }) {
  const node = useRef(null);
  const map = useRef(null);
  const far = useRef(null);
  useEffect(() => {
    map.current = makeMap(node.current, { base, sites, fixed: false });
    meOn(map.current, me);
    map.current.on("move", () => {
      if (!me?.position || !far.current) return;
      const { lat, lng } = map.current.getCenter();
      far.current.textContent = t("devices.map.from_you", {
        distance: distanceText(metresBetween(me.position, { latitude: lat, longitude: lng })),
      });
    });
    map.current.setView([start.latitude, start.longitude], start.zoom ?? 17);
    grid(map.current, start);
    return () => map.current.remove();
  }, []);
  const use = () => {
    const { lat, lng } = map.current.getCenter().wrap();
    onDone({ latitude: Number(lat.toFixed(6)), longitude: Number(lng.toFixed(6)) });
  };
  return html`
    <div class="cover pin-map" role="dialog" aria-modal="true" aria-label=${t("devices.map.move")}>
      <div class="map-canvas" ref=${node}></div>
      <div class="pin-mark" aria-hidden="true"></div>
      <p class="cover-hint">${t("devices.map.hint")} <b ref=${far}></b></p>
      <div class="map-zoom">
        <button class="round" aria-label=${t("devices.map.in")} onClick=${() => map.current.zoomIn()}>+</button>
        <button class="round" aria-label=${t("devices.map.out")} onClick=${() => map.current.zoomOut()}>−</button>
        ${me?.position &&
        html`<button class="round me-button" aria-label=${t("devices.map.me")} onClick=${() => map.current.setView([me.position.latitude, me.position.longitude], 18)}>
          <svg viewBox="0 0 24 24" aria-hidden="true"><circle cx="12" cy="12" r="4" /><path d="M12 2v4M12 18v4M2 12h4M18 12h4" /></svg>
        </button>`}
      </div>
      <div class="cover-do">
        <button class="big" onClick=${onClose}>${t("devices.cancel")}</button>
        <button class="big main" onClick=${use}>${t("devices.map.use")}</button>
      </div>
    </div>
  `;
}
