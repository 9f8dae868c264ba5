"""Real input: a week of earthquakes is loaded while 100 subscribers follow, and the server is killed in the middle."""

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

import syncline
from tests.support.live_server import LiveServer

EVENTS = Path(__file__).parents[2] / "server" / "syncline_server" / "data" / "earthquakes.ndjson"
SUBSCRIBERS = 100


class Event(msgspec.Struct):
    """One line of the data."""

    key: str
    value: msgspec.Raw


class Logged(msgspec.Struct):
    """A change as the log keeps it."""

    seq: int
    op: str
    key: str
    value: msgspec.Raw


def events() -> list[Event]:
    """Return the recorded events."""
    return [msgspec.json.decode(line, type=Event) for line in EVENTS.read_bytes().splitlines()]


def log_of(file: Path) -> Iterator[tuple[int, str, str, str]]:
    """Read the log by a second way: the file itself, with plain SQL."""
    with sqlite3.connect(file) as database:
        (store_id,) = database.execute("SELECT id FROM stores WHERE name = 'quakes'").fetchone()
        for (text,) in database.execute(f"SELECT change FROM log_{store_id} ORDER BY seq"):
            change = msgspec.json.decode(text, type=Logged)
            yield change.seq, change.op, change.key, bytes(change.value).decode()
    database.close()


async def follow(url: str, last_seq: int) -> list[tuple[int, str, str, str | None]]:
    """Subscribe from the start and return what came, up to `last_seq`."""
    seen: list[tuple[int, str, str, str | None]] = []
    async with syncline.connect(url) as client:
        async for change in client.subscribe("quakes", after="start"):
            seen.append((change.seq, change.op, change.key, change.text))
            if change.seq == last_seq:
                return seen
    raise AssertionError("the subscription ended")


async def load(url: str, server: LiveServer, data: list[Event]) -> None:
    """Add every event, many at a time; kill the server after a third, and start it again."""
    async with syncline.connect(url) as client:
        slots = asyncio.Semaphore(64)

        async def add(event: Event) -> None:
            async with slots:
                written = await client.add("quakes", syncline.Json(bytes(event.value).decode()), event.key)
                assert written.status in ("ok", "dup")

        third = len(data) // 3
        await asyncio.gather(*[add(event) for event in data[:third]])
        rest = [asyncio.create_task(add(event)) for event in data[third:]]
        await rest[100]
        await asyncio.to_thread(server.restart, kill=True)
        await asyncio.gather(*rest)


async def test_every_subscriber_has_exactly_the_log_although_the_server_was_killed(tmp_path: Path) -> None:
    data = events()
    with LiveServer(tmp_path) as server:
        server.create("quakes")
        async with asyncio.timeout(90):
            followers = [asyncio.create_task(follow(server.url, len(data))) for _ in range(SUBSCRIBERS)]
            await load(server.url, server, data)
            received = await asyncio.gather(*followers)
        server.terminate()
        log = list(log_of(tmp_path / "syncline.db"))
    assert [seq for seq, *_ in log] == list(range(1, len(data) + 1))
    assert {(key, value) for _, _, key, value in log} == {(e.key, bytes(e.value).decode()) for e in data}
    for seen in received:
        assert seen == log
