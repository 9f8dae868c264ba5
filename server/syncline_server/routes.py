"""The HTTP side of the application: every operation as a route, the console's files, and what errors become."""

from collections.abc import Mapping
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry
from starlette.routing import Route

from .accounts.accounts import Accounts
from .asyncapi import asyncapi_document
from .backups import Backups
from .http.accounts import ACCOUNTS
from .http.backups import BACKUPS
from .http.call import Api
from .http.changes import CHANGES
from .http.console import console_operations
from .http.diff import DIFF
from .http.documents import DOCUMENTS
from .http.find import REFERENCES
from .http.indexes import INDEXES
from .http.openapi import openapi_document
from .http.operation import Operation
from .http.records import RECORDS
from .http.route import ExceptionHandler, exception_handlers_of, route_of
from .http.status import STATUS
from .http.stores import STORES
from .http.upkeep import UPKEEP
from .http.walk import WALK
from .http.writes import WRITES
from .hub import Hub
from .limits.throttle import Throttle
from .origin import parse_origins
from .settings import Settings

__all__ = ["OPERATIONS", "exception_handlers", "http_routes"]

#: Everything that can be asked for by HTTP.
OPERATIONS: tuple[Operation, ...] = (
    *STATUS, *DOCUMENTS, *STORES, *UPKEEP, *INDEXES, *RECORDS, *WALK, *REFERENCES, *DIFF, *WRITES, *CHANGES,
    *BACKUPS, *ACCOUNTS,
)  # fmt: skip

#: Users and addresses whose requests are counted, each in about 200 bytes.
_KEYS_MAX = 50_000


def http_routes(
    hub: Hub,
    registry: CollectorRegistry,
    *,
    server: str,
    settings: Settings,
    accounts: Accounts | None,
    backups: Backups | None = None,
) -> list[Route]:
    """Return the routes of the application."""
    version = server.partition("/")[2]
    api = Api(
        hub,
        registry,
        server,
        settings,
        parse_origins(settings.origins),
        openapi=msgspec.json.encode(openapi_document(OPERATIONS, version=version)),
        asyncapi=msgspec.json.encode(asyncapi_document(version=version)),
        accounts=accounts,
        backups=backups,
        rate=None if accounts is None else Throttle(settings.requests_per_s, settings.requests_per_s * 5, _KEYS_MAX),
    )
    by_path: dict[str, list[Operation]] = {}
    for operation in (*OPERATIONS, *console_operations()):
        by_path.setdefault(operation.path, []).append(operation)
    return [route_of(api, operations) for operations in by_path.values()]


def exception_handlers(hub: Hub, settings: Settings) -> Mapping[Any, ExceptionHandler]:
    """Return what becomes of everything that is raised on the way of a request."""
    return exception_handlers_of(hub, parse_origins(settings.origins))
