"""What may not be seen is answered as what is not there: byte for byte, headers too, on every route and message.

Everything is asked twice with the same words: before the store or record was made, and after somebody else has made it.
"""

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import pytest

from syncline_protocol.messages import (
    Add,
    ClientMessage,
    Delete,
    Fetch,
    Fill,
    Find,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
    Write,
    WriteOp,
)
from syncline_server.routes import OPERATIONS
from tests.support.engine import Peer, settle

from .people import Town, town

#: Who sees nothing of a store that a stranger makes, each for another reason.
_BLIND = ("nobody", "other", "owner", "boundtoken", "asidetoken", "withintoken")

_ONE = msgspec.Raw(b"1")

#: Bodies, sound and not: what is wrong with one must not be said of a store that is there only.
_BODIES = (b"1", b"2", b"{", b'{"ops":[]}', b'{"ops":[{"op":"DELETE","key":"h/1"}],"store_id":"x"}')
_HEADERS: tuple[dict[str, str], ...] = (
    {"Accept": "text/event-stream"},
    {"Accept": "application/x-ndjson", "If-None-Match": "*"},
    {"Content-Type": "text/plain", "Idempotency-Key": '"h/1"', "Last-Event-ID": "x"},
)
_QUERIES = (
    "?after=now&wait=1",
    "?after=x",
    "?known=x",
    "?limit=1",
    "?page=1-x",
    "?limit=0",
    "?no=1",
    "?count=1",
    "?index=plain",
)

T = TypeVar("T")
#: The length is that of the body, which is compared itself.
_VARYING = ("date", "content-length")

Asked = tuple[str, str, bytes | None, dict[str, str]]


def requests_in(store: str) -> list[Asked]:
    """Return what every operation on a store can be asked, but to create it: that a name is taken has to be said."""
    found: list[Asked] = []
    for operation in OPERATIONS:
        if "{store}" not in operation.path or operation.name == "createStore":
            continue
        path = operation.path.replace("{store}", store).replace("{key}", "h%2F1").replace("{index}", "plain")
        for method in ("GET", "HEAD") if operation.method == "GET" else (operation.method,):
            bodies = _BODIES if operation.body is not None else (None,)
            found += [(method, path, body, {}) for body in bodies]
            found += [(method, path, bodies[0], headers) for headers in _HEADERS]
            found += [(method, path + query, bodies[0], {}) for query in _QUERIES]
    grant = {"to": "user:other", "store": store, "role": "reader"}
    invitation = {"store": store, "role": "reader"}
    for path, asked in (("grants", grant), ("invitations", invitation)):
        found.append(("GET", f"/v1/{path}?store={store}", None, {}))
        found.append(("GET", f"/v1/{path}", None, {}))
        found.append(("POST", f"/v1/{path}", msgspec.json.encode(asked), {}))
    found.append(("GET", "/v1/stores", None, {}))
    return found


def messages_in(store: str) -> list[ClientMessage]:
    """Return what can be asked of a store by message."""
    ops = (WriteOp("ADD", "h/1", _ONE), WriteOp("DELETE", "h/1"))
    return [
        Add(1, store, "h/1", _ONE),
        Add(1, store, "", _ONE),
        Delete(1, store, "h/1"),
        Write(1, store, ops),
        Write(1, store, ops, atomic=False),
        Write(1, store, ops, store_id="x"),
        Subscribe(1, store),
        Subscribe(1, store, "now"),
        Subscribe(1, store, "a1:1", known="a1@0"),
        Subscribe(1, store, store_id="x"),
        Fetch(1, "1-9"),
        Find(1, store),
        Find(1, store, msgspec.Raw(b'{"index":"plain","eq":1}'), count=True),
        Find(1, store, page="x"),
        Unsubscribe(1),
    ]


async def answers_to(world: Town, name: str, requests: list[Asked]) -> list[tuple[object, ...]]:
    """Send somebody's requests. Returns status, headers and body of each answer."""
    found: list[tuple[object, ...]] = []
    for method, path, body, headers in requests:
        answer = await world.ask(name, method, path, body, headers)
        sent = [(key, value) for key, value in answer.headers.multi_items() if key not in _VARYING]
        found.append((answer.status, sent, re.sub(rb',"head":"[^"]*"', b"", answer.content)))
    return found


async def payloads_to(world: Town, name: str, messages: list[ClientMessage]) -> list[list[bytes]]:
    """Send somebody's messages. Returns the frames that each is answered with."""
    peer, welcome = await world.connect(name)
    assert isinstance(welcome[0], Welcome)
    return [await frames(peer, message) for message in messages]


async def frames(peer: Peer, message: ClientMessage) -> list[bytes]:
    """Send a message. Returns the frames that it is answered with."""
    before = len(peer.payloads)
    peer.send(message)
    await settle()
    # How far the log has come is no secret: positions are those of all views (PROTOCOL 5.7.2).
    return [re.sub(rb',"head":"[^"]*"', b"", payload) for payload in peer.payloads[before:]]


async def made(world: Town) -> None:
    """Let a stranger make a store with records, and share it."""
    await world.hub.create("later")
    await world.grant("stranger", "owner", store="later")
    await world.accounts.directory.add_invitation("later", "reader", by="stranger")
    await world.add("h/1", by="stranger", store="later")
    await world.add("h/2", by="stranger", store="later")
    await world.delete("h/2", by="stranger", store="later")


