// Accounts, tokens, and the log of what happened with them: the administrator's page.

import { useEffect, useLayoutEffect, useRef, useState } from "../vendor/htm/preact.js";
import { currentLanguage } from "../language.js";
import { change, session, toLogin } from "../session.js";
import { Alert, Field, html, sentence, show, t } from "./frame.js";

const ROLES = ["viewer", "operator", "technician", "administrator"];
const RIGHTS = ["read", "alarms", "devices", "accounts"];
const OF_ROLE = { viewer: ["read"], operator: ["read", "alarms"], technician: ["read", "devices"], administrator: RIGHTS };
const DAYS = [7, 30, 90, 365, 730];

const timeText = (text, withClock = true) =>
  new Intl.DateTimeFormat(currentLanguage() === "id" ? "id-ID" : "en-GB", {
    dateStyle: "medium",
    ...(withClock ? { timeStyle: "short" } : {}),
  }).format(new Date(text));

async function load() {
  const [accounts, tokens, log] = await Promise.all(
    ["/api/accounts", "/api/tokens", "/api/accounts/log?limit=50"].map(async (path) => {
      const answer = await fetch(path);
      if (answer.status === 401) toLogin();
      if (!answer.ok) throw Object.assign(new Error(String(answer.status)), { status: answer.status });
      return answer.json();
    }),
  );
  return { accounts: accounts.accounts, tokens: tokens.tokens, log: log.log };
}

function Dialog({ title, onClose, children }) {
  const dialog = useRef(null);
  useLayoutEffect(() => {
    const before = document.activeElement;
    dialog.current.showModal();
    return () => before?.focus?.();
  }, []);
  return html`<dialog class="ask-plain" ref=${dialog} aria-labelledby="ask-plain-title" onClose=${onClose}>
    <h2 id="ask-plain-title">${title}</h2>${children(() => dialog.current.close())}
  </dialog>`;
}

function Secret({ title, about, secret, onClose }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(secret);
      setCopied(true);
    } catch {
      // without TLS browsers forbid it; the text can be selected
      getSelection().selectAllChildren(document.querySelector(".secret"));
    }
  };
  return html`<${Dialog} title=${title} onClose=${onClose}>
    ${(close) => html`
      <code class="secret">${secret}</code><p>${about}</p>
      <div class="do">
        <button class="button" onClick=${copy}>${t(copied ? "accounts.copied" : "accounts.copy")}</button>
        <button class="button main" onClick=${close}>${t("accounts.close")}</button>
      </div>`}
  <//>`;
}

function Sure({ text, onYes, onClose }) {
  return html`<${Dialog} title=${text} onClose=${onClose}>
    ${(close) => html`<div class="do">
      <button class="button" onClick=${close}>${t("accounts.cancel")}</button>
      <button class="button main" onClick=${() => { close(); onYes(); }}>${t("accounts.yes")}</button>
    </div>`}
  <//>`;
}

function AccountLine({ account, act, ask }) {
  const { login } = account;
  const disabled = account.disabled_at !== null;
  const facts = [
    account.name ? login : "",
    disabled ? t("accounts.disabled") : "",
    account.must_change_password ? t("accounts.temporary") : "",
    account.last_login_at ? t("accounts.last", { time: timeText(account.last_login_at) }) : t("accounts.never"),
  ].filter(Boolean);
  const path = `/api/accounts/${encodeURIComponent(login)}`;
  return html`
    <li class=${disabled ? "off" : ""} data-account=${login}>
      <div class="who"><strong>${account.name || login}</strong><span class="more">${facts.join(" · ")}</span></div>
      <div class="do">
        <select class="field" aria-label=${t("accounts.role.of", { login })} value=${account.role} onChange=${(e) => act("PATCH", path, { role: e.target.value })}>
          ${ROLES.map((r) => html`<option key=${r} value=${r}>${t(`role.${r}`)}</option>`)}
        </select>
        <button class="button" aria-label=${`${t("accounts.reset")}: ${login}`} onClick=${() => ask({ text: t("accounts.sure.reset", { login }), method: "POST", path: `${path}/password`, secret: "password" })}>${t("accounts.reset")}</button>
        ${disabled
          ? html`<button class="button" aria-label=${`${t("accounts.enable")}: ${login}`} onClick=${() => act("PATCH", path, { disabled: false })}>${t("accounts.enable")}</button>`
          : login !== session.account &&
            html`<button class="button" aria-label=${`${t("accounts.disable")}: ${login}`} onClick=${() => ask({ text: t("accounts.sure.disable", { login }), method: "PATCH", path, body: { disabled: true } })}>${t("accounts.disable")}</button>`}
      </div>
    </li>
  `;
}

