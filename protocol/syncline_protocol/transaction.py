"""A write on its way into the log: ops that were checked at the door, grouped into a transaction.

Made from ADD, DELETE and WRITE (and by the HTTP twins of them), decided by the storage. An op that breaks a rule
is not thrown away but carries its fault along, so that one place decides what becomes of the whole (PROTOCOL 6).
"""

from hashlib import blake2b

import msgspec

from .errors import KeyInvalid, RemoteProtocolError, ValueInvalid
from .limits import Limits
from .messages import Add, Delete, OpResult, Status, Write
from .values import check_key, check_store_name, check_value

__all__ = ["Op", "Quota", "Transaction", "hash_value", "make_op", "transaction_of"]


# Structs, because one of each is made for every single ADD, and a frozen dataclass costs five times as much.
class Op(msgspec.Struct, frozen=True, gc=False):
    """ADD with a value, DELETE without one.

    `value` is JSON text as it is kept, `hash` the hash of it; `fault` says which rule the op breaks, if one. With
    `only_by` a DELETE is allowed only if that author added the record.
    """

    key: str
    value: bytes | None = None
    hash: bytes | None = None
    fault: OpResult | None = None
    only_by: str | None = None


class Quota(msgspec.Struct, frozen=True):
    """How much one author may keep in a store: live records that he added, and bytes of their keys and values in
    UTF-8. None is no bound.
    """

    records_max: int | None = None
    bytes_max: int | None = None


class Transaction(msgspec.Struct, frozen=True):
    """Ops on one store.

    `atomic`: all or none; otherwise each op is decided alone, as if it had come alone. `store_id`: the store that the
    writer means; another store of that name refuses it. `single`: the ops came as an ADD or DELETE of their own.
    `by` is the author of its changes; `quota` bounds what he keeps, and bounds nothing if there is no author.
    """

    store: str
    ops: tuple[Op, ...]
    atomic: bool = True
    store_id: str | None = None
    single: bool = False
    by: str | None = None
    quota: Quota | None = None


def hash_value(text: bytes) -> bytes:
    """Return the 16 bytes by which a used-key record remembers a value text: BLAKE2b (RFC 7693)."""
    return blake2b(text, digest_size=16).digest()


def make_op(key: str, value: bytes | None, limits: Limits) -> Op:
    """Check one op; what is wrong with it becomes its fault."""
    try:
        check_key(key, limits)
        if value is None:
            return Op(key)
        text = check_value(value, limits)
    except (KeyInvalid, ValueInvalid) as error:
        status: Status = "too_large" if error.code == "too_large" else "invalid"
        return Op(key, fault=OpResult(status, code=error.code, message=error.message))
    return Op(key, text, hash_value(text))


def transaction_of(message: Add | Delete | Write, limits: Limits) -> Transaction:
    """Turn a write message into a transaction.

    Raises:
        RemoteProtocolError: the request as a whole is wrong (store name, number of ops, value of a DELETE).
    """
    check_store_name(message.store)
    if isinstance(message, Add):
        op = make_op(message.key, bytes(message.value), limits)
        return Transaction(message.store, (op,), False, message.store_id, True)
    if isinstance(message, Delete):
        return Transaction(message.store, (make_op(message.key, None, limits),), False, message.store_id, True)
    return Transaction(message.store, _ops_of(message, limits), message.atomic, message.store_id)


def _ops_of(message: Write, limits: Limits) -> tuple[Op, ...]:
    if not message.ops:
        raise RemoteProtocolError("bad_message", "WRITE: there are no ops")
    if len(message.ops) > limits.ops_max:
        raise RemoteProtocolError("too_large", f"WRITE: more than {limits.ops_max} ops")
    ops = []
    for index, op in enumerate(message.ops):
        has_value = isinstance(op.value, msgspec.Raw)
        if has_value != (op.op == "ADD"):
            fault = "an ADD has a value" if op.op == "ADD" else "a DELETE has no value"
            raise RemoteProtocolError("bad_message", f"WRITE: {fault} (ops[{index}])")
        ops.append(make_op(op.key, bytes(op.value) if isinstance(op.value, msgspec.Raw) else None, limits))
    return tuple(ops)
