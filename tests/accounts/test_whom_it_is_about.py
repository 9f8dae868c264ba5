"""A change of the accounts touches those whom it is about, and nobody else who is connected."""

import pytest

from syncline_protocol.messages import Ended
from syncline_server.access.concern import Concern
from syncline_server.accounts.plans.users import UserChange
from syncline_server.connection import Connection

from .guarded import Guarded, GuardedPeer, guarded


@pytest.fixture
def rechecked(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The names of those who were looked at."""
    names: list[str | None] = []
    recheck = Connection.recheck

    def noted(self: Connection, concern: Concern) -> None:
        names.append(self.standing.principal.name)
        recheck(self, concern)

    monkeypatch.setattr(Connection, "recheck", noted)
    return names


async def subscribed(world: Guarded, name: str, expires_ms: int | None = None) -> GuardedPeer:
    token = await world.user(name)
    await world.grant(f"user:{name}", expires_ms=expires_ms)
    peer = world.peer(token)
    await peer.subscribe()
    peer.take()
    return peer


async def test_only_those_are_looked_at_whom_a_change_is_about(rechecked: list[str | None]) -> None:
    async with guarded(stores=("notes", "other")) as world:
        directory = world.directory
        await world.grant("everyone")
        peers = [await subscribed(world, name) for name in ("ada", "bob")]
        guest = world.peer()
        rechecked.clear()
        await directory.add_token("ada", "laptop", kind="personal")
        assert rechecked == [], "a login takes nothing from anybody"
        await directory.add_user("cy")
        await world.grant("user:cy")
        assert rechecked == [], "somebody else"
        other = await world.grant("everyone", "other")
        assert rechecked == [None], "nobody has subscribed to it, but who has not logged in may come and go by it"
        rechecked.clear()
        await directory.remove_grant(other)
        assert rechecked == [None]
        assert guest.closed_with is None
        rechecked.clear()
        await directory.put_group("poets", ["ada"])
        await directory.put_group("poets", ["ada", "bob"])
        assert rechecked == ["ada", "bob"]
        rechecked.clear()
        await directory.change_user("bob", UserChange(is_disabled=True))
        assert rechecked == ["bob"]
        assert [peer.closed_with for peer in peers] == [None, 4503]


async def test_a_grant_that_ends_by_time_is_about_its_grantee(rechecked: list[str | None]) -> None:
    async with guarded() as world:
        ada = await subscribed(world, "ada", world.hub.now_ms() + 1000)
        bob = await subscribed(world, "bob")
        rechecked.clear()
        world.tick(2.0)
        assert rechecked == ["ada"]
        assert [message.reason for message in ada.take() if isinstance(message, Ended)] == ["forbidden"]
        assert bob.take() == []
