"""The tables of error and close codes, and the exceptions that carry them."""

import pytest

from syncline_protocol.errors import (
    CLOSE_CODES,
    ERROR_CODES,
    CloseCode,
    CursorInvalid,
    FrameInvalid,
    KeyInvalid,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    ValueInvalid,
    may_reconnect,
)


def test_every_close_code_of_ours_is_in_the_table_and_in_a_range_of_its_own() -> None:
    for code in CloseCode:
        assert 4000 <= code <= 4999
        assert CLOSE_CODES[code].name == code.name.lower()


@pytest.mark.parametrize("code", [code for code in CLOSE_CODES if code >= 4000])
def test_the_range_of_a_close_code_says_whether_to_reconnect(code: int) -> None:
    assert CLOSE_CODES[code].reconnect is (code < 4500)
    assert may_reconnect(code) is (code < 4500)


@pytest.mark.parametrize(
    ("code", "expected"), [(4099, True), (4499, True), (4599, False), (4999, False), (3000, True), (1016, True)]
)
def test_a_close_code_of_a_later_version_is_understood_by_its_range(code: int, expected: bool) -> None:
    assert code not in CLOSE_CODES
    assert may_reconnect(code) is expected


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 1009, 1015])
def test_what_would_go_wrong_again_is_not_tried_again(code: int) -> None:
    assert not may_reconnect(code)


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1006, 1011, 1012, 1013, 1014])
def test_what_may_go_better_next_time_is_tried_again(code: int) -> None:
    assert may_reconnect(code)


def test_every_error_code_has_a_meaning_and_a_status_that_fits_its_retry() -> None:
    for code, rule in ERROR_CODES.items():
        assert code == code.lower()
        assert rule.meaning
        # What a server cannot do at all (501) is the only failure of a server that waiting does not mend.
        is_passing = rule.http_status >= 500 and rule.http_status != 501
        assert rule.retry is (is_passing or rule.http_status == 408 or code == "rate_limited"), code


@pytest.mark.parametrize("kind", [FrameInvalid, KeyInvalid, ValueInvalid, CursorInvalid])
def test_what_the_peer_does_wrong_is_a_remote_error(kind: type[ProtocolError]) -> None:
    assert issubclass(kind, RemoteProtocolError)
    assert not issubclass(kind, LocalProtocolError)


def test_an_exception_tells_its_code_its_message_and_what_to_do() -> None:
    error = RemoteProtocolError("bad_json", "no JSON", hint="send some", request_id=4, close=CloseCode.MISUSE)
    assert str(error) == "no JSON (bad_json); send some"
    assert (error.code, error.request_id, error.close) == ("bad_json", 4, 4501)
    assert str(LocalProtocolError("bad_json", "no JSON")) == "no JSON (bad_json)"


def test_a_code_that_is_not_in_the_table_is_our_mistake() -> None:
    with pytest.raises(AssertionError):
        ProtocolError("nope", "nope")
