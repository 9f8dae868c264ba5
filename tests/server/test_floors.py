"""The tombstone floor and those who read: nobody keeps a record whose DELETE was cleaned away, nobody misses one.

`Held` is a client by the book: it applies what comes, and at every CAUGHT_UP its count and digest have to be right.
"""

import random
from collections.abc import Sequence

import msgspec
import pytest

from syncline_protocol.cursor import (
    Cursor,
    Entry,
    Lineage,
    Position,
    Reconcile,
    Resume,
    Seq,
    decide_resume,
    parse_cursor,
)
from syncline_protocol.digest import digest_term, digest_text
from syncline_protocol.messages import (
    Add,
    Batch,
    CaughtUp,
    Delete,
    Ended,
    Fetch,
    Fill,
    Live,
    ServerMessage,
    Subscribe,
    Subscribed,
)
from syncline_protocol.seq_set import SeqSet
from syncline_server.frame import Frame
from syncline_server.hub import Hub
from syncline_server.storage import open_storage
from syncline_server.storage.base import Horizon
from tests.support.engine import Peer, SlowPeer, engine, settle

_LARGE = b'"' + b"x" * 60_000 + b'"'


class Held:
    """What a client holds that does as PROTOCOL says."""

    def __init__(self) -> None:
        self.records: dict[str, int] = {}
        self.cursor = Cursor("start")
        self.lineage: str | None = None
        self.hows: list[str] = []
        self.ends: list[str] = []
        self.caught_up = 0
        self._wanted: set[int] = set()
        self._asked: set[int] = set()
        self._died: set[str] = set()

    async def go_on(self, hub: Hub, peer: Peer) -> None:
        """Subscribe, and take everything that comes, until it is over."""
        self.take(await peer.ask(Subscribe(900, "notes", self.cursor, self.lineage)))
        await self.fetch(peer)

    async def fetch(self, peer: Peer) -> None:
        """Fetch what a LIVE named and is not held, unless that is under way."""
        if self._wanted and not self._asked and peer.connection.subscriptions:
            self._asked = set(self._wanted)
            self.take(await peer.ask(Fetch(900, ",".join(map(str, sorted(self._asked))))))

    def take(self, messages: Sequence[ServerMessage]) -> None:
        """Apply what came."""
        lists: list[str] = []
        for message in messages:
            match message:
                case Subscribed():
                    self._asked.clear()
                    self.hows.append(message.how)
                    self.lineage = message.lineage
                    if message.how == "snapshot":
                        self.records.clear()
                    self.cursor = message.at
                case Live():
                    lists.append(message.seqs)
                    if message.last:
                        self._reconcile(SeqSet.parse(*lists))
                case Fill():
                    # A DELETE may overtake the record that was asked for.
                    filled = [change for change in message.changes if change.key not in self._died]
                    self.records.update({change.key: change.seq for change in filled})
                    if message.last:
                        # What did not come has died: its DELETE is below what was sent, or still to come.
                        self._wanted -= self._asked
                        self._asked.clear()
                case Batch():
                    self._apply(message)
                case CaughtUp():
                    self.caught_up += 1
                    assert message.at == self.cursor
                    if not self._wanted:
                        self.check(message)
                case Ended():
                    self.ends.append(message.reason)

    def _reconcile(self, living: SeqSet) -> None:
        self.records = {key: seq for key, seq in self.records.items() if Seq(seq) in living}
        held = set(self.records.values())
        self._wanted = {seq for first, last in living.ranges() for seq in range(first, last + 1)} - held

    def _apply(self, batch: Batch) -> None:
        assert batch.from_ == self.cursor or self.cursor == "start"
        for change in batch.changes:
            if change.op == "ADD":
                self.records[change.key] = change.seq
            else:
                self.records.pop(change.key, None)
                self._died.add(change.key)
        self.cursor = batch.to

    def check(self, message: CaughtUp) -> None:
        """Compare with what the server says that lives."""
        digest = sum(digest_term(Seq(seq), key) for key, seq in self.records.items()) % 2**32
        assert (len(self.records), digest_text(digest)) == (message.count, message.digest)


async def commit(hub: Hub, *keys: str, value: bytes = b"1") -> None:
    """Add records, or delete those with a minus before the key, each in a commit of its own."""
    writer = Peer(hub)
    for number, key in enumerate(keys):
        if key.startswith("-"):
            writer.send(Delete(number, "notes", key[1:]))
        else:
            writer.send(Add(number, "notes", key, msgspec.Raw(value)))
        await settle()


async def clean_up(hub: Hub, upto: int) -> None:
    """Drop the values and the tombstones up to a position."""
    done = await hub.storage.compact("notes", Horizon(Seq(upto), Seq(upto)), 1.0)
    assert done.is_done


