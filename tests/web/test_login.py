"""Logging in as a browser does: sessions, CSRF, fixation, throttling, first run, own password, tokens."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

from tests.web.people import PASSWORD, Clock, Person, with_roles
from web.access import Right
from web.accounts import Accounts
from web.accounts_api import add_accounts
from web.app import create_app
from web.login import KnownAccounts, add_login
from web.server import serve
from web.throttle import Throttle

CODE = "ABCDE-FGHJK-MNPQR-STUVW"
OTHER = "macet di pasteur lagi"


def build(accounts: Accounts, clock: Clock, code: str = "") -> FastAPI:
    known = KnownAccounts(accounts, code)
    app = create_app(title="Pantau", version="1", identify=known, allowed_hosts=["pantau.example.id"])
    add_login(app, known, throttle=Throttle(clock.s))
    add_accounts(app, accounts)
    return app


@pytest.fixture
def app(accounts: Accounts, clock: Clock) -> FastAPI:
    return build(with_roles(accounts), clock)


def test_login_and_logout(app: FastAPI) -> None:
    siti = Person(app)
    assert siti.get("/docs").status_code == 401
    answer = siti.log_in("Viewer ")
    assert answer.status_code == 200 and answer.json()["rights"] == ["read"]
    assert siti.get("/docs").status_code == 200
    assert siti.get("/api/session").json() == answer.json() | {"setup": False}
    stolen = siti.session
    assert siti.send("DELETE", "/api/session").status_code == 204
    assert siti.session == ""
    assert siti.get("/docs").status_code == 401
    assert siti.get("/docs", Cookie=f"pantau_session={stolen}").status_code == 401


def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(app: FastAPI) -> None:
    cookie = Person(app).log_in("viewer").headers["set-cookie"]
    parts = {p.strip().lower() for p in cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= parts and "secure" not in parts
    safe = Person(app, base="https://pantau.example.id").log_in("viewer").headers["set-cookie"]
    assert safe.startswith("__Host-pantau_session=") and "; Secure" in safe and "domain" not in safe.lower()


def test_behind_a_proxy_on_this_machine_that_ends_tls(app: FastAPI) -> None:
    # docs/access.md: uvicorn takes these headers from the loopback.
    server = serve(app, "127.0.0.1", 0)
    try:
        answer = httpx.post(
            f"{server.url}/api/session",
            json={"login": "viewer", "password": PASSWORD},
            headers={"X-Pantau": "1", "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7"},
        )
        assert answer.headers["set-cookie"].startswith("__Host-pantau_session=")
        assert app.state.identify.accounts.knows_address("viewer", "203.0.113.7")
    finally:
        server.stop()


def test_a_session_that_somebody_planted_is_never_taken_over(app: FastAPI) -> None:
    attacker, victim = Person(app), Person(app)
    attacker.log_in("viewer")
    planted = attacker.session
    victim.http.cookies.set("pantau_session", planted, domain="localhost.local", path="/")
    answer = victim.http.post(
        "/api/session",
        json={"login": "administrator", "password": PASSWORD},
        headers={"X-Pantau": "1", "Cookie": f"pantau_session={planted}"},
    )
    fresh = answer.cookies["pantau_session"]
    assert fresh != planted
    # The planted one has not become the victim's; it has even ended.
    assert Person(app).get("/docs", Cookie=f"pantau_session={planted}").status_code == 401
    made_up = Person(app)
    answer = made_up.http.post(
        "/api/session",
        json={"login": "viewer", "password": PASSWORD},
        headers={"X-Pantau": "1", "Cookie": "pantau_session=chosen-by-me"},
    )
    assert answer.cookies["pantau_session"] != "chosen-by-me"
    assert Person(app).get("/docs", Cookie="pantau_session=chosen-by-me").status_code == 401


def test_each_session_has_a_csrf_token_of_its_own(app: FastAPI) -> None:
    one, two = Person(app), Person(app)
    one.log_in("administrator")
    two.log_in("administrator")
    order = {"login": "baru", "role": "viewer"}
    own = one.csrf
    assert own != two.csrf
    for forged in ("", two.csrf, own[:-1], own.upper()):
        one.csrf = forged
        answer = one.send("POST", "/api/accounts", order)
        assert answer.status_code == 403 and "X-CSRF-Token" in answer.json()["detail"], forged
    one.csrf = own
    assert one.send("POST", "/api/accounts", order).status_code == 201


def test_guessing_is_slowed_down_and_told(app: FastAPI, clock: Clock) -> None:
    mallory = Person(app)
    answers = [mallory.log_in("viewer", f"guess number {n}") for n in range(8)]
    assert [a.status_code for a in answers] == [401] * 5 + [429] * 3
    assert answers[-1].headers["retry-after"] == "2" and "wait 2 s" in answers[-1].json()["detail"]
    # Even the right password has to wait.
    assert mallory.log_in("viewer").status_code == 429
    clock.now_s += 2
    assert mallory.log_in("viewer").status_code == 200


def test_a_stranger_does_not_lock_out_whom_we_know_by_address(app: FastAPI, clock: Clock) -> None:
    at_home = Person(app, client=("10.0.0.5", 1))
    assert at_home.log_in("operator").status_code == 200
    stranger = Person(app, client=("203.0.113.7", 1))
    assert [stranger.log_in("operator", "wrong").status_code for _ in range(7)] == [401] * 5 + [429] * 2
    assert at_home.log_in("operator").status_code == 200
    assert stranger.log_in("operator").status_code == 429


def test_one_address_can_not_try_many_names(app: FastAPI) -> None:
    mallory = Person(app, client=("203.0.113.7", 1))
    codes = [mallory.log_in(f"name{n}", "wrong").status_code for n in range(25)]
    assert codes == [401] * 20 + [429] * 5
    assert Person(app, client=("10.0.0.5", 1)).log_in("viewer").status_code == 200


def test_addresses_of_one_ipv6_network_are_one(app: FastAPI) -> None:
    codes = [
        Person(app, client=(f"2001:db8:1:2::{n:x}", 1)).log_in(f"name{n}", "wrong").status_code for n in range(1, 22)
    ]
    assert codes == [401] * 20 + [429]


def test_first_run(accounts: Accounts, clock: Clock) -> None:
    app = build(accounts, clock, CODE)
    person = Person(app)
    assert person.get("/api/session").json()["setup"] is True
    assert person.log_in("admin", "admin").status_code == 401  # no default account
    order = {"code": CODE, "login": "Siti", "name": "Siti Rahayu", "password": PASSWORD}
    wrong = person.send("POST", "/api/setup", order | {"code": "ABCDE-FGHJK-MNPQR-STUVX"})
    assert wrong.status_code == 403 and accounts.empty()
    weak = person.send("POST", "/api/setup", order | {"password": "siti"})
    assert weak.status_code == 422 and "at least 12" in weak.json()["detail"]
    done = person.send("POST", "/api/setup", order | {"code": CODE.lower().replace("-", " ")})
    assert done.status_code == 200 and done.json()["role"] == "administrator" and done.json()["account"] == "siti"
    assert person.get("/api/accounts").status_code == 200
    again = Person(app).send("POST", "/api/setup", order | {"login": "mallory"})
    assert again.status_code == 409
    assert person.get("/api/session").json()["setup"] is False


def test_the_setup_code_can_not_be_guessed_and_none_is_not_empty(accounts: Accounts, clock: Clock) -> None:
    order = {"code": "", "login": "siti", "password": PASSWORD}
    assert Person(build(accounts, clock, "")).send("POST", "/api/setup", order).status_code == 403
    app = build(accounts, clock, CODE)
    codes = [
        Person(app, client=(f"203.0.113.{n}", 1)).send("POST", "/api/setup", order | {"code": str(n)}).status_code
        for n in range(7)
    ]
    assert codes == [403] * 5 + [429] * 2
    assert accounts.empty()


def test_changing_ones_password_ends_the_other_sessions(app: FastAPI) -> None:
    here, there = Person(app), Person(app)
    here.log_in("technician")
    there.log_in("technician")
    before = here.session
    assert here.send("POST", "/api/account/password", {"old": "wrong", "new": OTHER}).status_code == 403
    assert here.send("POST", "/api/account/password", {"old": PASSWORD, "new": "short"}).status_code == 422
    answer = here.send("POST", "/api/account/password", {"old": PASSWORD, "new": OTHER})
    assert answer.status_code == 200 and here.session != before
    assert here.get("/docs").status_code == 200
    assert there.get("/docs").status_code == 401
    assert Person(app).get("/docs", Cookie=f"pantau_session={before}").status_code == 401


def test_who_holds_a_session_can_not_guess_its_password_at_will(app: FastAPI) -> None:
    person = Person(app)
    person.log_in("technician")
    codes = [
        person.send("POST", "/api/account/password", {"old": f"guess {n}", "new": OTHER}).status_code for n in range(6)
    ]
    assert codes == [403] * 5 + [429]


def test_a_new_account_changes_its_temporary_password_first(app: FastAPI) -> None:
    admin, fresh = Person(app), Person(app)
    admin.log_in("administrator")
    made = admin.send("POST", "/api/accounts", {"login": "Budi", "name": "Budi", "role": "technician"})
    assert made.status_code == 201
    temporary = made.json()["password"]
    assert fresh.log_in("budi", temporary).json()["must_change_password"] is True
    assert fresh.get("/docs").status_code == 403
    assert fresh.get("/docs", Accept="text/html").headers["location"] == "/account?next=/docs"
    assert fresh.get("/account").status_code == 200
    told = fresh.send("POST", "/api/account/password", {"old": temporary, "new": OTHER}).json()
    assert told["must_change_password"] is False and told["rights"] == ["devices", "read"]
    assert fresh.get("/docs").status_code == 200


def test_a_token_needs_neither_cookie_nor_csrf_and_counts_alone(app: FastAPI, accounts: Accounts) -> None:
    _, secret = accounts.create_token("viewer", "wall", [Right.READ], days=1, by="administrator")
    program = Person(app)
    assert program.get("/docs", Authorization=f"Bearer {secret}").status_code == 200
    assert program.get("/docs", Authorization=f"bearer  {secret}").status_code == 200
    for wrong in (f"Bearer {secret}x", "Bearer", "Bearer ", f"Basic {secret}", secret):
        assert program.get("/docs", Authorization=wrong).status_code == 401, wrong
    assert program.get(f"/docs?token={secret}").status_code == 401
    # A page for people is not for tokens, and a wrong token does not fall back to the cookie.
    assert program.get("/account", Authorization=f"Bearer {secret}").status_code == 403
    program.log_in("administrator")
    assert program.get("/api/accounts").status_code == 200
    assert program.get("/api/accounts", Authorization="Bearer wrong").status_code == 401
    assert program.get("/api/accounts", Authorization=f"Bearer {secret}").status_code == 403


def test_the_administrator_does_everything_over_the_api(app: FastAPI) -> None:
    admin = Person(app)
    admin.log_in("administrator")
    assert admin.send("POST", "/api/accounts", {"login": "viewer", "role": "viewer"}).status_code == 409
    assert admin.send("POST", "/api/accounts", {"login": "x y", "role": "viewer"}).status_code == 422
    assert admin.send("PATCH", "/api/accounts/viewer", {"role": "operator", "name": "Vi"}).status_code == 204
    assert admin.send("PATCH", "/api/accounts/administrator", {"disabled": True}).status_code == 409
    assert admin.send("PATCH", "/api/accounts/ghost", {"disabled": True}).status_code == 404
    assert admin.send("POST", "/api/accounts/ghost/password").status_code == 404
    temporary = admin.send("POST", "/api/accounts/viewer/password").json()["password"]
    assert Person(app).log_in("viewer").status_code == 401
    assert Person(app).log_in("viewer", temporary).status_code == 200
    token = admin.send(
        "POST", "/api/tokens", {"account": "viewer", "label": "wall", "scopes": ["read", "alarms"], "days": 7}
    ).json()
    assert token["token"].startswith("pantau_") and token["scopes"] == ["alarms", "read"]
    assert "token" not in admin.get("/api/tokens").json()["tokens"][0]
    assert admin.send("DELETE", f"/api/tokens/{token['id']}").status_code == 204
    assert admin.send("DELETE", "/api/tokens/999").status_code == 404
    assert Person(app).get("/docs", Authorization=f"Bearer {token['token']}").status_code == 401
    listed = {a["login"]: a for a in admin.get("/api/accounts").json()["accounts"]}
    assert (listed["viewer"]["role"], listed["viewer"]["name"]) == ("operator", "Vi")
    events = [(e["event"], e["account"], e["by"]) for e in admin.get("/api/accounts/log?limit=3").json()["log"]]
    assert events[0] == ("token_revoked", "viewer", "administrator")


def test_it_says_nothing_about_which_names_exist(app: FastAPI) -> None:
    person = Person(app)
    known, unknown = person.log_in("viewer", "wrong"), person.log_in("ghost", "wrong")
    assert (known.status_code, known.json()) == (unknown.status_code, unknown.json())
