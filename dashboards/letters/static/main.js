// Refused messages: how many and why, what to do about it, and "take again".

import { useEffect, useState } from "../web/vendor/htm/preact.js";
import { currentLanguage, number } from "../web/language.js";
import { change, may, toLogin } from "../web/session.js";
import { Alert, html, show, t } from "../web/pages/frame.js";

const LIMIT = 50;
const QUIET_MS = 5000;
const TIME = { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short" };

const timeText = (text) =>
  text === null
    ? t("letters.notime")
    : new Intl.DateTimeFormat(currentLanguage() === "id" ? "id-ID" : "en-GB", TIME).format(new Date(text));

async function get(path) {
  const answer = await fetch(path);
  if (answer.status === 401) toLogin();
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.detail ?? String(answer.status));
  return told;
}

const query = (values) => {
  const given = Object.entries(values).filter(([, v]) => v !== null && v !== "" && v !== undefined);
  return given.length ? `?${new URLSearchParams(given)}` : "";
};

/** What stands in the address: a link to one reason or device can be sent to a colleague. */
function wanted() {
  const given = new URLSearchParams(location.search);
  return { reason: given.get("reason") ?? "", device: given.get("device") ?? "" };
}

function Letter({ letter, onAgain }) {
  const [open, setOpen] = useState(false);
  return html`
    <li class="letter">
      <button class="letter-head" aria-expanded=${open} onClick=${() => setOpen(!open)}>
        <strong>${letter.device ?? t("letters.nodevice")}</strong>
        <span>${t(`letters.reason.${letter.reason}`)}</span>
        <time datetime=${letter.received_at ?? ""}>${timeText(letter.received_at)}</time>
      </button>
      <p class="detail">${letter.detail}</p>
      ${open &&
      html`<dl>
        <dt>${t("letters.topic")}</dt><dd><code>${letter.topic}</code></dd>
        <dt>${t("letters.broker")}</dt><dd>${letter.broker}</dd>
        <dt>${t("letters.payload")} (${number(letter.bytes)} B${letter.hex === null ? "" : `, ${t("letters.hex")}`})</dt>
        <dd><pre tabindex="0">${letter.text ?? letter.hex}</pre></dd>
      </dl>`}
      ${letter.truncated && html`<p class="more">${t("letters.truncated")}</p>`}
      ${letter.marked
        ? html`<p class="more" role="status">${t("letters.marked")}</p>`
        : letter.again
          ? may("devices") && html`<button class="button" onClick=${() => onAgain({ id: letter.id })}>${t("letters.again")}</button>`
          : !letter.truncated && html`<p class="more">${t("letters.never")}</p>`}
    </li>
  `;
}

function Reasons({ counts, chosen, choose, onAgain }) {
  const sums = new Map();
  for (const row of counts.kept) {
    const sum = sums.get(row.reason) ?? { letters: 0, again: 0, devices: [] };
    sum.letters += row.letters;
    sum.again += row.again;
    sum.devices.push(row);
    sums.set(row.reason, sum);
  }
  const freeOf = (sum) => (chosen.device ? (sum.devices.find((d) => d.device === chosen.device)?.again ?? 0) : sum.again);
  const order = [...sums.entries()].sort((a, b) => b[1].letters - a[1].letters);
  return html`<ul class="reasons">
    ${order.map(
      ([reason, sum]) => html`
        <li key=${reason} class=${chosen.reason === reason ? "chosen" : ""}>
          <button class="reason" aria-pressed=${chosen.reason === reason} onClick=${() => choose({ reason: chosen.reason === reason ? "" : reason, device: "" })}>
            <b>${number(sum.letters)}</b> <span>${t(`letters.reason.${reason}`)}</span>
          </button>
          <p class="more"><strong>${t("letters.do")}:</strong> ${t(`letters.reason.${reason}.do`)}</p>
          ${chosen.reason === reason &&
          html`<div class="devices">
            ${sum.devices.slice(0, 100).map(
              (row) => html`<button class="button ${chosen.device === row.device ? "main" : ""}" disabled=${row.device === null}
                onClick=${() => choose({ reason, device: chosen.device === row.device ? "" : row.device })}>${row.device ?? t("letters.nodevice")} · ${number(row.letters)}</button>`,
            )}
          </div>
          ${may("devices") &&
          freeOf(sum) > 0 &&
          html`<button class="button again" onClick=${() => onAgain(chosen.device ? { reason, device: chosen.device } : { reason })}>
            ${t("letters.again.all", { n: number(freeOf(sum)) })}
          </button>`}`}
        </li>
      `,
    )}
  </ul>`;
}

function Letters() {
  const [chosen, setChosen] = useState(wanted);
  const [counts, setCounts] = useState(null);
  const [found, setFound] = useState({ letters: [], next: null });
  const [failed, setFailed] = useState("");
  const [done, setDone] = useState("");
  const load = async (more = false) => {
    try {
      const [sums, answer] = await Promise.all([
        get("/api/dead-letters/counts"),
        get(`/api/dead-letters${query({ ...chosen, limit: LIMIT, before: more ? found.next : null })}`),
      ]);
      setCounts(sums);
      setFound({ letters: more ? [...found.letters, ...answer.dead_letters] : answer.dead_letters, next: answer.next });
      setFailed("");
    } catch (error) {
      setFailed(t("letters.failed", { reason: error.message }));
    }
  };
  useEffect(() => {
    setDone("");
    load();
    history.replaceState(null, "", `${location.pathname}${query(chosen)}`);
  }, [chosen.reason, chosen.device]);
  useEffect(() => {
    const timer = setInterval(() => found.letters.length <= LIMIT && !document.hidden && load(), QUIET_MS);
    return () => clearInterval(timer);
  });
  const again = async (which) => {
    try {
      const told = await change("POST", "/api/dead-letters/retry", which);
      setDone(t("letters.done", { n: number(told.marked) }));
      await load();
    } catch (error) {
      setFailed(t("letters.failed", { reason: error.status === 0 ? t("account.unreachable") : error.message }));
    }
  };
  const retaken = Object.values(counts?.taken_again ?? {}).reduce((a, b) => a + b, 0);
  return html`
    <p class="lead">${t("letters.lead")}</p>
    <${Alert} text=${failed} />
    <div role="status">${done && html`<p class="notice">${done}</p>`}</div>
    ${counts &&
    html`<p class="more">${t("letters.summary", { n: number(counts.room.letters), marked: number(counts.room.marked), retaken: number(retaken) })}</p>
      <${Reasons} counts=${counts} chosen=${chosen} choose=${setChosen} onAgain=${again} />
      ${(chosen.reason || chosen.device) &&
      html`<p class="only">
        <strong>${[chosen.reason && t(`letters.reason.${chosen.reason}`), chosen.device].filter(Boolean).join(" · ")}</strong>
        <button class="button" onClick=${() => setChosen({ reason: "", device: "" })}>${t("letters.all")}</button>
      </p>`}
      ${found.letters.length
        ? html`<ul class="letters">${found.letters.map((letter) => html`<${Letter} key=${letter.id} letter=${letter} onAgain=${again} />`)}</ul>`
        : html`<p class="notice">${t(counts.room.letters ? "letters.none.filter" : "letters.none")}</p>`}
      ${found.next !== null && html`<button class="button" onClick=${() => load(true)}>${t("letters.more")}</button>`}`}
  `;
}

await show(Letters, { title: "letters.title", wide: true, home: true });
