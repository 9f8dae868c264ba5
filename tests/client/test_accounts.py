"""Accounts and sharing, against a transport that answers what the test says: what is sent, and what is made of it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

import syncline
from syncline import Accounts, Forbidden, GrantLimits, LoginFailed, Misuse, RateLimited, ReadWhere, RequestRefused
from syncline.address import parse_address
from syncline.credentials import Credentials
from syncline.http import HttpApi
from tests.client.fake_clock import FakeClock

URL = "http://h/sync"
USER = {"user": "bob", "kind": "user", "title": "", "admin": False, "disabled": False, "created_ms": 5}
GRANT = {"id": "g_1", "to": "user:bob", "store": "notes", "role": "writer", "by": "alice", "created_ms": 5}
INVITATION = {"id": "i_1", "store": "notes", "role": "reader", "by": "alice", "created_ms": 5, "uses_max": 3, "uses": 1}
TOKEN = {"id": "t_1", "user": "alice", "title": "backup", "kind": "personal", "scopes": ["read"], "created_ms": 5}

Answer = httpx2.Response | dict[str, Any]


class Server:
    """Answers in order what the test says, and keeps what was asked."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, str, Any, str | None]] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content) if request.content else None
        if body is not None:
            assert request.headers["Content-Type"] == "application/json"
        path = request.url.raw_path.decode().removeprefix("/sync/v1/")
        self.asked.append((request.method, path, body, request.headers.get("Authorization")))
        answer = self._answers.pop(0)
        return answer if isinstance(answer, httpx2.Response) else httpx2.Response(200, json=answer)

    def accounts(self, take_token: Callable[[str | None], None] = lambda token: None) -> Accounts:
        """Return what speaks to this server with the token `t1`."""
        credentials = Credentials(URL, "t1")
        http = HttpApi(parse_address(URL), credentials=credentials, transport=httpx2.MockTransport(self))
        return Accounts(http, FakeClock(), take_token)

    @property
    def sent(self) -> list[tuple[str, str, Any]]:
        return [each[:3] for each in self.asked]


def problem(status: int, code: str, **more: Any) -> httpx2.Response:
    headers = {"Content-Type": "application/problem+json"} | more.pop("headers", {})
    return httpx2.Response(status, json={"status": status, "code": code, "detail": "it is so", **more}, headers=headers)


# --- who we are ---


async def test_me_tells_a_server_without_accounts_from_one_where_nobody_is_logged_in() -> None:
    server = Server({"user": None, "kind": "open", "auth": "none"}, {"user": None, "kind": "anonymous", "later": 1})
    accounts = server.accounts()
    assert (await accounts.me()).auth == "none"
    assert (await accounts.me()).kind == "anonymous"


async def test_who_logs_in_shows_no_token_and_the_new_one_from_then_on() -> None:
    taken: list[str | None] = []
    server = Server({"user": "bob", "expires_ms": 9, "token": "syncline_s_x"})
    login = await server.accounts(taken.append).login("bob", "secret")
    assert (login.user, login.expires_ms, login.token) == ("bob", 9, "syncline_s_x")
    assert server.asked == [("POST", "login", {"user": "bob", "password": "secret"}, None)]
    assert taken == ["syncline_s_x"]


async def test_setup_and_a_new_password_bring_a_token_too_and_a_logout_takes_it_away() -> None:
    taken: list[str | None] = []
    server = Server({"user": "a", "token": "s1"}, {"user": "a", "token": "s2"}, {})
    accounts = server.accounts(taken.append)
    await accounts.setup("syncline_c_x", "a", "old")
    await accounts.change_password("old", "new")
    await accounts.logout()
    assert taken == ["s1", "s2", None]
    assert server.sent == [
        ("POST", "setup", {"code": "syncline_c_x", "user": "a", "password": "old"}),
        ("POST", "password", {"password": "old", "new_password": "new"}),
        ("POST", "logout", {}),
    ]


async def test_a_client_whose_user_logs_in_shows_the_token_of_that_login(clock: FakeClock) -> None:
    server = Server({"user": "bob", "token": "s1"}, {"user": "bob", "kind": "user"})
    client = syncline.connect(URL, clock=clock, wait=False)
    client._http._transport = httpx2.MockTransport(server)
    await client.accounts.login("bob", "secret")
    await client.accounts.me()
    assert [token for *_, token in server.asked] == [None, "Bearer s1"]


async def test_a_failed_login_a_missing_right_and_too_many_tries_can_be_told_apart() -> None:
    server = Server(
        problem(401, "login_failed"),
        problem(403, "forbidden"),
        problem(429, "rate_limited", after_ms=1500),
        problem(429, "rate_limited", headers={"Retry-After": "7"}),
        problem(404, "account_unknown"),
    )
    accounts = server.accounts()
    with pytest.raises(LoginFailed, match="it is so"):
        await accounts.login("bob", "wrong")
    with pytest.raises(Forbidden):
        await accounts.users.list()
    with pytest.raises(RateLimited) as limited:
        await accounts.login("bob", "wrong")
    assert limited.value.after_s == 1.5
    with pytest.raises(RateLimited) as limited:
        await accounts.login("bob", "wrong")
    assert limited.value.after_s == 7
    with pytest.raises(RequestRefused) as refused:
        await accounts.users.get("nobody")
    assert (refused.value.code, type(refused.value)) == ("account_unknown", RequestRefused)


