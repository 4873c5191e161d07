"""Accounts, sessions and tokens in their database: what is kept, what expires, what is refused."""

from __future__ import annotations

import re
import stat
import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from tests.web.people import CHEAP, PASSWORD, Clock, with_roles
from web.access import NOBODY, How, Right, Role
from web.accounts import NS_PER_DAY, NS_PER_S, Accounts, Event
from web.errors import (
    AccountConflictError,
    AccountsIncompatibleError,
    AccountsUnavailableError,
    InvalidAccountError,
    UnknownAccountError,
)

DAY_S = NS_PER_DAY / NS_PER_S
OTHER = "macet di pasteur lagi"


def log_in(accounts: Accounts, login: str, password: str = PASSWORD) -> str:
    session = accounts.log_in(login, password, address="10.0.0.1")
    assert session is not None
    return session


def everything_stored(url: str) -> str:
    parsed = make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    engine = create_engine(parsed)
    with engine.connect() as connection:
        tables = ("accounts", "account_sessions", "account_tokens", "account_log")
        found = [str(tuple(row)) for t in tables for row in connection.execute(text(f"SELECT * FROM {t}"))]
    engine.dispose()
    return "\n".join(found)


def test_a_session_says_who_it_is(accounts: Accounts) -> None:
    with_roles(accounts)
    visitor = accounts.session_visitor(log_in(accounts, "technician"))
    assert (visitor.how, visitor.account, visitor.name) == (How.SESSION, "technician", "Technician")
    assert visitor.rights == {Right.READ, Right.DEVICES} and visitor.csrf
    assert accounts.session_visitor("made up") == NOBODY


@pytest.mark.parametrize(
    ("login", "password"),
    [("viewer", "wrong"), ("nobody", PASSWORD), ("VIEWER", PASSWORD), ("", ""), ("a\0b", PASSWORD)],
)
def test_wrong_names_and_passwords_get_nothing(accounts: Accounts, login: str, password: str) -> None:
    with_roles(accounts)
    assert accounts.log_in(login, password) is None


def test_no_secret_is_stored(accounts: Accounts, url: str) -> None:
    with_roles(accounts)
    temporary = accounts.create("siti", Role.VIEWER, by="administrator")
    session = log_in(accounts, "viewer")
    _, token = accounts.create_token("viewer", "wall", [Right.READ], days=1, by="administrator")
    accounts.log_in("viewer", "a secret typed wrong")
    accounts.log_in("a secret typed as name", PASSWORD)
    stored = everything_stored(url)
    assert temporary is not None
    for secret in (PASSWORD, temporary, session, token, token.removeprefix("pantau_"), "a secret typed"):
        assert secret not in stored
    # RFC 9106: version 19 is 0x13; type argon2id.
    assert len(re.findall(r"\$argon2id\$v=19\$m=\d+,t=\d+,p=\d+\$", stored)) == 5


