"""A server under load is backed up again and again, and set back to a backup under its clients (P6, P9).

The backups come from the server itself, are checked by `syncline doctor`, and are put in place by `syncline restore`,
as an operator does it. Whoever is ahead of the backup is told so, however the restored server went on before he came;
the changes that it does not have come back from the clients that have them.
"""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

import syncline
from syncline import Client, Replica
from syncline.clock import Clock
from tests.support.live_server import LiveServer
from tests.support.raw_socket import RawSocket

BACKUPS = 5
WRITERS = 6

Rows = list[tuple[int, str]]


class _QuickClock(Clock):
    """The real clock of a client that comes back soon."""

    def random(self) -> float:
        return 0.03


def _syncline(server: LiveServer, *arguments: str, code: int = 0) -> str:
    """Run a command as an operator does. Returns its output."""
    command = [sys.executable, "-c", "from syncline.cli import main; main()", "--url", server.url, *arguments]
    done = subprocess.run(command, cwd=server.directory, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def _back_up(server: LiveServer) -> Path:
    """Let the server make a backup. Returns the file."""
    return server.directory / "backups" / _syncline(server, "backup").strip()


def _restore(server: LiveServer, backup: Path) -> None:
    """Stop the server, put the backup in its place, start it again."""
    server.kill()
    _syncline(server, "restore", str(backup), "--store", server.store)
    server.start()


def _log(path: Path, store: str) -> Rows:
    with closing(sqlite3.connect(path)) as connection:
        (id_,) = connection.execute("SELECT id FROM stores WHERE name = ?", (store,)).fetchone()
        return connection.execute(f"SELECT seq, change FROM log_{id_} ORDER BY seq").fetchall()


async def _write_on(client: Client, writer: int) -> None:
    """Write to two stores until cancelled: adds, replacements, deletes."""
    number = 0
    while True:
        for store in ("left", "right"):
            key = f"w{writer}.{number}"
            await client.add(store, {"writer": writer, "text": "x" * 200}, key)
            if number % 3 == 2:
                await client.delete(store, f"w{writer}.{number - 1}")
        number += 1


# --- under load ---


async def test_every_backup_of_a_server_under_load_is_sound_and_a_prefix_of_its_logs(live_server: LiveServer) -> None:
    for store in ("left", "right"):
        live_server.create(store)
    async with syncline.connect(live_server.url) as client:
        writers = [asyncio.create_task(_write_on(client, number)) for number in range(WRITERS)]
        backups = [await asyncio.to_thread(_back_up, live_server) for _ in range(BACKUPS)]
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
    live_server.terminate()
    ends: list[int] = []
    for backup in backups:
        _syncline(live_server, "doctor", str(backup))
        for store in ("left", "right"):
            copied, original = _log(backup, store), _log(live_server.directory / "syncline.db", store)
            assert copied == original[: len(copied)]
        ends.append(len(_log(backup, "left")))
    assert ends == sorted(set(ends)), "something was written between any two of them"
    assert len(_log(live_server.directory / "syncline.db", "left")) > ends[-1] > 0
    _syncline(live_server, "doctor", "syncline.db")


def test_a_server_that_is_killed_during_a_backup_has_the_older_ones_and_no_half_of_it(live_server: LiveServer) -> None:
    live_server.create("notes")
    with live_server.client() as client:
        for part in range(20):
            ops = [{"op": "ADD", "key": f"{part}.{n}", "value": "x" * 2000} for n in range(200)]
            client.post("/v1/stores/notes/writes", json={"ops": ops, "atomic": False}).raise_for_status()
    first = _back_up(live_server)
    with live_server.client() as client:
        client.post("/v1/backups").raise_for_status()
    live_server.restart(kill=True)
    with live_server.client() as client:
        for backup in client.get("/v1/backups").json()["backups"]:
            assert backup["state"] == "ready"
            _syncline(live_server, "doctor", f"backups/{backup['name']}")
    assert first.exists()
    assert [file.name for file in first.parent.iterdir() if file.name.startswith(".")] == []


# --- clients that are ahead ---


def _subscribe(server: LiveServer, after: str, known: str) -> dict[str, Any]:
    with RawSocket(server.port) as socket:
        socket.send({"type": "SUBSCRIBE", "id": 1, "store": "notes", "after": after, "known": known})
        return socket.receive_until("SUBSCRIBED")[-1]


def _store(client: httpx2.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/v1/stores/notes").raise_for_status().json()
    return found


@contextmanager
def _set_back(server: LiveServer) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A server whose store had 3 records in a backup, and 7 when it was set back. Yields the backup, and the store."""
    server.create("notes")
    with server.client() as client:
        for n in range(3):
            client.put(f"/v1/stores/notes/records/k{n}", json=n).raise_for_status()
        backup = _back_up(server)
        for n in range(3, 7):
            client.put(f"/v1/stores/notes/records/k{n}", json=n).raise_for_status()
        ahead = _store(client)
    _restore(server, backup)
    yield backup, ahead


def test_who_is_ahead_of_the_backup_is_told_to_rewind_to_it(live_server: LiveServer) -> None:
    with _set_back(live_server) as (_, ahead):
        answer = _subscribe(live_server, ahead["head"], ahead["lineage"])
        assert (answer["how"], answer["keep_to"]) == ("rewind", 3)


def test_who_is_ahead_rewinds_also_if_the_server_went_on_and_was_started_again_before_he_came(
    live_server: LiveServer,
) -> None:
    with _set_back(live_server) as (backup, ahead):
        for again in range(3):
            with live_server.client() as client:
                # As many changes as he has seen above the backup, and one more: his seq is a seq of the store again.
                for n in range(5):
                    client.put(f"/v1/stores/notes/records/new{again}.{n}", json=n).raise_for_status()
                head = _store(client)["head"]
            assert head != ahead["head"]
            answer = _subscribe(live_server, ahead["head"], ahead["lineage"])
            assert (answer["how"], answer["keep_to"]) == ("rewind", 3), again
            live_server.restart(kill=again == 1)
        # A second restore of the same backup forgets the changes of the first one too.
        with live_server.client() as client:
            between = _store(client)
        _restore(live_server, backup)
        for seen in (ahead, between):
            answer = _subscribe(live_server, seen["head"], seen["lineage"])
            assert (answer["how"], answer["keep_to"]) == ("rewind", 3)


def test_who_is_not_ahead_of_the_backup_resumes(live_server: LiveServer) -> None:
    with _set_back(live_server) as (_, ahead):
        lineage: str = ahead["lineage"]
        at = f"{lineage.partition('@')[0]}:2"
        assert _subscribe(live_server, at, lineage)["how"] == "resume"


# --- what the server lost ---


@asynccontextmanager
async def _replica(server: LiveServer) -> Any:
    async with syncline.connect(server.url, wait=False, clock=_QuickClock()) as client:
        yield await client.replica("notes", create=True)


async def _fill(replica: Replica, name: str) -> set[str]:
    keys = {f"{name}.{n}" for n in range(20)}
    for key in sorted(keys):
        await replica.add({"by": name}, key)
    await replica.flush(30)
    return keys


async def _has(replica: Replica, keys: set[str]) -> None:
    async with asyncio.timeout(60):
        while not keys <= {record.key for record in replica}:
            await asyncio.sleep(0.02)


async def _keys(server: LiveServer) -> set[str]:
    async with syncline.connect(server.url) as client:
        return {record.key async for record in client.records("notes")}


@pytest.mark.parametrize("is_written_to_before", [False, True])
async def test_a_server_set_back_to_a_backup_ends_with_everything_that_any_client_still_had(
    live_server: LiveServer, is_written_to_before: bool
) -> None:
    async with _replica(live_server) as one, _replica(live_server) as two:
        kept = await _fill(one, "one before") | await _fill(two, "two before")
        backup = await asyncio.to_thread(_back_up, live_server)
        lost = await _fill(one, "one after") | await _fill(two, "two after")
        # Of one who has no replica and never comes back: only the others have it.
        async with syncline.connect(live_server.url) as stranger:
            for n in range(20):
                await stranger.add("notes", {"by": "stranger"}, f"stranger.{n}")
        lost |= {f"stranger.{n}" for n in range(20)}
        for replica in (one, two):
            await _has(replica, kept | lost)
        await asyncio.to_thread(_restore, live_server, backup)
        new: set[str] = set()
        if is_written_to_before:
            async with syncline.connect(live_server.url) as stranger:
                await stranger.add("notes", 1, "new")
            new = {"new"}
        async with asyncio.timeout(90):
            while await _keys(live_server) != kept | lost | new:
                await asyncio.sleep(0.1)
        for replica in (one, two):
            await _has(replica, kept | lost | new)
            await replica.flush(30)
            assert len(replica) == len(kept | lost | new)
    live_server.terminate()
    await asyncio.to_thread(_syncline, live_server, "doctor", "syncline.db")
