"""Backups that the server makes of itself: on demand, by schedule, rotated, checked before they have a name."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from syncline_protocol.audit import AuditOutcome
from syncline_server.backups import Backup, Backups
from syncline_server.checkup import examine
from syncline_server.log import get_log
from syncline_server.settings import Settings, SettingsError
from syncline_server.storage.base import StorageUnavailable, Unsupported
from syncline_server.storage.memory import MemoryStorage
from syncline_server.storage.sqlite import SqliteStorage
from tests.storage.conftest import add, single
from tests.support.http import HttpApp, http_app

_DAY_MS = 24 * 3600 * 1000


class Office:
    """Backups of a real file, with a clock that a test moves and the tasks that they have begun."""

    def __init__(self, storage: SqliteStorage, folder: Path, *, every_s: float = 0, keep: int = 7) -> None:
        self.now_ms = 1_800_000_000_000
        self.tasks: list[asyncio.Task[None]] = []
        self.noted: list[tuple[str, AuditOutcome]] = []
        self.folder = folder / "backups"
        self.backups = Backups(
            storage,
            self.folder,
            folder / "test.db",
            get_log(),
            now_ms=lambda: self.now_ms,
            spawn=lambda work: self.tasks.append(asyncio.create_task(work)),
            every_s=every_s,
            keep=keep,
            note=self._note,
        )

    async def _note(self, name: str, outcome: AuditOutcome) -> None:
        self.noted.append((name, outcome))

    async def finished(self) -> list[str]:
        """Wait for what was begun. Returns the names of all that are ready, the newest first."""
        while self.tasks:
            await self.tasks.pop()
        return [backup.name for backup in self.backups.all() if backup.state == "ready"]


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    storage = SqliteStorage(tmp_path / "test.db")
    await storage.open()
    await storage.create("notes", 1)
    await storage.append([single(add(f"k{n}")) for n in range(100)], 1)
    yield storage
    await storage.close()


async def test_a_backup_is_there_once_it_was_read_back(storage: SqliteStorage, tmp_path: Path) -> None:
    office = Office(storage, tmp_path)
    begun, is_new = office.backups.begin()
    assert (begun.name, begun.state, is_new) == ("manual-20270115T080000Z.db", "copying", True)
    assert office.backups.get(begun.name) == begun
    assert office.backups.path(begun.name) is None, "it is not ready"
    assert await office.finished() == [begun.name]
    ready = office.backups.get(begun.name)
    assert ready == Backup(begun.name, "manual", "ready", office.now_ms, bytes=ready.bytes if ready else 0)
    path = office.backups.path(begun.name)
    assert path is not None
    assert [finding.text for finding in examine(str(path)) if finding.level == "fail"] == []
    assert [file.name for file in office.folder.iterdir()] == [begun.name]


async def test_one_is_made_at_a_time(storage: SqliteStorage, tmp_path: Path) -> None:
    office = Office(storage, tmp_path)
    first, _ = office.backups.begin()
    assert office.backups.begin() == (office.backups.get(first.name), False)
    await office.finished()
    second, is_new = office.backups.begin()
    assert is_new
    assert second.name != first.name, "also within one second"
    await office.finished()


async def test_a_copy_that_is_not_sound_gets_no_name(storage: SqliteStorage, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "test.db")) as connection:
        connection.execute("UPDATE stores SET digest = 17")
        connection.commit()
    office = Office(storage, tmp_path)
    begun, _ = office.backups.begin(note=office._note)
    assert await office.finished() == []
    failed = office.backups.get(begun.name)
    assert failed is not None
    assert failed.state == "failed"
    assert "the head says 00000011" in failed.error
    assert list(office.folder.iterdir()) == []
    assert office.noted == [(begun.name, "failed")]


async def test_a_disk_without_room_for_it_is_not_filled(
    storage: SqliteStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncline_server.backups._ROOM_BYTES", 2**60)
    office = Office(storage, tmp_path)
    office.backups.begin()
    assert await office.finished() == []
    assert "bytes free" in office.backups.all()[0].error


async def test_a_schedule_makes_what_is_due_and_keeps_the_newest(storage: SqliteStorage, tmp_path: Path) -> None:
    office = Office(storage, tmp_path, every_s=24 * 3600, keep=2)
    office.backups.begin()
    (manual,) = await office.finished()
    office.now_ms += 1000
    names = []
    for day in range(4):
        office.backups.tick()
        assert len(office.tasks) == 1, f"day {day}"
        names.append((await office.finished())[0])
        office.now_ms += _DAY_MS - 1
        office.backups.tick()
        assert office.tasks == []
        office.now_ms += 1
    assert await office.finished() == [names[3], names[2], manual], "what was asked for is not rotated"
    assert office.noted == [(name, "ok") for name in names]


async def test_a_schedule_that_fails_is_tried_again_after_some_minutes(storage: SqliteStorage, tmp_path: Path) -> None:
    office = Office(storage, tmp_path, every_s=3600)
    office.folder.write_text("no directory")
    office.backups.tick()
    assert office.tasks == []
    office.folder.unlink()
    office.backups.tick()
    assert office.tasks == []
    office.now_ms += 300_000
    office.backups.tick()
    assert len(await office.finished()) == 1


async def test_a_schedule_goes_on_after_a_restart_and_what_was_under_way_is_removed(
    storage: SqliteStorage, tmp_path: Path
) -> None:
    office = Office(storage, tmp_path, every_s=3600)
    office.backups.tick()
    (name,) = await office.finished()
    for remnant in (f".{name}.new", f".{name}.new.part", ".manual-20270115T090000Z.db.new"):
        (office.folder / remnant).write_text("half of it")
    (office.folder / "mine.txt").write_text("something else")
    second = Office(storage, tmp_path, every_s=3600)
    second.backups.tidy()
    second.backups.tick()
    assert second.tasks == []
    assert sorted(file.name for file in office.folder.iterdir()) == ["mine.txt", name]


async def test_a_server_that_stops_breaks_a_backup_off(storage: SqliteStorage, tmp_path: Path) -> None:
    office = Office(storage, tmp_path)
    begun, _ = office.backups.begin()
    task = office.tasks.pop()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(office.folder.iterdir()) == []
    failed = office.backups.get(begun.name)
    assert failed is not None
    assert failed.error == "the server was stopped"


async def test_where_there_is_no_directory_there_are_no_backups(tmp_path: Path) -> None:
    backups = Backups(MemoryStorage(), None, None, get_log(), now_ms=lambda: 1, spawn=lambda work: None, every_s=1)
    for ask in (backups.all, backups.begin, lambda: backups.path("x")):
        with pytest.raises(Unsupported):
            ask()
    backups.tick()


async def test_a_directory_that_cannot_be_made_is_named(storage: SqliteStorage, tmp_path: Path) -> None:
    office = Office(storage, tmp_path)
    office.folder.write_text("no directory")
    with pytest.raises(StorageUnavailable, match=r"backups cannot be made"):
        office.backups.begin()


@pytest.mark.parametrize(("name", "value"), [("backup_every_s", -1.0), ("backup_keep", 0)])
def test_settings_that_make_no_sense_are_refused(name: str, value: float) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings(**{name: value})  # type: ignore[arg-type]


# --- by HTTP ---


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[HttpApp]:
    """An application on a file."""
    async with http_app(settings=Settings(store=f"sqlite:///{tmp_path}/test.db", auth="none")) as app:
        for n in range(20):
            await app.put(f"k{n}")
        yield app


async def _make(app: HttpApp) -> str:
    answer = await app.ask("POST", "/v1/backups", b"{}")
    assert answer.status == 202
    name: str = answer.json["name"]
    for _ in range(1000):
        state = (await app.get(f"/v1/backups/{name}")).json
        if state["state"] == "ready":
            return name
        assert state["state"] in ("copying", "checking"), state
        await asyncio.sleep(0.01)
    raise AssertionError("it was never ready")


async def test_a_backup_is_asked_for_looked_at_and_downloaded(app: HttpApp, tmp_path: Path) -> None:
    assert (await app.get("/v1/backups")).json == {"backups": []}
    name = await _make(app)
    (listed,) = (await app.get("/v1/backups")).json["backups"]
    whole = (tmp_path / "backups" / name).read_bytes()
    assert (listed["name"], listed["state"], listed["bytes"]) == (name, "ready", len(whole))
    answer = await app.get(f"/v1/backups/{name}/file")
    assert answer.content == whole
    assert answer.headers["content-length"] == str(len(whole))


async def test_a_download_goes_on_where_it_stopped(app: HttpApp, tmp_path: Path) -> None:
    name = await _make(app)
    whole = (tmp_path / "backups" / name).read_bytes()
    rest = await app.get(f"/v1/backups/{name}/file", Range="bytes=5000-")
    assert (rest.status, rest.content) == (206, whole[5000:])
    assert rest.headers["content-range"] == f"bytes 5000-{len(whole) - 1}/{len(whole)}"
    for other in (f"bytes={len(whole)}-", "bytes=1-2", "bytes=-5", "lines=1-", "bytes=x-"):
        answer = await app.get(f"/v1/backups/{name}/file", Range=other)
        assert (answer.status, answer.content) == (200, whole), other


@pytest.mark.parametrize(
    "name", ["manual-20270115T080000Z.db", "..%2Ftest.db", "test.db", ".manual-20270115T080000Z.db.new", "%00"]
)
async def test_no_other_file_can_be_had(app: HttpApp, name: str) -> None:
    await _make(app)
    (await app.get(f"/v1/backups/{name}")).refused(404, "not_found")
    (await app.get(f"/v1/backups/{name}/file")).refused(404, "not_found")


async def test_a_server_in_memory_says_that_it_cannot() -> None:
    async with http_app() as app:
        for ask in (app.ask("POST", "/v1/backups", b"{}"), app.get("/v1/backups"), app.get("/v1/backups/x/file")):
            (await ask).refused(501, "unsupported")
