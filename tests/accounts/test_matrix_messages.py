"""Who may send what: every message of a client and every kind of person.

`ok` and the statuses of writes are short for themselves, a number says how many changes came; what else stands in the
table is explained in `CODES`. Who is not welcomed has `out` in every row but that of HELLO.
"""

from collections.abc import Callable, Sequence
from typing import get_args

import msgspec
import pytest

from syncline_protocol.messages import (
    Add,
    Auth,
    Authenticated,
    Batch,
    ClientMessage,
    Delete,
    Ended,
    Error,
    Fetch,
    Fill,
    Find,
    Found,
    Heartbeat,
    Hello,
    ServerMessage,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
    Write,
    WriteOp,
    Wrote,
)
from tests.support.engine import Peer, settle

from .people import PEOPLE, Town, town

CODES = {
    ".": "unauthenticated",
    "exp": "token_expired",
    "no": "forbidden",
    "sto": "store_unknown",
    "nam": "store_name_invalid",
    "sub": "not_subscribed",
    "idx": "index_unknown",
    "abs": "absent",
    "par": "partial",
    "ref": "refused",
}

_ONE = msgspec.Raw(b"1")
_OPS = (WriteOp("ADD", "v/9", _ONE), WriteOp("DELETE", "a/1"))
_SUBSCRIBE = Subscribe(900, "notes")
_PLAIN = msgspec.Raw(b'{"index":"plain","eq":1}')
_NO_INDEX = msgspec.Raw(b'{"index":"none","eq":1}')

#: What is sent; the last of it is what is asked about.
MESSAGES: dict[str, tuple[ClientMessage, ...]] = {
    "Hello": (),
    "Auth": (Auth("own"),),
    "Auth as another": (Auth("stranger"),),
    "Auth ended": (Auth("expired"),),
    "Add": (Add(1, "notes", "z", _ONE),),
    "Add k/9": (Add(1, "notes", "k/9", _ONE),),
    "Add v/9": (Add(1, "notes", "v/9", _ONE),),
    "Add hidden": (Add(1, "hidden", "z", _ONE),),
    "Add public": (Add(1, "public", "z", _ONE),),
    "Add system": (Add(1, "_accounts", "z", _ONE),),
    "Delete": (Delete(1, "notes", "a/1"),),
    "Delete k/1": (Delete(1, "notes", "k/1"),),
    "Delete o/1": (Delete(1, "notes", "o/1"),),
    "Delete v/1": (Delete(1, "notes", "v/1"),),
    "Delete none": (Delete(1, "notes", "none"),),
    "Delete hidden": (Delete(1, "hidden", "h/1"),),
    "Write both": (Write(1, "notes", _OPS),),
    "Write each": (Write(1, "notes", _OPS, atomic=False),),
    "Write hidden": (Write(1, "hidden", _OPS),),
    "Subscribe": (Subscribe(1, "notes"),),
    "Subscribe now": (Subscribe(1, "notes", "now"),),
    "Subscribe hidden": (Subscribe(1, "hidden"),),
    "Subscribe public": (Subscribe(1, "public"),),
    "Subscribe system": (Subscribe(1, "_audit"),),
    "Unsubscribe": (_SUBSCRIBE, Unsubscribe(900)),
    "Fetch": (_SUBSCRIBE, Fetch(900, "1-5")),
    "Find": (Find(1, "notes", _PLAIN),),
    "Find by key": (Find(1, "notes"),),
    "Find none": (Find(1, "notes", _NO_INDEX),),
    "Find hidden": (Find(1, "hidden", _PLAIN),),
    "Find public": (Find(1, "public"),),
    "Find system": (Find(1, "_audit"),),
    "Heartbeat": (Heartbeat(),),
}

