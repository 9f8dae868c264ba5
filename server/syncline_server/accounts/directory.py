"""The accounts as the server uses them: who comes with a token, what is granted, and every change (`changes`)."""

import secrets
from collections.abc import Awaitable, Callable

from syncline_protocol.transaction import Transaction
from syncline_server.access.concern import Concern
from syncline_server.access.grant import Grant
from syncline_server.access.principal import Principal
from syncline_server.committer import Answer
from syncline_server.storage.base import Commit, Storage

from .changes import Changes
from .follower import Follower
from .identity import TokenFault, current, principal_of
from .plans import tokens
from .secret import Mint

__all__ = ["Directory"]

#: The last use of a token is noted at most this often.
_USE_INTERVAL_MS = 3600 * 1000


class Directory(Changes):
    """Args:
    write: commits one transaction; `Hub.write` is it.
    now_ms: the wall clock, in ms since 1970.
    mint: makes random bytes.

    `open` it first. The server hands it every commit before it acknowledges it (`extend`), and calls `catch_up` once a
    second and whenever `is_behind`, `expire` once a second, `write_uses` and `remove_expired` now and then.
    """

    def __init__(
        self,
        storage: Storage,
        write: Callable[[Transaction], Awaitable[Answer]],
        *,
        now_ms: Callable[[], int],
        mint: Mint = secrets.token_bytes,
    ) -> None:
        super().__init__(Follower(storage, now_ms=now_ms), write, now_ms=now_ms, mint=mint)
        self._uses: dict[str, int] = {}

    # --- the log ---

    async def open(self) -> None:
        """Read everything; make the system store if it is not there. Raises StorageError."""
        await self._follower.catch_up()

    def extend(self, commit: Commit) -> None:
        """Take what was just committed, to whatever store."""
        self._follower.extend(commit)

    async def catch_up(self) -> None:
        """Read what other processes have changed. Raises StorageError; then what is known stays as it is."""
        await self._follower.catch_up()

    def expire(self) -> None:
        """Tell the listeners if a grant or token has come to its end since this was last called."""
        self._follower.expire(self._now_ms())

    @property
    def is_behind(self) -> bool:
        """Whether it is known that the log holds more than is folded."""
        return self._follower.is_behind

    @property
    def checked_ms(self) -> int:
        """When the log was last compared with, in ms since 1970."""
        return self._follower.checked_ms

    @property
    def listeners(self) -> list[Callable[[], None]]:
        """What is called at once after each change of what somebody may do. Listeners do not raise."""
        return self._follower.listeners

    @property
    def concern(self) -> Concern:
        """Whom the last change is about of which the listeners were told."""
        return self._follower.concern

    # --- who ---

    def principal_of(self, text: str) -> Principal | TokenFault:
        """Return who comes with this personal or session token."""
        return principal_of(self.registry, text, self._now_ms())

    def current(self, principal: Principal) -> Principal | None:
        """Return what a principal is now, or None if his token or account gives him nothing any more."""
        return current(self.registry, principal, self._now_ms())

    def grants_for(self, principal: Principal, store: str) -> list[Grant]:
        """Return the grants that concern a principal in a store now."""
        return self.registry.grants_for(principal.name, principal.groups, store, self._now_ms())

    # --- when tokens are used ---

    def note_use(self, token_id: str) -> None:
        """Take note that a token was used. It is written by `write_uses`, and at most once an hour for each token."""
        token, now_ms = self.registry.tokens.get(token_id), self._now_ms()
        if token is not None and (token.used_ms is None or now_ms - token.used_ms >= _USE_INTERVAL_MS):
            self._uses.setdefault(token_id, now_ms)

    async def write_uses(self) -> None:
        """Write what `note_use` has gathered, in as few transactions as it takes."""
        uses, self._uses = self._uses, {}
        if uses:
            await self._change(lambda registry: tokens.note_uses(registry, uses))
