"""What an index shows of a store, on every way to it: with the index, before it, without it, and with another one.

A grant names an index; it shows what the index of this name finds, and nothing while there is none that is complete.
"""

import re
from collections.abc import AsyncIterator

import msgspec
import pytest

from syncline_protocol.index import IndexSpec
from syncline_protocol.messages import Batch, Ended, Found, Subscribe, Subscribed
from syncline_protocol.messages import Find as FindMessage
from syncline_server.access.grant import GrantLimits, ReadWhere
from tests.support.engine import settle

from .people import Town, town

_STORE = "/v1/stores/notes"
_LINES = {"accept": "application/x-ndjson"}

#: Every way on which records of a store are told.
_WAYS: tuple[tuple[str, dict[str, str]], ...] = (
    (f"{_STORE}/records", {}),
    (f"{_STORE}/records", _LINES),
    (f"{_STORE}/records?at=11", {}),
    (f"{_STORE}/records?at=11", _LINES),
    (f"{_STORE}/records?order=desc", {}),
    (f"{_STORE}/records?index=plain&count=1", {}),
    (f"{_STORE}/records?index=n&count=1", {}),
    (f"{_STORE}/records?key_prefix=r&count=1", {}),
    (f"{_STORE}/records/r%2F1/references/to", {}),
    (f"{_STORE}/records/r%2F1/referrers/to", {}),
    (f"{_STORE}/changes", {}),
    (f"{_STORE}/changes?index=n&eq=2", {}),
    (f"{_STORE}/diff?from=5", {}),
    (f"{_STORE}/diff?from=10", _LINES),
)


@pytest.fixture
async def world() -> AsyncIterator[Town]:
    """A town in whose `notes` the records r/… are in the room r1, and s/… in r2; `reader` is shown the room r1."""
    async with town() as made:
        for name, path in (("room", "/room"), ("n", "/n"), ("to", "/to")):
            await made.hub.builder.declare("notes", IndexSpec(name, path))
        await made.add("r/1", b'{"room":"r1","n":2,"to":"s/1"}', by="owner")
        await made.add("s/1", b'{"room":"r2","n":2,"to":"r/1"}', by="owner")
        await made.add("r/2", b'{"room":"r1","n":2,"to":"r/1"}', by="owner")
        await made.add("s/2", b'{"room":"r2","n":2,"to":"r/1"}', by="owner")
        await made.add("r/3", b'{"room":"r1","n":2}', by="owner")
        await made.add("s/3", b'{"room":"r2","n":2}', by="owner")
        await made.delete("r/3", by="owner")
        await made.delete("s/3", by="owner")
        await show(made)
        yield made


async def show(world: Town, term: str = "r1") -> None:
    """Show `reader` the records of a room."""
    await world.grant("reader", "reader", GrantLimits(read_where=ReadWhere("room", term)))


async def told(world: Town) -> set[str]:
    """Return the keys that `reader` is told, on all ways together."""
    keys: set[str] = set()
    for path, headers in _WAYS:
        answer = await world.get("reader", path, **headers)
        keys |= {text.decode() for text in re.findall(rb'"key":"([^"]*)"', answer.content)}
    for key in ("r/1", "r/2", "s/1", "a/1"):
        answer = await world.get("reader", f"{_STORE}/records/{key.replace('/', '%2F')}")
        keys |= {key} if answer.status == 200 else set()
    return keys


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


async def figures(world: Town) -> tuple[int, str]:
    """Return the count and digest that `reader` is told."""
    store = (await world.get("reader", _STORE)).json
    return store["count"], store["digest"]


async def test_the_room_is_shown_on_every_way_and_nothing_else(world: Town) -> None:
    assert await told(world) == {"r/1", "r/2", "r/3"}
    assert (await figures(world))[0] == 2
    for path, headers in _WAYS:
        told_by_one = (await world.get("reader", path, **headers)).content
        assert b"r2" not in told_by_one, path
        assert b'"key":"s/' not in told_by_one, path
    assert (await world.get("reader", f"{_STORE}/stats")).status == 403
    assert "sizes" not in (await world.get("reader", _STORE)).json