TABLE = """
Hello            | ok  ok  ok  ok  ok  ok  ok  ok  ok  ok  exp .   ok  ok  ok  ok
Auth             | .   ok  ok  ok  ok  ok  ok  ok  ok  ok  out out ok  ok  ok  ok
Auth as another  | no  no  no  no  no  no  no  no  no  no  out out no  no  no  no
Auth ended       | exp exp exp exp exp exp exp exp exp exp out out exp exp exp exp
Add              | .   sto no  ok  ok  ok  no  no  ok  ok  out out no  sto sto ok
Add k/9          | .   sto no  ok  ok  ok  ok  no  ok  ok  out out no  sto sto ok
Add v/9          | .   sto no  ok  ok  ok  no  ok  ok  ok  out out no  sto sto ok
Add hidden       | .   sto sto sto sto sto sto sto sto ok  out out sto sto sto sto
Add public       | no  no  no  no  no  no  no  no  no  ok  out out no  sto no  sto
Add system       | nam nam nam nam nam nam nam nam nam nam out out nam nam nam nam
Delete           | .   sto no  ok  no  no  no  no  ok  ok  out out no  sto sto ok
Delete k/1       | .   sto no  ok  no  no  ok  no  ok  ok  out out no  sto sto ok
Delete o/1       | .   sto no  ok  no  ok  no  no  ok  ok  out out no  sto sto ok
Delete v/1       | .   sto no  ok  no  no  no  ok  ok  ok  out out no  sto sto ok
Delete none      | .   sto no  abs no  abs no  no  abs abs out out no  sto sto abs
Delete hidden    | .   sto sto sto sto sto sto sto sto ok  out out sto sto sto sto
Write both       | .   sto ref ok  ref ref ref ref ok  ok  out out ref sto sto ok
Write each       | .   sto par ok  par par par par ok  ok  out out par sto sto ok
Write hidden     | .   sto sto sto sto sto sto sto sto ref out out sto sto sto sto
Subscribe        | .   sto 5   5   5   5   5   2   5   5   out out 5   sto sto 5
Subscribe now    | .   sto 0   0   0   0   0   0   0   0   out out 0   sto sto 0
Subscribe hidden | .   sto sto sto sto sto sto sto sto 1   out out sto sto sto sto
Subscribe public | 0   0   0   0   0   0   0   0   0   0   out out 0   sto 0   sto
Subscribe system | nam nam nam nam nam nam nam nam nam nam out out nam nam nam nam
Unsubscribe      | sub sub end end end end end end end end out out end sub sub end
Fetch            | sub sub 5   5   5   5   5   2   5   5   out out 5   sub sub 5
Find             | .   sto 5   5   5   5   5   2   5   5   out out 5   sto sto 5
Find by key      | .   sto 5   5   5   5   5   2   5   5   out out 5   sto sto 5
Find none        | .   sto idx idx idx idx idx idx idx idx out out idx sto sto idx
Find hidden      | .   sto sto sto sto sto sto sto sto 1   out out sto sto sto sto
Find public      | 0   0   0   0   0   0   0   0   0   0   out out 0   sto 0   sto
Find system      | nam nam nam nam nam nam nam nam nam nam out out nam nam nam nam
Heartbeat        | -   -   -   -   -   -   -   -   -   -   out out -   -   -   -
"""


def rows() -> dict[str, dict[str, str]]:
    """Read the table: for each row what each person is answered."""
    found = {}
    for line in TABLE.strip().splitlines():
        name, _, cells = line.partition("|")
        found[name.strip()] = dict(zip(PEOPLE, cells.split(), strict=True))
    return found


def test_every_message_has_a_row() -> None:
    assert {name.partition(" ")[0] for name in rows()} == {kind.__name__ for kind in get_args(ClientMessage)}
    assert set(rows()) == set(MESSAGES)
    for name, messages in MESSAGES.items():
        assert not messages or type(messages[-1]).__name__ == name.partition(" ")[0]


def cell_of(answers: Sequence[ServerMessage]) -> str:
    """Return what the table says of such answers."""
    match answers:
        case [Error(code=code), *_]:
            return _short(code)
        case [Wrote(results=[result])]:
            return _short(result.code or result.status)
        case [Subscribed(), *rest]:
            return str(sum(len(it.changes) for it in rest if isinstance(it, Batch)))
        case [Fill(changes=changes, last=True)]:
            return str(len(changes))
        case [Found(records=records)]:
            return str(len(records))
        case [Authenticated()] | [Welcome()]:
            return "ok"
        case [Ended(reason="unsubscribed")]:
            return "end"
        case []:
            return "-"
        case _:
            raise AssertionError(answers)


def _short(word: str) -> str:
    return next((cell for cell, meant in CODES.items() if meant == word), word)


