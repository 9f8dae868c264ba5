"""Every change of the accounts, as methods: decided, written as one atomic WRITE of versions, and folded.

A change is decided on what is known (`plans`) and folded before it returns (`follower`), so whatever it takes away is
gone by then. If a rival was first, the log is read and the change decided again. Changes of one process go one after
the other; only those of other processes are rivals.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Literal, TypeVar

from syncline_protocol.messages import OpResult
from syncline_protocol.transaction import Op, Transaction
from syncline_server.access.grant import Grant, GrantLimits, Role
from syncline_server.access.principal import SCOPES, Scope
from syncline_server.committer import Answer
from syncline_server.storage.base import Outcome, StorageError, StoreMismatch, StoreUnknown

from .entry import ACCOUNTS, Group, Invitation, Token, User, parse_key
from .error import AccountError
from .follower import Follower
from .plan import Edit, Plan, ops_of
from .plans import grants, groups, invitations, tokens, users
from .plans.users import Proof, UserChange
from .registry import Registry
from .secret import Mint, hash_secret, new_id, new_secret

__all__ = ["Before", "Changes"]

T = TypeVar("T")

#: Is called with the result of a change that is allowed, before it is written. If it raises, nothing is written.
Before = Callable[[object], Awaitable[None]]

#: A change that loses so many races is given up; each loss means that another process got on.
_RACES_MAX = 8

#: So many changes of one person wait for their turn. There is one queue for everybody, and whoever fills it would put
#: off what is to be done about him.
_QUEUED_MAX = 16

_NO_LIMITS = GrantLimits()

#: Beside this op nothing is committed, and all the same each op is answered by what the log holds.
_NEVER = Op("", fault=OpResult("invalid", code="key_invalid", message="this is a question"))


class Changes:
    """Args:
    follower: what is known, and the log that it is of.
    write: commits one transaction; `Hub.write` is it.
    now_ms: the wall clock, in ms since 1970.
    mint: makes random bytes.
    before, whose: see `noting`.
    queued: how many changes of whom wait; it is shared with those that `noting` returns.
    """

    def __init__(
        self,
        follower: Follower,
        write: Callable[[Transaction], Awaitable[Answer]],
        *,
        now_ms: Callable[[], int],
        mint: Mint,
        changing: asyncio.Lock | None = None,
        before: Before | None = None,
        whose: str | None = None,
        queued: Counter[str] | None = None,
    ) -> None:
        self._follower = follower
        self._write = write
        self._now_ms = now_ms
        self._mint = mint
        self._changing = changing or asyncio.Lock()
        self._before = before
        self._whose = whose
        self._queued: Counter[str] = Counter() if queued is None else queued

    def noting(self, before: Before, *, whose: str | None = None) -> "Changes":
        """Return the same changes, with something that is called once for each before it is written.

        So the audit log has an entry of each change that is made, and of those that are refused only where a rival was
        first meanwhile. Which names were used before is asked of the log first. If `before` raises, nothing is
        changed. Of a change that writes nothing, since all is so already, nothing is noted.

        Args:
            whose: who asks for it. Of each person a few changes wait; the next one is refused (`rate_limited`).
        """
        return Changes(
            self._follower,
            self._write,
            now_ms=self._now_ms,
            mint=self._mint,
            changing=self._changing,
            before=before,
            whose=whose,
            queued=self._queued,
        )

    @property
    def registry(self) -> Registry:
        """What is known now. It may be another object after each `await`."""
        return self._follower.registry

    # --- users ---

    async def add_user(
        self,
        name: str,
        *,
        kind: Literal["user", "service"] = "user",
        title: str = "",
        password_hash: str | None = None,
        is_admin: bool = False,
        is_disabled: bool = False,
        oidc: tuple[str, str] | None = None,
    ) -> User:
        """Make a user. Raises AccountError: name_taken (also by one who was deleted), account_invalid."""
        user = User(name, kind, self._now_ms(), title, password_hash, is_admin, is_disabled, oidc=oidc)
        return await self._change(lambda registry: users.add_user(registry, user))

    async def add_first_admin(self, name: str, password_hash: str) -> User:
        """Make an administrator if there is none. Raises AccountError: forbidden if there is one, and as `add_user`."""
        user = User(name, "user", self._now_ms(), "", password_hash, True)
        return await self._change(lambda registry: users.add_user(registry, user, only_first_admin=True))

    async def change_user(self, name: str, change: UserChange, *, keep_session: str | None = None) -> User:
        """Change a user; a new password ends his sessions but `keep_session`, disabling him all.

        Raises AccountError: account_unknown, account_invalid; forbidden for the last administrator.
        """
        return await self._change(lambda registry: users.change_user(registry, name, change, keep_session))

    async def change_password(self, name: str, old_hash: str, new_hash: str, *, keep_session: str | None) -> User:
        """Give a user another password; all his sessions but one end.

        Args:
            old_hash: the one that was just verified. If it is not his any more, this is refused with `login_failed`.
        """
        return await self._change(
            lambda registry: users.change_password(registry, name, old_hash, new_hash, keep_session)
        )

    async def rehash(self, name: str, old_hash: str, new_hash: str) -> User:
        """Keep the same password in another form. If it was changed meanwhile, nothing happens."""
        return await self._change(lambda registry: users.rehash(registry, name, old_hash, new_hash))

    async def login(self, name: str, proof: Proof, title: str, expires_ms: int | None) -> tuple[Token, str]:
        """Begin a session, and note that the user has logged in. Returns the token and its text.

        Args:
            proof: the hash of the password, or the (issuer, subject), that was just verified. If it is not his any
                more, or he is disabled, this is refused with `login_failed`: who lost a password has no session.
        """
        token, secret = self._new_token(name, title, "session", SCOPES, None, expires_ms)
        return await self._change(lambda registry: users.login(registry, token, proof)), secret

    async def delete_user(self, name: str) -> User:
        """Delete a user, his tokens, grants, memberships and invitations. Returns what he was.

        Raises AccountError: account_unknown; forbidden for the last administrator.
        """
        return await self._change(lambda registry: users.delete_user(registry, name))

    # --- groups ---

    async def put_group(self, name: str, members: Collection[str] | None = None) -> tuple[Group, bool]:
        """Make a group or replace its members. Returns it, and whether it is new."""
        now_ms = self._now_ms()
        return await self._change(lambda registry: groups.put_group(registry, name, members, now_ms))

    async def delete_group(self, name: str) -> Group:
        """Delete a group and what is granted to it. Returns what it was."""
        return await self._change(lambda registry: groups.delete_group(registry, name))

    async def add_member(self, group: str, user: str) -> Group:
        """Take a user into a group."""
        return await self._change(lambda registry: groups.add_member(registry, group, user))

    async def remove_member(self, group: str, user: str) -> Group:
        """Take a user out of a group."""
        return await self._change(lambda registry: groups.remove_member(registry, group, user))

    # --- tokens ---

    async def add_token(
        self,
        user: str,
        title: str,
        *,
        kind: Literal["personal", "session"] = "personal",
        scopes: Collection[Scope] = SCOPES,
        stores: Sequence[str] | None = None,
        expires_ms: int | None = None,
    ) -> tuple[Token, str]:
        """Make a token. Returns it and its text, which is kept nowhere.

        Raises AccountError: account_unknown (also a disabled user), account_invalid.
        """
        token, secret = self._new_token(user, title, kind, scopes, stores, expires_ms)
        return await self._change(lambda registry: tokens.add_token(registry, token)), secret

    def _new_token(
        self,
        user: str,
        title: str,
        kind: Literal["personal", "session"],
        scopes: Collection[Scope],
        stores: Sequence[str] | None,
        expires_ms: int | None,
    ) -> tuple[Token, str]:
        secret = new_secret(kind, self._mint)
        bounds = None if stores is None else tuple(stores)
        token = Token(
            new_id("t", self._mint),
            user,
            title,
            kind,
            hash_secret(secret),
            tuple(sorted(scopes)),
            self._now_ms(),
            bounds,
            expires_ms,
        )
        return token, secret

    async def revoke_token(self, token_id: str) -> Token:
        """End a token. Returns what it was. Raises AccountError: account_unknown."""
        return await self._change(lambda registry: tokens.revoke_token(registry, token_id))

    async def revoke_sessions(self, user: str, except_id: str | None = None) -> int:
        """End all sessions of a user but one. Returns how many there were."""
        return await self._change(lambda registry: tokens.revoke_sessions(registry, user, except_id))

    async def remove_expired(self) -> int:
        """Clear away tokens, grants and invitations whose end is past. Returns how many those were."""
        now_ms = self._now_ms()
        return await self._change(lambda registry: tokens.remove_expired(registry, now_ms))

    # --- grants ---

    async def add_grant(
        self,
        to: str,
        store: str,
        role: Role,
        *,
        by: str | None,
        limits: GrantLimits = _NO_LIMITS,
        authors: bool = True,
        expires_ms: int | None = None,
        must_exist: bool = True,
    ) -> tuple[Grant, bool]:
        """Grant something; what the grantee had for the same store or prefix is replaced.

        Args:
            to: `user:NAME`, `group:NAME` or `everyone`.
            must_exist: refuse users and groups that have no account here.

        Returns the grant, and whether nothing was replaced. Raises AccountError: account_unknown, account_invalid.
        """
        grant = Grant(
            new_id("g", self._mint), to, store, role, by, self._now_ms(), limits, authors, expires_ms
        )  # fmt: skip
        return await self._change(lambda registry: grants.add_grant(registry, grant, must_exist=must_exist))

    async def remove_grant(self, grant_id: str) -> Grant:
        """Take a grant back. Returns what it was. Raises AccountError: account_unknown."""
        return await self._change(lambda registry: grants.remove_grant(registry, grant_id))

    async def remove_store_grants(self, store: str) -> int:
        """Take back all grants and invitations for exactly this store. Returns how many there were.

        To be called before the store is dropped, so that whoever makes one of this name is alone in it.
        """
        return await self._change(lambda registry: grants.remove_store_grants(registry, store))

    # --- invitations ---

    async def add_invitation(
        self,
        store: str,
        role: Role,
        *,
        by: str | None,
        limits: GrantLimits = _NO_LIMITS,
        authors: bool = True,
        expires_ms: int | None = None,
        uses_max: int | None = None,
    ) -> tuple[Invitation, str]:
        """Offer a grant to whoever comes with the code. Returns the invitation and its code, which is kept nowhere."""
        code = new_secret("invitation", self._mint)
        invitation = Invitation(
            new_id("i", self._mint),
            store,
            role,
            hash_secret(code),
            by,
            self._now_ms(),
            limits,
            authors,
            expires_ms,
            uses_max,
        )
        return await self._change(lambda registry: invitations.add_invitation(registry, invitation)), code

    async def remove_invitation(self, invitation_id: str) -> Invitation:
        """Take an invitation back. Returns what it was. Raises AccountError: account_unknown."""
        return await self._change(lambda registry: invitations.remove_invitation(registry, invitation_id))

    def invitation_of(self, code: str) -> Invitation:
        """Return the invitation with this code. Raises AccountError: invitation_invalid, whatever the reason."""
        return invitations.find(self.registry, hash_secret(code), self._now_ms())

    async def accept_invitation(self, code: str, name: str) -> Grant:
        """Grant to a principal of this name what an invitation offers. Raises AccountError: invitation_invalid."""
        code_hash, grant_id, now_ms = hash_secret(code), new_id("g", self._mint), self._now_ms()
        return await self._change(lambda registry: invitations.accept(registry, code_hash, name, grant_id, now_ms))

    async def accept_as_new_user(self, code: str, name: str, password_hash: str) -> tuple[User, Grant]:
        """Make a user and grant to him what an invitation offers, both or nothing.

        Raises AccountError: invitation_invalid; name_taken, account_invalid.
        """
        code_hash, grant_id, now_ms = hash_secret(code), new_id("g", self._mint), self._now_ms()
        user = User(name, "user", now_ms, "", password_hash)
        return await self._change(
            lambda registry: invitations.accept_as_new_user(registry, code_hash, user, grant_id, now_ms)
        )

    # --- a change ---

    async def _change(self, decide: Callable[[Registry], Plan[T]]) -> T:
        """Decide, write, fold, until all is done.

        Raises:
            AccountError: the rules do not allow it, or rivals were always first (`overloaded`).
            StorageError: the storage failed; whether it was committed is unknown.
        """
        async with self._place(), self._changing:
            results: list[T] = []
            races = 0
            is_noted = self._before is None
            while races < _RACES_MAX:
                if self._follower.is_behind:
                    await self._follower.catch_up()
                plan = decide(self.registry)
                if plan.edits and self._before is not None and not is_noted:
                    await self._ask_for_used_names(plan.edits)
                    is_noted = True
                    await self._before(plan.result)
                    # That took a while; what was decided may not be right any more.
                    continue
                if not plan.edits or await self._commit(plan.edits):
                    results.append(plan.result)
                    if plan.done:
                        return results[0]
                else:
                    races += 1
        raise AccountError("overloaded", "others were changing the same accounts all the time", hint="try again")

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Take a place among the changes of the same person. Raises AccountError: too many of them wait."""
        whose = self._whose
        if whose is None:
            yield
            return
        if self._queued[whose] >= _QUEUED_MAX:
            raise AccountError("rate_limited", "too many changes at the same time", hint="wait for the answers")
        self._queued[whose] += 1
        try:
            yield
        finally:
            self._queued[whose] -= 1
            if not self._queued[whose]:
                del self._queued[whose]

    async def _commit(self, edits: Sequence[Edit]) -> bool:
        """Write one transaction and fold it. Returns False if the log is not as it was when this was decided."""
        ops = tuple(ops_of(self.registry, edits))
        answer = await self._write(Transaction(ACCOUNTS, ops, True, self._follower.store_id))
        if isinstance(answer, StorageError) and not isinstance(answer, StoreMismatch | StoreUnknown):
            raise answer
        # An equal record that has died since is no success: what was to be made is not there.
        dead = [] if isinstance(answer, StorageError) else _dead(ops, answer.ops)
        if isinstance(answer, Outcome) and answer.status in ("ok", "dup") and not dead:
            assert answer.last_seq is not None
            if not self._follower.has_reached(answer.last_seq):
                await self._follower.catch_up()
            return True
        await self._follower.catch_up()
        if isinstance(answer, Outcome):
            if answer.status == "too_large" or any(op.status in ("too_large", "invalid") for op in answer.ops):
                raise AccountError("too_large", "there is too much in this for one record")
            self._refuse_used_names(dead)
        return False

    async def _ask_for_used_names(self, edits: Sequence[Edit]) -> None:
        """Refuse to make what has ended before it is noted: which names were used only the log knows.

        It is asked by a transaction that it never commits, as one of its ops breaks a rule.
        """
        ops = [op for op in ops_of(self.registry, edits) if _is_named(op)]
        if not ops:
            return
        answer = await self._write(Transaction(ACCOUNTS, (*ops, _NEVER), True, self._follower.store_id))
        # If that failed, so will the change.
        if isinstance(answer, Outcome) and (dead := _dead(ops, answer.ops[: len(ops)])):
            await self._follower.catch_up()
            self._refuse_used_names(dead)

    def _refuse_used_names(self, dead: Collection[str]) -> None:
        """Refuse to make again what has ended, once it is sure that nothing of this name lives."""
        for key in dead:
            kind, entry_id, version = parse_key(key) or ("", "", 1)
            if version == 0 and entry_id not in (self.registry.users if kind == "user" else self.registry.groups):
                raise AccountError("name_taken", f"a {kind} had this name before", hint="no name is used twice")


def _is_named(op: Op) -> bool:
    """Return whether this makes what has a name that is used once, and not an ID that never was."""
    kind, _, version = parse_key(op.key) or ("", "", 1)
    return op.value is not None and version == 0 and kind in ("user", "group")


def _dead(ops: Sequence[Op], results: Sequence[OpResult]) -> list[str]:
    """Return the keys of the ADDs that name a record which has died."""
    return [
        op.key
        for op, result in zip(ops, results, strict=True)
        if op.value is not None and (result.status == "gone" or (result.status == "dup" and result.deleted is not None))
    ]