def test_the_usual_hash_has_the_parameters_of_rfc_9106() -> None:
    from web.passwords import Passwords

    encoded = Passwords().hash(PASSWORD)
    # RFC 9106, section 4: second recommended option: t=3, p=4, m=2^16 KiB, 128-bit salt, 256-bit tag.
    kind, version, parameters, salt, tag = encoded.removeprefix("$").split("$")
    assert (kind, version, parameters) == ("argon2id", "v=19", "m=65536,t=3,p=4")
    assert (len(salt) * 6 // 8, len(tag) * 6 // 8) == (16, 32)


def test_weaker_hashes_are_renewed_at_the_next_login(accounts: Accounts, url: str) -> None:
    from web.passwords import Passwords

    with_roles(accounts)
    stronger = Accounts(url, passwords=Passwords(time_cost=2, memory_cost=128, parallelism=1))
    assert "m=128,t=2" not in everything_stored(url)
    assert stronger.log_in("viewer", PASSWORD)
    assert everything_stored(url).count("m=128,t=2") == 1
    assert stronger.log_in("viewer", PASSWORD)
    stronger.close()


def test_sessions_end_when_idle_and_at_the_latest_after_a_month(accounts: Accounts, clock: Clock) -> None:
    with_roles(accounts)
    idle, used = log_in(accounts, "viewer"), log_in(accounts, "viewer")
    for day in range(1, 30):
        clock.now_s = day * DAY_S
        assert accounts.session_visitor(used).account == "viewer", day
        assert (accounts.session_visitor(idle) == NOBODY) == (day >= 7), day
        if day < 7:
            break
    # ``idle`` was looked at on day 1, and is then left alone.
    for day in range(2, 30):
        clock.now_s = day * DAY_S
        assert accounts.session_visitor(used).account == "viewer", day
    clock.now_s = 30 * DAY_S - 1
    assert accounts.session_visitor(used).account == "viewer"
    assert accounts.session_visitor(idle) == NOBODY
    clock.now_s = 30 * DAY_S
    assert accounts.session_visitor(used) == NOBODY


def test_a_password_change_ends_all_other_sessions(accounts: Accounts) -> None:
    with_roles(accounts)
    first, second, other = log_in(accounts, "viewer"), log_in(accounts, "viewer"), log_in(accounts, "operator")
    assert accounts.change_password("viewer", "wrong", OTHER) is None
    assert accounts.session_visitor(first).account == "viewer"
    fresh = accounts.change_password("viewer", PASSWORD, OTHER)
    assert fresh is not None and accounts.session_visitor(fresh).account == "viewer"
    assert accounts.session_visitor(first) == accounts.session_visitor(second) == NOBODY
    assert accounts.session_visitor(other).account == "operator"
    assert accounts.log_in("viewer", PASSWORD) is None and accounts.log_in("viewer", OTHER)


def test_a_temporary_password_allows_nothing_but_changing_it(accounts: Accounts) -> None:
    with_roles(accounts)
    temporary = accounts.reset_password("administrator", by="console")
    assert temporary is not None and accounts.log_in("administrator", PASSWORD) is None
    visitor = accounts.session_visitor(log_in(accounts, "administrator", temporary))
    assert visitor.must_change_password and not visitor.rights
    fresh = accounts.change_password("administrator", temporary, OTHER)
    assert fresh is not None and accounts.session_visitor(fresh).rights == set(Right)


def test_a_disabled_account_is_out_at_once_and_comes_back_without_its_sessions(accounts: Accounts) -> None:
    with_roles(accounts)
    session = log_in(accounts, "operator")
    _, token = accounts.create_token("operator", "x", [Right.READ], days=1, by="administrator")
    accounts.change("operator", disabled=True, by="administrator")
    assert accounts.session_visitor(session) == accounts.token_visitor(token) == NOBODY
    assert accounts.log_in("operator", PASSWORD) is None
    accounts.change("operator", disabled=False, by="administrator")
    assert accounts.session_visitor(session) == NOBODY
    assert accounts.token_visitor(token).account == "operator"


def test_the_last_administrator_stays(accounts: Accounts) -> None:
    with_roles(accounts)
    for attempt in ({"disabled": True}, {"role": Role.VIEWER}):
        with pytest.raises(AccountConflictError, match="last administrator"):
            accounts.change("administrator", by="administrator", **attempt)  # type: ignore[arg-type]
    accounts.change("operator", role=Role.ADMINISTRATOR, by="administrator")
    accounts.change("administrator", disabled=True, by="operator")
    with pytest.raises(AccountConflictError, match="last administrator"):
        accounts.change("operator", role=Role.VIEWER, by="operator")


def test_a_token_may_what_its_scopes_and_its_account_may(accounts: Accounts, clock: Clock) -> None:
    with_roles(accounts)
    token, secret = accounts.create_token(
        "administrator", "import", [Right.DEVICES, Right.READ], days=1, by="administrator"
    )
    visitor = accounts.token_visitor(secret)
    assert (visitor.how, visitor.rights) == (How.TOKEN, {Right.READ, Right.DEVICES})
    assert visitor.name == "administrator (import)"
    accounts.change("viewer", role=Role.ADMINISTRATOR, by="administrator")
    accounts.change("administrator", role=Role.OPERATOR, by="viewer")
    assert accounts.token_visitor(secret).rights == {Right.READ}
    clock.now_s = DAY_S - 1
    assert accounts.token_visitor(secret).account == "administrator"
    clock.now_s = DAY_S
    assert accounts.token_visitor(secret) == NOBODY
    assert accounts.tokens()[0].id == token.id and accounts.tokens()[0].used_at is not None


def test_a_revoked_token_is_dead(accounts: Accounts) -> None:
    with_roles(accounts)
    token, secret = accounts.create_token("viewer", "x", [Right.READ], days=1, by="administrator")
    accounts.revoke_token(token.id, by="administrator")
    assert accounts.token_visitor(secret) == NOBODY
    with pytest.raises(UnknownAccountError, match="no token 77"):
        accounts.revoke_token(77, by="administrator")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scopes": []}, "at least one of read, alarms, devices, accounts"),
        ({"scopes": [Right.DEVICES]}, "'viewer' (viewer) has no right 'devices' itself"),
        ({"label": "  "}, "label: 1 to 100"),
        ({"label": "a\0b"}, "label: 1 to 100"),
        ({"days": 0}, "days: more than 0, at most 730, got 0"),
        ({"days": 731}, "days: more than 0, at most 730, got 731"),
        ({"days": float("nan")}, "got nan"),
    ],
)
def test_impossible_tokens(accounts: Accounts, change: dict[str, object], words: str) -> None:
    with_roles(accounts)
    given = {"login": "viewer", "label": "x", "scopes": [Right.READ], "days": 1, "by": "administrator"} | change
    with pytest.raises(InvalidAccountError, match=re.escape(words)):
        accounts.create_token(**given)  # type: ignore[arg-type]
    assert accounts.tokens() == ()


