// The first start: makes the administrator's account, with the code that only who started the server has seen.

import { useState } from "../vendor/htm/preact.js";
import { change, session } from "../session.js";
import { Alert, Field, PasswordField, html, sentence, show, t } from "./frame.js";

function Setup() {
  const [code, setCode] = useState("");
  const [login, setLogin] = useState("");
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [failed, setFailed] = useState(null);
  const [sending, setSending] = useState(false);
  if (!session.setup) {
    return html`<p class="lead">${t("account.setup.done")}</p><p><a class="button" href="/login">${t("account.setup.tologin")}</a></p>`;
  }
  const send = async (e) => {
    e.preventDefault();
    setSending(true);
    setFailed(null);
    try {
      await change("POST", "/api/setup", { code, login, name, password });
      location.replace("/accounts");
    } catch (error) {
      setFailed(error);
      setSending(false);
    }
  };
  return html`
    <p class="lead">${t("account.setup.about")}</p>
    <form class="form" onSubmit=${send}>
      <${Field} label=${t("account.setup.code")} hint=${t("account.setup.code.about")} name="code" kind="code-field" value=${code} onInput=${setCode}
        required maxlength="100" autocomplete="off" autocapitalize="characters" autocorrect="off" spellcheck=${false} />
      <${Field} label=${t("account.login.name")} hint=${t("account.name.about")} name="login" value=${login} onInput=${setLogin}
        required maxlength="64" autocomplete="username" autocapitalize="none" autocorrect="off" spellcheck=${false} />
      <${Field} label=${t("account.full")} hint=${t("account.full.about")} name="name" value=${name} onInput=${setName} maxlength="100" autocomplete="name" />
      <${PasswordField} label=${t("account.login.password")} hint=${t("account.password.about")} name="password" value=${password} onInput=${setPassword}
        minlength="12" autocomplete="new-password" />
      <${Alert} text=${failed && sentence(failed, { 403: "account.setup.code.wrong", 409: "account.setup.done" })} />
      <button class="button main" disabled=${sending}>${t("account.setup.do")}</button>
    </form>
  `;
}

await show(Setup, { title: "account.setup" });
document.querySelector('[name="code"]')?.focus();
