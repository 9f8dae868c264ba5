"""Writes over HTTP: several ops at once, and what the routes of single records share.

The answers are those of WROTE (PROTOCOL 6). A write that changed nothing is a problem, a write that is `dup` is not:
its change is there.
"""

from starlette.responses import Response

from syncline_protocol.messages import OpResult, Write
from syncline_protocol.transaction import Transaction, transaction_of
from syncline_server.access.authority import Action
from syncline_server.storage.base import Outcome, StorageError

from .bodies import WriteBody, WriteDone
from .call import Call, json_response
from .operation import JSON, Answer, Operation, RequestBody
from .problem import Refusal, too_often

__all__ = ["WRITES", "WRITE_REFUSALS", "commit"]

#: The codes that every route has that writes to a store.
WRITE_REFUSALS = (
    "store_name_invalid",
    "store_unknown",
    "write_refused",
    "too_large",
    "storage_unavailable",
    "storage_full",
)


async def commit(call: Call, transaction: Transaction) -> Outcome:
    """Commit a transaction and return what became of it.

    Raises:
        StorageError: nothing certain is known, or there is no such store.
    """
    if not call.hub.ready:
        # The committer would say the same, after its next try to open the storage.
        raise Refusal("storage_unavailable", "the storage is away; nothing of this write was taken")
    rights = call.rights(transaction.store)
    if rights.writes_per_s is not None:
        wait_s = call.hub.writes_wait_s(call.principal, transaction, rights.writes_per_s)
        if wait_s:
            raise too_often(wait_s, "the grant allows fewer writes a second")
    answer = await call.hub.write(rights.guard(transaction), call.principal)
    if isinstance(answer, StorageError):
        raise answer
    call.hub.counts.writes[answer.status] += 1
    return answer


async def _write(call: Call) -> Response:
    store = call.store
    body = await call.json_struct(WriteBody)
    message = Write(0, store, body.ops, body.atomic, body.store_id)
    outcome = await commit(call, transaction_of(message, call.api.limits))
    if outcome.status in ("ok", "dup", "partial"):
        return json_response(WriteDone(outcome.status, outcome.ops, outcome.at, outcome.head))
    denied = [op for op in outcome.ops if op.status == "denied"]
    if denied:
        raise Refusal(
            denied[0].code or "forbidden",
            f"nothing was committed: {_summary_of(outcome.ops)}",
            outcome=outcome.status,
            ops=outcome.ops,
        )
    if outcome.status == "too_large":
        raise Refusal("too_large", "the transaction does not fit into one frame", outcome=outcome.status)
    raise Refusal(
        "write_refused",
        f"nothing was committed: {_summary_of(outcome.ops)}",
        outcome=outcome.status,
        ops=outcome.ops,
        head=outcome.head,
    )


def _summary_of(ops: tuple[OpResult, ...]) -> str:
    index = next((index for index, op in enumerate(ops) if op.status != "skipped"), 0)
    return f"ops[{index}] is {ops[index].status}"


WRITES: tuple[Operation, ...] = (
    Operation(
        name="write",
        method="POST",
        path="/v1/stores/{store}/writes",
        handler=_write,
        summary="Add and delete several records: all or none, or each alone",
        action=Action.WRITE,
        body=RequestBody("the ops in their order", WriteBody),
        answers=(Answer(200, "what became of the ops", {JSON: (WriteDone,)}),),
        refusals=(*WRITE_REFUSALS, "bad_json", "bad_message", "unknown_parameter", "store_mismatch"),
    ),
)
