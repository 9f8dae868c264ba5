"""Pages of what was found: order, bounds, seals, and that nobody learns of what he does not see."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from syncline_protocol.codec import decode_change
from syncline_protocol.cursor import Seq, parse_cursor
from syncline_protocol.errors import CursorInvalid, RemoteProtocolError
from syncline_protocol.filter import Filter
from syncline_protocol.index import IndexKind, IndexSpec, encode_term
from syncline_protocol.limits import DEFAULT_LIMITS, FOUND_BYTES_TARGET
from syncline_protocol.messages import Error, Find, Found
from syncline_protocol.transaction import Transaction, make_op
from syncline_server import find as found
from syncline_server.access.view import FULL, View, Where
from syncline_server.find import FoundPage, Query, find
from syncline_server.hub import Hub
from syncline_server.storage import open_storage
from syncline_server.storage.base import IndexUnknown, Place
from tests.support.engine import Peer, SlowPeer, engine, settle

#: key, value; the order is that of the log.
_RECORDS: list[tuple[str, object]] = [
    ("b/1", {"n": 3, "tag": ["x", "y"]}),
    ("a/1", {"n": 1, "tag": ["x"]}),
    ("a/2", {"n": 2, "tag": []}),
    ("c/1", {"n": 2}),
    ("b/2", {"n": "two", "tag": "x"}),
    ("b/3", {"other": 1}),
    ("a/3", {"n": 2, "tag": ["y", "y"]}),
]


@pytest.fixture(params=["memory", "sqlite"])
async def hub(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Hub]:
    """A hub whose store `notes` has the records, and indexes that were declared before and after them."""
    url = "memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/store.db"
    async with engine(open_storage(url)) as made:
        await declare(made, "n", "/n", "range")
        for key, value in _RECORDS:
            await add(made, key, value)
        await declare(made, "tag", "/tag", "multi")
        await made.builder.settled()
        yield made


async def declare(hub: Hub, name: str, path: str, kind: IndexKind = "equality") -> None:
    await hub.builder.declare("notes", IndexSpec(name, path, kind))


async def add(hub: Hub, key: str, value: object) -> None:
    op = make_op(key, msgspec.json.encode(value), DEFAULT_LIMITS)
    outcome = await hub.write(Transaction("notes", (op,), single=True))
    assert outcome.ops[0].status == "ok"  # type: ignore[union-attr]


async def page_of(hub: Hub, wanted: Filter | None, view: View = FULL, **query: Any) -> FoundPage:
    return await find(hub.storage, "notes", view, Query(wanted, **query))


def keys_of(page: FoundPage) -> list[str]:
    return [decode_change(text).key for text in page.texts]


async def all_keys(hub: Hub, wanted: Filter | None, view: View = FULL, **query: Any) -> list[str]:
    """Walk over all pages."""
    return [key for page in await pages_of(hub, wanted, view, **query) for key in keys_of(page)]


async def pages_of(hub: Hub, wanted: Filter | None, view: View = FULL, **query: Any) -> list[FoundPage]:
    """Return all pages."""
    pages = [await page_of(hub, wanted, view, **query)]
    while pages[-1].next is not None:
        pages.append(await page_of(hub, wanted, view, page=pages[-1].next, **query))
    return pages


# --- what comes, and in which order ---


@pytest.mark.parametrize(
    ("wanted", "keys"),
    [
        (Filter("n", eq=2), ["a/2", "c/1", "a/3"]),
        (Filter("n", eq=2.0), ["a/2", "c/1", "a/3"]),
        (Filter("n", eq="2"), []),
        (Filter("n", ge=2, lt=4), ["a/2", "c/1", "a/3", "b/1"]),
        (Filter("n", gt=2), ["b/1"]),
        (Filter("n", le=1), ["a/1"]),
        (Filter("n", prefix="t"), ["b/2"]),
        (Filter("n"), ["a/1", "a/2", "c/1", "a/3", "b/1", "b/2"]),
        (Filter("n", eq=2, key_prefix="a/"), ["a/2", "a/3"]),
        (Filter(key_prefix="a/"), ["a/1", "a/2", "a/3"]),
        (Filter(key_prefix="z"), []),
        (Filter("tag", eq="x"), ["b/1", "a/1", "b/2"]),
        (Filter("tag"), ["b/1", "a/1", "b/2", "b/1", "a/3"]),
        (None, ["a/1", "a/2", "a/3", "b/1", "b/2", "b/3", "c/1"]),
    ],
)
async def test_records_come_by_their_terms_and_then_by_their_seqs(
    hub: Hub, wanted: Filter | None, keys: list[str]
) -> None:
    for limit in (1, 2, 3, 100):
        assert await all_keys(hub, wanted, limit=limit) == keys
        assert await all_keys(hub, wanted, limit=limit, descending=True) == keys[::-1]


async def test_a_count_is_of_records_over_all_pages(hub: Hub) -> None:
    async def count(wanted: Filter | None, view: View = FULL) -> int | None:
        return (await page_of(hub, wanted, view, limit=1, counts=True)).count

    assert await count(None) == 7
    assert await count(Filter("n", ge=2)) == 4
    assert await count(Filter("tag")) == 4, "each record once"
    assert await count(Filter("n", eq=2, key_prefix="a/")) == 2
    assert await count(Filter(key_prefix="b/")) == 3
    assert await count(Filter("n", eq=2), View.of(["a/", "b/"])) == 2
    assert await count(None, View.of(["a/", "c/"])) == 4
    assert (await page_of(hub, None)).count is None


async def test_a_last_page_that_is_full_says_that_it_is_the_last(hub: Hub) -> None:
    page = await page_of(hub, Filter("n", eq=2), limit=3)
    assert (len(page.texts), page.next) == (3, None)


async def test_what_dies_or_comes_between_two_pages_hides_nothing_else(hub: Hub) -> None:
    first = await page_of(hub, Filter("n"), limit=3)
    assert keys_of(first) == ["a/1", "a/2", "c/1"]
    op = make_op("c/1", None, DEFAULT_LIMITS)
    await hub.write(Transaction("notes", (op,), single=True))
    await add(hub, "new", {"n": 2.5})
    second = await page_of(hub, Filter("n"), page=first.next)
    assert keys_of(second) == ["a/3", "new", "b/1", "b/2"]
    assert parse_cursor(first.at).seq == 7
    assert parse_cursor(second.at).seq == 9


async def test_an_index_that_is_not_there_is_named(hub: Hub) -> None:
    with pytest.raises(IndexUnknown):
        await page_of(hub, Filter("no", eq=1))
    with pytest.raises(RemoteProtocolError) as caught:
        await page_of(hub, Filter("tag", ge=1))
    assert caught.value.code == "filter_invalid"


# --- bounds ---


async def test_a_page_ends_when_it_has_enough_bytes(hub: Hub) -> None:
    for number in range(5):
        await add(hub, f"big/{number}", {"n": 100, "text": "x" * 400_000})
    page = await page_of(hub, Filter("n", eq=100))
    assert keys_of(page) == ["big/0", "big/1", "big/2"]
    assert sum(len(text) for text in page.texts) < FOUND_BYTES_TARGET + DEFAULT_LIMITS.value_bytes_max
    assert keys_of(await page_of(hub, Filter("n", eq=100), page=page.next)) == ["big/3", "big/4"]


async def test_a_page_ends_when_enough_was_looked_at(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found, "_LOOKED_ROWS_MAX", 2)
    monkeypatch.setattr(found, "_PIECE_ROWS", 1)
    monkeypatch.setattr(found, "_SEEN_PIECES_MAX", 0)
    view = View.of(["c/", "b/"])
    page = await page_of(hub, Filter("n"), view)
    assert (keys_of(page), page.next is None) == ([], False)
    assert await all_keys(hub, Filter("n"), view) == ["c/1", "b/1", "b/2"]
    assert await all_keys(hub, Filter("n"), view, descending=True) == ["b/2", "b/1", "c/1"]


# --- what is not seen ---


async def test_nothing_comes_of_what_is_not_seen(hub: Hub) -> None:
    view = View.of(["a/", "b/2"])
    for limit in (1, 2, 100):
        assert await all_keys(hub, Filter("n"), view, limit=limit) == ["a/1", "a/2", "a/3", "b/2"]
        assert await all_keys(hub, None, view, limit=limit) == ["a/1", "a/2", "a/3", "b/2"]
        assert await all_keys(hub, None, view, limit=limit, descending=True) == ["b/2", "a/3", "a/2", "a/1"]
    assert await all_keys(hub, Filter(key_prefix="c/"), view) == []
    assert await all_keys(hub, Filter(key_prefix="b/"), view) == ["b/2"]


async def test_a_part_by_an_index_is_all_that_is_found(hub: Hub) -> None:
    view = View.of(["c/"], wheres=[Where("", "n", encode_term(3)), Where("a/", "tag", encode_term("x"))])
    for limit in (1, 100):
        assert await all_keys(hub, Filter("n"), view, limit=limit) == ["a/1", "c/1", "b/1"]
        assert await all_keys(hub, Filter("tag"), view, limit=limit) == ["b/1", "a/1", "b/1"]
        assert await all_keys(hub, None, view, limit=limit) == ["a/1", "b/1", "c/1"]
    assert (await page_of(hub, None, view, counts=True)).count == 3
    assert (await page_of(hub, Filter("n", ge=2), view, counts=True)).count == 2
    assert (await page_of(hub, Filter("tag"), view, counts=True)).count == 2, "each record once"
    assert (await page_of(hub, Filter("tag"), View.of(["b/1"]), counts=True)).count == 1
    await hub.drop_index("notes", "tag")
    assert await all_keys(hub, None, view) == ["b/1", "c/1"], "what cannot be told apart is not seen"


async def test_the_last_page_does_not_tell_of_more_that_is_not_seen(hub: Hub) -> None:
    page = await page_of(hub, Filter("n", ge=1), View.of(["a/"]), limit=3)
    assert (keys_of(page), page.next) == (["a/1", "a/2", "a/3"], None)


async def test_a_page_does_not_say_where_it_ended(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found, "_LOOKED_ROWS_MAX", 1)
    monkeypatch.setattr(found, "_PIECE_ROWS", 1)
    monkeypatch.setattr(found, "_SEEN_PIECES_MAX", 0)
    page = await page_of(hub, Filter("n", prefix=""), View.of(["c/"]))
    await add(hub, "b/9", {"n": "twice"})
    page = await page_of(hub, Filter("n", prefix=""), View.of(["c/"]))
    assert page.next is not None
    assert b"two" not in base64.urlsafe_b64decode(page.next + "==")


@pytest.mark.parametrize("wanted", [Filter("n"), Filter("n", eq=2), Filter("n", ge=2), Filter("tag"), None])
@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize("descending", [False, True])
async def test_a_page_is_the_same_however_much_is_hidden_in_between(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, wanted: Filter | None, limit: int, *, descending: bool
) -> None:
    view = View.of(["c/", "b/"], wheres=[Where("a/", "tag", encode_term("y"))])
    expected = await pages_of(hub, wanted, view, limit=limit, descending=descending)
    assert sum(len(page.texts) for page in expected) > 0
    monkeypatch.setattr(found, "_LOOKED_ROWS_MAX", 1)
    monkeypatch.setattr(found, "_PIECE_ROWS", 1)
    assert await pages_of(hub, wanted, view, limit=limit, descending=descending) == expected


async def test_few_large_records_that_are_hidden_do_not_cut_a_page_short(hub: Hub) -> None:
    for number in range(20):
        await add(hub, f"z/{number:02}", {"n": 7, "text": "x" * 250_000})
    page = await page_of(hub, Filter("n", eq=7), View.of(["c/"]))
    assert (page.texts, page.next) == ([], None), "as if there were none"
    await add(hub, "c/7", {"n": 7})
    assert keys_of(await page_of(hub, Filter("n", eq=7), View.of(["c/"]))) == ["c/7"]


# --- seals ---


async def test_a_page_is_of_one_filter_one_order_and_one_index(hub: Hub) -> None:
    page = (await page_of(hub, Filter("n"), limit=1)).next
    assert page is not None
    for other in (Filter("n", ge=0), Filter("tag"), None):
        with pytest.raises(CursorInvalid):
            await page_of(hub, other, page=page)
    with pytest.raises(CursorInvalid):
        await page_of(hub, Filter("n"), page=page, descending=True)
    assert keys_of(await page_of(hub, Filter("n"), page=page, limit=2)) == ["a/2", "c/1"], "the limit may differ"
    await hub.drop_index("notes", "n")
    await declare(hub, "n", "/n", "range")
    await hub.builder.settled()
    with pytest.raises(CursorInvalid):
        await page_of(hub, Filter("n"), page=page)


@pytest.mark.parametrize("wanted", [Filter("n"), Filter(key_prefix="a/"), None])
async def test_a_page_that_was_altered_is_refused_wherever_it_was(hub: Hub, wanted: Filter | None) -> None:
    page = (await page_of(hub, wanted, limit=1)).next
    assert page is not None
    altered = [page[:at] + ("A" if page[at] != "A" else "B") + page[at + 1 :] for at in range(len(page))]
    for text in [*altered, "", "A", page[:-1], page + "A", page + "=", "ä" + page, "\ud800", "A" * 5000]:
        with pytest.raises(CursorInvalid):
            await page_of(hub, wanted, page=text)


async def test_a_page_that_somebody_made_of_what_he_knows_does_no_harm(hub: Hub) -> None:
    info = await hub.storage.info("notes")
    seal = found._Seal(info.store_id, None, FULL, Filter(), descending=False)
    for term, seq in ((b"\xff", 1), (b"", 1), (b"a", 2**63)):
        with pytest.raises(CursorInvalid):
            await page_of(hub, None, page=seal.close(Place(term, Seq(seq))))


# --- on the wire ---


async def test_a_find_is_answered_on_the_socket(hub: Hub) -> None:
    peer = Peer(hub)
    peer.take()
    wanted = msgspec.Raw(b'{"index":"n","ge":2}')
    await _answered(peer, Find(1, "notes", wanted, limit=3, count=True))
    (answer,) = peer.take()
    assert isinstance(answer, Found)
    assert ([change.key for change in answer.records], answer.count) == (["a/2", "c/1", "a/3"], 4)
    assert answer.next is not None
    await _answered(peer, Find(1, "notes", wanted, page=answer.next))
    (rest,) = peer.take()
    assert isinstance(rest, Found)
    assert ([change.key for change in rest.records], rest.next, rest.count) == (["b/1"], None, None)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (Find(1, "none"), "store_unknown"),
        (Find(1, "no/name"), "store_name_invalid"),
        (Find(1, "notes", msgspec.Raw(b'{"index":"none"}')), "index_unknown"),
        (Find(1, "notes", msgspec.Raw(b'{"indx":"n"}')), "filter_invalid"),
        (Find(1, "notes", page="x"), "cursor_invalid"),
    ],
)
async def test_a_find_that_cannot_be_answered_is_refused_and_its_id_is_free(
    hub: Hub, request_: Find, code: str
) -> None:
    peer = Peer(hub)
    peer.take()
    for _ in range(2):
        await _answered(peer, request_)
        (refusal,) = peer.take()
        assert isinstance(refusal, Error)
        assert (refusal.id, refusal.code) == (1, code)


async def test_an_id_that_is_open_is_not_taken_twice() -> None:
    async with engine() as hub:
        peer = Peer(hub)
        peer.take()
        peer.send(Find(1, "notes"))
        peer.send(Find(1, "notes"))
        await settle()
        assert [type(it) for it in peer.take()] == [Error, Found]


async def test_answers_wait_for_a_peer_that_does_not_read_and_so_do_its_requests() -> None:
    async with engine() as hub:
        for number in range(20):
            await add(hub, f"k{number}", "x" * 1000)
        peer = SlowPeer(hub, high_water=1000)
        peer.drain()
        for number in range(17):
            peer.send(Find(number, "notes"))
        await settle()
        assert [type(it) for it in peer.take()] == [Found]
        assert not peer.reading
        answered = 1
        while answered < 17:
            peer.drain()
            await settle()
            answered += len(peer.take())
        assert peer.reading


async def test_a_peer_may_leave_while_its_find_waits() -> None:
    async with engine() as hub:
        peer = SlowPeer(hub, high_water=0)
        for number in range(3):
            peer.send(Find(number, "notes"))
        await settle()
        peer.connection.lost()
        await settle()
        assert not hub._tasks


async def _answered(peer: Peer, request: Find) -> None:
    before = len(peer.payloads)
    peer.send(request)
    while len(peer.payloads) == before:
        await settle()
