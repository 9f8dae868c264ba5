"""Every benchmark works. Its figures are not looked at: a test machine is busy with other things."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.load import Channel, Load, LoadError
from benchmarks.report import Histogram, Line, at_least, at_most, table
from benchmarks.subscriber import Meaning, Swarm
from benchmarks.wire import HELLO, adds, hello, masked, seq_of, writes

ROOT = Path(__file__).parents[1]


def test_every_benchmark_runs_in_a_smoke_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--directory", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    for name in (
        "commit:",
        "fan-out:",
        "latency:",
        "catch-up:",
        "memory:",
        "storm:",
        "replica:",
        "access:",
        "filters:",
        "indexes:",
        "compaction:",
        "backup:",
        "live:",
        "kills:",
        "client-kills:",
    ):
        assert name in done.stdout
    assert not list(tmp_path.iterdir()), "everything that was written is gone"


def test_an_unknown_benchmark_is_refused_by_name() -> None:
    command = [sys.executable, "-m", "benchmarks", "speed"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "there is no benchmark speed" in done.stderr
    assert all(name in done.stderr for name in BENCHMARKS)


def test_a_target_for_the_ratio_looks_at_the_floor_and_one_for_the_figure_does_not() -> None:
    assert Line("a", 35.0, "x/s", 100.0, at_least(ratio=0.35)).reached
    assert not Line("a", 34.0, "x/s", 100.0, at_least(ratio=0.35)).reached
    assert Line("a", 34.0, "x/s", 1.0, at_most(figure=34)).reached
    assert Line("a", 34.0, "x/s").reached is None


def test_the_table_names_what_was_missed() -> None:
    text = table([Line("a", 12.5, "ms", 10.0, at_most(ratio=1.2)), Line("b", 1.0, "s")])
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines()]
    assert rows[2][:6] == ["a", "12.5 ms", "10.0", "1.25", "≤ 1.20 x", "NO"]
    assert rows[3][:6] == ["b", "1.00 s", "-", "-", "-", "-"]


def test_a_percentile_is_at_most_one_step_above_the_time_itself() -> None:
    times = Histogram()
    for time_ms in range(1, 101):
        times.add(time_ms * 1_000_000)
    assert 50 <= times.percentile_ms(50) <= 50 + Histogram.STEP_NS / 1e6
    assert 99 <= times.percentile_ms(99) <= 99 + Histogram.STEP_NS / 1e6


@pytest.mark.parametrize("make", [adds(), adds("everything/"), writes(3)])
def test_all_requests_of_a_kind_have_one_length_and_a_correct_header(make: object) -> None:
    assert callable(make)
    frames = [make(1_000_000_000 + number, number) for number in (0, 1, 999)]
    assert len({len(frame) for frame in frames}) == 1
    for frame in frames:
        payload = frame[8:]
        assert frame == masked(payload)


def test_who_logs_in_brings_his_token_with_hello() -> None:
    frame = hello("syncline_p_abc")
    assert frame == masked(frame[6:])
    assert json.loads(frame[6:]) == {**json.loads(HELLO[6:]), "token": "syncline_p_abc"}


def test_the_seq_of_a_cursor_is_found_in_a_view_too() -> None:
    assert seq_of(b"abc:17") == seq_of(b"abc:17~0123456789ab") == 17


class _Texts(Channel):
    """A channel without a socket that keeps what it was given."""

    whole_bytes_max = 1000

    def __init__(self) -> None:
        self.texts: list[bytes] = []
        self.beginnings: list[bytes] = []
        self.is_open = True
        self.welcomed = True
        self._upgraded = True
        self._rest = b""
        self._skip = 0
        self._beginning = b""

    def on_text(self, payload: bytes) -> None:
        self.texts.append(payload)

    def on_beginning(self, beginning: bytes) -> None:
        self.beginnings.append(beginning)


def _frame(payload: bytes) -> bytes:
    """A server's frame: as a client's, without the mask."""
    header = masked(payload)[: -len(payload) - 4]
    return header[:1] + bytes([header[1] & 0x7F]) + header[2:] + payload


@pytest.mark.parametrize("step", [1, 2, 3, 7, 600, 5000, 1_000_000])
def test_frames_are_found_wherever_the_stream_is_cut(step: int) -> None:
    payloads = [b"a" * 5, b"b" * 125, b"c" * 126, b"d" * 900, b"e" * 70_000, b"f" * 1001, b"g"]
    stream = b"".join([_frame(payload) for payload in payloads])
    channel = _Texts()
    for at in range(0, len(stream), step):
        channel.on_data(stream[at : at + step])
    found = channel.texts + channel.beginnings
    assert {payload[:1] for payload in found} == {payload[:1] for payload in payloads}
    assert len(found) == len(payloads)
    assert all(payload in payloads for payload in channel.texts)
    assert channel.between_frames


def _batch(after: int, to: int) -> bytes:
    changes = b",".join(
        [b'{"seq":%d,"value":{"t":"%020d"},"pad":"%b"}' % (s, s, b"x" * 80) for s in range(after + 1, to + 1)]
    )
    return _frame(b'{"type":"BATCH","feed":"f","from":"i:%d","to":"i:%d","changes":[%b]}' % (after, to, changes))


def test_a_piece_of_two_batches_means_both() -> None:
    piece = _batch(4, 5) + _batch(5, 7)
    assert Swarm().meaning(piece) == Meaning(b"i:4", b"i:7", 3, (5, 6, 7))


def test_a_piece_that_is_cut_or_holds_something_else_means_nothing_shared() -> None:
    assert Swarm().meaning(_batch(4, 5)[:-1]) is None
    assert Swarm().meaning(_frame(b'{"type":"CAUGHT_UP","feed":"f","at":"i:4","count":4,"digest":"00000000"}')) is None


def test_a_gap_between_two_batches_is_found() -> None:
    with pytest.raises(LoadError, match="a batch begins at"):
        Swarm().meaning(_batch(4, 5) + _batch(6, 7))


def test_waiting_for_what_does_not_come_says_what_it_was() -> None:
    with Load() as load, pytest.raises(LoadError, match="the moon"):
        load.run_until(lambda: False, timeout_s=0.01, what="the moon")


def test_a_floor_below_what_can_be_measured_decides_nothing() -> None:
    line = Line("one", 3.0, "µs", 0.0, at_most(ratio=2.0))
    assert line.reached is None
    assert line.cells()[3] == "-"
