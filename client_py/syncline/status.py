"""What the client says about its connection.

    CONNECTING ──WELCOME──> LIVE ──connection lost──> OFFLINE ──wait over──> CONNECTING
         └──attempt failed──> OFFLINE                any ──closed, or may not come back──> CLOSED
         └──credentials refused──> NEEDS_AUTH ──authenticate──> CONNECTING
    LIVE ──credentials taken back──> NEEDS_AUTH     LIVE ──credentials expired──> CONNECTING, if there are others

Reads and writes may be asked for in every state but CLOSED; they wait for LIVE. A replica tells LAGGING from LIVE: it
is connected in both, but in LAGGING what it shows is not yet what the server has.
"""

from dataclasses import dataclass
from enum import Enum

__all__ = ["ConnectionState", "Status"]


class ConnectionState(Enum):
    """Where the connection stands."""

    CONNECTING = "connecting"
    LAGGING = "lagging"
    LIVE = "live"
    OFFLINE = "offline"
    NEEDS_AUTH = "needs-auth"
    CLOSED = "closed"


#: Which state of a connection may follow which. CONNECTING is the first; LAGGING is one of replicas only.
TRANSITIONS: dict[ConnectionState, frozenset[ConnectionState]] = {
    ConnectionState.CONNECTING: frozenset(
        {ConnectionState.LIVE, ConnectionState.OFFLINE, ConnectionState.NEEDS_AUTH, ConnectionState.CLOSED}
    ),
    # LIVE follows itself when the credentials were renewed in place.
    ConnectionState.LIVE: frozenset(
        {
            ConnectionState.LIVE,
            ConnectionState.CONNECTING,
            ConnectionState.OFFLINE,
            ConnectionState.NEEDS_AUTH,
            ConnectionState.CLOSED,
        }
    ),
    ConnectionState.OFFLINE: frozenset({ConnectionState.CONNECTING, ConnectionState.CLOSED}),
    ConnectionState.NEEDS_AUTH: frozenset({ConnectionState.CONNECTING, ConnectionState.CLOSED}),
    ConnectionState.CLOSED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Status:
    """The connection at one moment.

    Attributes:
        state: where it stands.
        reason: why it is there, in words.
        attempt: how many attempts were made since the server last did something useful.
        retry_at: when the next attempt is made, in seconds since 1970; only in OFFLINE.
        close_code: the WebSocket close code that led here, if one did.
        last_error: the last error that ended a connection or an attempt, also after it is over.
        user: who the server takes us for; only in LIVE, and None for nobody.
        expires_at: when the credentials end, in seconds since 1970; only in LIVE.
    """

    state: ConnectionState
    reason: str = ""
    attempt: int = 0
    retry_at: float | None = None
    close_code: int | None = None
    last_error: Exception | None = None
    user: str | None = None
    expires_at: float | None = None
