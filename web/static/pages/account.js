// One's own account: who I am here, a new password, logging out.

import { useState } from "../vendor/htm/preact.js";
import { change, loadSession, may, session } from "../session.js";
import { Alert, PasswordField, html, nextPath, sentence, show, t } from "./frame.js";

function Own() {
  const [old, setOld] = useState("");
  const [fresh, setFresh] = useState("");
  const [failed, setFailed] = useState(null);
  const [done, setDone] = useState(false);
  const [sending, setSending] = useState(false);
  const temporary = session.must_change_password;
  const send = async (e) => {
    e.preventDefault();
    setSending(true);
    setFailed(null);
    setDone(false);
    try {
      await change("POST", "/api/account/password", { old, new: fresh });
      if (temporary) {
        location.replace(nextPath());
        return;
      }
      await loadSession();
      setOld("");
      setFresh("");
      setDone(true);
    } catch (error) {
      setFailed(error);
    }
    setSending(false);
  };
  const leave = async () => {
    try {
      await change("DELETE", "/api/session");
      location.replace("/login");
    } catch (error) {
      setFailed(error);
    }
  };
  return html`
    <p class="lead"><strong>${session.name}</strong>${session.name !== session.account ? ` (${session.account})` : ""} · ${t(`role.${session.role}`)}: ${t(`role.${session.role}.about`)}</p>
    ${temporary && html`<p class="notice warn">${t("account.own.temporary")}</p>`}
    <h2>${t("account.own.password")}</h2>
    <form class="form" onSubmit=${send}>
      <input class="hidden" name="username" autocomplete="username" value=${session.account} tabindex="-1" aria-hidden="true" readonly />
      <${PasswordField} label=${t("account.own.old")} name="old" value=${old} onInput=${setOld} autocomplete="current-password" />
      <${PasswordField} label=${t("account.own.new")} hint=${t("account.password.about")} name="new" value=${fresh} onInput=${setFresh} minlength="12" autocomplete="new-password" />
      <${Alert} text=${failed && sentence(failed, { 403: "account.own.oldwrong" })} />
      <div role="status">${done && html`<p class="notice">${t("account.own.done")}</p>`}</div>
      <button class="button main" disabled=${sending}>${t("account.own.do")}</button>
    </form>
    <div class="links">
      ${!temporary && html`<a class="button" href="/">${t("account.home")}</a>`}
      ${may("accounts") && html`<a class="button" href="/accounts">${t("account.toaccounts")}</a>`}
      <button class="button" onClick=${leave}>${t("account.own.logout")}</button>
    </div>
  `;
}

await show(Own, { title: "account.own", home: true });
