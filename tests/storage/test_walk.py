"""Reading the log on every backend: chunks tile it, what is left out is what the contract says, nothing is split."""

import pytest

from syncline_protocol import DEFAULT_LIMITS, Seq
from syncline_protocol.codec import decode_change
from syncline_protocol.limits import BATCH_BYTES_TARGET
from syncline_server.storage.base import StoreUnknown
from syncline_server.storage.staging import SCAN_SEQS_MAX, TRANSACTION_BYTES_MAX

from .conftest import Bench, add, delete, single, write


async def make_history(bench: Bench) -> None:
    """1 +a  2 +b  [3 -a 4 +c]  5 -b  [6 +d 7 +e]  8 -d."""
    await bench.answers(single(add("a")), single(add("b")))
    await bench.answers(write(delete("a"), add("c")), single(delete("b")))
    await bench.answers(write(add("d"), add("e")), single(delete("d")))


@pytest.mark.parametrize(
    ("after", "upto", "seen"),
    [
        (0, 8, ["+c", "+e"]),
        (1, 8, ["-a", "+c", "+e"]),
        (2, 8, ["-a", "+c", "-b", "+e"]),
        (4, 8, ["-b", "+e"]),
        (5, 8, ["+e"]),
        (7, 8, ["-d"]),
        (8, 8, []),
        (0, 1, ["+a"]),
        (0, 2, ["+a", "+b"]),
        (0, 4, ["+b", "+c"]),
        (0, 7, ["+c", "+d", "+e"]),
        (4, 7, ["-b", "+d", "+e"]),
    ],
)
async def test_a_walk_leaves_out_what_is_dead_at_its_end_and_deletes_of_what_it_never_sent(
    bench: Bench, after: int, upto: int, seen: list[str]
) -> None:
    await make_history(bench)
    assert await bench.walk(after, upto) == seen
    assert await bench.walk(after, upto, records_only=True) == [key for key in seen if key[0] == "+"]


async def test_a_walk_continued_from_any_position_arrives_at_the_same_records(bench: Bench) -> None:
    await make_history(bench)
    for stop in (1, 2, 4, 5, 7, 8):
        records: set[str] = set()
        for change in await bench.walk(0, stop) + await bench.walk(stop):
            records = records | {change[1:]} if change[0] == "+" else records - {change[1:]}
        assert records == {"c", "e"}


@pytest.mark.parametrize(("size", "together"), [(1000, 1), (1000, 7), (50_000, 1), (50_000, 2), (200_000, 1)])
async def test_chunks_end_with_the_transaction_that_reaches_the_target(bench: Bench, size: int, together: int) -> None:
    count = 3 * BATCH_BYTES_TARGET // size // together + 1
    writes = [write(*(add(f"k{n}.{m}", "y" * size) for m in range(together))) for n in range(count)]
    await bench.answers(*writes)
    at, upto = Seq(0), (await bench.head()).seq
    while at < upto:
        chunk = await bench.storage.read("notes", at, upto)
        texts = [len(row.text) for row in chunk.rows]
        assert [row.seq for row in chunk.rows] == [*range(at + 1, chunk.to + 1)]
        assert chunk.rows[-1].last_seq == chunk.to
        assert sum(texts) >= BATCH_BYTES_TARGET or chunk.to == upto
        assert sum(texts[:-together]) < BATCH_BYTES_TARGET
        at = chunk.to


