"""Random changes of the accounts: after each, everybody who is connected has exactly what he may have now.

A change looks at those whom it is about only, and rights are kept until something changes. Neither may be noticed: what
each connection follows, and what the authority says of everybody in every store, is worked out anew from all users,
groups, tokens and grants by the plainest means, as soon as the change has returned.
"""

import random
from collections.abc import Awaitable, Callable

import pytest

from syncline_protocol.messages import Subscribe
from syncline_server.access.gate import Visitor
from syncline_server.access.grant import Grant, GrantLimits
from syncline_server.access.principal import SCOPES, Principal
from syncline_server.access.rights import Rights, rights_of
from syncline_server.access.view import View
from syncline_server.accounts.plans.users import UserChange
from syncline_server.accounts.registry import Registry
from tests.support.engine import settle

from .guarded import Guarded, GuardedPeer, guarded

_STORES = ("s.a", "s.b", "t")
_PATTERNS = (*_STORES, "s.*", "*")
_USERS = ("ann", "bob", "cy", "dot")
_GROUPS = ("staff", "ops")
_GRANTEES = ("everyone", *(f"user:{name}" for name in (*_USERS, "jwt:eve")), *(f"group:{name}" for name in _GROUPS))
_STEPS = 120


def eve(token: str, visitor: Visitor) -> Principal | None:
    """Know one who has no account here, and is in a group that her issuer says."""
    return Principal("jwt:eve", "external", frozenset({"ops"})) if token == "eve" else None


def who(registry: Registry, principal: Principal, now_ms: int) -> Principal | None:
    """Say who somebody is now."""
    if principal.kind == "external":
        return principal
    if principal.kind == "anonymous":
        return principal if any(it.to == "everyone" for it in registry.grants.values()) else None
    user, token = registry.users.get(principal.name or ""), registry.tokens.get(principal.token or "")
    if user is None or user.is_disabled or token is None:
        return None
    if token.expires_ms is not None and token.expires_ms <= now_ms:
        return None
    groups = frozenset(group.name for group in registry.groups.values() if user.name in group.members)
    scopes = frozenset(token.scopes)
    is_admin = user.is_admin and "admin" in scopes
    return Principal(user.name, user.kind, groups, is_admin, scopes, token.stores, token.expires_ms, token.id)


def granted(registry: Registry, principal: Principal, store: str, now_ms: int) -> list[Grant]:
    """Return what is granted to somebody in a store."""
    grantees = {"everyone", *(f"group:{group}" for group in principal.groups)}
    if principal.name is not None:
        grantees.add(f"user:{principal.name}")
    return [
        grant
        for grant in registry.grants.values()
        if grant.to in grantees
        and (store == grant.store or (grant.store[-1] == "*" and store.startswith(grant.store[:-1])))
        and (grant.expires_ms is None or grant.expires_ms > now_ms)
    ]


def plain(rights: Rights) -> tuple[object, ...]:
    """Return rights in a form in which the order of grants plays no part."""
    return rights.view, rights.by, frozenset(rights.writes), rights.quota, rights.writes_per_s, rights.is_owner


