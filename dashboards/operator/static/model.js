// The city as the page knows it: what /api/city and the live stream said last. Drawing is left to others.

export const LOST_AFTER_MS = 5000;

export const model = {
  city: null,
  siteById: new Map(),
  streamsOfSite: new Map(),
  streamById: new Map(),
  deviceById: new Map(),
  devicesOfSite: new Map(),
  time: [], // newest reading of each datastream [ms since 1970 UTC]
  value: [],
  flag: [],
  alarms: new Map(),
  trends: new Map(),
  rain: new Map(), // index of a rain datastream → {stream, mmH10, mmH60, level}; mmH null is unknown
  siteRain: new Map(), // site id → the wettest of these where it rains
  hasRain: false,
  siteStates: new Map(), // site id → {severity, unacknowledged, silent, domain}
  clock: null,
  clockAt: 0,
  health: null,
  heardAt: 0,
  closed: 0, // how many alarms closed while we watched
  connection: "connecting", // "live" | "lost"
};

const listeners = new Set();
let drawing = 0;
let what = new Set();

/** Call back (at most 20 times a second) with the set of what changed. */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function changed(...names) {
  for (const name of names) what.add(name);
  // No animation frame: a hidden page gets none, and its title must still say that there is an alarm.
  drawing ||= setTimeout(() => {
    const now = what;
    what = new Set();
    drawing = 0;
    for (const listener of listeners) listener(now);
  }, 50);
}

/** The pipeline's time now, carried on between two messages but no further. [ms since 1970 UTC] */
export function now() {
  if (!model.clock) return 0;
  const since = Math.min(performance.now() - model.clockAt, 3000);
  const moving = model.connection === "live" && model.clock.still_s < 10;
  return model.clock.now_ms + (moving ? since * model.clock.speed : 0);
}

export function setCity(city) {
  model.city = city;
  model.siteById = new Map(city.sites.map((s) => [s.id, s]));
  model.deviceById = new Map(city.devices.map((d) => [d.id, d]));
  model.streamById = new Map();
  model.streamsOfSite = new Map();
  model.devicesOfSite = Map.groupBy ? Map.groupBy(city.devices, (d) => d.site) : grouped(city.devices);
  city.datastreams.forEach((stream, index) => {
    stream.index = index;
    stream.about = city.properties[stream.property];
    model.streamById.set(stream.id, stream);
    const list = model.streamsOfSite.get(stream.site);
    if (list) list.push(stream);
    else model.streamsOfSite.set(stream.site, [stream]);
  });
  model.hasRain = city.datastreams.some((s) => s.property === "rain_mm");
  const rank = { flood: 0, traffic: 1, street: 2, device: 3 };
  for (const site of city.sites) {
    const domains = (model.streamsOfSite.get(site.id) ?? []).map((s) => s.about.domain);
    site.domain = domains.sort((a, b) => rank[a] - rank[b])[0] ?? "device";
  }
}

function grouped(devices) {
  const found = new Map();
  for (const d of devices) found.set(d.site, [...(found.get(d.site) ?? []), d]);
  return found;
}

function takeAlarm(alarm) {
  if (alarm.state === "normal" || alarm.state === "withdrawn") {
    model.alarms.delete(alarm.id);
    model.trends.delete(alarm.id);
    model.closed += alarm.state === "normal" ? 1 : 0;
    return;
  }
  alarm.raisedMs = Date.parse(alarm.raised_at);
  alarm.clearedMs = alarm.cleared_at ? Date.parse(alarm.cleared_at) : null;
  alarm.job = alarm.domain === "device";
  const before = model.alarms.get(alarm.id);
  alarm.asked = alarm.state !== "acknowledged" && before?.asked ? before.asked : 0;
  alarm.stream = alarm.kind === "level" ? model.streamById.get(alarm.subject) : null;
  model.alarms.set(alarm.id, alarm);
}

