"""The application: the one place where the object graph is built.

`create_app` makes storage, hub, routes and console from settings and returns a Starlette application. Its lifespan
opens the storage and keeps the second hand moving; mounted in another application, the outer lifespan has to run it
(see the how-to), which `lifespan_of` does in one line.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from pathlib import Path
from typing import cast

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from syncline_protocol.audit import AuditOutcome

from .access.gate import OPEN_GATE
from .accounts.gate import Authenticate
from .accounts.opening import AccountsOffice
from .backups import Backups
from .demo import keep_demo_filling
from .hub import Clock, Hub
from .limits.admission import Admission, AdmissionLimits
from .limits.meter import Meter
from .log import Log, get_log
from .maintenance import Policy
from .metrics import ServerCollector
from .origin import parse_origins
from .routes import exception_handlers, http_routes
from .settings import Settings, SettingsError
from .storage import file_of, open_storage
from .storage.base import Storage
from .websocket import serve_websocket

__all__ = ["create_app", "hub_of", "lifespan_of", "office_of", "setup_code_of", "start"]

_TICK_S = 1.0


def create_app(
    settings: Settings | None = None,
    *,
    storage: Storage | None = None,
    log: Log | None = None,
    authenticate: Authenticate | None = None,
) -> Starlette:
    """Make the application.

    Args:
        settings: as for `syncline serve`; host, port and logging are the caller's business here.
        storage: a storage of the caller's own, instead of the one that `settings.store` names.
        log: where events go, instead of to what structlog is configured for in this process.
        authenticate: a function of the caller's own that says who comes with a token that is none of this server's:
            given the token and where it came from, it returns a `Principal` of the kind `external`, or None; it may be
            a coroutine. Accounts, grants and everything else are as without it.

    Raises:
        SettingsError: `authenticate` is given, but nobody has to log in.
    """
    settings = settings or Settings()
    storage, log = storage or open_storage(settings.store), log or get_log()
    clock = Clock(now=time.monotonic, now_ms=lambda: time.time_ns() // 1_000_000)
    office = _office(settings, storage, log, clock, authenticate)
    hub = Hub(
        storage,
        clock,
        log,
        tail_bytes_max=settings.tail_bytes,
        stall_timeout_s=settings.stall_timeout_s,
        gate=OPEN_GATE if office is None else office.gate,
        authority=None if office is None else office.authority,
        admission=Admission(_admission_limits(settings)),
        policy=_policy(settings),
        compact_every_s=settings.compact_every_s,
    )
    server = f"syncline/{version('syncline')}"
    backups = _backups(storage, hub, office, settings)
    registry = CollectorRegistry()
    registry.register(ServerCollector(hub.counts, hub.gauges))

    origins = parse_origins(settings.origins)

    def meter() -> Meter | None:
        return None if office is None else Meter(settings.messages_per_s, settings.message_bytes_per_s)

    async def websocket(socket: WebSocket) -> None:
        await serve_websocket(socket, hub, server=server, origins=origins, meter=meter)

    routes: list[Route | WebSocketRoute] = [
        WebSocketRoute("/v1/ws", websocket),
        *http_routes(
            hub,
            registry,
            server=server,
            settings=settings,
            accounts=None if office is None else office.accounts,
            backups=backups,
        ),
    ]
    app = Starlette(
        routes=routes,
        lifespan=_lifespan(hub, office, backups, settings),
        exception_handlers=exception_handlers(hub, settings),
    )
    # A path has one spelling; a redirect would send a body twice.
    app.router.redirect_slashes = False
    app.state.hub = hub
    app.state.office = office
    return app


def _lifespan(
    hub: Hub, office: AccountsOffice | None, backups: Backups, settings: Settings
) -> Callable[[Starlette], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await start(app)
        hub.spawn(_keep_ticking(hub))
        hub.spawn(hub.maintenance.run())
        hub.spawn(_keep_backups(backups))
        if office is not None:
            hub.spawn(_look_after(hub, office))
        if settings.demo:
            hub.spawn(keep_demo_filling(hub))
        try:
            yield
        finally:
            if office is not None:
                await office.close()
            await hub.stop()

    return lifespan


def _office(
    settings: Settings, storage: Storage, log: Log, clock: Clock, authenticate: Authenticate | None
) -> AccountsOffice | None:
    if settings.auth == "none":
        if authenticate is not None:
            raise SettingsError("authenticate is given, but with auth none nobody logs in; use auth accounts")
        return None
    return AccountsOffice(storage, settings, log, now=clock.now, now_ms=clock.now_ms, authenticate=authenticate)


def _backups(storage: Storage, hub: Hub, office: AccountsOffice | None, settings: Settings) -> Backups:
    file = file_of(settings.store)
    beside = None if file is None else Path(file).absolute().parent / "backups"

    async def note(name: str, outcome: AuditOutcome) -> None:
        if office is not None:
            await office.accounts.audit.record("backup.make", actor=None, subject=name, outcome=outcome)

    return Backups(
        storage,
        Path(settings.backup_dir) if settings.backup_dir else beside,
        None if file is None else Path(file),
        hub.log,
        now_ms=hub.now_ms,
        spawn=hub.spawn,
        every_s=settings.backup_every_s,
        keep=settings.backup_keep,
        note=note,
    )


def _admission_limits(settings: Settings) -> AdmissionLimits:
    everybody = settings.connections_max
    if settings.auth == "none":
        return AdmissionLimits(everybody, everybody, everybody, everybody, everybody)
    return AdmissionLimits(
        everybody,
        settings.connections_per_address_max,
        settings.connections_per_user_max,
        settings.pending_max,
        settings.pending_per_address_max,
    )


def _policy(settings: Settings) -> Policy:
    return Policy(settings.history_s, settings.tombstones_s, settings.compact_ratio, settings.compact_bytes)


async def start(app: Starlette) -> None:
    """Open the storage and the accounts of an application, unless that was done; its lifespan does so too.

    Raises:
        StorageError: one of them cannot be opened.
    """
    hub, office = hub_of(app), office_of(app)
    await hub.start()
    if office is not None:
        await office.open(hub)


async def _keep_ticking(hub: Hub) -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        hub.tick()


async def _keep_backups(backups: Backups) -> None:
    backups.tidy()
    while True:
        await asyncio.sleep(_TICK_S)
        backups.tick()


async def _look_after(hub: Hub, office: AccountsOffice) -> None:
    # Apart from the clock of the connections: that, and with it every deadline, must not wait for the storage, nor for
    # others who change the accounts.
    while True:
        await asyncio.sleep(_TICK_S)
        try:
            await office.tick()
        except Exception:
            hub.log.exception("accounts_tick_failed")


def office_of(app: Starlette) -> AccountsOffice | None:
    """Return the accounts of an application that `create_app` made; None if nobody has to log in."""
    return cast(AccountsOffice | None, app.state.office)


def setup_code_of(app: Starlette) -> str | None:
    """Return the code with which the first administrator is made; None if there is one, or nobody has to log in.

    It is good until this process ends. Hand it to the operator only: `/#setup=CODE` opens the console's form for it.
    """
    office = office_of(app)
    return None if office is None else office.setup_code


def hub_of(app: Starlette) -> Hub:
    """Return the engine of an application that `create_app` made."""
    hub: Hub = app.state.hub
    return hub


def lifespan_of(app: Starlette) -> contextlib.AbstractAsyncContextManager[None]:
    """Return the lifespan of a mounted application, for the outer application to enter.

    Starlette runs only the outermost lifespan: `async with lifespan_of(syncline_app): yield`.
    """
    return cast(contextlib.AbstractAsyncContextManager[None], app.router.lifespan_context(app))
