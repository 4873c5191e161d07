// The login.

import { useEffect, useState } from "../vendor/htm/preact.js";
import { change, session } from "../session.js";
import { Alert, Field, PasswordField, html, nextPath, sentence, show, t } from "./frame.js";

function Login() {
  const [login, setLogin] = useState("");
  const [password, setPassword] = useState("");
  const [failed, setFailed] = useState(null);
  const [waitS, setWaitS] = useState(0);
  const [sending, setSending] = useState(false);
  useEffect(() => {
    if (waitS <= 0) return undefined;
    const timer = setTimeout(() => setWaitS(waitS - 1), 1000);
    return () => clearTimeout(timer);
  }, [waitS]);
  const send = async (e) => {
    e.preventDefault();
    setSending(true);
    setFailed(null);
    try {
      const told = await change("POST", "/api/session", { login, password });
      location.replace(told.must_change_password ? `/account?next=${encodeURIComponent(nextPath())}` : nextPath());
    } catch (error) {
      setFailed(error);
      setWaitS(error.retryAfterS ?? 0);
      setSending(false);
      document.querySelector('[name="password"]').focus();
    }
  };
  const waiting = failed?.status === 429 && waitS > 0;
  const text = !failed || (failed.status === 429 && !waiting)
    ? ""
    : waiting
      ? t("account.login.wait", { n: String(waitS) })
      : sentence(failed, { 401: "account.login.wrong" });
  return html`
    <form class="form" onSubmit=${send}>
      <${Field} label=${t("account.login.name")} name="login" value=${login} onInput=${setLogin} required maxlength="64"
        autocomplete="username" autocapitalize="none" autocorrect="off" spellcheck=${false} autofocus />
      <${PasswordField} label=${t("account.login.password")} name="password" value=${password} onInput=${setPassword} autocomplete="current-password" />
      <${Alert} text=${text} />
      <button class="button main" disabled=${sending || waiting}>${t("account.login.do")}</button>
      <span class="hint">${t("account.login.forgot")}</span>
    </form>
  `;
}

await show(Login, { title: "account.login" });
if (session.setup) location.replace("/setup");
else if (session.access === "open" || session.account) location.replace(nextPath());
else document.querySelector('[name="login"]').focus();
