"""A whole server by the command line: dumped and loaded, interrupted anywhere; backed up and downloaded."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from syncline.cli import dump_all, load_all, main
from syncline.cli.manifest import note_loaded
from tests.support.live_server import LiveServer

RECORDS = 400


def syncline(server: LiveServer, *arguments: str) -> Result:
    """Run the command line."""
    return CliRunner().invoke(main, ["--url", server.url, *arguments])


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Note after each of many small pieces how far it has come."""
    monkeypatch.setattr(dump_all, "_PAGE_RECORDS", "50")
    monkeypatch.setattr(dump_all, "_NOTE_EVERY_S", 0.0)
    monkeypatch.setattr(load_all, "_PIECE_BYTES", 1000)


@pytest.fixture
def server(live_server: LiveServer) -> LiveServer:
    """A server with three stores, one of them empty, one with settings and an index."""
    for store in ("empty", "left", "right"):
        live_server.create(store)
    with live_server.client() as client:
        client.put("/v1/stores/left/settings", json={"description": "on the left"}).raise_for_status()
        client.put("/v1/stores/left/indexes/room", json={"path": "/room", "kind": "range"}).raise_for_status()
        for store in ("left", "right"):
            ops = [{"op": "ADD", "key": f"k/{n}", "value": {"room": n % 3, "ä": "ö\n"}} for n in range(RECORDS)]
            client.post(f"/v1/stores/{store}/writes", json={"ops": ops, "atomic": False}).raise_for_status()
        client.put("/v1/stores/left/records/precise", content=b"1.000000000000000000001").raise_for_status()
    return live_server


@pytest.fixture
def other(tmp_path: Path) -> Iterator[LiveServer]:
    """Another server."""
    (tmp_path / "other").mkdir()
    with LiveServer(tmp_path / "other") as other:
        yield other


class _Line(msgspec.Struct):
    key: str
    value: msgspec.Raw


def _texts(lines: str) -> dict[str, str]:
    """Return the exact texts of the values, by their keys."""
    found = [msgspec.json.decode(line, type=_Line) for line in lines.splitlines()]
    return {line.key: bytes(line.value).decode() for line in found}


def _records(server: LiveServer, store: str) -> dict[str, str]:
    with server.client() as client:
        return _texts(client.get(f"/v1/stores/{store}/records", headers={"Accept": "application/x-ndjson"}).text)


def _dump(server: LiveServer, folder: Path) -> str:
    done = syncline(server, "dump", "--all", "-o", str(folder))
    assert done.exit_code == 0, done.output
    return done.output


def test_a_whole_server_comes_over_with_settings_and_indexes(
    server: LiveServer, other: LiveServer, tmp_path: Path
) -> None:
    assert "accounts and grants are not in it" in _dump(server, tmp_path / "dump")
    manifest = json.loads((tmp_path / "dump" / "manifest.json").read_text())
    assert [(store["name"], store.get("count", 0), store["is_verified"]) for store in manifest["stores"]] == [
        ("empty", 0, True),
        ("left", RECORDS + 1, True),
        ("right", RECORDS, True),
    ]
    loaded = syncline(other, "load", "--all", str(tmp_path / "dump"))
    assert loaded.exit_code == 0, loaded.output
    assert f"added {2 * RECORDS + 1}, already there 0" in loaded.output
    for store in ("left", "right", "empty"):
        assert _records(other, store) == _records(server, store)
    assert _records(other, "left")["precise"] == "1.000000000000000000001"
    with other.client() as client:
        assert client.get("/v1/stores/left/settings").json()["description"] == "on the left"
        (index,) = client.get("/v1/stores/left/indexes").json()["indexes"]
        assert (index["name"], index["path"], index["kind"]) == ("room", "/room", "range")