async def test_everything_in_a_store_is_asked_for() -> None:
    asked = {path.partition("?")[0] for _, path, _, _ in requests_in("later")}
    assert len([path for path in asked if path.startswith("/v1/stores/later")]) == 13


@pytest.mark.parametrize("name", _BLIND)
async def test_a_store_that_one_may_not_see_is_none(name: str) -> None:
    async with town() as world:
        requests, messages = requests_in("later"), messages_in("later")
        before = await answers_to(world, name, requests), await payloads_to(world, name, messages)
        await made(world)
        after = await answers_to(world, name, requests), await payloads_to(world, name, messages)
        for asked, old, new in zip(requests, before[0], after[0], strict=True):
            assert old == new, asked
        for message, was, now in zip(messages, before[1], after[1], strict=True):
            assert was == now, message


async def test_a_store_that_is_followed_by_others_is_none_all_the_same() -> None:
    async with town() as world:
        await world.grant("reader", store="hidden")
        follower, _ = await world.connect("reader")
        assert isinstance((await follower.subscribe(store="hidden"))[0], Subscribed)
        hidden = await payloads_to(world, "other", messages_in("hidden"))
        absent = await payloads_to(world, "other", messages_in("absent"))
        assert [[it.replace(b"hidden", b"absent") for it in payloads] for payloads in hidden] == absent


# --- records ---


_OUTSIDE = "o%2F9"

#: The same key is asked for while it was never used, while its record lives, and when that is dead.
_OF_A_RECORD: list[Asked] = [
    (method, f"/v1/stores/notes/records/{_OUTSIDE}", body, headers)
    for method, body in (("GET", None), ("HEAD", None), ("DELETE", None), ("PUT", b"1"), ("PUT", b"2"), ("PUT", b"{"))
    for headers in ({}, {"If-None-Match": "*"})
] + [
    ("POST", "/v1/stores/notes/records", b"1", {"Idempotency-Key": '"o/9"'}),
    ("POST", "/v1/stores/notes/writes", b'{"ops":[{"op":"ADD","key":"o/9","value":1}]}', {}),
    ("POST", "/v1/stores/notes/writes", b'{"ops":[{"op":"DELETE","key":"o/9"}]}', {}),
    ("POST", "/v1/stores/notes/writes", b'{"ops":[{"op":"DELETE","key":"o/9"}],"atomic":false}', {}),
]

_TO_A_RECORD: list[ClientMessage] = [
    Add(1, "notes", "o/9", _ONE),
    Add(1, "notes", "o/9", msgspec.Raw(b"2")),
    Delete(1, "notes", "o/9"),
    Write(1, "notes", (WriteOp("ADD", "o/9", _ONE), WriteOp("DELETE", "o/8"))),
    Write(1, "notes", (WriteOp("DELETE", "o/9"),), atomic=False),
]


async def at_each_stage(world: Town, ask: Callable[[], Awaitable[T]]) -> tuple[T, T, T]:
    """Ask before a record is added, while it lives, and after it was deleted."""
    before = await ask()
    await world.add("o/9", by="owner")
    alive = await ask()
    await world.delete("o/9", by="owner")
    return before, alive, await ask()


@pytest.mark.parametrize("asked", _OF_A_RECORD, ids=str)
async def test_a_record_outside_of_the_view_was_never_added_by_http(asked: Asked) -> None:
    async with town() as world:
        before, alive, dead = await at_each_stage(world, lambda: answers_to(world, "viewed", [asked]))
        assert before == alive == dead


@pytest.mark.parametrize("message", _TO_A_RECORD, ids=lambda message: type(message).__name__)
async def test_a_record_outside_of_the_view_was_never_added_by_message(message: ClientMessage) -> None:
    async with town() as world:
        before, alive, dead = await at_each_stage(world, lambda: payloads_to(world, "viewed", [message]))
        assert before == alive == dead


@pytest.mark.parametrize("name", ["keyed", "addonly", "viewed"])
async def test_who_may_not_delete_learns_nothing_by_trying(name: str) -> None:
    async with town() as world:
        message: list[ClientMessage] = [Delete(1, "notes", "o/9")]
        before, alive, dead = await at_each_stage(world, lambda: payloads_to(world, name, message))
        assert before == alive == dead


async def test_seqs_outside_of_the_view_are_those_of_no_record() -> None:
    async with town() as world:
        peer, _ = await world.connect("viewed")
        await peer.subscribe(store="notes", request_id=1)
        outside, none = await frames(peer, Fetch(1, "1-3")), await frames(peer, Fetch(1, "100-300"))
        assert outside == none
        peer.take()
        filled = [fill for fill in await peer.ask(Fetch(1, "1-9")) if isinstance(fill, Fill)]
        assert [change.key for fill in filled for change in fill.changes] == ["v/1", "v/2"]


async def test_what_names_nothing_and_what_is_anothers_are_answered_alike() -> None:
    async with town() as world:
        for method, path in (("DELETE", "/v1/grants/"), ("DELETE", "/v1/tokens/"), ("DELETE", "/v1/invitations/")):
            for name in ("other", "reader", "readtoken"):
                identity = {
                    "/v1/grants/": "grant:stranger",
                    "/v1/tokens/": "stranger",
                    "/v1/invitations/": "invitation",
                }[path]
                theirs = await answers_to(world, name, [(method, path + world.ids[identity], None, {})])
                assert theirs == await answers_to(world, name, [(method, path + "x_0", None, {})])
