"""What the server says about itself: who it is, whether it lives and is ready, its metrics."""

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.responses import Response

from syncline_protocol import SUBPROTOCOL
from syncline_server.access.authority import Action

from .bodies import Live, Ready, ServerBody
from .call import Call, json_response
from .operation import JSON, Answer, Operation

__all__ = ["STATUS"]


async def _server(call: Call) -> Response:
    api = call.api
    # Where the files are is nobody's affair but the operator's.
    storage = api.hub.storage.description if call.principal.is_admin else ""
    return json_response(ServerBody(api.server, SUBPROTOCOL, storage, api.hub.ready, api.limits))


async def _live(call: Call) -> Response:
    return json_response(Live(True))


async def _ready(call: Call) -> Response:
    reasons = call.hub.reasons_not_ready()
    return json_response(Ready(not reasons, tuple(reasons)), 503 if reasons else 200)


async def _metrics(call: Call) -> Response:
    if not call.api.settings.open_metrics:
        call.authorize(Action.ADMINISTER)
    text = generate_latest(call.api.registry)
    return Response(text, headers={"Cache-Control": "no-cache"}, media_type=CONTENT_TYPE_PLAIN_0_0_4)


STATUS: tuple[Operation, ...] = (
    Operation(
        name="getServer",
        method="GET",
        path="/v1/server",
        handler=_server,
        summary="Who answers, where it keeps its stores, and the bounds of requests",
        action=Action.ANYTHING,
        answers=(Answer(200, "the server", {JSON: (ServerBody,)}),),
        always=True,
    ),
    Operation(
        name="isLive",
        method="GET",
        path="/health/live",
        handler=_live,
        summary="Whether the process runs",
        action=Action.ANYTHING,
        answers=(Answer(200, "it runs", {JSON: (Live,)}),),
        always=True,
    ),
    Operation(
        name="isReady",
        method="GET",
        path="/health/ready",
        handler=_ready,
        summary="Whether requests are taken",
        action=Action.ANYTHING,
        answers=(
            Answer(200, "requests are taken", {JSON: (Ready,)}),
            Answer(503, "requests are refused, for these reasons", {JSON: (Ready,)}),
        ),
        always=True,
    ),
    Operation(
        name="getMetrics",
        method="GET",
        path="/metrics",
        handler=_metrics,
        summary="Metrics in the text format of Prometheus",
        action=Action.ANYTHING,
        description="For administrators, unless the setting `open_metrics` lets anybody read them.",
        answers=(Answer(200, "the metrics", {"text/plain": ()}),),
        refusals=("forbidden",),
        always=True,
    ),
)
