"""The documents that describe the server to machines."""

from starlette.responses import Response

from syncline_server.access.authority import Action

from .call import Call, json_response
from .operation import JSON, Answer, Operation

__all__ = ["DOCUMENTS"]


async def _openapi(call: Call) -> Response:
    return json_response(call.api.openapi)


async def _asyncapi(call: Call) -> Response:
    return json_response(call.api.asyncapi)


DOCUMENTS: tuple[Operation, ...] = (
    Operation(
        name="getOpenApi",
        method="GET",
        path="/v1/openapi.json",
        handler=_openapi,
        summary="This document",
        action=Action.ANYTHING,
        answers=(Answer(200, "an OpenAPI 3.1 document", {JSON: ()}),),
        always=True,
    ),
    Operation(
        name="getAsyncApi",
        method="GET",
        path="/v1/asyncapi.json",
        handler=_asyncapi,
        summary="The document of the WebSocket",
        action=Action.ANYTHING,
        answers=(Answer(200, "an AsyncAPI 3.0 document", {JSON: ()}),),
        always=True,
    ),
)
