"""One client who loses his access in the middle of something, and the judgement of what he got afterwards."""

import asyncio
import random
from collections.abc import Callable

from syncline_protocol.codec import decode_server_message
from syncline_protocol.messages import (
    Batch,
    Behind,
    CaughtUp,
    Ended,
    Error,
    Fill,
    Heads,
    Live,
    ServerMessage,
    Subscribe,
    Subscribed,
)

from .guarded import Asked, Guarded, GuardedPeer, HeldStorage, turns
from .losses import Loss, Subject

__all__ = ["Trial"]

#: What is written to the feed of a store.
_OF_A_FEED = (Batch, Fill, Live, CaughtUp, Behind, Subscribed)


class Trial:
    """One client, one loss.

    `mark` is taken when the loss has been told: what came later is judged. `own` are the keys that the client writes.
    """

    def __init__(self, world: Guarded, subject: Subject, loss: Loss, chance: random.Random) -> None:
        self.world = world
        self.subject = subject
        self.loss = loss
        self.chance = chance
        assert isinstance(world.storage, HeldStorage)
        self.storage = world.storage
        self.peer: GuardedPeer | None = None
        self.asked: list[Asked] = []
        self.holds: list[asyncio.Event] = []
        self.was_full = False
        self.is_opening = False
        self.is_stream = False
        self._writers: list[asyncio.Task[None]] = []
        self._stopped = False
        self._mark = 0
        self._marks: list[int] = []
        self._over: list[bool] = []
        self._durable: set[str] = set()

    # --- what a phase does ---

    def hold(self, *points: str) -> None:
        """Let the storage keep back what it reads."""
        self.holds.append(self.storage.hold(*points))

    async def connect(self) -> GuardedPeer:
        """Log in by WebSocket."""
        self.peer = self.world.peer(self.subject.token)
        await turns(3)
        return self.peer

    async def subscribe(self, after: str = "start") -> GuardedPeer:
        """Subscribe by WebSocket."""
        peer = await self.connect()
        peer.send(Subscribe(900, "notes", after))
        await turns(8)
        return peer

    async def ask(self, method: str, path: str, body: bytes = b"", *, accept: str = "", is_held: bool = False) -> Asked:
        """Send a request; its body comes later if it is held."""
        asked = self.world.ask(method, path, self.subject.token, body, accept=accept, body_held=is_held)
        self.asked.append(asked)
        await turns(12)
        return asked

    def write_by(self, write: Callable[[int], None]) -> None:
        """Go on writing in every turn of the event loop."""

        async def go_on() -> None:
            number = 0
            while not self._stopped:
                for _ in range(self.chance.randrange(4)):
                    number += 1
                    write(number)
                await asyncio.sleep(0)

        self._writers.append(asyncio.get_running_loop().create_task(go_on()))

    # --- the loss ---

    async def lose(self) -> None:
        """Take it from him, while everything goes on; return when that has been told."""
        listeners = self.world.directory.listeners
        listeners.append(self._take_durable)
        act = asyncio.ensure_future(self.loss.act(self.subject))
        for _ in range(60):
            if act.done():
                break
            await asyncio.sleep(0)
        else:
            # A drop waits for whoever opens the store.
            self.release()
        act.add_done_callback(lambda _: self._take_mark())
        await act
        listeners.remove(self._take_durable)
        self.release()

    def release(self) -> None:
        """Let the storage give out what it has read, and the clients take what they are sent."""
        for held in self.holds:
            held.set()
        for asked in self.asked:
            asked.room.set()
            asked.body_there.set()

    def _take_mark(self) -> None:
        self._mark = 0 if self.peer is None else len(self.peer.payloads)
        self._marks = [len(asked.pieces) for asked in self.asked]
        self._over = [asked.is_over for asked in self.asked]

    def _take_durable(self) -> None:
        """Note what is committed, or can be held up no more, at the moment in which the accounts change."""
        self._durable = self.storage.keys("notes") | self.storage.under_way

    async def end(self) -> None:
        """Let everything come to its end."""
        await turns(self.chance.randrange(3, 12))
        self._stopped = True
        await asyncio.gather(*self._writers)
        await turns(30)
        self.world.tick(16.0)
        await turns(10)

    async def leave(self) -> None:
        """Stop everything."""
        self._stopped = True
        self.release()
        await asyncio.gather(*self._writers)
        for asked in self.asked:
            await asked.leave()

    # --- the judgement ---

    def check(self) -> None:
        """Fail if he got what he may not see, or was not told, or if something of his was committed too late."""
        self._check_writes()
        if self.peer is not None:
            self._check_peer(self.peer)
        for asked, mark, was_over in zip(self.asked, self._marks, self._over, strict=True):
            self._check_asked(asked, mark, was_over)

    def _check_writes(self) -> None:
        late = {key for key in self.storage.keys("notes") - self._durable if "/own" in key}
        if self.loss.kind == "narrowed":
            late = {key for key in late if not key.startswith("k/a/")}
        assert not late, f"committed after the loss: {sorted(late)[:5]}"

    def _check_peer(self, peer: GuardedPeer) -> None:
        kind = self.loss.kind
        before = [decode_server_message(payload) for payload in peer.payloads[: self._mark]]
        later = peer.payloads[self._mark :]
        messages = [decode_server_message(payload) for payload in later]
        if kind == "reader":
            assert peer.closed_with is None
            return
        for payload, message in zip(later, messages, strict=True):
            if kind == "narrowed":
                assert b"secret-b" not in payload, payload
                feeds = [it.feed for it in before if isinstance(it, Subscribed)]
                assert not isinstance(message, _OF_A_FEED) or message.feed not in feeds, payload
            else:
                assert not isinstance(message, _OF_A_FEED), payload
                assert not isinstance(message, Heads) or not message.heads, payload
        if self.loss.close is not None:
            assert peer.closed_with == self.loss.close, (peer.closed_with, before[-1:], messages)
        elif not peer.aborted:
            assert peer.closed_with is None
            self._check_told([*before, *messages])
        # Who drops a store takes nothing from anybody in particular, and what he was sent before he may read.
        if self.was_full and kind != "dropped":
            assert peer.aborted, "what waits for a slow client would still go out"
        else:
            assert not peer.aborted

    def _check_told(self, messages: list[ServerMessage]) -> None:
        ended = [message.reason for message in messages if isinstance(message, Ended)]
        errors = [message.code for message in messages if isinstance(message, Error) and message.id == 900]
        opened = [message for message in messages if isinstance(message, Subscribed)]
        if ended == ["unsubscribed"]:
            # He has ended it himself, before.
            return
        if not self.is_opening:
            assert ended == ([self.loss.reason] if opened else []), (ended, messages)
        elif self.loss.kind == "narrowed":
            assert errors == []
            assert len(opened) == 1 + len(ended), messages
        else:
            refused = "unauthenticated" if self.loss.is_anonymous else "store_unknown"
            assert ended or errors == [refused], messages

    def _check_asked(self, asked: Asked, mark: int, was_over: bool) -> None:
        kind = self.loss.kind
        if kind == "reader":
            return
        later = b"".join(asked.pieces[mark:])
        assert (b"secret-b" if kind == "narrowed" else b"secret-") not in later, later
        if was_over:
            return
        if self.is_stream and asked.status == 200:
            assert kind == "narrowed" or asked.is_over, (asked.pieces, later)
            if kind in ("lost", "closed"):
                assert asked.aborted, "a stream that is broken off must not look whole"
        elif kind != "narrowed" and not self.is_stream:
            assert asked.status in (401, 403, 404), (asked.status, later)
