"""The cases leave nothing out: every message, status, code and row of the resume table appears in one."""

import re
from typing import Any, get_args

import pytest
import yaml

from syncline_protocol.errors import CLOSE_CODES, ERROR_CODES, CloseCode
from syncline_protocol.messages import ClientMessage, ServerMessage, Status

from .runner import SCENARIOS, Case, cases
from .test_live import LiveTarget
from .test_memory import MemoryTarget

_SERVER = cases("server")
_CLIENT = cases("client")
_ALL = [*_SERVER, *_CLIENT]
_TEXT = {case.id: str(case.steps) for case in _ALL}
_EVERYTHING = "\n".join(_TEXT.values())
_PROTOCOL = (SCENARIOS.parent / "PROTOCOL.md").read_text()

#: Codes that never come over the WebSocket, and those that this version of the server has no reason to send there.
_HTTP_ONLY = {
    *("record_unknown", "write_refused", "cursor_lost", "media_type_unsupported", "method_not_allowed", "not_found"),
    *("origin_refused", "body_timeout", "history_gone", "index_invalid", "index_taken", "unsupported"),
}
_NOT_PROVOKED = {"overloaded", "internal", "drain", "storage_unavailable", "storage_full", "index_building"}

#: What only a server with accounts says. The cases are run against one on which nobody has to log in.
_ACCOUNTS_ONLY = {
    *(
        "unauthenticated",
        "token_expired",
        "login_failed",
        "forbidden",
        "quota_exceeded",
        "rate_limited",
        "token_in_url",
    ),
    *("name_taken", "account_unknown", "account_invalid", "invitation_invalid"),
}
_ACCOUNTS_ONLY_MESSAGES = {"EXPIRING"}
_ACCOUNTS_ONLY_STATUSES = {"denied"}
_ACCOUNTS_ONLY_CLOSES = {4007, 4008, 4503}


def _walk(value: Any) -> "list[dict[str, Any]]":
    found = []
    if isinstance(value, dict):
        found.append(value)
        for member in value.values():
            found += _walk(member)
    elif isinstance(value, (list, tuple)):
        for item in value:
            found += _walk(item)
    return found


_OBJECTS = [found for case in _ALL for found in _walk(list(case.steps))]


def _said(member: str) -> set[str]:
    """Return what the cases say anywhere for a member, choices included."""
    words = set()
    for found in _OBJECTS:
        value = found.get(member)
        for word in value["$in"] if isinstance(value, dict) and "$in" in value else [value]:
            if isinstance(word, str):
                words.add(word)
    return words


def test_there_are_enough_cases_and_each_has_its_own_name() -> None:
    assert len(_SERVER) >= 90
    assert len({case.id for case in _ALL}) == len(_ALL)
    assert len({case.title for case in _ALL}) == len(_ALL)


@pytest.mark.parametrize("case", _ALL, ids=lambda case: case.id)
def test_the_clauses_of_a_case_exist(case: Case) -> None:
    for clause in case.clauses:
        assert re.search(rf"^\*\*{re.escape(clause)}\b[^*]*\*\*", _PROTOCOL, re.MULTILINE), clause


def test_every_message_of_the_client_is_sent() -> None:
    sent = {found["send"].get("type") for found in _OBJECTS if "send" in found}
    assert {message.__struct_config__.tag for message in get_args(ClientMessage)} <= sent


def test_every_message_of_the_server_is_expected_or_given_to_a_client() -> None:
    expected = {found["expect"].get("type") for found in _OBJECTS if isinstance(found.get("expect"), dict)}
    given = {found["receive"]["type"] for found in _OBJECTS if "receive" in found}
    tags = {message.__struct_config__.tag for message in get_args(ServerMessage)}
    # The results of WROTE have a lane of their own.
    assert tags - {"WROTE"} - _ACCOUNTS_ONLY_MESSAGES <= expected
    assert any("expect_result" in found for found in _OBJECTS)
    assert tags - {"WELCOME"} <= given | {"HEARTBEAT"}


@pytest.mark.parametrize("status", sorted(set(get_args(Status)) - _ACCOUNTS_ONLY_STATUSES))
def test_every_status_is_expected(status: str) -> None:
    assert status in _said("status")


@pytest.mark.parametrize("code", sorted(set(ERROR_CODES) - _HTTP_ONLY - _NOT_PROVOKED - _ACCOUNTS_ONLY))
def test_every_error_code_that_the_websocket_can_send_is_expected(code: str) -> None:
    assert code in _said("code")


@pytest.mark.parametrize("code", sorted(set(CloseCode) - {4001, 4002, 4005} - _ACCOUNTS_ONLY_CLOSES))
def test_every_close_code_of_ours_that_can_be_provoked_is_expected(code: int) -> None:
    assert int(code) in {found.get("expect_close") for found in _OBJECTS}
    assert code in CLOSE_CODES


@pytest.mark.parametrize("row", re.findall(r"^\| (R\d) \|", _PROTOCOL, re.MULTILINE))
def test_every_row_of_the_resume_table_is_covered(row: str) -> None:
    assert any(row in case.covers for case in _SERVER)


def test_what_a_case_says_about_itself_is_known() -> None:
    for path in SCENARIOS.glob("*/*.yaml"):
        for raw in yaml.safe_load(path.read_text()):
            assert set(raw) <= {"id", "title", "clause", "needs", "covers", "stores", "steps"}, raw["id"]


def test_the_readme_describes_every_step_and_matcher_that_the_cases_use() -> None:
    readme = (SCENARIOS / "README.md").read_text()
    for matcher in set(re.findall(r"'(\$[a-z_]+)'", _EVERYTHING)):
        assert f"{{{matcher}:" in readme, matcher
    for case in _ALL:
        for step in case.steps:
            for name in step:
                assert f"`{name}" in readme or f"{name}:" in readme, name
        for need in case.needs:
            assert f"| `{need}` |" in readme, need


def test_every_case_is_run_by_some_target() -> None:
    run = {case.id for target in (LiveTarget, MemoryTarget) for case in cases("server", target.abilities)}
    assert run == {case.id for case in _SERVER}
