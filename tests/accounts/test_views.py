"""Readers of two parts, of the whole, and one who may not know authors: each way to read shows exactly his records.

Every route and message that shows records, one after the other: what comes of it is compared with the list of what was
committed, filtered by the plainest means.
"""

from collections.abc import AsyncIterator, Mapping
from urllib.parse import quote

import msgspec
import pytest

from syncline_protocol.cursor import Seq
from syncline_protocol.digest import digest_term, digest_text
from syncline_protocol.messages import Batch, CaughtUp, Change, Fetch, Fill, Subscribe, Subscribed
from syncline_server.access.grant import GrantLimits
from tests.support.http import Json

from .people import Town, town

#: What each of them sees: the prefix of the keys, and whether authors are shown.
_VIEWS = {"reader": ("a/", True), "writer": ("v/", True), "keyed": ("", False), "owner": ("", True)}

_SSE, _LINES = "text/event-stream", "application/x-ndjson"


class History:
    """What was committed to `notes`: every change, and what lives."""

    def __init__(self, world: Town) -> None:
        self.world = world
        self.changes: list[tuple[int, str, str, str]] = []
        self.alive: dict[str, tuple[int, str]] = {}

    async def add(self, key: str, by: str) -> None:
        """Add a record."""
        await self.world.add(key, by=by)
        seq = await self._note("ADD", key, by)
        self.alive[key] = (seq, by)

    async def delete(self, key: str, by: str) -> None:
        """Delete a record."""
        await self.world.delete(key, by=by)
        await self._note("DELETE", key, by)
        del self.alive[key]

    async def _note(self, op: str, key: str, by: str) -> int:
        seq = (await self.world.hub.storage.info("notes")).head.seq
        self.changes.append((seq, op, key, by))
        return seq

    def records(self, name: str) -> list[tuple[int, str, str | None]]:
        """Return seq, key and author of what somebody may see."""
        prefix, authors = _VIEWS[name]
        held = sorted((seq, key, by if authors else None) for key, (seq, by) in self.alive.items())
        return [record for record in held if record[1][: len(prefix)] == prefix]

    def since(self, name: str, seq: int) -> list[tuple[int, str, str, str | None]]:
        """Return the changes above a position that somebody may see."""
        prefix, authors = _VIEWS[name]
        return [
            (at, op, key, by if authors else None)
            for at, op, key, by in self.changes
            if at > seq and key[: len(prefix)] == prefix
        ]

    def digest(self, name: str) -> str:
        """Return the digest of what somebody may see."""
        return digest_text(sum(digest_term(Seq(seq), key) for seq, key, _ in self.records(name)))


@pytest.fixture
async def world() -> AsyncIterator[Town]:
    """A town where those of `_VIEWS` see what is said there."""
    async with town() as made:
        for name, (prefix, authors) in _VIEWS.items():
            if name != "owner":
                await made.grant(name, "reader", GrantLimits(read_prefix=prefix or None), authors=authors)
        yield made


@pytest.fixture
async def history(world: Town) -> History:
    """Records of several authors in every part, some of them dead."""
    told = History(world)
    for key in await _keys(world):
        await told.world.delete(key, by="owner")
    for number in range(12):
        await told.add(f"{'av'[number % 2]}/{number + 10}", by=("ownonly", "owner")[number % 3 == 0])
    await told.add('a/"by":"eve"', by="owner")
    await told.add("other", by="owner")
    for key in ("a/10", "v/13", "v/15"):
        await told.delete(key, by="writer")
    return told


async def _keys(world: Town) -> list[str]:
    answer = await world.get("admin", "/v1/stores/notes/records")
    return [record["key"] for record in answer.json["records"]]


def seen(records: list[Mapping[str, Json]]) -> list[tuple[int, str, str | None]]:
    """Return seq, key and author of records as routes show them."""
    return [(record["seq"], record["key"], record.get("by")) for record in records]


def folded(changes: list[Mapping[str, Json]]) -> list[tuple[int, str, str | None]]:
    """Return what is left of changes from the start."""
    held: dict[str, tuple[int, str, str | None]] = {}
    for change in changes:
        if change["op"] == "ADD":
            held[change["key"]] = (change["seq"], change["key"], change.get("by"))
        else:
            # A page ends where it ends: an ADD may have been left out as its DELETE was to come on the next.
            held.pop(change["key"], None)
    return sorted(held.values())


