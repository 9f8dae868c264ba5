"""Everything of the accounts that requests need, in one object that is made at the start."""

import asyncio
from dataclasses import dataclass, field

from .audit import AuditLog
from .directory import Directory
from .login_guard import LoginGuard
from .oidc import OidcLogin
from .password import PasswordHasher
from .secret import hash_secret
from .ticket import Tickets

__all__ = ["SESSION_MS", "Accounts"]

#: How long somebody stays logged in: a browser that is used every two weeks asks for the password rarely.
SESSION_MS = 30 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Accounts:
    """Attributes:
    throttle: says who may try a password.
    oidc: the login through a provider, if there is one.
    setup_hash: hash of the code that was printed at the start, with which the first administrator is made.
    session_ms: how long a session lasts.
    knows_all: grants can only be made to names that have an account here. False if the operator's own function says
        who somebody is.
    creating: is held while a store is created, so that two who want one name do not both get it.
    """

    directory: Directory
    hasher: PasswordHasher
    audit: AuditLog
    tickets: Tickets
    throttle: LoginGuard
    oidc: OidcLogin | None = None
    setup_hash: str | None = field(default=None, repr=False)
    session_ms: int = SESSION_MS
    knows_all: bool = True
    creating: asyncio.Lock = field(default_factory=asyncio.Lock)

    def is_setup_code(self, code: str) -> bool:
        """Return whether somebody who comes with this code may make the first administrator."""
        return self.setup_hash is not None and not self.directory.registry.has_admin and self._matches(code)

    def _matches(self, code: str) -> bool:
        # Two hashes are compared, so how far they agree says nothing about the code.
        return hash_secret(code) == self.setup_hash
