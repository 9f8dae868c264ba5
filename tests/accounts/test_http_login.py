"""Who one is, logging in and out, passwords, the first administrator and tickets, by HTTP."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from syncline_server.access.principal import Principal
from syncline_server.accounts.plans.users import UserChange
from syncline_server.accounts.secret import hash_secret

from .desk import PASSWORD, Desk, Person, desk

DAY_MS = 24 * 3600 * 1000


@pytest.fixture
async def server() -> AsyncIterator[Desk]:
    """A server without an account."""
    async with desk() as made:
        yield made


async def login(person: Person, user: str, password: str = PASSWORD, **more: object) -> dict[str, object]:
    """Log in and go on with the token."""
    session: dict[str, object] = (await person.post("login", {"user": user, "password": password, **more})).ok()
    person.token = None if session["token"] is None else str(session["token"])
    return session


# --- who one is ---


async def test_me_answers_everybody(server: Desk) -> None:
    nobody = server.person()
    assert (await nobody.get("me")).ok() == {
        "user": None, "kind": "anonymous", "admin": False, "groups": [], "scopes": ["admin", "read", "share", "write"],
        "expires_ms": None, "auth": "accounts", "oidc": False, "setup": True,
    }  # fmt: skip
    root = await server.admin()
    me = (await root.get("me")).ok()
    assert (me["user"], me["kind"], me["admin"], me["setup"]) == ("root", "user", True, False)
    assert me["expires_ms"] == server.hub.now_ms() + 30 * DAY_MS


# --- the first administrator ---


async def test_the_printed_code_makes_the_first_administrator_once(server: Desk) -> None:
    person = server.person()
    body = {"code": server.setup_code, "user": "root", "password": PASSWORD}
    (await person.post("setup", body | {"code": server.setup_code + "x"})).refused(403, "forbidden")
    (await person.post("setup", body | {"user": "Root"})).refused(400, "account_invalid")
    (await person.post("setup", body | {"password": "short"})).refused(400, "account_invalid")
    session = (await person.post("setup", body)).ok(201)
    assert (await server.person(session["token"]).get("me")).ok()["admin"]
    (await person.post("setup", body | {"user": "eve"})).refused(403, "forbidden")
    assert await server.audit() == [("setup.done", "root", "root", "ok"), ("login.ok", "root", "root", "ok")]


# --- logging in ---


async def test_a_login_is_a_session_until_the_logout(server: Desk) -> None:
    await server.user("ada")
    person = server.person()
    session = await login(person, "ada")
    assert session["user"] == "ada"
    assert session["expires_ms"] == server.hub.now_ms() + 30 * DAY_MS
    assert (await person.get("me")).ok()["user"] == "ada"
    (await person.post("logout")).ok()
    assert (await person.get("me")).ok()["user"] is None
    assert [entry[0] for entry in await server.audit()] == ["login.ok", "logout"]
    assert (await server.person().post("logout")).ok() == {}


@pytest.mark.parametrize(("scheme", "is_secure"), [("http", False), ("https", True)])
async def test_a_browser_keeps_its_session_where_no_script_reads_it(server: Desk, scheme: str, is_secure: bool) -> None:
    await server.user("ada")
    person = server.person(scheme=scheme)
    answer = await person.post("login", {"user": "ada", "password": PASSWORD, "cookie": True})
    assert answer.ok()["token"] is None
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert ("Secure" in cookie) == is_secure
    assert (await person.get("me")).ok()["user"] == "ada"
    await person.post("logout")
    assert (await person.get("me")).ok()["user"] is None


async def test_whatever_is_wrong_with_a_login_is_answered_alike(server: Desk) -> None:
    await server.user("ada")
    await server.user("bob")
    await server.accounts.directory.change_user("bob", UserChange(is_disabled=True))
    await server.accounts.directory.add_user("robot", kind="service")
    texts = set()
    for number, (user, password) in enumerate(
        [("ada", "wrong"), ("eve", PASSWORD), ("bob", PASSWORD), ("robot", ""), ("x" * 300, ""), ("A\n", "\ud800a")]
    ):
        body = b'{"user":"%b","password":"%b"}' % (
            user.encode().replace(b"\n", b"\\n"), password.encode(errors="ignore")
        )  # fmt: skip
        answer = await server.person(address=f"10.0.0.{number}").post("login", body)
        answer.refused(401, "login_failed")
        texts.add(answer.content)
    assert len(texts) == 1
    entries = await server.audit()
    assert {(action, actor, outcome) for action, actor, _, outcome in entries} == {("login.failed", None, "refused")}
    assert entries[0][2] == "ada"


async def test_guessing_is_slowed_down_and_the_owner_gets_in(server: Desk) -> None:
    await server.user("ada")
    await login(server.person(address="10.0.0.1"), "ada")
    thief = server.person(address="10.9.9.9")
    for _ in range(5):
        (await thief.post("login", {"user": "ada", "password": "wrong"})).refused(401, "login_failed")
    answer = await thief.post("login", {"user": "ada", "password": PASSWORD})
    answer.refused(429, "rate_limited")
    assert int(answer.headers["retry-after"]) >= 1
    await login(server.person(address="10.0.0.1"), "ada")
    server.clock.seconds += 1
    await login(thief, "ada")


async def test_a_login_that_cannot_be_written_down_does_not_happen(server: Desk) -> None:
    await server.user("ada")
    tokens = len(server.accounts.directory.registry.tokens)
    await server.hub.storage.drop("_audit")
    answer = await server.person().post("login", {"user": "ada", "password": PASSWORD})
    answer.refused(503, "storage_unavailable")
    assert len(server.accounts.directory.registry.tokens) == tokens


async def test_a_user_agent_names_the_session_and_forges_nothing(server: Desk) -> None:
    await server.user("ada")
    agent = "Fire\x1b[31mfox " + "x" * 300
    session = (await server.person().post("login", {"user": "ada", "password": PASSWORD}, User_Agent=agent)).ok()
    tokens = (await server.person(session["token"]).get("tokens")).ok()["tokens"]
    assert tokens[-1]["title"].startswith("Fire[31mfox x")
    assert len(tokens[-1]["title"]) == 100


# --- passwords ---


async def test_a_new_password_ends_all_sessions_but_this_one(server: Desk) -> None:
    there = await server.user("ada")
    here = server.person()
    await login(here, "ada")
    body = {"password": PASSWORD, "new_password": "another long password"}
    (await here.post("password", body | {"password": "wrong"})).refused(401, "login_failed")
    (await here.post("password", body | {"new_password": "short"})).refused(400, "account_invalid")
    assert (await here.post("password", body)).ok()["token"] is None
    assert (await here.get("me")).ok()["user"] == "ada"
    assert (await there.get("me")).ok()["user"] is None
    (await server.person().post("login", {"user": "ada", "password": PASSWORD})).refused(401, "login_failed")
    await login(server.person(), "ada", "another long password")
    assert ("password.change", "ada", "ada", "ok") in await server.audit()


async def test_a_password_is_changed_by_who_has_all_of_the_account(server: Desk) -> None:
    ada = await server.user("ada")
    body = {"password": PASSWORD, "new_password": "another long password"}
    (await server.person().post("password", body)).refused(401, "unauthenticated")
    limited = (await ada.post("tokens", {"title": "x", "scopes": ["read", "write"]})).ok(201)["secret"]
    (await server.person(limited).post("password", body)).refused(403, "forbidden")
    full = (await ada.post("tokens", {"title": "x"})).ok(201)["secret"]
    session = (await server.person(full).post("password", body)).ok()
    assert (await server.person(session["token"]).get("me")).ok()["user"] == "ada"
    assert (await ada.get("me")).ok()["user"] is None


async def test_a_personal_token_is_no_session_to_log_out_of(server: Desk) -> None:
    ada = await server.user("ada")
    person = server.person((await ada.post("tokens", {"title": "x"})).ok(201)["secret"])
    (await person.post("logout")).refused(403, "forbidden")
    assert (await person.get("me")).ok()["user"] == "ada"


# --- tickets ---


async def test_a_ticket_is_for_who_asked_on_the_page_that_asked(server: Desk) -> None:
    ada = await server.user("ada")
    ticket = (await ada.post("tickets", Origin="http://127.0.0.1:7171")).ok(201)
    assert ticket["expires_ms"] == server.hub.now_ms() + 30_000
    found = server.accounts.tickets.redeem(ticket["ticket"], "http://127.0.0.1:7171")
    assert isinstance(found, Principal)
    assert found.name == "ada"
    (await server.person().post("tickets")).refused(401, "unauthenticated")
    for _ in range(99):
        (await ada.post("tickets")).ok(201)
    (await ada.post("tickets")).refused(429, "rate_limited")


async def test_who_lost_the_last_password_makes_another_administrator_with_a_code_that_is_good_once(
    server: Desk,
) -> None:
    await server.admin()
    body = {"code": server.setup_code, "user": "saviour", "password": PASSWORD}
    assert (await server.person().post("setup", body)).json["code"] == "forbidden"
    server.accounts.setup.is_rescue = True
    server.accounts.setup.hash = hash_secret(server.setup_code)
    (await server.person().post("setup", body)).ok(201)
    assert server.accounts.directory.registry.users["saviour"].is_admin
    entries = [msgspec.json.decode(text) for text in await server.accounts.audit.entries()]
    done = [entry["detail"] for entry in entries if entry["action"] == "setup.done"]
    assert done == [{}, {"rescue": "true"}]
    assert (await server.person().post("setup", {**body, "user": "thief"})).json["code"] == "forbidden"