async def test_without_the_index_nothing_is_shown(world: Town) -> None:
    await world.hub.drop_index("notes", "room")
    assert await told(world) == set()
    assert await figures(world) == (0, "00000000")


async def test_a_grant_for_an_index_that_never_was_shows_nothing(world: Town) -> None:
    await world.grant("reader", "reader", GrantLimits(read_where=ReadWhere("nothing", "r1")))
    assert await told(world) == set()
    assert await figures(world) == (0, "00000000")


async def test_an_index_that_is_declared_anew_is_another_one(world: Town) -> None:
    peer, _ = await world.connect("reader")
    assert isinstance((await peer.subscribe(store="notes"))[0], Subscribed)
    peer.take()
    page = (await world.get("reader", f"{_STORE}/records?index=n&limit=1")).json["next"]
    old = (await world.get("reader", f"{_STORE}/records?limit=1")).json["next"]
    await world.hub.drop_index("notes", "room")
    assert [type(it) for it in peer.take()] == [Ended]
    await world.hub.builder.declare("notes", IndexSpec("room", "/n"))
    await world.add("r/9", b'{"room":"r1","n":3}', by="owner")
    await settle()
    assert peer.take() == []
    assert await told(world) == set()
    assert (await world.get("reader", f"{_STORE}/records?index=n&limit=1&page={page}")).json["code"] == "cursor_invalid"
    assert (await world.get("reader", f"{_STORE}/records?page={old}")).json["code"] == "cursor_lost"


async def test_a_stream_of_what_an_index_shows_ends_with_the_index(world: Town) -> None:
    for accept in ("application/x-ndjson", "text/event-stream"):
        await world.hub.builder.declare("notes", IndexSpec("room", "/room"))
        async with world.stream("reader", f"{_STORE}/changes?index=n&eq=2", accept=accept) as stream:
            await settle()
            await world.hub.drop_index("notes", "room")
            await world.add(f"r/{accept}", b'{"room":"r1","n":2}', by="owner")
            await settle()
            assert stream.ended
            assert b"resubscribe" in stream._text
            assert f"r/{accept}".encode() not in stream._text


@pytest.mark.parametrize("term", ["r2", None])
async def test_a_filter_follows_no_further_than_the_grant(world: Town, term: str | None) -> None:
    peer, _ = await world.connect("reader")
    answers = await peer.ask(Subscribe(1, "notes", "now", filter=_raw('{"index":"n","eq":2}')))
    assert isinstance(answers[0], Subscribed)
    async with world.stream("reader", f"{_STORE}/changes?after=now&index=n&eq=2", accept="text/event-stream") as stream:
        await world.add("s/8", b'{"room":"r2","n":2}', by="owner")
        await world.add("r/8", b'{"room":"r1","n":2}', by="owner")
        await settle()
        assert [change.key for it in peer.take() if isinstance(it, Batch) for change in it.changes] == ["r/8"]
        assert (b"r/8" in stream._text, b"s/8" in stream._text) == (True, False)
        if term is None:
            await world.take_back("reader")
        else:
            await show(world, term)
        # What was done is done: nothing more comes on what was open, without another turn of the loop.
        assert [it.reason for it in peer.take() if isinstance(it, Ended)] == [
            "forbidden" if term is None else "view_changed"
        ]
        await world.add("r/7", b'{"room":"r1","n":2}', by="owner")
        await world.add("s/7", b'{"room":"r2","n":2}', by="owner")
        await settle()
        assert peer.take() == []
        assert stream.aborted
        assert b"/7" not in stream._text


async def test_a_page_of_before_shows_nothing_that_is_not_granted_any_more(world: Town) -> None:
    await world.grant("reader")
    pages = [
        (await world.get("reader", f"{_STORE}/records?{query}&limit=1")).json["next"]
        for query in ("index=n", "order=desc")
    ]
    await show(world)
    for query, page in zip(("index=n", "order=desc"), pages, strict=True):
        answer = await world.get("reader", f"{_STORE}/records?{query}&page={page}")
        assert b'"key":"s/' not in answer.content
        assert answer.status == 200 or answer.json["code"] == "cursor_invalid"
        await world.take_back("reader")
        gone = await world.get("reader", f"{_STORE}/records?{query}&page={page}")
        absent = await world.get("reader", f"/v1/stores/absent/records?{query}&page={page}")
        assert gone.content == absent.content.replace(b"absent", b"notes")
        await show(world)


