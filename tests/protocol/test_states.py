"""The tables of transitions: complete for every message, and closed where they must be."""

from typing import get_args

import pytest

from syncline_protocol.errors import CloseCode, LocalProtocolError, RemoteProtocolError
from syncline_protocol.messages import Bye, ClientMessage, Error, Heartbeat, Hello, ServerMessage, Welcome
from syncline_protocol.states import (
    SERVER_RECEIVES,
    SERVER_SENDS,
    SessionState,
    after_client_message,
    after_server_message,
)


def test_every_message_is_legal_in_some_state() -> None:
    assert {message for _, message in SERVER_RECEIVES} == set(get_args(ClientMessage))
    assert {message for _, message in SERVER_SENDS} == set(get_args(ServerMessage))


def test_nothing_is_legal_after_the_end() -> None:
    assert all(state is not SessionState.CLOSED for state, _ in (*SERVER_RECEIVES, *SERVER_SENDS))


@pytest.mark.parametrize("state", SessionState)
@pytest.mark.parametrize("message", get_args(ClientMessage))
def test_a_client_message_follows_the_table_or_is_misuse(state: SessionState, message: type[ClientMessage]) -> None:
    following = SERVER_RECEIVES.get((state, message))
    if following is not None:
        assert after_client_message(state, message) is following
        return
    with pytest.raises(RemoteProtocolError) as caught:
        after_client_message(state, message)
    assert caught.value.code == ("hello_repeated" if message is Hello else "hello_expected")
    assert caught.value.close is CloseCode.MISUSE


@pytest.mark.parametrize("state", SessionState)
@pytest.mark.parametrize("message", get_args(ServerMessage))
def test_a_server_message_follows_the_table_or_is_our_mistake(
    state: SessionState, message: type[ServerMessage]
) -> None:
    following = SERVER_SENDS.get((state, message))
    if following is not None:
        assert after_server_message(state, message) is following
        return
    with pytest.raises(LocalProtocolError):
        after_server_message(state, message)


def test_what_the_server_may_send_before_it_got_hello_is_legal_for_a_client_that_has_sent_it() -> None:
    before_hello = {message for state, message in SERVER_SENDS if state is SessionState.OPENING}
    assert before_hello == {Error, Bye}
    for message in before_hello:
        assert after_server_message(SessionState.GREETED, message) is SessionState.GREETED


def test_the_way_of_a_connection() -> None:
    state = after_client_message(SessionState.OPENING, Hello)
    state = after_server_message(state, Welcome)
    assert state is SessionState.READY
    state = after_server_message(state, Bye)
    assert state is SessionState.DRAINING
    assert after_client_message(state, Heartbeat) is SessionState.DRAINING