async def test_a_transaction_is_never_split_and_a_chunk_fits_into_a_frame(bench: Bench) -> None:
    value = "y" * ((TRANSACTION_BYTES_MAX - 2000) // 4)
    fill = [single(add(f"s{n}", "z" * 1000)) for n in range(120)]
    await bench.answers(*fill, write(*(add(f"k{n}", value) for n in range(4))), write(add("a"), add("b")))
    upto = (await bench.head()).seq
    chunk = await bench.storage.read("notes", Seq(0), upto)
    assert chunk.to == 124
    assert sum(len(row.text) + 1 for row in chunk.rows) <= DEFAULT_LIMITS.batch_bytes_max - 4096
    chunk = await bench.storage.read("notes", chunk.to, upto)
    assert [row.seq for row in chunk.rows] == [125, 126]
    assert {row.last_seq for row in chunk.rows} == {126}


async def test_a_chunk_goes_to_the_end_of_its_transaction_though_the_last_change_is_left_out(bench: Bench) -> None:
    half = "y" * (BATCH_BYTES_TARGET // 2)
    await bench.answer(write(add("a", half), add("b", half), add("c"), add("d")))
    await bench.answers(single(delete("d")), single(add("e")))
    chunk = await bench.storage.read("notes", Seq(0), Seq(6))
    assert (chunk.to, [row.seq for row in chunk.rows]) == (4, [1, 2, 3])


async def test_a_walk_over_nothing_but_dead_records_moves_on(bench: Bench) -> None:
    count = SCAN_SEQS_MAX + 500
    await bench.answers(*(single(add(f"k{n}")) for n in range(count)))
    await bench.answers(write(*(delete(f"k{n}") for n in range(count)), atomic=False))
    chunk = await bench.storage.read("notes", Seq(0), Seq(2 * count))
    assert (chunk.to, chunk.rows) == (SCAN_SEQS_MAX, ())
    # A DELETE is only left out of the chunk that has its ADD, and here they are further apart.
    assert await bench.walk() == [f"-k{n}" for n in range(count)]


async def test_a_scan_that_stops_inside_a_transaction_goes_on_to_its_end(bench: Bench) -> None:
    await bench.answers(*(single(add(f"k{n}", "")) for n in range(SCAN_SEQS_MAX - 1)))
    await bench.answer(write(add("a"), add("b"), add("c")))
    await bench.answer(write(*(delete(f"k{n}") for n in range(SCAN_SEQS_MAX - 1))))
    upto = (await bench.head()).seq
    chunk = await bench.storage.read("notes", Seq(0), upto)
    assert chunk.to == SCAN_SEQS_MAX + 2
    assert [decode_change(row.text).key for row in chunk.rows] == ["a", "b", "c"]


async def test_the_live_set_is_the_seqs_that_live_at_a_position(bench: Bench) -> None:
    await make_history(bench)
    assert [*(await bench.storage.live_set("notes", Seq(8))).ranges()] == [(4, 4), (7, 7)]
    assert [*(await bench.storage.live_set("notes", Seq(7))).ranges()] == [(4, 4), (6, 7)]
    assert [*(await bench.storage.live_set("notes", Seq(2))).ranges()] == [(1, 2)]
    assert [*(await bench.storage.live_set("notes", Seq(0))).ranges()] == []


async def test_fetch_brings_what_lives_in_the_ranges_in_order(bench: Bench) -> None:
    await make_history(bench)

    async def fetched(ranges: list[tuple[int, int]], upto: int) -> list[int]:
        asked = [(Seq(first), Seq(last)) for first, last in ranges]
        return [row.seq for row in await bench.storage.fetch("notes", asked, Seq(upto))]

    assert await fetched([(1, 8)], 8) == [4, 7]
    assert await fetched([(1, 1), (6, 6), (7, 90)], 8) == [7]
    assert await fetched([(1, 2), (6, 7)], 7) == [6, 7]
    assert await fetched([(1, 8)], 2) == [1, 2]
    assert await fetched([], 8) == []


async def test_fetch_stops_near_the_target_and_is_continued_after_its_last_seq(bench: Bench) -> None:
    await bench.answers(*(single(add(f"k{n}", "y" * 1000)) for n in range(300)))
    got: list[int] = []
    while len(got) < 300:
        first = Seq(got[-1] + 1 if got else 1)
        rows = await bench.storage.fetch("notes", [(first, Seq(300))], Seq(300))
        assert sum(len(row.text) for row in rows) <= BATCH_BYTES_TARGET + 2000
        got += [row.seq for row in rows]
    assert got == list(range(1, 301))


async def test_reading_a_store_that_is_not_there_says_so(bench: Bench) -> None:
    storage = bench.storage
    for reading in (
        storage.read("nowhere", Seq(0), Seq(0)),
        storage.fetch("nowhere", [], Seq(0)),
        storage.live_set("nowhere", Seq(0)),
        storage.get("nowhere", "k"),
        storage.info("nowhere"),
    ):
        with pytest.raises(StoreUnknown, match="nowhere"):
            await reading
