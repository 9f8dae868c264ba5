"""Everything of the accounts that requests need, in one object that is made at the start."""

import asyncio
from dataclasses import dataclass, field

from syncline_protocol.audit import AuditOutcome
from syncline_server.access.principal import Principal
from syncline_server.limits.throttle import Throttle
from syncline_server.storage.base import StorageUnavailable, StoreMismatch, StoreUnknown

from .audit import AuditLog
from .directory import Directory
from .login_guard import LoginGuard
from .oidc import OidcLogin
from .password import PasswordHasher
from .secret import hash_secret
from .ticket import Tickets

__all__ = ["SESSION_MS", "Accounts", "SetupCode"]

#: How long somebody stays logged in: a browser that is used every two weeks asks for the password rarely.
SESSION_MS = 30 * 24 * 3600 * 1000


@dataclass(slots=True)
class SetupCode:
    """The code that makes the first administrator; it is good once.

    Attributes:
        hash: of its text; None if there is none.
        is_rescue: it is good also if there is an administrator.
    """

    hash: str | None = field(default=None, repr=False)
    is_rescue: bool = False

    def is_good(self, code: str, *, has_admin: bool) -> bool:
        """Return whether this is the code, and it is still good."""
        # Two hashes are compared, so how far they agree says nothing about the code.
        return self.hash is not None and (self.is_rescue or not has_admin) and hash_secret(code) == self.hash

    @property
    def told(self) -> dict[str, str]:
        """What the audit log has of it: whether it lets somebody in beside the administrators that there are."""
        return {"rescue": "true"} if self.is_rescue else {}

    def spend(self) -> None:
        """It was used."""
        self.hash = None


@dataclass(frozen=True, slots=True)
class Accounts:
    """Attributes:
    login_guard: says who may try a password.
    oidc: the login through a provider, if there is one.
    provider_rate: how often such a login may be begun from one address.
    setup: the code that was printed at the start, with which an administrator is made.
    session_ms: how long a session lasts.
    changing_stores: is held while a store is created or dropped, so that two who want one name do not both get it, and
        nobody drops the store of another who has got its name.
    """

    directory: Directory
    hasher: PasswordHasher
    audit: AuditLog
    tickets: Tickets
    login_guard: LoginGuard
    oidc: OidcLogin | None = None
    setup: SetupCode = field(default_factory=SetupCode)
    session_ms: int = SESSION_MS
    provider_rate: Throttle[str] = field(default_factory=lambda: Throttle(0.5, 30, 10_000))
    changing_stores: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def note(
        self, action: str, actor: Principal, subject: str, address: str, *, outcome: AuditOutcome = "ok"
    ) -> None:
        """Write down what somebody does. Raises StorageUnavailable: that could not be, so it must not be done."""
        try:
            await self.audit.record(action, actor=actor.name, subject=subject, outcome=outcome, address=address)
        except (StoreUnknown, StoreMismatch) as error:
            # That a store of the system is gone is no answer to a request that names another one.
            raise StorageUnavailable("the audit log is not there", hint="restart the server") from error

    def is_setup_code(self, code: str) -> bool:
        """Return whether somebody who comes with this code may make an administrator."""
        return self.setup.is_good(code, has_admin=self.directory.registry.has_admin)
