"""`syncline indexes`, `find` and `follow`, against a real server."""

from collections.abc import Iterator

import msgspec
import pytest
from click.testing import CliRunner, Result

from syncline import sync as syncline_sync
from syncline.cli import main
from syncline.cli.indexes import _show_progress
from syncline.find import Index
from syncline.testing import Server


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where a server is that has books and who wrote them."""
    with Server() as server:
        server.create("books")
        with syncline_sync.connect(server.url) as client:
            client.add("books", {"name": "Ann"}, "ann")
            client.add("books", {"year": 1950, "by": "ann", "tags": ["old", 5]}, "b1")
            client.add("books", {"year": 1960, "by": "ann", "tags": ["5"]}, "b2")
            client.add("books", {"year": 1970, "text": "\u202e"}, "b\u202e3")
        for name, kind in (("year", "range"), ("by", "equality"), ("tags", "multi")):
            done = CliRunner().invoke(
                main, ["--url", server.url, "indexes", "books", "declare", name, f"/{name}", "--kind", kind]
            )
            assert done.exit_code == 0, done.output
        yield server.url


def syncline(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--url", url, *arguments], prog_name="syncline")


def keys(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [line.partition("\t")[0] for line in result.stdout.splitlines()]


def test_records_are_found(url: str) -> None:
    assert keys(syncline(url, "find", "books", "year", "--ge", "1960")) == ["b2", "b\\u202e3"]
    assert keys(syncline(url, "find", "books", "year", "--desc", "--limit", "1")) == ["b\\u202e3"]
    assert keys(syncline(url, "find", "books", "tags", "--eq", "5")) == ["b1"]
    assert keys(syncline(url, "find", "books", "tags", "--eq", '"5"')) == ["b2"]
    assert keys(syncline(url, "find", "books", "tags", "--eq", "old")) == ["b1"]
    assert keys(syncline(url, "find", "books", "--key-prefix", "b")) == ["b1", "b2", "b\\u202e3"]
    assert keys(syncline(url, "find", "books", "by", "--refers-to", "ann")) == ["b1", "b2"]
    assert syncline(url, "find", "books", "by", "--refers-to", "ann", "--count").stdout == "2\n"
    nothing = syncline(url, "find", "books", "year", "--eq", "1")
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (0, "", "nothing was found\n")


def test_a_record_is_shown_as_it_was_added_or_whole(url: str) -> None:
    assert syncline(url, "find", "books", "year", "--eq", "1950").stdout == (
        'b1\t{"year":1950,"by":"ann","tags":["old",5]}\n'
    )
    (line,) = syncline(url, "find", "books", "year", "--eq", "1950", "--json").stdout.splitlines()
    assert msgspec.json.decode(line)["seq"] == 2


def test_references_are_followed(url: str) -> None:
    assert keys(syncline(url, "follow", "books", "b1", "by")) == ["ann"]
    nowhere = syncline(url, "follow", "books", "ann", "by")
    assert (nowhere.exit_code, nowhere.stdout) == (0, "")
    assert "refers to no live record" in nowhere.stderr
    assert syncline(url, "follow", "books", "none", "by").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("find", "books", "none"), 1),
        (("find", "books", "--eq", "1"), 2),
        (("find", "books", "by", "--ge", "1"), 1),
        (("find", "books", "--refers-to", "ann"), 2),
        (("find", "books", "by", "--refers-to", "ann", "--eq", "1"), 2),
        (("indexes", "books", "drop", "none"), 1),
        (("indexes", "books", "declare", "by", "/other"), 1),
        (("indexes", "books", "declare", "x", "/x", "--kind", "full"), 2),
        (("indexes", "none"), 1),
    ],
)
def test_what_cannot_be_is_refused_with_its_exit_code(url: str, arguments: tuple[str, ...], code: int) -> None:
    result = syncline(url, *arguments)
    assert result.exit_code == code, result.output
    assert "rror: " in result.stderr


def test_indexes_are_listed_declared_and_dropped(url: str) -> None:
    listed = syncline(url, "indexes", "books").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["NAME", "by", "tags", "year"]
    declared = syncline(url, "indexes", "books", "declare", "whole", "")
    assert declared.stderr == "the index whole of books is ready, on the whole value, kind equality\n"
    lines = syncline(url, "indexes", "books", "list", "--json").stdout.splitlines()
    assert [msgspec.json.decode(line)["name"] for line in lines] == ["by", "tags", "whole", "year"]
    dropped = syncline(url, "indexes", "books", "drop", "whole")
    assert dropped.stderr == "dropped the index whole of books, it was on the whole value\n"


def test_a_terminal_is_shown_how_far_an_index_is(capsys: pytest.CaptureFixture[str]) -> None:
    _show_progress(Index("year", "/year", "range", "building", 50, 200, 0))
    shown = capsys.readouterr().err
    assert "[#######                       ]  25 %  50 of 200" in shown
