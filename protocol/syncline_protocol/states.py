"""The states of both roles and every legal transition.

Two ground rules: all transitions stand in these tables, and a missing entry is the error, raised before anything
changes. The tables do not know sockets or stores; `server` and `client` drive them. The diagrams in the
reference are drawn from them.
"""

from enum import Enum

from .errors import CloseCode, LocalProtocolError, RemoteProtocolError
from .messages import (
    Add,
    Auth,
    Authenticated,
    Batch,
    Behind,
    Bye,
    CaughtUp,
    ClientMessage,
    Delete,
    Ended,
    Error,
    Expiring,
    Fetch,
    Fill,
    Find,
    Found,
    Heads,
    Heartbeat,
    Hello,
    Live,
    ServerMessage,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
    Write,
    Wrote,
)

__all__ = ["SERVER_SENDS", "SERVER_RECEIVES", "SessionState", "after_client_message", "after_server_message"]


class SessionState(Enum):
    """Where a connection stands; both roles count alike."""

    OPENING = "opening"
    GREETED = "greeted"
    READY = "ready"
    DRAINING = "draining"
    CLOSED = "closed"


_REQUESTS = (Auth, Add, Delete, Write, Subscribe, Unsubscribe, Fetch, Find, Heartbeat)
_ANSWERS = (
    Authenticated, Expiring, Wrote, Subscribed, Batch, Live, Fill, Found, CaughtUp, Behind, Ended, Heads, Error
)  # fmt: skip

#: What the client may send, and where that leads.
SERVER_RECEIVES: dict[tuple[SessionState, type[ClientMessage]], SessionState] = {
    (SessionState.OPENING, Hello): SessionState.GREETED,
    **{(SessionState.READY, message): SessionState.READY for message in _REQUESTS},
    **{(SessionState.DRAINING, message): SessionState.DRAINING for message in _REQUESTS},
}

#: What the server may send, and where that leads.
SERVER_SENDS: dict[tuple[SessionState, type[ServerMessage]], SessionState] = {
    (SessionState.OPENING, Error): SessionState.OPENING,
    (SessionState.OPENING, Bye): SessionState.OPENING,
    (SessionState.GREETED, Welcome): SessionState.READY,
    (SessionState.GREETED, Error): SessionState.GREETED,
    # For the server a BYE before HELLO is sent in OPENING; a client, whose HELLO is under way, is GREETED by then.
    (SessionState.GREETED, Bye): SessionState.GREETED,
    **{(SessionState.READY, message): SessionState.READY for message in _ANSWERS},
    (SessionState.READY, Bye): SessionState.DRAINING,
    **{(SessionState.DRAINING, message): SessionState.DRAINING for message in _ANSWERS},
}


def after_client_message(state: SessionState, message: type[ClientMessage]) -> SessionState:
    """Return the state after a message of the client.

    Raises:
        RemoteProtocolError: the client may not send this now; the connection is to be closed with MISUSE.
    """
    following = SERVER_RECEIVES.get((state, message))
    if following is not None:
        return following
    name = message.__struct_config__.tag
    if message is Hello:
        raise RemoteProtocolError("hello_repeated", "HELLO was sent a second time", close=CloseCode.MISUSE)
    raise RemoteProtocolError("hello_expected", f"{name} came before HELLO was answered", close=CloseCode.MISUSE)


def after_server_message(state: SessionState, message: type[ServerMessage]) -> SessionState:
    """Return the state after a message of the server.

    Raises:
        LocalProtocolError: this message is not legal now. A client that receives it closes with MISUSE.
    """
    following = SERVER_SENDS.get((state, message))
    if following is None:
        name = message.__struct_config__.tag
        raise LocalProtocolError("bad_message", f"{name} is not legal in the state {state.value}")
    return following