# --- the rule ---


def _frame(after: int, to: int, floor: int, upto: int | None = None) -> Frame:
    lineage = Lineage((Entry("a", Seq(0)),))
    return Frame("f", lineage, Seq(after), Seq(to), [], floor=Seq(floor), upto=None if upto is None else Seq(upto))


@pytest.mark.parametrize(
    ("frame", "since", "suits"),
    [
        (_frame(0, 5, 100), 0, True),  # who holds nothing has nothing to lose
        (_frame(5, 9, 5), 0, True),  # every DELETE above the cursor is there
        (_frame(5, 9, 6), 5, False),  # the DELETE at 6 may be of what he holds
        (_frame(5, 9, 6), 6, True),  # what he holds lived at 6
        (_frame(5, 9, 100), 100, True),
        (_frame(5, 9, 101), 100, False),
    ],
)
def test_a_frame_suits_whom_it_leaves_nothing_that_has_died(frame: Frame, since: int, suits: bool) -> None:
    assert frame.suits(Seq(since)) is suits


def test_a_frame_from_memory_left_nothing_out_up_to_its_end() -> None:
    assert (_frame(0, 5, 0).upto, _frame(0, 5, 0, 80).upto) == (5, 80)


@pytest.mark.parametrize(
    ("after", "floor", "decision"),
    [
        (0, 50, Resume(Seq(0))),
        (49, 50, Reconcile(Seq(50))),
        (50, 50, Resume(Seq(50))),
        (51, 50, Resume(Seq(51))),
    ],
)
def test_a_cursor_below_the_floor_is_reconciled_at_the_floor(after: int, floor: int, decision: object) -> None:
    lineage = Lineage((Entry("a", Seq(0)),))
    assert decide_resume(lineage, Seq(90), Position("a", Seq(after)), None, None, Seq(floor)) == decision


def test_a_cursor_of_another_view_below_the_floor_is_reconciled_at_the_floor_too() -> None:
    lineage = Lineage((Entry("a", Seq(0)),))
    assert decide_resume(lineage, Seq(90), Position("a", Seq(7), "v"), None, None, Seq(50)) == Reconcile(Seq(50))
    assert decide_resume(lineage, Seq(90), Position("a", Seq(60), "v"), None, None, Seq(50)) == Reconcile(Seq(60))


# --- clients ---


async def test_who_was_away_while_the_floor_passed_him_is_told_what_lives() -> None:
    async with engine() as hub:
        await commit(hub, "a", "b", "c")
        held, peer = Held(), Peer(hub)
        await held.go_on(hub, peer)
        peer.connection.lost()
        await commit(hub, "-a", "d", "e")
        await clean_up(hub, 4)
        async with engine(hub.storage, stores=()) as other:
            await held.go_on(other, again := Peer(other))
            assert held.hows == ["resume", "reconcile"]
            assert held.records == {"b": 2, "c": 3, "d": 5, "e": 6}
            await commit(other, "-b", "f")
            held.take(again.take())
            assert held.records == {"c": 3, "d": 5, "e": 6, "f": 8}


async def test_who_was_away_but_finds_every_delete_in_memory_resumes() -> None:
    async with engine() as hub:
        await commit(hub, "a", "b", "c")
        held, peer = Held(), Peer(hub)
        await held.go_on(hub, peer)
        peer.connection.lost()
        await commit(hub, "-a", "d")
        await clean_up(hub, 4)
        await held.go_on(hub, Peer(hub))
        assert held.hows == ["resume", "resume"]
        assert held.records == {"b": 2, "c": 3, "d": 5}


async def test_the_position_of_a_reconcile_is_the_floor_and_its_digest_is_right() -> None:
    async with engine() as hub:
        await commit(hub, "a", "b", "-a", "c")
        await clean_up(hub, 3)
        messages = await Peer(hub).subscribe(f"{(await hub.storage.info('notes')).head.lineage.cursor(Seq(1))}")
        (subscribed,) = [message for message in messages if isinstance(message, Subscribed)]
        assert (subscribed.how, parse_cursor(subscribed.at).seq) == ("reconcile", 3)
        (live,) = [message for message in messages if isinstance(message, Live)]
        assert (live.seqs, parse_cursor(live.upto).seq) == ("2", 3)


