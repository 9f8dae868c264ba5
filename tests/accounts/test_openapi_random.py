"""Random requests made from the OpenAPI document, sound ones and others, by three people: nothing is ever answered in a
way that the document does not say, and never with a failure of the server.

schemathesis makes the requests and compares the answers. Most names, in paths and bodies, become those of things that
are there, as made-up ones seldom are. `SYNCLINE_TEST_API_EXAMPLES` is how many requests each operation gets from each
of the three.
"""

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from syncline_server.http.openapi import openapi_document
from syncline_server.routes import OPERATIONS

from .people import PASSWORD, Town, town

Case = schemathesis.Case[Any]
Operation = schemathesis.APIOperation[Any, Any, Any, Any]

_EXAMPLES = int(os.environ.get("SYNCLINE_TEST_API_EXAMPLES", "6"))
_BASE = "http://127.0.0.1:7171"
_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
_SCHEMA = schemathesis.openapi.from_dict(openapi_document(OPERATIONS, version="1"))

#: What is there, for a part of a path or a member of a body of this name. Braces: what the town calls so.
_THERE: dict[str, tuple[Any, ...]] = {
    "store": ("notes", "hidden", "public", "fresh", "_accounts"),
    "key": ("a%2F1", "v%2F1", "z"),
    "user": ("other", "stranger", "fresh"),
    "group": ("staff", "fresh"),
    "token": ("{stranger}", "t_0"),
    "grant": ("{grant:reader}", "g_0"),
    "invitation": ("{invitation}", "i_0"),
    "to": ("user:other", "group:staff", "everyone"),
    "members": (["other"], ["stranger", "writer"]),
    "password": (PASSWORD,),
    "new_password": (PASSWORD + "!",),
    "code": ("{code}",),
    "role": ("reader", "writer"),
    "ops": ([{"op": "ADD", "key": "z", "value": 1}], [{"op": "DELETE", "key": "a/1"}, {"op": "DELETE", "key": "none"}]),
}


class Server:
    """A town on a loop of its own, which runs while somebody asks for something."""

    def __init__(self, runner: asyncio.Runner, world: Town) -> None:
        self._runner = runner
        self.world = world

    def answer(self, case: Case, name: str) -> httpx2.Response:
        """Send a request of somebody's."""
        made = case.as_transport_kwargs(base_url=_BASE)
        headers = {key: value for key, value in made["headers"].items() if key.lower() != "accept"}
        content = {"json": made["json"]} if "json" in made else {"content": made.get("data")}
        request = httpx2.Request(
            made["method"],
            made["url"],
            params=made["params"] or None,
            headers={**headers, **self.world.credentials(name)},
            **content,
        )
        return self._runner.run(self.world.client.send(request))


@pytest.fixture
def server() -> Iterator[Server]:
    """A town for one operation and one person: what a request leaves behind is met by the next."""
    with asyncio.Runner() as runner:
        context = town()
        yield Server(runner, runner.run(context.__aenter__()))
        runner.run(context.__aexit__(None, None, None))


def fitted(case: Case, data: st.DataObject, world: Town) -> None:
    """Put names of what is there into path and body, and let nobody wait long."""
    holders: tuple[Any, ...] = (case.path_parameters, case.body)
    for holder in holders:
        for name in holder if isinstance(holder, dict) else ():
            if name in _THERE and data.draw(st.integers(0, 3)):
                drawn = data.draw(st.sampled_from(_THERE[name]))
                known = {**world.ids, "code": world.code}
                holder[name] = known[drawn[1:-1]] if isinstance(drawn, str) and drawn.startswith("{") else drawn
    if isinstance(case.query, dict):
        if data.draw(st.booleans()):
            case.query.clear()
        if "wait" in case.query:
            case.query["wait"] = 0.01


def _requests_of(operation: Operation) -> st.SearchStrategy[Case]:
    """Return requests as the document wants them, and others if anything about it can be wrong."""
    sound = operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
    if not (operation.query or operation.body or operation.path_parameters):
        return sound
    return sound | operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)


@pytest.mark.parametrize("name", ["nobody", "writer", "admin"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_answer_is_one_that_the_document_has(server: Server, operation: Any, name: str) -> None:
    made = _SCHEMA[operation.path][operation.method]

    @settings(max_examples=_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=_requests_of(made), data=st.data())
    def ask(case: Case, data: st.DataObject) -> None:
        fitted(case, data, server.world)
        answer = server.answer(case, name)
        # That this storage cannot do something, as make a backup of memory, is an answer and no failure.
        checks = [check for check in _CHECKS if answer.status_code != 501 or check is not not_a_server_error]
        case.validate_response(answer, checks=checks)

    ask()
