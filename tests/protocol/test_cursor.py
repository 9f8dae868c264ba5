"""Positions: names, lineages and the resume table of PROTOCOL 5.4, also against real histories with forks."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline_protocol.cursor import (
    Cursor,
    Entry,
    Lineage,
    Position,
    Resume,
    Resumption,
    Rewind,
    Seq,
    Snapshot,
    decide_resume,
    lineage_with,
    parse_cursor,
)
from syncline_protocol.errors import CursorInvalid
from syncline_protocol.limits import INCARNATION_CHARS_MAX, LINEAGE_ENTRIES_MAX, SEQ_MAX


def lineage(text: str) -> Lineage:
    return Lineage.parse(text)


def decide(log: str, head: int, after: str, known: str | None = None) -> Resumption:
    return decide_resume(lineage(log), Seq(head), parse_cursor(after), None if known is None else lineage(known))


# --- text forms ---


@pytest.mark.parametrize("text", ["a:0", "a01c:1", f"A-z_0:{SEQ_MAX}", "x" * INCARNATION_CHARS_MAX + ":7"])
def test_a_cursor_is_read_back_as_it_was_written(text: str) -> None:
    position = parse_cursor(text)
    assert f"{position.incarnation}:{position.seq}" == text


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "a", "a:", ":1", "a:01", "a:-1", "a:+1", "a:1.0", "a:1e3", "a: 1", "a:1 ", " a:1", "a:1\n", "a:1:2"),
        *("a b:1", "a,b:1", "a@1", "ä:1", "a:\u0661", f"a:{SEQ_MAX + 1}", "a:" + "9" * 400, "start", "now", "a\n:1"),
        "x" * (INCARNATION_CHARS_MAX + 1) + ":7",
    ],
)
def test_text_of_another_form_is_no_cursor(text: str) -> None:
    with pytest.raises(CursorInvalid) as caught:
        parse_cursor(text)
    assert caught.value.code == "cursor_invalid"
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text", ["", "a", "a@", "@1", "a@1,", "a@1,b@1", "a@2,b@1", "a@x", "a@0;b@1", "a:0", "a@0, b@1"]
)
def test_text_of_another_form_is_no_lineage(text: str) -> None:
    with pytest.raises(CursorInvalid):
        Lineage.parse(text)


def test_a_lineage_of_too_many_entries_is_refused() -> None:
    entries = [f"i{n}@{n}" for n in range(LINEAGE_ENTRIES_MAX + 1)]
    assert len(Lineage.parse(",".join(entries[1:])).entries) == LINEAGE_ENTRIES_MAX
    with pytest.raises(CursorInvalid):
        Lineage.parse(",".join(entries))


def test_a_long_lineage_hands_out_its_newest_entries() -> None:
    full = Lineage(tuple(Entry(f"i{n}", Seq(n)) for n in range(100)))
    handed_out = Lineage.parse(full.to_text())
    assert handed_out.entries == full.entries[-LINEAGE_ENTRIES_MAX:]


@given(st.text(max_size=40))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    for parse in (parse_cursor, Lineage.parse):
        try:
            parse(text)
        except CursorInvalid as error:
            assert error.code == "cursor_invalid"  # noqa: PT017


# --- names of positions ---


@st.composite
def lineages(draw: st.DrawFn) -> Lineage:
    firsts = sorted(draw(st.sets(st.integers(1, 60), max_size=8)))
    return Lineage(tuple(Entry(f"i{n}", Seq(first)) for n, first in enumerate([0, *firsts])))


@given(lineages(), st.integers(0, 80))
def test_every_position_has_one_name_and_the_name_leads_back_to_it(log: Lineage, head: int) -> None:
    names = [log.cursor(Seq(seq)) for seq in range(head + 1)]
    assert len(set(names)) == head + 1
    for seq, name in enumerate(names):
        assert decide_resume(log, Seq(head), parse_cursor(name), None) == Resume(Seq(seq))


@given(lineages(), st.integers(0, 80), st.integers(0, 90))
def test_only_the_name_of_a_position_resumes(log: Lineage, head: int, seq: int) -> None:
    for entry in log.entries:
        decision = decide_resume(log, Seq(head), Position(entry.incarnation, Seq(seq)), None)
        is_name = seq <= head and log.cursor(Seq(seq)) == f"{entry.incarnation}:{seq}"
        assert isinstance(decision, Resume) == is_name


@given(lineages())
def test_a_lineage_is_read_back_as_it_was_written(log: Lineage) -> None:
    assert Lineage.parse(log.to_text()) == log
    assert hash(Lineage.parse(log.to_text())) == hash(log)
    assert log.to_text() in repr(log)


def test_an_incarnation_under_which_nothing_was_committed_is_replaced() -> None:
    log = lineage("a@0").extended("b", Seq(51)).extended("c", Seq(51))
    assert log == lineage("a@0,c@51")
    assert log.current == Entry("c", Seq(51))


def test_last_seq_is_of_the_part_of_the_lineage_at_or_below_the_head() -> None:
    log = lineage("a@0,b@51,c@81")
    assert [log.last_seq(name, Seq(100)) for name in "abcd"] == [50, 80, 100, None]
    assert [log.last_seq(name, Seq(60)) for name in "abcd"] == [50, 60, None, None]


# --- the resume table: a row each ---


@pytest.mark.parametrize(
    ("row", "log", "head", "after", "known", "expected"),
    [
        ("R3", "a@0", 0, "a:0", None, Resume(Seq(0))),
        ("R3", "a@0", 100, "a:60", None, Resume(Seq(60))),
        ("R3", "a@0,c@81", 100, "a:80", None, Resume(Seq(80))),
        ("R3", "a@0,c@81", 100, "c:81", "a@0,c@81", Resume(Seq(81))),
        ("R4", "a@0", 80, "a:95", None, Rewind(Seq(80))),
        ("R4", "a@0,c@81", 120, "a:95", None, Rewind(Seq(80))),
        ("R4", "a@0,c@81", 120, "a:95", "a@0", Rewind(Seq(80))),
        ("R5", "a@0,c@81", 120, "c:60", None, Snapshot()),
        ("R5", "a@0,c@81", 120, "c:60", "a@0,c@40", Snapshot()),
        ("R6", "c@0", 50, "a:10", None, Snapshot()),
        ("R7", "a@0,c@81", 120, "b:95", "a@0", Snapshot()),
        ("R7", "a@0,c@81", 120, "b:60", "a@0,b@81", Snapshot()),
        ("R8", "a@0,c@81", 120, "b:95", "a@0,b@91", Rewind(Seq(80))),
        ("R8", "a@0,c@91", 120, "b:95", "a@0,b@81", Rewind(Seq(80))),
        ("R8", "a@0,b@30,c@81", 120, "d:95", "a@0,b@30,d@60", Rewind(Seq(59))),
        ("R8", "a@0", 40, "b:95", "a@0,b@51", Rewind(Seq(40))),
        ("R9", "c@0", 50, "b:10", "a@0,b@5", Snapshot()),
    ],
)
def test_each_row_of_the_resume_table_decides_as_written(
    row: str, log: str, head: int, after: str, known: str | None, expected: Resumption
) -> None:
    assert decide(log, head, after, known) == expected, row


# --- the attacks on positions ---


def test_attack_1_a_restored_server_resumes_the_cursor_but_the_ack_is_not_in_its_lineage() -> None:
    restored = lineage("a@0,c@81")
    assert decide("a@0,c@81", 90, "a:60") == Resume(Seq(60))
    last = restored.last_seq("a", Seq(90))
    assert last is not None
    assert last < 95


def test_attack_1_before_the_first_append_the_head_shows_that_the_ack_is_lost() -> None:
    last = lineage("a@0").last_seq("a", Seq(80))
    assert last is not None
    assert last < 95


def test_attack_2_a_position_bears_the_name_that_the_log_gives_it_on_every_node() -> None:
    log = lineage("a@0").extended("b", Seq(51))
    assert [log.cursor(Seq(seq)) for seq in (50, 51, 52)] == ["a:50", "b:51", "b:52"]


def test_attack_3_idle_restarts_mint_nothing_so_an_idle_client_resumes() -> None:
    assert decide("a@0", 60, "a:60", "a@0") == Resume(Seq(60))


def test_attack_4_a_client_of_the_lost_end_of_a_failed_over_log_rewinds() -> None:
    assert decide("a@0,d@91", 120, "a:100", "a@0") == Rewind(Seq(90))


def test_attack_5_a_client_of_an_incarnation_that_is_lost_wholly_gets_a_snapshot() -> None:
    assert decide("x@0,y@40", 60, "b:55", "b@10") == Snapshot()


def test_attack_16_a_store_made_anew_shares_no_incarnation() -> None:
    assert decide("new@0", 500, "old:100", "old@0") == Snapshot()


def test_attack_19_a_cursor_far_ahead_is_never_clamped_to_the_head() -> None:
    assert decide("a@0", 80, f"a:{SEQ_MAX}") == Rewind(Seq(80))


# --- against real histories ---


@dataclass
class Log:
    """A log as a list of what was committed: equal contents at a seq mean the same history."""

    contents: list[int] = field(default_factory=list)
    lineage: Lineage = field(default_factory=lambda: Lineage((Entry("i0", Seq(0)),)))
    must_mint: bool = True

    def copy(self) -> "Log":
        return Log(list(self.contents), self.lineage)


@st.composite
def forked_logs(draw: st.DrawFn) -> tuple[list[Log], list[tuple[str, str, list[int]]]]:
    """Run commits, restarts, copies, restores and truncations; return the logs and what clients noted at times."""
    fresh = iter(range(1, 10_000))
    logs = [Log()]
    backups: list[Log] = []
    clients: list[tuple[str, str, list[int]]] = []
    for _ in range(draw(st.integers(1, 40))):
        log = draw(st.sampled_from(logs))
        match draw(st.sampled_from(["commit", "commit", "restart", "copy", "backup", "restore", "note", "note"])):
            case "commit":
                for _ in range(draw(st.integers(1, 4))):
                    if log.must_mint:
                        log.lineage = log.lineage.extended(f"i{next(fresh)}", Seq(len(log.contents) + 1))
                        log.must_mint = False
                    log.contents.append(next(fresh))
            case "restart":
                log.must_mint = True
            case "copy":
                logs.append(log.copy())
            case "backup":
                backups.append(log.copy())
            case "restore" if backups:
                source = draw(st.sampled_from(backups)).copy()
                log.contents, log.lineage, log.must_mint = source.contents, source.lineage, True
            case _:
                at = draw(st.integers(0, len(log.contents)))
                clients.append((log.lineage.cursor(Seq(at)), log.lineage.to_text(), log.contents[:at]))
    return logs, clients


@given(forked_logs(), st.booleans())
def test_a_resume_keeps_only_what_really_happened_in_the_log(
    histories: tuple[list[Log], list[tuple[str, str, list[int]]]], gives_known: bool
) -> None:
    logs, clients = histories
    for log in logs:
        head = Seq(len(log.contents))
        for after, known, held in clients:
            decision = decide_resume(
                log.lineage, head, parse_cursor(after), Lineage.parse(known) if gives_known else None
            )
            match decision:
                case Resume(at):
                    assert at == len(held)
                    assert held == log.contents[:at]
                case Rewind(keep_to):
                    assert keep_to == _common(held, log.contents)
                case Snapshot():
                    assert held != log.contents[: len(held)] or not _same_names(log, after)


def _common(held: list[int], contents: list[int]) -> int:
    return sum(1 for a, b in zip(held, contents, strict=False) if a == b)


def _same_names(log: Log, after: str) -> bool:
    seq = parse_cursor(after).seq
    return seq <= len(log.contents) and log.lineage.cursor(seq) == after


def test_a_lineage_takes_up_the_incarnation_that_a_batch_brings() -> None:
    assert lineage_with("a@0", Cursor("a:5"), Cursor("a:9")) == "a@0"
    assert lineage_with("a@0", Cursor("a:5"), Cursor("b:9")) == "a@0,b@6"
    assert lineage_with("a@0,b@8", Cursor("a:5"), Cursor("b:9")) == "a@0,b@8"
    # A catch-up from below all of them, in one batch with what was written meanwhile.
    assert lineage_with("a@0,b@8", Cursor("a:5"), Cursor("c:12")) == "a@0,b@8,c@9"


def test_a_restore_after_such_a_batch_is_a_rewind_and_reaches_far_enough_back() -> None:
    known = Lineage.parse(lineage_with("a@0", Cursor("a:5"), Cursor("b:9")))
    restored = Lineage.parse("a@0,c@8")
    assert decide_resume(restored, Seq(8), Position("b", Seq(9)), known) == Rewind(Seq(5))