function NewAccount({ act }) {
  const [login, setLogin] = useState("");
  const [name, setName] = useState("");
  const [role, setRole] = useState("operator");
  const send = async (e) => {
    e.preventDefault();
    if (await act("POST", "/api/accounts", { login, name, role }, "password")) {
      setLogin("");
      setName("");
    }
  };
  return html`
    <form class="form pair" aria-label=${t("accounts.new")} onSubmit=${send}>
      <${Field} label=${t("account.login.name")} hint=${t("account.name.about")} name="login" value=${login} onInput=${setLogin} required maxlength="64" autocomplete="off" autocapitalize="none" spellcheck=${false} />
      <${Field} label=${t("account.full")} name="name" value=${name} onInput=${setName} maxlength="100" autocomplete="off" />
      <label>${t("accounts.role")}
        <select class="field" name="role" value=${role} onChange=${(e) => setRole(e.target.value)}>
          ${ROLES.map((r) => html`<option key=${r} value=${r}>${t(`role.${r}`)}: ${t(`role.${r}.about`)}</option>`)}
        </select>
      </label>
      <button class="button main across">${t("accounts.new.do")}</button>
    </form>
  `;
}

function TokenLine({ token, ask }) {
  const over = token.revoked_at !== null || Date.parse(token.expires_at) <= Date.now();
  const facts = [
    token.account,
    token.scopes.map((s) => t(`right.${s}`)).join(", "),
    token.revoked_at ? t("tokens.revoked") : over ? t("tokens.expired") : t("tokens.until", { time: timeText(token.expires_at, false) }),
    token.used_at ? t("tokens.used", { time: timeText(token.used_at) }) : t("tokens.unused"),
  ];
  return html`
    <li class=${over ? "off" : ""} data-token=${token.id}>
      <div class="who"><strong>${token.label}</strong><span class="more">${facts.join(" · ")}</span></div>
      ${!over &&
      html`<div class="do"><button class="button" aria-label=${t("tokens.revoke.of", { label: token.label })} onClick=${() => ask({ text: t("accounts.sure.revoke", { label: token.label }), method: "DELETE", path: `/api/tokens/${token.id}` })}>${t("tokens.revoke")}</button></div>`}
    </li>
  `;
}

function NewToken({ accounts, act }) {
  const [account, setAccount] = useState(session.account);
  const [label, setLabel] = useState("");
  const [scopes, setScopes] = useState(["read"]);
  const [days, setDays] = useState(90);
  const allowed = OF_ROLE[accounts.find((a) => a.login === account)?.role] ?? [];
  const wanted = scopes.filter((s) => allowed.includes(s));
  const send = async (e) => {
    e.preventDefault();
    if (await act("POST", "/api/tokens", { account, label, scopes: wanted, days: Number(days) }, "token")) setLabel("");
  };
  return html`
    <form class="form pair" aria-label=${t("tokens.new")} onSubmit=${send}>
      <${Field} label=${t("tokens.label")} name="label" value=${label} onInput=${setLabel} required maxlength="100" autocomplete="off" />
      <label>${t("tokens.account")}
        <select class="field" name="account" value=${account} onChange=${(e) => setAccount(e.target.value)}>
          ${accounts.filter((a) => !a.disabled_at).map((a) => html`<option key=${a.login} value=${a.login}>${a.login} (${t(`role.${a.role}`)})</option>`)}
        </select>
      </label>
      <fieldset class="choices">
        <legend>${t("tokens.scopes")}</legend>
        ${RIGHTS.filter((r) => allowed.includes(r)).map(
          (r) => html`<label class="choice" key=${r}>
            <input type="checkbox" name=${r} checked=${scopes.includes(r)} onChange=${(e) => setScopes(e.target.checked ? [...scopes, r] : scopes.filter((s) => s !== r))} />${t(`right.${r}`)}
          </label>`,
        )}
      </fieldset>
      <label>${t("tokens.days")}
        <select class="field" name="days" value=${days} onChange=${(e) => setDays(e.target.value)}>
          ${DAYS.map((n) => html`<option key=${n} value=${n}>${t("tokens.days.n", { n: String(n) })}</option>`)}
        </select>
      </label>
      <button class="button main across" disabled=${!wanted.length}>${t("tokens.do")}</button>
    </form>
  `;
}