class Village:
    """Those who are connected, and what happens to them."""

    def __init__(self, world: Guarded, chance: random.Random) -> None:
        self.world = world
        self.chance = chance
        self.peers: list[GuardedPeer] = []
        self.made = 0

    @property
    def registry(self) -> Registry:
        """What is known of the accounts."""
        return self.world.directory.registry

    async def connect(self) -> None:
        """Let everybody in who may come, and follow everything that he may see."""
        self.peers = [peer for peer in self.peers if peer.closed_with is None]
        there = {peer.connection.principal.name for peer in self.peers}
        chance = self.chance
        for name in _USERS:
            if name not in there and not self.registry.users[name].is_disabled:
                _, token = await self.world.directory.add_token(
                    name,
                    "",
                    scopes=SCOPES - {"admin"} if chance.random() < 0.3 else SCOPES,
                    stores=["s.*"] if chance.random() < 0.2 else None,
                    expires_ms=self.world.hub.now_ms() + 4000 if chance.random() < 0.3 else None,
                )
                self.peers.append(self.world.peer(token))
        self.peers += [] if "jwt:eve" in there else [self.world.peer("eve")]
        self.peers += [] if None in there else [self.world.peer()]
        await settle()
        self.peers = [peer for peer in self.peers if peer.closed_with is None]
        for peer in self.peers:
            followed = {subscription.feed.store for subscription in peer.connection.subscriptions}
            for number, store in enumerate(_STORES):
                if store not in followed:
                    peer.send(Subscribe(number, store))
        await settle()

    def change(self) -> Callable[[], Awaitable[object]]:
        """Choose a change."""
        directory, chance = self.world.directory, self.chance
        user, group = chance.choice(_USERS), chance.choice(_GROUPS)
        members = chance.sample(_USERS, chance.randrange(4))
        changes: list[Callable[[], Awaitable[object]]] = [
            self._grant,
            self._grant,
            self._grant,
            self._take_back,
            self._take_back,
            self._revoke,
            self._let_time_pass,
            lambda: directory.put_group(group, members),
            lambda: directory.add_member(group, user),
            lambda: directory.remove_member(group, user),
            lambda: directory.change_user(user, UserChange(is_disabled=chance.random() < 0.4)),
            lambda: directory.change_user(user, UserChange(is_admin=chance.random() < 0.4)),
            directory.remove_expired,
            lambda: directory.remove_store_grants(chance.choice(_STORES)),
        ]
        return chance.choice(changes)

    async def _grant(self) -> None:
        chance = self.chance
        prefix = chance.choice([None, "a/", "b/", "a/x/"])
        await self.world.directory.add_grant(
            chance.choice(_GRANTEES),
            chance.choice(_PATTERNS),
            chance.choice(("reader", "writer")),
            by=None,
            limits=GrantLimits(read_prefix=prefix),
            authors=chance.random() < 0.7,
            expires_ms=self.world.hub.now_ms() + 3000 if chance.random() < 0.3 else None,
        )

    async def _take_back(self) -> None:
        if self.registry.grants:
            await self.world.directory.remove_grant(self.chance.choice(sorted(self.registry.grants)))

    async def _revoke(self) -> None:
        if self.registry.tokens:
            await self.world.directory.revoke_token(self.chance.choice(sorted(self.registry.tokens)))

    async def _let_time_pass(self) -> None:
        self.world.tick(self.chance.choice([0.5, 2.0]))

    def compare(self) -> None:
        """Compare everybody with what he may have now."""
        now_ms = self.world.hub.now_ms()
        for peer in self.peers:
            connection = peer.connection
            now = who(self.registry, connection.principal, now_ms)
            assert (now is None) == (peer.closed_with is not None), (connection.principal, now)
            if now is None:
                continue
            assert connection.principal == now
            views: dict[str, View | None] = {}
            for store in _STORES:
                fresh = rights_of(now, store, granted(self.registry, now, store, now_ms))
                views[store] = fresh.view
                assert plain(connection.standing.rights(store)) == plain(fresh)
                assert plain(self.world.hub.authority.rights(now, store)) == plain(fresh)
            for subscription in connection.subscriptions:
                assert subscription.feed.view == views[subscription.feed.store]


@pytest.mark.parametrize("seed", range(8))
async def test_after_each_change_everybody_has_exactly_what_he_may_have(seed: int) -> None:
    chance = random.Random(seed)
    async with guarded(stores=_STORES, authenticate=eve) as world:
        village = Village(world, chance)
        for name in ("root", *_USERS):
            await world.directory.add_user(name, is_admin=name == "root")
        for group in _GROUPS:
            await world.directory.put_group(group, [])
        for _ in range(_STEPS):
            await village.connect()
            village.compare()
            await village.change()()
            village.compare()
