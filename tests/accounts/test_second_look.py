"""Who may do something when he asks for it, and may not any more when it is his turn, does not do it.

Changes of accounts go one after the other, and some wait for their body or for a password to be hashed. What was
allowed when a request came in is judged again in its turn, so that nobody gets around a loss by asking early and often.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from syncline_protocol.errors import RemoteProtocolError
from syncline_server.access.authority import Action
from syncline_server.access.grant import Grant
from syncline_server.access.principal import Principal
from syncline_server.access.rights import Rights
from syncline_server.accounts import stores
from syncline_server.accounts.error import AccountError
from syncline_server.accounts.opening import AccountsOffice
from syncline_server.accounts.registry import Registry
from syncline_server.accounts.stores import create_owned, drop_owned
from syncline_server.app import create_app, hub_of, lifespan_of
from syncline_server.settings import Settings
from syncline_server.storage.base import StoreUnknown

from .desk import PASSWORD, Desk, Person, Reply, desk

_Ask = Callable[[Person], Coroutine[Any, Any, Reply]]


async def _both(at: Desk, first: Coroutine[Any, Any, Reply], second: Coroutine[Any, Any, Reply]) -> tuple[Reply, Reply]:
    """Let two changes be allowed before either of them is made, in this order."""
    loop = asyncio.get_running_loop()
    async with at.accounts.directory._changing:
        one = loop.create_task(first)
        await asyncio.sleep(0.05)
        two = loop.create_task(second)
        await asyncio.sleep(0.1)
    return await one, await two


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "grants", {"to": "user:bob", "store": "notes", "role": "owner"}),
        ("POST", "grants", {"to": "everyone", "store": "notes", "role": "reader"}),
        ("POST", "invitations", {"store": "notes", "role": "owner"}),
        ("DELETE", "grants/{bob}", None),
        ("DELETE", "invitations/{invitation}", None),
    ],
)
async def test_who_is_no_owner_any_more_shares_nothing(method: str, path: str, body: object) -> None:
    async with desk() as at:
        root, eve, _ = await at.admin(), await at.user("eve"), await at.user("bob")
        directory = at.accounts.directory
        owner, _ = await directory.add_grant("user:eve", "notes", "owner", by=None)
        bob, _ = await directory.add_grant("user:bob", "notes", "reader", by=None)
        invitation, _ = await directory.add_invitation("notes", "reader", by=None)
        path = path.format(bob=bob.id, invitation=invitation.id)
        taken, tried = await _both(at, root.delete(f"grants/{owner.id}"), eve.ask(method, path, body))
        assert taken.status == 200
        assert tried.status in (403, 404)
        assert directory.registry.grants_on("notes") == [bob]
        assert list(directory.registry.invitations.values()) == [invitation]
        assert [actor for _, actor, _, _ in await at.audit()].count("eve") == 0


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "users/mallory", {"admin": True, "password": PASSWORD}),
        ("PUT", "users/bob", {"password": PASSWORD + "!"}),
        ("PUT", "users/eve", {"admin": True}),
        ("DELETE", "users/bob", None),
        ("PUT", "groups/staff", {"members": ["eve"]}),
        ("PUT", "groups/staff/members/eve", None),
        ("DELETE", "groups/staff/members/bob", None),
        ("DELETE", "groups/staff", None),
        ("POST", "tokens", {"title": "t", "user": "bob"}),
        ("DELETE", "tokens/{bob}", None),
        ("POST", "grants", {"to": "user:eve", "store": "*", "role": "owner"}),
    ],
)
async def test_who_is_no_administrator_any_more_administers_nothing(method: str, path: str, body: object) -> None:
    async with desk() as at:
        root, eve, _ = await at.admin(), await at.user("eve"), await at.user("bob")
        (await root.put("users/eve", {"admin": True})).ok()
        await root.put("groups/staff", {"members": ["bob"]})
        registry = at.accounts.directory.registry
        (bobs,) = registry.tokens_of("bob")
        path = path.format(bob=bobs.id)
        taken, tried = await _both(at, root.put("users/eve", {"admin": False}), eve.ask(method, path, body))
        assert taken.status == 200
        assert tried.status in (403, 404)
        assert sorted(registry.users) == ["bob", "eve", "root"]
        assert not registry.users["eve"].is_admin
        assert registry.groups["staff"].members == ("bob",)
        assert registry.tokens_of("bob") == [bobs]
        assert not registry.grants


async def test_of_two_with_one_setup_code_one_becomes_administrator() -> None:
    async with desk() as at:
        at.accounts.setup.is_rescue = True
        bodies = [{"code": at.setup_code, "user": name, "password": PASSWORD} for name in ("ann", "bob")]
        replies = await _both(at, *[at.person().post("setup", body) for body in bodies])
        assert sorted(reply.status for reply in replies) == [201, 403]
        assert len(at.accounts.directory.registry.users) == 1


async def test_nobody_fills_the_queue_of_changes() -> None:
    async with desk() as at:
        root, eve = await at.admin(), await at.user("eve")
        await at.accounts.directory.add_grant("user:eve", "notes", "owner", by=None)
        body = {"to": "user:jwt:x", "store": "notes", "role": "reader"}
        loop = asyncio.get_running_loop()
        async with at.accounts.directory._changing:
            many = [loop.create_task(eve.post("grants", body)) for _ in range(40)]
            await asyncio.sleep(0.2)
            other = loop.create_task(root.put("users/bob", {}))
            await asyncio.sleep(0.05)
            refused = [task.result() for task in many if task.done()]
            assert len(refused) == 24
            assert {reply.status for reply in refused} == {429}
        (await other).ok(201)
        await asyncio.gather(*many)
        (await eve.post("grants", body)).ok()


async def test_a_place_in_the_queue_is_given_back_when_a_change_is_refused() -> None:
    async with desk() as at:
        root = await at.admin()
        for _ in range(40):
            assert (await root.delete("users/nobody")).status == 404
        with pytest.raises(AccountError):
            await at.accounts.directory.delete_user("nobody")


async def test_who_loses_a_store_while_he_drops_it_drops_nothing() -> None:
    async with desk() as at:
        await at.hub.create("notes")
        eve = Principal("eve", "user")
        asked = [0]

        def allowed() -> None:
            asked[0] += 1
            if asked[0] > 1:
                raise StoreUnknown("notes")

        with pytest.raises(StoreUnknown):
            await drop_owned(at.hub, at.accounts, "notes", eve, "127.0.0.1", allowed)
        assert [info.name for info in await at.hub.storage.stores() if not info.is_system] == ["notes"]
        assert [(it[0], it[3]) for it in await at.audit()] == [("store.drop", "begun"), ("store.drop", "failed")]


async def test_a_second_drop_does_not_meet_the_store_of_who_got_the_name_next() -> None:
    async with desk() as at:
        hub, accounts = at.hub, at.accounts
        await at.user("eve")
        await at.user("bob")
        eve, bob = Principal("eve", "user"), Principal("bob", "user")
        address = "127.0.0.1"

        def creates(who: Principal) -> Callable[[], Rights]:
            return lambda: hub.authority.rights(who, "notes")

        def drops() -> None:
            hub.authority.authorize(eve, Action.DROP, "notes")

        await create_owned(hub, accounts, "notes", eve, address, creates(eve))
        drops()
        results = await asyncio.gather(
            drop_owned(hub, accounts, "notes", eve, address, drops),
            create_owned(hub, accounts, "notes", bob, address, creates(bob)),
            drop_owned(hub, accounts, "notes", eve, address, drops),
            return_exceptions=True,
        )
        assert isinstance(results[2], StoreUnknown)
        assert hub.authority.rights(bob, "notes").is_owner
        assert (await hub.storage.info("notes")).store_id == results[1].store_id  # type: ignore[union-attr]


# --- what one person can make the server do ---


async def test_an_invitation_makes_nobody_hash_passwords_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk() as at:
        root = await at.admin()
        invitation = (await root.post("invitations", {"store": "notes", "role": "reader"})).ok(201)
        hashes, hasher = [0], at.accounts.hasher
        really = hasher.hash

        async def counted(password: str) -> str:
            hashes[0] += 1
            return await really(password)

        monkeypatch.setattr(hasher, "hash", counted)
        body = {"code": invitation["code"], "user": "root", "password": PASSWORD}
        statuses = [(await at.person().post("invitations/accept", body)).status for _ in range(20)]
        assert statuses == [409] * 5 + [429] * 15
        assert hashes[0] == 5
        # Many who accept it from one office wait for nobody.
        at.clock.seconds += 1000
        for number in range(20):
            (await at.person().post("invitations/accept", {**body, "user": f"user{number}"})).ok()


async def test_what_one_may_share_is_gathered_once_for_a_whole_list(monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk() as at:
        eve, directory = await at.user("eve"), at.accounts.directory
        for number in range(20):
            await directory.add_grant("user:eve", f"e{number}", "owner", by=None)
            await directory.add_grant("user:jwt:x", f"e{number}", "reader", by=None)
            await directory.add_grant("user:jwt:x", f"o{number}", "reader", by=None)
            await directory.add_invitation(f"o{number}", "reader", by=None)
        asked, really = [0], Registry.grants_to

        def counted(registry: Registry, to: str) -> list[Grant]:
            asked[0] += 1
            return really(registry, to)

        monkeypatch.setattr(Registry, "grants_to", counted)
        assert len((await eve.get("grants")).ok()["grants"]) == 40
        assert (await eve.get("invitations")).ok()["invitations"] == []
        assert asked[0] <= 4


async def test_stores_that_others_gave_one_leave_room_for_his_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_STORES_PER_USER_MAX", 3)
    async with desk() as at:
        await at.user("bob")
        bob = Principal("bob", "user")
        for number in range(5):
            await at.accounts.directory.add_grant("user:bob", f"e{number}", "owner", by="eve")
        for number in range(4):
            name = f"b{number}"
            made = create_owned(at.hub, at.accounts, name, bob, "", lambda: at.hub.authority.rights(bob, name))  # noqa: B023
            if number < 3:
                await made
            else:
                with pytest.raises(RemoteProtocolError, match="3 stores"):
                    await made


async def test_the_clock_of_the_connections_does_not_wait_for_the_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(office: AccountsOffice) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(AccountsOffice, "tick", hang)
    monkeypatch.setattr("syncline_server.app._TICK_S", 0.01)
    app = create_app(Settings(store="memory:"))
    ticks, hub = [0], hub_of(app)
    monkeypatch.setattr(hub, "tick", lambda: ticks.__setitem__(0, ticks[0] + 1))
    async with lifespan_of(app):
        await asyncio.sleep(0.2)
    assert ticks[0] > 2
