"""What the client says about its connection, and to whom."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import syncline
from syncline import ConnectionState, Status
from syncline.status import TRANSITIONS
from tests.client.fake_clock import FakeClock
from tests.client.fake_server import FakeServer
from tests.client.waiting import come_back, state

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "python.md"


@pytest.fixture
async def complaints() -> list[dict[str, Any]]:
    """What the exception handler of the loop is told."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    return told


async def test_a_callback_gets_the_status_at_once_and_each_one_that_follows_until_it_is_stopped(
    server: FakeServer, clock: FakeClock
) -> None:
    client = syncline.connect(server.url, clock=clock)
    seen: list[Status] = []
    stop = client.on_status(seen.append)
    async with client:
        await server.connections[0].drop()
        await come_back(client, clock)
        stop()
        stop()
        await server.connections[0].drop()
        await state(client, ConnectionState.OFFLINE)
    assert [status.state.value for status in seen] == ["connecting", "live", "offline", "connecting", "live"]
    assert seen[-1] != client.status


async def test_a_callback_that_was_given_twice_is_stopped_one_at_a_time(server: FakeServer, clock: FakeClock) -> None:
    seen: list[Status] = []
    async with syncline.connect(server.url, clock=clock) as client:
        stop, _ = client.on_status(seen.append), client.on_status(seen.append)
        seen.clear()
        stop()
        stop()
    assert [status.state for status in seen] == [ConnectionState.CLOSED]


async def test_a_callback_that_raises_hurts_nobody(
    server: FakeServer, clock: FakeClock, complaints: list[dict[str, Any]]
) -> None:
    seen: list[Status] = []

    def fail(status: Status) -> None:
        if status is not begun:
            raise ValueError(status.state.value)

    client = syncline.connect(server.url, clock=clock)
    begun = client.status
    client.on_status(fail)
    client.on_status(seen.append)
    async with client:
        await server.connections[0].drop()
        await come_back(client, clock)
        assert (await client.add("notes", 1, "k")).status == "ok"
    assert [str(context["exception"]) for context in complaints] == [status.state.value for status in seen[1:]]
    assert {context["message"] for context in complaints} == {"a status callback of a Syncline client failed"}


async def test_a_callback_may_stop_itself_and_others(server: FakeServer, clock: FakeClock) -> None:
    seen: list[Status] = []
    client = syncline.connect(server.url, clock=clock)

    def once(status: Status) -> None:
        seen.append(status)
        if len(seen) == 2:
            stop()

    stop = client.on_status(once)
    async with client:
        pass
    assert [status.state for status in seen] == [ConnectionState.CONNECTING, ConnectionState.LIVE]


def _rows(first: str) -> Iterator[list[str]]:
    """Yield the cells of the table of the reference that begins with this column."""
    _, _, rest = PAGE.read_text().partition(f"| {first} |")
    for line in rest.partition("\n\n")[0].splitlines()[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def test_the_reference_names_every_state_and_what_may_follow_it() -> None:
    rows = {row[0].strip("`"): row for row in _rows("state")}
    assert set(rows) == {each.name for each in ConnectionState}
    for each, row in rows.items():
        wanted = TRANSITIONS.get(ConnectionState[each])
        if wanted is not None:
            assert set(re.findall(r"`([A-Z_]+)`", row[-1])) == {follower.name for follower in wanted}, each
        assert f"`{ConnectionState[each].value}`" in row[1]


def test_only_a_replica_lags_so_no_state_of_a_connection_leads_there() -> None:
    assert set(ConnectionState) - set(TRANSITIONS) == {ConnectionState.LAGGING}
    assert ConnectionState.LAGGING not in frozenset().union(*TRANSITIONS.values())
