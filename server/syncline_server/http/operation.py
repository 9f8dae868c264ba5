"""The shape of the table of operations, from which routes and the OpenAPI document are made.

An `Operation` says everything about one method on one path: parameters, body, answers, refusals, handler. What it
does not name is refused. `call` holds what a handler gets, `route` the way to it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import msgspec
from starlette.responses import Response

from syncline_server.access.authority import Action

from .call import Call

__all__ = ["JSON", "NDJSON", "SSE", "Answer", "Header", "Operation", "Parameter", "RequestBody"]

JSON = "application/json"
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"

Handler = Callable[[Call], Awaitable[Response]]

#: Structs of which an answer, a line or the data of an event is one; none for text without a schema.
Schemas = tuple[type[msgspec.Struct], ...]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter. A number lies between `minimum` and `maximum`."""

    name: str
    description: str
    kind: Literal["string", "integer", "number"] = "string"
    default: str | float | None = None
    minimum: int = 0
    maximum: int = 0


@dataclass(frozen=True, slots=True)
class Header:
    """A request header that has a meaning of its own here."""

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class RequestBody:
    """What a request carries: a struct, or any JSON value if `schema` is None."""

    description: str
    schema: type[msgspec.Struct] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A way in which an operation succeeds: what each media type of it carries, and its headers with their meaning."""

    status: int
    description: str
    content: Mapping[str, Schemas] = field(default_factory=lambda: MappingProxyType({}))
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path.

    `action` is what the authority is asked about before the handler runs, in the store of the path if it has one.
    `refusals` are the codes that it has besides those that every operation has. `always` says that it also answers
    while the server drains.
    """

    name: str
    method: Literal["GET", "PUT", "POST", "DELETE"]
    path: str
    handler: Handler
    summary: str
    action: Action
    answers: tuple[Answer, ...]
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    headers: tuple[Header, ...] = ()
    body: RequestBody | None = None
    refusals: tuple[str, ...] = ()
    always: bool = False

    @property
    def is_for_anybody(self) -> bool:
        """Whether it does not matter who asks."""
        return self.action is Action.ANYTHING
