"""`syncline audit`, against files and a small server that says what a test wants."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner, Result

from syncline.cli import main
from syncline_protocol.audit import NO_HEAD, AuditHead, encode_entry, entry_hash, make_entry

NOON_MS = 1_790_000_000_000
TOKEN = "syncline_p_" + "x" * 43


def chain(count: int) -> list[bytes]:
    """Make a log of so many entries, a minute apart. One subject has what Python's `splitlines` splits at."""
    texts: list[bytes] = []
    for n in range(count):
        subject = "a\u2028b\x85c\x1b[2J" if n == 1 else f"store{n}"
        entry = make_entry(
            head_of(texts), NOON_MS + 60_000 * n, "store.drop", actor="alice", subject=subject, detail={"records": "3"}
        )
        texts.append(encode_entry(entry))
    return texts


def head_of(texts: list[bytes]) -> AuditHead:
    """Return the head of a log."""
    return AuditHead(len(texts) - 1, entry_hash(texts[-1])) if texts else NO_HEAD


class AuditServer(ThreadingHTTPServer):
    """Answers `GET /v1/audit`.

    Attributes:
        texts: the entries.
        head: what it says the head is.
        token: who shows it is let in.
        asked: the queries of requests that were let in, None for one for NDJSON.
        is_other: it is something else than a Syncline server.
    """

    daemon_threads = True

    def __init__(self, texts: list[bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.texts = texts
        self.head = head_of(texts)
        self.token: str | None = None
        self.asked: list[dict[str, list[str]] | None] = []
        self.is_other = False

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: AuditServer

    def do_GET(self) -> None:
        served, parts = self.server, urlsplit(self.path)
        assert parts.path == "/v1/audit"
        if self.headers.get("Authorization") != (f"Bearer {served.token}" if served.token else None):
            problem = b'{"code":"unauthenticated","detail":"who are you?"}'
            return self._answer(401, "application/problem+json", problem)
        if self.headers.get("Accept") == "application/x-ndjson":
            served.asked.append(None)
            kind = "text/html" if served.is_other else "application/x-ndjson"
            return self._answer(200, kind, b"".join(text + b"\n" for text in served.texts))
        query = parse_qs(parts.query)
        served.asked.append(query)
        first, limit = int(query.get("after", ["-1"])[0]) + 1, int(query["limit"][0])
        head = b'{"n":%d,"hash":"%b"}' % (served.head.n, served.head.hash.encode())
        page = b",".join(served.texts[first : first + limit])
        return self._answer(200, "application/json", b'{"entries":[%b],"head":%b}' % (page, head))

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def served() -> Iterator[AuditServer]:
    """A server with a log of ten entries."""
    with AuditServer(chain(10)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def audit(*arguments: str, stdin: bytes | None = None) -> Result:
    """Run `syncline audit`."""
    return CliRunner().invoke(main, ["audit", *arguments], input=stdin, prog_name="syncline")


def file_of(folder: Path, texts: list[bytes]) -> str:
    """Write an export by hand."""
    path = folder / "audit.ndjson"
    path.write_bytes(b"".join(text + b"\n" for text in texts))
    return str(path)


# --- verify ---


def test_a_whole_file_is_verified_with_its_count_times_and_head(tmp_path: Path) -> None:
    texts = chain(10)
    result = audit("verify", file_of(tmp_path, texts))
    assert result.exit_code == 0
    assert result.stdout == (
        f"10 entries from 2026-09-21 14:13:20Z to 2026-09-21 14:22:20Z\nhead 9:{entry_hash(texts[-1])}\n"
    )
    assert "see --head" in result.stderr


def test_an_empty_log_has_no_entries_and_no_times(tmp_path: Path) -> None:
    assert audit("verify", file_of(tmp_path, [])).stdout == f"0 entries\nhead -1:{'0' * 64}\n"


def test_a_log_comes_from_stdin_too_with_any_line_ends_and_none_at_the_end() -> None:
    texts = chain(3)
    for stdin in (b"\n".join(texts), b"\r\n".join(texts) + b"\r\n\r\n"):
        assert audit("verify", "-", stdin=stdin).stdout.startswith("3 entries")


def test_the_first_broken_entry_is_named_with_the_exit_code_1(tmp_path: Path) -> None:
    texts = chain(10)
    del texts[4]
    result = audit("verify", file_of(tmp_path, texts))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == ("error: the audit log is broken at entry 4: it is missing; entry 5 is in its place\n")


@pytest.mark.parametrize("line", [b"nonsense", b"{" * 200_000, b"\xff", b"x" * 200_000])
def test_a_line_that_is_no_entry_is_named_however_long_it_is(tmp_path: Path, line: bytes) -> None:
    result = audit("verify", file_of(tmp_path, [*chain(2), line]))
    assert result.exit_code == 1
    assert "broken at entry 2" in result.stderr


def test_heads_that_were_noted_elsewhere_show_that_nothing_was_cut_off(tmp_path: Path) -> None:
    texts = chain(10)
    noted = [f"--head={head_of(texts[:length])}" for length in (3, 8)]
    assert audit("verify", file_of(tmp_path, texts), *noted).exit_code == 0
    assert "see --head" not in audit("verify", file_of(tmp_path, texts), *noted).stderr
    result = audit("verify", file_of(tmp_path, texts[:5]), *noted)
    assert result.exit_code == 1
    assert "broken at entry 5: the log ends before it, but there was an entry 7" in result.stderr


def test_a_head_in_another_form_is_wrong_usage(tmp_path: Path) -> None:
    result = audit("verify", file_of(tmp_path, []), "--head", "7")
    assert result.exit_code == 2
    assert "N:HASH" in result.stderr


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    assert audit("verify", str(tmp_path / "nothing")).exit_code == 2


def test_the_log_of_a_server_is_verified_against_the_head_that_it_tells(served: AuditServer) -> None:
    result = audit("verify", "--url", served.url)
    assert (result.exit_code, result.stdout.splitlines()[1]) == (0, f"head {served.head}")
    served.texts.pop()
    result = audit("verify", "--url", served.url)
    assert result.exit_code == 1
    assert "broken at entry 9" in result.stderr


def test_entries_that_come_while_the_log_is_read_are_verified_too(served: AuditServer) -> None:
    served.texts = chain(12)
    assert audit("verify", "--url", served.url).stdout.startswith("12 entries")


def test_something_else_than_a_syncline_server_is_not_taken_for_a_broken_log(served: AuditServer) -> None:
    served.is_other = True
    result = audit("verify", "--url", served.url)
    assert result.exit_code == 3
    assert "not NDJSON" in result.stderr


# --- credentials ---


def test_the_token_comes_from_the_option_or_the_environment(
    served: AuditServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.token = TOKEN
    refused = audit("verify", "--url", served.url)
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: who are you?")
    assert audit("verify", "--url", served.url, "--token", TOKEN).exit_code == 0
    monkeypatch.setenv("SYNCLINE_TOKEN", TOKEN)
    assert audit("show", "--url", served.url).exit_code == 0
    wrong = audit("show", "--url", served.url, "--token", "wrong")
    assert wrong.exit_code == 1
    monkeypatch.setenv("SYNCLINE_TOKEN", "")
    assert audit("verify", "--url", served.url).exit_code == 1


# --- show ---


def test_entries_are_shown_a_line_each_and_do_not_command_the_terminal(served: AuditServer) -> None:
    lines = audit("show", "--url", served.url).stdout.splitlines()
    assert len(lines) == 10
    assert lines[0] == "     0  2026-09-21 14:13:20Z  ok       store.drop         alice  store0  records=3"
    assert r"a\u2028b\x85c\x1b[2J" in lines[1]


def test_what_is_shown_begins_behind_an_entry_or_with_the_newest(served: AuditServer) -> None:
    served.texts = chain(1200)
    served.head = head_of(served.texts)
    assert [line.split()[0] for line in audit("show", "--url", served.url).stdout.splitlines()] == [
        str(n) for n in range(1150, 1200)
    ]
    served.asked.clear()
    lines = audit("show", "--url", served.url, "--after", "99").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [str(n) for n in range(100, 1200)]
    assert served.asked == [
        {"limit": ["1"]},
        {"after": ["99"], "limit": ["500"]},
        {"after": ["599"], "limit": ["500"]},
        {"after": ["1099"], "limit": ["100"]},
    ]
    assert audit("show", "--url", served.url, "--after", "1199").stdout == ""


def test_as_json_a_line_is_the_exact_text_of_an_entry(served: AuditServer) -> None:
    result = audit("show", "--url", served.url, "--json")
    assert result.stdout_bytes == b"".join(text + b"\n" for text in served.texts)
    assert audit("verify", "-", stdin=result.stdout_bytes).exit_code == 0


def test_an_entry_that_cannot_be_read_leads_to_verify(served: AuditServer) -> None:
    served.texts[3] = b"{}"
    result = audit("show", "--url", served.url)
    assert result.exit_code == 1
    assert "syncline audit verify" in result.stderr


def test_all_that_an_entry_may_have_is_shown(served: AuditServer) -> None:
    entry = make_entry(
        NO_HEAD, 2**53 - 1, "login.failed", actor=None, outcome="refused", address="192.0.2.1", detail={"why": "x y"}
    )
    served.texts = [encode_entry(entry)]
    served.head = head_of(served.texts)
    line = audit("show", "--url", served.url).stdout
    assert line == f"     0  {2**53 - 1} ms  refused  login.failed       -  from 192.0.2.1  why=x y\n"


# --- export ---


def test_an_export_is_a_line_for_each_entry_and_verifies(served: AuditServer, tmp_path: Path) -> None:
    path = tmp_path / "audit.ndjson"
    result = audit("export", "--url", served.url, str(path))
    assert (result.exit_code, result.stdout) == (0, "")
    assert "exported 10 entries from" in result.stderr
    assert str(served.head) in result.stderr
    assert path.read_bytes().splitlines(keepends=True) == [text + b"\n" for text in served.texts]
    assert audit("verify", str(path)).exit_code == 0
    assert served.asked == [{"limit": ["1"]}, None]
    assert audit("export", "--url", served.url, "-").stdout_bytes == path.read_bytes()


def test_a_broken_log_is_exported_whole_as_evidence_and_the_exit_code_is_1(served: AuditServer, tmp_path: Path) -> None:
    path = tmp_path / "audit.ndjson"
    served.texts[4] = json.dumps({**json.loads(served.texts[4]), "actor": "bob"}).encode()
    result = audit("export", "--url", served.url, str(path))
    assert result.exit_code == 1
    assert "broken at entry 5" in result.stderr
    assert len(path.read_bytes().split(b"\n")) == 11


def test_an_export_that_breaks_off_leaves_no_file(served: AuditServer, tmp_path: Path) -> None:
    served.is_other = True
    assert audit("export", "--url", served.url, str(tmp_path / "audit.ndjson")).exit_code == 3
    assert not list(tmp_path.iterdir())