async def test_a_server_that_remembers_an_older_floor_finds_the_new_one_in_the_read() -> None:
    """The SUBSCRIBE is answered from memory, the frame is not: what it tells ends the subscription."""
    async with engine(tail_bytes_max=10) as hub:
        await commit(hub, "a", "b", "c")
        held, peer = Held(), Peer(hub)
        await held.go_on(hub, peer)
        peer.connection.lost()
        await commit(hub, "-a", "d", "e")
        await clean_up(hub, 4)
        (feed,) = hub.feeds.all()
        assert feed.tail.floor == 0, "nobody has looked at the log since"
        await held.go_on(hub, peer := Peer(hub))
        assert held.ends == ["resubscribe"]
        assert "a" in held.records, "the DELETE is gone"
        await held.go_on(hub, peer)
        assert held.hows == ["resume", "resume", "reconcile"]
        assert held.records == {"b": 2, "c": 3, "d": 5, "e": 6}


async def test_a_cursor_of_another_view_is_reconciled_at_a_floor_that_nobody_has_looked_at_yet() -> None:
    async with engine(tail_bytes_max=10) as hub:
        await commit(hub, "a", "b", "-a", "c")
        peer = Peer(hub)
        await peer.subscribe("now")
        await clean_up(hub, 3)
        lineage = (await hub.storage.info("notes")).head.lineage
        narrow = Subscribe(1, "notes", lineage.cursor(Seq(1)), filter=msgspec.Raw(b'{"key_prefix":"b"}'))
        messages = await Peer(hub).ask(narrow)
        (subscribed,) = [message for message in messages if isinstance(message, Subscribed)]
        assert (subscribed.how, parse_cursor(subscribed.at).seq) == ("reconcile", 3)
        assert isinstance(messages[-1], CaughtUp)


async def test_a_feed_that_lags_below_the_floor_ends_and_comes_back() -> None:
    async with engine(tail_bytes_max=10) as hub:
        await commit(hub, "a", "b")
        held, peer = Held(), Peer(hub)
        await held.go_on(hub, peer)
        peer.set_full(True)
        await commit(hub, "c", "-a", "d")
        await clean_up(hub, 4)
        peer.set_full(False)
        await settle()
        held.take(peer.take())
        assert held.ends == ["resubscribe"]
        await held.go_on(hub, peer)
        assert held.records == {"b": 2, "c": 3, "d": 5}


async def test_one_that_lags_but_has_everything_in_memory_goes_on_through_a_floor_that_rises() -> None:
    async with engine() as hub:
        await commit(hub, "a", "b")
        held, peer = Held(), Peer(hub)
        await held.go_on(hub, peer)
        peer.set_full(True)
        await commit(hub, "c", "-a", "d")
        await clean_up(hub, 4)
        peer.set_full(False)
        await settle()
        held.take(peer.take())
        assert held.ends == []
        assert held.records == {"b": 2, "c": 3, "d": 5}


async def _filled(hub: Hub) -> None:
    """Fill a store with so much that it is read in several pieces, the first of which has some that will die."""
    await commit(hub, *[f"k{number}" for number in range(12)], value=_LARGE)


async def test_a_walk_from_the_start_goes_on_above_a_floor_that_it_began_above() -> None:
    """Below the floor everything that it holds lived at the head of its beginning, so no DELETE is missed."""
    async with engine() as before:
        await _filled(before)
        await commit(before, "-k0", "-k1", "end")
        await clean_up(before, 14)
        async with engine(before.storage, stores=()) as hub:
            held, peer = Held(), Peer(hub)
            await held.go_on(hub, peer)
            assert hub.counts.cold_reads > 1, "it is read in pieces, all below the floor"
            assert (held.ends, held.caught_up) == ([], 1)
            assert len(held.records) == 11


async def test_a_walk_that_holds_what_has_died_below_the_floor_ends_rather_than_keep_it() -> None:
    async with engine() as before:
        await _filled(before)
        async with engine(before.storage, stores=()) as hub:
            held, peer = Held(), SlowPeer(hub, high_water=100_000)
            held.take(await peer.ask(Subscribe(900, "notes")))
            assert "k0" in held.records
            assert held.caught_up == 0, "it is on its way"
            await commit(hub, "-k0", "-k1", "end")
            await clean_up(hub, 14)
            while not held.ends and not held.caught_up:
                held.take(peer.drain())
                await settle()
            if held.ends:
                assert held.ends == ["resubscribe"]
                await held.go_on(hub, Peer(hub))
                assert held.hows[-1] == "reconcile"
            assert held.caught_up
            assert set(held.records) == {f"k{number}" for number in range(2, 12)} | {"end"}


async def test_frames_that_were_kept_for_others_hold_back_who_takes_them() -> None:
    """A frame of the past has records that have died since; who takes it must not pass the DELETEs that are gone."""
    async with engine() as before:
        await _filled(before)
        async with engine(before.storage, stores=(), tail_bytes_max=10) as hub:
            first = Held()
            await first.go_on(hub, Peer(hub))
            assert first.caught_up
            # The frames that `first` was sent are in the cache, with k0 alive.
            await commit(hub, "-k0", "-k1", *[f"m{number}" for number in range(4)])
            await clean_up(hub, 14)
            late, peer = Held(), Peer(hub)
            await late.go_on(hub, peer)
            await settle()
            late.take(peer.take())
            while late.ends and not late.caught_up:
                late.ends.clear()
                await late.go_on(hub, peer)
            assert "k0" not in late.records
            assert "k1" not in late.records
            assert len(late.records) == 14


