"""Parts of a store by index and key on every backend: along the log and at a position, before and after clean-up.

Everything is compared with a naive look at all changes. The bounds that decide how SQLite goes about it are set so low
that small stores meet all of its ways.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from syncline_protocol import Seq
from syncline_protocol.codec import decode_change
from syncline_protocol.digest import digest_term
from syncline_protocol.filter import Filter
from syncline_protocol.index import IndexSpec, TermRange, encode_term, terms_of
from syncline_server.storage import memory_log, sqlite_reader, sqlite_selected
from syncline_server.storage.base import Floors, Horizon, Row, Storage, Summary, Terms
from syncline_server.storage.selection import Condition, Selector

from .conftest import Bench, add, delete, write

SPECS = [IndexSpec("room", "/room"), IndexSpec("price", "/price", "range"), IndexSpec("tags", "/tags", "multi")]


@dataclass
class _Change:
    row: Row
    partner: Seq | None
    key: str
    terms: Terms

    @property
    def is_delete(self) -> bool:
        return self.partner is not None and self.partner < self.row.seq


@dataclass
class History:
    """Every change that a store ever had, and what clean-up has left of them."""

    changes: list[_Change] = field(default_factory=list)
    floors: Floors = field(default_factory=Floors)

    def _is_there(self, change: _Change) -> bool:
        if change.is_delete:
            return change.row.seq > self.floors.tombstones
        return change.partner is None or change.partner > self.floors.history

    def living(self, upto: int, selectors: Sequence[Selector]) -> list[_Change]:
        """What lives at a position and one of the selectors selects."""
        return [
            change
            for change in self.changes[:upto]
            if not change.is_delete and self._is_there(change) and (change.partner is None or change.partner > upto)
            if any(selector.selects(change.key, change.terms) for selector in selectors)
        ]

    def walked(self, after: int, upto: int, deletes_to: int, selectors: Sequence[Selector]) -> list[int]:
        """What a walk brings."""
        alive = {change.row.seq for change in self.living(upto, selectors)}
        return [
            change.row.seq
            for change in self.changes[after:upto]
            if change.row.seq in alive
            or (
                change.is_delete
                and self._is_there(change)
                and (change.partner or 0) <= deletes_to
                and any(selector.selects(change.key, change.terms) for selector in selectors)
            )
        ]


async def _make(bench: Bench, chance: random.Random) -> tuple[History, dict[str, str]]:
    """Fill a store at random. Returns its history, and the uids of its indexes by name."""
    uids = {spec.name: (await bench.storage.create_index("notes", spec, 1))[0].uid for spec in SPECS}
    values: dict[str, object] = {}
    live: list[str] = []
    history = History()
    for number in range(40):
        ops = []
        for part in range(chance.randrange(1, 4)):
            if live and chance.random() < 0.4:
                ops.append(delete(live.pop(chance.randrange(len(live)))))
            else:
                key = f"{chance.choice(['a/', 'b/'])}{number}.{part}"
                values[key] = {
                    "room": chance.choice(["r1", "r2", "r3"]),
                    "price": chance.randrange(10),
                    "tags": chance.sample(["x", "y"], chance.randrange(3)),
                }
                ops.append(add(key, values[key]))
        live += [op.key for op in ops if op.value is not None]
        (commit,) = (await bench.append(write(*ops))).commits
        for row, partner in zip(commit.rows, commit.partners, strict=True):
            key = decode_change(row.text).key
            terms = {uids[spec.name]: terms_of(spec, values[key]) for spec in SPECS}
            history.changes.append(_Change(row, partner, key, terms))
            if partner is not None:
                history.changes[partner - 1].partner = row.seq
    return history, uids


def _asked(uids: dict[str, str]) -> list[list[Selector]]:
    r1 = Condition(uids["room"], Filter(index="room", eq="r1").term_range())
    r2 = Condition(uids["room"], Filter(index="room", eq="r2").term_range())
    cheap = Condition(uids["price"], TermRange(encode_term(0), encode_term(3)))
    x = Condition(uids["tags"], Filter(index="tags", eq="x").term_range())
    tagged = Condition(uids["tags"], TermRange())
    return [
        [Selector("", (r1,))],
        [Selector("", (cheap,))],
        [Selector("", (tagged,))],
        [Selector("a/", (r1, x))],
        [Selector("", (r1,)), Selector("", (r2, cheap))],
        [Selector("b/"), Selector("", (r1, cheap))],
        [Selector("a/1")],
        [Selector("a/"), Selector("b/")],
    ]


async def _compare(storage: Storage, history: History, asked: list[list[Selector]], chance: random.Random) -> None:
    ends = [0, *sorted({change.row.last_seq for change in history.changes})]
    uptos = [end for end in ends if end >= history.floors.history]
    for selectors in asked:
        for upto in {uptos[-1], *chance.sample(uptos, min(5, len(uptos)))}:
            living = history.living(upto, selectors)
            found = await storage.live_set("notes", Seq(upto), selectors)
            assert [seq for first, last in found.ranges() for seq in range(first, last + 1)] == [
                change.row.seq for change in living
            ]
            total = sum(digest_term(change.row.seq, change.key) for change in living)
            assert await storage.summary("notes", selectors, Seq(upto)) == Summary(len(living), total % 2**32)
            for after in {0, *chance.sample([end for end in ends if end <= upto], 2 if upto > ends[1] else 1)}:
                for deletes_to in {0, after // 2, after}:
                    walked = await _walk(storage, after, upto, deletes_to, selectors, history.floors)
                    assert walked == history.walked(after, upto, deletes_to, selectors)


async def _walk(
    storage: Storage, after: int, upto: int, deletes_to: int, selectors: list[Selector], floors: Floors
) -> list[int]:
    seqs: list[int] = []
    at = Seq(after)
    while at < upto:
        chunk = await storage.read("notes", at, Seq(upto), deletes_to=Seq(deletes_to), selectors=selectors)
        assert chunk.after == at < chunk.to <= upto
        assert chunk.floor == floors.tombstones
        assert all(at < row.seq <= row.last_seq <= chunk.to for row in chunk.rows)
        seqs += [row.seq for row in chunk.rows]
        at = chunk.to
    return seqs


@pytest.mark.parametrize(("looked", "unordered", "dense"), [(3, 1000, 2.0), (5, 4, 0.2), (1000, 0, 0.0)])
@pytest.mark.parametrize("seed", range(2))
async def test_a_part_of_a_store_is_what_a_naive_look_at_all_changes_shows(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, seed: int, looked: int, unordered: int, dense: float
) -> None:
    for module in (memory_log, sqlite_reader, sqlite_selected):
        monkeypatch.setattr(module, "SCAN_SEQS_MAX", 5)
        monkeypatch.setattr(module, "BATCH_BYTES_TARGET", 400)
    monkeypatch.setattr(sqlite_selected, "_LOOKED_MAX", looked)
    monkeypatch.setattr(sqlite_selected, "_UNORDERED_MAX", unordered)
    monkeypatch.setattr(sqlite_selected, "_DENSE", dense)
    chance = random.Random(seed)
    history, uids = await _make(bench, chance)
    asked = _asked(uids)
    await _compare(bench.storage, history, asked, chance)
    ends = sorted({change.row.last_seq for change in history.changes})
    for values, tombstones in [(len(ends) // 2, 0), (len(ends) * 3 // 4, len(ends) // 3)]:
        done = await bench.storage.compact("notes", Horizon(ends[values], ends[tombstones]), 60.0)
        assert done.values > 0
        history.floors = done.floors
        await _compare(bench.storage, history, asked, chance)
