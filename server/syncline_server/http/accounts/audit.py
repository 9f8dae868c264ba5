"""The audit log over HTTP, for administrators: in pages, or all of it as NDJSON. Entries come exactly as stored."""

from collections.abc import AsyncGenerator

import msgspec
from starlette.responses import Response

from syncline_protocol.audit import AuditEntry
from syncline_protocol.limits import SEQ_MAX
from syncline_server.access.authority import Action
from syncline_server.accounts.audit import ENTRIES_MAX
from syncline_server.http.call import Call, json_response
from syncline_server.http.operation import JSON, NDJSON, Answer, Operation, Parameter
from syncline_server.http.problem import Refusal
from syncline_server.http.stream import Stream, Wait

from .acting import record, require_admin
from .bodies import AuditHeadBody, AuditPage

__all__ = ["AUDIT"]


async def _audit(call: Call) -> Response:
    require_admin(call.principal)
    after, log = int(call.number("after")), call.accounts.audit
    if call.accepts(JSON, NDJSON) == NDJSON:
        return await _export(call, after)
    entries = await log.entries(after, int(call.number("limit")))
    # The head is read after them, so that it is never behind an entry of the same page.
    head = await log.read_head()
    shown = msgspec.json.encode(AuditHeadBody(head.n, head.hash))
    return json_response(b'{"entries":[%b],"head":%b}' % (b",".join(entries), shown))


async def _export(call: Call, after: int) -> Response:
    if call.given("limit"):
        raise Refusal("bad_message", "limit belongs to pages, not to streams")
    log = call.accounts.audit
    await record(call, "audit.export", None, actor=call.principal.name, after=str(after))

    async def lines(wait: Wait) -> AsyncGenerator[bytes, None]:
        async for text in log.walk(after):
            yield text + b"\n"

    return Stream(call, lines, NDJSON, {})


AUDIT: tuple[Operation, ...] = (
    Operation(
        name="readAudit",
        method="GET",
        path="/v1/audit",
        handler=_audit,
        summary="Read the audit log: in pages as JSON, or from `after` to the end as NDJSON",
        action=Action.ADMINISTER,
        parameters=(
            Parameter("after", "number of the entry to go on after", "integer", -1, -1, SEQ_MAX),
            Parameter("limit", "how many entries a page has", "integer", ENTRIES_MAX, 1, ENTRIES_MAX),
        ),
        answers=(Answer(200, "entries in their order", {JSON: (AuditPage,), NDJSON: (AuditEntry,)}),),
        refusals=("unauthenticated", "forbidden", "storage_unavailable", "storage_full"),
    ),
)
