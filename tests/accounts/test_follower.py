"""Several processes on one storage, restarts, failures, and logs that are not what they were."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from syncline_protocol.cursor import Seq
from syncline_protocol.transaction import Transaction
from syncline_server.access.principal import Principal
from syncline_server.accounts.entry import ACCOUNTS
from syncline_server.accounts.plans.users import UserChange
from syncline_server.accounts.registry import Registry
from syncline_server.committer import Answer
from syncline_server.storage.base import Chunk, Horizon, StorageUnavailable
from syncline_server.storage.memory import MemoryStorage
from syncline_server.storage.sqlite import SqliteStorage

from .office import Office, Process, refusal


@pytest.fixture
async def pair(office: Office) -> tuple[Process, Process]:
    """Two processes, of which the first has made `root`, an administrator, and `ada`."""
    first = await office.process()
    await first.directory.add_first_admin("root", "hash")
    await first.directory.add_user("ada")
    return first, await office.process()


# --- one process ---


async def test_what_is_revoked_is_gone_when_the_call_returns_and_listeners_saw_it_before(process: Process) -> None:
    directory = process.directory
    await directory.add_user("ada")
    secret = await process.login("ada")
    seen: list[str | None] = []
    directory.listeners.append(lambda: seen.append(process.who(secret)))
    await directory.change_user("ada", UserChange(is_disabled=True))
    assert seen == ["UNKNOWN"]


async def test_a_commit_is_taken_in_the_turn_in_which_it_is_published(office: Office, process: Process) -> None:
    await process.directory.add_user("ada")
    reads = 0

    async def read(*args: object, **kwargs: object) -> Chunk:
        nonlocal reads
        reads += 1
        raise AssertionError

    office.storage.read = read  # type: ignore[method-assign]
    await process.directory.change_user("ada", UserChange(title="x"))
    assert reads == 0


async def test_changes_of_one_process_never_race(process: Process) -> None:
    directory = process.directory
    await directory.add_user("ada")
    await directory.put_group("staff")
    names = [f"u{number}" for number in range(20)]
    for name in names:
        await directory.add_user(name)
    writes = process.writes
    await asyncio.gather(*(directory.add_member("staff", name) for name in names))
    assert process.writes == writes + 20
    assert set(directory.registry.groups["staff"].members) == set(names)


async def test_a_restart_finds_everything(office: Office, pair: tuple[Process, Process]) -> None:
    first, _ = pair
    secret = await first.login("ada")
    await first.directory.put_group("staff", ["ada"])
    await first.directory.change_user("ada", UserChange(title="x"))
    await office.storage.close()
    await office.storage.open()
    again = await office.process()
    assert again.directory.registry._entries == first.directory.registry._entries
    assert again.who(secret) == "ada"
    await again.directory.change_user("ada", UserChange(title="y"))
    await first.directory.catch_up()
    assert first.directory.registry.users["ada"].title == "y"


# --- clean-up ---


async def _clean_up(office: Office) -> None:
    """Drop everything that can be dropped from the log of the accounts."""
    head = (await office.storage.info(ACCOUNTS)).head.seq
    while not (await office.storage.compact(ACCOUNTS, Horizon(head, head), 1.0)).is_done:
        pass


async def test_after_clean_up_a_restart_finds_everything(office: Office, pair: tuple[Process, Process]) -> None:
    first, _ = pair
    secret = await first.login("ada")
    for title in ("x", "y", "z"):
        await first.directory.change_user("ada", UserChange(title=title))
    await first.directory.put_group("staff", ["ada"])
    await first.directory.delete_group("staff")
    await _clean_up(office)
    assert (await office.storage.info(ACCOUNTS)).floors.tombstones > 0
    await office.storage.close()
    await office.storage.open()
    again = await office.process()
    assert again.who(secret) == "ada"
    assert again.directory.registry.users["ada"].title == "z"
    assert not again.directory.registry.groups


async def test_a_loss_whose_delete_was_cleaned_away_is_a_loss_for_who_had_not_read_it(
    office: Office, pair: tuple[Process, Process]
) -> None:
    first, second = pair
    secret = await first.login("ada")
    await second.directory.catch_up()
    assert second.who(secret) == "ada"
    await first.directory.put_group("staff", ["ada"])
    await first.directory.delete_user("ada")
    # The newest row of a log is always kept, so another change has to come for the DELETE to go.
    await first.directory.add_user("eve")
    await _clean_up(office)
    await second.directory.catch_up()
    assert second.who(secret) != "ada"
    assert "ada" not in second.directory.registry.users


# --- rivals ---


async def test_another_process_sees_a_change_when_it_looks(pair: tuple[Process, Process]) -> None:
    first, second = pair
    secret = await first.login("ada")
    assert second.who(secret) == "UNKNOWN"
    await second.directory.catch_up()
    assert second.who(secret) == "ada"
    told = second.told
    await first.directory.delete_user("ada")
    assert second.who(secret) == "ada"
    await second.directory.catch_up()
    assert (second.who(secret), second.told) == ("UNKNOWN", told + 1)
    await second.directory.catch_up()
    assert second.told == told + 1, "nothing new, nobody told"


async def test_a_commit_behind_those_of_another_process_asks_for_a_look(pair: tuple[Process, Process]) -> None:
    first, second = pair
    await first.directory.add_user("bob")
    assert not second.directory.is_behind
    await second.directory.add_user("cleo")
    assert not second.directory.is_behind, "whoever changes something has looked before he returns"
    assert set(second.directory.registry.users) == {"root", "ada", "bob", "cleo"}


async def test_a_gap_is_known_as_one(pair: tuple[Process, Process]) -> None:
    first, second = pair
    for title in ("missed", "published"):
        await second.directory.change_user("ada", UserChange(title=title))
    first.directory.extend(second.commits[-1])
    assert first.directory.is_behind
    assert first.directory.registry.users["ada"].title == ""
    await first.directory.catch_up()
    assert not first.directory.is_behind
    assert first.directory.registry.users["ada"].title == "published"
    first.directory.extend(second.commits[-1])
    assert not first.directory.is_behind, "what was read already is no gap"


async def test_rivals_that_make_one_name_make_it_once(office: Office, pair: tuple[Process, Process]) -> None:
    first, second = pair
    first.before_write = lambda: second.directory.add_user("bob", password_hash="theirs")
    assert await refusal(first.directory.add_user("bob", password_hash="ours")) == "name_taken"
    assert first.directory.registry.users["bob"].password_hash == "theirs"


async def test_a_name_that_a_rival_made_and_deleted_is_used(office: Office, pair: tuple[Process, Process]) -> None:
    first, second = pair

    async def rival() -> None:
        await second.directory.add_user("bob")
        await second.directory.delete_user("bob")

    first.before_write = rival
    assert await refusal(first.directory.add_user("bob")) == "name_taken"
    assert "bob" not in first.directory.registry.users


async def test_nothing_that_a_rival_wrote_is_overwritten(pair: tuple[Process, Process]) -> None:
    first, second = pair
    first.before_write = lambda: second.directory.change_user("ada", UserChange(title="theirs"))
    await first.directory.change_user("ada", UserChange(password_hash="ours"))
    user = first.directory.registry.users["ada"]
    assert (user.title, user.password_hash) == ("theirs", "ours")


async def test_rivals_that_say_the_same_both_succeed(pair: tuple[Process, Process]) -> None:
    first, second = pair
    first.before_write = lambda: second.directory.change_user("ada", UserChange(is_disabled=True))
    assert (await first.directory.change_user("ada", UserChange(is_disabled=True))).is_disabled
    token, _ = await first.directory.add_token("root", "x")
    await second.directory.catch_up()
    first.before_write = lambda: second.directory.revoke_token(token.id)
    assert await first.directory.revoke_token(token.id) == token
    assert token.id not in first.directory.registry.tokens


async def test_two_administrators_cannot_take_it_from_each_other_at_once(pair: tuple[Process, Process]) -> None:
    first, second = pair
    for _ in range(2):
        await first.directory.change_user("ada", UserChange(is_admin=True))
        await second.directory.catch_up()
        first.before_write = lambda: second.directory.change_user("root", UserChange(is_admin=False))
        assert await refusal(first.directory.change_user("ada", UserChange(is_admin=False))) == "forbidden"
        assert first.directory.registry.is_last_admin("ada")
        await first.directory.change_user("root", UserChange(is_admin=True))
        await second.directory.catch_up()


async def test_two_processes_cannot_both_make_the_first_administrator(office: Office) -> None:
    first, second = await office.process(), await office.process()
    first.before_write = lambda: second.directory.add_first_admin("eve", "h")
    assert await refusal(first.directory.add_first_admin("ada", "h")) == "forbidden"
    assert set(first.directory.registry.users) == {"eve"}


async def test_the_last_use_of_an_invitation_goes_to_one(pair: tuple[Process, Process]) -> None:
    first, second = pair
    _, code = await first.directory.add_invitation("notes", "reader", by=None, uses_max=1)
    await second.directory.catch_up()
    first.before_write = lambda: second.directory.accept_invitation(code, "root")
    assert await refusal(first.directory.accept_invitation(code, "ada")) == "invitation_invalid"
    assert [grant.to for grant in first.directory.registry.grants.values()] == ["user:root"]


async def test_a_deletion_takes_along_what_a_rival_has_just_given(pair: tuple[Process, Process]) -> None:
    first, second = pair
    await first.directory.put_group("staff")
    await second.directory.catch_up()
    first.before_write = lambda: second.directory.add_member("staff", "ada")
    await first.directory.put_group("staff", ["root"])
    assert first.directory.registry.groups["staff"].members == ("root",)


async def test_who_always_loses_is_told_so(pair: tuple[Process, Process]) -> None:
    first, second = pair
    titles = iter(range(100))

    async def rival() -> None:
        first.before_write = rival
        await second.directory.change_user("ada", UserChange(title=str(next(titles))))

    first.before_write = rival
    assert await refusal(first.directory.change_user("ada", UserChange(title="ours"))) == "overloaded"
    first.before_write = None
    await first.directory.change_user("ada", UserChange(title="ours"))


async def test_uses_are_noted_past_a_token_that_a_rival_revokes(pair: tuple[Process, Process]) -> None:
    first, second = pair
    kept, _ = await first.directory.add_token("ada", "x")
    gone, _ = await first.directory.add_token("ada", "y")
    await second.directory.catch_up()
    for token in (kept, gone):
        first.directory.note_use(token.id)
    first.before_write = lambda: second.directory.revoke_token(gone.id)
    await first.directory.write_uses()
    assert first.directory.registry.tokens[kept.id].used_ms is not None
    assert gone.id not in first.directory.registry.tokens


async def test_a_commit_that_comes_during_a_read_is_not_mixed_up_with_it(
    office: Office, pair: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = pair
    for title in "abc":
        await second.directory.change_user("ada", UserChange(title=title))
    read, reads = office.storage.read, 0

    async def slow(store: str, after: Seq, upto: Seq) -> Chunk:
        nonlocal reads
        reads += 1
        chunk = await read(store, after, upto)
        for commit in second.commits if reads == 1 else ():
            # Published while a chunk is on its way that leaves out what they have added and deleted again.
            first.directory.extend(commit)
        return chunk

    monkeypatch.setattr(office.storage, "read", slow)
    await first.directory.catch_up()
    assert reads == 1
    assert first.directory.registry._entries == second.directory.registry._entries


# --- logs that are not what they were ---


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[tuple[Office, Path]]:
    """An office on a file."""
    path = tmp_path / "accounts.db"
    storage = SqliteStorage(path)
    await storage.open()
    yield Office(storage), path
    await storage.close()


async def _restore(office: Office, path: Path, copy: Path) -> None:
    await office.storage.close()
    for old in path.parent.glob(path.name + "*"):
        old.unlink()
    shutil.copy(copy, path)
    await office.storage.open()


async def _backup(office: Office, path: Path, copy: Path) -> None:
    await office.storage.close()
    shutil.copy(path, copy)
    await office.storage.open()


async def test_an_older_copy_takes_back_what_came_later(files: tuple[Office, Path], tmp_path: Path) -> None:
    office, path = files
    process = await office.process()
    await process.directory.add_first_admin("root", "h")
    old = await process.login("root")
    await _backup(office, path, tmp_path / "copy.db")
    new = await process.login("root")
    await process.directory.add_user("eve", is_admin=True)
    version = process.directory.registry.version
    await _restore(office, path, tmp_path / "copy.db")
    assert process.who(new) == "root", "nobody has looked yet"
    await process.directory.catch_up()
    assert (process.who(old), process.who(new)) == ("root", "UNKNOWN")
    assert set(process.directory.registry.users) == {"root"}
    assert process.directory.registry.version > version


async def test_an_older_copy_that_has_grown_past_what_was_known_is_found_too(
    files: tuple[Office, Path], tmp_path: Path
) -> None:
    office, path = files
    process = await office.process()
    await process.directory.add_first_admin("root", "h")
    await _backup(office, path, tmp_path / "copy.db")
    await process.directory.add_user("eve")
    await _restore(office, path, tmp_path / "copy.db")
    other = await office.process()
    for name in ("ada", "bob", "cleo"):
        await other.directory.add_user(name)
    assert await office.head() > 3
    await process.directory.add_user("dora")
    assert set(process.directory.registry.users) == {"root", "ada", "bob", "cleo", "dora"}


async def test_a_store_that_was_made_anew_leaves_nobody_anything(office: Office, process: Process) -> None:
    await process.directory.add_first_admin("root", "h")
    secret = await process.login("root")
    await office.storage.drop(ACCOUNTS)
    await process.directory.catch_up()
    assert process.who(secret) == "UNKNOWN"
    assert not process.directory.registry.has_admin
    await process.directory.add_first_admin("root", "h")


async def test_a_change_that_meets_a_store_made_anew_is_decided_anew(office: Office, process: Process) -> None:
    await process.directory.add_first_admin("root", "h")
    await office.storage.drop(ACCOUNTS)
    await office.storage.create(ACCOUNTS, office.now_ms)
    assert await refusal(process.directory.delete_user("root")) in ("account_unknown", "forbidden")
    await process.directory.catch_up()
    assert await refusal(process.directory.change_user("root", UserChange(title="x"))) == "account_unknown"


async def test_while_a_log_that_was_replaced_is_read_nobody_has_anything(
    office: Office, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    await process.directory.add_first_admin("root", "h")
    secret = await process.login("root")
    await office.storage.drop(ACCOUNTS)
    other = await office.process()
    await other.directory.add_user("ada")

    async def fail(store: str, after: Seq, upto: Seq) -> Chunk:
        raise StorageUnavailable("the disk is away")

    with monkeypatch.context() as patch:
        patch.setattr(office.storage, "read", fail)
        with pytest.raises(StorageUnavailable):
            await process.directory.catch_up()
        assert process.directory.is_behind
        assert process.who(secret) == "UNKNOWN"
        assert process.directory.current(Principal("root", "user")) is None
    await process.directory.catch_up()
    assert set(process.directory.registry.users) == {"ada"}
    assert not process.directory.is_behind


# --- failures ---


async def test_a_log_that_cannot_be_read_leaves_what_is_known_and_its_age(office: Office, process: Process) -> None:
    await process.directory.add_user("ada")
    secret = await process.login("ada")
    checked_ms = process.directory.checked_ms
    office.now_ms += 1000
    await office.storage.close()
    with pytest.raises(StorageUnavailable):
        await process.directory.catch_up()
    assert process.who(secret) == "ada"
    assert process.directory.checked_ms == checked_ms
    await office.storage.open()
    await process.directory.catch_up()
    assert process.directory.checked_ms == office.now_ms


async def test_a_write_with_an_unknown_outcome_is_passed_on_and_found_later(process: Process) -> None:
    directory = process.directory
    write = process.write

    async def lose(transaction: Transaction) -> Answer:
        process.publishes = False
        await write(transaction)
        process.publishes = True
        return StorageUnavailable("the answer was lost")

    directory._write = lose
    with pytest.raises(StorageUnavailable):
        await directory.add_user("ada")
    directory._write = write
    await directory.catch_up()
    assert "ada" in directory.registry.users
    assert await refusal(directory.add_user("ada")) == "name_taken"


async def test_a_record_that_is_too_large_is_refused(process: Process) -> None:
    await process.directory.add_user("ada")
    change = process.directory.change_user("ada", UserChange(oidc=("https://issuer", "x" * 600_000)))
    assert await refusal(change) == "too_large"


async def test_memory_storage_is_enough_for_a_directory() -> None:
    storage = MemoryStorage()
    await storage.open()
    process = await Office(storage).process()
    await process.directory.add_user("ada")
    assert (await storage.info(ACCOUNTS)).head.seq == 1


async def test_what_cannot_be_folded_leaves_nobody_anything_until_all_is_read_anew(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = process.directory
    await directory.add_user("ada")
    secret = await process.login("ada")
    heard: list[str] = []
    directory.listeners.append(lambda: heard.append(process.who(secret) or ""))

    def fail(registry: Registry, rows: object) -> None:
        raise RuntimeError("a mistake")

    with monkeypatch.context() as patched:
        patched.setattr(Registry, "apply", fail)
        with pytest.raises(RuntimeError):
            await directory.add_user("bob")
    assert heard == ["UNKNOWN"]
    assert process.who(secret) == "UNKNOWN"
    assert directory.is_behind
    await directory.catch_up()
    assert process.who(secret) == "ada"
    assert set(directory.registry.users) == {"ada", "bob"}
