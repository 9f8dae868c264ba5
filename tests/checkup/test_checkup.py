"""Each way in which a store file can be wrong is found and named; what is derived is repaired, the log is not."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from syncline_protocol.index import IndexSpec
from syncline_server.checkup import Finding, examine
from syncline_server.storage.base import Horizon
from syncline_server.storage.sqlite import SqliteStorage
from tests.storage.conftest import add, delete, single, write

_NAME = "notes"


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A sound file: authors, transactions, deletes, an index, a store that was cleaned up, one that was dropped."""
    path = tmp_path / "test.db"
    storage = SqliteStorage(path)
    await storage.open()
    for store in (_NAME, "cleaned", "dropped", "empty"):
        await storage.create(store, 1)
    await storage.create_index(_NAME, IndexSpec("room", "/room", "equality"), 1)
    for store in (_NAME, "cleaned"):
        values = [{"room": f"r{n % 7}", "n": n} for n in range(300)]
        adds = [single(add(f"k{n}", value), store, by=f"user:{n % 3}") for n, value in enumerate(values)]
        await storage.append(adds, 1)
        await storage.append([write(delete(f"k{n}"), add(f"n{n}", {"room": "new"}), store=store) for n in range(90)], 2)
    cleaned = (await storage.info("cleaned")).head.seq
    while not (await storage.compact("cleaned", Horizon(cleaned, cleaned), 1.0)).is_done:
        pass
    await storage.drop("dropped")
    await storage.close()
    return path


def _look(path: Path, *, must_repair: bool = False) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {"ok": [], "warn": [], "fail": []}
    for finding in examine(str(path), must_repair=must_repair):
        found[finding.level].append(finding)
    return found