async def test_no_secret_is_in_what_is_printed() -> None:
    server = Server(
        {"user": "bob", "token": "hidden"},
        {"ticket": "hidden", "expires_ms": 1},
        {"secret": "hidden", "token": TOKEN},
        {"code": "hidden", "path": "/#invite=hidden", "invitation": INVITATION},
    )
    accounts = server.accounts()
    made = [await accounts.login("bob", "x"), await accounts.ticket(), await accounts.tokens.create("backup")]
    shown = repr([*made, await accounts.invitations.create("notes", "reader")])
    assert "hidden" not in shown
    assert "title='backup'" in shown


# --- users, groups, tokens ---


async def test_a_user_is_made_only_if_there_is_none_of_that_name() -> None:
    server = Server(problem(404, "account_unknown"), httpx2.Response(201, json=USER), USER)
    users = server.accounts().users
    assert (await users.add("bob", "secret", title="Bob")).user == "bob"
    with pytest.raises(RequestRefused) as taken:
        await users.add("bob", "another")
    assert taken.value.code == "name_taken"
    body = {"password": "secret", "admin": False, "service": False, "title": "Bob"}
    assert server.sent == [("GET", "users/bob", None), ("PUT", "users/bob", body), ("GET", "users/bob", None)]


async def test_a_change_of_a_user_sends_what_changes_and_makes_nobody() -> None:
    server = Server(USER, {**USER, "disabled": True}, problem(404, "account_unknown"))
    users = server.accounts().users
    assert (await users.set("bob", disabled=True)).disabled
    with pytest.raises(RequestRefused):
        await users.set("nobody", admin=True)
    assert server.sent[1] == ("PUT", "users/bob", {"disabled": True})
    assert len(server.sent) == 3


async def test_users_and_groups_are_listed_and_removed_by_name() -> None:
    group = {"group": "team", "members": ["bob"], "created_ms": 5}
    server = Server({"users": [USER]}, USER, {"groups": [group]}, group, group, group, group)
    accounts = server.accounts()
    assert [user.user for user in await accounts.users.list()] == ["bob"]
    await accounts.users.remove("bob@example.com")
    assert (await accounts.groups.list())[0].members == ("bob",)
    await accounts.groups.add("team", "bob")
    await accounts.groups.join("team", "bob")
    await accounts.groups.leave("team", "bob")
    await accounts.groups.remove("team")
    assert server.sent[1:] == [
        ("DELETE", "users/bob%40example.com", None),
        ("GET", "groups", None),
        ("PUT", "groups/team", {"members": ["bob"]}),
        ("PUT", "groups/team/members/bob", None),
        ("DELETE", "groups/team/members/bob", None),
        ("DELETE", "groups/team", None),
    ]


async def test_a_token_is_made_with_what_narrows_it_and_is_revoked_by_its_id() -> None:
    server = Server(*[{"secret": "syncline_p_x", "token": TOKEN}] * 2, {"tokens": [TOKEN]}, TOKEN)
    tokens = server.accounts().tokens
    assert (await tokens.create("backup")).secret == "syncline_p_x"
    until = datetime(2030, 1, 1, tzinfo=UTC)
    await tokens.create("backup", user="bob", scopes=["read"], stores=["notes", "log-*"], expires=until)
    assert (await tokens.list("bob"))[0].id == "t_1"
    await tokens.revoke("t_1")
    whole = {"title": "backup", "user": "bob", "scopes": ["read"], "stores": ["notes", "log-*"]}
    assert server.sent == [
        ("POST", "tokens", {"title": "backup"}),
        ("POST", "tokens", {**whole, "expires_ms": 1_893_456_000_000}),
        ("GET", "tokens?user=bob", None),
        ("DELETE", "tokens/t_1", None),
    ]


# --- sharing ---


def client_of(server: Server) -> syncline.Client:
    """Return a client that is not connected, whose requests go to this server."""
    client = syncline.connect(URL, clock=FakeClock(), wait=False)
    client.accounts = server.accounts()
    return client


