"""Patterns of the conformance cases: what a message must look like, and what is kept of it."""

import json
import re
from typing import Any

from syncline_protocol.cursor import Lineage, Seq, parse_cursor
from syncline_protocol.digest import digest_term, digest_text
from syncline_protocol.errors import CursorInvalid
from syncline_protocol.limits import SEQ_MAX

__all__ = ["ABSENT", "Variables", "explain", "fill", "loads"]

Variables = dict[str, Any]


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


#: Stands for a member that is not there.
ABSENT = _Absent()

_MATCHER = re.compile(r"\$[a-z]")
_NAME = re.compile(r"\$\{([^}]+)\}")


class _Number(str):
    """A number as it was written."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def loads(frame: bytes) -> Any:
    """Read a message; numbers keep their text."""
    return json.loads(frame, parse_int=_Number, parse_float=_Number)


def fill(value: Any, variables: Variables, *, as_text: bool = False) -> Any:
    """Put variables in; a text that is nothing but one `${name}` becomes what was kept, of whatever type."""
    if isinstance(value, str):
        whole = None if as_text else _NAME.fullmatch(value)
        if whole is not None:
            kept = variables[whole[1]]
            return _plain(kept)
        return _NAME.sub(lambda found: str(variables[found[1]]), value)
    if isinstance(value, dict):
        if "$ahead" in value:
            cursor, by = fill(value["$ahead"], variables)
            position = parse_cursor(cursor)
            return f"{position.incarnation}:{position.seq + by}"
        return {fill(key, variables, as_text=True): fill(member, variables) for key, member in value.items()}
    if isinstance(value, list):
        return [fill(item, variables) for item in value]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, _Number):
        return int(value) if value.lstrip("-").isdigit() else float(value)
    return value


def explain(pattern: Any, got: Any, variables: Variables, path: str = "") -> str | None:
    """Return what does not match, or None; keeps what `$save` names."""
    where = path or "the message"
    if isinstance(pattern, dict) and any(_MATCHER.match(str(key)) for key in pattern):
        for name, argument in pattern.items():
            wrong = _explain_matcher(name, argument, got, variables, path)
            if wrong is not None:
                return wrong
        return None
    if got is ABSENT:
        return f"{where} is not there"
    if isinstance(pattern, dict):
        if not isinstance(got, dict):
            return f"{where} is {got!r}, not an object"
        for raw_name, member in pattern.items():
            name = str(fill(raw_name, variables, as_text=True))
            wrong = explain(member, got.get(name, ABSENT), variables, f"{path}.{name}")
            if wrong is not None:
                return wrong
        return None
    if isinstance(pattern, list):
        if not isinstance(got, list) or len(got) != len(pattern):
            return f"{where} is {str(got)[:200]}, not {len(pattern)} items"
        for index, (item, got_item) in enumerate(zip(pattern, got, strict=True)):
            wrong = explain(item, got_item, variables, f"{path}[{index}]")
            if wrong is not None:
                return wrong
        return None
    expected = fill(pattern, variables)
    same = type(expected) is type(_plain(got)) and expected == _plain(got)
    return None if same else f"{where} is {got!r}, not {expected!r}"


def _explain_matcher(name: str, argument: Any, got: Any, variables: Variables, path: str) -> str | None:
    where = path or "the message"
    if name == "$absent":
        return None if got is ABSENT else f"{where} is there: {got!r}"
    if name == "$in":
        tries = [explain(choice, got, variables, path) for choice in argument]
        return None if None in tries else f"{where} is {got!r}, none of {argument}"
    if got is ABSENT:
        return f"{where} is not there"
    if name == "$save":
        variables[str(fill(argument, variables, as_text=True))] = _plain(got)
        return None
    return None if _holds(name, argument, got, variables) else f"{where} is {got!r}, against {name} {argument!r}"


def _holds(name: str, argument: Any, got: Any, variables: Variables) -> bool:
    match name:
        case "$any":
            return True
        case "$is":
            return _is(argument, got)
        case "$not":
            return explain(argument, got, variables) is not None
        case "$number":
            return isinstance(got, _Number) and str(got) == argument
        case "$seq_of":
            return isinstance(got, str) and parse_cursor(got).seq == argument
        case "$digest":
            return bool(got == digest_text(sum(digest_term(Seq(seq), key) for key, seq in argument)))
        case "$entries_max":
            return len(Lineage.parse(got).entries) <= int(argument)
        case "$lacks":
            cursor, head = fill(argument, variables)
            position = parse_cursor(cursor)
            last = Lineage.parse(got).last_seq(position.incarnation, Seq(head))
            return last is None or last < position.seq
    raise AssertionError(f"there is no matcher {name}")


def _is(kind: str, got: Any) -> bool:
    if kind in ("seq", "id", "ms"):
        return isinstance(got, _Number) and got.isdigit() and int(got) <= SEQ_MAX
    if not isinstance(got, str) or isinstance(got, _Number):
        return False
    try:
        match kind:
            case "cursor":
                parse_cursor(got)
            case "lineage":
                Lineage.parse(got)
            case "digest":
                return re.fullmatch("[0-9a-f]{8}", got) is not None
            case "text":
                return got != ""
            case _:
                raise AssertionError(f"there is no kind {kind}")
    except CursorInvalid:
        return False
    return True
