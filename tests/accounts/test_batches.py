"""Batches of which some ops are allowed and others are not, by message and by HTTP, all or none and each alone.

What an op would do on its own is known of each person; a batch is judged op by op, and what is committed is exactly
what is told to be, with the name of who wrote it.
"""

import msgspec
import pytest

from syncline_protocol.codec import decode_change
from syncline_protocol.messages import Write, WriteOp, WriteResult, Wrote
from syncline_server.access.grant import GrantLimits
from tests.support.http import Json

from .people import Town, town

_ONE = msgspec.Raw(b"1")

#: What is asked for: ADD and DELETE in every part, of every author, of what is there and what never was.
OPS = {
    "+z": WriteOp("ADD", "z", _ONE),
    "+k/9": WriteOp("ADD", "k/9", _ONE),
    "+v/9": WriteOp("ADD", "v/9", _ONE),
    "-a/1": WriteOp("DELETE", "a/1"),
    "-k/1": WriteOp("DELETE", "k/1"),
    "-o/1": WriteOp("DELETE", "o/1"),
    "-v/2": WriteOp("DELETE", "v/2"),
}

#: Which of them each person may do.
ALLOWED = {
    "writer": set(OPS),
    "addonly": {"+z", "+k/9", "+v/9"},
    "ownonly": {"+z", "+k/9", "+v/9", "-o/1"},
    "keyed": {"+k/9", "-k/1"},
    "viewed": {"+v/9", "-v/2"},
    "owner": set(OPS),
    "reader": set[str](),
}


async def by_message(world: Town, name: str, ops: list[str], *, atomic: bool) -> tuple[str, list[Json]]:
    """Send a WRITE. Returns its status, and that and the code of each op."""
    peer, _ = await world.connect(name)
    (wrote,) = await peer.ask(Write(1, "notes", tuple(OPS[op] for op in ops), atomic=atomic))
    assert isinstance(wrote, Wrote)
    (result,) = wrote.results
    assert isinstance(result, WriteResult)
    assert result.ops is not None
    return result.status, [(op.status, op.code) for op in result.ops]


async def by_http(world: Town, name: str, ops: list[str], *, atomic: bool) -> tuple[str, list[Json]]:
    """Send the same by HTTP. Whoever may write nothing at all is refused before his ops are looked at."""
    body = {"ops": [OPS[op] for op in ops], "atomic": atomic}
    answer = await world.ask(name, "POST", "/v1/stores/notes/writes", body)
    told = answer.json
    if answer.status == 200:
        return told["status"], [(op["status"], op.get("code")) for op in told["ops"]]
    assert (answer.status, told["code"]) == (403, "forbidden")
    if name == "reader":
        return "refused" if atomic else "partial", [("denied", "forbidden")] * len(ops)
    return told["outcome"], [(op["status"], op.get("code")) for op in told["ops"]]


async def committed(world: Town, before: int) -> list[tuple[str, str, str | None]]:
    """Return what has come into the log since: op, key and author of each change."""
    head = (await world.hub.storage.info("notes")).head.seq
    chunk = await world.hub.storage.read("notes", before, head)  # type: ignore[arg-type]
    changes = [decode_change(row.text) for row in chunk.rows]
    return [(change.op, change.key, change.by) for change in changes]


@pytest.mark.parametrize("way", [by_message, by_http])
@pytest.mark.parametrize("name", ALLOWED)
async def test_ops_that_come_each_alone_are_done_as_far_as_they_are_allowed(name: str, way: Json) -> None:
    async with town() as world:
        before = (await world.hub.storage.info("notes")).head.seq
        status, told = await way(world, name, list(OPS), atomic=False)
        allowed = [op in ALLOWED[name] for op in OPS]
        assert told == [("ok", None) if may else ("denied", "forbidden") for may in allowed]
        assert status == ("ok" if all(allowed) else "partial")
        done = [op for op, may in zip(OPS.values(), allowed, strict=True) if may]
        assert await committed(world, before) == [(op.op, op.key, name) for op in done]


@pytest.mark.parametrize("way", [by_message, by_http])
@pytest.mark.parametrize("name", ALLOWED)
async def test_of_ops_that_come_together_none_is_done_if_one_is_not_allowed(name: str, way: Json) -> None:
    async with town() as world:
        before = (await world.hub.storage.info("notes")).head.seq
        status, told = await way(world, name, list(OPS), atomic=True)
        allowed = [op in ALLOWED[name] for op in OPS]
        if all(allowed):
            assert status == "ok"
            return
        assert status == "refused"
        assert told == [("skipped", None) if may else ("denied", "forbidden") for may in allowed]
        assert await committed(world, before) == []
        mine = sorted(ALLOWED[name])
        if mine:
            assert await way(world, name, mine, atomic=True) == ("ok", [("ok", None)] * len(mine))


async def test_a_batch_that_is_sent_again_is_not_told_to_whom_it_is_not_allowed_any_more() -> None:
    async with town() as world:
        assert (await by_message(world, "writer", ["+z", "+k/9"], atomic=True))[0] == "ok"
        assert (await by_message(world, "writer", ["+z", "+k/9"], atomic=True))[0] == "dup"
        await world.grant("writer", "writer", GrantLimits(key_prefix="k/"))
        denied, dup = ("denied", "forbidden"), ("dup", None)
        assert await by_message(world, "writer", ["+z", "+k/9"], atomic=False) == ("partial", [denied, dup])
        assert (await by_message(world, "writer", ["+z", "+k/9"], atomic=True))[0] == "refused"


async def test_what_an_own_only_writer_adds_and_deletes_in_one_go_is_his() -> None:
    async with town() as world:
        assert (await by_message(world, "ownonly", ["+z"], atomic=True))[0] == "ok"
        answer = await world.ask("ownonly", "DELETE", "/v1/stores/notes/records/z")
        assert answer.status == 200
        assert (await world.ask("ownonly", "PUT", "/v1/stores/notes/records/y", 1)).status == 201
        taken = await world.ask("addonly", "DELETE", "/v1/stores/notes/records/y")
        assert (taken.status, taken.json["code"]) == (403, "forbidden")


async def test_nobody_writes_under_the_name_of_another() -> None:
    async with town() as world:
        body = {"ops": [{"op": "ADD", "key": "z", "value": 1, "by": "owner"}]}
        answer = await world.ask("writer", "POST", "/v1/stores/notes/writes", body)
        assert answer.json["code"] == "unknown_parameter"
        await world.ask("writer", "PUT", "/v1/stores/notes/records/z", b'{"by":"owner"}')
        shown = (await world.get("reader", "/v1/stores/notes/records/z")).json
        assert (shown["by"], shown["value"]) == ("writer", {"by": "owner"})


# --- streams, whose views have changed ---


@pytest.mark.parametrize("media_type", ["text/event-stream", "application/x-ndjson"])
@pytest.mark.parametrize("limits", [GrantLimits(read_prefix="v/"), None])
async def test_a_stream_ends_when_the_view_changes_and_nothing_comes_after(
    media_type: str, limits: GrantLimits | None
) -> None:
    async with town() as world, world.stream("reader", "/v1/stores/notes/changes", Accept=media_type) as stream:
        await stream.until(b'"count":5')
        if limits is None:
            await world.take_back("reader")
        else:
            await world.grant("reader", "reader", limits)
        await world.add("a/secret", by="owner")
        assert b"secret" not in await stream.rest()
        answer = await world.get("reader", "/v1/stores/notes/changes?after=now")
        assert answer.status == (404 if limits is None else 200)
