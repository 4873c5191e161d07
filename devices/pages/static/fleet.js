// What the page knows of the city: its models, its sites near here, its base map; kept for when there is no network.

import { currentLanguage, t } from "../web/language.js";
import { changed, known, remember, remembered } from "./server.js";
import { here } from "./place.js";
import { metresBetween } from "./text.js";

export const fleet = { about: remembered("fleet"), base: remembered("base"), sites: remembered("sites")?.sites ?? [] };

let asked = null;

/** City, models and properties; and the base map once. */
export async function loadFleet() {
  fleet.about = (await known("fleet", "/api/fleet")) ?? fleet.about;
  changed();
  fleet.base = (await known("base", "/api/map")) ?? fleet.base;
  changed();
}

/** The sites around a position, nearest first; asked again after moving 30 m. */
export async function loadSites(position, force = false) {
  if (!position || (!force && asked && metresBetween(asked, position) < 30)) return;
  asked = position;
  const path = `/api/sites?latitude=${position.latitude.toFixed(5)}&longitude=${position.longitude.toFixed(5)}&limit=40`;
  const answer = await known("sites", path);
  if (answer) fleet.sites = answer.sites;
  else asked = null;
  changed();
}

/** Sites with their distance from here, nearest first. */
export function sitesNearby() {
  const me = here.position;
  return fleet.sites
    .map((s) => ({ ...s, far_m: me ? metresBetween(me, s) : s.distance_m }))
    .sort((a, b) => (a.far_m ?? 1e12) - (b.far_m ?? 1e12));
}

export const model = (id) => fleet.about?.models.find((m) => m.id === id);

/** What a model is called: generic ones in the page's language. */
export function modelName(id) {
  const key = `devices.model.${id}`;
  const text = t(key);
  return text === key ? (model(id)?.name ?? id) : text;
}

/** Models as a technician looks for them: the generic ones first, floods before all. */
export function modelsInOrder() {
  const kinds = ["river", "rain", "weather", "traffic", "air", "noise", "light"];
  const rank = (m) => (m.vendor ? 100 : 0) + (kinds.indexOf(m.kind) + 1 || 50);
  return [...(fleet.about?.models ?? [])].sort((a, b) => rank(a) - rank(b) || modelName(a.id).localeCompare(modelName(b.id), currentLanguage()));
}

export const aboutProperty = (name) => fleet.about?.properties[name];

export const lastModels = () => remembered("models") ?? [];
export function usedModel(id) {
  remember("models", [id, ...lastModels().filter((m) => m !== id)].slice(0, 4));
}