def test_a_dump_that_is_interrupted_goes_on_at_the_position_that_it_began_at(
    server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []
    page = dump_all._page

    async def interrupted(*arguments: object) -> object:
        asked.append(arguments[2])  # type: ignore[arg-type]
        if len(asked) == 6:
            raise KeyboardInterrupt
        return await page(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(dump_all, "_page", interrupted)
    before = _records(server, "left")
    assert syncline(server, "dump", "--all", "-o", str(tmp_path / "dump")).exit_code == 130
    assert not (tmp_path / "dump" / "left.ndjson").exists(), "a file has its name when it is whole"
    with server.client() as client:
        client.put("/v1/stores/left/records/later", json=1).raise_for_status()
        client.delete("/v1/stores/left/records/k%2F399").raise_for_status()
    # What came after what was noted last is there a second time until it goes on.
    with (tmp_path / "dump" / ".left.ndjson.part").open("ab") as part:
        part.write(b'{"key":"half of')
    assert "going on" in _dump(server, tmp_path / "dump")
    assert asked[6] == asked[5], "it goes on at the page that did not come"
    assert asked.count(None) == 3, "no store is begun twice"
    assert _texts((tmp_path / "dump" / "left.ndjson").read_text()) == before
    assert sorted(file.name for file in (tmp_path / "dump").iterdir()) == [
        "empty.ndjson", "left.ndjson", "manifest.json", "right.ndjson"
    ]  # fmt: skip


def test_a_dump_goes_on_after_its_store_was_made_anew_by_beginning_it_anew(
    server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = dump_all._page
    asked = 0

    async def interrupted(*arguments: object) -> object:
        nonlocal asked
        asked += 1
        if asked == 4:
            raise KeyboardInterrupt
        return await page(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(dump_all, "_page", interrupted)
    assert syncline(server, "dump", "--all", "-o", str(tmp_path / "dump")).exit_code == 130
    with server.client() as client:
        client.delete("/v1/stores/left").raise_for_status()
        client.put("/v1/stores/left").raise_for_status()
        client.put("/v1/stores/left/records/other", json=1).raise_for_status()
    assert "beginning this store anew" in _dump(server, tmp_path / "dump")
    assert (tmp_path / "dump" / "left.ndjson").read_text() == '{"key":"other","value":1}\n'


def test_a_load_that_is_interrupted_goes_on_where_it_stopped(
    server: LiveServer, other: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _dump(server, tmp_path / "dump")
    noted = 0

    def interrupted(directory: Path, loaded: dict[str, int]) -> bool:
        nonlocal noted
        noted += 1
        if noted == 8:
            raise KeyboardInterrupt
        return note_loaded(directory, loaded)

    monkeypatch.setattr(load_all, "note_loaded", interrupted)
    stopped = syncline(other, "load", "--all", str(tmp_path / "dump"))
    assert stopped.exit_code == 130
    assert "run it again to go on" in stopped.output
    done = syncline(other, "load", "--all", str(tmp_path / "dump"))
    assert done.exit_code == 0, done.output
    present = int(done.output.rpartition("already there ")[2].split()[0])
    assert 0 < present < 100, "only the piece that was not noted comes again"
    for store in ("left", "right"):
        assert _records(other, store) == _records(server, store)
    again = syncline(other, "load", "--all", str(tmp_path / "dump"))
    assert "added 0, already there 0" in again.output


def test_what_is_no_whole_dump_is_refused(server: LiveServer, tmp_path: Path) -> None:
    folder = tmp_path / "dump"
    _dump(server, folder)
    assert "holds a whole dump already" in syncline(server, "dump", "--all", "-o", str(folder)).output
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["stores"][1]["is_done"] = False
    (folder / "manifest.json").write_text(json.dumps(manifest))
    refused = syncline(server, "load", "--all", str(folder))
    assert (refused.exit_code, "is not whole" in refused.output) == (1, True)
    (folder / "manifest.json").write_text("[]")
    assert "is not of a dump" in syncline(server, "load", "--all", str(folder)).output
    (folder / "manifest.json").unlink()
    assert "holds no dump" in syncline(server, "load", "--all", str(folder)).output
    assert "holds no dump" in syncline(server, "dump", "--all", "-o", str(folder)).output


@pytest.mark.parametrize(
    "arguments",
    [("dump", "--all"), ("dump",), ("dump", "notes", "--all", "-o", "x"), ("load", "x"), ("doctor", "--repair")],
)
def test_commands_that_do_not_say_what_they_are_about_are_wrong_usage(
    live_server: LiveServer, arguments: tuple[str, ...]
) -> None:
    assert syncline(live_server, *arguments).exit_code == 2


# --- backups ---


def test_a_backup_is_made_listed_downloaded_and_checked(server: LiveServer, tmp_path: Path) -> None:
    made = syncline(server, "backup", "-o", str(tmp_path / "copy.db"))
    assert made.exit_code == 0, made.output
    (listed,) = syncline(server, "backup", "list", "--json").stdout.splitlines()
    assert json.loads(listed)["state"] == "ready"
    original = tmp_path / "backups" / json.loads(listed)["name"]
    assert (tmp_path / "copy.db").read_bytes() == original.read_bytes()
    checked = syncline(server, "doctor", str(tmp_path / "copy.db"))
    assert checked.exit_code == 0, checked.output
    assert f"ok    left: log: {RECORDS + 1} changes" in checked.output
    refused = syncline(server, "backup", "download", original.name, "-o", str(tmp_path / "copy.db"))
    assert (refused.exit_code, "is there already" in refused.output) == (1, True)


def test_a_download_that_was_broken_off_goes_on(server: LiveServer, tmp_path: Path) -> None:
    name = syncline(server, "backup").stdout.strip()
    original = tmp_path / "backups" / name
    part = tmp_path / f".copy.db.{name}.part"
    part.write_bytes(original.read_bytes()[:9000])
    done = syncline(server, "backup", "download", name, "-o", str(tmp_path / "copy.db"))
    assert done.exit_code == 0, done.output
    assert (tmp_path / "copy.db").read_bytes() == original.read_bytes()
    assert not part.exists()


def test_doctor_says_with_its_exit_code_that_a_file_is_not_sound(server: LiveServer, tmp_path: Path) -> None:
    name = syncline(server, "backup").stdout.strip()
    shutil.copy(tmp_path / "backups" / name, tmp_path / "copy.db")
    with (tmp_path / "copy.db").open("r+b") as file:
        file.seek(5 * 4096)
        file.write(b"\xff" * 4096)
    found = syncline(server, "doctor", str(tmp_path / "copy.db"))
    assert found.exit_code == 1
    assert "\nfail  " in found.output
    refused = syncline(server, "restore", str(tmp_path / "copy.db"), "--store", f"sqlite:///{tmp_path}/fresh.db")
    assert refused.exit_code == 1
    assert "is not sound" in refused.output
    assert not (tmp_path / "fresh.db").exists()
