"""The accounts of a running server: made from the settings, opened with the storage, and looked after while it runs.

`AccountsOffice` is what the application holds: it builds the parts, ties them to the hub (commits go into the directory
before anybody is told of them; a change of rights reaches live connections before it returns), and does every second
what is to be done now and then.
"""

import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast

from syncline_server.access.authority import Authority
from syncline_server.hub import Hub
from syncline_server.log import Log
from syncline_server.settings import Settings, SettingsError
from syncline_server.storage.base import Storage, StorageError

from .accounts import Accounts, SetupCode
from .audit import AuditLog
from .directory import Directory
from .error import AccountError
from .gate import AccountsGate, Authenticate
from .jwks import check_key_file
from .jwt import JwtSettings, JwtVerifier
from .login_guard import LoginGuard
from .oidc import OidcLogin, OidcSettings
from .password import PasswordHasher
from .secret import hash_secret, new_secret
from .ticket import Tickets

__all__ = ["AccountsOffice"]

#: What is only to be done now and then is done so often.
_UPKEEP_S = 60.0

#: The head of the audit log is logged so often: a copy outside of the log, by which a log cut short is known as such.
_AUDIT_HEAD_S = 3600.0


class AccountsOffice:
    """Args:
    storage: where the stores are, and the accounts beside them.
    now: a monotonic clock in seconds; now_ms: the wall clock in ms since 1970.
    authenticate: the operator's own function, for tokens that are none of ours.
    """

    def __init__(
        self,
        storage: Storage,
        settings: Settings,
        log: Log,
        *,
        now: Callable[[], float],
        now_ms: Callable[[], int],
        authenticate: Authenticate | None = None,
    ) -> None:
        self._log = log
        self._now = now
        self._hub: Hub | None = None
        self._upkeep_at = self._audit_head_at = now()
        self._jwt = _jwt_of(settings)
        self.setup_code: str | None = None
        directory = Directory(storage, lambda transaction: self._hub_there.write(transaction), now_ms=now_ms)
        tickets = Tickets(now_ms, secrets.token_bytes)
        code = new_secret("setup", secrets.token_bytes)
        self._code = code
        self.accounts = Accounts(
            directory,
            PasswordHasher(),
            AuditLog(storage, lambda transaction: self._hub_there.write(transaction), now_ms),
            tickets,
            LoginGuard(),
            _oidc_of(settings, log),
            SetupCode(hash_secret(code), settings.rescue),
            round(settings.session_days * 24 * 3600 * 1000),
        )
        self.gate = AccountsGate(directory, tickets, log, now_ms=now_ms, jwt=self._jwt, authenticate=authenticate)
        self.authority = Authority(directory.grants_for, cast(Literal["users", "admins"], settings.store_creators))

    @property
    def _hub_there(self) -> Hub:
        assert self._hub is not None
        return self._hub

    async def open(self, hub: Hub) -> None:
        """Read the accounts and begin to look after them, unless that was done. The hub has started.

        Raises StorageError.
        """
        if self._hub is not None:
            return
        self._hub = hub
        directory, audit = self.accounts.directory, self.accounts.audit
        try:
            await directory.open()
            await audit.open()
            await audit.record("server.start", actor=None, outcome="ok", **self.accounts.setup.told)
        except BaseException:
            self._hub = None
            raise
        hub.on_commit.append(directory.extend)
        directory.listeners.append(lambda: hub.rights_changed(directory.concern))
        # What other processes have written meanwhile.
        await directory.catch_up()
        if self.accounts.setup.is_rescue or not directory.registry.has_admin:
            self.setup_code = self._code

    async def close(self) -> None:
        """Finish what is under way."""
        await self.accounts.audit.close()
        await self.accounts.hasher.close()
        if self.accounts.oidc is not None:
            await self.accounts.oidc.close()
        if self._jwt is not None:
            await self._jwt.close()

    async def tick(self) -> None:
        """Do what time brings about. Call it about once a second."""
        directory, now = self.accounts.directory, self._now()
        directory.expire()
        try:
            await directory.catch_up()
            if now - self._upkeep_at >= _UPKEEP_S:
                self._upkeep_at = now
                await directory.write_uses()
                await directory.remove_expired()
        except (StorageError, AccountError) as error:
            # What is known stays; the next second tries again.
            self._log.warning("accounts_not_read", reason=str(error))
        if now - self._audit_head_at >= _AUDIT_HEAD_S:
            self._audit_head_at = now
            head = self.accounts.audit.head
            self._log.info("audit_head", n=head.n, hash=head.hash)


def _jwt_of(settings: Settings) -> JwtVerifier | None:
    if not settings.jwt_issuer:
        return None
    try:
        check_key_file(settings.jwt_keys)
        return _verifier(settings)
    except ValueError as error:
        raise SettingsError(f"jwt: {error}") from error


def _verifier(settings: Settings) -> JwtVerifier:
    algorithms = tuple(name.strip() for name in settings.jwt_algorithms.split(",") if name.strip())
    return JwtVerifier(
        JwtSettings(
            settings.jwt_issuer,
            settings.jwt_audience,
            algorithms,
            settings.jwt_keys,
            settings.jwt_user_claim,
            settings.jwt_groups_claim,
        ),
        now=time.time,
    )


def _oidc_of(settings: Settings, log: Log) -> OidcLogin | None:
    if not settings.oidc_issuer:
        return None
    scopes = tuple(settings.oidc_scopes.split())
    secret = _secret_in(settings.oidc_client_secret_file, log)
    try:
        provider = OidcSettings(settings.oidc_issuer, settings.oidc_client_id, secret, scopes)
    except ValueError as error:
        raise SettingsError(f"oidc: {error}") from error
    return OidcLogin(provider, now=time.time)


def _secret_in(path: str, log: Log) -> str | None:
    if not path:
        return None
    try:
        # The group is left out: it has the rights of an access list too, as of what systemd hands over.
        if Path(path).stat().st_mode & stat.S_IROTH:
            log.warning("secret_file_readable", path=path, hint="others on this machine can read it; chmod 600")
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read oidc_client_secret_file {path}: {error}") from error
