"""The HTTP side of the application: every operation as a route, the console's files, and what errors become."""

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from prometheus_client import CollectorRegistry
from starlette.routing import Route

from .http.call import Api
from .http.operation import Operation
from .http.records import RECORDS
from .http.route import ExceptionHandler, exception_handlers_of, route_of
from .http.status import STATUS
from .http.stores import STORES
from .http.writes import WRITES
from .hub import Hub
from .origin import parse_origins
from .settings import Settings

__all__ = ["OPERATIONS", "exception_handlers", "http_routes"]

#: Everything that can be asked for by HTTP.
OPERATIONS: tuple[Operation, ...] = (*STATUS, *STORES, *RECORDS, *WRITES)


def http_routes(hub: Hub, registry: CollectorRegistry, *, server: str, settings: Settings) -> list[Route]:
    """Return the routes of the application."""
    api = Api(hub, registry, server, settings, parse_origins(settings.origins))
    by_path = groupby(sorted(OPERATIONS, key=lambda operation: operation.path), key=lambda operation: operation.path)
    return [route_of(api, list(operations)) for _, operations in by_path]


def exception_handlers(hub: Hub, settings: Settings) -> Mapping[Any, ExceptionHandler]:
    """Return what becomes of everything that is raised on the way of a request."""
    return exception_handlers_of(hub, parse_origins(settings.origins))