async def test_a_record_of_another_room_is_none(world: Town) -> None:
    """Asked with the same words before it is added, while it lives, and when it is dead."""
    paths = [f"{_STORE}/records/s%2F9{rest}" for rest in ("", "?at=3", "/references/to", "/referrers/to")]
    paths += [f"{_STORE}/records?index=to&eq=q&count=1", f"{_STORE}/records?key_prefix=s/9&count=1"]
    paths += [f"{_STORE}/records?index=to&ge=q", f"{_STORE}/changes?index=to&eq=q", f"{_STORE}/diff?from=13"]
    peer, _ = await world.connect("reader")

    async def asked() -> list[object]:
        answers = [(await world.get("reader", path)) for path in paths]
        found = await peer.ask(FindMessage(1, "notes", _raw('{"index":"to","eq":"q"}'), count=True))
        assert isinstance(found[0], Found)
        peer.take()
        # How far the log has come is no secret: positions are those of all views (PROTOCOL 5.7.2).
        told = [re.sub(rb'"(at|to|head)":"[^"]*"', b"", answer.content) for answer in answers]
        return [told, [answer.status for answer in answers], found[0].records, found[0].next, found[0].count]

    before = await asked()
    await world.add("s/9", b'{"room":"r2","n":9,"to":"q"}', by="owner")
    alive = await asked()
    await world.delete("s/9", by="owner")
    assert before == alive == await asked()


async def test_what_an_index_shows_is_never_written_to(world: Town) -> None:
    for method, body in (("PUT", 1), ("DELETE", None)):
        for key in ("r%2F1", "s%2F1", "none"):
            assert (await world.ask("reader", method, f"{_STORE}/records/{key}", body)).status == 403


async def test_an_invitation_offers_what_an_index_shows_to_readers_only(world: Town) -> None:
    offer = {"store": "notes", "limits": {"read_where": {"index": "room", "eq": "r1"}}}
    for role in ("writer", "owner"):
        assert (await world.ask("owner", "POST", "/v1/invitations", {**offer, "role": role})).status == 400
        grant = {"to": "user:other", **offer, "role": role}
        assert (await world.ask("owner", "POST", "/v1/grants", grant)).status == 400
    code = (await world.ask("owner", "POST", "/v1/invitations", {**offer, "role": "reader"})).json["code"]
    accepted = await world.ask("other", "POST", "/v1/invitations/accept", {"code": code})
    assert accepted.status == 200, accepted.content
    assert accepted.json["grant"]["limits"] == offer["limits"]
    records = (await world.get("other", f"{_STORE}/records")).json["records"]
    assert [record["key"] for record in records] == ["r/1", "r/2"]


async def test_what_cannot_be_the_name_of_an_index_is_not_written_down(world: Town) -> None:
    for name in ("%0Aforged", "x" * 65, "%1B%5B2J", "a%2Fb"):
        answer = await world.ask("owner", "PUT", f"{_STORE}/indexes/{name}", {"path": "/x"})
        assert (answer.status, answer.json["code"]) == (400, "index_invalid")
    assert (await world.ask("owner", "PUT", f"{_STORE}/indexes/x", {"path": "x"})).json["code"] == "index_invalid"
    entries = (await world.get("admin", "/v1/audit")).json["entries"]
    assert [entry["subject"] for entry in entries if entry["action"].startswith("index.")] == []


async def test_a_backup_is_for_administrators_whose_token_may_read(world: Town) -> None:
    await world.token("admin only", "admin", scopes={"admin"})
    for name, code in (
        ("admin only", "forbidden"),
        ("owner", "forbidden"),
        ("asidetoken", "forbidden"),
        ("withintoken", "forbidden"),
        ("nobody", "unauthenticated"),
        ("admin", "unsupported"),
    ):
        assert (await world.get(name, "/v1/backups/manual-20260101T000000Z.db/file")).json["code"] == code, name
    assert (await world.get("admin only", "/v1/users")).status == 200