def _spoil(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        (store,) = connection.execute("SELECT id FROM stores WHERE name = ?", (_NAME,)).fetchone()
        (index,) = connection.execute("SELECT id FROM indexes").fetchone()
        for statement in statements:
            changed = connection.execute(statement.format(store=store, index=index)).rowcount
            assert changed != 0, f"{statement} spoilt nothing"
        connection.commit()


def test_a_sound_file_has_no_faults(path: Path) -> None:
    found = _look(path)
    assert found["fail"] == []
    texts = "\n".join(finding.text for finding in found["ok"])
    assert "notes: log: 480 changes up to 480" in texts
    assert "notes: index room" in texts
    assert "cleaned: floors: history" in texts


#: What is done to the log or to what cannot be worked out from it, and what is said of it.
_DAMAGE = {
    "a row is missing": ("DELETE FROM log_{store} WHERE seq = 200", "the log has"),
    "the last row is missing": ("DELETE FROM log_{store} WHERE seq = 480", "the head says 480"),
    "a text is another's": (
        "UPDATE log_{store} SET change = (SELECT change FROM log_{store} WHERE seq = 201) WHERE seq = 200",
        "change 200 says that it is change 201",
    ),
    "a text is no JSON": ("UPDATE log_{store} SET change = 'oops' WHERE seq = 200", "change 200 cannot be read"),
    "a value was altered": (
        """UPDATE log_{store} SET change = replace(change, '199}}', '198}}') WHERE seq = 200""",
        "the value of record 200",
    ),
    "a transaction ends in another": ("UPDATE log_{store} SET last_seq = 303 WHERE seq = 301", "is inside of"),
    "a partner is wrong": ("UPDATE log_{store} SET partner = 7 WHERE seq = 301", "deletes record"),
    "a dead record came back": ("UPDATE log_{store} SET partner = NULL WHERE seq = 1", "record 1 was deleted by"),
    "a used key is missing": ("DELETE FROM keys_{store} WHERE add_seq = 200", "belong to no used key"),
    "a used key is another's": ("UPDATE keys_{store} SET add_seq = 201 WHERE add_seq = 200", "two used keys"),
    "a used key has another hash": ("UPDATE keys_{store} SET hash = x'00' WHERE add_seq = 200", "is not the one"),
    "an author was altered": ("UPDATE keys_{store} SET author = 'user:x' WHERE add_seq = 200", "two authors"),
    "a head is ahead": ("UPDATE stores SET head_seq = head_seq + 1 WHERE id = {store}", "the head says 481"),
    "the lineage does not begin at 0": ("UPDATE lineage SET first_seq = 1 WHERE store = {store}", "begins at 1"),
    "the floors are upside down": ("UPDATE stores SET tombstone_floor = 9 WHERE id = {store}", "floors"),
    "terms of a DELETE are wrong": (
        "UPDATE log_{store} SET terms = (SELECT terms FROM log_{store} WHERE seq = 303) WHERE seq = 301",
        "the terms of change 301",
    ),
    "a table is missing": ("DROP TABLE keys_{store}", "are not there"),
}


@pytest.mark.parametrize("damage", _DAMAGE)
def test_damage_is_found_and_not_repaired(path: Path, damage: str) -> None:
    statement, said = _DAMAGE[damage]
    _spoil(path, statement)
    before = _contents(path)
    found = _look(path, must_repair=True)
    assert any(said in finding.text for finding in found["fail"]), found["fail"]
    assert all(finding.todo for finding in found["fail"])
    assert _contents(path)["log"] == before["log"], "the log is never written to"
    assert _look(path)["fail"], "what cannot be worked out again is still wrong"


#: What is done to what is derived, and what is said of it.
_DERIVED = {
    "count": ("UPDATE stores SET live_count = live_count + 1 WHERE id = {store}", "the head says 301 records"),
    "digest": ("UPDATE stores SET digest = 17 WHERE id = {store}", "the head says 00000011"),
    "sizes": ("UPDATE stores SET dead_values = 3, live_bytes = 9 WHERE id = {store}", "dead_values is 90, kept is 3"),
    "a bit too many": ("UPDATE gone_{store} SET bits = zeroblob(1024)", "180 seqs are taken"),
    "bits are missing": ("DELETE FROM gone_{store}", "180 seqs are taken"),
    "bits behind the head": ("INSERT INTO gone_{store} VALUES (9, zeroblob(1024))", "1 pieces lie behind the head"),
    "usage": ("UPDATE usage_{store} SET records = 1 WHERE author = 'user:1'", "user:1 keeps 70 records"),
    "usage is missing": ("DELETE FROM usage_{store}", "user:0 keeps 70 records"),
    "a term is missing": ("DELETE FROM index_{index} WHERE seq = 200", "it has 299 terms"),
    "a term is wrong": ("UPDATE index_{index} SET term = x'0541' WHERE seq = 200", "they are not the same"),
}


@pytest.mark.parametrize("part", _DERIVED)
async def test_what_is_derived_is_repaired(path: Path, part: str) -> None:
    sound = _contents(path)
    statement, said = _DERIVED[part]
    _spoil(path, statement)
    found = _look(path)
    assert [finding for finding in found["fail"] if said in finding.text], found["fail"]
    assert all("--repair" in finding.todo for finding in found["fail"])
    repaired = _look(path, must_repair=True)
    assert repaired["fail"] == []
    assert any("repaired" in finding.text for finding in repaired["ok"])
    assert _look(path)["fail"] == []
    await _let_the_server_build(path)
    assert _look(path)["fail"] == []
    assert _contents(path) == sound


async def _let_the_server_build(path: Path) -> None:
    storage = SqliteStorage(path)
    await storage.open()
    while (await storage.build_index(_NAME, "room", 1.0)).state != "ready":
        pass
    await storage.close()


def _contents(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return everything of the store that a repair may or must not touch."""
    with closing(sqlite3.connect(path)) as connection:
        (store,) = connection.execute("SELECT id FROM stores WHERE name = ?", (_NAME,)).fetchone()
        (index,) = connection.execute("SELECT id FROM indexes").fetchone()
        queries = {
            "head": "SELECT * FROM stores",
            "log": f"SELECT * FROM log_{store}",
            "gone": f"SELECT * FROM gone_{store}",
            "usage": f"SELECT * FROM usage_{store}",
            "index": f"SELECT * FROM index_{index}",
        }
        return {name: connection.execute(query).fetchall() for name, query in queries.items()}


# --- files that cannot be looked at ---


def _cut(path: Path) -> None:
    text = path.read_bytes()
    path.write_bytes(text[: len(text) // 2])


def _scribble(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(8 * 4096 + 100)
        file.write(b"\xff" * 4096)


@pytest.mark.parametrize("ruin", [_cut, _scribble, lambda path: path.write_bytes(b"no database at all" * 99)])
def test_a_ruined_file_is_a_finding_and_no_crash(path: Path, ruin: Callable[[Path], object]) -> None:
    ruin(path)
    assert _look(path)["fail"]


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert "cannot be opened" in _look(tmp_path / "gone.db")["fail"][0].text
    assert not (tmp_path / "gone.db").exists()


def test_the_file_of_another_program_is_known_as_such(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE t(x)")
    (finding,) = _look(tmp_path / "other.db")["fail"]
    assert "another program" in finding.text


def test_a_newer_format_is_refused(path: Path) -> None:
    _spoil(path, "UPDATE meta SET value = 99 WHERE name = 'format'")
    (finding,) = _look(path)["fail"]
    assert "its format is 99" in finding.text


def test_tables_that_belong_to_nobody_are_named(path: Path) -> None:
    _spoil(path, "CREATE TABLE log_77(x)")
    assert any("log_77" in finding.text for finding in _look(path)["warn"])


# --- beside a server ---


async def test_a_file_that_is_served_is_looked_at_but_not_repaired(path: Path) -> None:
    storage = SqliteStorage(path)
    await storage.open()
    try:
        assert _look(path)["fail"] == []
        (finding,) = _look(path, must_repair=True)["fail"]
        assert "is served by process" in finding.text
    finally:
        await storage.close()


def test_progress_is_told_up_to_the_end(path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    list(examine(str(path), progress=lambda *progress: told.append(progress)))
    assert ("notes: log", 480, 480) in told
    assert ("notes: used keys", 480, 480) in told