function findSiteStates() {
  const states = new Map();
  for (const alarm of model.alarms.values()) {
    if (alarm.kind === "broker") continue; // stands at no site
    let state = states.get(alarm.site);
    if (!state) states.set(alarm.site, (state = { severity: 0, unacknowledged: false, silent: false, domain: "" }));
    if (alarm.kind === "silence") {
      state.silent ||= alarm.severity > 0;
    } else if (!alarm.job && alarm.severity > 0) {
      if (alarm.severity > state.severity) {
        state.severity = alarm.severity;
        state.domain = alarm.domain;
        state.lead = alarm;
      }
      state.unacknowledged ||= alarm.state === "unacknowledged";
    }
  }
  model.siteStates = states;
}

function takeRain(rain) {
  rain.stream.forEach((index, i) => {
    const stream = model.city.datastreams[index];
    model.rain.set(index, { stream, mmH10: rain.mm_h_10min[i], mmH60: rain.mm_h_60min[i], level: rain.class[i] });
  });
  model.siteRain = new Map();
  for (const one of model.rain.values()) {
    const { site } = one.stream;
    if (one.level > 0 && one.mmH10 > (model.siteRain.get(site)?.mmH10 ?? 0)) model.siteRain.set(site, one);
  }
}

/** Take one event of the live stream. */
export function take(name, frame) {
  const names = [name];
  model.clock = frame.clock;
  model.clockAt = performance.now();
  if (name === "state") {
    const n = model.city.datastreams.length;
    model.time = new Array(n).fill(0);
    model.value = new Array(n).fill(null);
    model.flag = new Array(n).fill(9);
    model.alarms.clear();
    model.trends.clear();
    model.rain.clear();
    model.siteRain.clear();
    names.push("alarms", "readings", "health", "rain");
  }
  if (frame.readings) {
    const { stream, time_ms, value, flag } = frame.readings;
    for (let i = 0; i < stream.length; i++) {
      model.time[stream[i]] = time_ms[i];
      model.value[stream[i]] = value[i];
      model.flag[stream[i]] = flag[i];
    }
    model.lastReadings = frame.readings;
    names.push("readings");
    for (const listener of readingListeners) listener(frame.readings);
  }
  if (frame.rain) {
    takeRain(frame.rain);
    names.push("rain");
  }
  if (frame.alarms) {
    for (const alarm of frame.alarms) takeAlarm(alarm);
    names.push("alarms");
  }
  if (name === "state" || frame.alarms) findSiteStates();
  if (frame.trends) {
    for (const [id, trend] of Object.entries(frame.trends)) {
      if (trend && model.alarms.has(id)) model.trends.set(id, trend);
      else model.trends.delete(id);
    }
    names.push("alarms");
  }
  if (frame.health) {
    model.health = frame.health;
    model.healthAt = performance.now();
  }
  changed(...names);
}

const readingListeners = new Set();

/** Call back with every frame of readings, not only once a screen frame: charts must miss none. */
export function onReadings(listener) {
  readingListeners.add(listener);
  return () => readingListeners.delete(listener);
}

const urgency = (a, b) =>
  (a.state === "unacknowledged" ? 0 : 1) - (b.state === "unacknowledged" ? 0 : 1) ||
  b.severity - a.severity ||
  b.raisedMs - a.raisedMs;

/** Open alarms in order of urgency: events, events that are over but unacknowledged, and jobs. */
export function sortedAlarms() {
  const events = [];
  const returned = [];
  const jobs = [];
  for (const alarm of model.alarms.values()) {
    if (alarm.job) jobs.push(alarm);
    else if (alarm.severity > 0) events.push(alarm);
    else returned.push(alarm);
  }
  const over = (a, b) => (a.severity > 0 ? 0 : 1) - (b.severity > 0 ? 0 : 1);
  return {
    events: events.sort(urgency),
    returned: returned.sort((a, b) => b.max_severity - a.max_severity || b.raisedMs - a.raisedMs),
    jobs: jobs.sort((a, b) => over(a, b) || urgency(a, b)),
  };
}