function LogLine({ entry }) {
  const who = entry.account || t("log.unknown");
  const by = entry.by && entry.by !== entry.account ? ` ${t("log.by", { who: entry.by })}` : "";
  return html`<li><span class="more">${timeText(entry.at)}</span>
    <span><b>${who}</b> ${t(`log.${entry.event}`)}${by} <span class="more">${[entry.detail, entry.address].filter(Boolean).join(" · ")}</span></span></li>`;
}

function Accounts() {
  const [known, setKnown] = useState(null);
  const [failed, setFailed] = useState(null);
  const [asked, setAsked] = useState(null);
  const [secret, setSecret] = useState(null);
  const refresh = async () => {
    try {
      setKnown(await load());
    } catch (error) {
      setFailed(error.status === undefined ? Object.assign(error, { status: 0 }) : error);
    }
  };
  useEffect(() => void refresh(), []);
  /** Ask for a change; `shows` names the field of the answer that is to be shown once. */
  const act = async (method, path, body, shows) => {
    setFailed(null);
    let worked = true;
    try {
      const told = await change(method, path, body);
      if (shows) setSecret({ kind: shows, secret: told[shows], login: told.login ?? "", label: told.label ?? "" });
    } catch (error) {
      if (error.status === 401) toLogin();
      setFailed(error);
      worked = false;
    }
    await refresh();
    return worked;
  };
  if (!known) return html`<${Alert} text=${failed && sentence(failed)} />`;
  return html`
    <${Alert} text=${failed && sentence(failed)} />
    <h2>${t("accounts.people")}</h2>
    <ul class="rows">${known.accounts.map((a) => html`<${AccountLine} key=${a.login} account=${a} act=${act} ask=${setAsked} />`)}</ul>
    <h2>${t("accounts.new")}</h2>
    <${NewAccount} act=${act} />
    <h2>${t("tokens.title")}</h2>
    ${known.tokens.length
      ? html`<ul class="rows">${known.tokens.map((k) => html`<${TokenLine} key=${k.id} token=${k} ask=${setAsked} />`)}</ul>`
      : html`<p class="lead">${t("tokens.none")}</p>`}
    <h2>${t("tokens.new")}</h2>
    <${NewToken} accounts=${known.accounts} act=${act} />
    <h2>${t("log.title")}</h2>
    <ul class="rows log">${known.log.map((e, i) => html`<${LogLine} key=${i} entry=${e} />`)}</ul>
    <div class="links">
      <a class="button" href="/">${t("account.home")}</a>
      <a class="button" href="/account">${t("account.own")}</a>
    </div>
    ${asked && html`<${Sure} text=${asked.text} onClose=${() => setAsked(null)} onYes=${() => act(asked.method, asked.path, asked.body, asked.secret)} />`}
    ${secret &&
    html`<${Secret} title=${t(`accounts.secret.${secret.kind}`, secret)} about=${t(`accounts.secret.${secret.kind}.about`)} secret=${secret.secret} onClose=${() => setSecret(null)} />`}
  `;
}

await show(Accounts, { title: "accounts.title", wide: true, home: true });
