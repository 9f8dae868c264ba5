"""The Python client and the command line against a real server on which everybody has to log in."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import syncline
import syncline.sync
from syncline import Client, ConnectionState, Forbidden, LoginFailed, Replica, RequestRefused, WriteRejected
from syncline.cli import main
from tests.console.server import ServerProcess

ALICE, BOB = "the password of alice", "the password of bob"


@dataclass(frozen=True)
class Server:
    """A server that runs. `setup_link` is what its first administrator is made with."""

    url: str
    setup_link: str


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server in a process of its own, whose administrator is to be made."""
    with ServerProcess(tmp_path_factory.mktemp("server"), "sqlite:///syncline.db", auth="accounts") as started:
        yield Server(started.url, started.setup_link())


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something is so, and fail instead of hanging."""
    async with asyncio.timeout(15):
        while not holds():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def logged_in(server: Server, user: str, password: str) -> AsyncIterator[Client]:
    """Somebody who is connected and has logged in."""
    async with syncline.connect(server.url, wait=False) as client:
        await client.accounts.login(user, password)
        await until(lambda: client.user == user)
        yield client


@pytest.fixture
async def alice(server: Server) -> AsyncIterator[Client]:
    """The administrator, who has a store `notes`, and has made an account for bob."""
    async with syncline.connect(server.url, wait=False) as client:
        await client.accounts.setup(server.setup_link.partition("=")[2], "alice", ALICE)
        await until(lambda: client.user == "alice")
        await client.accounts.users.add("bob", BOB)
        await client.stores.create("notes")
        for key in ("a/1", "b/1", "a/2"):
            await client.add("notes", key, key)
        yield client


def shown(replica: Replica) -> list[tuple[str, str | None]]:
    """Return key and author of every record."""
    return [(record.key, record.by) for record in replica]


async def test_a_store_is_shared_in_part_as_a_whole_and_not_any_more(
    server: Server, alice: Client, tmp_path: Path
) -> None:
    async with logged_in(server, "bob", BOB) as bob:
        replica = await bob.replica("notes", tmp_path / "notes.db", create=False)
        await until(lambda: "store_unknown" in replica.status.reason)
        await alice.share("notes", "bob", "writer", read_prefix="a/", key_prefix="a/")
        await until(lambda: replica.is_caught_up)
        assert shown(replica) == [("a/1", "alice"), ("a/2", "alice")]
        await alice.share("notes", "bob", "writer")
        await until(lambda: len(replica) == 3)
        write = await replica.add("mine", "b/2")
        await write.synced(timeout=15)
        assert shown(replica)[-1] == ("b/2", "bob")
        await alice.share("notes", "bob", "reader", read_prefix="a/")
        await until(lambda: len(replica) == 2 and replica.is_caught_up)
        with pytest.raises(WriteRejected, match="denied"):
            await (await replica.add("no", "a/3")).stored(timeout=15)
        assert [grant.to for grant in await alice.unshare("notes", "bob")] == ["user:bob"]
        await until(lambda: replica.status.is_forbidden)
        assert shown(replica) == []
        assert len(replica.rejections) == 1
        await alice.share("notes", "bob")
        await until(lambda: len(replica) == 4 and replica.is_caught_up)


async def test_whose_credentials_are_taken_back_logs_in_again_and_goes_on(server: Server, alice: Client) -> None:
    await alice.share("notes", "bob", "writer")
    async with logged_in(server, "bob", BOB) as bob:
        replica = await bob.replica("notes")
        await until(lambda: replica.is_caught_up)
        await alice.accounts.users.set("bob", disabled=True)
        await until(lambda: bob.state is ConnectionState.NEEDS_AUTH)
        write = await replica.add("offline", "b/9")
        assert len(replica) == 4
        with pytest.raises(LoginFailed):
            await bob.accounts.login("bob", BOB)
        await alice.accounts.users.set("bob", disabled=False)
        await bob.accounts.login("bob", BOB)
        await write.synced(timeout=15)
        await bob.accounts.logout()
        await until(lambda: bob.state is ConnectionState.NEEDS_AUTH)
        assert (await bob.accounts.me()).kind == "anonymous"


async def test_another_token_of_the_same_user_is_taken_in_place_and_another_user_connects_anew(
    server: Server, alice: Client
) -> None:
    made = await alice.accounts.tokens.create("another", expires=timedelta(hours=1))
    async with logged_in(server, "alice", ALICE) as client:
        states: list[tuple[ConnectionState, str | None]] = []
        client.on_status(lambda status: states.append((status.state, status.user)))
        states.clear()
        client.authenticate(made.secret)
        await until(lambda: client.status.expires_at == (made.token.expires_ms or 0) / 1000)
        assert states == [(ConnectionState.LIVE, "alice")]
        await client.accounts.login("bob", BOB)
        await until(lambda: client.user == "bob")
        with pytest.raises(Forbidden):
            await client.share("notes", "bob", "owner")


async def test_an_invitation_is_accepted_with_an_account_or_makes_one(server: Server, alice: Client) -> None:
    invitation = await alice.invite("notes", "reader", uses_max=2, expires=timedelta(days=1))
    assert invitation.link == f"{server.url}/#invite={invitation.code}"
    async with logged_in(server, "bob", BOB) as bob:
        assert (await bob.accept(invitation.code)).grant.to == "user:bob"
        assert [record.by async for record in bob.records("notes")] == ["alice"] * 3
    async with syncline.connect(server.url, wait=False) as carol:
        await carol.accounts.invitations.accept(invitation.code, user="carol", password="the password of carol")
        await until(lambda: carol.user == "carol")
        record = await carol.get("notes", "a/1")
        assert record is not None
        with pytest.raises(RequestRefused) as used_up:
            await carol.accept(invitation.code)
        assert used_up.value.code == "invitation_invalid"
    assert {grant.to for grant in await alice.shared("notes")} >= {"user:bob", "user:carol"}


async def test_the_plain_api_has_the_same_words(server: Server, alice: Client) -> None:
    def work() -> list[str | None]:
        with syncline.sync.connect(server.url, wait=False) as client:
            client.accounts.login("alice", ALICE)
            client.accounts.groups.add("team", "bob")
            client.share("notes", "group:team", "writer", add_only=True, expires=timedelta(days=1))
            assert client.accounts.groups.list()[0].members == ("bob",)
            client.unshare("notes", "group:team")
            client.accounts.tokens.revoke(client.accounts.tokens.create("short").token.id)
            return [record.by for record in client.records("notes")]

    assert await asyncio.to_thread(work) == ["alice"] * 3


def test_the_command_line_makes_the_first_administrator_and_shares(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("SYNCLINE_TOKEN", raising=False)
    monkeypatch.setenv("SYNCLINE_URL", server.url)

    def run(*words: str, stdin: str = "", exit_code: int = 0) -> Result:
        result = CliRunner().invoke(main, words, input=stdin)
        assert result.exit_code == exit_code, result.output
        return result

    run("whoami", exit_code=1)
    run("setup", server.setup_link, "--user", "alice", "--password-stdin", stdin=f"{ALICE}\n")
    assert run("whoami").stdout == "alice\n"
    run("stores", "create", "notes")
    run("add", "notes", "k1", "1")
    run("users", "add", "bob", "--password-stdin", stdin=f"{BOB}\n")
    run("grants", "add", "notes", "bob", "--role", "reader", "--expires", "7d")
    token = run("tokens", "create", "script", "--user", "bob", "--scope", "read").stdout.strip()
    assert json.loads(run("get", "notes", "k1", "--json", "--token", token).stdout)["by"] == "alice"
    run("add", "notes", "k2", "2", "--token", token, exit_code=1)
    link = run("invite", "notes", "--role", "writer", "--uses", "1").stdout.strip()
    run("accept", link, "--user", "carol", "--password-stdin", stdin="the password of carol\n")
    assert run("whoami").stdout == "carol\n"
    run("add", "notes", "k3", "3")
    run("users", "list", exit_code=1)
    run("logout")
    run("get", "notes", "k1", exit_code=1)
