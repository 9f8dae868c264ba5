"""Write messages become transactions; what is wrong with an op travels with it."""

import msgspec
import pytest

from syncline_protocol.errors import RemoteProtocolError
from syncline_protocol.limits import Limits
from syncline_protocol.messages import Add, Delete, Write, WriteOp
from syncline_protocol.transaction import hash_value, make_op, transaction_of

_LIMITS = Limits(key_bytes_max=8, value_bytes_max=20, ops_max=3)


def raw(text: bytes) -> msgspec.Raw:
    return msgspec.Raw(text)


def test_an_add_is_a_single_op_with_its_value_and_hash() -> None:
    transaction = transaction_of(Add(1, "notes", "k", raw(b' {"a":1}'), "st1"), _LIMITS)
    assert (transaction.store, transaction.store_id) == ("notes", "st1")
    assert transaction.single
    assert not transaction.atomic
    (op,) = transaction.ops
    assert (op.key, op.value, op.hash, op.fault) == ("k", b'{"a":1}', hash_value(b'{"a":1}'), None)


def test_a_delete_is_a_single_op_without_value_and_hash() -> None:
    transaction = transaction_of(Delete(1, "notes", "k"), _LIMITS)
    assert transaction.single
    assert transaction.ops == (make_op("k", None, _LIMITS),)
    assert transaction.ops[0].hash is None


@pytest.mark.parametrize("atomic", [True, False])
def test_a_write_keeps_the_order_of_its_ops(atomic: bool) -> None:
    ops = (WriteOp("DELETE", "a"), WriteOp("ADD", "b", raw(b"1")), WriteOp("ADD", "c", raw(b"2")))
    transaction = transaction_of(Write(1, "notes", ops, atomic), _LIMITS)
    assert [(op.key, op.value) for op in transaction.ops] == [("a", None), ("b", b"1"), ("c", b"2")]
    assert transaction.atomic is atomic
    assert not transaction.single


@pytest.mark.parametrize(
    ("key", "value", "status", "code"),
    [
        ("", b"1", "invalid", "key_invalid"),
        ("a\x00", None, "invalid", "key_invalid"),
        ("x" * 9, None, "too_large", "too_large"),
        ("k", b"1e400", "invalid", "value_invalid"),
        ("k", b'"' + b"x" * 30 + b'"', "too_large", "too_large"),
    ],
)
def test_an_op_that_breaks_a_rule_carries_its_fault(key: str, value: bytes | None, status: str, code: str) -> None:
    fault = make_op(key, value, _LIMITS).fault
    assert fault is not None
    assert (fault.status, fault.code) == (status, code)
    assert fault.message


@pytest.mark.parametrize(
    ("ops", "code"),
    [
        ((), "bad_message"),
        ((WriteOp("DELETE", "k"),) * 4, "too_large"),
        ((WriteOp("ADD", "k"),), "bad_message"),
        ((WriteOp("DELETE", "k", raw(b"1")),), "bad_message"),
    ],
)
def test_a_write_that_is_wrong_as_a_whole_is_refused(ops: tuple[WriteOp, ...], code: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        transaction_of(Write(1, "notes", ops), _LIMITS)
    assert caught.value.code == code


def test_a_write_to_a_store_of_no_possible_name_is_refused() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        transaction_of(Delete(1, "../notes", "k"), _LIMITS)
    assert caught.value.code == "store_name_invalid"


def test_hashes_tell_texts_apart_that_mean_the_same_number() -> None:
    assert hash_value(b"1") != hash_value(b"1.0")
    assert len(hash_value(b"1")) == 16