async def test_after_a_rewind_below_the_floor_nothing_that_died_stays() -> None:
    """What LIVE names has not died up to the floor, so the walk from `keep_to` is taken although it is below."""
    async with engine(tail_bytes_max=10) as hub:
        await commit(hub, "a", "b", "c", "-a", "-b", "d")
        await clean_up(hub, 5)
        lineage = (await hub.storage.info("notes")).head.lineage
        held, peer = Held(), Peer(hub)
        held.records = {"a": 1, "b": 2, "x": 3}
        # Another history, which has the first incarnation in common up to 2.
        held.lineage = (
            f"{lineage.entries[-1].incarnation}@0,other@3"
            if len(lineage.entries) == 1
            else (f"{lineage.entries[0].incarnation}@0,{lineage.entries[-1].incarnation}@1,other@3")
        )
        held.cursor = Cursor("other:3")
        await held.go_on(hub, peer)
        assert held.hows == ["rewind"]
        assert held.ends == []
        assert held.records == {"c": 3, "d": 6}


async def test_many_who_are_told_what_lives_at_one_position_cost_one_read() -> None:
    async with engine() as hub:
        await commit(hub, "a", "b", "-a", "c")
        await clean_up(hub, 3)
        reads = 0
        live_set = hub.storage.live_set

        async def counted(*asked: object) -> SeqSet:
            nonlocal reads
            reads += 1
            return await live_set(*asked)  # type: ignore[arg-type]

        hub.storage.live_set = counted  # type: ignore[method-assign, assignment]
        cursor = (await hub.storage.info("notes")).head.lineage.cursor(Seq(1))
        peers = [Peer(hub) for _ in range(20)]
        for peer in peers:
            peer.send(Subscribe(1, "notes", cursor))
        while not all(isinstance(peer.take()[-1], CaughtUp) for peer in peers if peer.payloads):
            await settle()
        await settle()
        assert reads == 1


@pytest.mark.parametrize("seed", range(25))
async def test_whatever_happens_while_the_floor_rises_nobody_skips_and_nothing_comes_back(seed: int) -> None:
    """Readers that stall, leave and return, while records die and are cleaned away under them."""
    chance = random.Random(seed)
    async with engine(open_storage("memory:"), tail_bytes_max=chance.choice([10, 5_000, 1_000_000])) as hub:
        readers = [(Held(), SlowPeer(hub, high_water=chance.choice([500, 50_000]))) for _ in range(4)]
        living, number = list[str](), 0
        for held, peer in readers:
            held.take(await peer.ask(Subscribe(900, "notes")))
        for number in range(60):
            doing = chance.random()
            if doing < 0.4 or not living:
                await commit(hub, f"k{number}", value=chance.choice([b"1", _LARGE]))
                living.append(f"k{number}")
            elif doing < 0.7:
                await commit(hub, "-" + living.pop(chance.randrange(len(living))))
            elif doing < 0.8:
                head = (await hub.storage.info("notes")).head.seq
                await clean_up(hub, chance.randint(1, head))
            else:
                await _move(hub, readers, chance)
        for held, peer in readers:
            await _finish(hub, held, peer)
            assert set(held.records) == set(living)


async def _move(hub: Hub, readers: list[tuple[Held, SlowPeer]], chance: random.Random) -> None:
    """Let one reader read something, or come back on a new connection."""
    place = chance.randrange(len(readers))
    held, peer = readers[place]
    if chance.random() < 0.3 or held.ends:
        peer.connection.lost()
        held.ends.clear()
        peer = SlowPeer(hub, high_water=peer.high_water)
        readers[place] = held, peer
        held.take(await peer.ask(Subscribe(900, "notes", held.cursor, held.lineage)))
    else:
        held.take(peer.drain())
    await held.fetch(peer)
    held.take(peer.drain())


async def _finish(hub: Hub, held: Held, peer: SlowPeer) -> None:
    """Read until nothing is left to read."""
    for _ in range(200):
        if held.ends:
            held.ends.clear()
            peer.connection.lost()
            peer = SlowPeer(hub, high_water=1_000_000_000)
            held.take(await peer.ask(Subscribe(900, "notes", held.cursor, held.lineage)))
        await held.fetch(peer)
        messages = peer.drain()
        await settle()
        if not messages and not peer.payloads:
            return
        held.take(messages)
    raise AssertionError("it never ended")
