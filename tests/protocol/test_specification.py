"""PROTOCOL.md says what the code does: tables, diagrams, messages, and the clauses that the code names."""

import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from syncline_protocol import limits
from syncline_protocol.messages import (
    Change,
    ClientMessage,
    EndReason,
    ResumeHow,
    ServerMessage,
    Status,
    WriteOp,
    WriteResult,
)

from .rendered import BLOCKS, PROTOCOL_MD, block_of

_TEXT = PROTOCOL_MD.read_text()
_CLAUSES = re.findall(r"^\*\*(\d+(?:\.\d+)+)\b[^*]*\*\*", _TEXT, re.MULTILINE)
_HEADINGS = re.findall(r"^#{2,3} (\d+(?:\.\d+)*) ", _TEXT, re.MULTILINE)
_MESSAGES: list[type[Any]] = [*get_args(ClientMessage), *get_args(ServerMessage)]
_REPO = PROTOCOL_MD.parents[1]


@pytest.mark.parametrize("name", BLOCKS)
def test_what_is_drawn_from_the_code_is_up_to_date(name: str) -> None:
    assert block_of(_TEXT, name) == BLOCKS[name](), "run python -m tests.protocol.rendered"


def test_clauses_are_numbered_once_and_in_order() -> None:
    numbers = [[int(part) for part in clause.split(".")] for clause in _CLAUSES]
    assert numbers == sorted(numbers)
    assert len(set(_CLAUSES)) == len(_CLAUSES)
    for clause in _CLAUSES:
        assert clause.rsplit(".", 1)[0] in _HEADINGS, clause


def test_every_clause_that_the_text_refers_to_exists() -> None:
    bare = re.sub(r"```.*?```|`[^`]*`|<!--.*?-->", "", _TEXT, flags=re.DOTALL)
    for number in re.findall(r"(?<![\d.])(\d{1,2}\.\d{1,2}(?:\.\d{1,2})?)(?![\d.]*\d)", bare):
        assert number in _CLAUSES or number in _HEADINGS, number


@pytest.mark.parametrize("path", sorted(_REPO.glob("*/syncline*/**/*.py")), ids=lambda path: path.name)
def test_every_clause_that_the_code_names_exists(path: Path) -> None:
    for number in re.findall(r"PROTOCOL (\d+(?:\.\d+)*)", path.read_text()):
        assert number in _CLAUSES or number in _HEADINGS, number


def _table(heading: str) -> dict[str, tuple[str, str]]:
    """Return member -> (type, need) of the first table after a heading."""
    rows: dict[str, tuple[str, str]] = {}
    for line in _TEXT[_TEXT.index(heading) :].splitlines()[1:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            rows[cells[0].strip("`")] = (cells[1], cells[2])
        elif line.startswith("**") or (rows and not line.startswith("|")):
            break
    return rows


def _needs(struct: type[Any]) -> dict[str, bool]:
    return {field.encode_name: field.required for field in msgspec.structs.fields(struct)}


@pytest.mark.parametrize("message", _MESSAGES, ids=lambda message: message.__name__)
def test_the_table_of_a_message_has_its_members(message: type[Any]) -> None:
    tag = message.__struct_config__.tag
    headings = re.findall(rf"^\*\*4\.[23]\.\d+ {tag}\*\*", _TEXT, re.MULTILINE)
    heading = headings[0] if message in get_args(ClientMessage) else headings[-1]
    documented = {name: need == "required" for name, (_, need) in _table(heading).items()}
    assert documented == _needs(message)


@pytest.mark.parametrize(
    ("struct", "heading"), [(WriteResult, "| member of a result"), (Change, "| member of a change")]
)
def test_the_table_of_a_part_has_its_members(struct: type[Any], heading: str) -> None:
    assert {name: need == "required" for name, (_, need) in _table(heading).items()} == _needs(struct)


def test_the_members_of_an_op_are_described() -> None:
    line = next(line for line in _TEXT.splitlines() if line.startswith("| `ops` | array of objects"))
    assert set(re.findall(r"`([a-z]+)`", line.split("|")[4])) == set(_needs(WriteOp))


@pytest.mark.parametrize(("kind", "start"), [(Status, "### 6.2"), (EndReason, "**4.3.9"), (ResumeHow, "**4.3.3")])
def test_every_word_of_the_wire_is_explained(kind: Any, start: str) -> None:
    part = _TEXT[_TEXT.index(start) :]
    part = part[: part.index("\n#" if start[0] == "#" else "\n**", 10)]
    for word in get_args(kind):
        assert f"`{word}`" in part, word


def test_fixed_bounds_are_those_of_the_code() -> None:
    assert f"{limits.STORE_NAME_CHARS_MAX} characters" in _TEXT
    assert f"at most {limits.LINEAGE_ENTRIES_MAX}, oldest first" in _TEXT
    assert f"deeper than {limits.VALUE_DEPTH_MAX} arrays" in _TEXT
    assert f"{limits.HELLO_TIMEOUT_S:g} s after the upgrade" in _TEXT
    assert f"heard nothing for {limits.SILENCE_MAX_S:g} s" in _TEXT
