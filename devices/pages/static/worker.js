// Keeps the technician's page on the phone, so that it opens without a network. Data is never kept here.
// The server puts the version of the files in place of the word below.

const CACHE = "pantau-devices-VERSION";
const SLOW_MS = 4000;

self.addEventListener("install", (event) => {
  event.waitUntil(
    (async () => {
      const cache = await caches.open(CACHE);
      await cache.addAll(["/languages/id", "/languages/en"]);
      await self.skipWaiting();
    })(),
  );
});

self.addEventListener("activate", (event) => {
  event.waitUntil(
    (async () => {
      for (const name of await caches.keys()) {
        if (name.startsWith("pantau-devices-") && name !== CACHE) await caches.delete(name);
      }
      await self.clients.claim();
      // What the page fetched before this worker was there.
      const cache = await caches.open(CACHE);
      const page = await fetch("/devices", { headers: { Accept: "text/html" } });
      if (page.ok && !page.redirected) await cache.put("/devices", page);
      await cache.addAll(FILES);
    })(),
  );
});

async function fromCache(request, name) {
  return (await (await caches.open(CACHE)).match(name ?? request)) ?? Response.error();
}

async function networkFirst(request, name) {
  const cache = await caches.open(CACHE);
  const late = new Promise((_, no) => setTimeout(() => no(new Error("slow")), SLOW_MS));
  try {
    const answer = await Promise.race([fetch(request), late]);
    if (answer.ok && !answer.redirected) await cache.put(name ?? request, answer.clone());
    if (answer.status >= 502 && answer.status <= 504) return (await cache.match(name ?? request)) ?? answer;
    return answer;
  } catch {
    return fromCache(request, name);
  }
}

async function cacheFirst(request) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(request);
  if (kept) return kept;
  const answer = await fetch(request);
  if (answer.ok) await cache.put(request, answer.clone());
  return answer;
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const { pathname } = new URL(request.url);
  if (request.method !== "GET") return;
  if (request.mode === "navigate" && pathname === "/devices") event.respondWith(networkFirst(request, "/devices"));
  else if (pathname.startsWith("/static/")) event.respondWith(cacheFirst(request));
  else if (pathname.startsWith("/languages/")) event.respondWith(networkFirst(request, pathname));
});