async def test_to_share_says_only_what_is_not_by_default() -> None:
    server = Server(GRANT, GRANT, GRANT)
    client = client_of(server)
    grant = await client.share("notes", "bob", "writer")
    assert (grant.id, grant.limits, grant.authors) == ("g_1", GrantLimits(), True)
    await client.share("notes", "group:team", key_prefix="team/", own_only=True, authors=False)
    await client.share("notes", "everyone", read_prefix="public/", records_max=10, bytes_max=1000, writes_per_s=2.5)
    assert [body for *_, body in server.sent] == [
        {"to": "user:bob", "store": "notes", "role": "writer"},
        {
            "to": "group:team",
            "store": "notes",
            "role": "reader",
            "limits": {"key_prefix": "team/", "own_only": True},
            "authors": False,
        },
        {
            "to": "everyone",
            "store": "notes",
            "role": "reader",
            "limits": {"read_prefix": "public/", "records_max": 10, "bytes_max": 1000, "writes_per_s": 2.5},
        },
    ]


async def test_what_an_index_finds_is_shared_and_offered_with_any_scalar_of_it() -> None:
    limits = {"read_where": {"index": "room", "eq": None}}
    made = {"code": "syncline_i_1", "invitation": {**INVITATION, "limits": limits}}
    server = Server({**GRANT, "role": "reader", "limits": limits}, GRANT, made)
    client = client_of(server)
    grant = await client.share("notes", "bob", read_where=ReadWhere("room", None))
    assert grant.limits == GrantLimits(read_where=ReadWhere("room", None))
    await client.share("notes", "bob", read_prefix="a/", read_where=ReadWhere("price", 5))
    offered = await client.invite("notes", read_where=ReadWhere("room", None))
    assert offered.invitation.limits == grant.limits
    assert [body["limits"] for *_, body in server.sent] == [
        limits,
        {"read_prefix": "a/", "read_where": {"index": "price", "eq": 5}},
        limits,
    ]


async def test_an_end_is_a_moment_or_a_time_from_now_on_and_never_one_without_a_zone() -> None:
    server = Server(GRANT, GRANT)
    client = client_of(server)
    await client.share("notes", "bob", expires=timedelta(days=1))
    await client.share("notes", "bob", expires=datetime(2030, 1, 1, tzinfo=UTC))
    now_ms = int(FakeClock().time() * 1000)
    assert [body["expires_ms"] for *_, body in server.sent] == [now_ms + 86_400_000, 1_893_456_000_000]
    with pytest.raises(Misuse, match="no time zone"):
        await client.share("notes", "bob", expires=datetime(2030, 1, 1))


async def test_to_unshare_takes_back_the_grant_for_exactly_that_store() -> None:
    wider = {**GRANT, "id": "g_2", "store": "n*"}
    server = Server({"grants": [wider, GRANT]}, GRANT, {"grants": []})
    client = client_of(server)
    assert [grant.id for grant in await client.unshare("notes", "bob")] == ["g_1"]
    assert await client.unshare("notes", "bob") == []
    assert server.sent[:2] == [("GET", "grants?store=notes&to=user%3Abob", None), ("DELETE", "grants/g_1", None)]


async def test_who_may_use_a_store_comes_with_the_limits() -> None:
    server = Server({"grants": [{**GRANT, "limits": {"add_only": True}, "authors": False, "expires_ms": 9}]})
    [grant] = await client_of(server).shared("notes")
    assert (grant.limits.add_only, grant.authors, grant.expires_ms, grant.by) == (True, False, 9, "alice")


async def test_an_invitation_has_a_link_to_this_server_and_is_accepted_by_its_code() -> None:
    made = {"code": "syncline_i_x", "path": "/#invite=syncline_i_x", "invitation": INVITATION}
    server = Server(made, {"grant": GRANT, "login": None}, {"invitations": [INVITATION]}, INVITATION)
    client = client_of(server)
    invitation = await client.invite("notes", "reader", uses_max=3, expires=timedelta(hours=1), add_only=True)
    assert (invitation.code, invitation.link) == ("syncline_i_x", "http://h/sync/#invite=syncline_i_x")
    assert (await client.accept("syncline_i_x")).grant.store == "notes"
    assert (await client.accounts.invitations.list("notes"))[0].uses == 1
    await client.accounts.invitations.remove("i_1")
    terms = {"store": "notes", "role": "reader", "limits": {"add_only": True}, "uses_max": 3}
    assert server.sent == [
        ("POST", "invitations", {**terms, "expires_ms": int(FakeClock().time() * 1000) + 3_600_000}),
        ("POST", "invitations/accept", {"code": "syncline_i_x"}),
        ("GET", "invitations?store=notes", None),
        ("DELETE", "invitations/i_1", None),
    ]


async def test_an_invitation_can_make_the_account_of_who_accepts_it() -> None:
    taken: list[str | None] = []
    server = Server({"grant": GRANT, "login": {"user": "bob", "expires_ms": 9, "token": "s1"}})
    accepted = await server.accounts(taken.append).invitations.accept("syncline_i_x", user="bob", password="secret")
    assert accepted.login is not None
    assert taken == ["s1"]
    body = {"code": "syncline_i_x", "user": "bob", "password": "secret"}
    assert server.asked == [("POST", "invitations/accept", body, None)]
