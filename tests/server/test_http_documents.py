"""The documents for machines: complete, true, and without anything besides."""

import re
from typing import Any, get_args

import jsonschema_rs
import msgspec
import pytest
from starlette.routing import Route

from syncline_protocol.codec import decode_client_message, decode_server_message, encode
from syncline_protocol.errors import ERROR_CODES
from syncline_protocol.messages import ClientMessage, ServerMessage
from syncline_server.app import create_app
from syncline_server.asyncapi import EXAMPLES
from syncline_server.http.openapi import refusals_of
from syncline_server.routes import OPERATIONS
from syncline_server.settings import Settings
from tests.support.http import HttpApp

#: Codes that only a frame of a WebSocket can be answered with.
FRAME_CODES = {
    "unknown_message",
    "hello_expected",
    "hello_repeated",
    "id_in_use",
    "already_subscribed",
    "not_subscribed",
    "too_many_subscriptions",
}


async def test_every_route_is_documented_and_every_documented_route_is_there(app: HttpApp) -> None:
    document = (await app.get("/v1/openapi.json")).json
    documented = {
        (path, method.upper())
        for path, item in document["paths"].items()
        for method in item
        if method in ("get", "put", "post", "delete")
    }
    served = {
        (route.path, method)
        for route in create_app(Settings(store="memory:", auth="none")).routes
        if isinstance(route, Route) and route.path != "/" and not route.path.startswith("/console/")
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert documented == served


async def test_every_code_that_http_can_answer_with_is_documented(app: HttpApp) -> None:
    text = (await app.get("/v1/openapi.json")).content.decode()
    document = msgspec.json.decode(text)
    codes = {code for operation in OPERATIONS for code in refusals_of(operation)} | set(
        document["components"]["responses"]
    )
    assert codes == set(ERROR_CODES) - FRAME_CODES
    assert all(f'"{code}"' in text for code in codes)


async def test_the_document_is_whole(app: HttpApp) -> None:
    document = (await app.get("/v1/openapi.json")).json
    assert document["openapi"].startswith("3.1.")
    assert _dangling(document) == []
    names = [operation["operationId"] for operation in _operations(document)]
    assert len(names) == len(set(names))
    for path, item in document["paths"].items():
        assert {parameter["name"] for parameter in item.get("parameters", [])} == set(re.findall(r"\{(\w+)\}", path))
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)
        assert schema["description"]


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        item[method]
        for item in document["paths"].values()
        for method in ("get", "put", "post", "delete")
        if method in item
    ]


def _dangling(document: dict[str, Any]) -> list[str]:
    """Return the references that lead nowhere."""
    dangling = []
    for ref in re.findall(r'"\$ref":"#/([^"]+)"', msgspec.json.encode(document).decode()):
        place: Any = document
        for name in ref.split("/"):
            place = place.get(name) if isinstance(place, dict) else None
        if place is None:
            dangling.append(ref)
    return dangling


async def test_every_message_is_in_the_document_of_the_socket(app: HttpApp) -> None:
    document = (await app.get("/v1/asyncapi.json")).json
    assert document["asyncapi"] == "3.0.0"
    assert _dangling(document) == []
    kinds = {kind.__name__: kind for kind in (*get_args(ClientMessage), *get_args(ServerMessage))}
    assert set(document["components"]["messages"]) == set(kinds)
    assert set(document["channels"]["socket"]["messages"]) == set(kinds)
    for name, message in document["components"]["messages"].items():
        assert message["name"] == kinds[name].__struct_config__.tag
        assert message["summary"]
    actions = {name: operation["action"] for name, operation in document["operations"].items()}
    assert actions == {f"receive{kind.__name__}": "receive" for kind in get_args(ClientMessage)} | {
        f"send{kind.__name__}": "send" for kind in get_args(ServerMessage)
    }


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
async def test_every_example_is_a_message_of_its_schema(app: HttpApp, example: ClientMessage | ServerMessage) -> None:
    document = (await app.get("/v1/asyncapi.json")).json
    name = type(example).__name__
    payload = document["components"]["messages"][name]["examples"][0]["payload"]
    schemas = {
        kind: {**schema, "additionalProperties": schema.get("additionalProperties", False)}
        for kind, schema in document["components"]["schemas"].items()
    }
    schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
    jsonschema_rs.validator_for(schema).validate(payload)
    decode = decode_client_message if isinstance(example, ClientMessage) else decode_server_message
    assert encode(decode(encode(example))) == encode(example)


def test_there_is_one_example_of_each_message() -> None:
    assert [type(example) for example in EXAMPLES] == [*get_args(ClientMessage), *get_args(ServerMessage)]