@pytest.mark.parametrize("name", _VIEWS)
@pytest.mark.parametrize("limit", [1, 2, 1000])
async def test_pages_of_records_are_of_the_view(world: Town, history: History, name: str, limit: int) -> None:
    records: list[Mapping[str, Json]] = []
    path = following = f"/v1/stores/notes/records?limit={limit}"
    while following:
        page = (await world.get(name, following)).json
        assert len(page["records"]) <= limit
        records += page["records"]
        following = page["next"] and f"{path}&page={quote(page['next'])}"
    assert seen(records) == history.records(name)


@pytest.mark.parametrize("name", _VIEWS)
async def test_a_stream_of_records_is_of_the_view(world: Town, history: History, name: str) -> None:
    assert seen((await world.get(name, "/v1/stores/notes/records", Accept=_LINES)).lines) == history.records(name)


@pytest.mark.parametrize("name", _VIEWS)
async def test_single_records_are_those_of_the_view(world: Town, history: History, name: str) -> None:
    shown = []
    for key in sorted({key for _, _, key, _ in history.changes}, key=lambda key: history.alive.get(key, (0, ""))[0]):
        answer = await world.get(name, f"/v1/stores/notes/records/{quote(key, safe='')}")
        shown += [answer.json] if answer.status == 200 else []
        assert answer.status == 200 or answer.json["code"] == "record_unknown"
    assert seen(shown) == history.records(name)


@pytest.mark.parametrize("name", _VIEWS)
async def test_count_and_digest_of_a_store_are_of_the_view(world: Town, history: History, name: str) -> None:
    wanted = (len(history.records(name)), history.digest(name))
    (listed,) = [it for it in (await world.get(name, "/v1/stores")).json["stores"] if it["name"] == "notes"]
    for store in (listed, (await world.get(name, "/v1/stores/notes")).json):
        assert (store["count"], store["digest"]) == wanted
    created = (await world.ask(name, "PUT", "/v1/stores/notes")).json
    assert (created["count"], created["digest"]) == wanted


@pytest.mark.parametrize("name", _VIEWS)
@pytest.mark.parametrize("limit", [1, 3, 1000])
async def test_pages_of_changes_are_of_the_view(world: Town, history: History, name: str, limit: int) -> None:
    changes: list[Mapping[str, Json]] = []
    after = "start"
    while True:
        page = (await world.get(name, f"/v1/stores/notes/changes?limit={limit}&after={quote(after)}")).json
        assert after in ("start", page["from"])
        changes += page["changes"]
        after = page["to"]
        if page["caught_up"]:
            break
    assert folded(changes) == history.records(name)


@pytest.mark.parametrize("name", _VIEWS)
@pytest.mark.parametrize("told_by", ["records", "stream", "store", "changes"])
async def test_every_position_that_is_told_can_be_followed_after(
    world: Town, history: History, name: str, told_by: str
) -> None:
    if told_by == "records":
        at = (await world.get(name, "/v1/stores/notes/records")).json["at"]
    elif told_by == "stream":
        at = (await world.get(name, "/v1/stores/notes/records", Accept=_LINES)).headers["syncline-cursor"]
    elif told_by == "store":
        at = (await world.get(name, "/v1/stores/notes")).json["head"]
    else:
        at = (await world.get(name, "/v1/stores/notes/changes")).json["to"]
    end = history.changes[-1][0]
    await history.add("a/new", by="owner")
    await history.add("v/new", by="owner")
    await history.delete("a/12", by="owner")
    page = (await world.get(name, f"/v1/stores/notes/changes?after={quote(at)}")).json
    assert [(it["seq"], it["op"], it["key"], it.get("by")) for it in page["changes"]] == history.since(name, end)
    assert page["caught_up"]


@pytest.mark.parametrize("name", _VIEWS)
async def test_a_position_of_another_view_is_not_gone_on_after(world: Town, history: History, name: str) -> None:
    for other in _VIEWS:
        at = (await world.get(other, "/v1/stores/notes/records")).json["at"]
        answer = await world.get(name, f"/v1/stores/notes/changes?after={quote(at)}")
        if _VIEWS[other][0] == _VIEWS[name][0]:
            assert answer.status == 200
        else:
            assert (answer.status, answer.json["code"], answer.json["how"]) == (410, "cursor_lost", "reconcile")