@pytest.mark.parametrize(
    ("login", "password", "words"),
    [
        ("Siti", PASSWORD, "login: 2 to 64"),
        ("a", PASSWORD, "login"),
        ("siti rahayu", PASSWORD, "login"),
        ("siti", "short", "at least 12 characters, got 5"),
        ("siti", "abababababababab", "repeats too few"),
        ("siti.rahayu1", "Siti.Rahayu12", "hardly more than"),
        ("siti", "x" * 1001, "at most 1000"),
    ],
)
def test_impossible_accounts(accounts: Accounts, login: str, password: str, words: str) -> None:
    with pytest.raises(InvalidAccountError, match=words):
        accounts.create(login, Role.VIEWER, by="x", password=password)
    assert accounts.empty()


def test_the_first_account_can_be_made_only_once_even_at_the_same_moment(accounts: Accounts, url: str) -> None:
    outcomes: list[str] = []
    start = threading.Barrier(4)

    def attempt(number: int) -> None:
        own = Accounts(url, passwords=CHEAP)
        start.wait()
        try:
            own.create_first(f"admin{number}", PASSWORD)
            outcomes.append("made")
        except AccountConflictError:
            outcomes.append("refused")
        own.close()

    workers = [threading.Thread(target=attempt, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(outcomes) == ["made", "refused", "refused", "refused"]
    assert len(accounts.accounts()) == 1


def test_what_happened_is_in_the_log(accounts: Accounts, clock: Clock) -> None:
    with_roles(accounts)
    clock.now_s = 60
    session = log_in(accounts, "viewer")
    accounts.log_in("viewer", "wrong", address="10.0.0.2")
    accounts.log_in("stranger", "wrong", address="10.0.0.3")
    accounts.log_out(session, address="10.0.0.1")
    newest = [(e.event, e.account, e.address) for e in accounts.log(4)]
    assert newest == [
        (Event.LOGOUT, "viewer", "10.0.0.1"),
        (Event.LOGIN_FAILED, "", "10.0.0.3"),
        (Event.LOGIN_FAILED, "viewer", "10.0.0.2"),
        (Event.LOGIN, "viewer", "10.0.0.1"),
    ]
    assert next(a for a in accounts.accounts() if a.login == "viewer").last_login_at == clock.ns()
    assert accounts.knows_address("viewer", "10.0.0.1") and not accounts.knows_address("viewer", "10.0.0.2")
    clock.now_s = 31 * DAY_S
    assert not accounts.knows_address("viewer", "10.0.0.1")


def test_what_was_made_is_there_after_a_restart(accounts: Accounts, url: str) -> None:
    with_roles(accounts)
    session = log_in(accounts, "viewer")
    again = Accounts(url, passwords=CHEAP, clock=accounts._clock)
    assert [a.login for a in again.accounts()] == ["administrator", "operator", "technician", "viewer"]
    assert again.session_visitor(session).account == "viewer"
    again.close()


def test_accounts_of_a_newer_pantau_are_left_alone(accounts: Accounts, url: str) -> None:
    with accounts._database.writing() as connection:
        connection.execute(text("UPDATE accounts_schema SET schema_version = 99"))
    with pytest.raises(AccountsIncompatibleError, match="schema version 99"):
        Accounts(url, passwords=CHEAP)


def test_only_their_owner_can_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "accounts.sqlite"
    Accounts(f"sqlite:///{path}", passwords=CHEAP).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:////nowhere/at/all.sqlite", "the folder /nowhere/at does not exist"),
        ("sqlite://", "in memory"),
        ("nonsense", "must look like"),
        ("postgresql://nobody@127.0.0.1:1/x", "cannot use the accounts in postgresql"),
    ],
)
def test_a_database_that_can_not_be_used_is_said_in_one_sentence(url: str, words: str) -> None:
    with pytest.raises(AccountsUnavailableError, match=words):
        Accounts(url, passwords=CHEAP)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    path.write_text("this is no database at all, but it is long enough to be looked at" * 20)
    with pytest.raises(AccountsIncompatibleError, match="holds no accounts"):
        Accounts(f"sqlite:///{path}", passwords=CHEAP)