async def ask(world: Town, name: str, messages: Sequence[ClientMessage]) -> tuple[Peer, list[ServerMessage]]:
    """Connect somebody and send his messages. Returns what the last of them was answered with."""
    peer, answers = await world.connect(name)
    if not isinstance(answers[0], Welcome):
        return peer, answers
    assert answers[0].user == world.users.get(name)
    for message in messages:
        if isinstance(message, Auth):
            token = world.tokens[name if message.token == "own" else message.token]
            message = Auth(token or "syncline_p_x")
        answers = await peer.ask(message)
    return peer, answers


async def told(row: str) -> dict[str, str]:
    """Return what each person is answered. Who writes does so in a town of his own."""
    found: dict[str, str] = {}
    while len(found) < len(PEOPLE):
        async with town() as world:
            for name in PEOPLE[len(found) :]:
                peer, answers = await ask(world, name, MESSAGES[row])
                out = row != "Hello" and peer.closed_with is not None
                found[name] = "out" if out else cell_of(answers)
                if row.startswith(("Add", "Delete", "Write")) and found[name] in ("ok", "par"):
                    break
    return found


@pytest.mark.parametrize("row", MESSAGES)
async def test_everybody_is_answered_as_the_table_says(row: str) -> None:
    assert await told(row) == rows()[row]


async def test_who_is_not_welcome_is_closed_with_the_code_that_says_whether_to_come_back() -> None:
    async with town() as world:
        closed = {}
        for name in PEOPLE:
            closed[name] = (await world.connect(name))[0].closed_with
        assert closed == {name: {"expired": 4007, "revoked": 4503}.get(name) for name in PEOPLE}


async def test_nobody_is_let_in_only_while_something_is_for_everyone() -> None:
    async with town() as world:
        peer, _ = await world.connect("nobody")
        assert await peer.subscribe(store="public")
        (public,) = world.accounts.directory.registry.grants_to("everyone")
        await world.accounts.directory.remove_grant(public.id)
        assert peer.closed_with == 4503
        late, (refusal,) = await world.connect("nobody")
        assert isinstance(refusal, Error)
        assert (refusal.code, late.closed_with) == ("unauthenticated", 4503)


_FIRST: tuple[Callable[[], ClientMessage], ...] = (
    lambda: Subscribe(1, "public"),
    lambda: Add(1, "public", "z", _ONE),
    lambda: Auth("x"),
    lambda: Fetch(1, "1"),
    lambda: Find(1, "public"),
    Heartbeat,
)


@pytest.mark.parametrize("first", _FIRST)
async def test_nothing_is_answered_before_somebody_has_said_who_he_is(first: Callable[[], ClientMessage]) -> None:
    async with town() as world:
        peer = Peer(world.hub, greet=False)
        peer.send(first())
        await settle()
        (refusal,) = peer.take()
        assert isinstance(refusal, Error)
        assert refusal.code == "hello_expected"
        assert peer.closed_with == 4501


async def test_nobody_becomes_another_by_greeting_again() -> None:
    async with town() as world:
        peer, _ = await world.connect("reader")
        (refusal,) = await peer.ask(Hello(token=world.tokens["admin"]))
        assert isinstance(refusal, Error)
        assert refusal.code == "hello_repeated"
        assert peer.connection.principal.name == "reader"


async def test_a_token_that_may_less_ends_what_it_may_not_see_and_writes_no_more() -> None:
    async with town() as world:
        peer, _ = await world.connect("owner")
        await peer.subscribe(store="notes")
        told = await peer.ask(Auth(world.tokens["readtoken"] or ""))
        assert cell_of(told) == "ok"
        assert cell_of(await peer.ask(MESSAGES["Add"][0])) == "no"
        await world.add("a/2", by="writer")
        await settle()
        assert [type(it) for it in peer.take()] == [Batch], "it goes on"
        ended = [it for it in await peer.ask(Auth(world.tokens["boundtoken"] or "")) if isinstance(it, Ended)]
        assert [it.reason for it in ended] == ["forbidden"]
        assert cell_of(await peer.ask(_SUBSCRIBE)) == "sto"
        assert cell_of(await peer.ask(MESSAGES["Add"][0])) == "sto"
