// What waits on this phone for a network, and what the server refused.

import { html, useState } from "../web/vendor/htm/preact.js";
import { t } from "../web/language.js";
import { Icon } from "./parts.js";
import { drop, flush, net, remember, waiting } from "./server.js";
import { spanText } from "./text.js";

export function Waiting({ go, sent }) {
  const [sure, setSure] = useState("");
  const items = waiting();
  const edit = (item) => {
    if (item.kind === "register") {
      const { body } = item;
      remember("draft", {
        serial: body.serial,
        model: body.model,
        where: body.replaces ? "swap" : body.new_site ? "new" : "site",
        site: body.site ?? "",
        old: body.replaces ?? "",
        newName: body.new_site?.name ?? "",
        newId: body.new_site?.id,
        pin: body.new_site ? { latitude: body.new_site.latitude, longitude: body.new_site.longitude } : null,
      });
    }
    drop(item.id);
    go(item.kind === "register" ? "" : "jobs");
  };
  return html`
    <main class="waiting-list">
      <h1>${items.length ? t("devices.waiting.title") : t("devices.waiting.none")}</h1>
      ${items.length > 0 && html`<p class="note">${t(net.online ? "devices.waiting.soon" : "devices.waiting.about")}</p>`}
      <ol class="job-list">
        ${items.map((item) => html`
          <li class=${`job ${item.error ? "faulty" : ""}`} key=${item.id}>
            <span class="job-mark"><${Icon} name=${item.error ? "bad" : "cloud"} /></span>
            <div class="job-text">
              <b>${item.kind === "register" ? item.about.id : t("devices.waiting.job", { site: item.about.name })}</b>
              ${item.kind === "register" && html`<span>${[item.about.name, item.about.model].filter(Boolean).join(" · ")}</span>`}
              <small>${t("devices.ago", { span: spanText((Date.now() - item.at) / 1000) })}</small>
              ${item.error && html`<span class="problem" role="alert">${t("devices.waiting.refused", { reason: item.error })}</span>`}
            </div>
            <div class="job-do">
              ${sure === item.id
                ? html`<button class="big danger" onClick=${() => drop(item.id)}>${t("devices.waiting.drop.sure")}</button>`
                : html`<button class="big" onClick=${() => setSure(item.id)}>${t("devices.waiting.drop")}</button>`}
              ${item.error && html`<button class="big main" onClick=${() => edit(item)}>${t("devices.waiting.edit")}</button>`}
            </div>
          </li>`)}
      </ol>
      ${items.some((i) => !i.error) && html`<button class="big" onClick=${flush}>${t("devices.waiting.now")}</button>`}
      <${Sent} sent=${sent} go=${go} />
      <button class=${`big next ${items.length || sent.length ? "" : "main"}`} onClick=${() => go("")}>${t("devices.next")}</button>
    </main>
  `;
}

/** What went out while one was elsewhere. */
export const Sent = ({ sent, go }) => html`
  ${sent.length > 0 &&
  html`<ul class="job-list">${sent.map((s) => html`
    <li class="job sent" key=${s.id}>
      <span class="job-mark"><${Icon} name="good" /></span>
      <div class="job-text"><b>${s.kind === "register" ? s.about.id : t("devices.waiting.job", { site: s.about.name })}</b><span>${t("devices.waiting.sent")}</span></div>
      ${s.kind === "register" && html`<div class="job-do"><button class="big main" onClick=${() => go(`device/${encodeURIComponent(s.about.id)}`)}>${t("devices.waiting.look")}</button></div>`}
    </li>`)}</ul>`}
`;