@pytest.mark.parametrize("name", _VIEWS)
async def test_a_long_poll_waits_for_what_the_view_shows(world: Town, history: History, name: str) -> None:
    at = (await world.get(name, "/v1/stores/notes/changes")).json["to"]
    end = history.changes[-1][0]
    await history.add("v/late", by="owner")
    await history.add("a/late", by="owner")
    page = (await world.get(name, f"/v1/stores/notes/changes?wait=1&after={quote(at)}")).json
    assert [(it["seq"], it["op"], it["key"], it.get("by")) for it in page["changes"]] == history.since(name, end)


@pytest.mark.parametrize("name", _VIEWS)
async def test_events_are_of_the_view_from_the_start_and_live(world: Town, history: History, name: str) -> None:
    async with world.stream(name, "/v1/stores/notes/changes", Accept=_SSE) as stream:
        changes: list[Mapping[str, Json]] = []
        while (event := await stream.event())["event"] != "caught_up":
            changes += event["data"]["changes"]
        assert folded(changes) == history.records(name)
        assert (event["data"]["count"], event["data"]["digest"]) == (len(history.records(name)), history.digest(name))
        end = history.changes[-1][0]
        await history.add("v/late", by="owner")
        await history.add("a/late", by="owner")
        wanted, live = history.since(name, end), list[object]()
        while len(live) < len(wanted):
            changes = (await stream.event())["data"]["changes"]
            live += [(it["seq"], it["op"], it["key"], it.get("by")) for it in changes]
        assert live == wanted


@pytest.mark.parametrize("name", _VIEWS)
async def test_lines_are_of_the_view_from_the_start_and_live(world: Town, history: History, name: str) -> None:
    async with world.stream(name, "/v1/stores/notes/changes", Accept=_LINES) as stream:
        changes: list[Mapping[str, Json]] = []
        while not (line := await stream.line()).get("caught_up"):
            changes += [line] if "op" in line else []
        assert folded(changes) == history.records(name)
        assert (line["count"], line["digest"]) == (len(history.records(name)), history.digest(name))
        end = history.changes[-1][0]
        await history.add("v/late", by="owner")
        await history.add("a/late", by="owner")
        wanted, live = history.since(name, end), list[object]()
        while len(live) < len(wanted):
            line = await stream.line()
            if "op" in line:
                live.append((line["seq"], line["op"], line["key"], line.get("by")))
        assert live == wanted


@pytest.mark.parametrize("name", _VIEWS)
async def test_a_subscription_is_of_the_view_from_the_start_and_live(world: Town, history: History, name: str) -> None:
    peer, _ = await world.connect(name)
    subscribed, *told = await peer.ask(Subscribe(1, "notes"))
    assert isinstance(subscribed, Subscribed)
    changes = [change for it in told if isinstance(it, Batch) for change in it.changes]
    assert folded([as_json(change) for change in changes]) == history.records(name)
    assert isinstance(told[-1], CaughtUp)
    assert (told[-1].count, told[-1].digest) == (len(history.records(name)), history.digest(name))
    end = history.changes[-1][0]
    await history.add("v/late", by="owner")
    await history.add("a/late", by="owner")
    live = [change for it in await peer.ask(Fetch(1, "100000")) if isinstance(it, Batch) for change in it.changes]
    assert [(it.seq, it.op, it.key, it.by) for it in live] == history.since(name, end)


@pytest.mark.parametrize("name", _VIEWS)
async def test_records_that_are_fetched_are_of_the_view(world: Town, history: History, name: str) -> None:
    peer, _ = await world.connect(name)
    await peer.ask(Subscribe(1, "notes"))
    fills = [it for it in await peer.ask(Fetch(1, "1-100000")) if isinstance(it, Fill)]
    filled = [as_json(change) for fill in fills for change in fill.changes]
    assert seen(filled) == history.records(name)
    assert fills[-1].last


def as_json(change: Change) -> Mapping[str, Json]:
    """Return a change as routes show it."""
    found: Mapping[str, Json] = msgspec.json.decode(msgspec.json.encode(change))
    return found
