"""The queue of unanswered writes."""

import asyncio

import pytest

from syncline import Add, Delete, Json, WriteRefused, Written
from syncline.write import AwaitedWrite, PendingWrite, WriteQueue, check_write
from syncline_protocol import DEFAULT_LIMITS, Limits
from syncline_protocol.codec import encode


def pending(*ops: Add | Delete, store: str = "notes") -> AwaitedWrite:
    """Return a write that waits to be answered."""
    atomic = None if len(ops) == 1 else True
    message, size = check_write(store, list(ops), DEFAULT_LIMITS, atomic=atomic, store_id=None)
    return AwaitedWrite(message, size, asyncio.get_running_loop().create_future())


def send_all(queue: WriteQueue, in_flight_max: int = 100, first_id: int = 1) -> list[PendingWrite]:
    """Send what may be sent, under the ids from `first_id` on."""
    sent: list[PendingWrite] = []
    while (write := queue.next_to_send(in_flight_max)) is not None:
        queue.sent(first_id + len(sent), write)
        sent.append(write)
    return sent


async def test_writes_are_sent_in_their_order_up_to_what_may_be_in_flight() -> None:
    queue = WriteQueue()
    writes = [pending(Add(f"k{i}", i)) for i in range(5)]
    for write in writes:
        queue.put(write)
    assert send_all(queue, in_flight_max=3) == writes[:3]
    queue.answered(1)
    assert send_all(queue, in_flight_max=3, first_id=4) == [writes[3]]
    assert queue.unanswered == 4


async def test_what_was_not_answered_is_sent_again_first_and_in_the_old_order() -> None:
    queue = WriteQueue()
    writes = [pending(Add(f"k{i}", i)) for i in range(5)]
    for write in writes:
        queue.put(write)
    send_all(queue, in_flight_max=4)
    queue.answered(2)
    queue.put_off(3)
    queue.connection_lost()
    assert send_all(queue) == [writes[0], writes[2], writes[3], writes[4]]


async def test_a_write_that_is_sent_again_has_the_very_same_text() -> None:
    queue = WriteQueue()
    value = {"n": [1]}
    write = pending(Add("k", value), Add("j", Json('{"x": 1e2}')))
    queue.put(write)
    before = encode(send_all(queue)[0].message)
    value["n"].append(2)
    queue.connection_lost()
    assert encode(send_all(queue)[0].message) == before
    assert b'{"x": 1e2}' in before


async def test_writes_that_share_a_key_go_one_after_the_other() -> None:
    queue = WriteQueue()
    first, second, third = pending(Add("k", 1)), pending(Delete("k"), Add("j", 2)), pending(Delete("j"))
    other = pending(Add("k", 1), store="other")
    for write in (first, second, third, other):
        queue.put(write)
    assert send_all(queue) == [first, other]
    queue.put_off(1)
    assert send_all(queue, first_id=10) == []
    queue.send_again([first])
    assert send_all(queue, first_id=20) == [first]
    queue.answered(20)
    assert send_all(queue, first_id=30) == [second]
    queue.connection_lost()
    assert send_all(queue, first_id=40) == [second, other]
    queue.answered(40)
    assert send_all(queue, first_id=50) == [third]


async def test_a_write_that_nobody_waits_for_is_not_sent_and_does_not_hold_up_its_key() -> None:
    queue = WriteQueue()
    first, second = pending(Add("k", 1)), pending(Add("k", 1))
    queue.put(first)
    queue.put(second)
    first.settled.cancel()
    assert send_all(queue) == [second]
    assert queue.unanswered == 1


async def test_what_was_put_off_and_moved_by_a_lost_connection_is_not_sent_twice() -> None:
    queue = WriteQueue()
    write = pending(Add("k", 1))
    queue.put(write)
    send_all(queue)
    queue.put_off(1)
    queue.connection_lost()
    assert send_all(queue) == [write]
    queue.send_again([write])
    assert send_all(queue) == []


async def test_when_the_client_ends_every_write_gets_the_error() -> None:
    queue = WriteQueue()
    writes = [pending(Add("k", 1)), pending(Add("j", 1)), pending(Delete("k")), pending(Delete("j"))]
    for write in writes:
        queue.put(write)
    send_all(queue)
    queue.put_off(1)
    queue.fail_all(OSError("over"))
    for write in writes:
        assert isinstance(write.settled.exception(), OSError)
    assert queue.unanswered == 0


@pytest.mark.parametrize("status", ["ok", "dup", "partial"])
async def test_what_was_done_is_a_result(status: str) -> None:
    write = pending(Add("k", 1))
    write.settle(Written(status))  # type: ignore[arg-type]
    assert (await write.settled).status == status


@pytest.mark.parametrize("status", ["conflict", "gone", "absent", "denied", "invalid", "too_large", "refused"])
async def test_a_refusal_raises_and_carries_the_result(status: str) -> None:
    write = pending(Add("k", 1))
    write.settle(Written(status, key="k"))  # type: ignore[arg-type]
    with pytest.raises(WriteRefused, match=f"notes: the write of 'k' was refused: {status}") as raised:
        await write.settled
    assert raised.value.result.status == status


@pytest.mark.parametrize(
    ("store", "ops", "status", "code"),
    [
        ("no/store", [Add("k", 1)], "invalid", "store_name_invalid"),
        ("notes", [Add("", 1)], "invalid", "key_invalid"),
        ("notes", [Add("a\nb", 1)], "invalid", "key_invalid"),
        ("notes", [Delete("x" * 513)], "too_large", "too_large"),
        ("notes", [Add("k", "x" * 524_289)], "too_large", "too_large"),
        ("notes", [Add("k", float("nan"))], "invalid", "value_invalid"),
        ("notes", [], "invalid", "bad_message"),
        ("notes", [Add("k", 1), Add("j", float("nan"))], "invalid", "value_invalid"),
        ("notes", [Add(f"k{i}", "x" * 500_000) for i in range(3)], "too_large", "too_large"),
        ("notes", [Add(f"k{i}", 1) for i in range(5001)], "too_large", "too_large"),
    ],
)
def test_what_breaks_a_rule_is_refused_before_it_is_sent(
    store: str, ops: list[Add | Delete], status: str, code: str
) -> None:
    with pytest.raises(WriteRefused) as raised:
        check_write(store, ops, DEFAULT_LIMITS, atomic=None if len(ops) == 1 else True, store_id=None)
    assert (raised.value.status, raised.value.code) == (status, code)


def test_the_bounds_are_those_that_the_server_announced() -> None:
    tight = Limits(value_bytes_max=5)
    with pytest.raises(WriteRefused, match="longer than 5 bytes"):
        check_write("notes", [Add("k", "12345")], tight, atomic=None, store_id=None)
